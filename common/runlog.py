"""The scaffolding of a training run: folder, resume, signals, saves, previews, curves, progress bar.

Nothing in here knows what a network learns. A paper's train.py holds the algorithm and calls:

    with Run(cfg, paper, networks, optimizers) as run:
        for step, batch in run.steps(batches):
            run.record(losses)
            run.preview(step, draw)
"""

import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
from tqdm import tqdm

from common import checkpoint, config
from common.device import paddle
from common.errors import UserError
from common.images import write_image

FIRST_PREVIEWS = (1, 50, 200)
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
        self.step = 0  # steps done
        self.score: float | None = None  # of the last validation; ranks checkpoints
        self.stopped_by: int | None = None  # the signal that ended the run early
        self._sums: dict[str, list[paddle.Tensor]] = {}
        self._old_handlers = {}
        self._open()

    @property
    def complete(self) -> bool:
        """All steps are done."""
        return self.step >= self.cfg.total_steps

    # ---- the folder

    def _open(self) -> None:
        try:
            if self.cfg.resume == "never" and (self.folder / "options.json").exists():
                print(f"the older run was moved to {_move_aside(self.folder)}")
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "previews").mkdir(exist_ok=True)
            self._resume()
            self._stats = (self.folder / "stats.jsonl").open("a")
            options = {**config.to_json(self.cfg), "paper": self.paper, "paddle": paddle.__version__}
            (self.folder / "options.json").write_text(json.dumps(options, indent=1) + "\n")
        except OSError as problem:
            raise UserError(f"cannot write the run folder {self.folder}: {problem.strerror or problem}") from None

    def _resume(self) -> None:
        if self.cfg.resume not in ("auto", "never"):
            source = Path(self.cfg.resume)
            if not source.is_dir():
                raise UserError(f"--resume {source}: there is no such checkpoint folder; auto looks in the run folder")
        else:
            source = checkpoint.newest_state(self.folder / "checkpoints") if self.cfg.resume == "auto" else None
            if source is None:
                (self.folder / "stats.jsonl").unlink(missing_ok=True)
                return
            self._refuse_other_options()
        progress = checkpoint.load_state(source, self.networks, self.optimizers)
        self.step, self.score = progress["step"], progress.get("score")
        _trim_stats(self.folder / "stats.jsonl", self.step)
        print(f"resumed from {source}, {self.step} steps done")

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
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._stats.close()

    def _stop(self, number, _frame) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt  # asked twice: do not wait for the step
        self.stopped_by = number

    def steps(self, batches: Callable[[int], Iterator]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yields (step, batch) from where the last checkpoint stopped; step counts from 0.

        Saves every cfg.save_minutes and at the end; returns early, saved, on Ctrl-C, SIGTERM and after cfg.max_minutes.
        Paddle's generator is seeded from (seed, step) before each step, so resuming needs no generator state.

        Args:
            batches: first step -> iterator of batches, such as `batches.Batches`.

        Raises:
            UserError: a loss is no finite number, or the disk is full.
        """
        if self.complete:
            return
        started = saved = time.monotonic()
        stream = batches(self.step)
        bar = tqdm(
            total=self.cfg.total_steps, initial=self.step, desc=f"{self.paper} {self.cfg.preset}".strip(), unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30, dynamic_ncols=True,
        )  # fmt: skip
        self._bar = bar
        with contextlib.closing(stream), bar:
            while not self.complete and self.stopped_by is None:
                batch = next(stream)
                paddle.seed(_step_seed(self.cfg.seed, self.step))
                yield self.step, batch
                self.step += 1
                bar.update()
                if self.step % RECORD_STEPS == 0:
                    self._write_losses()
                now = time.monotonic()
                if now - saved > 60 * self.cfg.save_minutes:
                    self.save()
                    saved = now
                if self.cfg.max_minutes and now - started > 60 * self.cfg.max_minutes:
                    break
        self.save()

    def record(self, losses: dict[str, paddle.Tensor]) -> None:
        """Notes the losses of this step. They stay on the device until RECORD_STEPS of them are averaged."""
        for name, value in losses.items():
            self._sums.setdefault(name, []).append(value.detach())

    def _write_losses(self) -> None:
        means = {name: float(paddle.stack(values).mean()) for name, values in self._sums.items()}
        self._sums = {}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"the loss {', '.join(bad)} is no finite number at step {self.step}; the last checkpoint in "
                f"{self.folder / 'checkpoints'} is untouched; resume with a lower learning rate or without --amp"
            )
        if means:
            self._log(self.step, means)
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()}, refresh=False)

    def _log(self, step: int, values: dict[str, float]) -> None:
        """Appends one line to stats.jsonl: steps done, clock time and the values."""
        self._stats.write(json.dumps({"step": step, "time": round(time.time(), 1), **values}) + "\n")
        self._stats.flush()

    def preview_due(self) -> bool:
        """Whether a picture should be drawn after the step now being done."""
        done = self.step + 1
        return done in FIRST_PREVIEWS or done % self.cfg.preview_steps == 0 or done == self.cfg.total_steps

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
        progress = {"step": self.step, "seed": self.cfg.seed, "batch_size": self.cfg.batch_size}
        if self.score is not None:
            progress["score"] = self.score
        try:
            checkpoint.save_state(self.folder / "checkpoints", self.networks, self.optimizers, progress)
            write_curves(self.folder)
        except OSError as problem:
            raise UserError(
                f"cannot save to {self.folder}: {problem.strerror or problem}; the checkpoint before this one is whole"
            ) from None
        except Exception as problem:  # safetensors wraps the operating system's error in its own
            if "os error" not in str(problem).lower() and "I/O" not in str(problem):
                raise
            raise UserError(
                f"cannot save to {self.folder}: {problem}; the checkpoint before this one is whole"
            ) from None

    def save_weights(self, names: list[str], metadata: dict) -> Path:
        """Writes the networks that inference needs to weights.safetensors and returns its path."""
        networks = {name: self.networks[name] for name in names}
        facts = {"paper": self.paper, "preset": self.cfg.preset, "step": self.step, **metadata}
        return checkpoint.save_weights(self.weights, networks, facts)

    def farewell(self) -> None:
        """Says how to go on when the run ended early; exit status 130 or 143 after Ctrl-C or SIGTERM."""
        if self.complete:
            return
        print(f"stopped after {self.step} of {self.cfg.total_steps} steps, saved in {self.folder}")
        print("the same command goes on from here")
        if self.stopped_by is not None:
            raise SystemExit(128 + self.stopped_by)


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
    figure.savefig(folder / "curves.png", dpi=80)


def _trim_stats(path: Path, step: int) -> None:
    """Drops the lines of steps that will be done again."""
    kept = [line for line in read_stats(path.parent) if line.get("step", 0) <= step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def _move_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
