"""One reader for all images: what the numbers mean, what is corrupt, what would take all time or memory."""

import ast
import io
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from common.datasets.loader import Batches
from common.errors import UserError
from common.imaging import io as image_io
from common.imaging import limits
from common.imaging.io import read_image, read_levels
from data import prepare

ROOT = Path(__file__).parents[3]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(height: int = 480, width: int = 640) -> Image.Image:
    """Smooth colours and some noise, so that its JPEG has as many bytes as a photo's."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.medium
def test_nothing_else_opens_images():
    """Else a file is opened past the list of formats (EPS is a program), the limits, and what its numbers mean."""
    openers = {"imread", "imdecode", "imreadmulti", "imreadanimation", "decode_jpeg", "fromfile_image"}
    found = set()
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT)
        if place.parts[0] in ("tests", "benchmarks") or any(part.startswith(".") for part in place.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                opens = node.attr == "open" and ast.unparse(node.value).endswith("Image")
                if opens or node.attr in openers:
                    found.add(str(place))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("PIL.Image", "imageio")):
                found |= {str(place) for name in node.names if name.name in ("open", "imread")}
    assert found == {"common/imaging/io.py"}


# ---- what the numbers mean


def tiff(array: np.ndarray, photometric: int = 1, sample: int = 1, bits: int = 0, extra: tuple = ()) -> bytes:
    """A TIFF, not compressed, little-endian."""
    height, width, channels = (*array.shape, 1)[:3]
    data = array.tobytes()
    bits = bits or 8 * array.itemsize
    tags = [(256, width), (257, height), (259, 1), (262, photometric), (277, channels), (278, height), (279, len(data))]
    tags += [(339, sample), (258, bits), (273, 0), *extra]
    place = 8 + 2 + 12 * len(tags) + 4
    lines = b"".join(struct.pack("<HHII", tag, 4, 1, place if tag == 273 else value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + lines + bytes(4) + data


def levels(data: bytes) -> list:
    return read_image(data)[0, :, 0].tolist()


def test_a_largest_value_says_nothing():
    """Of a type's range, each value is the same brightness whatever stands beside it."""
    for largest in (255, 256, 1000, 65535):
        assert levels(tiff(np.array([[0, 128, largest]], np.uint16)))[:2] == [0, 0]
    assert levels(tiff(np.array([[0, 32768, 65535]], np.uint16))) == [0, 128, 255]
    assert levels(tiff(np.array([[0, 65535, 2**31, 2**32 - 1]], np.uint32))) == [0, 0, 128, 255]
    assert levels(tiff(np.array([[-(2**31), 0, 2**30, 2**31 - 1]], np.int32), sample=2)) == [0, 0, 128, 255]
    assert levels(tiff(np.array([[-32768, -1, 0, 16384, 32767]], np.int16), sample=2)) == [0, 0, 0, 128, 255]
    assert levels(tiff(np.array([[-128, 0, 64, 127]], np.int8), sample=2)) == [0, 0, 129, 255]
    assert levels(tiff(np.array([[0, 1, 255]], np.uint8))) == [0, 1, 255]


def test_where_white_is_zero():
    assert levels(tiff(np.array([[0, 16384, 65535]], np.uint16), photometric=0)) == [255, 191, 0]
    assert levels(tiff(np.array([[0, 100, 255]], np.uint8), photometric=0)) == [255, 155, 0]
    assert levels(tiff(np.array([[0, 0.25, 1]], np.float32), photometric=0, sample=3)) == [255, 191, 0]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_span_0_to_1_unless_most_are_above(kind):
    def read(values: list) -> tuple[list, str]:
        data = tiff(np.array([values], kind), sample=3)
        return levels(data), " ".join(read_levels(data).notes)

    assert read([0, 0.5, 1, 0.2]) == ([0, 128, 255, 51], "")
    found, note = read([0, 0.5, 0.2, 1.07])  # resizing overshoots
    assert found == [0, 128, 51, 255] and "outside 0..1" in note
    found, note = read([0, 0, 100, 255])
    assert found == [0, 0, 100, 255] and "taken as 0..255" in note
    found, note = read([0, 25700, 65535, 1])
    assert found == [0, 100, 255, 0] and "taken as 0..65535" in note
    assert read([np.nan, -np.inf, 0.2, np.inf])[0] == [0, 0, 51, 255]


