"""TensorFlow checkpoints as named numpy arrays, without TensorFlow; nothing in a file is ever run.

A checkpoint NAME (of version 2, a "tensor bundle") is several files. NAME.index is a table, sorted by name, of each
tensor's type, shape, place and checksum; NAME.data-00000-of-00001 and so on, the shards, hold the numbers; NAME.meta,
the program, is never opened. The table has LevelDB's layout (google/leveldb, doc/table_format.md): blocks of entries, a
block that lists the blocks, and a footer that leads to it. The entries are those of TensorFlow's
core/protobuf/tensor_bundle.proto.
"""

import functools
import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import UserError

PARTS = re.compile(r"(?P<name>.+)\.(index|meta|data-\d{5}-of-\d{5})")
LISTS = ("checkpoint", "checkpoint.txt")  # TensorFlow's list of checkpoints, and what a release calls it
FOOTER = 48  # bytes: two places of blocks, room, and the magic number
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: its compression and its checksum
MAX_DIMENSIONS = 32
MAX_NAME = 1000  # bytes; a name may start with the one before, so that a small table could hold endlessly long ones
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}  # of tensorflow/core/framework/types.proto
TEXT = 7
LANE = 1024  # bytes that each of many checksums goes through, side by side


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is the name of a TensorFlow checkpoint, or of one of its files."""
    path = Path(path)
    return bool(PARTS.fullmatch(path.name)) or path.with_name(f"{path.name}.index").is_file()


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a folder, or the list in it, stands for; any other path, and a folder without, as it is.

    Raises:
        UserError: the folder holds more than one index and no list.
    """
    folder = path.parent if path.name in LISTS and not path.is_dir() else path
    if not folder.is_dir():
        return path
    for text in (folder / name for name in LISTS if (folder / name).is_file()):
        listed = re.search(r'^model_checkpoint_path: *"(.*[/\\])?(.+)"', text.read_text(errors="replace"), re.MULTILINE)
        if listed:
            return folder / f"{listed[2]}.index"
    found = sorted(folder.glob("*.index"))
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} checkpoints; name one of them, such as {found[-1]}")
    return found[0] if found else path


def checkpoint_files(path: str | Path) -> list[Path]:
    """The index and the shards that `read_checkpoint` reads.

    Raises:
        UserError: as of `read_checkpoint`, as far as the index tells.
    """
    entries, count = _one_line(_read_index, path)
    return [_index(path), *(_shard(path, number, count) for number in sorted({entry.shard for entry in entries}))]


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a TensorFlow checkpoint by name, in the order of the names. Texts are left out.

    Args:
        path: NAME, or one of its files.

    Returns:
        Name -> float16, float32, float64, int32 or int64 array, read-only, laid out as TensorFlow does.

    Raises:
        UserError: a file is missing, corrupt or truncated; a tensor's checksum is wrong, its type is another, or it is
            stored in slices; the checkpoint is big-endian or of a later version.
    """
    return _one_line(_read, path)


def _one_line(work, path: str | Path):
    """work(path), whatever goes wrong told in one line."""
    try:
        return work(path)
    except UserError:
        raise
    except Exception as problem:  # a corrupt file can raise anything, down to a MemoryError
        reason = " ".join(str(problem).split())[:200]
        raise UserError(f"{_index(path)} is corrupt or truncated ({reason or type(problem).__name__})") from None


def _read(path: str | Path) -> dict[str, np.ndarray]:
    entries, count = _read_index(path)
    tensors = {}
    for number in sorted({entry.shard for entry in entries}):
        shard, mine = _shard(path, number, count), [entry for entry in entries if entry.shard == number]
        try:
            with shard.open("rb") as file:
                _refuse_truncated(shard, mine)
                tensors |= {entry.name: _tensor(file, shard, entry) for entry in mine}
        except FileNotFoundError:
            raise UserError(f"there is no {shard}, which holds the numbers; a checkpoint is all its files") from None
        except OSError as problem:
            raise UserError(f"cannot read {shard}: {problem.strerror or problem}") from None
    return {entry.name: tensors[entry.name] for entry in entries}


def _base(path: str | Path) -> Path:
    path = Path(path)
    match = PARTS.fullmatch(path.name)
    return path.with_name(match["name"]) if match else path


def _index(path: str | Path) -> Path:
    base = _base(path)
    return base.with_name(f"{base.name}.index")


def _shard(path: str | Path, number: int, count: int) -> Path:
    base = _base(path)
    return base.with_name(f"{base.name}.data-{number:05d}-of-{count:05d}")


# ---- tensors


class _Entry(NamedTuple):
    """A tensor: where its bytes are, and what they are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int | None


