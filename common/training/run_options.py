"""What options.json of a run folder tells: the options that its run began with, and which run it is."""

import json
from pathlib import Path

from common import config
from common.errors import UserError


def read_options(folder: Path, paper: str) -> dict:
    """The options of the run that has checkpoints in a folder.

    Raises:
        UserError: the file is missing, damaged, or of another paper; the text says what to do.
    """
    path = folder / "options.json"
    try:
        options = json.loads(path.read_text())
        if not isinstance(options, dict) or not isinstance(options.get("paper"), str):
            raise ValueError("it is no table of options")
    except (OSError, ValueError, RecursionError) as problem:
        reason = "is missing" if isinstance(problem, FileNotFoundError) else f"is damaged ({problem})"
        raise UserError(
            f"{path} {reason}, so nothing tells which options its checkpoints were trained with; put it back, or name "
            "a checkpoint with --resume to go on with the options given now, or --resume never to start anew"
        ) from None
    options = {config.current_name(name, value): value for name, value in options.items()}
    if options["paper"] != paper:
        raise UserError(f"{folder} holds a run of {options['paper']}, not of {paper}; choose another --run-dir")
    return options


def told_run_id(folder: Path) -> str | None:
    """The random name of the run in a folder; None where none is told: there is no run, or one of version 0.1."""
    try:
        return json.loads((folder / "options.json").read_text()).get("run")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
