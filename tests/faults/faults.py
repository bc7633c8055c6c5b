"""The faults: functions that start one process of a run, inject a fault, and check what it said and what it left."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from common.checkpoint.state import all_states
from common.training.stats import read_stats

from runs import Kept, Leg, Training, expect

SAVE_SECONDS = 0.2  # between the checkpoints of a run that is killed at random


def killed_at_random(training: Training, rng: random.Random, undisturbed: Leg, kills_left: int) -> bool:
    """One kill in four comes while the process starts, the others in its fraction of the steps that are left.

    Returns:
        whether it came in time; the run was complete before it otherwise.
    """
    if training.newest() == training.steps:
        return False
    kept = Kept(training)
    clocks = [clock for clock, _ in undisturbed.events()["step"]]
    start, pace = clocks[0] - undisturbed.started, (clocks[-1] - clocks[0]) / (len(clocks) - 1)
    fraction = pace * (training.steps - training.newest()) / (kills_left + 1)
    with training.process(SAVE_SECONDS) as leg:
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, start))
        else:
            leg.until("step")
            time.sleep(rng.uniform(0, 2 * max(fraction, SAVE_SECONDS)))
        leg.popen.kill()
    if leg.status != -signal.SIGKILL:
        return False
    training.injected("SIGKILL at a random moment", kept)
    return True


def sigterm(training: Training) -> None:
    signalled(training, signal.SIGTERM, "SIGTERM")


def ctrl_c(training: Training) -> None:
    signalled(training, signal.SIGINT, "Ctrl-C")


def sighup(training: Training) -> None:
    signalled(training, signal.SIGHUP, "SIGHUP")


def signalled(training: Training, number: int, name: str) -> None:
    """Saves, says how to go on, and ends with 128 + the signal's number."""
    kept = Kept(training)
    with training.process() as leg:
        leg.until("step", 3)
        leg.popen.send_signal(number)
    expect(leg.status == 128 + number, training.paper, name, "ended with", leg.status, leg.err[-2000:])
    done = int(leg.events()["step"][-1][1])
    expect(training.newest() == done, training.paper, name, "saved", training.newest(), "of", done, "steps")
    told = f"stopped after {done} of {training.steps} steps" in leg.out and "the same command goes on" in leg.out
    expect(told, training.paper, name, "said", leg.out[-2000:])
    training.injected(name, kept)


def killed(point: str, after: int, save_seconds: float = 0.0) -> Callable[[Training], None]:
    """Killed at one of child.POINTS, at the call that follows `after` others."""

    def fault(training: Training) -> None:
        kept = Kept(training)
        with training.process(save_seconds, kill=point, after=after) as leg:
            pass
        expect(leg.status == -signal.SIGKILL, training.paper, "was not killed", point, leg.status, leg.err[-2000:])
        training.injected(f"killed {point}", kept)

    return fault


def second_process(training: Training) -> None:
    """The same command once more, while the first one trains: it ends with one line, and the first goes on."""
    kept = Kept(training)
    with training.process(0.0) as leg:
        leg.until("saved")
        with training.process() as second:
            pass
        before = len(leg.events()["step"])
        leg.until("step", before + 2)
        leg.popen.send_signal(signal.SIGTERM)
    second.expect_error("is in use by another run", f"process {leg.popen.pid} on ")
    expect(leg.status == 128 + signal.SIGTERM, training.paper, "ended with", leg.status, leg.err[-2000:])
    training.injected("the same command started twice (lock)", kept)


def damaged(how: str) -> Callable[[Training], None]:
    """The newest checkpoint is damaged on disk: its checksum tells, and the one before it is resumed."""

    def fault(training: Training) -> None:
        with training.process(0.0) as leg:  # so that there are two
            leg.until("saved", 2)
            leg.popen.send_signal(signal.SIGTERM)
        kept, (path, before) = Kept(training), all_states(training.run / "checkpoints")[:2]
        kept.step = int(before.name[5:])  # what comes after it is done, and logged, again
        content = bytearray((path / "state.safetensors").read_bytes())
        content[-7] ^= 4
        changed = {"bit-flipped": content, "truncated": content[:-100], "zeroed": bytes(len(content))}
        (path / "state.safetensors").write_bytes(changed[how])
        with training.process(0.0) as leg:
            leg.until("saved", 2)
            leg.popen.send_signal(signal.SIGTERM)
        told = f"{path.name} is damaged: state.safetensors is not what was written" in leg.out
        expect(told and "resumed from" in leg.out, training.paper, how, "said", leg.out[-2000:])
        training.injected(f"newest checkpoint {how} (checksum, fallback)", kept)

    return fault


def full_log(training: Training) -> None:
    """The log is the first to notice."""
    kept = Kept(training)
    with training.process(fill=2) as leg:
        pass
    leg.expect_error("cannot", str(training.run))
    training.injected("disk full while the log grows", kept)


