"""Whether a GPU can be used, and whether a folder can be written."""

from __future__ import annotations  # an older Python must get as far as the line that says so

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path


def driver_version() -> str:
    """Version of the NVIDIA driver that finds GPUs here; "" where none does."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return ""


def why_no_gpu(cuda: bool) -> str:
    """Why Paddle, built for CUDA or not, finds no GPU, and what to do; "" where there is none to find."""
    driver, hidden = driver_version(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not cuda:
        return "this build of Paddle does not use it; paddlepaddle-gpu does (README.md, GPU)" if driver else ""
    if hidden is not None and not re.match(r"\s*\d|GPU-|MIG-", hidden):
        return f"CUDA_VISIBLE_DEVICES={hidden} hides them: unset it; --device auto trains on the processor"
    if driver:
        return f"none that Paddle can use; driver {driver} may be too old for it: install a newer one"
    return "none: no NVIDIA driver answers (nvidia-smi); --device auto trains on the processor"


def look_at_disk(run_dir: Path | None) -> tuple[str, str, str]:
    """A `Line` on the folder that runs are written to."""
    folder = (run_dir or Path("runs")).absolute()
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(1 << 20))
            file.flush()
        free = shutil.disk_usage(place).free / 2**30
    except OSError as problem:
        return "FAIL", "disk", f"cannot write {folder}: {problem.strerror or problem}; name another --run-dir"
    if free < 2:
        return "note", "disk", f"{free:.1f} GB free for {folder}: make room, checkpoints may not fit"
    return "ok", "disk", f"{free:.1f} GB free for {folder}"
