"""The loop of a training run: resume, signals, saves by the clock, divergence, losses, progress bar.

Nothing in here knows what a network learns. A paper's train.py holds the algorithm and calls:

    with Run(cfg, paper, networks, optimizers) as run:
        for step, batch in run.steps(batches):
            run.record(losses)
            if run.preview_due():
                run.write_preview(image)
"""

import contextlib
import dataclasses
import math
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.checkpoint import state as checkpoint_state
from common.errors import DivergedError, UserError, first_line
from common.runtime import distributed, optim, peers, signals
from common.runtime.device import current_type, paddle
from common.runtime.device_faults import is_lost
from common.runtime.memory import is_out_of_memory, size_asked
from common.training import reference
from common.training.preparation import traced
from common.training.run_folder import RunFolder

FIRST_PREVIEWS = (1, 50, 200)
MAX_ROLLBACKS = 5
RATE_JUMP = 3  # no schedule changes a learning rate by so much from one step to the next
RECORD_STEPS = 10  # losses are fetched from the device, and written, every so many steps


class Run:
    """One training run, in the folder that `RunFolder` describes.

    Args:
        cfg: the paper's Config, with the fields of `config.RunSettings`.
        paper: the paper's folder name.
        networks, optimizers: name -> network, name -> its optimiser; resuming fills them.

    Raises:
        UserError: the folder cannot be written, another process trains in it, it holds a run with other options or
            no whole checkpoint, or there is nothing to resume.
    """

    def __init__(self, cfg, paper: str, networks: dict, optimizers: dict):
        self.cfg, self.paper, self.networks, self.optimizers = cfg, paper, networks, optimizers
        self.files = RunFolder(cfg, paper)
        self.folder, self.writes = self.files.path, self.files.writes
        self.weights = self.folder / "weights.safetensors"
        self.step = 0  # steps done
        self.skipped = 0  # batches that were passed over when the run went back, see `_roll_back`
        self.rollbacks = 0  # since the last checkpoint
        self.score: float | None = None  # of the last validation; ranks checkpoints
        self.reference = reference.open_reference(cfg, paper)  # curves of other seeds, if there are any
        self.stopped_by: int | None = None  # the signal that ended the run early
        self.schedule = cfg  # what `learning_rate` is asked with; its total_steps may be those of an earlier session
        self.scalers = optim.open_scalers(cfg.amp, optimizers)
        self._at_once = False  # Ctrl-C came twice
        self._before: dict = {}  # the progress that was resumed from
        self._data: dict | None = None  # number of images and checksum of their names
        self._sums: dict[str, list[paddle.Tensor]] = {}
        self._per_image: dict[str, list[paddle.Tensor]] = {}  # by name, values that are one for each image
        self._half_precision = contextlib.ExitStack()  # of the step being done
        self._old_handlers = {}
        self._open()

    @property
    def complete(self) -> bool:
        """All steps are done."""
        return self.step >= self.cfg.total_steps

    def _open(self) -> None:
        try:
            with distributed.first_alone():
                self.files.take()
                progress, options = self.files.resume(self.networks, self.optimizers)
                if progress:
                    self._go_on_from(progress)
                    self._keep_schedule(options)
                self.files.begin(self.schedule.total_steps)
        except BaseException as problem:
            self.files.close()
            peers.leave(problem)
            if not isinstance(problem, OSError) or is_lost(problem):
                raise
            raise UserError(f"cannot write the run folder {self.folder}: {problem.strerror or problem}") from None
        distributed.equalise(value for network in self.networks.values() for value in network.state_dict().values())

    def _go_on_from(self, progress: dict) -> None:
        self.step, self.score, self.skipped = progress["step"], progress.get("score"), progress.get("skipped", 0)
        self._before = progress
        for name, state in progress.get("scalers", {}).items():
            if name in self.scalers:
                self.scalers[name].load_state_dict(state)
        before, now = progress.get("computed_by"), _computed_by()
        if before not in (None, now):
            print(f"note: the steps before were computed by {before}, those to come by {now}: not exactly as if by one")

    def _keep_schedule(self, options: dict) -> None:
        """The learning rate goes on by the schedule that the run started with, however long the run is now to be."""
        planned, now = self._before.get("schedule_steps", options.get("total_steps")), self.cfg.total_steps
        if type(planned) is not int or planned < 1 or planned == now:
            return
        rates = ", ".join(f"{name} {rate:.2g}" for name, rate in self._before.get("learning_rates", {}).items())
        text = f"note: the run was planned for {planned:,} steps and is now to have {now:,}: "
        if self.cfg.restart_schedule:
            print(f"{text}its learning rate is planned anew for these" + (f" (before: {rates})" if rates else ""))
            return
        self.schedule = dataclasses.replace(self.cfg, total_steps=planned)
        after = ", and stays as it is at their end" if planned < now else ""
        print(
            f"{text}its learning rate keeps the schedule of {planned:,}{after}"
            f"{f' (so far: {rates})' if rates else ''}; --restart-schedule plans it for {now:,}"
        )

    # ---- the loop

    def __enter__(self) -> "Run":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                    self._old_handlers.setdefault(number, signal.signal(number, self._stop))
        if self.files.lock:
            self.files.lock.beat()
        return self

    def __exit__(self, kind, problem, _) -> None:
        self._half_precision.close()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self.files.close()
        peers.leave(problem)
        if self._at_once and kind is not None and issubclass(kind, Exception):
            raise KeyboardInterrupt from None  # Paddle made an error of it, in a backward pass of ours
        if problem is not None and is_out_of_memory(problem):
            raise UserError(self._tell_memory(problem)) from None
        if problem is not None and is_lost(problem):
            raise UserError(self._tell_lost(problem)) from None

    def _stop(self, number, _frame) -> None:
        if number == getattr(signal, "SIGHUP", None):
            signals.silence_lost_output()
        if self.stopped_by is not None and number == signal.SIGINT:
            self._at_once = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one ends the process, whatever it does
            raise KeyboardInterrupt  # asked twice: do not wait for the step. Launchers repeat SIGTERM by themselves
        self.stopped_by = number

    def steps(self, batches: Callable[[int], Iterator]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yields (step, batch) from where the last checkpoint stopped; step counts from 0.

        Saves every cfg.save_minutes and at the end; returns early, saved, on Ctrl-C, SIGTERM, SIGHUP and after
        cfg.max_minutes.
        Paddle's generator is seeded from (seed, step) before each step, so resuming needs no generator state.

        Args:
            batches: first step -> iterator of batches, such as `batches.Batches`.

        Raises:
            DivergedError: losses or weights are no finite numbers, and cfg.on_nan does not help.
            UserError: the disk is full, or the run folder is not where it was.
        """
        self._compare_data(getattr(batches, "fingerprint", None))
        with contextlib.ExitStack() as stack:
            if self.cfg.to_static:
                stack.enter_context(traced(self.networks))
            if self.complete:
                return
            self._started = self._saved = time.monotonic()
            stream = batches(self.step + self.skipped)
            stack.callback(lambda: stream.close())
            self._bar = stack.enter_context(self._open_bar())
            stop, waited = False, 0.0
            while not (stop or self.complete):
                asked = time.monotonic()
                batch = next(stream)
                waited += time.monotonic() - asked
                paddle.seed(_step_seed(self.cfg.seed, self.step + self.skipped))
                with self._half_precision as step_in:  # ended by `record`
                    step_in.enter_context(
                        optim.mixed_precision(
                            self.cfg.amp, self.optimizers, self.scalers, self.cfg.channels_last, self.cfg.amp_level
                        )
                    )
                    yield self.step, batch
                self._compare_rates()
                self.step += 1
                if self.stopped_by == getattr(signal, "SIGHUP", None):
                    signals.silence_lost_output()
                self._bar.update()
                stop, due = self._due()
                if not self._write(due or stop or self.complete):
                    stream.close()
                    stream = batches(self.step + self.skipped)
        if self.writes:
            spent = time.monotonic() - self._started
            print(f"{spent / 60:.1f} min, {waited / spent:.1%} of it waiting for images")

    def _open_bar(self) -> tqdm:
        return tqdm(
            total=self.cfg.total_steps,
            initial=self.step,
            desc=f"{self.paper} {self.cfg.preset}".strip(),
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
            disable=not self.writes,
        )

    def _write(self, save: bool) -> bool:
        """Writes the losses every RECORD_STEPS, and a checkpoint if asked. False: they diverged, the run went back."""
        try:
            if self.step % RECORD_STEPS == 0:
                self._write_losses()
            if save:
                self.save()
            return True
        except DivergedError as problem:
            self._roll_back(problem)
            return False

    def _compare_data(self, fingerprint: Callable[[], dict] | None) -> None:
        """Says so when the images are not those that the steps before learned from."""
        self._data = fingerprint() if fingerprint else None
        before = self._before.get("data")
        if self._data is None or before in (None, self._data) or not self.writes:
            return
        counts = before.get("images"), self._data["images"]
        what = f"{counts[0]} training images until now, {counts[1]}" if counts[0] != counts[1] else "other names"
        print(
            f"note: the run has other data than before ({what} from here on): the images come in another order, and "
            "some may be seen more often than others"
        )

    def _compare_rates(self) -> None:
        """Says so when the first step after resuming has far another learning rate than the last one before it."""
        before, self._before = self._before.get("learning_rates", {}), {}
        for name, rate in self._learning_rates().items() if self.writes else ():
            old = before.get(name)
            if isinstance(old, int | float) and rate > 0 and not 1 / RATE_JUMP < rate / (old or rate) < RATE_JUMP:
                tqdm.write(f"note: the learning rate of {name} jumps from {old:.2g} to {rate:.2g}")

    def _learning_rates(self) -> dict[str, float]:
        return {name: optimizer.get_lr() for name, optimizer in self.optimizers.items()}

    def _tell_memory(self, problem: BaseException) -> str:
        side, saved = getattr(self.cfg, "image_px", None), checkpoint_state.newest_state(self.files.checkpoints)
        sizes, todo = f"--batch-size {self.cfg.batch_size}", "lower one of them"
        if side:
            sizes += f" and --image-px {side}"
        if self.cfg.batch_size > self.cfg.accumulate:
            todo += " or raise --accumulate"
        if current_type() != "cpu" and self.cfg.amp == "off":
            todo += " or add --amp float16"
        if saved:
            todo += f", with --resume {shlex.quote(str(saved))} to go on from there"
        where = f"memory ran out at step {self.step + 1} of {self.paper} with {sizes}{size_asked(problem)}"
        return f"{where}; {todo}, or stop other programs and start the same command again"

    def _tell_lost(self, problem: BaseException) -> str:
        saved = checkpoint_state.newest_state(self.files.checkpoints)
        going_on = f"goes on from {saved}" if saved else "starts anew, since nothing was saved yet"
        return (
            f"{paddle.get_device()} failed at step {self.step + 1} of {self.paper}: {first_line(problem)}; once the "
            f"device answers again the same command {going_on}"
        )

    def _due(self) -> tuple[bool, bool]:
        """Whether to stop, and whether to save. Several processes decide together, every RECORD_STEPS steps."""
        now = time.monotonic()
        over = bool(self.cfg.max_minutes) and now - self._started > 60 * self.cfg.max_minutes
        save = now - self._saved > 60 * self.cfg.save_minutes
        if distributed.count() > 1:
            if self.step % RECORD_STEPS:
                return False, False
            asked, over, save = distributed.largest([self.stopped_by or 0, int(over), int(save and self.writes)])
            self.stopped_by = asked or None
        return bool(self.stopped_by is not None or over), bool(save)

    def _roll_back(self, problem: DivergedError) -> None:
        """Goes back to the newest checkpoint, and on with images and chance that have not been used yet.

        Raises DivergedError where --on-nan does not ask for it, or it does not help.
        """
        found = checkpoint_state.all_states(self.files.checkpoints)
        if self.cfg.on_nan == "stop":
            raise DivergedError(
                f"{problem}; the checkpoints in {self.files.checkpoints} are untouched; go on with --on-nan rollback, "
                "or start anew with a lower learning rate"
            ) from None
        if not found:
            raise DivergedError(f"{problem}; there is no checkpoint yet to go back to")
        if self.rollbacks == MAX_ROLLBACKS:
            raise DivergedError(f"{problem}; it went back {MAX_ROLLBACKS} times and never came to the next checkpoint")
        reached, used = self.step, self.step + self.skipped
        self._sums, self._per_image = {}, {}
        self.files.close_stats()
        with distributed.first_alone():
            found = checkpoint_state.all_states(self.files.checkpoints)  # the first process may have set some aside
            self._go_on_from(self.files.load_newest(found, self.networks, self.optimizers)[1])
        self.files.open_stats()
        self.skipped, self.rollbacks = used - self.step, self.rollbacks + 1
        self.files.log(self.step, {"rollback": self.rollbacks})
        tqdm.write(f"{problem}: back from step {reached} to {self.step}, on with other images", file=sys.stderr)
        self._bar.n = self.step
        self._bar.refresh()

    def record(self, losses: dict[str, paddle.Tensor]) -> None:
        """Notes the losses of this step, which is done: what follows (previews, validation) computes in float32.

        They stay on the device until RECORD_STEPS of them are averaged. Of a value for each image, such as a
        discriminator's output, the mean is logged.
        """
        self._half_precision.close()
        for name, value in losses.items():
            if value.ndim:
                values = self._per_image.setdefault(name, [])
                values += [value.detach().flatten()] if self.files.visualdl else []
            self._sums.setdefault(name, []).append(value.detach().mean() if value.ndim else value.detach())

    def _write_losses(self) -> None:
        means = [paddle.stack(values).mean() for values in self._sums.values()]
        means = {name: float(mean) for name, mean in zip(self._sums, distributed.average(means), strict=True)}
        per_image, self._sums, self._per_image = self._per_image, {}, {}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(f"the loss {', '.join(bad)} is no finite number at step {self.step}")
        if means:
            histograms = {name: paddle.concat(values).numpy() for name, values in per_image.items() if values}
            self.files.log(self.step, means, histograms)
            if self.writes and self.reference and (said := reference.report(self.reference, self.step, means)):
                tqdm.write(said)
            whole = [name for name in means if name not in per_image and name.rpartition("_")[0] not in means]
            self._bar.set_postfix({name: f"{means[name]:.4g}" for name in whole}, refresh=False)

    def preview_due(self) -> bool:
        """Whether an image should be drawn after the step now being done, and by this process."""
        done = self.step + 1
        due = done in FIRST_PREVIEWS or done % self.cfg.preview_steps == 0 or done == self.cfg.total_steps
        return self.writes and due

    def write_preview(self, image: np.ndarray) -> None:
        """Writes previews/step_N.png for the step now being done."""
        if self.files.is_gone():
            self._saved = -math.inf  # said when this step is saved
            return
        self.files.write_preview(self.step + 1, image)

    def note_score(self, values: dict[str, float], score: str) -> None:
        """Logs a validation after the step now being done; values[score] ranks the checkpoints."""
        self.score = values[score] if math.isfinite(values[score]) else None
        self.files.log(self.step + 1, values)

    # ---- writing

    def save(self) -> None:
        """Writes a checkpoint of the steps done so far, and the curves."""
        self._write_losses()
        self._check_weights()
        self._saved, self.rollbacks = time.monotonic(), 0
        if self.writes:
            self.files.save(self.networks, self.optimizers, self._progress())

    def _progress(self) -> dict:
        progress = {"step": self.step, "seed": self.cfg.seed, "batch_size": self.cfg.batch_size}
        progress |= {"skipped": self.skipped, "computed_by": _computed_by()}
        progress |= {"schedule_steps": self.schedule.total_steps, "learning_rates": self._learning_rates()}
        if self._data:
            progress["data"] = self._data
        if self.scalers:
            progress["scalers"] = optim.scaler_states(self.scalers)
        if self.score is not None:
            progress["score"] = self.score
        return progress

    def _check_weights(self) -> None:
        weights = [value for network in self.networks.values() for value in network.parameters()]
        finite = paddle.stack([paddle.isfinite(value).all() for value in weights]).all()
        if any(distributed.largest([0 if finite else 1])):
            raise DivergedError(f"weights are no finite numbers at step {self.step}")

    def save_weights(self, names: list[str], more: dict) -> Path:
        """Writes the networks that inference needs to weights.safetensors and returns its path."""
        metadata = {"paper": self.paper, "preset": self.cfg.preset, "step": self.step, **more}
        if self.writes:
            self.files.save_weights(names, self.networks, self.optimizers, self._progress(), metadata)
        return self.weights

    def report_early_stop(self) -> None:
        """Says how to go on when the run ended early; exit status 128 + the signal's number."""
        if self.complete:
            return
        print(f"stopped after {self.step} of {self.cfg.total_steps} steps, saved in {self.folder}")
        print("the same command goes on from here")
        if self.stopped_by is not None:
            raise SystemExit(128 + self.stopped_by)


def _computed_by() -> str:
    """What rounding depends on, but for the number of threads."""
    return f"{current_type()}, paddlepaddle {paddle.__version__}"


def _step_seed(seed: int, step: int) -> int:
    process = (distributed.rank(),) if distributed.rank() else ()  # of several, each has its own chance
    return int(np.random.SeedSequence((seed, step, *process)).generate_state(1)[0])
