"""The scaffolding of a training run: folder, resume, signals, saves, previews, curves, progress bar.

Nothing in here knows what a network learns. A paper's train.py holds the algorithm and calls:

    with Run(cfg, paper, networks, optimizers) as run:
        for step, batch in run.steps(batches):
            run.record(losses)
            run.preview(step, draw)
"""

import contextlib
import gc
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
from tqdm import tqdm

from common import checkpoint, config, cpu, gradients, processes
from common.device import paddle, settings
from common.errors import DivergedError, UserError
from common.images import write_image

FIRST_PREVIEWS = (1, 50, 200)
MAX_ROLLBACKS = 5
RECORD_STEPS = 10  # losses are fetched from the device, and written, every so many steps


class Run:
    """One training run in its folder:

    options.json stats.jsonl curves.png previews/step_0000050.png checkpoints/step_0000200/ weights.safetensors

    Args:
        cfg: the paper's Config, with the fields of `config.RunSettings`.
        paper: the paper's folder name.
        networks, optimizers: name -> network, name -> its optimiser; resuming fills them.

    Raises:
        UserError: the folder cannot be written, it holds a run with other options, or there is nothing to resume.
    """

    def __init__(self, cfg, paper: str, networks: dict, optimizers: dict):
        self.cfg, self.paper, self.networks, self.optimizers = cfg, paper, networks, optimizers
        self.folder = run_folder(cfg, paper)
        self.weights = self.folder / "weights.safetensors"
        self.writes = processes.rank() == 0  # one of several processes does
        self.step = 0  # steps done
        self.skipped = 0  # batches that were passed over when the run went back, see `_roll_back`
        self.rollbacks = 0  # since the last checkpoint
        self.score: float | None = None  # of the last validation; ranks checkpoints
        self.stopped_by: int | None = None  # the signal that ended the run early
        self._sums: dict[str, list[paddle.Tensor]] = {}
        self._old_handlers = {}
        self.scalers = gradients.open_scalers(cfg.amp, optimizers)
        if cfg.channels_last:
            gradients.check_channels_last(cfg.amp, cfg.to_static)
        if cfg.sync_batch_norm:
            processes.synchronise_batch_norm(networks)
        if not (cfg.plain or cfg.to_static):  # static graphs are of the stock layers
            for network in networks.values():
                cpu.accelerate(network)
        self._open()

    @property
    def complete(self) -> bool:
        """All steps are done."""
        return self.step >= self.cfg.total_steps

    # ---- the folder

    def _open(self) -> None:
        try:
            with processes.first_alone():
                if self.writes and self.cfg.resume == "never" and (self.folder / "options.json").exists():
                    print(f"the older run was moved to {_move_aside(self.folder)}")
                (self.folder / "previews").mkdir(parents=True, exist_ok=True)
                self._resume()
                self._stats = (self.folder / "stats.jsonl" if self.writes else Path(os.devnull)).open("a")
                if self.writes:
                    options = {**config.to_json(self.cfg), "paper": self.paper, "paddle": paddle.__version__}
                    _write(self.folder / "options.json", json.dumps(options | settings(), indent=1) + "\n")
        except OSError as problem:
            raise UserError(f"cannot write the run folder {self.folder}: {problem.strerror or problem}") from None
        processes.equalise(value for network in self.networks.values() for value in network.state_dict().values())

    def _resume(self) -> None:
        if self.cfg.resume not in ("auto", "never"):
            source = Path(self.cfg.resume)
            if not source.is_dir():
                raise UserError(f"--resume {source}: there is no such checkpoint folder; auto looks in the run folder")
        else:
            source = checkpoint.newest_state(self.folder / "checkpoints") if self.cfg.resume == "auto" else None
            if source is None:
                if self.writes:
                    (self.folder / "stats.jsonl").unlink(missing_ok=True)
                return
            self._refuse_other_options()
        self._load(source)
        print(f"resumed from {source}, {self.step} steps done")

    def _load(self, source: Path) -> None:
        progress = checkpoint.load_state(source, self.networks, self.optimizers)
        self.step, self.score = progress["step"], progress.get("score")
        self.skipped = progress.get("skipped", 0)
        for name, state in progress.get("scalers", {}).items():
            if name in self.scalers:
                self.scalers[name].load_state_dict(state)
        before, now = progress.get("computed_by"), _computed_by()
        if before not in (None, now):
            print(f"note: the steps before were computed by {before}, those to come by {now}: not exactly as if by one")
        if self.writes:
            _trim_stats(self.folder / "stats.jsonl", self.step)

    def _refuse_other_options(self) -> None:
        try:
            before = json.loads((self.folder / "options.json").read_text())
        except (OSError, ValueError):
            return
        now = config.to_json(self.cfg)
        changed = [key for key in now if key not in config.FREE_FIELDS and key in before and before[key] != now[key]]
        if changed:
            listing = ", ".join(f"{key} was {before[key]}, is {now[key]}" for key in changed)
            raise UserError(
                f"{self.folder} holds a run with other options ({listing}); choose another --run-dir, or --resume "
                "never to start anew, or name its checkpoint with --resume to go on all the same"
            )

    # ---- the loop

    def __enter__(self) -> "Run":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_) -> None:
        self._tune_layout(False)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):  # of a full disk, told when the line was written
            self._stats.close()

    def _stop(self, number, _frame) -> None:
        if self.stopped_by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the step. Launchers repeat SIGTERM by themselves
        self.stopped_by = number

    def steps(self, batches: Callable[[int], Iterator]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yields (step, batch) from where the last checkpoint stopped; step counts from 0.

        Saves every cfg.save_minutes and at the end; returns early, saved, on Ctrl-C, SIGTERM and after cfg.max_minutes.
        Paddle's generator is seeded from (seed, step) before each step, so resuming needs no generator state.

        Args:
            batches: first step -> iterator of batches, such as `batches.Batches`.

        Raises:
            DivergedError: losses or weights are no finite numbers, and cfg.on_nan does not help.
            UserError: the disk is full.
        """
        if self.complete:
            return
        self._started = self._saved = time.monotonic()
        stream = batches(self.step + self.skipped)
        self._bar = tqdm(
            total=self.cfg.total_steps, initial=self.step, desc=f"{self.paper} {self.cfg.preset}".strip(), unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30, dynamic_ncols=True, disable=not self.writes,
        )  # fmt: skip
        stop, waited = False, 0.0
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._bar)
            if self.cfg.to_static:
                stack.enter_context(_compiled(self.networks.values()))
            stack.callback(lambda: stream.close())
            while not (stop or self.complete):
                asked = time.monotonic()
                batch = next(stream)
                waited += time.monotonic() - asked
                paddle.seed(_step_seed(self.cfg.seed, self.step + self.skipped))
                with gradients.mixed_precision(self.cfg.amp, self.optimizers, self.scalers):
                    self._tune_layout(True)
                    yield self.step, batch
                self.step += 1
                self._bar.update()
                stop, due = self._due()
                try:
                    if self.step % RECORD_STEPS == 0:
                        self._write_losses()
                    if due or stop or self.complete:
                        self.save()
                except DivergedError as problem:
                    if self.cfg.on_nan == "stop":
                        raise DivergedError(
                            f"{problem}; the checkpoints in {self.folder / 'checkpoints'} are untouched; go on with "
                            "--on-nan rollback, or start anew with a lower learning rate"
                        ) from None
                    self._roll_back(problem)
                    stream.close()
                    stream = batches(self.step + self.skipped)
        if self.writes:
            spent = time.monotonic() - self._started
            print(f"{spent / 60:.1f} min, {waited / spent:.1%} of it waiting for pictures")

    def _tune_layout(self, on: bool) -> None:
        if self.cfg.channels_last:
            gradients.tune_layout(on)

    def _due(self) -> tuple[bool, bool]:
        """Whether to stop, and whether to save. Several processes decide together, every RECORD_STEPS steps."""
        now = time.monotonic()
        over = bool(self.cfg.max_minutes) and now - self._started > 60 * self.cfg.max_minutes
        save = now - self._saved > 60 * self.cfg.save_minutes
        if processes.count() > 1:
            if self.step % RECORD_STEPS:
                return False, False
            asked, over, save = processes.largest([self.stopped_by or 0, int(over), int(save and self.writes)])
            self.stopped_by = asked or None
        return bool(self.stopped_by is not None or over), bool(save)

    def _roll_back(self, problem: DivergedError) -> None:
        """Goes back to the newest checkpoint, and on with pictures and chance that have not been used yet."""
        source = checkpoint.newest_state(self.folder / "checkpoints")
        if source is None:
            raise DivergedError(f"{problem}; there is no checkpoint yet to go back to")
        if self.rollbacks == MAX_ROLLBACKS:
            raise DivergedError(f"{problem}; it went back {MAX_ROLLBACKS} times and never came to the next checkpoint")
        reached, used = self.step, self.step + self.skipped
        self._sums = {}
        self._stats.close()
        with processes.first_alone():
            self._load(source)
        self._stats = (self.folder / "stats.jsonl" if self.writes else Path(os.devnull)).open("a")
        self.skipped, self.rollbacks = used - self.step, self.rollbacks + 1
        self._log(self.step, {"rollback": self.rollbacks})
        tqdm.write(f"{problem}: back from step {reached} to {self.step}, on with other pictures", file=sys.stderr)
        self._bar.n = self.step
        self._bar.refresh()

    def record(self, losses: dict[str, paddle.Tensor]) -> None:
        """Notes the losses of this step. They stay on the device until RECORD_STEPS of them are averaged."""
        self._tune_layout(False)  # before previews
        for name, value in losses.items():
            self._sums.setdefault(name, []).append(value.detach())

    def _write_losses(self) -> None:
        means = [paddle.stack(values).mean() for values in self._sums.values()]
        means = {name: float(mean) for name, mean in zip(self._sums, processes.average(means), strict=True)}
        self._sums = {}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(f"the loss {', '.join(bad)} is no finite number at step {self.step}")
        if means:
            self._log(self.step, means)
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()}, refresh=False)

    def _log(self, step: int, values: dict[str, float]) -> None:
        """Appends one line to stats.jsonl: steps done, clock time and the values."""
        try:
            self._stats.write(json.dumps({"step": step, "time": round(time.time(), 1), **values}) + "\n")
            self._stats.flush()
        except OSError as problem:
            raise UserError(
                f"cannot write {self.folder / 'stats.jsonl'}: {problem.strerror or problem}; the same command goes on "
                "from the last checkpoint"
            ) from None

    def preview_due(self) -> bool:
        """Whether a picture should be drawn after the step now being done, and by this process."""
        done = self.step + 1
        due = done in FIRST_PREVIEWS or done % self.cfg.preview_steps == 0 or done == self.cfg.total_steps
        return self.writes and due

    def write_preview(self, picture: np.ndarray) -> None:
        """Writes previews/step_N.png for the step now being done."""
        write_image(self.folder / "previews" / f"step_{self.step + 1:07d}.png", picture)

    def note_score(self, values: dict[str, float], score: str) -> None:
        """Logs a validation after the step now being done; values[score] ranks the checkpoints."""
        self.score = values[score]
        self._log(self.step + 1, values)

    # ---- writing

    def save(self) -> None:
        """Writes a checkpoint of the steps done so far, and the curves."""
        self._write_losses()
        self._check_weights()
        self._saved, self.rollbacks = time.monotonic(), 0
        if not self.writes:
            return
        progress = {"step": self.step, "seed": self.cfg.seed, "batch_size": self.cfg.batch_size}
        progress |= {"skipped": self.skipped, "computed_by": _computed_by()}
        if self.scalers:
            progress["scalers"] = gradients.scaler_states(self.scalers)
        if self.score is not None:
            progress["score"] = self.score
        with self._full_disk_is_told("the checkpoint before this one is whole"):
            # The curves first: killed after its last checkpoint a run is complete, and does not go on.
            write_curves(self.folder)
            gc.collect()  # the parts of a drawing hold one another, some megabytes for each
            checkpoint.save_state(self.folder / "checkpoints", self.networks, self.optimizers, progress)

    @contextlib.contextmanager
    def _full_disk_is_told(self, left: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise UserError(f"cannot save to {self.folder}: {problem.strerror or problem}; {left}") from None
        except Exception as problem:  # safetensors wraps the operating system's error in its own
            if "os error" not in str(problem).lower() and "I/O" not in str(problem):
                raise
            raise UserError(f"cannot save to {self.folder}: {problem}; {left}") from None

    def _check_weights(self) -> None:
        weights = [value for network in self.networks.values() for value in network.parameters()]
        finite = paddle.stack([paddle.isfinite(value).all() for value in weights]).all()
        if any(processes.largest([0 if finite else 1])):
            raise DivergedError(f"weights are no finite numbers at step {self.step}")

    def save_weights(self, names: list[str], metadata: dict) -> Path:
        """Writes the networks that inference needs to weights.safetensors and returns its path."""
        networks = {name: self.networks[name] for name in names}
        facts = {"paper": self.paper, "preset": self.cfg.preset, "step": self.step, **metadata}
        if not self.writes:
            return self.weights
        with self._full_disk_is_told("make room: the same command goes on from the last checkpoint"):
            return checkpoint.save_weights(self.weights, networks, facts)

    def farewell(self) -> None:
        """Says how to go on when the run ended early; exit status 130 or 143 after Ctrl-C or SIGTERM."""
        if self.complete:
            return
        print(f"stopped after {self.step} of {self.cfg.total_steps} steps, saved in {self.folder}")
        print("the same command goes on from here")
        if self.stopped_by is not None:
            raise SystemExit(128 + self.stopped_by)


@contextlib.contextmanager
def _compiled(networks: Iterable[paddle.nn.Layer]) -> Iterator[None]:
    """Networks that run as static graphs, traced when they are first called."""
    for network in networks:
        paddle.jit.to_static(network)
    try:
        yield
    finally:
        for network in networks:
            network.forward.rollback()


def run_folder(cfg, paper: str) -> Path:
    """cfg.run_dir, or runs/PAPER/PRESET."""
    return Path(cfg.run_dir) if cfg.run_dir else Path("runs") / paper / (cfg.preset or "run")


def read_stats(folder: Path) -> list[dict]:
    """The lines of stats.jsonl; a half-written last line is passed over."""
    lines = []
    with contextlib.suppress(OSError):
        for line in (folder / "stats.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def write_curves(folder: Path) -> None:
    """Draws curves.png from stats.jsonl: one panel for each logged name."""
    series: dict[str, list[tuple[int, float]]] = {}
    for line in read_stats(folder):
        for name, value in line.items():
            if name not in ("step", "time"):
                series.setdefault(name, []).append((line["step"], value))
    if not series:
        return
    rows = math.ceil(len(series) / 2)
    figure = matplotlib.figure.Figure(figsize=(10, 2.6 * rows), layout="constrained")
    for panel, (name, points) in enumerate(sorted(series.items()), 1):
        axes = figure.add_subplot(rows, 2, panel)
        axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 30 else None)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    checkpoint.replace_whole(folder / "curves.png", lambda temporary: figure.savefig(temporary, dpi=80))


def _computed_by() -> str:
    """What rounding depends on, but for the number of threads."""
    return f"{paddle.device.get_device().partition(':')[0]}, paddlepaddle {paddle.__version__}"


def _trim_stats(path: Path, step: int) -> None:
    """Drops the lines of steps that will be done again."""
    kept = [line for line in read_stats(path.parent) if line.get("step", 0) <= step]
    _write(path, "".join(json.dumps(line) + "\n" for line in kept))


def _write(path: Path, text: str) -> None:
    """A process that is killed leaves the old text or the new one."""
    checkpoint.replace_whole(path, lambda temporary: temporary.write_text(text))


def _move_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _step_seed(seed: int, step: int) -> int:
    process = (processes.rank(),) if processes.rank() else ()  # of several, each has its own chance
    return int(np.random.SeedSequence((seed, step, *process)).generate_state(1)[0])
