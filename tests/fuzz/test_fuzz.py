"""Random damage to everything that is read: an answer of the right kind or one line, never a crash, nothing run.

The same examples every time; SUITE_FUZZ=20 takes twenty times as many.
"""

import importlib
import importlib.util
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from common.checkpoint.state import read_progress
from common.checkpoint.weights import read_weights
from common.convert import mapping
from common.convert.tensorflow_checkpoints import read_checkpoint
from common.convert.torch_files import read_published
from common.datasets.celeba import CelebA, read_partition
from common.datasets.paired_images import open_pairs
from common.errors import UserError
from common.imaging import io as image_io
from common.imaging import transforms
from common.masks import irregular
from common.masks import reader as mask_reader
from data import prepare
from tests.helpers import module

pytestmark = pytest.mark.medium

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
given = hypothesis.given

TESTS = Path(__file__).parents[1]
TIMES = int(os.environ.get("SUITE_FUZZ", "1"))


def examples(count: int):
    health = hypothesis.HealthCheck
    return hypothesis.settings(
        max_examples=count * TIMES, derandomize=True, deadline=None, database=None,
        suppress_health_check=[health.too_slow, health.data_too_large, health.large_base_example],
    )  # fmt: skip


files = module(TESTS / "glcic" / "fixtures" / "published_files.py")
tf = module(TESTS / "common/convert/test_tensorflow_checkpoints.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def answer(work):
    """What work() returns, or None where it raises a UserError of one line."""
    try:
        return work()
    except UserError as problem:
        line = str(problem)
        assert "\n" not in line and len(line) < 2000, line
        return None


# ---- damage

NUMBERS = st.sampled_from(
    [0, 1, 2, -1, -2, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1]
)


@st.composite
def words(draw) -> bytes:
    """A few bytes, mostly a number by which sizes and places go wrong."""
    if draw(st.integers(0, 2)) == 0:
        return draw(st.binary(max_size=8))
    size = draw(st.sampled_from([1, 2, 4, 8]))
    return (draw(NUMBERS) % 256**size).to_bytes(size, draw(st.sampled_from(["little", "big"])))


@st.composite
def damaged(draw, wholes: list[bytes]) -> bytes:
    """One of these files with some bytes overwritten, taken out, put in or cut off, most of them near its beginning."""
    data = bytearray(wholes[draw(st.integers(0, len(wholes) - 1))])
    for _ in range(draw(st.integers(1, 5))):
        reach = draw(st.sampled_from([32, 200, len(data)]))
        at = draw(st.integers(0, min(reach, len(data))))
        kind, part = draw(st.integers(0, 5)), draw(words())
        if kind < 3:
            data[at : at + len(part)] = part
        elif kind == 3:
            data[at:at] = part
        elif kind == 4:
            del data[at : at + len(part)]
        else:
            del data[at:]
    return bytes(data)


# ---- images


def images() -> list[bytes]:
    """Of every kind and mode, 24 x 16 px."""
    rows, columns = np.mgrid[0:16, 0:24]
    rgb = Image.fromarray(np.stack([rows * 16, columns * 10, 255 - rows * 9], axis=2).astype(np.uint8))
    grey, few, turned = rgb.convert("L"), rgb.quantize(16), Image.Exif()
    turned[0x0112] = 6
    clear = rgb.convert("RGBA")
    clear.putalpha(grey)
    deep, several = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        {"save_all": True, "append_images": [rgb]},
    )
    wholes = [b""]
    for image, kind, options in [
        (rgb, "PNG", several), (clear, "PNG", {}), (few, "PNG", {"transparency": 3}), (deep, "PNG", {}),
        (rgb, "JPEG", {"exif": turned}), (rgb.convert("CMYK"), "JPEG", {}), (grey, "JPEG", {"progressive": True}),
        (clear, "WEBP", {"lossless": True}), (rgb, "WEBP", several), (few, "GIF", several), (rgb, "JPEG2000", {}),
        (rgb, "BMP", {}), (few, "BMP", {}), (rgb, "PPM", {}), (deep, "TIFF", {}), (grey.convert("F"), "TIFF", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}), (rgb, "TIFF", {"compression": "jpeg"}), (few, "TIFF", several),
        (grey.convert("1"), "TIFF", {"compression": "group4"}), (rgb.convert("LAB"), "TIFF", {}),
    ]:  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        wholes.append(buffer.getvalue())
    return wholes


