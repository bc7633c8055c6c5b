"""The curves of a run as an image."""

import math
from pathlib import Path

import matplotlib.figure

from common.checkpoint import atomic
from common.runtime.strict_json import WHY


def write_curves(path: Path, records: list[dict]) -> None:
    """Draws the records of stats.jsonl, one panel for each logged name; without any value it writes nothing."""
    series: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "time", WHY) and value is not None:
                series.setdefault(name, []).append((record["step"], value))
    if not series:
        return
    rows = math.ceil(len(series) / 2)
    figure = matplotlib.figure.Figure(figsize=(10, 2.6 * rows), layout="constrained")
    for panel, (name, points) in enumerate(sorted(series.items()), 1):
        axes = figure.add_subplot(rows, 2, panel)
        axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 30 else None)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    atomic.replace_whole(path, lambda temporary: figure.savefig(temporary, dpi=80))
