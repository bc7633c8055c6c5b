"""Pairs in every layout stay pairs; class colours against a computation by brute force."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from common.datasets.loader import Batches
from common.datasets.paired_images import (
    CLASSES,
    PALETTE,
    VOID_COLOURS,
    classify,
    colourise,
    crop_pair,
    open_pairs,
    open_photos,
    refuse_withheld,
)
from common.errors import UserError
from common.imaging.io import write_image


def image(value, height=20, width=20):
    return np.full((height, width, 3), value, np.uint8)


def side_by_side(folder, count, split="train"):
    """Pairs n whose photo is grey n and whose label is grey 255 - n."""
    for n in range(1, count + 1):
        write_image(folder / split / f"{n}.png", np.concatenate([image(n), image(255 - n)], 1))
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
            write_image(folder / names[0] / f"{n}.png", image(n))
            write_image(folder / names[1] / f"{n}.jpg", image(200 + n))
        assert codes(open_pairs(folder, "train")) == [(2, 202), (10, 210)]
        right = open_pairs(folder, "train", "right")
        assert codes(right)[0] == (202, 2) and right.path(0) == folder / names[1] / "2.jpg"


def test_paddles_lists(tmp_path):
    """The archive's own nesting: the list above, its paths below cityscapes/cityscapes."""
    root = tmp_path / "cityscapes/cityscapes"
    for n in (1, 2):
        write_image(root / f"trainA/{n}.png", image(n))
        write_image(root / f"trainB/x{n}.png", image(100 + n))
    (tmp_path / "pairs_train_list").write_text("trainA/2.png\ttrainB/x1.png\n\ntrainA/1.png\ttrainB/x2.png\n")
    assert codes(open_pairs(tmp_path, "train")) == [(2, 101), (1, 102)]


def test_official_layout(tmp_path):
    for city, n in (("bonn", 1), ("ulm", 2)):
        stem = f"{city}/{city}_000000_000019"
        write_image(tmp_path / f"leftImg8bit/train/{stem}_leftImg8bit.png", image(n))
        write_image(tmp_path / f"gtFine/train/{stem}_gtFine_color.png", np.full((20, 20, 4), (n, n, 50, 255), np.uint8))
        write_image(tmp_path / f"gtFine/train/{stem}_gtFine_labelIds.png", image(9))
    pairs = open_pairs(tmp_path, "train")
    assert codes(pairs) == [(1, 1), (2, 2)]
    assert tuple(pairs[1][1][5, 5]) == (2, 2, 50)


@pytest.mark.parametrize("held_out", ["val", "test", "Validation", "valid", "eval", "TESTING"])
def test_a_missing_split_is_taken_from_train(tmp_path, held_out):
    """Two folders are two splits; every twentieth of train is the third, the same one at each opening."""
    side_by_side(tmp_path, 40, "training"), side_by_side(tmp_path, 3, held_out)
    there = "test" if held_out.lower().startswith("test") else "val"
    parts = {split: open_pairs(tmp_path, split) for split in ("train", "val", "test")}
    names = {split: [part.name(n) for n in range(len(part))] for split, part in parts.items()}
    assert names[there] == [f"{held_out}/{n}.png" for n in (1, 2, 3)]
    missing, places = ("val", (19, 39)) if there == "test" else ("test", (20, 40))  # no. 18 and no. 19 from 0
    assert names[missing] == [f"training/{n}.png" for n in places]
    assert names["train"] == [f"training/{n}.png" for n in range(1, 41) if n not in places]
    taken = "every 20th of training/"
    val, test = (f"2 ({taken})", f"3 ({held_out}/)") if there == "test" else (f"3 ({held_out}/)", f"2 ({taken})")
    assert parts["train"].notes == [f"train 38 (training/), val {val}, test {test}"]
    assert [part.split for part in parts.values()] == ["train", "val", "test"]


def test_nothing_is_set_aside_for_a_split_that_is_not_in_use(tmp_path):
    """The papers train pix2pix on all pairs of train/ and score val/."""
    side_by_side(tmp_path, 40), side_by_side(tmp_path, 2, "val")
    assert len(open_pairs(tmp_path, "train", wanted=("train", "val"))) == 40
    line = told(lambda: open_pairs(tmp_path, "test", wanted=("train", "val")))
    assert "no pairs for test" in line and "train 40 (train/), val 2 (val/)" in line


