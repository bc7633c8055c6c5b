"""TensorFlow checkpoints, written here by the formats' descriptions or by TensorFlow itself: read in full, or refused.

`write_bundle` is used by tests/dcgan_completion/test_convert.py too. The same files read by TensorFlow 2.21 gave the
same tensors, and its own, with 307 tensors of all types known here, were read the same; it is not needed here.
"""

import struct
from pathlib import Path

import numpy as np
import pytest

from common.convert.tensorflow_checkpoints import checkpoint_files, crc32c, is_checkpoint, read_checkpoint
from common.errors import UserError

DTYPES = {"f4": 1, "f8": 2, "i4": 3, "i8": 9, "f2": 19}


# ---- a writer of tensor bundles; `change` spoils one of its steps


def checksum(data: bytes) -> int:
    """CRC-32C, bit by bit: the remainder of a division by the polynomial 1EDC6F41, lowest bit first."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


TABLE = [checksum(bytes([n])) ^ checksum(b"\0") for n in range(256)]


def masked(data: bytes) -> bytes:
    """As it is stored: rotated right by 15 bits, plus a constant. The checksum goes by bytes, for speed."""
    state = 0xFFFFFFFF
    for byte in data:
        state = TABLE[(state ^ byte) & 255] ^ state >> 8
    state ^= 0xFFFFFFFF
    return struct.pack("<I", ((state >> 15 | state << 17) % 2**32 + 0xA282EAD8) % 2**32)


def varint(value: int) -> bytes:
    value %= 2**64
    parts = []
    while value > 127:
        parts.append(value % 128 + 128)
        value //= 128
    return bytes([*parts, value])


def field(number: int, value) -> bytes:
    """One field of a protocol buffer, a number or bytes; zeros are not written."""
    if isinstance(value, bytes):
        return varint(8 * number + 2) + varint(len(value)) + value
    return varint(8 * number) + varint(value) if value else b""


def block(items: list[tuple[bytes, bytes]], restart_interval: int = 16, compression: int = 0) -> bytes:
    data, restarts, before = b"", [], b""
    for n, (key, value) in enumerate(items):
        shared = 0
        if n % restart_interval == 0:
            restarts.append(len(data))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    data += struct.pack(f"<{len(restarts or [0]) + 1}I", *(restarts or [0]), len(restarts or [0]))
    return data + bytes([compression]) + masked(data + bytes([compression]))


def table(items: list[tuple[bytes, bytes]], per_block: int = 100, compression: int = 0) -> bytes:
    data, places = b"", []

    def add(part: bytes) -> bytes:
        nonlocal data
        place = varint(len(data)) + varint(len(part) - 5)
        data += part
        return place

    for start in range(0, len(items), per_block):
        part = items[start : start + per_block]
        places.append((part[-1][0], add(block(part, compression=compression))))
    ends = add(block([])) + add(block(places, restart_interval=1))
    return data + ends.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def header(shards: int = 1, big_endian: int = 0, min_consumer: int = 0) -> bytes:
    return field(1, shards) + field(2, big_endian) + field(3, field(1, 1) + field(2, min_consumer))


def entry(dtype: int, shape, shard: int, offset: int, size: int, crc: bytes | None, more: bytes = b"") -> bytes:
    dimensions = b"".join(field(2, field(1, side)) for side in shape)
    numbers = field(3, shard) + field(4, offset) + field(5, size)
    return field(1, dtype) + field(2, dimensions) + numbers + (varint(8 * 6 + 5) + crc if crc else b"") + more


def write_bundle(
    base: Path, tensors: dict[str, np.ndarray], shards: int = 1, *, crc: bool = True, extra=(), **options
) -> Path:
    """Writes base.index and base.data-…, tensors dealt to shards in turn. `extra`: (key, value) more for the index."""
    items, data = [(b"", header(shards)), *extra], [b""] * shards
    for n, (name, array) in enumerate(tensors.items()):
        raw, shard = array.tobytes(), n % shards
        kind = DTYPES[array.dtype.str[1:]]
        place = (shard, len(data[shard]), len(raw))
        items.append((name.encode(), entry(kind, array.shape, *place, masked(raw) if crc else None)))
        data[shard] += raw
    base.with_name(f"{base.name}.index").write_bytes(table(sorted(items), **options))
    for shard, numbers in enumerate(data):
        base.with_name(f"{base.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(numbers)
    return base


def index_of(base: Path) -> Path:
    return base.with_name(f"{base.name}.index")


def data_of(base: Path) -> Path:
    return base.with_name(f"{base.name}.data-00000-of-00001")


TENSORS = {
    "net/conv_1/w": np.arange(150, dtype=np.float32).reshape(5, 5, 3, 2) - 7,
    "net/conv_1/biases": np.array([0.5, -2], np.float16),
    "net/conv_1/biases/Adam": np.array([1e-300, 3], np.float64),
    "global_step": np.array(-3_000_000_000, np.int64),
    "counts": np.array([[-1, 2], [3, 4]], np.int32),
    "empty": np.zeros((0, 3), np.float32),
    **{f"net/layer_{n:02d}/scale": np.array([n, -n], np.float32) for n in range(40)},
}


def same(got: dict, wanted: dict):
    assert list(got) == sorted(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def refused(path, *told: str):
    with pytest.raises(UserError) as problem:
        read_checkpoint(path)
    line = str(problem.value)
    assert "\n" not in line and all(part in line for part in told), line
    return line


# ---- what is read

# Two files that TensorFlow 2.21 wrote.
INDEX = """
00000608011a020801000b0b676c6f62616c5f7374657008091200280835c1dbc017000f116e65742f636f6e762f6269617365730813120412020803
200828063562c0201509011577080112081202080212020803200e2818359bd96a990000000001000000000856eb37000000000100000000c0f2a1b0
0001026f00660000000001000000008cf23b006b08780e00000000000000000000000000000000000000000000000000000000000000000000000057
fb808b247547db"""
DATA = "56ec000000000000003800c00042000080bf000040bf000000bf000080be000000000000803e"
WRITTEN = {
    "global_step": np.array(60502, np.int64),
    "net/conv/biases": np.array([0.5, -2, 3], np.float16),
    "net/conv/w": np.array([[-1, -0.75, -0.5], [-0.25, 0, 0.25]], np.float32),
}


def tensorflows(folder: Path) -> Path:
    base = folder / "small.ckpt"
    index_of(base).write_bytes(bytes.fromhex(INDEX))
    data_of(base).write_bytes(bytes.fromhex(DATA))
    return base


def test_what_tensorflow_wrote(tmp_path):
    same(read_checkpoint(tensorflows(tmp_path)), WRITTEN)


def test_the_writer_here_writes_what_tensorflow_wrote(tmp_path):
    """But for the block that lists the blocks, where TensorFlow shortens names."""
    ours, theirs = write_bundle(tmp_path / "ours", WRITTEN), tensorflows(tmp_path)
    assert data_of(ours).read_bytes() == data_of(theirs).read_bytes()
    assert index_of(ours).read_bytes()[:120] == index_of(theirs).read_bytes()[:120]  # the tensors' block, and an empty


@pytest.mark.parametrize("shards, per_block", [(1, 100), (3, 7), (2, 1)])
@pytest.mark.parametrize("crc", [True, False])
def test_every_tensor_is_read(tmp_path, shards, per_block, crc):
    base = write_bundle(tmp_path / "model.ckpt-12", TENSORS, shards, crc=crc, per_block=per_block)
    same(read_checkpoint(base), TENSORS)


def test_any_name_of_a_checkpoint_will_do(tmp_path):
    base = write_bundle(tmp_path / "DCGAN.model-60502", TENSORS, 2)
    files = [index_of(base), *(tmp_path / f"DCGAN.model-60502.data-0000{n}-of-00002" for n in range(2))]
    for path in (base, *files, tmp_path / "DCGAN.model-60502.meta", str(base)):
        assert is_checkpoint(path)
        same(read_checkpoint(path), TENSORS)
        assert checkpoint_files(path) == files
    assert not is_checkpoint(tmp_path / "DCGAN.model") and not is_checkpoint(tmp_path / "netG.pth")


def test_texts_are_left_out(tmp_path):
    text = [(b"a/text", entry(7, [], 0, 0, 3, None))]
    base = write_bundle(tmp_path / "a", TENSORS, extra=text)
    same(read_checkpoint(base), TENSORS)


def test_checksums():
    """RFC 3720, B.4; and lengths around those that are computed in lanes of 1024 bytes."""
    vectors = [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)]
    for data, wanted in [*vectors, (b"123456789", 0xE3069283), (b"", 0)]:
        assert checksum(data) == crc32c(data) == wanted
    numbers = np.random.default_rng(0).bytes(5000)
    for size in (1, 1023, 1024, 1025, 2048, 4097, 5000):
        assert crc32c(numbers[:size]) == checksum(numbers[:size])


# ---- what is refused


def test_every_truncation_of_the_index_is_told(tmp_path):
    base = tensorflows(tmp_path)
    whole = index_of(base).read_bytes()
    for length in range(len(whole)):
        index_of(base).write_bytes(whole[:length])
        refused(base, "small.ckpt.index", "truncated")


def test_every_changed_byte_of_the_index_is_told(tmp_path):
    """But for the block that tells about the table, which is not read, and what the footer says of it."""
    base = tensorflows(tmp_path)
    whole, harmless = index_of(base).read_bytes(), set()
    for at in range(len(whole)):
        for flip in (1, 128, 255):
            index_of(base).write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            try:
                same(read_checkpoint(base), WRITTEN)
                harmless.add(at)
            except UserError as problem:
                assert "\n" not in str(problem) and "small.ckpt.index" in str(problem)
    # Blocks of 102, 8 and 14 bytes with trailers of 5; a footer of 48, 8 of them magic: two places of 2 bytes (of which
    # 8E 00 is as good a number as 0E) and room.
    assert harmless <= {*range(107, 120), *range(139, 179)}


def test_every_changed_number_is_told(tmp_path):
    base = tensorflows(tmp_path)
    whole = bytes.fromhex(DATA)
    for at in range(len(whole)):
        data_of(base).write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        name = "global_step" if at < 8 else "net/conv/biases" if at < 14 else "net/conv/w"
        refused(base, "small.ckpt.data-00000-of-00001 is damaged", name)
    for length in range(len(whole)):
        data_of(base).write_bytes(whole[:length])
        refused(base, "small.ckpt.data-00000-of-00001 is truncated")


def test_numbers_without_a_checksum_are_not_verified(tmp_path):
    base = write_bundle(tmp_path / "a", {"w": np.array([1, 2], np.float32)}, crc=False)
    data_of(base).write_bytes(np.array([1, 3], np.float32).tobytes())
    same(read_checkpoint(base), {"w": np.array([1, 3], np.float32)})


def test_missing_files(tmp_path):
    base = tensorflows(tmp_path)
    refused(tmp_path / "other", "there is no", "other.index")
    data_of(base).unlink()
    refused(base, "there is no", "small.ckpt.data-00000-of-00001")
    data_of(base).mkdir()
    refused(base, "cannot read", "small.ckpt.data-00000-of-00001")
    index_of(base).unlink()
    refused(base, "there is no", "small.ckpt.index")
    index_of(base).mkdir()
    refused(base, "cannot read", "small.ckpt.index")
    with pytest.raises(UserError, match="cannot read"):
        checkpoint_files(base)
    two = write_bundle(tmp_path / "two", TENSORS, 2)
    (tmp_path / "two.data-00001-of-00002").unlink()
    refused(two, "there is no", "two.data-00001-of-00002")


FLOAT = np.zeros(2, np.float32)
CASES = {
    "shard out of range": (entry(1, [2], 1, 0, 8, None), "shard 1 of 1"),
    "negative shard": (entry(1, [2], -1, 0, 8, None), "shard -1 of 1"),
    "negative offset": (entry(1, [2], 0, -8, 8, None), "at -8"),
    "size of another shape": (entry(1, [3], 0, 0, 8, None), "8 bytes and the shape [3]"),
    "negative sides": (entry(1, [-1, -2], 0, 0, 8, None), "shape [-1, -2]"),
    "negative size": (entry(1, [-2], 0, 0, -8, None), "shape [-2]"),
    "unknown rank": (field(1, 1) + field(2, field(3, 1)) + field(5, 4), "bytes and the shape []"),
    "beyond the file": (entry(1, [2], 0, 1, 8, None), "v ends at 9 of 8 bytes"),
    "far beyond the file": (entry(1, [2], 0, 2**62, 8, None), "v ends at 4611686018427387912 of 8"),
    "larger than the file": (entry(1, [2**40], 0, 0, 2**42, None), "truncated"),
    "in slices": (entry(1, [2], 0, 0, 8, None, field(7, b"")), "v is stored in slices"),
    "complex numbers": (entry(8, [1], 0, 0, 8, None), "v is of TensorFlow's type 8"),
    "no type": (entry(0, [2], 0, 0, 8, None), "v is of TensorFlow's type 0"),
    "bytes for a number": (field(1, b"1") + field(5, 8), "field 1 is no number"),
    "a number for bytes": (field(1, 1) + field(2, 1) + field(5, 8), "field 2 is a number"),
    "a field that is cut off": (entry(1, [2], 0, 0, 8, None) + b"\x3a\x05ab", "beyond its message"),
    "a group": (entry(1, [2], 0, 0, 8, None) + b"\x3b", "unknown kind 3"),
    "a number without an end": (b"\x08" + b"\xff" * 12, "does not end"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_entries(tmp_path, case):
    """With right checksums, so that what they say must be looked at."""
    value, told = CASES[case]
    base = write_bundle(tmp_path / "a", {"w": FLOAT})
    refused(write_index(base, [(b"", header()), (b"v", value)]), told)


def test_right_entry(tmp_path):
    """What `CASES` spoil."""
    base = write_bundle(tmp_path / "a", {"w": FLOAT})
    write_index(base, [(b"", header()), (b"v", entry(1, [2], 0, 0, 8, None))])
    same(read_checkpoint(base), {"v": FLOAT})


def write_index(base: Path, items, **options) -> Path:
    index_of(base).write_bytes(table(items, **options))
    return base


def test_one_place_for_many_tensors_is_refused(tmp_path):
    """A small file could otherwise become endless tensors."""
    base = write_bundle(tmp_path / "a", {"w": FLOAT})
    write_index(base, [(b"", header()), *((b"%03d" % n, entry(1, [2], 0, 0, 8, None)) for n in range(3))])
    refused(base, "overlap")


def test_wrong_tables(tmp_path):
    base, right = write_bundle(tmp_path / "a", {"w": FLOAT}), entry(1, [2], 0, 0, 8, None)
    refused(write_index(base, [(b"v", right)]), "it has no header")
    refused(write_index(base, []), "it has no header")
    refused(write_index(base, [(b"", header()), (b"w", right), (b"v", right)]), "not in order")
    refused(write_index(base, [(b"", header()), (b"w", right), (b"w", right)]), "not in order")
    refused(write_index(base, [(b"", header()), (b"w", right)], compression=1), "compressed")
    refused(write_index(base, [(b"", header(big_endian=1)), (b"w", right)]), "big-endian")
    refused(write_index(base, [(b"", header(min_consumer=2)), (b"w", right)]), "later version")
    refused(write_index(base, [(b"", header(0)), (b"w", right)]), "shard 0 of 0")
    refused(write_index(base, [(b"", header()), (b"\0\1w", right)]), "stored in slices")
    refused(write_index(base, [(b"", header()), (b"a\nb", right)]), "no name for a tensor")
    refused(write_index(base, [(b"", header()), (b"\xff", right)]), "corrupt")
    refused(write_index(base, [(b"", header()), (b"w" * 1001, right)]), "1000 bytes")
    same(read_checkpoint(write_index(base, [(b"", header()), (b"w" * 1000, right)])), {"w" * 1000: FLOAT})


def with_block(base: Path, content: bytes, place: tuple[int, int] | None = None) -> Path:
    """An index whose only block has this content, listed at this place."""
    first = content + b"\0" + masked(content + b"\0")
    offset, size = place or (0, len(content))
    listing = block([(b"z", varint(offset) + varint(size))])
    footer = varint(0) * 2 + varint(len(first)) + varint(len(listing) - 5)
    index_of(base).write_bytes(first + listing + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    return base


def test_wrong_blocks(tmp_path):
    base, one = write_bundle(tmp_path / "a", {"w": FLOAT}), struct.pack("<II", 0, 1)
    right = b"\0\0" + varint(len(header())) + header() + one
    assert read_checkpoint(with_block(base, right)) == {}
    refused(with_block(base, right, (0, 10_000)), "beyond the end")
    refused(with_block(base, right, (2**60, 4)), "beyond the end")
    refused(with_block(base, right, (0, len(right) - 1)), "checksum of the block at 0")
    refused(with_block(base, b"\1\0\0" + one), "goes beyond its block")  # shares a byte with nothing
    refused(with_block(base, b"\0\5\0abc" + one), "goes beyond its block")
    refused(with_block(base, b"\0\0\5abc" + one), "goes beyond its block")
    refused(with_block(base, b"\0\0" + one), "corrupt")
    refused(with_block(base, struct.pack("<I", 2**31)), "2147483648 restarts")
    refused(with_block(base, b"\0\0"), "corrupt")


def test_other_files(tmp_path):
    for content in (b"", b"PK\x03\x04", bytes(200), np.random.default_rng(0).bytes(5000)):
        (tmp_path / "a.index").write_bytes(content)
        refused(tmp_path / "a", "no index of a TensorFlow checkpoint")