def test_colour_of_16_bits_keeps_them(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (8, 9, 4), dtype=np.uint16)
    for channels in (3, 4):
        for suffix in (".png", ".tif"):
            data = cv2.imencode(suffix, deep[..., [2, 1, 0, 3][:channels]])[1].tobytes()
            found = read_levels(data)
            np.testing.assert_array_equal(found.values, deep[..., :channels])
            assert found.full == 65535
    np.testing.assert_array_equal(
        read_image(cv2.imencode(".png", deep[..., 2::-1])[1].tobytes()), np.rint(deep[..., :3] / 257)
    )


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_kind_is_turned_once(turn):
    """Pillow's own transposition of the same file says how."""
    exif = Image.Exif()
    exif[0x0112] = turn
    values = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
    way = [None, 0, 3, 1, 5, 4, 6, 2][turn - 1]  # Image.Transpose: flip left-right, 180, flip, transpose, 270 ...
    upright = values if way is None else np.asarray(Image.fromarray(values).transpose(Image.Transpose(way)))
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        found = read_image(saved(Image.fromarray(values).convert("RGB"), kind, exif=exif, **options))
        np.testing.assert_array_equal(found[..., 0], upright, err_msg=kind)
    jpeg = Image.fromarray(values).resize((64, 96), Image.Resampling.NEAREST)
    assert (
        np.abs(read_image(saved(jpeg, "JPEG", quality=100, exif=exif))[8::16, 8::16, 0].astype(int) - upright).max() < 4
    )
    deep = tiff(values.astype(np.uint16) * 257, extra=((274, turn),))
    np.testing.assert_array_equal(read_image(deep)[..., 0], upright)


def test_inks_and_lab():
    colours = photo(20, 30)
    inks = colours.convert("CMYK")
    np.testing.assert_array_equal(read_image(saved(inks, "TIFF")), np.asarray(inks.convert("RGB")))
    data = saved(inks, "JPEG", quality=100, subsampling=0)  # Adobe's, which stands for no ink as 255
    assert np.abs(read_image(data).astype(int) - np.asarray(colours)).max() < 12
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    data = saved(ImageCms.profileToProfile(colours, srgb, lab, outputMode="LAB"), "TIFF")
    assert np.abs(read_image(data).astype(int) - np.asarray(colours)).mean() < 3


def test_what_nothing_here_reads_is_named():
    colours = np.zeros((4, 5, 3), np.uint16)
    for data, told in (
        (tiff(np.zeros((4, 5), np.float16), sample=3), "1 x 16-bit float"),
        (tiff(colours, photometric=2, extra=((284, 2),)), "3 x 16-bit unsigned"),
        (tiff(np.zeros((4, 5, 4), np.uint16), photometric=5), "4 x 16-bit unsigned"),
    ):
        with pytest.raises(UserError, match=f"x.tif: a TIFF of {told} values, arranged"):
            read_image(data, "x.tif")


# ---- corrupt files

WAYS = {
    "missing": lambda data, at, size: data[:at] + data[at + size :],
    "zeroed": lambda data, at, size: data[:at] + bytes(size) + data[at + size :],
    "doubled": lambda data, at, size: data[: at + size] + data[at:],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{"quality": 92}, {"quality": 30}, {"quality": 90, "subsampling": 0}])