@pytest.fixture(scope="module")
def small_images_only():
    """The largest that are read are of a megapixel: they would be in order at 200, but take half a minute each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "MAX_PIXELS", 1_000_000)
        yield


@pytest.mark.filterwarnings("ignore")  # Pillow tells of odd tags
@examples(300)
@given(damaged(images()) | st.binary(max_size=100), st.booleans())
def test_pictures_and_holes(folder, small_images_only, data, invert):
    (folder / "x.png").write_bytes(data)
    image = answer(lambda: image_io.read_image(folder / "x.png"))
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size)
    mask = answer(lambda: mask_reader.read_mask(folder / "x.png", invert=invert))
    assert mask is None or (mask.dtype == bool and mask.ndim == 2)
    assert image is None or mask is None or image.shape[:2] == mask.shape
    mask = answer(lambda: mask_reader.read_mask(folder / "x.png", 16, 24))
    assert mask is None or mask.shape == (16, 24)
    ids = answer(lambda: irregular._read_class_map(folder / "x.png"))
    assert ids is None or not ((ids > 20) & (ids < 255)).any()


# ---- lists

NAMES = st.one_of(
    st.sampled_from(["A.png", "B.png", "in/A.png", "..", ".", "", "../B.png", "/etc/passwd", "a/../../B.png", "C:\\x"]),
    st.text(max_size=20), st.text("./\\\0\t \u2028a", max_size=8), st.integers().map(str), st.just("x" * 5000),
)  # fmt: skip
BREAKS, CODES = (
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)


@st.composite
def lists(draw, separators: str) -> bytes:
    separator = st.sampled_from(list(separators)).map(lambda letter: letter * draw(st.integers(1, 2)))
    lines = draw(st.lists(st.lists(NAMES, max_size=3), max_size=4))
    text = draw(BREAKS).join(draw(separator).join(line) for line in lines)
    return text.encode(draw(CODES), errors="replace") + draw(st.binary(max_size=3))


@examples(150)
@given(lists(" "), st.lists(st.sampled_from(["0", "1", "2", "00", "²", "1e3", "9" * 5000]), max_size=3))
def test_partition_lists(folder, data, numbers):
    (folder / "list.txt").write_bytes(data + b"".join(b"\n000001.jpg " + number.encode() for number in numbers))
    found = answer(lambda: read_partition(folder / "list.txt"))
    assert found is None or not {"/", "\\", "\0"} & set("".join(name for names in found.values() for name in names))


@examples(150)
@given(lists("\t\t\t ,"))
def test_lists_of_pairs(folder, data):
    root = folder / "pairs"
    (root / "in").mkdir(parents=True, exist_ok=True)
    for name in ("A.png", "B.png", "in/A.png"):
        Image.new("RGB", (4, 4)).save(root / name)
    (root / "pix2pix_train_list").write_bytes(data)
    found = answer(lambda: open_pairs(root, "train"))
    for path in (path for pair in (found.files if found else []) for path in pair):
        assert os.path.normpath(str(path)).startswith(str(root))
    if found:
        answer(lambda: [found[index] for index in range(len(found))])
    splits = answer(lambda: prepare.find_pairs(root)) or {}
    for path in (path for pairs in splits.values() for pair in pairs for path in pair):
        assert os.path.normpath(str(path)).startswith(str(root))
    answer(lambda: prepare.cityscapes(root))


@examples(60)
@given(lists(" "))
def test_lists_of_voc(folder, data):
    for part in ("ImageSets/Segmentation", "SegmentationClass"):
        (folder / "voc" / part).mkdir(parents=True, exist_ok=True)
    (folder / "voc/ImageSets/Segmentation/train.txt").write_bytes(data)
    answer(lambda: prepare.voc(folder / "voc"))


# ---- archives


def archives() -> list[bytes]:
    members = {f"img_align_celeba/{n:06d}.jpg": bytes(range(200)) for n in range(3)} | {"über.txt": b"x"}
    wholes = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        wholes.append(buffer.getvalue())
    for mode, kind in (("w", tarfile.GNU_FORMAT), ("w", tarfile.PAX_FORMAT), ("w:gz", 1), ("w:bz2", 2), ("w:xz", 1)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:
            for name, data in (members | {"long" * 40: b"x"}).items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1.5
                archive.addfile(info, io.BytesIO(data))
        wholes.append(buffer.getvalue())
    # What leads to the members of a zip is its end, which comes first here, where the damage is.
    return wholes


def unpacked(folder: Path, data: bytes) -> None:
    """Unpacks what lies in a folder by itself; whatever comes of it lies in the folder's `out`."""
    here = folder / "deep" / "er"
    here.mkdir(parents=True, exist_ok=True)
    (here / "x.zip").write_bytes(data)
    before = set(folder.rglob("*"))
    answer(lambda: prepare.unpack(here / "x.zip", here / "out"))
    left = {path for path in set(folder.rglob("*")) - before if not path.is_relative_to(here / "out")}
    assert not left and not any(path.is_symlink() for path in here.rglob("*")), left
    if (here / "out").exists():
        (here / "out").rename(folder / "deep" / "old")
        prepare.shutil.rmtree(folder / "deep" / "old")


