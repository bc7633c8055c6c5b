"""Published weights files, written here byte by byte or by torch itself: read in full, or refused without running."""

import builtins
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.convert.torch_files import read_published
from common.errors import UserError
from tests.helpers import module

TESTS = Path(__file__).parents[2]
FIXTURES = TESTS / "glcic" / "fixtures"


files = module(FIXTURES / "published_files.py")
graphs = module(TESTS / "pix2pix" / "fixtures" / "published_files.py")  # which knows nngraph

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) - 5,
    "conv.bias": np.array([0.5, -2], np.float16),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0, 3), np.float32),
}
WRITERS = {"zip": files.write_zip, "legacy": files.write_legacy}


def same(got: dict, wanted: dict):
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def write(path, kind: str, content: bytes, storages=None):
    """A pickle as the only content of a file of one of four kinds."""
    if kind == "pdparams":
        path.write_bytes(b"\x80\x02" + content + b".")
        return path
    return WRITERS[kind](path, content, storages or {})


# ---- what torch itself wrote


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.pth"])
def test_files_written_by_torch(name):
    """Saved by torch 2.13: views of one storage (contiguous, transposed, every third), half, bfloat16, a parameter."""
    base = np.arange(24, dtype=np.float32)
    wanted = {
        "model.plain": base[4:16].reshape(3, 4),
        "model.turned": base[4:16].reshape(3, 4).T,
        "model.every_third": base[::3],
        "model.half": np.array([0.5, -2], np.float16),
        "model.bfloat16": np.array([1.5, -3], np.float32),
        "model.counter": np.array(7, np.int64),
        "model.parameter": np.array([1, 2], np.float32),
    }  # and "step", which is a number
    same(read_published(FIXTURES / name), wanted)


# ---- formats


@pytest.mark.parametrize("kind", WRITERS)
def test_torch_round_trip(tmp_path, kind):
    content, storages = files.state_dict(TENSORS, legacy=kind == "legacy")
    nested = files.table({"state_dict": content, "epoch": files.integer(3), "note": files.text("hello")})
    got = read_published(write(tmp_path / "model_cn", kind, nested, storages))  # otenim's files have no suffix
    same(got, {f"state_dict.{name}": array for name, array in TENSORS.items()})


@pytest.mark.parametrize("kind", WRITERS)
def test_views_of_one_storage(tmp_path, kind):
    """Offset 4, a transposed and a strided view: numbers 0..19 make the expectation readable."""
    legacy = kind == "legacy"
    content = files.table(
        {
            "part": files.tensor("0", "Float", 20, (2, 3), (3, 1), 4, legacy),
            "turned": files.tensor("0", "Float", 20, (3, 2), (1, 3), 4, legacy),
            "every_fifth": files.tensor("0", "Float", 20, (4,), (5,), 1, legacy),
        }
    )
    storage = {"0": (20, np.arange(20, dtype=np.float32).tobytes())}
    got = read_published(write(tmp_path / "a.pth", kind, content, storage))
    assert got["part"].tolist() == [[4, 5, 6], [7, 8, 9]]
    assert got["turned"].tolist() == [[4, 7], [5, 8], [6, 9]]
    assert got["every_fifth"].tolist() == [1, 6, 11, 16]


