"""Masks from a folder, results of other methods, the best baseline, and the files of an evaluation."""

import csv
import html.parser
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.datasets.celeba import CelebA
from common.errors import UserError
from common.evaluation import comparison, protocol, results_folder, score_page
from common.evaluation.options import ScoringSettings
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.io import read_image, write_image
from common.imaging.transforms import crop_square
from data.synthetic import write_faces

SIDE = 32


class Faces:
    """Smooth images with names, 40 px high and 36 wide."""

    notes: list = []
    split = "test"

    def __init__(self, count=6, seed=0):
        rng = np.random.default_rng(seed)
        small = rng.integers(30, 200, (count, 5, 4, 3), dtype=np.uint8)
        self.all = [cv2.resize(image, (36, 40), interpolation=cv2.INTER_LINEAR) for image in small]

    def __len__(self):
        return len(self.all)

    def __getitem__(self, index):
        return self.all[index]

    def name(self, index):
        return f"people/{index:03}.jpg"


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255)


def box(height=40, width=36, top=5, left=4, rows=10, columns=12):
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def opened(kind="center", count=6, seed=0):
    return comparison.open_set(Faces(count), SIDE, "center", kind, count, seed)


def options(**changes):
    return ScoringSettings(**{"weights": "unused", "data_dir": "unused", "baselines": "fast", **changes})


def compared(test, completed, folder=Path("nowhere"), **changes):
    chosen = options(**changes)
    return comparison.compare(test, completed, chosen, PerceptualMetrics(chosen), folder)


def read(folder, test):
    return results_folder.read_results(folder, test.names, test.images, test.masks)


# ---- masks from a folder


def test_masks_named_as_the_images_are_cropped_as_these(tmp_path):
    for n in range(6):
        write_mask(tmp_path / f"{n:03}_mask.png", box(left=n))
    test = opened(str(tmp_path))
    for n in range(6):
        levels = np.repeat(box(left=n)[..., None], 3, 2).astype(np.uint8) * 255
        np.testing.assert_array_equal(test.masks[n], crop_square(levels, "center", SIDE, None)[..., 0] >= 128)
    assert test.note == f"masks: {tmp_path}, each image's own file"


def test_other_masks_come_in_an_order_of_the_seed_each_once_before_any_again(tmp_path, capsys):
    """Files of 64 px whose column tells them apart; halved, a pixel is missing if half of it is."""
    for n in range(4):
        write_mask(tmp_path / f"{n:05}.png", box(64, 64, 8, 4 * n, 16, 12))
    write_mask(tmp_path / "empty.png", np.zeros((64, 64), bool))
    test, again, other = opened(str(tmp_path)), opened(str(tmp_path)), opened(str(tmp_path), seed=1)
    first = [int(np.flatnonzero(mask.any(0))[0]) // 2 for mask in test.masks]
    assert sorted(first[:4]) == [0, 1, 2, 3] and first[4:] == first[:2]
    assert all(mask.sum() == 8 * 6 and mask[4:12].sum() == 8 * 6 for mask in test.masks)
    np.testing.assert_array_equal(test.masks, again.masks)
    assert not np.array_equal(test.masks, other.masks)
    assert "4 of 5 files" in test.note and "taken again for the other 2 images" in test.note
    assert "of their own name" not in test.note
    write_mask(tmp_path / "000.png", box())  # of one image alone: told, since it is not given to it
    assert "only 1 of 6 images have a file of their own name" in opened(str(tmp_path)).note
    assert "skipped: empty.png is empty or full at 32 px" in capsys.readouterr().out


def test_a_folder_without_masks_and_an_unknown_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="no mask file in the folder"):
        opened(str(tmp_path))
    with pytest.raises(UserError, match="'stars'.*lama-thick"):
        opened("stars")


# ---- results of other methods


