"""A completed photo keeps what the photo had; what a format cannot hold is said."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from common.errors import UserError
from common.imaging.photo_file import WRITABLE, fill, kept_suffix, open_photo, write_photo

HEIGHT, WIDTH = 24, 36
rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([rows * 9, columns * 7, 200 - rows * 4 - columns], axis=2).astype(np.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:rights="Ada"/></x:xmpmeta>"""
MADE = (200, 100, 50)  # what is filled in


def with_preview(exif: Image.Exif) -> bytes:
    """The EXIF with a preview behind it, as cameras write it: a second directory that points to a JPEG."""
    data = exif.tobytes()[6:]
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, first)
    link, place = first + 2 + 12 * count, len(data)
    preview = b"\xff\xd8 what was there before \xff\xd9"
    second = struct.pack(order + "H", 2)
    second += struct.pack(order + "HHII", 0x0201, 4, 1, place + 30) + struct.pack(
        order + "HHII", 0x0202, 4, 1, len(preview)
    )
    return b"Exif\0\0" + data[:link] + struct.pack(order + "I", place) + data[link + 4 :] + second + bytes(4) + preview


def camera() -> bytes:
    """A JPEG as a camera writes it: turned, with profile, EXIF, preview, resolution and XMP."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0100], exif[0x0101] = 6, "Maker", WIDTH, HEIGHT
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: WIDTH, 0xA003: HEIGHT}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    packet = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    options = {"exif": with_preview(exif), "icc_profile": PROFILE, "dpi": (300, 150), "quality": 90, "subsampling": 1}
    options["extra"] = b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(camera())
    assert b"what was there before" in camera()
    return open_photo(tmp_path / "photo.jpg")


def written(photo, path, made=MADE):
    mask = np.zeros(photo.image.shape[:2], bool)
    mask[8:16, 8:16] = True
    completed = photo.image.copy()
    completed[mask] = made
    return write_photo(path, photo, completed, mask), mask


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_what_a_camera_wrote_is_kept(opened, tmp_path, suffix):
    assert opened.image.shape == (WIDTH, HEIGHT, 3)  # upright
    lost, _ = written(opened, tmp_path / f"out{suffix}")
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert b"what was there before" not in data
    with Image.open(tmp_path / f"out{suffix}") as result:
        assert result.size == (HEIGHT, WIDTH) and result.info["icc_profile"] == PROFILE
        exif = result.getexif()
        assert exif.get(0x0112, 1) == 1 and exif[0x010F] == "Maker"
        assert exif.get(0x0100, HEIGHT) == HEIGHT  # a TIFF has its own
        details = dict(exif.get_ifd(0x8769))
        assert details[0x9003] == "2020:01:02 03:04:05"
        assert (details[0xA002], details[0xA003]) == (HEIGHT, WIDTH)
        assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 0.0)
        if suffix == ".webp":
            assert ".webp does not hold the photo's resolution" in lost
        else:
            assert [round(each) for each in result.info["dpi"]] == [150, 300]
    assert XMP.replace(b'"6"', b'"1"') in data
    again = open_photo(tmp_path / f"out{suffix}")
    assert again.image.shape == opened.image.shape and set(again.extras) >= {"profile", "EXIF", "XMP"}
    assert ("changes known pixels" in " ".join(lost)) == (suffix == ".jpg")


@pytest.mark.parametrize("chroma", [0, 1, 2])
def test_jpegs_keep_their_chroma_at_quality_95(tmp_path, chroma):
    Image.fromarray(RGB).save(tmp_path / "photo.jpg", quality=50, subsampling=chroma)
    Image.fromarray(RGB).save(tmp_path / "best.jpg", quality=95)
    written(open_photo(tmp_path / "photo.jpg"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as result, Image.open(tmp_path / "best.jpg") as best:
        assert JpegImagePlugin.get_sampling(result) == chroma and result.quantization == best.quantization


def test_floats_from_0_to_1_are_filled_to_the_last_bit(tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 0.3, np.float32)).save(tmp_path / "photo.tif")
    _, mask = written(open_photo(tmp_path / "photo.tif"), tmp_path / "out.tif")
    assert np.asarray(Image.open(tmp_path / "out.tif"))[mask][0] == pytest.approx(124 / 255, rel=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".ppm"])
def test_formats_without_loss_keep_known_pixels(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    lost, mask = written(open_photo(tmp_path / "photo.png"), tmp_path / f"out{suffix}")
    found = np.asarray(Image.open(tmp_path / f"out{suffix}").convert("RGB"))
    np.testing.assert_array_equal(found[~mask], RGB[~mask])
    assert (found[mask] == MADE).all() and not lost


def test_what_formats_do_not_hold_is_said(opened, tmp_path):
    """A line for each kind of loss, and no line where there is none."""
    deep = np.dstack([RGB.astype(np.uint16) * 257, np.full((HEIGHT, WIDTH), 40_000, np.uint16)])
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    photo = open_photo(tmp_path / "deep.png")
    for suffix, told in {
        ".jpg": ["holds 8 bits", "holds no transparency", "changes known pixels"],
        ".bmp": ["holds 8 bits", "holds no transparency"],
        ".ppm": ["holds 8 bits", "holds no transparency"],
        ".webp": ["holds 8 bits"],
        ".png": [],
        ".tif": [],
    }.items():
        lost, _ = written(photo, tmp_path / f"out{suffix}")
        assert len(lost) == len(told) and all(text in line for text, line in zip(told, lost, strict=True)), lost
    assert written(opened, tmp_path / "out.bmp")[0] == [".bmp does not hold the photo's EXIF, XMP, profile"]
    assert written(opened, tmp_path / "out.ppm")[0] == [".ppm does not hold the photo's EXIF, XMP, profile, resolution"]


def test_a_deep_png_keeps_the_rest_too(tmp_path):
    """OpenCV writes its pixels; Pillow finds the profile, EXIF, resolution and XMP in it."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"icc_profile": PROFILE, "exif": exif, "dpi": (300, 300), "pnginfo": text}
    Image.fromarray(RGB).save(tmp_path / "extras.png", **options)
    extras = open_photo(tmp_path / "extras.png").extras
    deep = RGB.astype(np.uint16) * 257 + 3
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    photo = open_photo(tmp_path / "deep.png")
    photo.extras.update(extras)
    _, mask = written(photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        result.load()
        assert result.info["icc_profile"] == PROFILE and round(result.info["dpi"][0]) == 300
        assert result.getexif()[0x010F] == "Maker" and b"Ada" in result.info["XML:com.adobe.xmp"].encode()
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(found[~mask], deep[~mask])
    assert (found[mask] == np.array(MADE) * 257).all()


def test_a_float_tiff_stays_one(tmp_path):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32) * 255
    Image.fromarray(values).save(tmp_path / "photo.tif")
    lost, mask = written(open_photo(tmp_path / "photo.tif"), tmp_path / "out.tif")
    found = np.asarray(Image.open(tmp_path / "out.tif"))
    np.testing.assert_array_equal(found[~mask], values[~mask])
    assert (
        found.dtype == np.float32 and (found[mask] == 124).all() and not lost
    )  # 0.299 x 200 + 0.587 x 100 + 0.114 x 50


