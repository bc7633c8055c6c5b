"""Reading whatever people have, exact ranges, crops."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common import images
from common.errors import UserError


@pytest.fixture
def colours():
    """20 x 30, smooth, so that JPEG keeps it within a few levels."""
    rows, columns = np.mgrid[0:20, 0:30]
    return np.stack([rows * 10, columns * 7, 200 - rows * 4 - columns], axis=2).astype(np.uint8)


def test_every_common_kind_of_file_reads_as_rgb(tmp_path, colours):
    grey = colours[..., 0]
    deep = grey.astype(np.uint16) * 257
    alpha = np.dstack([colours, np.full((20, 30), 255, np.uint8)])
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(colours).quantize(256).save(tmp_path / "palette.png")
    Image.fromarray(colours).save(tmp_path / "rgb.bmp")
    Image.fromarray(colours).save(tmp_path / "rgb.jpg", quality=95)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(colours).save(tmp_path / "rgb.webp", lossless=True)
    for name, expected, tolerance in [
        ("rgb.png", colours, 0),
        ("grey.png", np.dstack([grey] * 3), 0),
        ("alpha.png", colours, 0),
        ("deep.png", np.dstack([grey] * 3), 0),
        ("palette.png", colours, 16),
        ("rgb.bmp", colours, 0),
        ("rgb.jpg", colours, 12),
        ("cmyk.jpg", colours, 12),
        ("rgb.webp", colours, 0),
    ]:
        read = images.read_image(tmp_path / name)
        assert read.dtype == np.uint8 and read.shape == (20, 30, 3), name
        assert np.abs(read.astype(int) - expected).max() <= tolerance, name


def test_transparent_pixels_lie_on_white(tmp_path, colours):
    alpha = np.dstack([colours, np.zeros((20, 30), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "clear.png")
    assert (images.read_image(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_turned_by_exif_come_upright(tmp_path, colours, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(colours).save(
        tmp_path / f"turned.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {})
    )
    read = images.read_image(tmp_path / f"turned.{suffix}")
    assert np.abs(read.astype(int) - np.rot90(colours, -1)).max() <= 12


def test_the_fast_jpeg_path_equals_pillow(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (218, 178, 3), dtype=np.uint8)
    for subsampling in (0, 1, 2):
        data = io.BytesIO()
        picture = cv2.GaussianBlur(noise, (5, 5), 1)
        Image.fromarray(picture).save(data, "JPEG", quality=90, subsampling=subsampling, progressive=subsampling == 1)
        fast, plain = images.read_image(data.getvalue()), np.asarray(Image.open(data))
        assert np.abs(fast.astype(int) - plain).max() <= 3  # two builds of the same codec may round differently


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.999])
def test_truncated_jpegs_are_errors(tmp_path, colours, keep):
    data = io.BytesIO()
    Image.fromarray(colours.repeat(10, 0).repeat(10, 1)).save(data, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data.getvalue()[: int(keep * len(data.getvalue()))])
    with pytest.raises(UserError, match="cut.jpg"):
        images.read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xd9", b"<html>\xff\xd9"])
def test_what_is_no_picture_is_one_clear_error(tmp_path, content):
    (tmp_path / "text.jpg").write_bytes(content)
    with pytest.raises(UserError, match="text.jpg"):
        images.read_image(tmp_path / "text.jpg")
    with pytest.raises(UserError, match="missing.jpg"):
        images.read_image(tmp_path / "missing.jpg")


def test_decompression_bombs_are_refused(monkeypatch, tmp_path, colours):
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    for suffix in ("jpg", "png"):
        Image.fromarray(colours).save(tmp_path / f"large.{suffix}")
        with pytest.raises(UserError, match="30 x 20 px"):
            images.read_image(tmp_path / f"large.{suffix}")


def test_network_range_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    tensor = images.to_network(levels)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == np.float32
    assert tensor.min() == -1 and tensor.max() == 1
    np.testing.assert_array_equal(images.from_network(tensor), levels)
    np.testing.assert_array_equal(images.from_network(np.full((1, 3, 1, 1), 1.7, np.float32)), 255)


def test_crops_cut_the_named_boxes():
    """A 178 x 218 picture whose pixels hold their own coordinates."""
    rows, columns = np.mgrid[0:218, 0:178].astype(np.uint8)
    picture, rng = np.dstack([rows, columns, rows]), np.random.default_rng(0)
    square = images.crop_square(picture, "square178", 178, rng)
    assert square[0, 0, 0] == 20 and square[-1, -1, 0] == 197 and square[-1, -1, 1] == 177
    face = images.crop_square(picture, "center108", 108, rng)
    assert tuple(face[0, 0, :2]) == (55, 35) and tuple(face[-1, -1, :2]) == (162, 142)
    assert images.crop_square(picture, "squash", 64, rng).shape == (64, 64, 3)
    half = images.crop_square(picture[:109, :89], "center108", 54, rng)  # aligned faces at half the size
    assert tuple(half[0, 0, :2]) == (27, 17) and tuple(half[-1, -1, :2]) == (80, 70)
    whole = images.crop_square(picture[:109, :89], "center", 89, rng)
    assert tuple(whole[0, 0, :2]) == (10, 0) and tuple(whole[-1, -1, :2]) == (98, 88)
    other = images.crop_square(picture[:100, :89], "center108", 89, rng)  # not of their shape: nothing is known of it
    assert tuple(other[0, 0, :2]) == (5, 0) and tuple(other[-1, -1, :2]) == (93, 88)


@pytest.mark.parametrize("crop, size, largest", [("random160", 160, 178), ("random", 256, 384)])
def test_random_crops_follow_the_paper(crop, size, largest):
    """Short side uniform in size..largest (read off the horizontal gradient's slope), then any square of it."""
    picture = np.zeros((436, 356, 3), np.uint8)
    picture[:, :, 0] = np.linspace(0, 255, 356).astype(np.uint8)
    slopes = []
    for seed in range(150):
        cut = images.crop_square(picture, crop, size, np.random.default_rng(seed))
        assert cut.shape == (size, size, 3)
        slopes.append(255 / ((int(cut[5, -3, 0]) - int(cut[5, 2, 0])) / (size - 5)))
    assert min(slopes) == pytest.approx(size, rel=0.04) and max(slopes) == pytest.approx(largest, rel=0.04)


def test_grid_places_cells_where_it_says():
    red, blue = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = images.grid([[red, blue]], gap_px=2, cell_px=8)
    assert sheet.shape == (12, 22, 3)
    assert (sheet[2:10, 2:10] == [255, 0, 0]).all() and (sheet[2:10, 12:20] == [0, 0, 255]).all()


def test_writing_where_one_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        images.write_image(tmp_path / "file/x.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="must end in"):
        images.write_image(tmp_path / "x.docx", np.zeros((4, 4, 3), np.uint8))


@pytest.mark.realdata
def test_real_faces_read_alike_both_ways():
    if "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder with real pictures")
    for path in sorted(Path(os.environ["SUITE_DATA"], "celeba/img_align_celeba").glob("*.jpg"))[:20]:
        plain = np.asarray(Image.open(path).convert("RGB"))
        assert np.abs(images.read_image(path).astype(int) - plain).max() <= 3