def test_results_of_another_method_are_a_row_and_only_their_missing_pixels_count(tmp_path):
    """The truth plus 51 levels in the mask, and anything outside: L1 of 20 % as by arithmetic."""
    test = opened()
    results_folder.write_inputs(test.images, test.masks, tmp_path / "inputs")
    (tmp_path / "theirs").mkdir()
    for n in range(6):
        image, mask = (read_image(tmp_path / "inputs" / part / f"{n:05}.png") for part in ("images", "masks"))
        np.testing.assert_array_equal(image, test.images[n])
        np.testing.assert_array_equal(mask[..., 0] == 255, test.masks[n])
        write_image(tmp_path / "theirs" / f"{n:05}.png", np.where(mask == 255, image + np.uint8(51), np.uint8(7)))
    rows = compared(test, {"ours": test.images}, results=(tmp_path / "theirs",))["rows"]
    assert rows["theirs"]["hole_l1_percent"][0] == pytest.approx(20)
    assert rows["theirs"]["image_l1_percent"][0] == pytest.approx(20 / 4)
    assert list(rows) == ["ours", "theirs", "Telea", "Navier-Stokes", "mean colour", "membrane"]


def test_results_may_have_the_images_names(tmp_path):
    test = opened(count=2)
    for n in range(2):
        write_image(tmp_path / f"{n:03}.png", test.images[n])
    np.testing.assert_array_equal(read(tmp_path, test), test.images)


