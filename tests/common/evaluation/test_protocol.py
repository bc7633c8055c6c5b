"""Numbered sets of images and masks, and what is said of several methods that completed them."""

import hashlib
import json

import numpy as np
import pytest

from common.errors import UserError
from common.evaluation import protocol
from common.imaging.io import read_image
from common.imaging.transforms import crop_square
from common.masks import benchmark_sets, irregular

OFFSET = 51  # a fifth of the range


class Pictures:
    """A set in which every third image, from the second on, is corrupt."""

    def __init__(self, count=9, height=50, width=40):
        self.all = np.random.default_rng(0).integers(0, 200, (count, height, width, 3), dtype=np.uint8)

    def __len__(self):
        return len(self.all)

    def __getitem__(self, index):
        if index % 3 == 1:
            raise UserError(f"image {index} is corrupt")
        return self.all[index]


@pytest.fixture
def result():
    """Three images with the masks of the kind center, a quarter of each; "ours" is 51 levels off in the hole."""
    images, masks = protocol.fixed_set(Pictures(), 32, "center", "center", 3)
    ours = images + masks[..., None].astype(np.uint8) * np.uint8(OFFSET)
    return protocol.scored(images, masks, {"ours": ours, "Telea": images}, "center", 0) | {"split": "val"}


# ---- the set


def test_the_first_readable_pictures_with_their_numbered_holes(capsys):
    dataset = Pictures()
    images, masks = protocol.fixed_set(dataset, 32, "squash", "random", 4, seed=5)
    expected = [crop_square(dataset.all[n], "squash", 32, None) for n in (0, 2, 3, 5)]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(masks, benchmark_sets.evaluation_masks("random", 4, 32, 32, 5)[0])
    assert capsys.readouterr().out == "skipped: image 1 is corrupt\nskipped: image 4 is corrupt\n"


def test_a_limit_above_the_set_takes_all_of_it():
    images, masks = protocol.fixed_set(Pictures(), 32, "center", "freeform", 100)
    assert images.shape == (6, 32, 32, 3) and masks.shape == (6, 32, 32) and masks.dtype == bool


@pytest.mark.parametrize("crop", ["random", "random160"])
def test_crops_of_training_that_hold_chance_are_the_middle_here(crop):
    """40 x 50 px: the middle square of 40 px is rows 5 to 45."""
    dataset = Pictures()
    images, _ = protocol.fixed_set(dataset, 40, crop, "center", 1)
    np.testing.assert_array_equal(images[0], dataset.all[0, 5:45])


def test_shapes_reach_the_holes():
    """Squares as shapes, turned and stretched: holes other than those of the drawn figures."""

    def square(rng):
        return np.ones((10, 10), bool)

    given = Pictures(), 64, "center", "regions", 4
    drawn, squares = protocol.fixed_set(*given)[1], protocol.fixed_set(*given, shapes=square)[1]
    np.testing.assert_array_equal(squares, benchmark_sets.evaluation_masks("regions", 4, 64, 64, 0, square)[0])
    np.testing.assert_array_equal(
        drawn, benchmark_sets.evaluation_masks("regions", 4, 64, 64, 0, irregular.open_shapes(None))[0]
    )
    assert (drawn != squares).any((1, 2)).all()


def test_sets_that_cannot_be_made():
    with pytest.raises(UserError, match="no image of the set can be read"):
        protocol.fixed_set([], 32, "center", "random", 4)
    with pytest.raises(UserError, match="stars"):
        protocol.fixed_set(Pictures(), 32, "center", "stars", 4)


# ---- the methods and their scores