def _read_index(path: str | Path) -> tuple[list[_Entry], int]:
    """(the tensors by name, number of shards)."""
    index = _index(path)
    try:
        data = index.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no {index}; a TensorFlow checkpoint has one beside its .data files") from None
    except OSError as problem:
        raise UserError(f"cannot read {index}: {problem.strerror or problem}") from None
    table, before = [], None
    for key, value in _table(data, index):
        if before is not None and key <= before:
            raise ValueError("its names are not in order")
        table.append((key, _message(value)))
        before = key
    if not table or table[0][0] != b"":
        raise UserError(f"{index} is a table, but none of a checkpoint: it has no header")
    header = table[0][1]
    count = _number(header, 1)
    if _number(header, 2) != 0:
        raise UserError(f"{index} was written on a big-endian machine, which is not supported")
    if _number(_message(_bytes(header, 3)), 2) > 1:
        raise UserError(f"{index} is of a later version than is known here")
    entries = [_entry(key, message, count, index) for key, message in table[1:]]
    return [entry for entry in entries if entry], count


def _entry(key: bytes, message: dict, count: int, index: Path) -> _Entry | None:
    """A tensor as the index describes it; None for texts."""
    if key.startswith(b"\0"):
        raise UserError(f"{index} holds variables that are stored in slices, which is not supported")
    name = key.decode()
    if not name.isprintable():
        raise ValueError(f"no name for a tensor: {name!r}")
    if 7 in message:
        raise UserError(f"{index}: {name} is stored in slices, which is not supported")
    kind, shape = _number(message, 1), _message(_bytes(message, 2))
    if kind == TEXT:
        return None
    if kind not in DTYPES:
        raise UserError(f"{index}: {name} is of TensorFlow's type {kind}; floats and integers (int32, int64) are known")
    sizes = tuple(_number(_message(dimension), 1) for dimension in shape.get(2, []))
    if len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"{name} has {len(sizes)} dimensions")
    shard, offset, size = (_number(message, field) for field in (3, 4, 5))
    if _number(shape, 3) or min(sizes, default=0) < 0 or size != prod(sizes) * np.dtype(DTYPES[kind]).itemsize:
        raise ValueError(f"{name} has {size} bytes and the shape {list(sizes)}")
    if not 0 <= shard < count or offset < 0:
        raise ValueError(f"{name} lies in shard {shard} of {count} at {offset}")
    checksum = struct.unpack("<I", _bytes(message, 6))[0] if 6 in message else None
    return _Entry(name, DTYPES[kind], sizes, shard, offset, size, checksum)


def _refuse_truncated(shard: Path, entries: list[_Entry]) -> None:
    """Raises UserError if a shard cannot hold its tensors, each in a place of its own."""
    size = shard.stat().st_size
    for entry in entries:
        if entry.offset + entry.size > size:
            raise UserError(f"{shard} is truncated: {entry.name} ends at {entry.offset + entry.size} of {size} bytes")
    if sum(entry.size for entry in entries) > size:
        raise UserError(f"{shard} is corrupt: its tensors overlap")


def _tensor(file, shard: Path, entry: _Entry) -> np.ndarray:
    file.seek(entry.offset)
    data = file.read(entry.size)
    if entry.checksum is not None and _mask(crc32c(data)) != entry.checksum:
        raise UserError(f"{shard} is damaged: the checksum of {entry.name} is wrong; copy or download it again")
    return np.frombuffer(data, entry.dtype).reshape(entry.shape)