def test_results_that_cannot_be_scored_are_listed(tmp_path):
    test = opened()
    with pytest.raises(UserError, match="no folder of results"):
        read(tmp_path / "nothing", test)
    for name in ("00000.png", "00001.png", "00001.bmp", "other.png"):
        write_image(tmp_path / name, test.images[0])
    with pytest.raises(UserError, match=r"5 of 6 results .* 00001 has 2 files, 00002 is missing, .*--write-inputs"):
        read(tmp_path, test)
    (tmp_path / "00001.bmp").unlink()
    for n in range(6):
        write_image(tmp_path / f"{n:05}.png", test.images[0][: SIDE - (n in (2, 3))])
    half = (tmp_path / "00004.png").read_bytes()
    (tmp_path / "00004.png").write_bytes(half[: len(half) // 2])
    (tmp_path / "00005.png").write_text("no image")
    said = r"4 of 6 .* 00002.png has 32 x 31 px, not 32 x 32, 00003.png has .*00004.png.*00005.png.*; --write-inputs"
    with pytest.raises(UserError, match=said):
        read(tmp_path, test)


def numbered_from_one(count=6):
    """Images called 00001.jpg …, whose numbers in the set begin at 0."""
    data = Faces(count)
    data.name = lambda index: f"{index + 1:05}.jpg"
    return comparison.open_set(data, SIDE, "center", "center", count)


def test_names_that_look_like_numbers_are_not_taken_for_those_of_their_neighbours(tmp_path):
    test = numbered_from_one()
    for n in range(6):
        write_image(tmp_path / f"{n + 1:05}.png", test.images[n])
    np.testing.assert_array_equal(read(tmp_path, test), test.images)
    write_image(tmp_path / "00000.png", test.images[0])  # numbers and names are whole now, and say different things
    with pytest.raises(UserError, match="both the numbers and the names"):
        read(tmp_path, test)


def test_images_of_one_name_in_two_folders_have_a_result_each(tmp_path):
    data = Faces(2)
    data.name = lambda index: f"{'ab'[index]}/1.jpg"
    test = comparison.open_set(data, SIDE, "center", "center", 2)
    (tmp_path / "theirs").mkdir()
    write_image(tmp_path / "theirs/1.png", test.images[0])
    with pytest.raises(UserError, match=r"2 of 2 .*00000 is missing, 00001 is missing \(the folder has 1.png\)"):
        read(tmp_path / "theirs", test)
    for n in range(2):
        (tmp_path / "theirs" / "ab"[n]).mkdir()
        write_image(tmp_path / "theirs" / "ab"[n] / "1.png", test.images[n])
    np.testing.assert_array_equal(read(tmp_path / "theirs", test), test.images)


def test_images_that_are_not_of_the_set_are_named_before_the_work(tmp_path, capsys):
    test = opened(count=2)
    for name in ("00000.png", "00001.png", "extra.png"):
        write_image(tmp_path / name, test.images[0])
    comparison.check(test, options(results=(tmp_path,)))
    assert f"note: 1 images in {tmp_path} are not of this set: extra.png" in capsys.readouterr().out
    (tmp_path / "00001.png").unlink()
    with pytest.raises(UserError, match="1 of 2 results"):
        comparison.check(test, options(results=(tmp_path,)))


def test_a_folder_called_as_a_baseline_keeps_its_row(tmp_path):
    test, folders = opened(count=2), [tmp_path / "Telea", tmp_path / "other" / "Telea"]
    for folder in folders:
        folder.mkdir(parents=True)
        for n in range(2):
            write_image(folder / f"{n:05}.png", test.images[n])
    rows = compared(test, {"ours": test.images}, results=tuple(folders))["rows"]
    assert [*rows][:4] == ["ours", *map(str, folders), "Telea"]
    assert rows["Telea"]["image_l1_percent"][0] > 0 and rows[str(folders[0])]["image_l1_percent"][0] == 0


def test_references_are_all_images_of_a_folder_and_the_training_images_of_celeba(tmp_path):
    for n in range(40):
        write_image(tmp_path / f"plain/{n}.png", np.full((SIDE, SIDE), n, np.uint8))
    test, chosen = opened(), options(references=tmp_path / "plain", perceptual=True)
    found = [image[0, 0, 0] for image in comparison.reference_images(chosen, test)]
    assert sorted(found) == [*range(40)]
    faces = write_faces(tmp_path / "faces", count=20)
    assert len(comparison.open_references(faces)) == len(CelebA(faces, "train")) < 20
    with pytest.raises(UserError, match="no folder of references"):
        comparison.check(test, options(references=tmp_path / "nothing", perceptual=True))
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="no image in"):
        comparison.check(test, options(references=tmp_path / "bare", perceptual=True))


def test_flags_that_would_do_nothing_are_refused():
    with pytest.raises(UserError, match="--html .* --output"):
        options(html=True)
    with pytest.raises(UserError, match="--references .* --perceptual"):
        options(references=Path("folder"))


def test_each_kind_of_masks_has_a_folder_of_its_own(tmp_path):
    assert protocol.folder_names(["center", f"{tmp_path}/a/", "center"]) == {"center": "center", f"{tmp_path}/a/": "a"}
    with pytest.raises(UserError, match=r"two of the masks would go to a/"):
        protocol.folder_names([str(tmp_path / "a"), str(tmp_path / "b" / "a")])


def test_grey_results_are_read_as_rgb(tmp_path):
    test = opened()
    for n in range(6):
        write_image(tmp_path / f"{n:05}.png", np.full((SIDE, SIDE), 10 * n, np.uint8))
    found = read(tmp_path, test)
    assert all((found[n][test.masks[n]] == 10 * n).all() for n in range(6))


# ---- the best baseline


def test_the_best_baseline_is_marked_and_the_distance_to_it_is_paired():
    """Ours is off by 40 and 60 levels, `far` by 80, `near` by 20 and 30: ours - near is 20 and 30, 25 ± 5 levels."""
    truth, masks = np.full((2, SIDE, SIDE, 3), 100, np.uint8), opened(count=2).masks
    off = {"ours": (40, 60), "far": (80, 80), "near": (20, 30)}
    done = {name: truth + masks[..., None] * np.uint8(levels).reshape(2, 1, 1, 1) for name, levels in off.items()}
    result = protocol.scored(truth, masks, done, "center", 0) | {
        "split": "test", "learned": ["ours"], "baselines": ["far", "near"],
    }  # fmt: skip
    lines = protocol.table(result, [], ("hole_l1_percent", "hole_psnr_db")).splitlines()
    assert lines[6].startswith("| near | **9.804 ± 1.961** | **") and "**" not in lines[4] + lines[5]
    assert lines[7].startswith("| ours - best baseline | +9.804 ± 1.961 | -6.021 ± 0.000 |")  # twice as far: -6.02 dB


@pytest.mark.parametrize("which, count", [("none", 0), ("fast", 4)])
def test_which_baselines_are_taken(which, count):
    test = opened(count=2)
    result = compared(test, {"ours": test.images}, baselines=which)
    assert len(result["baselines"]) == count and list(result["rows"]) == ["ours", *result["baselines"]]
    assert "best baseline" in protocol.table(result | {"split": "test"}, []) or not count
    protocol.sheet(result)


def test_a_baseline_without_its_package_is_left_out_with_a_note(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "patchmatch", None)
    test = opened(count=1)
    done, notes = protocol.complete_with_baselines(test.images, test.masks, "all")
    assert "PatchMatch" not in done and notes[-1].startswith("PatchMatch left out: it needs the package PyPatchMatch")


def test_linear_baselines_come_from_train_and_val(monkeypatch):
    asked = []

    def open_photos(folder, split, pairs):
        asked.append((folder, split, pairs))
        return Faces(40 if split == "train" else 8, seed=len(asked))

    monkeypatch.setattr(comparison, "open_photos", open_photos)
    test = opened(count=3)
    rows = compared(test, {}, Path("faces"), linear_floor_images=30, baselines="none")["images"]
    assert asked == [(Path("faces"), "train", False), (Path("faces"), "val", False)]
    assert {"PCA (29)", "ridge regression"} <= rows.keys()
    np.testing.assert_array_equal(rows["ridge regression"][~test.masks], test.images[~test.masks])
    uneven = opened("random", 3)
    assert (
        "ridge regression" not in compared(uneven, {}, Path("faces"), linear_floor_images=30, baselines="none")["rows"]
    )


# ---- files


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.rows, self.links = [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.images += [values.get("src")] * (tag == "img")
        self.rows += tag == "tr"
        self.links += [values[key] for key in ("href", "src") if key in values]


def test_csv_and_page_hold_each_image_and_need_no_other_file(tmp_path):
    test = opened(count=6)
    worse = test.images.copy()
    worse[2][test.masks[2]] ^= 0x40  # the worst by far
    result = compared(test, {"ours": worse}) | {"split": "test", "weights": "w<1>"}
    protocol.write(result, tmp_path, protocol.sheet(result), html=True)
    with (tmp_path / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 5
    ours = [line for line in lines if line["method"] == "ours"]
    assert [line["image"] for line in ours] == test.names
    assert float(ours[2]["hole_l1_percent"]) == pytest.approx(100 * 64 / 255, rel=1e-4)
    assert float(ours[2]["mask_percent"]) == pytest.approx(25)
    text = (tmp_path / "scores.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.images) == 12 and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert page.rows == (1 + 5) + (1 + 6) and "w&lt;1&gt;" in text
    assert text.index("people/002.jpg: ") < text.index("people/000.jpg: ")


def test_the_worst_stand_beside_the_best_in_one_small_picture(tmp_path):
    """By the score alone: the image spoiled most comes first, the one not spoiled at all is the first of the best."""
    test = opened(count=6)
    spoiled = test.images.copy()
    for n, change in enumerate((4, 0, 64, 8, 16, 32)):
        spoiled[n][test.masks[n]] ^= change
    result = compared(test, {"ours": spoiled})
    method, order = score_page.ranked(result)
    assert method == "ours" and order.tolist() == [2, 5, 4, 3, 0, 1]
    picture, side = score_page.extremes(result), score_page.EXTREME_PX
    assert picture.shape == (20 + 4 + 5 * (side + 4), 4 + 6 * (side + 4), 3)

    def cell(row, column):
        top, left = 24 + row * (side + 4), 4 + column * (side + 4)
        return picture[top : top + side, left : left + side]

    def small(image):
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

    for row, (worst, best) in enumerate([(2, 1), (5, 0), (4, 3), (3, 4), (0, 5)]):
        np.testing.assert_array_equal(cell(row, 1), small(spoiled[worst]))
        np.testing.assert_array_equal(cell(row, 4), small(spoiled[best]))
        np.testing.assert_array_equal(cell(row, 5), small(test.images[best]))
    assert (cell(0, 0) == score_page.MASK_COLOUR).all(-1).any()
    protocol.write(result, tmp_path, protocol.sheet(result))
    assert read_image(tmp_path / "worst_best.jpg").shape == picture.shape


def test_the_extremes_of_a_stream_are_kept_in_order():
    kept = []
    for score in (3, 14, 1, 5, 9, 2, 6, 8, 7, 0, 4, 13, 11, 12, 10):
        score_page.keep_extremes(kept, score, [np.full((4, 4, 3), 10 * score, np.uint8)])
    assert [score for score, _ in kept] == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    picture, step = score_page.extremes_sheet(kept, []), score_page.EXTREME_PX + 4
    shown = [[int(picture[30 + row * step, 10 + column * step, 0]) for column in (0, 1)] for row in range(5)]
    assert shown == [[0, 140], [10, 130], [20, 120], [30, 110], [40, 100]]
