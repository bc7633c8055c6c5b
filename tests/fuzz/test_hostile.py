"""Files made to do harm: each ends in one line, in little memory and time; nothing is run, nothing written elsewhere.

What might take all memory, crash or never end is read by a process of its own, which has little of everything.
"""

import contextlib
import gzip
import importlib
import importlib.util
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.checkpoint.state import load_state, save_state
from common.checkpoint.weights import save_weights
from common.convert.tensorflow_checkpoints import read_checkpoint
from common.convert.torch_files import read_published
from common.datasets.celeba import CelebA, read_partition
from common.datasets.paired_images import open_pairs
from common.errors import UserError
from common.imaging import folders, limits, transforms
from common.imaging import io as image_io
from common.masks import irregular
from common.masks import reader as mask_reader
from data import prepare
from tests.helpers import module

import paddle

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, pipes and devices are Linux's"),
]

TESTS = Path(__file__).parents[1]
PAPERS = ("glcic", "pix2pix", "deepfill", "context_encoder", "dcgan_completion")
LIMIT_MB = 300  # a process that has read nothing yet takes 30 to 120


files = module(TESTS / "glcic" / "fixtures" / "published_files.py")

CHILD = """
import resource, sys
from pathlib import Path
from common.errors import UserError
{start}
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
for path in sys.argv[1:]:
    try:
        read(Path(path))
        said = "read"
    except UserError as problem:
        said = str(problem)
    print(path, said, sep="\\t", flush=True)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def said_by_child(start: str, *paths: Path, **environment: str) -> dict[str, str]:
    """What a process of 2 GB of addresses and 30 s of work says of each file, by name: `read`, or the UserError.

    Args:
        start: Python code that defines `read`, to be called with a path.
    """
    command = [sys.executable, "-c", CHILD.format(start=start), *map(str, paths)]
    environment = {**os.environ, **environment}
    ran = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, (ran.returncode, ran.stderr[-2000:], ran.stdout)
    *lines, peak_kb = ran.stdout.splitlines()
    assert len(lines) == len(paths) and int(peak_kb) < LIMIT_MB * 1024, ran.stdout
    return {Path(path).name: said for path, _, said in (line.partition("\t") for line in lines)}


READERS = {
    "picture": "from common.imaging.io import read_image as read",
    "hole": "from common.masks.reader import read_mask as read",
    "class map": "from common.masks.irregular import open_shapes\nread = lambda path: open_shapes(path.parent)",
}


def refused(work, *told: str) -> str:
    with pytest.raises(UserError) as problem:
        work()
    line = str(problem.value)
    assert "\n" not in line and all(part in line for part in told), line
    return line


# ---- images


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"", rows: bytes = bytes(52)) -> bytes:
    """A PNG of 8-bit RGB that claims this size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int], data: bytes = bytes(16)) -> bytes:
    """A TIFF of these tags, all of 32 bit; the value of 273 or 324 becomes the data's place."""
    place = 8 + 2 + 12 * len(tags) + 4
    lines = [struct.pack("<HHII", tag, 4, 1, place if tag in (273, 324) else value) for tag, value in sorted(tags)]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(lines) + bytes(4) + data


def grey(width: int, height: int) -> list[tuple[int, int]]:
    return [(256, width), (257, height), (258, 8), (262, 1), (277, 1)]


def strip(width: int, height: int, compression: int) -> bytes:
    return tiff(*grey(width, height), (259, compression), (273, 0), (278, height), (279, 16))


def tile(compression: int) -> bytes:
    """64 x 64 px, in a tile of 60,000 x 60,000."""
    return tiff(*grey(64, 64), (259, compression), (322, 60_000), (323, 60_000), (324, 0), (325, 16))


