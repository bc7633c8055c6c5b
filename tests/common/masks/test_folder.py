"""Which mask belongs to which photo: by path, by name, by the suffixes people use; and what is left to the user."""

import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from common.errors import UserError
from common.imaging.io import write_image
from common.inpainting import folder_run, mask_source, photos
from common.masks.folder import match_masks


def match(photo_names, mask_names):
    paths = [[PurePosixPath(name) for name in names] for names in (photo_names, mask_names)]
    return {str(photo): str(mask) for photo, mask in match_masks(*paths).items()}


@pytest.mark.parametrize(
    "photo, mask",
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg", "a.png"),
        ("a.jpg", "a.jpg.png"),
        ("a.jpg", "a.jpg_mask.png"),
        ("a.jpg", "a_mask.png"),
        ("a.jpg", "a_mask001.png"),
        ("a.jpg", "a-mask.png"),
        ("a.jpg", "a.mask.png"),
        ("a.jpg", "a mask.png"),
        ("a.jpg", "a_masks.png"),
        ("a.jpg", "a_mask_1.png"),
        ("a.jpg", "a_MASK.PNG"),
        ("a.jpg", "mask_a.png"),
        ("a.jpg", "mask-a.png"),
        ("IMG_1.JPG", "img_1.png"),
        ("sub/a.jpg", "sub/a.png"),
        ("sub/a.jpg", "sub/a_mask.png"),
        ("sub/a.jpg", "a.png"),
        ("a.jpg", "deep/below/a.png"),
        ("a.jpg", "deep/below/a_mask.png"),
        ("my_mask_1.jpg", "my_mask_1.png"),
        ("v1.2.final.jpg", "v1.2.final.png"),
    ],
)
def test_names_that_belong_together(photo, mask):
    others = ["other.png", "b_mask.png", "aa.png", "sub/other.png"]
    assert match([photo, "other.jpg"], [mask, *others])[photo] == mask


@pytest.mark.parametrize("mask", ["aa.png", "a1.png", "a_b.png", "a_masked.png", "amask.png", "b_mask.png", "mask.png"])
def test_names_that_do_not(mask):
    assert match(["a.jpg"], [mask]) == {"a.jpg": ""}


def test_equal_names_in_different_folders_keep_to_their_folders():
    names = ["x/1.png", "y/1.png"]
    assert match(names, names) == {name: name for name in names}
    assert match(names, ["x/1_mask.png", "y/1.png"]) == {"x/1.png": "x/1_mask.png", "y/1.png": "y/1.png"}


