"""Pairs in every layout stay pairs; class colours against a computation by brute force."""

import os
from pathlib import Path

import numpy as np
import pytest

from common.batches import Batches
from common.cityscapes import CLASSES, PALETTE, VOID_COLOURS, classify, colourise, crop_pair, open_pairs
from common.errors import UserError
from common.images import write_image


def picture(value, height=20, width=20):
    return np.full((height, width, 3), value, np.uint8)


def side_by_side(folder, count, split="train"):
    """Pairs n whose photo is grey n and whose label is grey 255 - n."""
    for n in range(1, count + 1):
        write_image(folder / split / f"{n}.png", np.concatenate([picture(n), picture(255 - n)], 1))
    return folder


def codes(pairs):
    """(photo, label) grey values of each pair, in order."""
    return [(int(photo[0, 0, 0]), int(label[0, 0, 0])) for photo, label in (pairs[n] for n in range(len(pairs)))]


# ---- layouts


def test_side_by_side_in_natural_order(tmp_path):
    pairs = open_pairs(side_by_side(tmp_path, 12), "train")
    assert codes(pairs) == [(n, 255 - n) for n in range(1, 13)]
    assert pairs.name(9) == "train/10.png" and pairs.path(0) == tmp_path / "train/1.png"
    assert codes(open_pairs(tmp_path, "train", "right"))[0] == (254, 1)


def test_apart_in_two_folders(tmp_path):
    for names in (("trainA", "trainB"), ("A/train", "B/train")):
        folder = tmp_path / names[0].replace("/", "-")
        for n in (2, 10):
            write_image(folder / names[0] / f"{n}.png", picture(n))
            write_image(folder / names[1] / f"{n}.jpg", picture(200 + n))
        assert codes(open_pairs(folder, "train")) == [(2, 202), (10, 210)]
        right = open_pairs(folder, "train", "right")
        assert codes(right)[0] == (202, 2) and right.path(0) == folder / names[1] / "2.jpg"


def test_paddles_lists(tmp_path):
    """The archive's own nesting: the list above, its paths below cityscapes/cityscapes."""
    root = tmp_path / "cityscapes/cityscapes"
    for n in (1, 2):
        write_image(root / f"trainA/{n}.png", picture(n))
        write_image(root / f"trainB/x{n}.png", picture(100 + n))
    (tmp_path / "pairs_train_list").write_text("trainA/2.png\ttrainB/x1.png\n\ntrainA/1.png\ttrainB/x2.png\n")
    assert codes(open_pairs(tmp_path, "train")) == [(2, 101), (1, 102)]


def test_official_layout(tmp_path):
    for city, n in (("bonn", 1), ("ulm", 2)):
        stem = f"{city}/{city}_000000_000019"
        write_image(tmp_path / f"leftImg8bit/train/{stem}_leftImg8bit.png", picture(n))
        write_image(tmp_path / f"gtFine/train/{stem}_gtFine_color.png", np.full((20, 20, 4), (n, n, 50, 255), np.uint8))
        write_image(tmp_path / f"gtFine/train/{stem}_gtFine_labelIds.png", picture(9))
    pairs = open_pairs(tmp_path, "train")
    assert codes(pairs) == [(1, 1), (2, 2)]
    assert tuple(pairs[1][1][5, 5]) == (2, 2, 50)


def test_held_out_pairs_go_by_either_name(tmp_path):
    side_by_side(tmp_path, 3), side_by_side(tmp_path, 2, "test")
    assert len(open_pairs(tmp_path, "val")) == len(open_pairs(tmp_path, "test")) == 2


