"""torch.save and torch.load of the tensors that our checkpoint holds."""

import os
from pathlib import Path

import numpy as np
import torch

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import tensor


def checkpoint(folder: str, load: bool, **_) -> Side:
    """Saving flushes the file to disk and renames it, as ours does; loading copies into tensors that are there."""
    _, arrays = exchange.read(folder)
    tensors = {name: tensor(array) for name, array in arrays.items()}
    path = Path(folder) / "state.pt"
    temporary = path.with_suffix(".tmp")

    def save() -> None:
        with temporary.open("wb") as file:
            torch.save(tensors, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def restore() -> None:
        for name, value in torch.load(path, weights_only=True).items():
            tensors[name].copy_(value)

    save()
    restore()
    check = {"count": np.float64(len(tensors)), "sum": np.float64(sum(x.abs().sum().item() for x in tensors.values()))}
    return Side(restore if load else save, check)