@pytest.mark.parametrize("protocol", [2, 4])
def test_paddle(tmp_path, protocol):
    """paddle.save writes arrays, or (the parameter's own name, array)."""
    path = tmp_path / "a.pdparams"
    content = {"model": {"a": TENSORS["conv.weight"], "b": ("linear_0.w_0", TENSORS["conv.bias"])}, "step": 3}
    content["StructuredToParameterName@@"] = {"a": "conv2d_0.w_0"}
    content["column"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    path.write_bytes(pickle.dumps(content, protocol))
    wanted = {"model.a": TENSORS["conv.weight"], "model.b": TENSORS["conv.bias"]}
    same(read_published(path), wanted | {"column": np.arange(6.0).reshape(2, 3)})


def test_paddle_itself(tmp_path):
    paddle = pytest.importorskip("paddle")
    network = paddle.nn.Sequential(paddle.nn.Conv2D(2, 3, 3), paddle.nn.BatchNorm2D(3))
    wanted = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    paddle.save(network.state_dict(), str(tmp_path / "a.pdparams"))
    paddle.save({"net": network.state_dict()}, str(tmp_path / "b.pdparams"))
    same(read_published(tmp_path / "a.pdparams"), wanted)
    same(read_published(tmp_path / "b.pdparams"), {f"net.{name}": array for name, array in wanted.items()})


def test_torch7(tmp_path):
    """An nn.Sequential beside a table of numbers, as in the authors' files."""
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    layer = ("nn.SpatialConvolution", {"weight": kernel, "bias": kernel[0], "kW": 3, "train": "no"})
    network = ("nn.Sequential", {"modules": [layer, ("nn.ReLU", {"inplace": 1})], "output": kernel[:, 0]})
    path = files.write_torch7(tmp_path / "a.t7", {"model": network, "mean": [0.25, 0.5, 0.75]})
    wanted = {"model.modules.0.weight": kernel, "model.modules.0.bias": kernel[0], "model.output": kernel[:, 0]}
    same(read_published(path), wanted | {"mean": np.float32([0.25, 0.5, 0.75])})


def test_torch7_table_of_tensors(tmp_path):
    """As what a layer with two inputs or two outputs keeps of its last run."""
    both = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(0, np.float32)]
    path = files.write_torch7(tmp_path / "a.t7", {"output": both, "weight": both[0]})
    same(read_published(path), {"output.0": both[0], "output.1": both[1], "weight": both[0]})


def test_torch7_graph(tmp_path):
    """Thirty layers, each fed by the two before it: from the first to the last go F(30) = 832,040 ways.

    In a process of its own, which can be stopped: a reader that goes all of them does not come back.
    """
    layers = [graphs.Object("nn.CAddTable", graphs.Table(weight=np.full(2, n, np.float32))) for n in range(30)]
    inputs = [[-1], [0], *([n - 1, n - 2] for n in range(2, 30))]
    path = graphs.write(tmp_path / "a.t7", {"net": graphs.graph_module(layers, inputs), "mean": [0.5, 0.25]})
    code = "import sys; from common.convert.torch_files import read_published as read\n"
    code += "for name, array in read(sys.argv[1]).items(): print(name, array.tolist())"
    command = [sys.executable, "-c", code, path]
    ran = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=30)
    wanted = ["mean [0.5, 0.25]"]
    for n in range(30):
        names = (f"modules.{n}", f"forwardnodes.{n + 1}", f"backwardnodes.{30 - n}")  # a graph's ends are nodes too
        wanted += [f"net.{name}.weight [{n}.0, {n}.0]" for name in names]
    assert sorted(ran.stdout.splitlines()) == sorted(wanted), ran.stderr


def test_tensors_of_pytorch_before_0_4(tmp_path):
    """Rebuilt by another function, without gradients and hooks: storage, offset, size, stride."""
    content, storages = files.state_dict({"a": TENSORS["conv.weight"]}, legacy=True)
    hooks = files.name_of("collections.OrderedDict") + b")Rt"
    content = content.replace(b"_rebuild_tensor_v2\n", b"_rebuild_tensor\n").replace(b"\x89" + hooks, b"t")
    path = files.write_legacy(tmp_path / "a.pth", content, storages)
    same(read_published(path), {"a": TENSORS["conv.weight"]})


def test_safetensors(tmp_path):
    save_file({"a": TENSORS["conv.weight"]}, tmp_path / "a.safetensors")
    same(read_published(tmp_path / "a.safetensors"), {"a": TENSORS["conv.weight"]})