def giant_jpeg(width: int, height: int) -> bytes:
    """A JPEG of 8 x 8 px that claims this size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    before, frame, after = buffer.getvalue().partition(b"\xff\xc0\0\x11\x08")
    return before + frame + struct.pack(">HH", height, width) + after[4:]


GIANTS = {  # headers of 60,000 x 60,000 px, and next to nothing behind them
    "png": png(60_000, 60_000),
    "tif": strip(60_000, 60_000, 1),
    "lzw.tif": strip(60_000, 60_000, 5),
    "bmp": b"BM" + struct.pack("<IIIIiiHH24x", 54, 0, 54, 40, 60_000, 60_000, 1, 24),
    "ppm": b"P6 60000 60000 255\n" + bytes(50),
    "jpg": giant_jpeg(60_000, 60_000),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;",
    "frame.gif": b"GIF89a\1\0\1\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\2\2\x44\1\0;",
}
TEXTS = {  # little images, with 300 MB of text or colour profile
    "zTXt": b"a\0\0",
    "iTXt": b"a\0\1\0\0\0",
    "iCCP": b"a\0\0",
}


def saved(suffix: str, image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(suffix, suffix.upper()), **options)
    return buffer.getvalue()


def colours(height: int = 20, width: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 9, columns * 7, 200 - rows * 4], axis=2).astype(np.uint8))


@pytest.mark.parametrize("reader", READERS)
def test_gigantic_pictures_are_refused_before_memory_is_made(tmp_path, reader):
    giants = {f"x.{suffix}": data for suffix, data in GIANTS.items()}
    paths = []
    for n, (name, data) in enumerate(giants.items()):  # class maps are looked for by suffix
        paths.append(tmp_path / str(n) / (f"{name}.png" if reader == "class map" else name))
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(data)
    for name, said in said_by_child(READERS[reader], *paths).items():
        size = "60000 x 60000 px" if name.startswith("x.jpg") else "3,600,000,000 pixels"
        assert f"{size}; the limit is 200,000,000" in said, (name, said)


def test_little_pictures_that_ask_for_much_memory(tmp_path):
    bomb = zlib.compress(bytes(300_000_000))
    lies = {f"{kind}.png": png(4, 4, chunk(kind.encode(), head + bomb)) for kind, head in TEXTS.items()}
    lies["texts.png"] = png(4, 4, 200 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))))
    lies |= {f"tile{kind}.tif": tile(kind) for kind in (1, 5, 8)}
    lies["canvas.webp"] = b"RIFF\x3a\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + 2 * (59_999).to_bytes(3, "little") + bytes(30)
    for name, data in lies.items():
        (tmp_path / name).write_bytes(data)
    for reader in ("picture", "hole"):
        said = said_by_child(READERS[reader], *(tmp_path / name for name in lies))
        assert "the limit is 200,000,000" in said.pop("canvas.webp")
        assert all(line.startswith("cannot read") for line in said.values()), said


@pytest.mark.parametrize("bare", [b"\xff\x01", b"\xff\xd0", b"\xff", b"\xff\x00"])
def test_jpegs_whose_size_hides_behind_a_bare_marker(tmp_path, monkeypatch, bare):
    """Read as if a length followed the marker, the next segment is elsewhere; there another, small size is written."""
    data = saved("jpg", colours(), subsampling=0)
    at = data.index(b"\xff\xc0")
    length = int.from_bytes((bare + data[2:])[2:4], "big")
    small = data[at : at + 19].replace(struct.pack(">HH", 20, 30), struct.pack(">HH", 2, 2))
    note = bytes(length - at - 6 + 2) + small + bytes(8)  # a comment around what is found in its stead
    hidden = data[:2] + bare + data[2:at] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + data[at:]
    assert image_io.read_image(hidden[:2] + hidden[2 + len(bare) :], "x.jpg").shape == (20, 30, 3)  # a usual one
    monkeypatch.setattr(limits, "MAX_PIXELS", 500)
    refused(lambda: image_io.read_image(hidden, "x.jpg"), "x.jpg")


def test_absurdly_long_pictures():
    """A million pixels in a row are an image, but a random square of 160 px would be cut from 160 x 160,000,000."""
    long = np.zeros((1, 1_000_000, 3), np.uint8)
    data = saved("png", Image.fromarray(long))
    assert image_io.read_image(data).shape == long.shape
    rng = np.random.default_rng(0)
    for image in (long, long.transpose(1, 0, 2)):
        for crop in ("squash", "square178", "center108", "center"):
            assert transforms.crop_square(image, crop, 64, rng).shape == (64, 64, 3)
        for crop in ("random160", "random"):
            refused(lambda crop=crop, image=image: transforms.crop_square(image, crop, 160, rng), "too long")


def test_odd_but_honest_pictures(tmp_path):
    """Content decides, not the suffix; of an animation the first image counts; not-a-number is black."""
    image = colours()
    wanted, turned = np.asarray(image), image.rotate(180)
    several = {"save_all": True, "append_images": [turned, turned]}
    for name, data in {
        "png.jpg": saved("png", image),
        "bmp.png": saved("bmp", image),
        "animated.png": saved("png", image, **several),
        "animated.webp": saved("webp", image, lossless=True, **several),
        "three.tif": saved("tif", image, **several),
        "tagged.tif": saved("tif", image, compression="tiff_lzw"),
    }.items():
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(image_io.read_image(tmp_path / name), wanted, err_msg=name)
    few = image.quantize(8)
    clear = few.getpixel((0, 0))
    data = saved("png", few, transparency=clear)
    white = np.asarray(few.convert("RGB")).copy()
    white[np.asarray(few) == clear] = 255
    np.testing.assert_array_equal(image_io.read_image(data), white)
    inks = image.convert("CMYK")
    np.testing.assert_array_equal(image_io.read_image(saved("tif", inks)), np.asarray(inks.convert("RGB")))
    floats = np.array([[np.nan, np.inf, -np.inf], [0, 200, 255]], np.float32)
    with np.errstate(all="raise"):
        read = image_io.read_image(saved("tif", Image.fromarray(floats)))  # most are above 1, so 255 is white
        assert read[..., 0].tolist() == [[0, 255, 0], [0, 200, 255]]
        (tmp_path / "x.tif").write_bytes(saved("tif", Image.fromarray(floats[:, [0, 2]])))
        assert not mask_reader.read_mask(tmp_path / "x.tif")[0].any()


def test_no_picture_is_run(tmp_path):
    """EPS is a program, which Pillow gives to Ghostscript. Here another program stands under its name."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    (tmp_path / "maps").mkdir()
    path = tmp_path / "maps" / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    search = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for reader in READERS.values():
        assert "x.png: not an image" in said_by_child(reader, path, PATH=search)["x.png"]
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_what_only_looks_like_pictures(tmp_path):
    """None of these is waited for, or read without end. Links are followed: data sets often are made of them."""
    folder = tmp_path / "pictures"
    (folder / "folder.png").mkdir(parents=True)
    colours().save(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "nowhere.png").symlink_to(tmp_path / "nothing.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    (folder / "empty.png").touch()
    with (folder / "endless.png").open("wb") as file:
        file.truncate(1 << 40)
    found = folders.find_images(folder)
    assert [path.stem for path in found] == ["empty", "endless", "link", "nowhere", "pipe", "round", "zero"]
    for reader in ("picture", "hole"):
        said = said_by_child(READERS[reader], *found)
        assert said.pop("link.png") == "read" and not [line for line in said.values() if line == "read"], said
        assert "pipe or a device" in said["pipe.png"] and "pipe or a device" in said["zero.png"]
        assert "1,099,511,627,776 bytes; the limit is 1,600,000,000" in said["endless.png"]
    (tmp_path / "maps").mkdir()
    os.mkfifo(tmp_path / "maps" / "x.png")
    assert "pipe or a device" in said_by_child(READERS["class map"], tmp_path / "maps" / "x.png")["x.png"]
    refused(lambda: image_io.read_image("a\0b.png"), "cannot read")
    refused(lambda: mask_reader.read_mask("a\0b.png"), "cannot read")


def test_class_maps_of_a_million_splinters(tmp_path):
    """Every fourth pixel is an object of its own."""
    ids = np.zeros((2000, 2000), np.uint8)
    ids[::2, ::2] = 1 + np.arange(1_000_000).reshape(1000, 1000) % 19
    Image.fromarray(ids).save(tmp_path / "x.png")
    code = "from common.masks.irregular import _objects_of\ndef read(path):\n    assert _objects_of(path) == []"
    assert said_by_child(code, tmp_path / "x.png") == {"x.png": "read"}
    ids[100:900, 100:900] = 20
    Image.fromarray(ids).save(tmp_path / "x.png")
    assert [shape.shape for shape in irregular._objects_of(tmp_path / "x.png")] == [(800, 800)]


# ---- archives


def jpeg() -> bytes:
    return saved("jpg", Image.fromarray(np.zeros((218, 178, 3), np.uint8)))


def faces() -> dict[str, bytes]:
    return {f"img_align_celeba/{n:06d}.jpg": jpeg() for n in range(1, 4)}


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return b"".join(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for info, data in members)


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def prepared(folder: Path, archive: Path, capsys, kind: str = "celeba") -> str:
    """What the command says that is given an archive; it must not leave anything but its output."""
    before = set(folder.rglob("*"))
    try:
        prepare.main([kind, str(archive), "--output", str(folder / "out")])
        said = "done"
    except SystemExit as stopped:
        assert stopped.code == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    left = set(folder.rglob("*")) - before
    assert all(path.is_relative_to(folder / "out") for path in left), left
    return said


def test_names_that_stand_twice_or_lie_in_one_another(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for name, data in [*faces().items(), *faces().items(), ("list_eval_partition.txt", b"000001.jpg 0\n")]:
            archive.writestr(name, data)
    assert prepared(tmp_path, tmp_path / "x.zip", capsys) == "done"
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    inside = {"a": b"", "a/b.jpg": b"", **faces()}
    assert "cannot unpack" in prepared(tmp_path / "two", zipped(tmp_path / "y.zip", inside), capsys)


def test_archives_in_archives_share_one_allowance(tmp_path, monkeypatch, capsys):
    """Each of six would unpack to less than is allowed, which is 100,000 bytes and 20 for each of the outer one."""
    monkeypatch.setattr(prepare, "UNPACKED_BYTES", 100_000)
    inner = zipped(tmp_path / "inner.zip", {"000001.jpg": bytes(90_000)}, zipfile.ZIP_DEFLATED).read_bytes()
    outer = {f"{n}.zip": inner for n in range(6)}
    assert "not just images" in prepared(tmp_path, zipped(tmp_path / "x.zip", outer), capsys)
    del outer["1.zip"], outer["2.zip"], outer["3.zip"], outer["4.zip"], outer["5.zip"]
    assert "not just images" not in prepared(tmp_path, zipped(tmp_path / "x.zip", outer), capsys)


def test_endless_empty_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "UNPACKED_BYTES", 1_000_000)
    data = gzip.compress(tarred(*((member(f"{n}.jpg", 0), b"") for n in range(1000))))
    (tmp_path / "x.tar.gz").write_bytes(data)
    assert "not just images" in prepared(tmp_path, tmp_path / "x.tar.gz", capsys)


def test_tars_whose_headers_take_endless_memory_or_time(tmp_path):
    """Notes of 400 MB, read into memory; a member that ends before it begins, and is found again and again."""
    first = (member("000001.jpg", 1), b"x")
    traps = {f"note {kind}": [first, (member("x", 400 << 20, kind), b"")] for kind in (b"x", b"g", b"L", b"K", b"X")}
    packed = {name: gzip.compress(tarred(*parts) + bytes(400 << 20), 1) for name, parts in list(traps.items())[:1]}
    packed |= {name: tarred(*parts) for name, parts in traps.items() if name not in packed}
    packed["back"] = tarred((member("000001.jpg", -512), b""))
    packed["notes back"] = tarred(first, (member("x", -1024, b"L"), b""))
    record = b"18 size=-1000000\n\n"
    packed["size back"] = tarred(first, (member("x", len(record), b"x"), record), (member("000002.jpg", 0), b""))
    packed["sparse"] = tarred(first, (member("x", 512, b"S"), bytes(512)))
    paths = [tmp_path / name for name in packed]
    for path in paths:
        path.write_bytes(packed[path.name])
    code = "from data.prepare import unpack\ndef read(path):\n    unpack(path, path.with_name(path.name + '.out'))"
    for name, said in said_by_child(code, *paths).items():
        assert "cannot unpack" in said or "neither a zip nor a tar" in said, (name, said)


def test_the_list_of_splits_is_not_written_through_a_link(tmp_path, capsys):
    zipped(tmp_path / "img_align_celeba.zip", faces())
    (tmp_path / "list_eval_partition.txt").symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(SystemExit):
        prepare.main(["celeba", str(tmp_path), "--make-partition"])
    assert "is there already" in capsys.readouterr().err and not (tmp_path / "elsewhere.txt").exists()


def test_pictures_in_a_zip_that_is_read_in_place(tmp_path):
    def read(members: dict[str, bytes], change=None, compression: int = zipfile.ZIP_DEFLATED):
        path = zipped(tmp_path / "img_align_celeba.zip", members, compression)
        data = bytearray(path.read_bytes())
        if change:
            change(data, data.index(b"PK\1\2"))
        path.write_bytes(data)
        return CelebA(tmp_path, "train")[0]

    def set_bytes(*places: tuple[int, int]):  # of the central directory
        def change(data: bytearray, central: int):
            for place, value in places:
                data[central + place] = value

        return change

    def spoil(data: bytearray, _):
        data[60:90] = b"\xff" * 30

    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    assert read(faces()).shape == (218, 178, 3)
    bomb = {"img_align_celeba/000001.jpg": bytes(100_000_000)}
    refused(lambda: read(bomb), "000001.jpg", "100,000,000 bytes; the limit is 67,108,864")
    for changes in (set_bytes((8, 1)), set_bytes((10, 99)), set_bytes((9, 8), (46, 255)), set_bytes((45, 255))):
        refused(lambda changes=changes: read(faces(), changes), "img_align_celeba.zip")
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(lambda compression=compression: read(faces(), spoil, compression), "000001.jpg")
    with pytest.raises(SystemExit):
        zipped(tmp_path / "img_align_celeba.zip", faces())
        data = bytearray((tmp_path / "img_align_celeba.zip").read_bytes())
        set_bytes((9, 8), (46, 255))(data, data.index(b"PK\1\2"))
        (tmp_path / "img_align_celeba.zip").write_bytes(data)
        prepare.main(["celeba", str(tmp_path)])


def test_pipes_where_data_sets_should_be(tmp_path):
    """Whoever opens one waits for ever."""
    for place, pipe in (("zip", "img_align_celeba.zip"), ("list", "list_eval_partition.txt"), ("in", "in")):
        (tmp_path / place).mkdir()
        os.mkfifo(tmp_path / place / pipe)
    (tmp_path / "list" / "img_align_celeba").mkdir()
    (tmp_path / "list" / "img_align_celeba" / "000001.jpg").write_bytes(jpeg())
    os.mkfifo(tmp_path / "in" / "pix2pix_train_list")
    os.mkfifo(tmp_path / "in" / "list_eval_partition.txt")
    (tmp_path / "in" / "000001.jpg").write_bytes(jpeg())
    code = "from common.datasets.celeba import CelebA\nread = lambda path: CelebA(path, 'train')"
    said = said_by_child(code, tmp_path / "zip", tmp_path / "list")
    assert "there is no CelebA" in said["zip"] and "cannot read" in said["list"]
    code = "from data.prepare import celeba, cityscapes\ndef read(path):\n    cityscapes(path)"
    assert "not in a layout known here" in said_by_child(code, tmp_path / "in")["in"]
    code = "from data.prepare import celeba\ndef read(path):\n    celeba(path, path.with_name('out'))"
    assert "list_eval_partition.txt is missing" in said_by_child(code, tmp_path / "in")["in"]


# ---- lists


@pytest.mark.parametrize(
    "line", [b"a\0b.jpg 0", b"\x1b[2J.jpg 0", b"000002.jpg 4300000000000", b"000002.jpg " + b"9" * 5000, b"/x.jpg 0"]
)
def test_partition_lists_with_absurd_lines(tmp_path, line):
    (tmp_path / "list.txt").write_bytes(b"000001.jpg 0\n" + line + b"\n")
    assert len(refused(lambda: read_partition(tmp_path / "list.txt"), "line 2")) < 300 + len(str(tmp_path))


def test_partition_lists_in_other_writing(tmp_path):
    lines = "000001.jpg 0\r\n000002.jpg  2 \r\n\r\n"
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert read_partition(tmp_path / "list.txt") == {"train": ["000001.jpg"], "val": [], "test": ["000002.jpg"]}
    for encoding in ("utf-16", "utf-32"):
        (tmp_path / "list.txt").write_bytes(lines.encode(encoding))
        refused(lambda: read_partition(tmp_path / "list.txt"), "list.txt")


def pairs(folder: Path, listed: bytes) -> Path:
    """A set of one pair, A.png and B.png, with a list; outside of it lies secret.png."""
    (folder / "in").mkdir(exist_ok=True)
    for name in ("secret.png", "in/A.png", "in/B.png"):
        colours().save(folder / name)
    (folder / "in" / "pix2pix_train_list").write_bytes(listed)
    return folder / "in"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "name", ["../secret.png", "{folder}/secret.png", "{folder}/in/../secret.png", "a/../../secret.png"]
)
def test_lists_of_pairs_do_not_lead_out_of_their_folder(tmp_path, name, first):
    name = name.format(folder=tmp_path).encode()
    folder = pairs(tmp_path, b"\t".join([name, b"B.png"] if first else [b"A.png", name]) + b"\n")
    refused(lambda: open_pairs(folder, "train"), "train_list", "leads out of the folder: refused")
    refused(lambda: prepare.cityscapes(folder), "train_list", "leads out of the folder: refused")