def test_classical_completions_keep_known_pixels_and_never_see_the_hole():
    """The same from images whose hole is painted over; the mean colour is that of the known pixels."""
    images, masks = protocol.fixed_set(Pictures(), 32, "center", "random", 3)
    painted = images.copy()
    painted[masks] = 255

    def complete(photos):
        return {name: np.stack(list(map(method, photos, masks))) for name, method in protocol.BASELINES.items()}

    completed = complete(images)
    assert list(completed) == ["Telea", "Navier-Stokes", "mean colour"]
    for name, again in complete(painted).items():
        np.testing.assert_array_equal(completed[name], again)
        np.testing.assert_array_equal(completed[name][~masks], images[~masks])
    for n in range(3):
        mean = images[n][~masks[n]].mean(axis=0)
        assert np.abs(completed["mean colour"][n][masks[n]] - mean).max() <= 0.5


def test_scores_of_an_offset(result):
    """51 of 255 levels in a quarter of the image: L1 20 %, L2 4 %, PSNR 20 log10 5 in the hole, a quarter outside."""
    images = result["images"]
    given = images["truth"], images["masks"], images["ours"]
    one_by_one, mean = protocol.score_all(*given), protocol.mean_scores(*given)
    assert len(one_by_one) == 3
    expected = {"l1_percent": 20, "l2_percent": 4}
    for name, value in expected.items():
        assert mean[f"hole_{name}"] == pytest.approx(value) and mean[f"image_{name}"] == pytest.approx(value / 4)
    assert mean["hole_psnr_db"] == pytest.approx(20 * np.log10(5))
    assert mean["image_psnr_db"] == pytest.approx(20 * np.log10(5) + 10 * np.log10(4))
    assert all(scores["hole_l1_percent"] == pytest.approx(20) for scores in one_by_one)


def test_means_and_standard_errors_over_pictures_that_differ():
    images = np.full((2, 32, 32, 3), 100, np.uint8)
    masks = benchmark_sets.evaluation_masks("center", 2, 32, 32)[0]
    ours = images.copy()
    ours[0][masks[0]] += 51
    ours[1][masks[1]] += 102
    result = protocol.scored(images, masks, {"ours": ours}, "center", 0)
    mean, error = result["rows"]["ours"]["hole_l1_percent"]
    assert mean == pytest.approx(30) and error == pytest.approx(10)  # 20 and 40: deviation 14.1, over root 2
    assert protocol.mean_scores(images, masks, ours)["hole_l1_percent"] == pytest.approx(30)


def test_a_result_says_which_holes():
    """By the digest of the masks that were filled, be they of a numbered set or a paper's own."""
    images, masks = protocol.fixed_set(Pictures(), 32, "center", "random", 4, seed=7)
    result = protocol.scored(images, masks, {"ours": images}, "random", 7)
    digest = hashlib.sha256(b"".join(np.packbits(mask).tobytes() for mask in masks)).hexdigest()
    expected = {"images_scored": 4, "image_px": 32, "masks": "random", "masks_seed": 7, "masks_sha256": digest}
    assert expected.items() <= result.items()
    assert result["masks_sha256"] == benchmark_sets.evaluation_masks("random", 4, 32, 32, 7)[1]
    other = protocol.scored(images, masks[::-1], {"ours": images}, "random", 7)
    assert other["masks_sha256"] != digest
    assert result["mask_fraction_percent"] == round(100 * masks.sum() / (4 * 32 * 32), 2)


# ---- how it is shown


def test_the_table(result):
    lines = protocol.table(result, [("they", "L1 1 %", "other images")]).splitlines()
    assert lines[0].startswith("3 val images of 32 px; masks: center, set 0, generator ")
    assert lines[0].endswith(f", 25.0 % of the image, SHA-256 {result['masks_sha256'][:16]}")
    assert lines[2] == "| method | hole_l1_percent | hole_l2_percent | hole_psnr_db | image_psnr_db | image_ssim |"
    assert lines[3] == "|---|---|---|---|---|---|"
    assert lines[4].startswith("| ours | 20.000 ± 0.000 | 4.000 ± 0.000 | 13.979 ± 0.000 | 20.000 ± 0.000 | ")
    assert lines[6:] == ["", "not comparable: they: L1 1 % (other images)"]
    few = protocol.table(result, [], ("image_l1_percent",)).splitlines()
    assert few[2:5] == ["| method | image_l1_percent |", "|---|---|", "| ours | 5.000 ± 0.000 |"]


