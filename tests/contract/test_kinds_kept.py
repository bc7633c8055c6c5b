"""What the photo was, the result is: known pixels bit for bit, through the papers' commands, for every kind of file."""

import importlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.imaging.io import read_image

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]
PAPERS = {
    "glcic": ["--blend", "poisson"],
    "deepfill": [],
    "context_encoder": [],
    "dcgan_completion": ["--steps", "2", "--restarts", "1"],
}
BUNDLED = {paper: f"{paper}_faces" for paper in PAPERS} | {"dcgan_completion": "dcgan_faces"}
SIDE = 32
MASK = np.zeros((SIDE, SIDE), bool)
MASK[10:22, 10:22] = True  # square, so that a photo that is turned has it in the same place

rows, columns = np.mgrid[0:SIDE, 0:SIDE]
DEEP = (rows * 1400 + columns * 600 + (rows * columns) % 251).astype(np.uint16)  # 16 bits, all of them used
GREY = (DEEP >> 8).astype(np.uint8)
LIGHT = 255 - GREY // 2
RGB = np.stack([GREY, GREY.T, 255 - GREY], axis=2)
ALPHA = np.where(rows < 4, 0, np.where(rows < 6, 128, 255)).astype(np.uint8)
DEEP_RGB = np.stack([DEEP, DEEP.T, 65535 - DEEP], axis=2)


def saved(array: np.ndarray, kind: str, mode: str = "", **options) -> bytes:
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def opencv(suffix: str, array: np.ndarray) -> bytes:
    array = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
    return cv2.imencode(suffix, array)[1].tobytes()


def tiff(array: np.ndarray, photometric: int = 1, sample: int = 1, order: str = "<") -> bytes:
    """A grey TIFF, not compressed."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    tags = [(256, SIDE), (257, SIDE), (258, 8 * array.itemsize), (259, 1), (262, photometric), (273, 134)]
    tags += [(277, 1), (278, SIDE), (279, len(data)), (339, sample)]
    lines = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags)) + lines + bytes(4) + data


def bmp32() -> bytes:
    """32 bits with a mask for alpha, and fourth bytes of 0, as screenshots have them."""
    pixels = np.dstack([RGB[::-1, :, ::-1], np.zeros((SIDE, SIDE), np.uint8)]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    return saved(RGB, "PNG", exif=exif)


palette = Image.fromarray(RGB).quantize(64)
clear = palette.getpixel((0, 0))
clear_file = io.BytesIO()
palette.save(clear_file, "PNG", transparency=clear)
inks = Image.fromarray(RGB).convert("CMYK")
PALETTE = np.asarray(palette.convert("RGB"))
PALETTE_ALPHA = np.where(np.asarray(palette) == clear, 0, 255).astype(np.uint8)

# name -> (file, the known pixels that its completed PNG has)
KINDS = {
    "grey.png": (saved(GREY, "PNG"), GREY),
    "grey and alpha.png": (saved(np.dstack([GREY, ALPHA]), "PNG"), np.dstack([GREY, ALPHA])),
    "palette.png": (saved(RGB, "PNG", "P"), np.asarray(Image.fromarray(RGB).convert("P").convert("RGB"))),
    "palette and alpha.png": (clear_file.getvalue(), np.dstack([PALETTE, PALETTE_ALPHA])),
    "colour.png": (saved(RGB, "PNG"), RGB),
    "colour and alpha.png": (saved(np.dstack([RGB, ALPHA]), "PNG"), np.dstack([RGB, ALPHA])),
    "turned.png": (turned(), np.rot90(RGB, -1)),
    "16-bit grey.png": (opencv(".png", DEEP), DEEP),
    "16-bit colour.png": (opencv(".png", DEEP_RGB), DEEP_RGB),
    "16-bit alpha.png": (opencv(".png", np.dstack([DEEP_RGB, DEEP])), np.dstack([DEEP_RGB, DEEP])),
    "black and white.png": (saved(LIGHT, "PNG", "1"), np.asarray(Image.fromarray(LIGHT).convert("1")) * np.uint8(255)),
    "16-bit.tif": (tiff(DEEP), DEEP),
    "16-bit to 255.tif": (tiff(GREY.astype(np.uint16)), GREY.astype(np.uint16)),
    "16-bit to 256.tif": (tiff(GREY.astype(np.uint16) + 1), GREY.astype(np.uint16) + 1),
    "16-bit big-endian.tif": (tiff(DEEP, order=">"), DEEP),
    "16-bit white is 0.tif": (tiff(65535 - DEEP, photometric=0), DEEP),
    "16-bit signed.tif": (
        tiff(DEEP.astype(np.int32).__sub__(20000).astype(np.int16), sample=2),
        np.rint((DEEP.astype(float) - 20000).astype(np.int16).clip(0) * (65535 / 32767)).astype(np.uint16),
    ),
    "32-bit.tif": (tiff(DEEP.astype(np.uint32) * 65537), DEEP),
    "float.tif": (tiff((DEEP / 65535).astype(np.float32), sample=3), DEEP),
    "float to 255.tif": (tiff(DEEP.astype(np.float32) / 257, sample=3), DEEP),
    "16-bit colour.tif": (opencv(".tif", DEEP_RGB), DEEP_RGB),
    "float colour.tif": (opencv(".tif", (DEEP_RGB / 65535).astype(np.float32)), DEEP_RGB),
    "CMYK.tif": (saved(RGB, "TIFF", "CMYK"), np.asarray(inks.convert("RGB"))),
    "CMYK.jpg": (saved(RGB, "JPEG", "CMYK"), None),
    "grey.jpg": (saved(GREY, "JPEG"), None),
    "colour.jpg": (saved(RGB, "JPEG"), None),
    "colour.bmp": (saved(RGB, "BMP"), RGB),
    "empty fourth bytes.bmp": (bmp32(), RGB),
    "colour.webp": (saved(RGB, "WEBP", lossless=True), RGB),
    "palette.gif": (saved(RGB, "GIF"), None),
}


def infer(paper: str, *arguments) -> None:
    weights = ROOT / "weights" / f"{BUNDLED[paper]}.safetensors"
    command = ["--weights", weights, "--disable-cpu-layers", "--device", "cpu", *PAPERS[paper], *arguments]
    importlib.import_module(f"{paper}.infer").main([str(each) for each in command])


def check(source: Path, result: Path) -> None:
    """The result has the photo's kind, its known pixels bit for bit, and something else in the hole."""
    expected = KINDS[source.name][1]
    if expected is None:  # as Pillow decodes it
        expected = np.asarray(Image.open(source).convert("L" if source.stem == "grey" else "RGB"))
    found = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
    found = found if found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]]
    if expected.ndim == 3 and expected.shape[2] == 2:  # which OpenCV does not know
        assert Image.open(result).mode == "LA"
        found = np.asarray(Image.open(result))
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_equal(found[~MASK], expected[~MASK])
    if expected.ndim == 3 and expected.shape[2] in (2, 4):
        np.testing.assert_array_equal(found[..., -1], expected[..., -1])
    assert (found[MASK] != expected[MASK]).any()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for name, (data, _) in KINDS.items():
        (folder / "photos").mkdir(exist_ok=True)
        (folder / "photos" / name).write_bytes(data)
    Image.fromarray(MASK).save(folder / "mask.png")
    return folder


