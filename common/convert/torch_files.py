"""Weights published by other frameworks, as named numpy arrays; nothing in a file is ever run, and torch is not needed.

Pickles go through an unpickler that knows the few names tensors are made of, each mapped to a function in here. Classes
of the modules in INERT, which training tools leave in their checkpoints, become objects that take any arguments and do
nothing; any other name, harmless or not, refuses the whole file before anything is made of it.
"""

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from common.errors import UserError

SUFFIXES = (".pth", ".pt", ".pdparams", ".t7", ".safetensors")
INERT = {"argparse", "mmagic", "mmcv", "mmedit", "mmengine", "pathlib"}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file by PyTorch before 1.6
MAX_ENTRIES = 100_000  # a file's nested dictionaries may share parts, and so grow without bound when written out flat
MAX_NAME = 1000  # characters of a tensor's name, for the same reason
MAX_DIMENSIONS = 32
# Tuples may lie in one another deeper than Python can go down, and tuples and long numbers can be found that one
# dictionary takes hours to tell apart. A tensor makes six tuples and calls; the only long number is LEGACY_MAGIC.
MAX_MADE, MAX_LONG = 30_000, 100
MAKING = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ"}

NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}  # numpy's letters of weights

# Letters as in numpy; bfloat16, which numpy lacks, becomes float32.
STORAGES = {
    **{"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bfloat16"},
    **{"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"},
}


