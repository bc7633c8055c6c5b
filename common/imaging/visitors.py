"""Files of strangers are read by a process of their own, of little time and memory: all of it comes back.

Decoders cannot be stopped while they work, nor can a process with networks and threads be forked. So another Python is
used once and ends; as it takes half a second to start, one always stands ready.
"""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.imaging import limits
from common.imaging.io import look
from common.runtime.child import surroundings

MOST_PIXELS = 16_000_000
# Not JPEG 2000, whose decoder takes a gigabyte for what a small file claims, nor PPM as text
TAKEN = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
CPU_SECONDS, SECONDS = 20, 60  # of the processor; by the clock, also of a machine that is busy with other work
MEGABYTES = 2000

_ready: list[subprocess.Popen] = []


def read_apart(work: Callable[..., np.ndarray], file: str | Path, *given, **options) -> np.ndarray:
    """work(file, *given, **options) in a process of its own.

    Args:
        work: a function of a module; what it is given is trusted, what it reads is not.
        file: an absolute path.

    Raises:
        UserError: what work raises; or the file is of no kind in TAKEN, of more than MOST_PIXELS, or takes too long or
            too much memory.
    """
    reader = _ready.pop() if _ready else _start()
    stand_ready()
    try:
        question = pickle.dumps((work, str(file), given, options))  # Gradio's names of files are of its own class
        answer, _ = reader.communicate(question, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        reader.kill()
        answer, _ = b"", reader.communicate()
    if answer.startswith(b"+"):
        return np.load(io.BytesIO(answer[1:]), allow_pickle=False)
    if answer.startswith(b"-"):
        raise UserError(answer[1:].decode(errors="replace"))
    most = f"{CPU_SECONDS} s of the processor, {SECONDS} s in all or {MEGABYTES:,} MB"
    raise UserError(f"cannot read {file}: it takes more than {most}; the page gave up")


def stand_ready() -> None:
    """Starts the process that will read the next file."""
    _ready.append(_start())


def _start() -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "common.imaging.visitors"], **pipes, **surroundings())


def _checked(work: Callable, file: str | Path, given: tuple, options: dict) -> np.ndarray:
    try:
        kind = look(file)
        if kind not in TAKEN:
            raise UserError(f"{file} is {kind}; this page takes {', '.join(TAKEN)}, the command line more")
        return work(file, *given, **options)
    except UserError as mistake:
        if "the limit is" not in str(mistake):
            raise
        raise UserError(f"{mistake} on this page; the command line takes any size") from None


def _limit() -> None:
    """Takes time and memory away from this process; where there are no such limits, that of the clock is left."""
    limits.MAX_PIXELS = MOST_PIXELS
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        seconds = int(time.process_time()) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_DATA, (MEGABYTES << 20, MEGABYTES << 20))


def main() -> None:
    """Answers one question of standard input, with + and an array, or - and what is wrong."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is for the page's log
    try:
        question = sys.stdin.buffer.read()
        if question:  # else the page has ended
            work, file, given, options = pickle.loads(question)
            _limit()
            array = io.BytesIO()
            np.save(array, _checked(work, file, given, options))
            answer.write(b"+" + array.getvalue())
    except UserError as problem:
        answer.write(b"-" + str(problem).encode(errors="replace"))
    with contextlib.suppress(BrokenPipeError):  # the page has ended
        answer.close()


if __name__ == "__main__":
    main()