def test_damage_inside_a_jpeg_is_found(way, options):
    """4 kB anywhere behind the header, the end marker in place."""
    data = saved(photo(), "JPEG", **options)
    assert read_image(data).shape == (480, 640, 3)
    rng, first = random.Random(0), data.index(b"\xff\xda") + 14
    for _ in range(12):
        size = 4096
        damaged = WAYS[way](data, rng.randrange(first, len(data) - 2 - size), size)
        with pytest.raises(UserError, match="cannot read x.jpg: corrupt image"):
            read_image(damaged, "x.jpg")
        with pytest.raises(UserError, match="corrupt image"):
            image_io.decode(damaged, np.asarray, "x.jpg")


def test_verify_names_damaged_jpegs(tmp_path, capsys):
    data = saved(photo(), "JPEG", quality=92)
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "gap.jpg").write_bytes(WAYS["missing"](data, len(data) // 2, 4096))
    with pytest.raises(SystemExit):
        prepare.main(["verify", str(tmp_path)])
    told = "".join(capsys.readouterr())
    assert "gap.jpg" in told and "whole.jpg" not in told


def test_training_skips_and_counts_damaged_jpegs(tmp_path, capsys):
    data = saved(photo(64, 64), "JPEG", quality=92)
    for n in range(4):
        (tmp_path / f"{n}.jpg").write_bytes(data if n else WAYS["doubled"](data, len(data) // 2, 512))
    paths = sorted(tmp_path.iterdir())
    batches = Batches(4, lambda index, rng: (read_image(paths[index]),), batch_size=4, seed=0, workers=0)
    assert next(batches(0))[0].shape == (4, 64, 64, 3)
    assert list(batches.corrupt) == [0] and "0.jpg: corrupt image" in capsys.readouterr().err


def test_odd_but_whole_jpegs_are_read():
    data = saved(photo(64, 64), "JPEG", quality=92)
    image = read_image(data)
    film = np.random.default_rng(0).bytes(20_000_000)  # finds many starts of scans by chance
    for odd in (
        data + film,  # a film behind the photo
        data[:-2] + bytes(14) + data[-2:],  # padding
        data[:-2] + 9 * b"\xff" + data[-2:],
        data.replace(b"JFIF\0\1\1", b"JFIF\0\7\1"),
    ):
        np.testing.assert_array_equal(read_image(odd), image)
    with pytest.raises(UserError, match="corrupt"):
        read_image(data[:-2] + 4 * b"abc" + data[-2:])
    with pytest.raises(UserError, match="corrupt"):
        read_image(data[:-2])


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("compression", [1, 5, 8])  # none, LZW, deflate
def test_deep_tiffs_that_are_cut_short(kind, compression):
    values = (np.random.default_rng(0).random((60, 50, 3)) * (65535 if kind == np.uint16 else 1)).astype(kind)
    data = cv2.imencode(".tif", values, [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()
    whole = tiff(values, photometric=2, sample=1 if kind == np.uint16 else 3)  # its tags come first
    np.testing.assert_array_equal(read_levels(whole).values, values)
    for cut in (data[: len(data) // 2], whole[: len(whole) // 2], whole[:-1]):
        with pytest.raises(UserError, match="corrupt"):
            read_levels(cut, "x.tif")


def test_damage_inside_a_png_is_found():
    """By its checksums, which Pillow does not look at while it loads the pixels."""
    data = bytearray(saved(photo(64, 64), "PNG", compress_level=0))
    data[len(data) // 2] ^= 1
    with pytest.raises(UserError, match="corrupt image"):
        read_image(bytes(data), "x.png")


# ---- files that ask for much

CHILD = """
import sys, time
from benchmarks.worker import forget_peak, peak_megabytes
from common.errors import UserError
from common.imaging.io import read_levels
for path in sys.argv[1:]:
    forget_peak()
    before, start = peak_megabytes(), time.process_time()
    try:
        said = str(read_levels(path).values.shape)
    except UserError as problem:
        said = str(problem)
    print(path, round(time.process_time() - start, 1), int(peak_megabytes() - before), said, sep="\\t", flush=True)
"""


def scans(count: int) -> bytes:
    """A progressive JPEG of 2000 x 2000 px whose last scan is there again and again."""
    data = saved(Image.new("RGB", (2000, 2000), "red"), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def strips(count: int, bits: int) -> bytes:
    tags = [(256, 4, 1), (257, 4, count), (258, 4, bits), (259, 4, 1), (262, 4, 1), (277, 4, 1), (278, 4, 1)]
    lines = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    lines += struct.pack("<HHII", 273, 4, count, 200) + struct.pack("<HHII", 279, 4, count, 200)
    return b"II*\0" + struct.pack("<IH", 8, 9) + lines + bytes(200 - 118) + bytes(4 * count)


def frames(count: int) -> bytes:
    data = b"II*\0" + struct.pack("<I", 8)
    for number in range(count):
        tags = ((256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64))
        data += struct.pack("<H", 9) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data += struct.pack("<I", 8 + (number + 1) * 114 if number < count - 1 else 0)
    return data


def deep_png_with_a_profile_of_300_mb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(9)
    bomb = b"".join(packed.compress(bytes(10_000_000)) for _ in range(30)) + packed.flush()
    head, rows = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), zlib.compress(bytes(4 * 25))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each) for each in ((b"IHDR", head), (b"iCCP", b"a\0\0" + bomb), (b"IDAT", rows), (b"IEND", b""))
    )


def layers() -> bytes:
    """A JPEG 2000 that claims 65,535 quality layers."""
    data = bytearray(saved(photo(64, 64), "JPEG2000", no_jp2=True))
    at = data.index(b"\xff\x52")
    data[at + 6 : at + 8] = b"\xff\xff"
    return bytes(data)


SIDE = 14142  # of the largest square that is read


def png(width: int, height: int, rows: bytes, bits: int = 8, colours: int = 2, padding: int = 0) -> bytes:
    """A PNG that claims this size, and has these rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    pixels = zlib.compress(rows) + bytes(padding)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def large_scans(count: int) -> bytes:
    """A progressive JPEG that claims 200 megapixels, and is long enough for them."""
    size, large = struct.pack(">HH", 2000, 2000), struct.pack(">HH", SIDE, SIDE)
    return scans(count).replace(size, large, 1) + bytes(400_000)


ANIMATION = [Image.new("RGB", (8, 8), (n % 256, n // 256, 0)) for n in range(500)]
BOMBS = {
    "scans.jpg": (lambda: scans(1000), "more than 64 scans"),
    "large scans.jpg": (lambda: large_scans(10), "more than 16 scans"),
    "one row.png": (lambda: png(SIDE, SIDE, bytes(1 + 3 * SIDE)), "bytes cannot hold the 14142 x 14142 px"),
    "padded.png": (lambda: png(SIDE, SIDE, bytes(1 + 3 * SIDE), padding=600_000), "rows of its 14142 x 14142 px"),
    "one row of 16 bits.png": (lambda: png(SIDE, SIDE, bytes(1 + 6 * SIDE), 16, padding=30_000), "rows of its"),
    "claim.jpg": (lambda: large_scans(0)[:-390_000], "bytes cannot hold"),
    "claim.gif": (
        lambda: b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;",
        "bytes cannot hold",
    ),
    "claim.ppm": (lambda: b"P6 14142 14142 255\n" + bytes(50), "bytes cannot hold"),
    "strips.tif": (lambda: strips(2_000_000, 8), "2,000,000 values"),
    "deep strips.tif": (lambda: strips(2_000_000, 16), "2,000,000 values"),
    "most strips.tif": (lambda: strips(limits.MAX_TAG_VALUES, 8), "(100000, 1, 1)"),
    "frames.tif": (lambda: frames(20_000), "(8, 8, 1)"),
    "frames.gif": (
        lambda: b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + 1_000_000 * b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" + b";",
        "(1, 1, 3)",
    ),
    "frames.webp": (lambda: saved(ANIMATION[0], "WEBP", save_all=True, append_images=ANIMATION[1:]), "(8, 8, 3)"),
    "frames.png": (lambda: saved(ANIMATION[0], "PNG", save_all=True, append_images=ANIMATION[1:]), "(8, 8, 3)"),
    "profile.png": (deep_png_with_a_profile_of_300_mb, "corrupt image"),
    "layers.j2k": (layers, "64"),
}


@pytest.mark.medium
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read as Linux counts it")
def test_little_files_take_little_time_and_memory(tmp_path):
    for name, (make, _) in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    command = [sys.executable, "-c", CHILD, *(str(tmp_path / name) for name in BOMBS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    for line in ran.stdout.splitlines():
        path, seconds, memory, said = line.split("\t")
        assert float(seconds) < 20 and int(memory) < 300, line
        assert BOMBS[Path(path).name][1] in said, line
    assert len(ran.stdout.splitlines()) == len(BOMBS)


def test_as_many_scans_as_encoders_write():
    image = photo(64, 64)
    data = saved(image, "JPEG", progressive=True, quality=90)
    assert 8 <= len(limits.SCAN.findall(data)) <= 12
    assert np.abs(read_image(data).astype(int) - np.asarray(image)).mean() < 12


@pytest.mark.parametrize(("bits", "colours", "interlaced"), [(1, 0, 0), (8, 3, 0), (8, 2, 0), (16, 2, 0), (8, 6, 1)])
def test_flat_pngs_are_whole_until_a_row_is_missing(bits, colours, interlaced):
    """Such as masks, which are as small as a bomb is."""
    row = 1 + 3000 * bits * limits.SAMPLES[colours] // 8
    whole = png(3000, 3000, bytes(3000 * row + interlaced * 3000), bits, colours)
    if colours == 3:
        palette = b"PLTE" + bytes(3)
        whole = whole[:33] + struct.pack(">I", 3) + palette + struct.pack(">I", zlib.crc32(palette)) + whole[33:]
    if interlaced:
        head = whole[12:28] + b"\1"
        whole = whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]
    assert read_image(whole).shape == (3000, 3000, 3)
    with pytest.raises(UserError, match="rows of its 3000 x 3000 px are missing"):
        read_image(png(3000, 3000, bytes(3000 * row - 1), bits, colours))


def test_pillow_guards_what_is_opened_elsewhere(tmp_path):
    """Such as by Gradio, also after all of ours is imported."""
    assert 2 * Image.MAX_IMAGE_PIXELS == limits.MAX_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png(20_000, 20_000, b"")))


def test_limits_can_be_lower(tmp_path):
    """As on the page; each kind of decoder asks before it decodes."""
    deep = np.zeros((20, 30, 3), np.uint16)
    for name, data in {
        "x.jpg": saved(photo(20, 30), "JPEG"),
        "x.png": saved(photo(20, 30), "PNG"),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "deep.tif": cv2.imencode(".tif", deep)[1].tobytes(),
    }.items():
        assert read_image(data, name, max_pixels=600).shape == (20, 30, 3)
        with pytest.raises(UserError, match=f"{name} is 30 x 20 px; the limit is 599 pixels"):
            read_image(data, name, max_pixels=599)
        with pytest.raises(UserError, match="the limit is 599 pixels"):
            image_io.look(data, name, 599)


def test_what_becomes_of_odd_numbers_is_said():
    masks = np.array([[np.nan, 0.5], [1, -np.inf]], np.float32)
    found = read_levels(tiff(masks, sample=3))
    assert found.values[..., 0].tolist() == [[0, 0.5], [1, 0]]
    assert found.notes == ("values that are no numbers are black",)
    signed = read_levels(tiff(np.array([[0, 32767]], np.int16), sample=2))
    assert signed.values.ravel().tolist() == [0, 65535]
    assert signed.notes == ("signed values, of which 32,767 is white, become unsigned ones",)
    assert not read_levels(tiff(np.array([[0, 0.5]], np.float32), sample=3)).notes