def test_alpha_stays_except_where_the_photo_was_rubbed_out(tmp_path):
    alpha = np.where(columns < 12, 0, 128).astype(np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "photo.png")
    photo = open_photo(tmp_path / "photo.png")
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:8, 8:20] = True  # clear in part
    np.testing.assert_array_equal(fill(photo, photo.image, mask)[..., 3], alpha)
    for suffix in (".png", ".webp", ".tif"):  # colours under clear pixels, too
        write_photo(tmp_path / f"out{suffix}", photo, photo.image, mask)
        found = open_photo(tmp_path / f"out{suffix}").levels.values
        np.testing.assert_array_equal(found[~mask], photo.levels.values[~mask])
    mask[:, 12:] = False
    found = fill(photo, np.full_like(photo.image, 9), mask)
    assert (found[mask] == (9, 9, 9, 255)).all() and (found[~mask][:, 3] == alpha[~mask]).all()


def test_damaged_extras_are_left_out(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40)
    Image.fromarray(RGB).save(tmp_path / "photo.jpg", exif=exif, icc_profile=b"no profile")
    photo = open_photo(tmp_path / "photo.jpg")
    written(photo, tmp_path / "out.png")
    assert open_photo(tmp_path / "out.png").image.shape == (HEIGHT, WIDTH, 3)


def test_extras_that_a_format_cannot_take_are_said(tmp_path):
    """EXIF of a JPEG ends at 64 kB; a PNG's may be longer."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    Image.fromarray(RGB).save(tmp_path / "photo.png", exif=exif)
    photo = open_photo(tmp_path / "photo.png")
    assert not written(photo, tmp_path / "out.png")[0]
    lost, _ = written(photo, tmp_path / "out.jpg")
    assert "the photo's EXIF cannot be written to .jpg: left out" in lost
    assert open_photo(tmp_path / "out.jpg").image.shape == (HEIGHT, WIDTH, 3)


def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    photo = open_photo(tmp_path / "photo.png")
    (tmp_path / "out.png").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        written(photo, tmp_path / "out.png")
    with pytest.raises(UserError, match="must end in one of"):
        written(photo, tmp_path / "out.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "photo.png"]


def test_a_result_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """The disk is full: what was there before stays."""
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    photo = open_photo(tmp_path / "photo.png")
    written(photo, tmp_path / "out.png")
    before = (tmp_path / "out.png").read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot write .*out.png: No space left"):
        written(photo, tmp_path / "out.png", (1, 2, 3))
    assert (tmp_path / "out.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "photo.png"]


def test_which_formats_are_kept(tmp_path):
    assert kept_suffix(tmp_path / "a.JPG", "keep") == ".JPG" and kept_suffix(tmp_path / "a.jpg", "png") == ".png"
    assert kept_suffix(tmp_path / "a.gif", "keep") == kept_suffix(tmp_path / "a", "keep") == ".png"
    assert all(kept_suffix(tmp_path / f"a{suffix}", "keep") == suffix for suffix in WRITABLE)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_gamma_of_a_png_is_kept_where_it_is_not_the_usual_one(tmp_path, kind):
    data = cv2.imencode(".png", RGB.astype(kind))[1].tobytes()
    for gamma, kept in ((100_000, True), (45_455, False)):
        chunk = struct.pack(">I4sI", 4, b"gAMA", gamma)
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
        photo = open_photo(tmp_path / "a.png")
        assert not write_photo(tmp_path / "b.png", photo, photo.image, photo.image[..., 0] > 250)
        assert (chunk in (tmp_path / "b.png").read_bytes()) == kept
        lost = write_photo(tmp_path / "b.webp", photo, photo.image, photo.image[..., 0] > 250)
        assert any("gamma" in line for line in lost) == kept