def weights_file_in(path: Path, others: str = "") -> Path:
    """The one weights file that a folder holds, for a folder; any other path as it is.

    Args:
        others: a pattern of names that count too, of published files without one of SUFFIXES.

    Raises:
        UserError: the folder holds no such file, or several, which are named.
    """
    if not path.is_dir():
        return path
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    found = [file for file in files if file.suffix.lower() in SUFFIXES or (others and re.fullmatch(others, file.name))]
    if not found:
        raise UserError(
            f"there is no weights file in the folder {path}: none ends in {', '.join(SUFFIXES)}, nor in .index, as one "
            "of a TensorFlow checkpoint does (snap-0.index)"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise UserError(f"{path} holds {len(found)} weights files ({names}); name one of them, such as {found[-1]}")
    print(f"read: {found[0]}, the one weights file of the folder")
    return found[0]


def read_published(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a weights file by name, nested tables joined by dots.

    A list of numbers counts as a tensor; single numbers and texts are left out.

    Knows PyTorch's files of both kinds, Paddle's `.pdparams`, Torch7's `.t7` (a network's first layer is
    `modules.0.weight`, below the name of the table that holds it; in a graph of nngraph's, whose nodes count as the
    layers that they run, also `forwardnodes.1.weight`) and `.safetensors`; only the last two go by suffix.

    Returns:
        Name -> array, possibly read-only and sharing memory with others. bfloat16 comes as float32.

    Raises:
        UserError: no such file, no known kind, corrupt or truncated, or it asks for something else than tensors.
    """
    path = Path(path)
    try:
        start = _first_bytes(path)
        if path.suffix.lower() == ".safetensors":
            content = load_file(path)
        elif path.suffix.lower() == ".t7":
            content = _read_torch7(path)
        elif start.startswith(b"PK\x03\x04"):
            content = _read_zip(path)
        elif start.startswith(b"\x80"):
            content = _read_pickles(path)
        else:
            raise UserError(f"{path} is no weights file of a known kind: .pth, .pt, .pdparams, .t7 or .safetensors")
        return _flatten(content)
    except UserError:
        raise
    except Exception as problem:  # a corrupt file can raise anything, down to a MemoryError
        reason = " ".join(str(problem).split())[:200]
        raise UserError(
            f"{path} is corrupt, truncated or of an unknown type ({reason or type(problem).__name__})"
        ) from None


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror or problem}") from None


def _flatten(content) -> dict[str, np.ndarray]:
    found, lists, entries = {}, {}, 0

    def walk(value, name: str, above: tuple) -> None:
        nonlocal entries
        entries += 1
        if entries > MAX_ENTRIES or len(name) > MAX_NAME:
            raise ValueError(f"more than {MAX_ENTRIES:,} entries, or a name longer than {MAX_NAME:,} characters")
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            value = value[1]  # Paddle: (its own name, array)
        if isinstance(value, _Tensor | _PickledArray | _Torch7Tensor):
            value = value.array
        elif type(value).__name__ == "TorchObject":
            value = value._obj
        if isinstance(value, list) and id(value) not in lists:  # it may stand under many names
            numbers = value and all(isinstance(item, int | float) for item in value)
            lists[id(value)] = np.array(value, np.float32) if numbers else value
        value = lists.get(id(value), value)
        if isinstance(value, np.ndarray):
            if name in found or not name.isprintable():
                raise ValueError(f"two tensors named {name!r}, or no name for a tensor")
            found[name] = value
        elif isinstance(value, dict | list | tuple) and id(value) not in above:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                key = key.decode("latin1") if isinstance(key, bytes) else str(key)
                walk(item, f"{name}.{key}" if name else key, (*above, id(value)))

    walk(content, "", ())
    return found


# ---- pickles


class _Storage:
    def __init__(self, dtype, numel):
        self.dtype, self.numel, self.numbers = dtype, numel, None

    def fill(self, data: bytes) -> None:
        if len(data) != self.numel * _item_size(self.dtype):
            raise ValueError(f"a storage of {len(data)} bytes where {self.numel} numbers were announced")
        self.numbers = _numbers(data, self.dtype)


class _Tensor:
    def __init__(self, storage, offset, size, stride):
        self.storage, self.layout = storage, (offset, size, stride)

    @property
    def array(self) -> np.ndarray:
        return _view(self.storage.numbers, *self.layout)


class _PickledDtype:
    def __init__(self, letters):
        self.letters, self.order = letters, "<"

    def __setstate__(self, state):
        self.order = state[1]


class _PickledArray:
    array = None

    def __init__(self, encode):
        self.encode = encode

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        if dtype.order == ">" or dtype.letters not in NUMBERS:
            raise ValueError(f"arrays of type {dtype.order}{dtype.letters} are no weights of a kind known here")
        data = self.encode(data, "latin1") if isinstance(data, str) else data  # a pickle written by Python 2
        self.array = np.frombuffer(data, np.dtype(dtype.letters)).reshape(shape, order="F" if fortran else "C")


def _inert() -> type:
    class Inert:
        def __new__(cls, *_, **__):
            return object.__new__(cls)

        def __init__(self, *_, **__):
            pass

        def __setstate__(self, _):
            pass

        __setitem__ = append = extend = add = update = lambda self, *_: None

    return Inert


class _Unpickler(pickle.Unpickler):
    """Knows tensors, and nothing else. `storages` collects what the tensors say about their storages."""

    def __init__(self, data: bytes, path: Path):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.path, self.storages, self.inert = path, {}, _inert()
        self.room = len(data)  # entries that copies may have in all: of what a pickle holds, each needs a byte there
        # Bound methods, since a pickle may set attributes of what it is given, and those have none to set.
        self.known = {f"torch.{name}Storage": dtype for name, dtype in STORAGES.items()} | {
            "collections.OrderedDict": self._table,
            "builtins.tuple": self._tuple,
            "__builtin__.tuple": self._tuple,
            "_codecs.encode": self._latin1,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": self._dtype,
            "torch._utils._rebuild_tensor": self._tensor,  # PyTorch before 0.4
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
        }
        for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
            self.known |= {f"{core}._reconstruct": self._array, f"{core}.scalar": self._scalar}

    def find_class(self, module, name):
        wanted = f"{module}.{name}"
        if wanted in self.known:
            return self.known[wanted]
        if module.partition(".")[0] in INERT:
            return self.inert
        wanted = ascii(wanted)[1:-1][:100]
        raise UserError(f"{self.path} asks for {wanted}, which no state_dict needs: refused, nothing of it was run")

    def persistent_load(self, pid):
        kind, dtype, key, _, numel, *view = pid
        if kind != "storage" or any(view):
            raise ValueError("an unknown kind of storage")
        return self.storages.setdefault(key, _Storage(dtype, numel))

    def _copied(self, part):
        """The part, if the pickle has not had its parts copied so often that it grows without bound."""
        self.room -= len(part)
        if self.room < 0:
            raise ValueError("the same parts are copied again and again")
        return part

    def _table(self, *pairs):
        return OrderedDict(*map(self._copied, pairs))

    def _tuple(self, items):
        return tuple(self._copied(items))

    def _tensor(self, storage, offset, size, stride, *_):
        return _Tensor(storage, offset, size, stride)

    def _parameter(self, tensor, *_):
        return tensor

    def _array(self, *_):
        return _PickledArray(self._latin1)

    def _dtype(self, letters, *_):
        return _PickledDtype(letters)

    def _scalar(self, *_):
        return None

    def _latin1(self, text, encoding):
        if encoding != "latin1":
            raise ValueError(f"text encoded as {encoding!r}")
        return self._copied(text).encode("latin1")


def _unpickle(data: bytes, path: Path, start: int = 0) -> tuple[object, int, dict[str, _Storage]]:
    """(object, where its pickle ends, the storages of its tensors by key, not filled)."""
    stream = io.BytesIO(data)
    stream.seek(start)
    # This only looks; sizes beyond what the file holds end here, before the unpickler makes room for them.
    made = long = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if "PUT" in opcode.name and argument > count:
            raise ValueError("a memory slot far beyond those in use")
        made += opcode.name in MAKING
        long += isinstance(argument, int) and argument.bit_length() > 64
        if made > MAX_MADE or long > MAX_LONG:
            raise ValueError(f"more than {MAX_MADE:,} tuples and calls, or than {MAX_LONG} long numbers")
    reader = _Unpickler(data[start : stream.tell()], path)
    return reader.load(), stream.tell(), reader.storages


def _read_zip(path: Path):
    """PyTorch since 1.6: a zip with data.pkl and a file data/KEY for each storage."""
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise UserError(
                f"{path} is compressed or corrupt (a TorchScript program?); torch.save of a state_dict is not"
            )
        index = [name for name in archive.namelist() if Path(name).name == "data.pkl"]
        if len(index) != 1:
            raise UserError(f"{path} is a zip file, but none that PyTorch wrote")
        folder = index[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            _refuse_big_endian(path, archive.read(f"{folder}byteorder") == b"little")
        content, _, storages = _unpickle(archive.read(index[0]), path)
        for key, storage in storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"))
    return content


def _read_pickles(path: Path):
    """PyTorch before 1.6 (five pickles, then the storages), or Paddle (one pickle)."""
    data = path.read_bytes()
    content, at, _ = _unpickle(data, path)
    if content != LEGACY_MAGIC:
        return content
    _, at, _ = _unpickle(data, path, at)  # the version of this format
    machine, at, _ = _unpickle(data, path, at)
    _refuse_big_endian(path, machine["little_endian"])
    content, at, storages = _unpickle(data, path, at)
    keys, at, _ = _unpickle(data, path, at)
    for key in keys:
        if key not in storages:
            raise ValueError("a storage that no tensor has")
        (numel,) = struct.unpack_from("<q", data, at)
        end = at + 8 + numel * _item_size(storages[key].dtype)
        storages[key].fill(memoryview(data)[at + 8 : end])
        at = end
    return content


def _refuse_big_endian(path: Path, little: bool) -> None:
    if not little:
        raise UserError(f"{path} was written on a big-endian machine, which is not supported")


# ---- numbers


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(data: bytes, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype))


def _view(numbers: np.ndarray, offset: int, size, stride) -> np.ndarray:
    """The tensor that offset, size and stride (in numbers) cut from a storage. Raises ValueError if it reaches out."""
    if len(size) > MAX_DIMENSIONS or any(side.bit_length() > 63 for side in size):
        raise ValueError("a tensor of too many or too long dimensions")
    if prod(size) > len(numbers):
        raise ValueError(f"a tensor of size {list(size)} is larger than its storage of {len(numbers)} numbers")
    if prod(size) == 0:
        return np.zeros(size, numbers.dtype)
    item = numbers.dtype.itemsize
    strides = [step * item for step in stride]
    return np.ndarray(tuple(size), numbers.dtype, buffer=numbers, offset=offset * item, strides=strides)


# ---- Torch7


def _read_torch7(path: Path):
    try:
        import torchfile
    except ImportError:
        raise UserError('reading .t7 files needs the package torchfile: pip install -e ".[convert]"') from None
    size = path.stat().st_size
    # The package's own readers trust the sizes in the file and would read beyond what it holds.
    for name, dtype in (STORAGES | {"": "f4"}).items():
        for prefix in ("torch.", "torch.Cuda"):
            torchfile.register_handler(f"{prefix}{name}Storage".encode())(_torch7_storage(dtype, size))
            torchfile.register_handler(f"{prefix}{name}Tensor".encode())(_torch7_tensor)
    torchfile.register_handler(b"nngraph.Node")(_torch7_node)
    torchfile.register_handler(b"graph.Graph")(_torch7_graph)
    return torchfile.load(path)


def _torch7_storage(dtype: str, file_size: int):
    def read(reader, _version):
        (numel,) = struct.unpack("<q", reader.f.read(8))
        size = numel * _item_size(dtype)
        data = reader.f.read(size) if 0 <= size <= file_size else b""
        if len(data) != size:
            raise ValueError(f"a storage of {numel} numbers goes beyond the end of the file")
        return _numbers(data, dtype)

    return read


class _Torch7Tensor:
    """The package compares the items of a table with the table, which arrays refuse."""

    def __init__(self, array):
        self.array = array


def _torch7_tensor(reader, _version):
    (dimensions,) = struct.unpack("<i", reader.f.read(4))
    if not 0 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    *layout, offset = struct.unpack(f"<{2 * dimensions + 1}q", reader.f.read(8 * (2 * dimensions + 1)))
    storage = reader.read_obj()
    if storage is None or not dimensions:
        return _Torch7Tensor(np.zeros(0, np.float32))
    return _Torch7Tensor(_view(storage, offset - 1, layout[:dimensions], layout[dimensions:]))


def _torch7_node(reader, _version):
    """The layer that a node runs: the graph itself leads to every layer by thousands of ways, too many to list."""
    return reader.read_obj()[b"data"].get(b"module")


def _torch7_graph(reader, _version) -> None:
    """Nothing: its nodes are listed elsewhere too."""
    reader.read_obj()
