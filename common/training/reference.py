"""The band in which a run should lie: losses of runs that differ in their seed alone, at a few fixed steps.

`python -m tools.seeds` measures it into `reference_curves.json` of a paper's folder; a training with the same options
says at those steps whether it lies inside.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from common.config import FREE_FIELDS, to_json

FILE = "reference_curves.json"
ROOT = Path(__file__).resolve().parents[2]
SPREADS = 6  # standard deviations to each side; three seeds tell them so roughly that one loss in thirty lies beyond
LEAST = 0.2  # and at least this fraction of the mean, which rounding on another processor should not leave
ANY_VALUE = FREE_FIELDS - {"total_steps"} | {"seed"}  # options that may differ; the learning rate depends on the steps


def options_of(cfg) -> dict:
    """What the losses of a run depend on, besides its data and its seed."""
    return {name: value for name, value in to_json(cfg).items() if name not in ANY_VALUE}


def collect(runs: list[dict[int, dict[str, float]]], steps: Iterable[int]) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation (over runs, of one fewer) of each loss at each step: name -> step -> [mean, spread].

    Args:
        runs: of each its losses by step; a loss that a run does not have at a step is left out there.
    """
    curves: dict[str, dict[str, list[float]]] = {}
    for step in steps:
        for name in sorted(set.intersection(*(set(run[step]) for run in runs))):
            values = [run[step][name] for run in runs]
            curves.setdefault(name, {})[str(step)] = [float(np.mean(values)), float(np.std(values, ddof=1))]
    return curves


def band(mean: float, spread: float) -> tuple[float, float]:
    """Smallest and largest value that lies inside."""
    half = max(SPREADS * spread, LEAST * abs(mean))
    return mean - half, mean + half


def outside(curves: dict[str, dict[str, list[float]]], step: int, losses: dict[str, float]) -> list[str]:
    """One text for each loss that lies outside its band at a step, or is no number; empty if all lie inside."""
    found = []
    for name, value in losses.items():
        if str(step) in curves.get(name, {}):
            low, high = band(*curves[name][str(step)])
            if math.isnan(value) or not low <= value <= high:
                found.append(f"{name} {value:.4g}, not {low:.4g} to {high:.4g}")
    return found


def open_reference(cfg, paper: str) -> dict | None:
    """The measured curves of a run with these options on the images of its preset; None if there are none."""
    path = ROOT / paper / FILE
    if cfg.data_dir is not None or not path.is_file():
        return None
    reference = json.loads(path.read_text())
    return reference if reference["options"] == options_of(cfg) else None


def report(reference: dict, step: int, losses: dict[str, float]) -> str:
    """What a training says at a step of the reference; empty at others."""
    if step not in reference["steps"]:
        return ""
    found, seeds = outside(reference["curves"], step, losses), len(reference["seeds"])
    if found:
        return f"step {step}: outside the band of {seeds} seeds: {'; '.join(found)}"
    return f"step {step}: inside the band of {seeds} seeds"