def test_lists_of_pairs_in_other_writing(tmp_path, capsys):
    folder = pairs(tmp_path, b"\xef\xbb\xbfA.png\tB.png\r\n\r\n./A.png\tB.png \r\n")
    assert [path.name for pair in open_pairs(folder, "train").files for path in pair] == ["A.png", "B.png"] * 2
    prepare.cityscapes(folder)
    assert "2 train pairs" in capsys.readouterr().out
    for line in (b"A\0.png\tB.png", b"\xff\xfe.png\tB.png", b"A.png\tB\0.png", b"A" * 10_000 + b".png\tB.png"):
        folder = pairs(tmp_path, line + b"\n")
        refused(lambda folder=folder: open_pairs(folder, "train")[0])
        refused(lambda folder=folder: prepare.cityscapes(folder))


@pytest.mark.parametrize("name", ["../../../secret", "{folder}/secret", "a\0b"])
def test_lists_of_voc_do_not_lead_out_of_their_folder(tmp_path, name):
    (tmp_path / "voc" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "voc" / "SegmentationClass").mkdir()
    colours().save(tmp_path / "secret.png")
    lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_bytes(name.format(folder=tmp_path).encode() + b"\n\xff\n")
    refused(lambda: prepare.voc(tmp_path / "voc"), "train.txt", "leads out of the folder: refused")


