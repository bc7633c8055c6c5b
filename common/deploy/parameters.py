"""A network's parameters alone, as plain Paddle takes them."""

from pathlib import Path

import numpy as np

from common.checkpoint.paddle_files import read_paddle_files, write_paddle_files
from common.checkpoint.weights import read_weights
from common.errors import UserError


def write_parameters(weights: str | Path, folder: Path) -> float:
    """Writes the networks of a weights file as NETWORK.pdparams, and reads them again; returns the difference, 0.

    Raises:
        UserError: the folder cannot be written, or what was read again differs.
    """
    tensors, metadata = read_weights(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = write_paddle_files(folder, tensors, metadata)
    except OSError as problem:
        raise UserError(f"cannot write {folder}: {problem.strerror or problem}") from None
    written, _ = read_paddle_files(files[0])
    if written.keys() != tensors.keys() or any(np.any(written[name] != tensors[name]) for name in tensors):
        raise UserError(f"what was written to {folder} reads otherwise than {weights}: do not use it")
    print(f"written: {', '.join(map(str, files))}; read again without a difference")
    return 0.0
