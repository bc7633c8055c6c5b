"""One run of a paper's real `train` command, on its smallest preset, with at most one fault in it: the harness's child.

python tests/faults/child.py PLAN, where PLAN is JSON; see `main`. What happens is noted as it happens, in lines
`clock word value`, so that the harness knows it even of a process that is killed.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

from common.checkpoint import state as checkpoint_state
from common.checkpoint import weights
from common.datasets import loader
from common.imaging import io as image_io
from common.training import run

PATIENCE_SECONDS = 5  # instead of minutes, for an image that never comes


def main(paper: str, data: str, folder: str, events: str, settings: dict, fault: dict) -> None:
    """Trains.

    Args:
        events: file to note events in.
        settings: changes to the paper's TINY preset.
        fault: at most one of: kill (name of a point in POINTS), after (its calls that are let through), poison, fill,
            hang (after so many steps of this process), watch (every so many steps).
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a harness under nohup hands on that it is ignored
    log = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(word: str, value="") -> None:
        os.write(log, f"{time.time():.3f} {word} {value}\n".encode())

    train, config = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    tiny = dataclasses.replace(config.TINY, device="cpu", workers=1, **settings)
    config.PRESETS = {"quick": ("the harness's", tiny)}
    follow(note, fault)
    if "kill" in fault:
        fail_at(*POINTS[fault["kill"]], fault.get("after", 0))
    train.main(["quick", "--data-dir", data, "--run-dir", folder])


def follow(note, fault: dict) -> None:
    """Notes every step and checkpoint, and does the faults that come after a number of steps."""
    record, save_state = run.Run.record, checkpoint_state.save_state
    steps = 0

    def record_noted(run, losses):
        nonlocal steps
        record(run, losses)
        steps += 1
        note("step", run.step + 1)
        if steps == fault.get("poison"):
            weight = next(iter(run.networks.values())).parameters()[0]
            weight.set_value(weight * float("nan"))
        if steps == fault.get("fill"):  # from here on the log is on a disk without room
            run.files.stats.close()
            run.files.stats = Path("/dev/full").open("a")  # noqa: SIM115
        if steps == fault.get("hang"):
            hang(note)
        if "watch" in fault and run.step % fault["watch"] == fault["watch"] - 1:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            note("memory", pages * resource.getpagesize())
            note("files", open_files())

    def save_noted(*arguments):
        path = save_state(*arguments)
        note("saved", int(path.name[5:]))
        return path

    run.Run.record = record_noted
    checkpoint_state.save_state = save_noted


def open_files() -> int:
    """Of this process, but for the images that its threads are just reading."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            found += os.readlink(link).rpartition(".")[2] not in ("jpg", "png")  # noqa: PTH115
    return found


def hang(note) -> None:
    """The next image never comes, as from a network disk that is gone."""
    loader.PATIENCE_SECONDS = PATIENCE_SECONDS

    def wait(path):
        note("hangs", Path(path).name)
        return time.sleep(3600)

    image_io.read_bytes = wait


# ---- points to be killed at: owner, name of a function, when, and what the name of its path contains

POINTS = {
    "before a checkpoint is written": (checkpoint_state, "save_file", "before", "state"),
    "half a checkpoint written": (checkpoint_state, "save_file", "half", "state"),
    "a checkpoint written, not flushed": (os, "fsync", "before", ""),
    "before a checkpoint is renamed": (Path, "replace", "before", "step_"),
    "after a checkpoint is renamed": (Path, "replace", "after", "step_"),
    "while an old checkpoint is removed": (shutil, "rmtree", "half", "step_"),
    "while the log is trimmed": (Path, "write_text", "half", "stats.jsonl"),
    "while the options are written": (Path, "write_text", "half", "options.json"),
    "half of the weights written": (weights, "save_file", "half", "weights"),
    "before the weights are renamed": (Path, "replace", "before", "weights"),
}


def fail_at(owner, name: str, when: str, mark: str, after: int) -> None:
    """Kills the process before, after or half way through a call of owner.name that concerns a path with `mark`."""
    function = getattr(owner, name)
    calls = 0

    def killed(*arguments, **named):
        nonlocal calls
        names = [Path(value).name for value in arguments if isinstance(value, Path | str)]
        calls += not mark or any(mark in found for found in names[:1])
        if calls != after + 1:
            return function(*arguments, **named)
        if when == "half":
            _half(name, function, arguments, named)
        if when == "after":
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, killed)


def _half(name: str, function, arguments: tuple, named: dict) -> None:
    if name == "rmtree":
        next(Path(arguments[0]).iterdir()).unlink()
        return
    if name == "write_text":
        path, text = arguments
        path.write_bytes(text.encode()[: len(text) // 2])
        return
    function(*arguments, **named)
    path = Path(arguments[1])
    os.truncate(path, path.stat().st_size // 2)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