# ---- published weights


NEST = b")" + b"\x85" * 1_000_000  # a million tuples in one another


def shared(part: bytes, times: int, use: bytes) -> bytes:
    """A list that uses a part, which is there but once, many times."""
    return part + b"q\x000](" + use.replace(b"PART", b"h\x00") * times + b"e"


def tensor(size: bytes) -> bytes:
    """A tensor of another size than the number in its storage."""
    storage = files.text("storage"), files.name_of("torch.FloatStorage"), files.text("0"), files.text(""), b"K\1"
    return files.call("torch._utils._rebuild_tensor_v2", files.many(*storage) + b"Q", b"K\0", size, b")")


def array(kind: str, length: bytes, data: bytes) -> bytes:
    state = files.many(b"K\1", length + b"\x85", files.call("numpy.dtype", files.text(kind)), b"\x89", data)
    return files.name_of("numpy.core.multiarray._reconstruct") + b")R" + state + b"b"


NUMBERS, TEXT = b"](" + b"K\1" * 1_000_000 + b"e", files.text("a" * 10_000_000)
MANY = [files.text(str(n)) + b"PART" for n in range(20_000)]
PAIRS = b"](" + b"".join(b"](" + files.text(str(n)) + b"Ne" for n in range(20_000)) + b"e"
EQUAL = [b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(200_000)]  # numbers of hash 0
BOMBS = {
    "nested key": b"}" + NEST + b"Ns",  # a hash is computed without looking how deep it goes
    "nested key by name": b"}" + b"(" * 100_000 + b")" + b"ibuiltins\ntuple\n" * 100_000 + b"Ns",
    "nested set": b"(" + NEST + b"\x91",
    "equal hashes": b"}(" + b"".join(EQUAL) + b"u",
    "one list under many names": shared(NUMBERS, 1, b"}(" + b"".join(MANY) + b"u"),
    "one list copied": shared(NUMBERS, 5_000, files.call("builtins.tuple", b"PART")),
    "one table copied": shared(PAIRS, 5_000, files.call("collections.OrderedDict", b"PART")),
    "one text encoded": shared(TEXT, 500, files.call("_codecs.encode", b"PART", files.text("latin1"))),
    "one text in arrays": shared(TEXT, 500, array("u1", b"J\x80\x96\x98\0", b"PART")),
    "classes": b"](" + b"cmmcv\nA\n" * 1_000_000 + b"e",
    "long name": b"}" + TEXT + b"](K\1es",
    "sizes": tensor(b"(" + b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" * 300_000 + b"t"),
    "a size": tensor(b"\x8b" + struct.pack("<i", 10_000_000) + b"\x7f" * 10_000_000 + b"\x85"),
    "deep list": b"]" * 1_000_000 + b"a" * 999_999,
    "string beyond the end": b"X\xff\xff\xff\x7fabc",
    "frame beyond the end": b"\x95" + struct.pack("<Q", 1 << 62) + b"N",
    "memo beyond its end": b"j\xff\xff\xff\xff",
    "get before put": b"h\x07",
    "extension": b"\x82\1",
    "buffer": b"\x97",
    "long digits": b"I" + b"9" * 1_000_000 + b"\n",
    "two types in one": array("f4,f4", b"K\1", b"C\x08" + bytes(8)),
    "nothing": b"",
}


def test_pickles_that_take_all_memory_all_time_or_the_whole_process(tmp_path):
    paths = [tmp_path / f"{name}.pth" for name in BOMBS]
    for path in paths:
        path.write_bytes(b"\x80\4" + BOMBS[path.stem] + b".")
    said = said_by_child("from common.convert.torch_files import read_published as read", *paths)
    assert said.pop("one list under many names.pth") == "read"  # but converted once
    assert all(f"{name} is corrupt, truncated or of an unknown type" in line for name, line in said.items()), said


def test_torch7_files_that_lie_about_their_sizes(tmp_path):
    """Tables, texts and storages of 2**31 - 1 parts; ten thousand tables in one another."""
    most = struct.pack("<i", 2**31 - 1)
    lies = {
        "table": struct.pack("<ii", 3, 1) + most,
        "text": struct.pack("<i", 2) + most + b"abc",
        "class": struct.pack("<ii", 4, 1) + struct.pack("<i", 3) + b"V 1" + most + b"nn.",
        "deep": b"".join(struct.pack("<iiiid", 3, n, 1, 1, 1) for n in range(1, 10_001)),
        "function": struct.pack("<ii", 8, 1) + most + b"os.execute('touch ran')",
        "negative": struct.pack("<ii", 3, 1) + struct.pack("<i", -1),
        "number": struct.pack("<i", 77),
    }
    for name, data in lies.items():
        (tmp_path / f"{name}.t7").write_bytes(data)
    start = "from common.convert.torch_files import read_published as read"
    said = said_by_child(start, *(tmp_path / f"{name}.t7" for name in lies))
    assert said.pop("negative.t7") == "read" and all(".t7 is corrupt" in line for line in said.values()), said


def test_tensorflow_shapes_of_endless_dimensions(tmp_path):
    """Their product would be computed for hours."""
    tf = module(TESTS / "common/convert/test_tensorflow_checkpoints.py")
    shape = [2**62] * 300_000 + [0]
    tf.write_bundle(tmp_path / "a", {}, extra=[(b"w", tf.entry(1, shape, 0, 0, 0, None))])
    said = said_by_child("from common.convert.tensorflow_checkpoints import read_checkpoint as read", tmp_path / "a")
    assert "300001 dimensions" in said["a"]
    tf.write_bundle(tmp_path / "b", {}, extra=[(b"w", tf.entry(1, [0] * 32, 0, 0, 0, None))])
    assert read_checkpoint(tmp_path / "b")["w"].shape == (0,) * 32


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("attack", ["posix.system", "builtins.eval", "inst", "build"])
def test_no_converter_runs_anything(tmp_path, capsys, paper, attack):
    """Beneath the names that the paper's files have; what is called would create a file."""
    mark = tmp_path / "ran"
    shell, code = files.text(f"touch {mark}"), files.text(f"open({str(mark)!r}, 'w')")
    evil = {
        "posix.system": files.call("posix.system", shell),
        "builtins.eval": files.call("builtins.eval", code),
        "inst": b"(" + shell + b"iposix\nsystem\n",
        "build": files.name_of("collections.OrderedDict") + b")R" + files.call("posix.system", shell) + b"b",
    }[attack]
    path = tmp_path / "netG.pth"
    files.write_zip(path, files.table({"state_dict": files.table({"main.0.weight": evil, "conv1.weight": evil})}), {})
    with contextlib.suppress(pickle.UnpicklingError):
        pickle.loads(b"\x80\2" + evil + b".")
    mark.unlink()  # for it was there: a careless reader would run it
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"{paper}.convert").main([str(path), str(tmp_path / "out.safetensors")])
    assert stopped.value.code == 2 and "nothing of it was run" in capsys.readouterr().err
    assert not mark.exists() and list(tmp_path.iterdir()) == [path]


