"""What the two sides of a row hand each other: layer tables and settings as JSON, tensors as NumPy's .npz.

NumPy alone, and no pickles: the peer may live in an environment of its own, with other versions.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-3  # largest relative difference between the two sides
# Of losses that come after Adam's updates, whose names begin with LATER: where a gradient is next to nothing, Adam
# makes whole steps of its rounding errors. Weights changed by 3e-7 change DCGAN's generator loss by 2e-3 in one step.
LATER, LATER_TOLERANCE = "later ", 0.1
DEVICE = "BENCHMARK_DEVICE"  # in the environment of both sides: cpu or gpu
CHECKED_STEPS = 2  # of training


class Side(NamedTuple):
    """One side of a row, ready to be timed."""

    work: Callable[[], object]
    """one repetition"""
    check: dict[str, np.ndarray]
    """what must be equal on both sides: outputs, or the losses of the first steps"""


def write(folder: str | Path, plan: dict, tensors: dict[str, np.ndarray]) -> None:
    """Leaves a plan (JSON values) and named arrays for the other side."""
    (Path(folder) / "plan.json").write_text(json.dumps(plan))
    np.savez(Path(folder) / "tensors.npz", **tensors)


def read(folder: str | Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What `write` left."""
    with np.load(Path(folder) / "tensors.npz") as file:
        return json.loads((Path(folder) / "plan.json").read_text()), dict(file)


def losses_of_steps(step: Callable[[], dict], after_updates: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The losses of the first steps of training, for a `check`; these come late already in the first one."""
    check = {}
    for number in range(CHECKED_STEPS):
        for name, loss in step().items():
            later = number or name in after_updates
            check[f"{LATER}{number} {name}" if later else name] = np.float64(loss.item())
    return check


def differences(ours: dict[str, np.ndarray], peer: dict[str, np.ndarray]) -> dict[str, float]:
    """Of each name, max |ours - peer| / max |peer|; infinite where one side lacks it, or forms differ."""
    apart = dict.fromkeys([*ours, *peer], float("inf"))
    for name in ours.keys() & peer.keys():
        if np.shape(ours[name]) == np.shape(peer[name]):
            scale = max(float(np.abs(peer[name]).max()), 1e-30)
            largest = float(np.abs(np.asarray(ours[name], np.float64) - peer[name]).max()) / scale
            apart[name] = largest if np.isfinite(largest) else float("inf")
    return apart


def unequal(apart: dict[str, float]) -> list[str]:
    """What of `differences` is beyond its tolerance, in words."""
    most = {name: LATER_TOLERANCE if name.startswith(LATER) else TOLERANCE for name in apart}
    return [f"{name} by {value:.1e}, more than {most[name]}" for name, value in apart.items() if value > most[name]]
