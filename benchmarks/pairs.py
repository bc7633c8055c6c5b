"""Ours and the peer in turn: A B A B …, each in a process of its own that is idle while the other works."""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.exchange import DEVICE, LATER, differences, unequal
from common.errors import UserError

RATIOS = ("ratio_median", "ratio_min", "ratio_max")  # of ours to the peer's time
ROOT = Path(__file__).resolve().parents[1]
LEAST_SECONDS = 2.0  # of a round: its first pass, with threads and caches that the other side has cooled, counts little
PAUSE_SECONDS = 0.25  # OpenMP's threads go on spinning for 0.2 s after their work


@dataclass(frozen=True)
class Row:
    """One question: a function that prepares our side, and one that prepares the peer's."""

    name: str
    ours: str
    """module:function; called with a folder and the settings, returns a `Side`"""
    peer: str
    """likewise; it finds in the folder what ours wrote there"""
    note: str
    """what one repetition is"""
    settings: dict = field(default_factory=dict)
    torch: bool = True
    """whether the peer is PyTorch, and runs in its interpreter"""


class Worker:
    """A process that runs `benchmarks.worker`, told what to do by lines of JSON."""

    def __init__(self, python: Path, threads: int, device: str = "cpu"):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, DEVICE: device}
        try:
            self.process = subprocess.Popen(
                [str(python), "-m", "benchmarks.worker"],
                cwd=ROOT,
                env=environment,
                text=True,
                bufsize=1,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as problem:
            raise UserError(f"cannot start {python}: {problem.strerror}; it must be a Python interpreter") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # it is gone, with a request in the pipe
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def ask(self, **request) -> dict:
        """One request and its reply. Raises UserError when the worker reports an error, or is gone."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            status = self.process.wait()
            reason = "was killed; the memory may be too small" if status == -9 else f"ended with status {status}"
            raise UserError(f"the process of one side {reason}")
        reply = json.loads(reply)
        if "error" in reply:
            raise UserError(reply["error"])
        return reply


def measure(row: Row, rounds: int, threads: int, peer_python: Path | None, device: str = "cpu") -> dict:
    """Measures one row.

    Args:
        peer_python: the peer's interpreter; None measures ours alone.
        device: cpu or gpu, of both sides.

    Returns:
        What `summary` says of the rounds, and name, note, settings, the difference between the two sides, and versions.

    Raises:
        UserError: a side cannot be prepared, or the sides do not compute the same; nothing is timed then.
    """
    if peer_python is None:
        return _measure_alone(row, rounds, threads, device)
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        Worker(Path(sys.executable), threads, device) as ours,
        Worker(peer_python if row.torch else Path(sys.executable), threads, device) as peer,
    ):
        apart, versions = prepare(row, ours, peer, folder)
        pairs = take_turns([ours, peer], rounds)
    return {
        "name": row.name,
        **summary(pairs),
        "difference": max(value for name, value in apart.items() if not name.startswith(LATER)),
        "note": row.note,
        "settings": _told(row.settings),
        "versions": versions,
    }


def _measure_alone(row: Row, rounds: int, threads: int, device: str) -> dict:
    ours = Worker(Path(sys.executable), threads, device)
    with ours, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        check = str(Path(folder) / "check.npz")
        reply = ours.ask(do="prepare", target=row.ours, folder=folder, check=check, settings=row.settings)
        measured = take_turns([ours], rounds)
    sides = {"ours": _side([one for (one,) in measured]), "peer": None, "repeats": measured[0][0]["repeats"]}
    about = {"name": row.name, "note": row.note, "settings": _told(row.settings), "versions": reply["versions"]}
    return {**about, "rounds": rounds, **dict.fromkeys(RATIOS), **sides}


def _told(settings: dict) -> dict:
    """The settings without the places of this machine."""
    return {key: Path(value).name if key == "data_dir" and value else value for key, value in settings.items()}


def prepare(row: Row, ours: Worker, peer: Worker, folder: str) -> tuple[dict[str, float], dict[str, str]]:
    """Builds both sides, ours first, as the peer is built from what it leaves in the folder, and compares them.

    Returns:
        Their `differences`, and the versions of what they run on.

    Raises:
        UserError: a side cannot be prepared, or they do not compute the same.
    """
    versions, checks = {}, []
    for name, worker, target in (("ours", ours, row.ours), ("peer", peer, row.peer)):
        check = Path(folder) / f"check-{name}.npz"
        reply = worker.ask(do="prepare", target=target, folder=folder, check=str(check), settings=row.settings)
        with np.load(check) as file:
            checks.append(dict(file))
        versions = reply["versions"] | versions  # ours where both have one
    apart = differences(*checks)
    if unequal(apart):
        raise UserError(
            f"ours and the peer do not compute the same, so they are not timed: {'; '.join(unequal(apart))}"
        )
    return apart, versions


def take_turns(sides: list[Worker], rounds: int) -> list[tuple[dict, ...]]:
    """Rounds in turn, after two for warming up. All have the same number of repetitions, of LEAST_SECONDS or more."""
    repeats = 1
    for _ in range(2):
        warm = [worker.ask(do="round", repeats=repeats) for worker in sides]
        repeats = max(1, math.ceil(LEAST_SECONDS / max(min(one["seconds"] for one in warm), 1e-6)))
    pairs = []
    for _ in range(rounds):
        pair = []
        for worker in sides:
            time.sleep(PAUSE_SECONDS)
            pair.append({"repeats": repeats, **worker.ask(do="round", repeats=repeats)})
        pairs.append(tuple(pair))
    return pairs


def summary(pairs: list[tuple[dict, dict]]) -> dict:
    """Median and range of the paired ratios (ours / peer) of wall time, and what each side took in one repetition."""
    ratios = [ours["seconds"] / peer["seconds"] for ours, peer in pairs]
    result = {
        **dict(zip(RATIOS, (statistics.median(ratios), min(ratios), max(ratios)), strict=True)),
        "rounds": len(pairs),
        "repeats": pairs[0][0]["repeats"],
    }
    for side, rounds in zip(("ours", "peer"), zip(*pairs, strict=True), strict=True):
        result[side] = _side(rounds)
    return result


def _side(rounds: Sequence[dict]) -> dict:
    """What one side took in one repetition."""
    keys = ("seconds", "user_seconds", "system_seconds", "minor_faults")
    took = {key: statistics.median(one[key] for one in rounds) for key in keys}
    took["peak_megabytes"] = max(one["peak_megabytes"] for one in rounds)
    took["seconds_each_round"] = [one["seconds"] for one in rounds]
    return took
