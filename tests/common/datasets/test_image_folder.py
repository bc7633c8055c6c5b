"""Which images are for what, in folders and zips as people have them, and that what is held out is never trained on."""

import io
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from common.datasets import splits
from common.datasets.image_folder import ImageFolder, announce, note_of_pairs, open_images
from common.datasets.loader import Batches
from common.datasets.splits import divide, split_named
from common.errors import UserError
from common.evaluation.protocol import cut_images


def data(level=9, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (level,) * 3).save(file, kind)
    return file.getvalue()


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data())
    return folder


def numbered(folder, count):
    return [f"{folder}/{n:02d}.png" for n in range(count)]


def names(place, split):
    images = open_images(place, split)
    return [images.name(n) for n in range(len(images))]


# ---- folders of splits


@pytest.mark.parametrize(
    ("train", "held_out", "split"),
    [
        ("train", "test", "test"),
        ("train", "val", "val"),
        ("Training", "VALIDATION", "val"),
        ("train", "valid", "val"),
        ("training", "Testing", "test"),
        ("train", "eval", "val"),
        ("DIV2K_train_HR", "DIV2K_valid_HR", "val"),
        ("train2017", "val2017", "val"),
        ("trainA", "testA", "test"),
        ("faces/images/train", "faces/images/test", "test"),
        ("train/train", "train/test", "test"),  # a folder around the set, called as an archive was
    ],
)
def test_two_folders_are_two_splits(tmp_path, train, held_out, split):
    """The third is every twentieth of train: nos. 18 (val) or 19 (test) of 0..29. Nothing held out is trained on."""
    put(tmp_path, *numbered(train, 30), *numbered(held_out, 10))
    other, place = {"test": ("val", 18), "val": ("test", 19)}[split]
    assert names(tmp_path, split) == numbered(held_out, 10)
    assert names(tmp_path, other) == [f"{train}/{place}.png"]
    assert names(tmp_path, "train") == [name for name in numbered(train, 30) if name != f"{train}/{place}.png"]


def test_the_log_says_which_images_are_what(tmp_path, capsys):
    put(tmp_path, *numbered("train", 30), *numbered("test", 10), "extra/a.png", "readme.txt")
    announce(open_images(tmp_path, "train"), tmp_path, "training images")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"29 training images from {tmp_path}"
    assert lines[1] == (
        "note: train 29 (train/), val 1 (every 20th of train/), test 10 (test/); 1 outside these folders are left out"
    )
    assert "passed over: 1 .txt" in lines[2]


def test_a_held_out_folder_beside_images(tmp_path):
    put(tmp_path, *numbered("cats", 21), *numbered("dogs", 21), *numbered("test", 4))
    assert names(tmp_path, "test") == numbered("test", 4)
    assert names(tmp_path, "val") == ["cats/18.png", "dogs/17.png"]  # nos. 18 and 38
    assert len(names(tmp_path, "train")) == 40


def test_only_held_out_images_are_never_trained_on(tmp_path):
    put(tmp_path, *numbered("test", 30))
    assert len(names(tmp_path, "test")) == 30
    with pytest.raises(UserError, match=r"no image to train on in .*test 30 \(test/\)"):
        open_images(tmp_path, "train")


def test_a_class_of_trains_is_no_split(tmp_path):
    """VOC, COCO and CIFAR have a class `train`; and its photos stay in the split that the folder above names."""
    put(tmp_path / "a", *numbered("car", 20), *numbered("train", 20))
    assert [len(names(tmp_path / "a", split)) for split in splits.SPLITS] == [36, 2, 2]
    put(tmp_path / "b", *numbered("train/train", 30), *numbered("val/train", 5), *numbered("test/train", 5))
    assert [len(names(tmp_path / "b", split)) for split in splits.SPLITS] == [30, 5, 5]


@pytest.mark.parametrize("name", ["contest", "trainer", "validated", "latest", "train_test_split", "photos", "2017"])
def test_other_names_are_no_splits(name):
    assert split_named(name) is None


def test_too_few_images_to_divide_are_said_and_never_called_test(tmp_path):
    put(tmp_path, *numbered(".", 19))
    test = open_images(tmp_path, "test")
    assert test.split == "unsplit" and len(test) == 19 and open_images(tmp_path, "train").split == "train"
    assert "only 19 to train on" in test.notes[0] and "val and test are the same" in test.notes[0]
    put(tmp_path, "19.png")
    test = open_images(tmp_path, "test")
    assert test.split == "test" and len(test) == 1
    assert test.notes == ["train 18, val 1 (every 20th of all), test 1 (every 20th of all)"]


def test_too_few_training_images_for_a_third_split(tmp_path):
    put(tmp_path, *numbered("train", 5), *numbered("test", 7))
    assert open_images(tmp_path, "val").split == "unsplit" and len(open_images(tmp_path, "train")) == 5
    assert open_images(tmp_path, "test").split == "test" and names(tmp_path, "test") == numbered("test", 7)


def test_images_of_equal_stems_are_all_there(tmp_path):
    put(tmp_path, "a.png", "a.jpg", unicodedata.normalize("NFD", "é.png"))
    assert len(names(tmp_path, "train")) == 3