def test_torchfile_missing(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name == "torchfile":
            raise ImportError(name)
        return original(name, *rest)

    path = files.write_torch7(tmp_path / "a.t7", {"mean": [1, 2, 3]})
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'pip install -e "\.\[convert\]"'):
        read_published(path)


# ---- nothing is run


def evil(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that create the file `marker` when loaded carelessly, with the name each is refused for."""
    command, code = files.text(f"touch {marker}"), files.text(f"open({str(marker)!r}, 'w')")
    functions = files.name_of("builtins.eval") + files.name_of("posix.system")
    return {
        "os.system": (files.call("os.system", command), "os.system"),
        "posix.system": (files.call("posix.system", command), "posix.system"),
        "eval": (files.call("builtins.eval", code), "builtins.eval"),
        "exec of Python 2": (files.call("__builtin__.exec", code), "__builtin__.exec"),
        "getattr": (
            files.call("builtins.getattr", files.name_of("builtins.list"), files.text("x")),
            "builtins.getattr",
        ),
        "stacked global": (files.text("os") + files.text("system") + b"\x93" + files.many(command) + b"R", "os.system"),
        "inst": (b"(" + command + b"iposix\nsystem\n", "posix.system"),
        "newobj": (files.name_of("subprocess.Popen") + files.many(command) + b"\x81", "subprocess.Popen"),
        "obj": (b"(" + files.name_of("posix.system") + command + b"o", "posix.system"),
        "nested": (files.table({"a": files.call("mmengine.X", files.call("os.system", command))}), "os.system"),
        "map": (files.call("builtins.map", functions), "builtins.map"),
        "numpy": (files.call("numpy.testing._private.utils.runstring", code, b"}"), "numpy.testing"),
        "torch": (files.call("torch.load", command), "torch.load"),
        "dotted": (files.text("collections") + files.text("abc.sys.exit") + b"\x93)R", "collections.abc.sys.exit"),
        "functools": (files.call("functools.partial", files.name_of("os.system"), command), "functools.partial"),
        "pickle": (files.call("pickle.loads", command), "pickle.loads"),
    }


@pytest.mark.parametrize("kind", ["zip", "legacy", "pdparams"])
@pytest.mark.parametrize("attack", evil(Path("x")))
def test_malicious_pickles_are_refused(tmp_path, kind, attack):
    marker = tmp_path / "marker"
    content, name = evil(marker)[attack]
    path = write(tmp_path / "a.pth", kind, content)
    with pytest.raises(UserError, match=f"asks for {name}.*refused, nothing of it was run"):
        read_published(path)
    assert not marker.exists()


def test_the_attacks_do_work_on_pickle_itself(tmp_path):
    """Otherwise the test above would prove nothing."""
    for attack in ("os.system", "eval", "stacked global", "inst", "obj"):
        marker = tmp_path / attack.replace(" ", "_")
        pickle.loads(b"\x80\x04" + evil(marker)[attack][0] + b".")
        assert marker.exists()


def test_malicious_first_pickle_of_a_legacy_file(tmp_path):
    marker = tmp_path / "marker"
    path = write(tmp_path / "a.pth", "legacy", b"N")
    path.write_bytes(b"\x80\x02" + evil(marker)["os.system"][0] + b"." + path.read_bytes())
    with pytest.raises(UserError, match=r"os\.system"):
        read_published(path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "pdparams"])
def test_classes_of_training_tools_do_nothing(tmp_path, kind):
    """An mmengine checkpoint: its message hub is passed over whatever is done with it, its tensors are read."""
    module = tmp_path / "mmengine.py"
    module.write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    command = files.text("touch marker")
    hub = files.name_of("mmengine.logging.HistoryBuffer")
    objects = {
        "called": files.call("mmengine.system", command),
        "state": hub + b")\x81" + files.table({"x": files.integer(1)}) + b"b",
        "items": hub + files.many(command) + b"R" + files.table({"a": files.integer(2)})[1:],
        "appended": hub + b")R(" + files.integer(1) + files.integer(2) + b"e",
        "path": files.call("pathlib.PosixPath", files.text("/")),
    }
    array = np.arange(3, dtype=np.float32)
    if kind == "pdparams":
        content, storages = files.text("a") + b"N\x86", None  # a tuple that holds no tensor
    else:
        content, storages = files.state_dict({"w": array}, legacy=kind == "legacy")
    path = write(tmp_path / "a.pth", kind, files.table({"meta": files.table(objects), "net": content}), storages)
    same(read_published(path), {} if kind == "pdparams" else {"net.w": array})
    assert not (tmp_path / "marker").exists()


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes of whatever lies on the stack: of our functions too, if they were plain ones."""
    state = b"N" + files.table({"__defaults__": files.many(files.integer(1)), "known": b"}"}) + b"\x86"
    for name in ("torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "numpy.dtype", "mmengine.X"):
        path = write(tmp_path / "a.pdparams", "pdparams", files.name_of(name) + state + b"b")
        with pytest.raises(UserError):
            read_published(path)
    test_torch_round_trip(tmp_path, "zip")


# ---- corrupt files


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "claim",
    [
        {"size": (3, 4), "stride": (4, 1), "offset": 1},  # one number beyond the end
        {"size": (12,), "stride": (2,)},
        {"size": (1000, 1000, 1000), "stride": (0, 0, 0)},  # a small file that asks for much memory
        {"size": (2,), "stride": (-1,)},
        {"size": (-2,), "stride": (1,)},
        {"size": (2,), "stride": (1,), "offset": -1},
        {"size": (2,), "stride": (1,), "numel": 13},
        {"size": (2,), "stride": (1,), "numel": 2**31 - 1},
    ],
)
def test_tensors_that_reach_out_of_their_storage(tmp_path, kind, claim):
    claim = {"numel": 12, **claim}
    content = files.table({"a": files.tensor("0", "Float", **claim, legacy=kind == "legacy")})
    path = write(tmp_path / "a.pth", kind, content, {"0": (12, bytes(48))})
    with pytest.raises(UserError, match="corrupt"):
        read_published(path)


def test_legacy_storage_that_claims_more_than_the_file(tmp_path):
    content = files.table({"a": files.tensor("0", "Float", 2**31 - 1, (2,), (1,), legacy=True)})
    with pytest.raises(UserError, match="corrupt"):
        read_published(write(tmp_path / "a.pth", "legacy", content, {"0": (2**31 - 1, bytes(8))}))


def torch7_tensor(sizes=(3,), strides=(1,), offset=1, numel=3) -> bytes:
    """A lone FloatTensor over three numbers, with claims of its own."""
    layout = struct.pack(f"<i{2 * len(sizes) + 1}q", len(sizes), *sizes, *strides, offset)
    head = [struct.pack("<iii", 4, n, 3) + b"V 1" for n in (1, 2)]
    kinds = [struct.pack("<i", len(kind)) + kind for kind in (b"torch.FloatTensor", b"torch.FloatStorage")]
    return head[0] + kinds[0] + layout + head[1] + kinds[1] + struct.pack("<q", numel) + bytes(12)


@pytest.mark.parametrize(
    "claim", [{"sizes": (4,)}, {"strides": (2,)}, {"offset": 2}, {"offset": 0}, {"numel": 4}, {"numel": -1}]
)
def test_torch7_tensors_that_reach_out_of_their_storage(tmp_path, claim):
    path = tmp_path / "a.t7"
    table = struct.pack("<iiiii", 3, 9, 1, 2, 1) + b"w"
    path.write_bytes(table + torch7_tensor())
    assert read_published(path)["w"].tolist() == [0, 0, 0]
    path.write_bytes(table + torch7_tensor(**claim))
    with pytest.raises(UserError, match="corrupt"):
        read_published(path)


def whole_files(folder: Path) -> list[Path]:
    """One of each format."""
    content, storages = files.state_dict(TENSORS)
    paths = [write(folder / "a.pth", "zip", content, storages)]
    content, storages = files.state_dict(TENSORS, legacy=True)
    paths.append(write(folder / "b.pth", "legacy", content, storages))
    paths.append(folder / "c.pdparams")
    paths[-1].write_bytes(pickle.dumps({"a": TENSORS["conv.weight"]}, 4))
    paths.append(files.write_torch7(folder / "d.t7", {"a": TENSORS["conv.weight"], "b": [0.5, 1.5]}))
    save_file({"a": TENSORS["conv.weight"]}, folder / "e.safetensors")
    return [*paths, folder / "e.safetensors"]


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("number", range(5))
def test_truncated_and_garbled_files(tmp_path, number):
    """Every cut, and bytes turned at random: one line that names the file, never another exception."""
    path = whole_files(tmp_path)[number]
    data, rng = path.read_bytes(), np.random.default_rng(number)
    for length in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=path.name) as problem:
            read_published(path)
        assert "\n" not in str(problem.value)
    for _ in range(100):
        garbled = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            garbled[place] = rng.integers(256)
        path.write_bytes(garbled)
        try:
            read_published(path)
        except UserError as problem:
            assert "\n" not in str(problem)  # noqa: PT017


