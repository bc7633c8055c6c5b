"""Tensors from pickles, of which nothing is ever run: the one way to a `.pdparams` or `.pth` that somebody else wrote.

Pickles go through an unpickler that knows the few names tensors are made of, each mapped to a function in here. Classes
of the modules in INERT, which training tools leave in their checkpoints, become objects that take any arguments and do
nothing; any other name, harmless or not, refuses the whole file before anything is made of it.
"""

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from math import prod
from pathlib import Path

import numpy as np

from common.errors import UserError

INERT = {"argparse", "mmagic", "mmcv", "mmedit", "mmengine", "pathlib"}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file by PyTorch before 1.6
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


class Storage:
    """The numbers that tensors of PyTorch are views of; `fill` brings them, for they may lie apart from the pickle."""

    def __init__(self, dtype, numel):
        self.dtype, self.numel, self.numbers = dtype, numel, None

    def fill(self, data: bytes) -> None:
        if len(data) != self.numel * item_size(self.dtype):
            raise ValueError(f"a storage of {len(data)} bytes where {self.numel} numbers were announced")
        self.numbers = as_array(data, self.dtype)


class Tensor:
    """A tensor of PyTorch; its `array` is there once its storage is filled."""

    def __init__(self, storage, offset, size, stride):
        self.storage, self.layout = storage, (offset, size, stride)

    @property
    def array(self) -> np.ndarray:
        return view(self.storage.numbers, *self.layout)


class _PickledDtype:
    def __init__(self, letters):
        self.letters, self.order = letters, "<"

    def __setstate__(self, state):
        self.order = state[1]


class PickledArray:
    """What a pickle makes a numpy array of; its `array`."""

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
        return self.storages.setdefault(key, Storage(dtype, numel))

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
        return Tensor(storage, offset, size, stride)

    def _parameter(self, tensor, *_):
        return tensor

    def _array(self, *_):
        return PickledArray(self._latin1)

    def _dtype(self, letters, *_):
        return _PickledDtype(letters)

    def _scalar(self, *_):
        return None

    def _latin1(self, text, encoding):
        if encoding != "latin1":
            raise ValueError(f"text encoded as {encoding!r}")
        return self._copied(text).encode("latin1")


def unpickle(data: bytes, path: Path, start: int = 0) -> tuple[object, int, dict[str, Storage]]:
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


def read_pickles(path: Path):
    """PyTorch before 1.6 (five pickles, then the storages), or Paddle (one pickle)."""
    data = path.read_bytes()
    content, at, _ = unpickle(data, path)
    if content != LEGACY_MAGIC:
        return content
    _, at, _ = unpickle(data, path, at)  # the version of this format
    machine, at, _ = unpickle(data, path, at)
    refuse_big_endian(path, machine["little_endian"])
    content, at, storages = unpickle(data, path, at)
    keys, at, _ = unpickle(data, path, at)
    for key in keys:
        if key not in storages:
            raise ValueError("a storage that no tensor has")
        (numel,) = struct.unpack_from("<q", data, at)
        end = at + 8 + numel * item_size(storages[key].dtype)
        storages[key].fill(memoryview(data)[at + 8 : end])
        at = end
    return content


def refuse_big_endian(path: Path, little: bool) -> None:
    """Raises UserError for a file of another byte order."""
    if not little:
        raise UserError(f"{path} was written on a big-endian machine, which is not supported")


# ---- numbers


def item_size(dtype: str) -> int:
    """Bytes of one number."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def as_array(data: bytes, dtype: str) -> np.ndarray:
    """The numbers in the bytes of a storage; bfloat16 as float32."""
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype))


def view(numbers: np.ndarray, offset: int, size, stride) -> np.ndarray:
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
