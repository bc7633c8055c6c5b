"""A training of every paper in seconds. For a child process: Paddle may end it."""

import importlib
import io
import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

from common.doctor.find_datasets import ROOT, explore
from common.errors import first_line


def find_papers() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/train.py") if (path.parent / "config.py").is_file())


def try_papers(device: str) -> None:
    """Trains the preset TINY of each paper; prints its presets and the kind of its data, or its problem, as JSON."""
    for paper in find_papers():
        said, quiet = {"paper": paper}, io.StringIO()
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(quiet), redirect_stderr(quiet):
            try:
                config, train = (importlib.import_module(f"{paper}.{name}") for name in ("config", "train"))
                drawn = train.draw_images(Path(folder, "data"), count=20)
                said |= {"presets": list(config.PRESETS), "pairs": explore(drawn)[0].pairs}
                train.train(replace(config.TINY, data_dir=drawn, run_dir=Path(folder, "run"), workers=0, device=device))
            except Exception as problem:  # whatever it is, the other papers are still tried
                said["problem"] = f"{type(problem).__name__}: {first_line(problem)}"
        print(json.dumps(said), flush=True)