def test_too_few_pairs_to_divide(tmp_path):
    side_by_side(tmp_path, 3), side_by_side(tmp_path, 2, "test")
    val = open_pairs(tmp_path, "val")
    assert val.split == "unsplit" and codes(val) == codes(open_pairs(tmp_path, "train"))
    assert "only 3 to train on" in val.notes[0] and "val is the same" in val.notes[0]
    assert open_pairs(tmp_path, "test").split == "test"


def test_labels_that_cityscapes_withholds_are_refused(tmp_path):
    """Its test split: photos, and labels that are black all over; the photos alone may be used."""
    for split, level in (("train", 50), ("val", 50), ("test", 0)):
        for n, (part, end) in enumerate((("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_color"))):
            write_image(tmp_path / f"{part}/{split}/ulm/ulm_0_0_{end}.png", image(level if n else 99))
    refuse_withheld(open_pairs(tmp_path, "val"))
    assert "does not publish" in told(refuse_withheld, open_pairs(tmp_path, "test"))
    assert open_photos(tmp_path, "test", pairs=True)[0].max() == 99
    (tmp_path / "gtFine/test/ulm/ulm_0_0_gtFine_color.png").unlink()  # no labels at all: only test is told
    assert len(open_pairs(tmp_path, "train")) == 1
    assert "without a partner" in told(open_pairs, tmp_path, "test")


def test_names_composed_and_decomposed_are_partners(tmp_path):
    for n, name in enumerate(("é1", "Müller")):
        write_image(tmp_path / "trainA" / f"{unicodedata.normalize('NFD', name)}.png", image(n))
        write_image(tmp_path / "trainB" / f"{unicodedata.normalize('NFC', name)}.png", image(n + 9))
    assert sorted(codes(open_pairs(tmp_path, "train"))) == [(0, 9), (1, 10)]
    composed = tmp_path / "listed"
    write_image(composed / unicodedata.normalize("NFD", "é.png"), image(3))
    (composed / "train_list").write_text("\t".join([unicodedata.normalize("NFC", "é.png")] * 2) + "\n")
    assert codes(open_pairs(composed, "train")) == [(3, 3)]


def test_equal_stems_never_swallow_each_other(tmp_path):
    """a.jpg and a.png are two images; partners go by suffix then, and where that says nothing it is an error."""
    for n, name in enumerate(("a.png", "a.bmp", "b.png")):
        write_image(tmp_path / "trainA" / name, image(n))
        write_image(tmp_path / "trainB" / name.replace("b.png", "b.bmp"), image(n + 9))
    assert sorted(codes(open_pairs(tmp_path, "train"))) == [(0, 9), (1, 10), (2, 11)]
    (tmp_path / "trainB/a.bmp").unlink()
    line = told(open_pairs, tmp_path, "train")
    assert "which of these belong together" in line and "a.bmp" in line and "a.png" in line


def test_a_folder_around_the_folder(tmp_path):
    side_by_side(tmp_path / "archive/facades", 2), side_by_side(tmp_path / "archive/facades", 1, "val")
    (tmp_path / "__MACOSX/archive").mkdir(parents=True)
    assert len(open_pairs(tmp_path, "train")) == 2 and open_pairs(tmp_path, "val").name(0) == "val/1.png"


@pytest.mark.parametrize("layout", ["double", "apart", "plain"])
def test_pairs_given_as_photos_get_a_note(tmp_path, layout):
    for n in range(3):
        write_image(tmp_path / f"trainA/{n}.png" if layout == "apart" else tmp_path / f"{n}.png", image(n, 20, 40))
        if layout == "apart":
            write_image(tmp_path / f"trainB/{n}.png", image(n))
    if layout == "plain":
        write_image(tmp_path / "9.png", image(9, 20, 41))
    notes = " ".join(open_photos(tmp_path, "train", pairs=False).notes)
    assert ("--pairs" in notes) == (layout != "plain")


