"""Weights published by other frameworks, as named numpy arrays; nothing in a file is ever run, and torch is not needed.

`common.checkpoint.pickled_tensors` reads the pickles.
"""

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from common.checkpoint import pickled_tensors as pickles
from common.errors import UserError

SUFFIXES = (".pth", ".pt", ".pdparams", ".t7", ".safetensors")
MAX_ENTRIES = 100_000  # a file's nested dictionaries may share parts, and so grow without bound when written out flat
MAX_NAME = 1000  # characters of a tensor's name, for the same reason


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
            content = pickles.read_pickles(path)
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
        if isinstance(value, pickles.Tensor | pickles.PickledArray | _Torch7Tensor):
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
            pickles.refuse_big_endian(path, archive.read(f"{folder}byteorder") == b"little")
        content, _, storages = pickles.unpickle(archive.read(index[0]), path)
        for key, storage in storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"))
    return content


# ---- Torch7


def _read_torch7(path: Path):
    try:
        import torchfile
    except ImportError:
        raise UserError('reading .t7 files needs the package torchfile: pip install -e ".[convert]"') from None
    size = path.stat().st_size
    # The package's own readers trust the sizes in the file and would read beyond what it holds.
    for name, dtype in (pickles.STORAGES | {"": "f4"}).items():
        for prefix in ("torch.", "torch.Cuda"):
            torchfile.register_handler(f"{prefix}{name}Storage".encode())(_torch7_storage(dtype, size))
            torchfile.register_handler(f"{prefix}{name}Tensor".encode())(_torch7_tensor)
    torchfile.register_handler(b"nngraph.Node")(_torch7_node)
    torchfile.register_handler(b"graph.Graph")(_torch7_graph)
    return torchfile.load(path)


def _torch7_storage(dtype: str, file_size: int):
    def read(reader, _version):
        (numel,) = struct.unpack("<q", reader.f.read(8))
        size = numel * pickles.item_size(dtype)
        data = reader.f.read(size) if 0 <= size <= file_size else b""
        if len(data) != size:
            raise ValueError(f"a storage of {numel} numbers goes beyond the end of the file")
        return pickles.as_array(data, dtype)

    return read


class _Torch7Tensor:
    """The package compares the items of a table with the table, which arrays refuse."""

    def __init__(self, array):
        self.array = array


def _torch7_tensor(reader, _version):
    (dimensions,) = struct.unpack("<i", reader.f.read(4))
    if not 0 <= dimensions <= pickles.MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    *layout, offset = struct.unpack(f"<{2 * dimensions + 1}q", reader.f.read(8 * (2 * dimensions + 1)))
    storage = reader.read_obj()
    if storage is None or not dimensions:
        return _Torch7Tensor(np.zeros(0, np.float32))
    return _Torch7Tensor(pickles.view(storage, offset - 1, layout[:dimensions], layout[dimensions:]))


def _torch7_node(reader, _version):
    """The layer that a node runs: the graph itself leads to every layer by thousands of ways, too many to list."""
    return reader.read_obj()[b"data"].get(b"module")


def _torch7_graph(reader, _version) -> None:
    """Nothing: its nodes are listed elsewhere too."""
    reader.read_obj()
