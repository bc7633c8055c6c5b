"""One training step of every paper, on one device or on two to compare. For a child process: Paddle may end it."""

from __future__ import annotations

import importlib
import io
import json
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

from common.doctor.find_datasets import explore
from common.errors import first_line

ROOT = Path(__file__).resolve().parents[2]


def find_papers() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/train.py") if (path.parent / "config.py").is_file())


def try_papers(places: Sequence[str]) -> None:
    """Prints each paper's presets, the kind of its data and its `step_losses`, or its problem, as JSON objects."""
    for paper in find_papers():
        said, quiet = {"paper": paper}, io.StringIO()
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(quiet), redirect_stderr(quiet):
            try:
                said["presets"] = list(importlib.import_module(f"{paper}.config").PRESETS)
                drawn = importlib.import_module(f"{paper}.train").draw_images(Path(folder, "data"), count=20)
                said["pairs"] = explore(drawn)[0].pairs
                said["losses"] = step_losses(paper, drawn, Path(folder), places)
            except Exception as problem:  # whatever it is, the other papers are still tried
                said["problem"] = f"{type(problem).__name__}: {first_line(problem)}"
        print(json.dumps(said), flush=True)


def step_losses(paper: str, data_dir: Path, folder: Path, places: Sequence[str]) -> list[dict[str, float]]:
    """The losses of one training step at each place: of the preset TINY, from equal weights, images and chance.

    Args:
        data_dir: the images.
        folder: for what the runs write.
        places: devices, as --device names them.
    """
    from common.checkpoint.state import save_state
    from common.runtime.device import open_device
    from common.training.run_folder import read_stats

    train = importlib.import_module(f"{paper}.train")
    tiny = replace(importlib.import_module(f"{paper}.config").TINY, data_dir=data_dir, workers=0)
    if hasattr(tiny, "dropout"):  # from one seed each kind of device draws other numbers
        tiny = replace(tiny, dropout="none")
    open_device("cpu")
    # Late in the run every network takes part. It is not its last step, which would be followed by an evaluation.
    start = save_state(folder, *train.build(tiny), {"step": tiny.total_steps - 2})
    losses = []
    for number, place in enumerate(places):
        run = replace(tiny, run_dir=folder / str(number), device=place, resume=str(start), max_minutes=1e-9)
        train.train(run)
        last = read_stats(run.run_dir)[-1]
        losses.append({name: value for name, value in last.items() if name not in ("step", "time")})
    return losses