@examples(150)
@given(damaged(archives()))
def test_damaged_archives(folder, data):
    unpacked(folder, data)


@examples(80)
@given(damaged([whole[::-1] for whole in archives()[:4]]))
def test_zips_with_damaged_directories(folder, data):
    """The directory of a zip is at its end: damage is done to the file turned around."""
    unpacked(folder, data[::-1])
    (folder / "img_align_celeba.zip").write_bytes(data[::-1])
    (folder / "list_eval_partition.txt").write_text("000000.jpg 0\n000001.jpg 0\n")
    faces = answer(lambda: CelebA(folder, "train"))
    for index in range(len(faces) if faces else 0):
        assert answer(lambda index=index: faces[index]) is None  # the members are no images


@examples(80)
@given(st.lists(NAMES, min_size=1, max_size=3), st.booleans())
def test_members_of_any_name(folder, names, as_tar):
    buffer = io.BytesIO()
    if as_tar:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"x"))
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            for number, name in enumerate(names):
                info = zipfile.ZipInfo(f"{number}")
                info.filename = name if len(set(names)) == len(names) else f"{number}{name}"
                archive.writestr(info, b"x")
    unpacked(folder, buffer.getvalue())


# ---- weights


def weights_of(path: Path) -> None:
    found = answer(lambda: read_published(path))
    assert found is None or all(isinstance(array, np.ndarray) for array in found.values())
    assert found is None or all(name.isprintable() for name in found)


TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.float16([1, 2]),
    "n": np.array(7, np.int64),
}
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5,
)  # fmt: skip
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "U16", "F8_E4M3", "C64", "X", 5]),
        "shape": st.lists(NUMBERS, max_size=3) | JSON,
        "data_offsets": st.tuples(st.sampled_from([0, 4, 8]), st.sampled_from([0, 4, 8, 16])) | JSON,
    }
)
HEADERS = st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=2)
DESCRIBED = st.fixed_dictionaries(
    {"__metadata__": st.fixed_dictionaries({"metadata": JSON.map(json.dumps) | JSON}) | JSON}
)


