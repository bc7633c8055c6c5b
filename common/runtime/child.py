"""Another Python process, for work that Paddle or a converter may end: it sees the suite, not the current folder."""

from __future__ import annotations  # an older Python must get as far as the doctor's line that says so

import os
import subprocess
import sys
from pathlib import Path

from common.runtime.commands import ROOT


def run_python(*arguments: str | Path, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Runs this Python with some arguments, and waits for its end; what it prints is kept as text.

    Python puts the current folder, or the one given by -c and -m, in front of all others: somebody's `common/` or
    `onnx.py` there would be run. So the process stands in the suite's own folder. Paths among the arguments must be
    absolute.

    Raises:
        subprocess.TimeoutExpired: after so many seconds.
    """
    command, text = [sys.executable, *map(str, arguments)], {"text": True, "errors": "replace"}
    return subprocess.run(command, **surroundings(), capture_output=True, **text, timeout=timeout)


def surroundings() -> dict:
    """Folder and environment of such a process, as `subprocess` takes them."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}}