@pytest.mark.parametrize("paper", PAPERS)
def test_known_pixels_of_every_kind_in_a_folder(photos, tmp_path, capsys, paper):
    infer(paper, "--input", photos / "photos", "--mask", photos / "mask.png", "--output", tmp_path / "out")
    told = capsys.readouterr().out
    assert f"{len(KINDS)} completed, 0 skipped, 0 failed" in told
    results = {path.name: path for path in (tmp_path / "out").glob("*.png") if "search-" not in path.name}
    assert len(results) == len(KINDS)
    for name in KINDS:
        check(photos / "photos" / name, results.get(f"{name}.png") or results[f"{Path(name).stem}.png"])
    for note in (
        "14 photos: known pixels keep more than 8 bits, what is filled in has 8",
        "its palette becomes full colour",
        "black and white becomes grey",
        "CMYK becomes RGB",
        "floats, most of them above 1, are taken as 0..255",
        "values below 0 are black",
        "all fourth bytes are 0 and taken as padding",
    ):
        assert told.count(note) == 1, (note, told)


@pytest.mark.parametrize("name", KINDS)
def test_known_pixels_of_every_kind_as_a_single_photo(photos, tmp_path, name):
    paper = [*PAPERS][[*KINDS].index(name) % 3]
    source = photos / "photos" / name
    infer(paper, "--input", source, "--mask", photos / "mask.png", "--output", tmp_path / "out.png")
    check(source, tmp_path / "out.png")


def test_a_grey_photo_in_a_colour_file_is_filled_with_grey(photos, tmp_path):
    """So is one whose hole hides colour."""
    colours = GREY[:, :, None].repeat(3, 2)
    colours[15, 15] = (255, 0, 0)
    Image.fromarray(colours).save(tmp_path / "in.png")
    infer("glcic", "--input", tmp_path / "in.png", "--mask", photos / "mask.png", "--output", tmp_path / "out.png")
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert found.shape == (SIDE, SIDE, 3) and (found == found[..., :1]).all()


def test_formats_are_kept_on_request(tmp_path, capsys):
    """JPEG stays JPEG with its chroma; what is not written, such as GIF, becomes PNG."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.JPG").write_bytes(saved(RGB, "JPEG", subsampling=1, quality=60))
    for name in ("b.tif", "c.gif", "d.webp"):
        (photos / name).write_bytes(saved(RGB, {"tif": "TIFF"}.get(name[2:], name[2:].upper())))
    infer("glcic", "--input", photos, "--mask", "center", "--output", tmp_path / "out", "--format", "keep")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"a.JPG", "b.tif", "c.png", "d.webp"}
    for name, kind in (("a.JPG", "JPEG"), ("b.tif", "TIFF"), ("c.png", "PNG"), ("d.webp", "WEBP")):
        with Image.open(tmp_path / "out" / name) as result:
            assert result.format == kind
    assert (read_image(tmp_path / "out/b.tif")[0] == RGB[0]).all()
    assert "changes known pixels" in capsys.readouterr().out