def test_dividing_twice_gives_the_same(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(100)]
    first, again = divide(paths, tmp_path), divide(paths, tmp_path)
    assert first == again and sorted(sum(first.items.values(), [])) == sorted(paths)


# ---- zips


def zipped(path, members, prefix=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, level in members.items():
            archive.writestr(prefix + name, data(level) if level is not None else b"no image")
    return path


def test_a_zip_of_images_is_read_in_place(tmp_path):
    members = {"__MACOSX/my/._00.png": None, "readme.txt": None, **{f"my/{n:02d}.png": n for n in range(40)}}
    place = zipped(tmp_path / "my.zip", members)
    test = open_images(place, "test")
    assert [test.name(n) for n in range(2)] == ["my/19.png", "my/39.png"] and test.path(0) is None
    assert test[1][0, 0, 0] == 39 and test[0].shape == (6, 8, 3)
    assert "1 .txt" in test.notes[1] and "MACOSX" not in " ".join(test.notes)
    batch = next(Batches(36, lambda n, rng: (open_images(place, "train")[n],), 4, seed=0)(0))
    assert batch[0].shape == (4, 6, 8, 3)


def test_the_splits_of_a_zip(tmp_path):
    members = {f"set/train/{n:02d}.png": 1 for n in range(25)} | {"set/valid/a.png": 2, "set/valid/b.png": 2}
    place = zipped(tmp_path / "my.zip", members)
    assert names(place, "val") == ["set/valid/a.png", "set/valid/b.png"] and names(place, "test") == [
        "set/train/19.png"
    ]


def test_a_mount_with_only_a_zip_in_it(tmp_path):
    zipped(tmp_path / "data12345/photos.zip", {f"{n}.png": n for n in range(3)})
    images = open_images(tmp_path / "data12345", "train")
    assert len(images) == 3 and images.notes[0] == f"read in place from {tmp_path / 'data12345/photos.zip'}"


def test_archives_that_are_not_read_in_place_say_what_to_do(tmp_path):
    zipped(tmp_path / "two/a.zip", {"a.png": 1}), zipped(tmp_path / "two/b.zip", {"b.png": 1})
    zipped(tmp_path / "nested.zip", {"inner.zip": None})
    (tmp_path / "photos.tar.gz").write_bytes(b"x")
    (tmp_path / "photo.png").write_bytes(data())
    (tmp_path / "page.zip").write_text("<html>quota</html>")
    for name, words in {
        "two": r"archives \(a.zip, b.zip\).*data.prepare images",
        "nested.zip": r"archives \(inner.zip\).*data.prepare images",
        "photos.tar.gz": "data.prepare images",
        "photo.png": "a single file",
        "page.zip": "web page",
    }.items():
        with pytest.raises(UserError, match=words) as problem:
            open_images(tmp_path / name, "train")
        assert "\n" not in str(problem.value)


def test_a_broken_member_is_named(tmp_path):
    place = zipped(tmp_path / "my.zip", {"a.png": 1, "b.png": None})
    images = open_images(place, "train")
    with pytest.raises(UserError, match="my.zip/b.png.*not an image"):
        images[1]


# ---- nothing readable


def test_the_first_three_reasons_are_shown(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.jpg").write_bytes(b"\0\0\0\x18ftypavif")
    with pytest.raises(UserError, match=r"no image .*0\.jpg.*AVIF.*1\.jpg.*2\.jpg.*and 2 more") as problem:
        cut_images(ImageFolder(tmp_path, "train"), 8, "center", 3)
    assert "3.jpg" not in str(problem.value)


def test_a_folder_of_kinds_that_are_not_read(tmp_path):
    (tmp_path / "a.cr2").write_bytes(b"raw")
    with pytest.raises(UserError, match=r"no image in .*passed over: 1 \.cr2"):
        ImageFolder(tmp_path, "train")


def test_no_note_of_pairs_for_ordinary_photos(tmp_path):
    for n, width in enumerate((40, 40, 41)):
        Image.fromarray(np.zeros((20, width, 3), np.uint8)).save(tmp_path / f"{n}.png")
    assert note_of_pairs(ImageFolder(tmp_path, "train")) == ""
    (tmp_path / "2.png").unlink()
    assert "--pairs" in note_of_pairs(ImageFolder(tmp_path, "train"))


@pytest.mark.parametrize("names", [("trainImages", "testImages", "test"), ("x-train", "x-validate", "val")])
def test_names_of_splits_in_other_words(names):
    assert (split_named(names[0]), split_named(names[1])) == ("train", names[2])


@pytest.mark.parametrize("folders", [("A/train", "B/train"), ("train/A", "train/B"), ("A", "B")])
def test_pairs_given_as_photos_get_a_line(tmp_path, folders):
    images = ImageFolder(put(tmp_path, *(f"{folder}/{n}.png" for folder in folders for n in range(3))), "train")
    assert "A/ and B/ are how photos and labels are paired" in note_of_pairs(images)


def test_images_that_cannot_be_read_are_not_said_to_be_pairs(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(b"broken")
    assert note_of_pairs(ImageFolder(tmp_path, "train")) == ""
    Image.new("RGB", (12, 6)).save(tmp_path / "3.png")
    assert "exactly twice as wide as high" in note_of_pairs(ImageFolder(tmp_path, "train"))