@pytest.mark.parametrize(
    "pickled, reason",
    [
        (b"Nr\xff\xff\xff\x7f", "memory slot"),  # number 2**31 - 1: pickle would make a table of 32 GB
        (b"\x96" + struct.pack("<Q", 1 << 40) + b"abc", "only 4 remain"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc", "only 4 remain"),
    ],
)
def test_pickles_that_ask_for_memory(tmp_path, pickled, reason):
    with pytest.raises(UserError, match=reason):
        read_published(write(tmp_path / "a.pth", "pdparams", pickled))


def test_shared_parts_do_not_grow_without_bound(tmp_path):
    """Thirty lists, each holding the one before twice: a billion entries in 200 bytes."""
    content = b"]q\x00" + b"".join(b"0](h" + bytes([n, 104, n]) + b"eq" + bytes([n + 1]) for n in range(30))
    with pytest.raises(UserError, match="100,000 entries"):
        read_published(write(tmp_path / "a.pth", "pdparams", content))


def test_big_endian_is_refused(tmp_path):
    content, storages = files.state_dict(TENSORS)
    with pytest.raises(UserError, match="big-endian"):
        read_published(files.write_zip(tmp_path / "a.pth", content, storages, byteorder=b"big"))
    with pytest.raises(UserError, match="big-endian"):
        read_published(files.write_legacy(tmp_path / "b.pth", b"N", {}, little_endian=False))
    (tmp_path / "c.pdparams").write_bytes(pickle.dumps({"a": np.arange(3, dtype=">f4")}, 4))
    with pytest.raises(UserError, match=">f4"):
        read_published(tmp_path / "c.pdparams")


def test_files_of_other_kinds(tmp_path):
    for name, data in {"a.pth": b"", "b.pth": b"hello", "c.t7": b"hello", "d.safetensors": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            read_published(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "e.pth", "w") as archive:
        archive.writestr("photo.txt", "hello")
    with pytest.raises(UserError, match="none that PyTorch wrote"):
        read_published(tmp_path / "e.pth")
    content, storages = files.state_dict({"a": np.zeros(10_000, np.float32)})
    with pytest.raises(UserError, match="compressed"):
        read_published(files.write_zip(tmp_path / "f.pth", content, storages, compress=zipfile.ZIP_DEFLATED))
    for missing in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            read_published(missing)


def test_object_arrays_are_refused(tmp_path):
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"a": np.array([json, None], object)[1:]}, 4))
    with pytest.raises(UserError, match="O8"):
        read_published(tmp_path / "a.pdparams")