def test_a_folder_without_splits_is_shared_out(tmp_path):
    for n in range(40):
        write_image(tmp_path / f"{n}.png", np.concatenate([picture(n), picture(n)], 1))
    splits = [[photo for photo, _ in codes(open_pairs(tmp_path, split))] for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [36, 2, 2]
    assert sorted(sum(splits, [])) == list(range(40))


# ---- mistakes


def told(call, *arguments):
    with pytest.raises(UserError) as problem:
        call(*arguments)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_mistakes_are_named(tmp_path):
    assert "no folder" in told(open_pairs, tmp_path / "nowhere", "train")
    (tmp_path / "empty").mkdir()
    assert "trainA/" in told(open_pairs, tmp_path / "empty", "train")
    write_image(tmp_path / "single/train/a.png", picture(1, 218, 178))
    line = told(open_pairs, tmp_path / "single", "train")
    assert "178 x 218 px" in line and "twice as wide" in line and "grey-to-colour" in line


def test_a_later_picture_that_is_no_pair(tmp_path):
    side_by_side(tmp_path, 2)
    write_image(tmp_path / "train/3.png", picture(1, 30, 50))
    pairs = open_pairs(tmp_path, "train")
    assert "3.png is 50 x 30 px" in told(pairs.__getitem__, 2)


def test_unmatched_names_are_listed(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        write_image(tmp_path / f"trainA/{name}.png", picture(1))
    for name in ("a", "x"):
        write_image(tmp_path / f"trainB/{name}.png", picture(1))
    line = told(open_pairs, tmp_path, "train")
    assert "4 in" in line and "(b, c, d, …)" in line and "1 in" in line and "(x)" in line


def test_a_list_with_a_missing_column_is_named_with_its_line(tmp_path):
    write_image(tmp_path / "trainA/1.png", picture(1))
    (tmp_path / "train_list").write_text("trainA/1.png\ttrainB/1.png\ntrainA/2.png trainB/2.png\n")
    assert "train_list, line 2" in told(open_pairs, tmp_path, "train")
    (tmp_path / "train_list").write_text("other/1.png\tother/2.png\n")
    assert "other/1.png, which is nowhere" in told(open_pairs, tmp_path, "train")


def test_partners_of_different_sizes(tmp_path):
    write_image(tmp_path / "trainA/1.png", picture(1, 20, 30))
    write_image(tmp_path / "trainB/1.png", picture(1, 10, 30))
    line = told(open_pairs(tmp_path, "train").__getitem__, 0)
    assert "30 x 20 px" in line and "30 x 10 px" in line


# ---- cutting


def coordinates(side):
    """A photo whose pixels say where they are, and a label that says the same in other words."""
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    return np.stack([rows, columns, rows], 2), np.stack([255 - columns, 255 - rows, columns], 2)


def test_both_pictures_are_cut_and_mirrored_alike():
    photo, label = coordinates(40)
    mirrored = set()
    for seed in range(40):
        a, b = crop_pair(photo, label, 0, 24, True, np.random.default_rng(seed))
        np.testing.assert_array_equal(a[..., 0], 255 - b[..., 1])
        np.testing.assert_array_equal(a[..., 1], b[..., 2])
        mirrored.add(bool(a[0, 0, 1] > a[0, -1, 1]))
    assert mirrored == {True, False}
    assert all(
        crop_pair(photo, label, 0, 24, False, np.random.default_rng(seed))[0][0, 0, 1] < 17 for seed in range(40)
    )


def test_every_offset_from_0_to_30_inclusive_is_drawn():
    """286 cut to 256: 31 offsets each way; over 2,000 draws each is expected 64 times."""
    photo = np.zeros((286, 286, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.minimum(np.arange(286), 255)[:, None], np.minimum(np.arange(286), 255)
    rng = np.random.default_rng(0)
    corners = np.array([crop_pair(photo, photo, 286, 256, False, rng)[0][0, 0, :2] for _ in range(2_000)])
    for axis in (0, 1):
        counts = np.bincount(corners[:, axis], minlength=31)
        assert len(counts) == 31 and counts.min() > 30 and counts.max() < 110


def test_own_pixels_or_resized():
    label = np.random.default_rng(0).choice(np.uint8([0, 255]), (60, 60, 1)).repeat(3, 2)
    rng = np.random.default_rng(1)
    assert set(np.unique(crop_pair(label, label, 0, 50, True, rng)[0])) == {0, 255}
    assert len(np.unique(crop_pair(label, label, 66, 50, True, rng)[0])) > 50
    whole, _ = crop_pair(label, label, 66, 60, True, None)
    np.testing.assert_array_equal(whole, label)  # without chance nothing is cut off
    assert "cannot cut 70 x 70 px from a picture of 60 x 60" in told(crop_pair, label, label, 0, 70, True, rng)


@pytest.mark.parametrize("workers", [0, 3])
def test_shuffled_reading_keeps_pairs_together(tmp_path, workers):
    pairs = open_pairs(side_by_side(tmp_path, 30), "train")

    def make(index, rng):
        return crop_pair(*pairs[index], 22, 16, True, rng)

    stream, seen = Batches(30, make, 5, 0, workers)(0), []
    for _ in range(12):
        photo, label = next(stream)
        np.testing.assert_array_equal(photo, 255 - label)
        seen += photo[:, 0, 0, 0].tolist()
    stream.close()
    assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(1, 31)) and seen[:30] != seen[30:]


# ---- class colours


@pytest.mark.parametrize("void", [True, False])
def test_nearest_colour_equals_brute_force(void):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    candidates = np.concatenate([PALETTE, VOID_COLOURS]) if void else PALETTE
    distance = np.linalg.norm(noise[:, :, None].astype(float) - candidates, axis=3)
    expected = distance.argmin(2)
    expected[expected >= 19] = 255
    np.testing.assert_array_equal(classify(noise, void), expected)


def test_class_colours():
    assert len(CLASSES) == len(PALETTE) == len(np.unique(PALETTE, axis=0)) == 19
    ids = np.arange(19, dtype=np.uint8).reshape(1, 19)
    for void in (True, False):
        np.testing.assert_array_equal(classify(colourise(ids), void), ids)
    assert tuple(colourise(np.uint8([[13]]))[0, 0]) == (0, 0, 142) and CLASSES[13] == "car"  # from the data set's page
    assert (classify(VOID_COLOURS[None], True) == 255).all() and (classify(VOID_COLOURS[None], False) < 19).all()
    assert (colourise(np.uint8([[255, 19]])) == 0).all()


# ---- real pairs


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real pictures")
def test_real_pairs():
    data = Path(os.environ["SUITE_DATA"])
    for name, counts in (("cityscapes", (900, 150)), ("facades", (200, 50))):
        assert tuple(len(open_pairs(data / name, split)) for split in ("train", "val")) == counts
        photo, label = open_pairs(data / name, "val")[7]
        assert photo.shape == label.shape == (256, 256, 3)
    pairs = open_pairs(data / "cityscapes", "val")
    ids = np.stack([classify(pairs[n][1], True) for n in range(20)])
    shares = np.bincount(ids.ravel(), minlength=256) / ids.size
    assert shares[:19].argmax() == CLASSES.index("road") and 0.25 < shares[0] < 0.5 and shares[255] < 0.2
