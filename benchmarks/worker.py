"""One side of a benchmark in a process of its own: it waits on stdin, prepares a row, and does a round when told.

    python -m benchmarks.worker

Requests and replies are lines of JSON. Torch and Paddle in one process would fight over threads and memory; so each has
a process, both with the same allocator settings, and one is idle while the other works.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.exchange import Side
from common.errors import UserError

PACKAGES = {"paddle": "paddlepaddle", "torch": "torch", "numpy": "numpy", "cv2": "opencv"}


def libc() -> ctypes.CDLL | None:
    """glibc, or None where another C library is in its place."""
    try:
        library = ctypes.CDLL("libc.so.6")
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
            return library
        return None
    except OSError:
        return None


def keep_freed_memory() -> bool:
    """The allocator settings of `common.runtime.environment.tune`, for both sides. False: there is nothing to set."""
    library = libc()
    if library is None:
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3
    library.mallopt(m_mmap_threshold, 1 << 30)
    library.mallopt(m_trim_threshold, (1 << 31) - 1)
    return True


def peak_megabytes(process: int | str = "self") -> float:
    """Largest resident size since `forget_peak`, or since the process began where the system cannot forget."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak() -> None:
    """Lets the next peak be that of what follows."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def prepare(request: dict) -> tuple[Side, dict]:
    """Builds one side of a row; its `check` goes to a file. Returns it, and the reply."""
    module, _, function = request["target"].partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except ImportError as problem:
        if problem.name != "torch":
            raise
        raise UserError(
            'the peer is PyTorch, which is not installed here: pip install -e ".[bench]", or name an interpreter that '
            "has it with --peer-python"
        ) from None
    side = make(request["folder"], **request["settings"])
    np.savez(request["check"], **side.check)
    gc.collect()
    library = libc()
    if library is not None:
        library.malloc_trim(0)  # what the preparation took is not the row's
    versions = {label: sys.modules[name].__version__ for name, label in PACKAGES.items() if name in sys.modules}
    return side, {"versions": {"python": sys.version.split()[0], **versions}}


def timed_round(work: Callable[[], object], repeats: int) -> dict:
    """Runs the work so many times: wall time, CPU time and faults of one repetition, and the peak of all."""
    forget_peak()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(repeats):
        work()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds / repeats,
        "user_seconds": (after.ru_utime - before.ru_utime) / repeats,
        "system_seconds": (after.ru_stime - before.ru_stime) / repeats,
        "minor_faults": (after.ru_minflt - before.ru_minflt) / repeats,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    """Answers until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anybody prints is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that asks, and with it stdin
    keep_freed_memory()
    side = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                side, reply = prepare(request)
            else:
                reply = timed_round(side.work, request["repeats"])
        except UserError as mistake:
            reply = {"error": str(mistake)}
        except Exception as problem:
            traceback.print_exc()
            reply = {"error": f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"}
        try:
            print(json.dumps(reply), file=replies)
        except BrokenPipeError:  # nobody is waiting any more
            return


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing is left to write, and the frameworks take seconds to take themselves apart
