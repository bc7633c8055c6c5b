"""Reads safetensors files that anybody may have made."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

HEADER_BYTES = 100_000_000  # of a safetensors file, its own limit
SPARSE = 8  # a file with less than an eighth of its bytes on the disk claims more than it holds


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors by name, and the table that stands beside them, as it is in the file; empty where there is none.

    Raises:
        Exception: of any kind: it is no such file, or a corrupt one, or one that is mostly a hole.
    """
    taken = path.stat()
    if 0 < 512 * getattr(taken, "st_blocks", 0) < taken.st_size / SPARSE:  # some network drives tell 0
        raise ValueError("a file that is mostly a hole")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError("header too long")
        header = json.loads(file.read(length))
    return load_file(path), header.get("__metadata__", {})


def texts_in(value) -> Iterator[str]:
    """The texts in a JSON value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
