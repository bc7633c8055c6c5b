"""A long training with the layers that are faster on a CPU, and the same with Paddle's own, to the same losses.

    python -m benchmarks.long_run --plot docs/long_run.png --json docs/long_run.json

Both begin with the same weights and see the same images. They part by rounding, which a GAN makes larger at every
step; so what is compared are means over stretches of the run, against what the losses vary by within a stretch.
"""

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.pairs import ROOT
from common.config import at_least
from common.errors import UserError
from common.runtime.commands import one_line_errors
from common.runtime.strict_json import json_text
from common.training.stats import read_stats

STRETCHES = 10  # of a run


@dataclass(frozen=True)
class Options:
    """Train twice, one after the other, and compare."""

    paper: str = "context_encoder"
    """folder of the paper"""
    preset: str = "quick"
    """of its training"""
    steps: int = 2000
    """of each run"""
    threads: int = 2
    """of each run"""
    data_dir: Path | None = None
    """images, for presets that draw none"""
    run_dir: Path = Path("runs/long_run")
    """folder of both runs; what is there is gone on with"""
    plot: Path | None = None
    """image of the losses, one panel for each"""
    json: Path | None = None
    """file for the comparison"""


def train(options: Options, folder: Path, *flags: str) -> None:
    """One run. Raises UserError when it fails."""
    command = [sys.executable, "-m", f"{options.paper}.train", options.preset, "--device", "cpu", *flags]
    command += ["--total-steps", str(options.steps), "--run-dir", str(folder.resolve())]
    if options.data_dir:
        command += ["--data-dir", str(options.data_dir.resolve())]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": path}
    if subprocess.run(command, cwd=ROOT, env=environment).returncode:
        raise UserError(f"the run in {folder} failed; the same command goes on with it")


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Of each training loss the (step, mean of ten steps) that were logged; validations are logged more rarely."""
    found = {}
    for line in read_stats(folder):
        for name in line.keys() - {"step", "time"}:
            found.setdefault(name, []).append((line["step"], line[name]))
    often = max(map(len, found.values()))
    return {name: points for name, points in sorted(found.items()) if len(points) > often / 2}


def stretch(points: list[tuple[int, float]], steps: int, number: int) -> list[float]:
    """The values of one of STRETCHES parts of a run, from 0."""
    first, last = number * steps / STRETCHES, (number + 1) * steps / STRETCHES
    return [value for step, value in points if first < step <= last]


def compare(ours: dict, stock: dict, steps: int) -> dict:
    """Of each loss, over the last stretch: both means, and their difference in standard errors."""
    result = {}
    for name in ours:
        both = [stretch(each[name], steps, STRETCHES - 1) for each in (ours, stock)]
        errors = [statistics.stdev(values) / len(values) ** 0.5 for values in both]
        means = [statistics.fmean(values) for values in both]
        apart = abs(means[0] - means[1]) / max(1e-12, (errors[0] ** 2 + errors[1] ** 2) ** 0.5)
        result[name] = {"ours": means[0], "plain": means[1], "standard_errors_apart": apart}
    return result


def plot(ours: dict, stock: dict, path: Path) -> None:
    """Both runs' losses, one panel for each name."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(4 * len(ours), 3.2), layout="constrained")
    for number, name in enumerate(ours, 1):
        axes = figure.add_subplot(1, len(ours), number)
        for label, each in (("stock layers (--disable-cpu-layers)", stock), ("faster layers", ours)):
            axes.plot(*zip(*each[name], strict=True), linewidth=1, alpha=0.7, label=label)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.long_run", description=__doc__)
    at_least(options, steps=10 * STRETCHES * 2, threads=1)
    folders = {"ours": options.run_dir / "ours", "plain": options.run_dir / "plain"}
    train(options, folders["ours"])
    train(options, folders["plain"], "--disable-cpu-layers")
    ours, stock = series(folders["ours"]), series(folders["plain"])
    result = {
        "paper": options.paper,
        "preset": options.preset,
        "steps": options.steps,
        f"last {options.steps // STRETCHES} steps": compare(ours, stock, options.steps),
    }
    print(json_text(result, indent=1))
    if options.json:
        options.json.write_text(json_text(result, indent=1) + "\n")
    if options.plot:
        plot(ours, stock, options.plot)


if __name__ == "__main__":
    main()
