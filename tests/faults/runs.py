"""Runs that are started, disturbed and started again, and what must be left of them.

Each is a child process with a paper's real `train` command, see child.py.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from common.checkpoint import state as checkpoint_state
from common.imaging.io import read_image
from common.training.run import RECORD_STEPS
from common.training.stats import read_stats
from data.synthetic import write_faces, write_streets

import paddle

ROOT = Path(__file__).resolve().parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/train.py"))
PAIRED = {"pix2pix"}  # learns from streets, the others from faces
IMAGES = 24
PHASES = {  # so that every phase of a paper's algorithm is long enough to be killed in
    "glcic": {"completion_steps": 20, "discriminator_steps": 10},
    "deepfill": {"plain_steps": 20},
}
TIMEOUT_SECONDS = 1800


def measured_with(seconds: float) -> str:
    """The last line of a page of figures."""
    machine = f"Python {platform.python_version()}, paddlepaddle {paddle.__version__}, {os.cpu_count()} processor cores"
    return f"Measured with {machine}, in {seconds / 60:.0f} minutes."


class LostError(AssertionError):
    """What must not happen, did."""


def expect(held: bool, *told) -> None:
    if not held:
        raise LostError(" ".join(str(value) for value in told))


@dataclass
class Row:
    """One line of the table."""

    injected: int = 0
    completed: int = 0  # runs with this fault in them that came to the right end
    runs: int = 0
    checkpoints_lost: int = 0
    files_lost: int = 0
    resume_seconds: list[float] = field(default_factory=list)


class Training:
    """A run that is started again and again until it is complete.

    Args:
        folder: an empty one; data and run are in it.
        rows: fault -> Row, counted in.
    """

    def __init__(self, paper: str, folder: Path, steps: int, rows: dict[str, Row] | None = None):
        self.paper, self.folder, self.steps, self.rows = paper, folder, steps, {} if rows is None else rows
        self.run = folder / "run"
        self.data = draw(paper, folder / "data")
        self.images = fingerprints(self.data)
        self.legs = 0
        self.claimed = 0  # the newest checkpoint that the run said it had written
        self.faults: list[str] = []

    @contextlib.contextmanager
    def process(self, save_seconds: float = 300.0, **fault) -> Iterator["Leg"]:
        """One process of the run; its end is waited for."""
        self.legs += 1
        leg = Leg(self, self.folder / f"leg-{self.legs}", save_seconds, fault)
        try:
            yield leg
            leg.wait()
        finally:
            leg.end()
        if self.faults and "step" in leg.events():
            self.rows[self.faults[-1]].resume_seconds.append(leg.first_step - leg.started)

    def injected(self, fault: str, kept: "Kept", count: bool = True) -> None:
        """Counts a fault, and what it lost of what there was before it."""
        row = self.rows.setdefault(fault, Row())
        row.injected += count
        checkpoints, files = kept.lost(self)
        row.checkpoints_lost += len(checkpoints)
        row.files_lost += len(files)
        row.runs += fault not in self.faults
        self.faults = [*(name for name in self.faults if name != fault), fault]
        expect(not checkpoints and not files, self.paper, fault, "lost", *checkpoints, *files)

    def newest(self) -> int:
        path = checkpoint_state.newest_state(self.run / "checkpoints")
        return int(path.name[5:]) if path else 0

    def complete(self, undisturbed: "Training | None" = None) -> "Leg":
        """Goes on to the end, where the run must be what an undisturbed one is."""
        with self.process() as leg:
            pass
        expect(leg.status == 0, self.paper, "did not end well:", leg.err[-2000:])
        if undisturbed:
            expect_same(self, undisturbed)
        self.count_completed()
        return leg

    def count_completed(self) -> None:
        for fault in self.faults:
            self.rows[fault].completed += 1


class Leg:
    """One process of a run: what it was told, said and noted."""

    def __init__(self, training: Training, place: Path, save_seconds: float, fault: dict):
        self.training, self.place = training, place
        settings = {"total_steps": training.steps, "save_minutes": save_seconds / 60, **PHASES.get(training.paper, {})}
        if "on_nan" in fault:
            settings["on_nan"] = fault.pop("on_nan")
        plan = {"paper": training.paper, "data": str(training.data), "folder": str(training.run)}
        plan |= {"events": f"{place}.events", "settings": settings, "fault": fault}
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "FLAGS_"))}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.started = time.time()
        with Path(f"{place}.out").open("wb") as out, Path(f"{place}.err").open("wb") as err:
            command = [sys.executable, str(Path(__file__).with_name("child.py")), json.dumps(plan)]
            self.popen = subprocess.Popen(command, cwd=training.folder, env=environment, stdout=out, stderr=err)

    def events(self) -> dict[str, list[tuple[float, str]]]:
        """What the process noted so far: word -> [(clock, value)]."""
        found: dict[str, list] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"{self.place}.events").read_text().splitlines():
                clock, word, value = line.split(" ", 2)
                found.setdefault(word, []).append((float(clock), value))
        return found

    @property
    def first_step(self) -> float:
        return self.events()["step"][0][0]

    def until(self, word: str, times: int = 1) -> None:
        """Waits until something was noted so many times."""
        deadline = time.time() + TIMEOUT_SECONDS
        while len(self.events().get(word, [])) < times:
            expect(self.popen.poll() is None, self.training.paper, "ended before", word, times, self.err[-2000:])
            expect(time.time() < deadline, self.training.paper, "hangs before", word, times)
            time.sleep(0.01)

    def wait(self) -> None:
        try:
            self.popen.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise LostError(f"{self.training.paper} hangs") from None

    def end(self) -> None:
        """Nothing of it is left running; what it said about checkpoints is remembered."""
        self.popen.kill()
        self.popen.wait()
        saved = [int(value) for _, value in self.events().get("saved", [])]
        self.training.claimed = max([self.training.claimed, *saved])

    @property
    def status(self) -> int:
        return self.popen.returncode

    @property
    def out(self) -> str:
        return Path(f"{self.place}.out").read_text()

    @property
    def err(self) -> str:
        return Path(f"{self.place}.err").read_text()

    def expect_error(self, *parts: str) -> None:
        """Exit status 2 and a message that says what is wrong, without a stack trace."""
        told = (
            self.status == 2 and all(part in self.err for part in ("error: ", *parts)) and "Traceback" not in self.err
        )
        expect(told, self.training.paper, "status", self.status, "without", parts, "in:", self.err[-2000:])


class Kept:
    """What a run has on disk, to be compared with what it has after a fault."""

    def __init__(self, training: Training):
        self.step = training.newest()
        self.lines = read_stats(training.run)
        self.files = [name for name in ("options.json", "weights.safetensors") if (training.run / name).exists()]

    def lost(self, training: Training) -> tuple[list[str], list[str]]:
        """Names of the checkpoints and of the files that are gone or corrupt."""
        checkpoints = []
        for path in (training.run / "checkpoints").glob("step_*"):
            if checkpoint_state.read_progress(path) is not None and not readable(path / "state.safetensors"):
                checkpoints.append(path.name)
        newest = max(self.step, training.claimed)
        if training.newest() < newest:
            checkpoints.append(f"step_{newest:07d}")
        files = [name for name in self.files if not readable(training.run / name)]
        now = read_stats(training.run)
        if any(line not in now for line in self.lines if line["step"] <= self.step):
            files.append("stats.jsonl")
        if fingerprints(training.data) != training.images:
            files.append("pictures")
        return checkpoints, files


def readable(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".png":
            read_image(path)
    except Exception:  # whatever a corrupt file gives
        return False
    return path.stat().st_size > 0


def draw(paper: str, folder: Path) -> Path:
    """A set of its own for every run, since faults break images."""
    return (write_streets if paper in PAIRED else write_faces)(folder, IMAGES)


def fingerprints(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def expect_same(one: Training, other: Training) -> None:
    """Weights, moments, files and the log of two complete runs."""
    names = [
        {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and "checkpoints" not in path.parts}
        for run in (one.run, other.run)
    ]
    expect(names[0] == names[1], one.paper, "has other files:", *sorted(names[0] ^ names[1]))
    corrupt = [name for name in names[0] if not readable(one.run / name)]
    expect(not corrupt, one.paper, "has corrupt files:", *corrupt)
    state = f"checkpoints/step_{one.steps:07d}/state.safetensors"
    for name in ("weights.safetensors", state):
        left, right = load_file(one.run / name), load_file(other.run / name)
        different = [key for key in left if key not in right or left[key].tobytes() != right[key].tobytes()]
        expect(left.keys() == right.keys() and not different, one.paper, name, "differs:", *different[:3])
    steps = [0, *(line["step"] for line in read_stats(one.run))]
    gaps = [after - before for before, after in zip(steps[:-1], steps[1:], strict=True)]
    whole = steps[-1] == one.steps and min(gaps) >= 0 and max(gaps) <= RECORD_STEPS
    expect(whole, one.paper, "has a log of steps", steps)