def full_disk(training: Training) -> None:
    """A file system in memory holds the run, and is filled while it saves."""
    kept = Kept(training)
    with small_disk(training) as disk:
        with training.process(0.0) as leg:
            leg.until("saved", 2)
            with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                while filler.write(bytes(1 << 16)):
                    pass
        leg.expect_error("cannot", str(training.run), "No space left")
        (disk / "filler").unlink()
        training.injected("disk full while a checkpoint is written", kept)


def read_only(training: Training) -> None:
    kept = Kept(training)
    with small_disk(training) as disk:
        mount("-o", "remount,ro", disk)
        with training.process() as leg:
            pass
        mount("-o", "remount,rw", disk)
        leg.expect_error("cannot write the run folder", str(training.run), "Read-only file system")
        training.injected("run folder read-only", kept)


def hung_reader(training: Training) -> None:
    """The next image never comes; its file must be named within the time that is waited."""
    kept = Kept(training)
    with training.process(hang=3) as leg:
        pass
    leg.expect_error("nothing came from the images", leg.events()["hangs"][0][1])
    training.injected("an image that never comes", kept)


def not_a_number(training: Training) -> None:
    kept = Kept(training)
    with training.process(0.0, poison=4) as leg:
        pass
    leg.expect_error("no finite number", "--on-nan rollback")
    training.injected("weights become NaN, --on-nan stop", kept)


@contextlib.contextmanager
def small_disk(training: Training) -> Iterator[Path]:
    """The run's folder lies on a file system of its own of 64 MB; it is copied there, and back."""
    disk = training.folder / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", disk)
    run = training.run
    try:
        if run.exists():
            shutil.copytree(run, disk / "run")
        training.run = disk / "run"
        yield disk
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(disk / "run", run)
    finally:
        training.run = run
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def mount(*arguments) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether a file system can be mounted here (root can, outside most containers)."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        return done.returncode == 0 and subprocess.run(["umount", folder]).returncode == 0


NEED_MOUNT = (full_disk, read_only)

# After these a run comes to the very same end; in this order each finds what it needs.
EXACT = (
    killed("before a checkpoint is written", 1),
    killed("half a checkpoint written", 1),
    killed("while the log is trimmed", 0),
    killed("a checkpoint written, not flushed", 0),
    killed("while the options are written", 0),
    killed("before a checkpoint is renamed", 1),
    killed("after a checkpoint is renamed", 1),
    killed("while an old checkpoint is removed", 0),
    sigterm,
    ctrl_c,
    sighup,
    second_process,
    damaged("truncated"),
    damaged("zeroed"),
    damaged("bit-flipped"),
    full_log,
    full_disk,
    read_only,
    hung_reader,
    not_a_number,
    killed("half of the weights written", 0, 300.0),
    killed("before the weights are renamed", 0, 300.0),
)


# ---- faults after which the run is whole, but another one: images were passed over


def rollback(training: Training) -> None:
    kept = Kept(training)
    with training.process(0.0, poison=4, on_nan="rollback") as leg:
        pass
    expect(leg.status == 0 and "on with other images" in leg.err, training.paper, leg.status, leg.err[-2000:])
    counted = [line["rollback"] for line in read_stats(training.run) if "rollback" in line]
    expect(counted == [1], training.paper, "counted rollbacks", counted)
    weights = load_file(training.run / "weights.safetensors").values()
    expect(all(np.isfinite(value).all() for value in weights), training.paper, "has weights that are no numbers")
    training.injected("weights become NaN, --on-nan rollback", kept)
    training.count_completed()


def lost_image(training: Training, corrupt: bool = False) -> None:
    """One in a small set may be missing or corrupt: it is named, and training goes on to the end."""
    path = training_images(training)[5]
    kept = Kept(training)
    with training.process() as leg:
        leg.until("step", 3)
        content = path.read_bytes()
        if corrupt:
            os.truncate(path, len(content) // 2)
        else:
            path.unlink()
    expect(leg.status == 0, training.paper, "did not end well:", leg.err[-2000:])
    expect("skipped: cannot read" in leg.err and path.name in leg.err, training.paper, "said", leg.err[-2000:])
    path.write_bytes(content)
    training.injected(f"an image {'breaks' if corrupt else 'disappears'} in mid-epoch", kept)
    training.count_completed()


def corrupt_image(training: Training) -> None:
    lost_image(training, corrupt=True)


def lost_images(training: Training) -> None:
    """More than one in a hundred: the run stops and names them. When they are back, it goes on."""
    paths = training_images(training)[5:8]
    kept = Kept(training)
    contents = {path: path.read_bytes() for path in paths}
    with training.process() as leg:
        leg.until("step", 3)
        for path in paths:
            path.unlink()
    leg.expect_error("images are corrupt, more than 1 %")
    expect(sum(path.name in leg.err for path in paths) >= 2, training.paper, "did not name them:", leg.err[-2000:])
    for path, content in contents.items():
        path.write_bytes(content)
    training.injected("several images disappear in mid-epoch", kept)
    training.complete()


def training_images(training: Training) -> list[Path]:
    return sorted(path for path in training.data.rglob("*.jpg") if path.parent.name != "val")


OTHER_END = (rollback, lost_image, corrupt_image, lost_images)