def test_a_folder_without_splits_is_shared_out(tmp_path):
    for n in range(40):
        write_image(tmp_path / f"{n}.png", np.concatenate([image(n), image(n)], 1))
    splits = [[photo for photo, _ in codes(open_pairs(tmp_path, split))] for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [36, 2, 2]
    assert sorted(sum(splits, [])) == list(range(40))


def write_apart(folder, names, shape=(20, 20)):
    for name in names:
        write_image(folder / name, image(1, *shape))


def test_what_the_usual_preparation_writes(tmp_path):
    """Joined pairs, and the same ones apart as 0_A and 0_B: either is the pair."""
    side_by_side(tmp_path, 1)
    write_apart(tmp_path, ("trainA/0_A.png", "trainB/0_B.png", "trainA/10_A.png", "trainB/10_B.png"))
    pairs = open_pairs(tmp_path, "train")
    assert [[path.name for path in files] for files in pairs.files] == [
        ["0_A.png", "0_B.png"],
        ["10_A.png", "10_B.png"],
    ]


def test_equal_names_in_sub_folders_stay_apart(tmp_path):
    for n, scene in ((1, "x"), (2, "y")):
        write_image(tmp_path / f"trainA/{scene}/1.png", image(n))
        write_image(tmp_path / f"trainB/{scene}/1.png", image(100 + n))
    assert codes(open_pairs(tmp_path, "train")) == [(1, 101), (2, 102)]


def test_the_twins_that_macos_packs_are_no_lists(tmp_path):
    write_apart(tmp_path, ("trainA/1.png", "trainB/2.png"))
    (tmp_path / "train_list").write_text("trainA/1.png\ttrainB/2.png\n")
    (tmp_path / "._train_list").write_bytes(b"\0\5junk")
    assert len(open_pairs(tmp_path, "train")) == 1


OFFICIAL = ("leftImg8bit/train/ulm/ulm_0_0_leftImg8bit.png", "gtFine/train/ulm/ulm_0_0_gtFine_color.png")


def test_the_official_names_say_which_is_the_photo(tmp_path):
    for n, name in enumerate(OFFICIAL):
        write_image(tmp_path / name, image(n))
    for side in ("left", "right"):
        assert codes(open_pairs(tmp_path, "train", side)) == [(0, 1)]


# ---- mistakes


def told(call, *arguments):
    with pytest.raises(UserError) as problem:
        call(*arguments)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_mistakes_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, reason in (("nowhere", "no folder"), ("empty", "no pairs for train")):
        line = told(open_pairs, tmp_path / name, "train")
        assert reason in line and str(tmp_path / name) in line and "python -m data.prepare cityscapes --help" in line
        assert all(layout in line for layout in ("train/*.jpg", "trainA/", "*train_list*", "leftImg8bit/"))
    write_image(tmp_path / "single/train/a.png", image(1, 218, 178))
    line = told(open_pairs, tmp_path / "single", "train")
    assert "178 x 218 px" in line and "twice as wide" in line and "grey-to-colour" in line


@pytest.mark.parametrize(
    "names",
    [
        OFFICIAL,
        ("trainA/1.png", "trainB/1.png"),
        ("A/train/1.png", "B/train/1.png"),
        ("train/1.png",),
        ("city/train/1.png", "city/val/1.png"),
        ("photos/1.png", "labels/1.png", "train_list"),
    ],
)
def test_halves_are_never_mixed(tmp_path, names):
    """Photos twice as wide as high, as Cityscapes' are, must not be taken for two halves where val is missing."""
    write_apart(tmp_path, [name for name in names if name.endswith(".png")], (20, 40))
    if "train_list" in names:
        (tmp_path / "train_list").write_text("photos/1.png\tlabels/1.png\n")
    train, val = open_pairs(tmp_path, "train"), open_pairs(tmp_path, "val")
    apart = 2 if names[0].startswith(("leftImg", "trainA", "A/", "photos")) else 1
    assert [len(files) for files in train.files + val.files] == [apart, apart]
    assert val.split == ("val" if "city/val/1.png" in names else "unsplit")


def test_half_of_cityscapes_is_no_set_of_pairs(tmp_path):
    write_apart(tmp_path, OFFICIAL, (20, 40))
    for folder in ("leftImg8bit", "gtFine"):
        assert "half a pair of Cityscapes" in told(open_pairs, tmp_path / folder, "train")
    (tmp_path / OFFICIAL[1]).unlink()
    assert "ulm_0_0" in told(open_pairs, tmp_path, "train")


def test_half_of_two_folders_is_no_set_of_pairs(tmp_path):
    write_apart(tmp_path, ("trainA/1.png",), (20, 40))
    assert "it has trainA)" in told(open_pairs, tmp_path, "train")


def test_a_later_picture_that_is_no_pair(tmp_path):
    side_by_side(tmp_path, 2)
    write_image(tmp_path / "train/3.png", image(1, 30, 50))
    pairs = open_pairs(tmp_path, "train")
    assert "3.png is 50 x 30 px" in told(pairs.__getitem__, 2)


def test_unmatched_names_are_listed(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        write_image(tmp_path / f"trainA/{name}.png", image(1))
    for name in ("a", "x"):
        write_image(tmp_path / f"trainB/{name}.png", image(1))
    line = told(open_pairs, tmp_path, "train")
    assert "4 in" in line and "(b, c, d, …)" in line and "1 in" in line and "(x)" in line


def test_a_list_with_a_missing_column_is_named_with_its_line(tmp_path):
    write_image(tmp_path / "trainA/1.png", image(1))
    (tmp_path / "train_list").write_text("trainA/1.png\ttrainB/1.png\ntrainA/2.png trainB/2.png\n")
    assert "train_list, line 2" in told(open_pairs, tmp_path, "train")
    (tmp_path / "train_list").write_text("other/1.png\tother/2.png\n")
    assert "other/1.png, which is nowhere" in told(open_pairs, tmp_path, "train")


def test_partners_of_different_sizes(tmp_path):
    write_image(tmp_path / "trainA/1.png", image(1, 20, 30))
    write_image(tmp_path / "trainB/1.png", image(1, 10, 30))
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
    # 2,000 independent draws meet 961 (1 - exp(-2000 / 961)) = 841 of the 31 x 31 places
    assert 790 < len(np.unique(corners, axis=0)) < 890


def test_own_pixels_or_resized():
    label = np.random.default_rng(0).choice(np.uint8([0, 255]), (60, 60, 1)).repeat(3, 2)
    rng = np.random.default_rng(1)
    assert set(np.unique(crop_pair(label, label, 0, 50, True, rng)[0])) == {0, 255}
    assert len(np.unique(crop_pair(label, label, 66, 50, True, rng)[0])) > 50
    whole, _ = crop_pair(label, label, 66, 60, True, None)
    np.testing.assert_array_equal(whole, label)  # without chance nothing is cut off
    assert "cannot cut 70 x 70 px from an image of 60 x 60" in told(crop_pair, label, label, 0, 70, True, rng)


@pytest.mark.parametrize("workers", [0, 3])
def test_shuffled_reading_keeps_pairs_together(tmp_path, workers):
    """Both halves say in each pixel which pair, row and column it is; the label in other channels, turned round."""
    rows, columns = np.mgrid[:40, :40].astype(np.uint8)
    for n in range(1, 31):
        number = np.full_like(rows, n)
        halves = np.stack([number, rows, columns], 2), 255 - np.stack([columns, number, rows], 2)
        write_image(tmp_path / f"train/{n}.png", np.concatenate(halves, 1))
    pairs = open_pairs(tmp_path, "train", wanted=("train",))

    def make(index, rng):
        return crop_pair(*pairs[index], 0, 24, True, rng)

    stream, seen = Batches(30, make, 5, 0, workers)(0), []
    for _ in range(12):
        photo, label = next(stream)
        np.testing.assert_array_equal(photo, 255 - label[..., [1, 2, 0]])
        assert (np.ptp(photo[..., 0], axis=(1, 2)) == 0).all()  # one pair in all of a sample
        mirrored = photo[:, 0, 0, 2] > photo[:, 0, -1, 2]
        left = np.minimum(photo[:, 0, 0, 2], photo[:, 0, -1, 2])
        seen += zip(photo[:, 0, 0, 0].tolist(), photo[:, 0, 0, 1].tolist(), left.tolist(), mirrored, strict=True)
    stream.close()
    numbers, tops, lefts, mirrors = zip(*seen, strict=True)
    assert sorted(numbers[:30]) == sorted(numbers[30:]) == list(range(1, 31)) and numbers[:30] != numbers[30:]
    assert len(set(tops)) > 10 and len(set(lefts)) > 10 and max(tops + lefts) <= 16 and set(mirrors) == {True, False}


# ---- class colours


@pytest.mark.parametrize("void", [True, False])
def test_nearest_colour_equals_brute_force(void):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    candidates = np.concatenate([PALETTE, VOID_COLOURS]) if void else PALETTE
    distance = np.linalg.norm(noise[:, :, None].astype(float) - candidates, axis=3)
    expected = distance.argmin(2)
    expected[expected >= 19] = 255
    np.testing.assert_array_equal(classify(noise, void), expected)


# name, train id, colour of every class, as labels.py of the data set's own scripts lists them
LABELS_PY = """
unlabeled 255 0 0 0, static 255 0 0 0, dynamic 255 111 74 0, ground 255 81 0 81, road 0 128 64 128,
sidewalk 1 244 35 232, parking 255 250 170 160, rail-track 255 230 150 140, building 2 70 70 70, wall 3 102 102 156,
fence 4 190 153 153, guard-rail 255 180 165 180, bridge 255 150 100 100, tunnel 255 150 120 90, pole 5 153 153 153,
traffic-light 6 250 170 30, traffic-sign 7 220 220 0, vegetation 8 107 142 35, terrain 9 152 251 152,
sky 10 70 130 180, person 11 220 20 60, rider 12 255 0 0, car 13 0 0 142, truck 14 0 0 70, bus 15 0 60 100,
caravan 255 0 0 90, trailer 255 0 0 110, train 16 0 80 100, motorcycle 17 0 0 230, bicycle 18 119 11 32
"""


def test_colours_are_those_of_the_data_set():
    void = set()
    for entry in LABELS_PY.split(","):
        name, number, *colour = entry.split()
        number, colour = int(number), tuple(map(int, colour))
        assert classify(np.uint8([[colour]]), True)[0, 0] == number
        if number == 255:
            void.add(colour)
        else:
            assert CLASSES[number] == name.replace("-", " ") and tuple(PALETTE[number]) == colour
    assert {tuple(colour) for colour in VOID_COLOURS} == void


def test_class_colours():
    assert len(CLASSES) == len(PALETTE) == len(np.unique(PALETTE, axis=0)) == 19
    ids = np.arange(19, dtype=np.uint8).reshape(1, 19)
    for void in (True, False):
        np.testing.assert_array_equal(classify(colourise(ids), void), ids)
    assert tuple(colourise(np.uint8([[13]]))[0, 0]) == (0, 0, 142)
    assert (classify(VOID_COLOURS[None], True) == 255).all() and (classify(VOID_COLOURS[None], False) < 19).all()
    assert (colourise(np.uint8([[255, 19]])) == 0).all()


# ---- real pairs


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real images")
def test_real_pairs():
    data = Path(os.environ["SUITE_DATA"])
    for name, counts in (("cityscapes", (900, 150)), ("facades", (200, 50))):
        for split, count in zip(("train", "val"), counts, strict=True):
            pairs = open_pairs(data / name, split, wanted=("train", "val"))
            assert len(pairs) == count
            for index in (0, 7, count - 1):
                photo, label = pairs[index]
                assert photo.shape == label.shape == (256, 256, 3)
    pairs = open_pairs(data / "cityscapes", "val")
    assert [pairs.name(n) for n in (0, 1, 149)] == ["val/1.jpg", "val/2.jpg", "val/150.jpg"]
    photos, labels = zip(*(pairs[n] for n in range(20)), strict=True)
    fractions = np.bincount(classify(np.stack(labels).reshape(-1, 256, 3), True).ravel(), minlength=256) / (20 * 256**2)
    assert fractions[:19].argmax() == CLASSES.index("road") and 0.25 < fractions[0] < 0.5 and fractions[255] < 0.2

    def distance(image):  # to the nearest class colour
        return np.abs(image - colourise(classify(image, True)).astype(int)).mean()

    assert all(distance(label) < distance(photo) for photo, label in zip(photos, labels, strict=True))


@pytest.mark.parametrize("layout", ["train/{}", "{}"])
def test_photos_and_labels_apart_are_no_pairs_side_by_side(tmp_path, layout):
    """Also where each is twice as wide as high, so that its halves could be taken for a pair."""
    for n in range(1, 4):
        write_image(tmp_path / layout.format("A") / f"{n}.png", image(n, 20, 40))
        write_image(tmp_path / layout.format("B") / f"{n}.png", image(255 - n, 20, 40))
    assert codes(open_pairs(tmp_path, "train")) == [(n, 255 - n) for n in range(1, 4)]


@pytest.mark.parametrize("layout", ["train/{}", "{}"])
def test_two_folders_of_the_same_names_are_not_halved(tmp_path, layout):
    for n in range(1, 4):
        write_image(tmp_path / layout.format("photos") / f"{n}.jpg", image(n, 20, 40))
        write_image(tmp_path / layout.format("labels") / f"{n}.png", image(255 - n, 20, 40))
    with pytest.raises(UserError, match="the same names in labels/ and photos/.*trainA/ and trainB/"):
        open_pairs(tmp_path, "train")