@st.composite
def safetensors(draw) -> bytes:
    if draw(st.booleans()):
        return draw(damaged([save(TENSORS, {"metadata": "{}"})]))
    header = json.dumps({**draw(HEADERS), **draw(DESCRIBED | st.just({}))}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(draw(st.sampled_from([0, 4, 8])))


@examples(200)
@given(safetensors())
def test_safetensors(folder, data):
    (folder / "a.safetensors").write_bytes(data)
    weights_of(folder / "a.safetensors")


@examples(200)
@given(safetensors())
def test_weights_of_this_suite(folder, data):
    (folder / "a.safetensors").write_bytes(data)
    found = answer(lambda: read_weights(folder / "a.safetensors"))
    assert found is None or (isinstance(found[0], dict) and isinstance(found[1], dict))


@examples(100)
@given(JSON.map(json.dumps).map(str.encode) | st.dictionaries(st.sampled_from(["step", "score", "skipped"]), JSON).map(
    json.dumps).map(str.encode) | st.binary(max_size=20))  # fmt: skip
def test_progress(folder, data):
    (folder / "step_7").mkdir(exist_ok=True)
    (folder / "step_7" / "state.safetensors").touch()
    (folder / "step_7" / "progress.json").write_bytes(data)
    found = read_progress(folder / "step_7")
    assert found is None or found["step"] == 7


def opcodes(mark: Path) -> list[bytes]:
    """What pickles of weights are made of, and what evil ones are."""
    names = (
        *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.FloatStorage", "_codecs.encode"),
        *("collections.OrderedDict", "builtins.tuple", "numpy.dtype", "numpy.ndarray", "mmcv.X", "pathlib.PosixPath"),
        *("numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar", "posix.system", "builtins.eval"),
    )
    texts = (f"touch {mark}", f"open({str(mark)!r}, 'w')", "f4", "i8,f4", "<", "a", "storage", "0", "cpu", "latin1")
    numbers = [b"K\0", b"K\2", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\x7f" * 9, b"G" + bytes(8), b"I01\n"]
    making = [b"(", b")", b"]", b"}", b"N", b"\x88", b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"\x8f", b"\x91"]
    using = [b"a", b"e", b"s", b"u", b"\x90", b"b", b"R", b"\x81", b"\x92", b"o", b"Q", b"0", b"1", b"2", b"\x93"]
    memory = [b"q\0", b"q\1", b"h\0", b"h\1", b"\x94", b"j\xff\xff\0\0", b"r\2\0\0\0", b"g0\n"]
    odd = [
        b"\x82\1",
        b"\x95" + bytes(8),
        b"\x97",
        b"\x98",
        b"\x96\3" + bytes(7) + b"abc",
        b"iposix\nsystem\n",
        b"P0\n",
        b".",
    ]
    whole = [files.tensor("0", "Float", 6, (2, 3), (3, 1)), files.call("posix.system", files.text(texts[0]))]
    return [files.name_of(name) for name in names] + [files.text(text) for text in texts] + [
        *numbers, *making, *making, *using, *using, *memory, *odd, *whole, *whole
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@examples(400)
@given(st.data())
def test_pickles(folder, data):
    mark = folder / "ran"
    content = b"".join(data.draw(st.lists(st.sampled_from(opcodes(mark)), max_size=25)))
    kind, path = data.draw(st.integers(0, 2)), folder / "a.pth"
    storages = {"0": (6, bytes(24))}
    if kind == 0:
        path.write_bytes(b"\x80\4" + content + b".")
    else:
        (files.write_zip if kind == 1 else files.write_legacy)(path, content, storages)
    weights_of(path)
    assert not mark.exists()


def published() -> list[bytes]:
    """Weights of each kind, of a few numbers."""
    buffer, legacy = io.BytesIO(), type("Path", (io.BytesIO,), {"write_bytes": io.BytesIO.write})()
    files.write_zip(buffer, *files.state_dict(TENSORS))
    files.write_legacy(legacy, *files.state_dict(TENSORS, legacy=True))
    return [buffer.getvalue(), legacy.getvalue(), pickle.dumps({"a": ("b", TENSORS["a.weight"]), "c": [1, 2.5]}, 4)]


@pytest.mark.filterwarnings("ignore")
@examples(200)
@given(damaged(published()))
def test_damaged_weights(folder, data):
    (folder / "a.pth").write_bytes(data)
    weights_of(folder / "a.pth")


def torch7() -> bytes:
    file = type("Path", (io.BytesIO,), {"write_bytes": io.BytesIO.write})()
    layer = ("nn.SpatialConvolution", {"weight": np.ones((2, 3)), "kW": 3, "train": "no"})
    files.write_torch7(file, {"model": ("nn.Sequential", {"modules": [layer]}), "mean": [0.5, 1, 2]})
    return file.getvalue()


TORCH7_PARTS = [
    *(struct.pack("<i", number) for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 2**31 - 1)),
    *(struct.pack("<i", len(text)) + text for text in (b"V 1", b"nn.X", b"torch.FloatTensor", b"torch.FloatStorage")),
    *(struct.pack("<q", number) for number in (0, 1, -1, 2**40)),
    struct.pack("<d", 1.5),
]


@pytest.mark.filterwarnings("ignore")
@examples(200)
@given(damaged([torch7()]) | st.lists(st.sampled_from(TORCH7_PARTS), max_size=15).map(b"".join))
def test_torch7(folder, data):
    (folder / "a.t7").write_bytes(data)
    weights_of(folder / "a.t7")


@examples(150)
@given(
    st.lists(st.tuples(
        st.sampled_from([0, 1, 3, 7, 9, 19, 77]), st.lists(NUMBERS, max_size=4), NUMBERS, NUMBERS, NUMBERS,
        st.none() | st.binary(min_size=4, max_size=4), st.binary(max_size=6)), max_size=3),
    damaged([tf.header(1)]) | st.just(tf.header(1)),
)  # fmt: skip
def test_tensorflow(folder, entries, header):
    """Entries with wrong claims in tables with right checksums."""
    tf.write_bundle(folder / "a", {"w": TENSORS["a.weight"]})
    items = [(b"", header), *((b"v%d" % n, tf.entry(*claims)) for n, claims in enumerate(entries))]
    (folder / "a.index").write_bytes(tf.table(items))
    found = answer(lambda: read_checkpoint(folder / "a"))
    assert found is None or all(array.nbytes <= 24 for array in found.values())


# ---- converters


def of_paper(paper: str) -> list[dict[str, np.ndarray]]:
    """Published networks of a few channels, as the paper's own tests have them."""
    if paper == "glcic":
        shapes = files.completion_shapes(files.MMAGIC, 2, bias=False)
        return [files.authors(2), files.otenim_cn(2), files.otenim_cd(64, 32, 5, 2), files.weights(shapes, 4)]
    tests = module(TESTS / paper / "test_convert.py")
    if paper == "pix2pix":
        return [tests.published(name) for name in ("u5", "u6 instance", "r2 affine", "d0", "d3")]
    if paper == "deepfill":
        return [tests.both(code) for code in tests.CODES]
    if paper == "context_encoder":
        return [tests.boyuan(), tests.official()]
    return [tests.fill(tests.RELEASED), tests.fill(tests.HEAD)]


SHAPES = st.sampled_from(
    [(), (0,), (1,), (1, 1), (3, 0, 4, 4), (1, 1, 1, 1), (1, 1, 1, 1, 1), (5, 3, 5, 5), (300, 3, 1, 1)]
)
TYPES = st.sampled_from([bool, np.int8, np.int64, np.uint16, np.float16, np.float64, np.complex64])


@st.composite
def changed(draw, wholes: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Some tensors missing, under other names, of other shapes, types and numbers."""
    tensors = dict(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(tensors)))
        array, kind = tensors[name], draw(st.integers(0, 6))
        if kind == 0:
            del tensors[name]
        elif kind == 1:
            tensors[draw(new_names(name))] = tensors.pop(name)
        elif kind == 2:
            tensors[name] = np.zeros(draw(SHAPES), np.float32)
        elif kind == 3:
            tensors[name] = array.astype(draw(TYPES))
        elif kind == 4:
            tensors[name] = draw(st.sampled_from([array.T, array.ravel(), array[None]]))
        elif kind == 5:
            tensors[name] = np.full(array.shape, draw(st.sampled_from([np.nan, np.inf, -1, 0])), np.float32)
        else:
            tensors[draw(st.sampled_from(sorted(tensors)))] = array
    return tensors


def new_names(name: str):
    changes = (name + ".x", "x." + name, "module." + name, name.rpartition(".")[0], name[:-1], name.upper(), "")
    return st.sampled_from([*changes, name.replace("1", "9" * 5000), name.replace("0", "٣"), name.replace("2", "x")])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("paper", ["glcic", "pix2pix", "deepfill", "context_encoder", "dcgan_completion"])
def test_converters(folder, monkeypatch, paper):
    """What the readers give them, which are tested above, is given by hand; the network is not written."""
    convert, wholes = importlib.import_module(f"{paper}.convert"), of_paper(paper)
    monkeypatch.setattr(mapping, "save_published", lambda *_: None)
    path = folder / "a.pth"
    path.write_bytes(b"")

    @examples(15)
    @given(changed(wholes))
    def check(tensors):
        monkeypatch.setattr(mapping, "read_published", lambda _: dict(tensors))
        answer(lambda: convert.convert(convert.Options(path, folder / "out.safetensors")))

    check()