# ---- weights and states of this suite


def safetensors(header, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def described(metadata, **tensor) -> dict:
    """A header of one tensor of two numbers, or of what is said of it."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **tensor}
    return {"__metadata__": {"metadata": metadata}, "a": tensor}


OURS = json.dumps({"paper": "none"})


def test_names_that_would_write_on_the_terminal(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors({"\x1b[2J": described(OURS)["a"]}))
    assert "\x1b" not in refused(lambda: read_published(tmp_path / "a.safetensors"), "no name for a tensor")


TINY = {
    "glcic": ("completion", "CompletionNetwork", {"base_channels": 2}),
    "pix2pix": ("generator", "UnetGenerator", {"levels": 3, "base_channels": 2}),
    "deepfill": ("generator", "Generator", {"base_channels": 4}),
    "context_encoder": ("generator", "ContextEncoder", {"image_px": 32, "base_channels": 2, "bottleneck": 8}),
    "dcgan_completion": ("generator", "Generator", {"image_px": 8, "base_channels": 1, "z_channels": 3}),
}
ABSURD = [
    *({"base_channels": value} for value in (10**9, -64, "64", None, [64], 2**70)),
    {"evil": 1},
    *({name: 10**9} for name in ("z_channels", "bottleneck", "noise_channels", "source_channels")),
    {"image_px": "x"},
    {"kind": "os.system"},
    None,
    [1],
]


@pytest.mark.parametrize("paper", TINY)
def test_absurd_networks_are_not_built(tmp_path, capsys, paper):
    """Their layers would take up to some hundred terabytes; none is made that the file has no numbers for."""
    name, kind, sizes = TINY[paper]
    network = getattr(importlib.import_module(f"{paper}.model"), kind)(**sizes)
    load, path = importlib.import_module(f"{paper}.infer").load, tmp_path / "a.safetensors"
    save_weights(path, {name: network}, {"paper": paper, name: network.arguments})
    load(path)
    for change in ABSURD:
        if change and isinstance(change, dict) and not {"evil", "kind", *network.arguments} & change.keys():
            continue  # of other papers
        arguments = network.arguments | change if isinstance(change, dict) else change
        save_weights(path, {name: network}, {"paper": paper, name: arguments})
        refused(lambda: load(path), "a.safetensors ")


def test_wide_first_layers_are_not_believed(tmp_path, capsys):
    """20,000 channels, from a file of 2 to 5 MB, would make networks of 30 GB and more."""
    wide = np.zeros((20_000, 4, 5, 5), np.float32)
    otenim = files.otenim_cn(2) | {"conv1.weight": wide}
    unet = module(TESTS / "pix2pix" / "test_convert.py").published("u5")
    unet["model.model.0.weight"] = np.zeros((20_000, 3, 4, 4), np.float32)
    for paper, tensors in {"glcic": otenim, "pix2pix": unet}.items():
        path = files.write_zip(tmp_path / f"{paper}.pth", *files.state_dict(tensors))
        with pytest.raises(SystemExit):
            importlib.import_module(f"{paper}.convert").main([str(path), str(tmp_path / "out.safetensors")])
        assert "a far larger network than it holds" in capsys.readouterr().err


def state(folder: Path) -> tuple[Path, dict, dict]:
    """A whole checkpoint of 7 steps, and what it is of."""
    network = paddle.nn.Linear(2, 3)
    optimizer = paddle.optimizer.Adam(0.1, parameters=network.parameters())
    network(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    networks, optimizers = {"net": network}, {"net": optimizer}
    return save_state(folder, networks, optimizers, {"step": 7}), networks, optimizers


def test_states_that_were_changed(tmp_path):
    folder, networks, optimizers = state(tmp_path)
    path = folder / "state.safetensors"
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    moment = next(name for name in header if name.endswith("weight/moment1"))
    short = {**header, moment: {**header[moment], "shape": [6, 1]}}
    kinds = {name: {**about, "dtype": "I32"} if name != "__metadata__" else about for name, about in header.items()}
    data = whole[8 + int.from_bytes(whole[:8], "little") :]
    for checked in (True, False):  # checkpoints of earlier versions have no checksums
        if not checked:
            (folder / "checksums.json").unlink()
        for changed in (b"", whole[:-1], whole[:40], bytes(100), safetensors(kinds, data)):
            path.write_bytes(changed)
            refused(lambda: load_state(folder, networks, optimizers), str(folder))
    path.write_bytes(safetensors(short, data))
    load_state(folder, networks, optimizers)  # of another shape, but of as many numbers
