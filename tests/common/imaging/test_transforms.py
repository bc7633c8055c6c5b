"""Reading whatever people have, exact ranges, crops."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.imaging import grid, transforms
from common.imaging import io as image_io


@pytest.fixture
def colours():
    """20 x 30, smooth, so that JPEG keeps it within a few levels."""
    rows, columns = np.mgrid[0:20, 0:30]
    return np.stack([rows * 10, columns * 7, 200 - rows * 4 - columns], axis=2).astype(np.uint8)


def test_transparent_pixels_lie_on_white(tmp_path, colours):
    alpha = np.dstack([colours, np.zeros((20, 30), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "clear.png")
    assert (image_io.read_image(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_turned_by_exif_come_upright(tmp_path, colours, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(colours).save(
        tmp_path / f"turned.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {})
    )
    read = image_io.read_image(tmp_path / f"turned.{suffix}")
    assert np.abs(read.astype(int) - np.rot90(colours, -1)).max() <= 12


def test_the_fast_jpeg_path_equals_pillow(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (218, 178, 3), dtype=np.uint8)
    for subsampling in (0, 1, 2):
        data = io.BytesIO()
        image = cv2.GaussianBlur(noise, (5, 5), 1)
        Image.fromarray(image).save(data, "JPEG", quality=90, subsampling=subsampling, progressive=subsampling == 1)
        fast, plain = image_io.read_image(data.getvalue()), np.asarray(Image.open(data))
        assert np.abs(fast.astype(int) - plain).max() <= 3  # two builds of the same codec may round differently


def test_network_range_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    tensor = transforms.to_network(levels)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == np.float32
    assert tensor.min() == -1 and tensor.max() == 1
    np.testing.assert_array_equal(transforms.from_network(tensor), levels)
    np.testing.assert_array_equal(transforms.from_network(np.full((1, 3, 1, 1), 1.7, np.float32)), 255)


def test_crops_cut_the_named_boxes():
    """A 178 x 218 image whose pixels hold their own coordinates."""
    rows, columns = np.mgrid[0:218, 0:178].astype(np.uint8)
    image, rng = np.dstack([rows, columns, rows]), np.random.default_rng(0)
    square = transforms.crop_square(image, "square178", 178, rng)
    assert square[0, 0, 0] == 20 and square[-1, -1, 0] == 197 and square[-1, -1, 1] == 177
    face = transforms.crop_square(image, "center108", 108, rng)
    assert tuple(face[0, 0, :2]) == (55, 35) and tuple(face[-1, -1, :2]) == (162, 142)
    assert transforms.crop_square(image, "squash", 64, rng).shape == (64, 64, 3)
    half = transforms.crop_square(image[:109, :89], "center108", 54, rng)  # aligned faces at half the size
    assert tuple(half[0, 0, :2]) == (27, 17) and tuple(half[-1, -1, :2]) == (80, 70)
    whole = transforms.crop_square(image[:109, :89], "center", 89, rng)
    assert tuple(whole[0, 0, :2]) == (10, 0) and tuple(whole[-1, -1, :2]) == (98, 88)
    other = transforms.crop_square(image[:100, :89], "center108", 89, rng)  # not of their shape: nothing is known of it
    assert tuple(other[0, 0, :2]) == (5, 0) and tuple(other[-1, -1, :2]) == (93, 88)


@pytest.mark.parametrize("crop, size, largest", [("random160", 160, 178), ("random", 256, 384)])
def test_random_crops_follow_the_paper(crop, size, largest):
    """Short side uniform in size..largest (read off the horizontal gradient's slope), then any square of it."""
    image = np.zeros((436, 356, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 255, 356).astype(np.uint8)
    slopes = []
    for seed in range(150):
        cut = transforms.crop_square(image, crop, size, np.random.default_rng(seed))
        assert cut.shape == (size, size, 3)
        slopes.append(255 / ((int(cut[5, -3, 0]) - int(cut[5, 2, 0])) / (size - 5)))
    assert min(slopes) == pytest.approx(size, rel=0.04) and max(slopes) == pytest.approx(largest, rel=0.04)


def test_grid_places_cells_where_it_says():
    red, blue = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = grid.grid([[red, blue]], gap_px=2, cell_px=8)
    assert sheet.shape == (12, 22, 3)
    assert (sheet[2:10, 2:10] == [255, 0, 0]).all() and (sheet[2:10, 12:20] == [0, 0, 255]).all()


def test_writing_where_one_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        image_io.write_image(tmp_path / "file/x.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="must end in"):
        image_io.write_image(tmp_path / "x.docx", np.zeros((4, 4, 3), np.uint8))


@pytest.mark.realdata
def test_real_faces_read_alike_both_ways():
    if "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder with real images")
    for path in sorted(Path(os.environ["SUITE_DATA"], "celeba/img_align_celeba").glob("*.jpg"))[:20]:
        plain = np.asarray(Image.open(path).convert("RGB"))
        assert np.abs(image_io.read_image(path).astype(int) - plain).max() <= 3