# ---- tables


def _table(data: bytes, index: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise UserError(f"{index} is no index of a TensorFlow checkpoint, or it is truncated")
    _, at = _place(data, len(data) - FOOTER)  # of a block that tells about the table: empty
    blocks, _ = _place(data, at)
    for _, handle in _entries(_block(data, *blocks)):
        block, _ = _place(handle, 0)
        yield from _entries(_block(data, *block))


def _place(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """((offset and size of a block), where what follows starts)."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + TRAILER > len(data) - FOOTER:
        raise ValueError(f"a block of {size} bytes at {offset} goes beyond the end")
    compression, checksum = struct.unpack_from("<BI", data, end)
    if _mask(crc32c(data[offset : end + 1])) != checksum:
        raise ValueError(f"the checksum of the block at {offset} is wrong")
    if compression:
        raise ValueError(f"the block at {offset} is compressed, which TensorFlow's own are not")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. A key is told by how much of the one before it begins with, and by the rest."""
    (restarts,) = struct.unpack("<I", block[-4:])  # places where a whole key is, for searching
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes with {restarts} restarts")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + rest + size > end or shared + rest > MAX_NAME:
            raise ValueError(f"an entry goes beyond its block, or its name beyond {MAX_NAME} bytes")
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + size]
        at += rest + size


# ---- numbers and messages


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(a number of seven bits per byte, the lowest first, where what follows starts)."""
    value = 0
    for place in range(10):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return value, at + place + 1
    raise ValueError("a number does not end")


def _message(data: bytes) -> dict[int, list]:
    """Fields of a protocol buffer: number -> values, integers or bytes."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at > len(data):
            raise ValueError("a field goes beyond its message")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(message: dict[int, list], field: int) -> int:
    """A field's last value as a signed 64-bit number; 0 if it is not there."""
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {field} is no number")
    return value - (1 << 64) if value >> 63 else value


def _bytes(message: dict[int, list], field: int) -> bytes:
    """A field's last value; empty if it is not there."""
    value = message.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"field {field} is a number")
    return value


# ---- checksums


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes, as RFC 3720 has it.

    Long data are cut into lanes, whose checksums numpy computes side by side. Checksums are linear: that of the whole
    is that of the last lane, plus that of all before it, carried on over as many zeros.
    """
    lanes = len(data) // LANE
    state, table = 0xFFFFFFFF, _byte_table().tolist()
    if lanes:
        rows = np.frombuffer(data, np.uint8, lanes * LANE).reshape(lanes, LANE).T
        first, second, third, fourth = _over_zeros()
        for own in _carry(np.zeros(lanes, np.uint32), np.ascontiguousarray(rows)).tolist():
            state = first[state & 255] ^ second[state >> 8 & 255] ^ third[state >> 16 & 255] ^ fourth[state >> 24] ^ own
    for byte in data[lanes * LANE :]:
        state = table[(state ^ byte) & 255] ^ state >> 8
    return state ^ 0xFFFFFFFF


def _mask(checksum: int) -> int:
    """As LevelDB stores checksums, so that data that hold checksums are safe: turned by 15 bits, plus a constant."""
    return ((checksum >> 15 | checksum << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _byte_table() -> np.ndarray:
    """uint32 [256]: what each byte does to a checksum of 0."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


@functools.cache
def _over_zeros() -> list[list[int]]:
    """What LANE zeros make of each value of each of the four bytes of a checksum, lowest byte first."""
    starts = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    return _carry(starts.ravel(), np.zeros((LANE, 1), np.uint8)).reshape(4, 256).tolist()


def _carry(states: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Checksums uint32 [N] carried on over bytes uint8 [L, N]."""
    table = _byte_table()
    for row in rows:
        states = table.take((states ^ row).astype(np.uint8)) ^ states >> 8
    return states