def test_the_mask_of_another_photo_is_never_taken():
    found = match(["x/1.png", "y/1.png"], ["x/1.png"])
    assert found["x/1.png"] == "x/1.png" and "may be that of y/1.png or of x/1.png" in found["y/1.png"]
    found = match(["x/1.png", "y/1.png"], ["1.png"])
    assert all("the mask 1.png may be that of" in told for told in found.values())
    found = match(["a.jpg", "a.png"], ["a.png"])
    assert found["a.png"] == "a.png" and "may be that of a.jpg or of a.png" in found["a.jpg"]
    assert match(["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]) == {"a.jpg": "a.jpg.png", "a.png": "a.png.png"}


def test_the_surer_way_wins():
    """By path before by suffix, by suffix in the same folder before by name elsewhere."""
    assert match(["a.png"], ["a.png", "a_mask.png", "x/a.png"]) == {"a.png": "a.png"}
    assert match(["x/a.png"], ["x/a_mask.png", "a.png"]) == {"x/a.png": "x/a_mask.png"}
    assert match(["x/a.png"], ["a.png", "a_mask.png"]) == {"x/a.png": "a.png"}


@pytest.mark.parametrize(
    "photo, masks",
    [
        ("a.png", ["a_mask001.png", "a_mask002.png"]),
        ("a.bmp", ["a.jpg", "a.png"]),
        ("a.png", ["x/a.png", "y/a.png"]),
        ("a.png", ["a-mask.png", "mask_a.png"]),
    ],
)
def test_several_that_fit_are_listed(photo, masks):
    told = match([photo], masks)[photo]
    assert told.startswith(f"2 masks may be that of {photo}: {masks[0]}, {masks[1]};")
    many = match(["a.png"], [f"a_mask{n}.png" for n in range(9)])["a.png"]
    assert many.startswith("9 masks") and "a_mask4.png, …" in many and "a_mask5" not in many


def test_case_tells_apart_only_where_it_must():
    assert match(["A.png", "a.png"], ["a.png", "A.png"]) == {"A.png": "A.png", "a.png": "a.png"}
    assert match(["A.png"], ["a.png"]) == {"A.png": "a.png"}
    assert match(["a.png", "A.png"], ["a.png"])["a.png"] == "a.png"


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("end", ["", "_mask"])
def test_names_are_equal_composed_and_decomposed(form, other, end):
    photo = unicodedata.normalize(form, "Müller/café.jpg")
    mask = unicodedata.normalize(other, f"Müller/café{end}.png")
    assert photo != mask.replace(end + ".png", ".jpg") and match([photo], [mask]) == {photo: mask}


# ---- in folders

IMAGE = np.zeros((20, 30, 3), np.uint8)


def draw(path, left):
    pixels = np.zeros((20, 30), np.uint8)
    pixels[5:10, left : left + 5] = 255
    write_image(path, pixels)
    return pixels > 0


def test_the_folder_is_read_once(tmp_path, monkeypatch):
    masks = {n: draw(tmp_path / f"masks/{n}_mask.png", n) for n in range(20)}
    for n in masks:
        write_image(tmp_path / f"in/{n}.jpg", IMAGE)
    looked, look = [], mask_source.photos_in
    monkeypatch.setattr(mask_source, "photos_in", lambda folder, *rest: looked.append(folder) or look(folder, *rest))
    find_mask = mask_source.Masks(str(tmp_path / "masks"), tmp_path / "in")
    for n, mask in masks.items():
        np.testing.assert_array_equal(find_mask(tmp_path / f"in/{n}.jpg", IMAGE), mask)
    assert looked == [tmp_path / "in", tmp_path / "masks"]


def test_a_photo_alone_takes_the_mask_of_its_name(tmp_path):
    write_image(tmp_path / "in/sub/a.jpg", IMAGE)
    mask = draw(tmp_path / "masks/a_mask.png", 3)
    draw(tmp_path / "masks/b.png", 9)
    np.testing.assert_array_equal(photos.mask_for(tmp_path / "in/sub/a.jpg", IMAGE, str(tmp_path / "masks")), mask)
    draw(tmp_path / "masks/other/a_mask.png", 9)
    np.testing.assert_array_equal(photos.mask_for(tmp_path / "in/sub/a.jpg", IMAGE, str(tmp_path / "masks")), mask)
    draw(tmp_path / "masks/a_mask2.png", 9)
    with pytest.raises(UserError, match="2 masks may be that of a.jpg: a_mask.png, a_mask2.png"):
        photos.mask_for(tmp_path / "in/sub/a.jpg", IMAGE, str(tmp_path / "masks"))


def test_masks_beside_their_photos_are_no_photos(tmp_path):
    """image1.png and image1_mask001.png in one folder, as LaMa wants them."""
    masks = {n: draw(tmp_path / f"image{n}_mask001.png", n) for n in (1, 2)}
    for n in masks:
        write_image(tmp_path / f"image{n}.png", IMAGE + np.uint8(n))
    find_mask = mask_source.Masks(str(tmp_path), tmp_path)
    for n, mask in masks.items():
        np.testing.assert_array_equal(find_mask(tmp_path / f"image{n}.png", IMAGE + np.uint8(n)), mask)
    told = []
    found = folder_run.photos_in(tmp_path, None, str(tmp_path), told.append)
    assert [path.name for path in found] == ["image1.png", "image2.png"]
    assert told == [f"note: 2 images are passed over: {tmp_path} is the masks of this command"]
    np.testing.assert_array_equal(
        photos.mask_for(tmp_path / "image1.png", IMAGE + np.uint8(1), str(tmp_path)), masks[1]
    )


def test_a_mask_that_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(UserError, match="there is no mask .*nowhere"):
        mask_source.Masks(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(UserError, match="there is no mask named a in"):
        mask_source.Masks(str(tmp_path), Path("a.png")).file(Path("a.png"))