def cells(sheet, side_px):
    """The images of a sheet, [rows][columns], without its titles and gaps of 4 px."""
    return [
        [sheet[top : top + side_px, left : left + side_px] for left in range(4, sheet.shape[1], side_px + 4)]
        for top in range(24, sheet.shape[0], side_px + 4)
    ]


def test_the_sheet_shows_the_columns_in_their_order(result):
    """Cells of 32 px are enlarged three times."""
    images, shown = result["images"], cells(protocol.sheet(result), 96)
    assert len(shown) == 3 and {len(row) for row in shown} == {5}
    for n, row in enumerate(shown):
        masked, mask, telea, ours, truth = (cell[::3, ::3] for cell in row)
        where = images["masks"][n]
        assert (masked[where] == 255).all() and (mask[where] == 255).all() and (mask[~where] == 0).all()
        np.testing.assert_array_equal(masked[~where], images["truth"][n][~where])
        for cell, name in ((telea, "Telea"), (ours, "ours"), (truth, "truth")):
            np.testing.assert_array_equal(cell, images[name][n])


def test_the_sheet_is_spread_over_the_set(result):
    """Three of nine images: the first, the fifth, the last; columns by choice."""
    truth = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((9, 96, 96, 3), np.uint8)
    result["images"] = {"truth": truth, "masks": np.zeros((9, 96, 96), bool)}
    shown = cells(protocol.sheet(result, ("truth", "input"), count=3), 96)
    assert [[int(cell[0, 0, 0]) for cell in row] for row in shown] == [[0, 0], [4, 4], [8, 8]]


@pytest.mark.filterwarnings("error")
def test_one_image_and_perfect_images_are_scored_and_written_as_json(tmp_path):
    """One has no standard error; of what equals the truth PSNR is infinite: null, with the reason beside it."""
    images = np.full((2, 32, 32, 3), 100, np.uint8)
    masks = benchmark_sets.evaluation_masks("center", 2, 32, 32)[0]
    worse = np.where(masks[..., None], images + 51, images).astype(np.uint8)
    metadata = {"split": "test"}
    for count in (1, 2):
        completed = {"ours": images[:count], "worse": worse[:count]}
        result = metadata | protocol.scored(images[:count], masks[:count], completed, "center", 0)
        lines = protocol.table(result, [], ("hole_psnr_db", "hole_l1_percent")).splitlines()
        assert (
            lines[4:6]
            == [
                ["| ours | inf | 0.000 |", "| worse | 13.979 | 20.000 |"],
                ["| ours | inf | 0.000 ± 0.000 |", "| worse | 13.979 ± 0.000 | 20.000 ± 0.000 |"],
            ][count - 1]
        )
        protocol.write(result, tmp_path, protocol.sheet(result, ("truth", "ours")))
        written = json.loads((tmp_path / "scores.json").read_text(), parse_constant=pytest.fail)
        assert written["rows"]["ours"]["hole_psnr_db"] == [None, None]
        assert written["rows"]["worse"]["hole_l1_percent"][1] == (None if count == 1 else 0)
        why = written["null_because"]
        assert why["rows.ours.hole_psnr_db.0"] == "every image that was made equals the truth"
        assert why["rows.ours.hole_psnr_db.1"] == "a standard error needs two finite values"
        assert ("rows.worse.hole_l1_percent.1" in why) == (count == 1)


def test_the_files(result, tmp_path):
    shown = protocol.sheet(result)
    protocol.write(result, tmp_path / "scores", shown)
    np.testing.assert_array_equal(read_image(tmp_path / "scores/images.png"), shown)
    written = json.loads((tmp_path / "scores/scores.json").read_text())
    assert written.keys() == result.keys() - {"images", "per_image"} | {
        "null_because"
    }  # of Telea, which is the truth here
    assert written["rows"]["ours"]["hole_l1_percent"] == pytest.approx([20, 0])
