"""The folder of a training run: options, stats, checkpoints, previews. What is read from it is checked like input."""

import contextlib
import gc
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from common import config
from common.checkpoint import atomic, weights
from common.checkpoint import state as checkpoint_state
from common.errors import UserError
from common.imaging.io import write_image
from common.runtime import distributed
from common.runtime.device import paddle
from common.runtime.device_faults import is_lost
from common.runtime.environment import settings
from common.runtime.strict_json import json_text
from common.training import curves, run_lock, visualdl_log
from common.training.run_lock import RunLock
from common.training.run_options import read_options, told_run_id
from common.training.stats import read_stats, trim_stats

# Of a process's settings those that results depend on.
ROUNDING = ("threads", "transposes_are_views", "mkl_debug_cpu_type")


class RunFolder:
    """The folder of one training run, which is locked as long as the run is open:

    options.json stats.jsonl curves.png previews/step_0000050.png checkpoints/step_0000200/ weights.safetensors
    and, with --visualdl, visualdl/vdlrecords.run.log

    Of several processes each has one, and process 0 alone writes.

    Args:
        cfg: the paper's Config, with the fields of `config.RunSettings`.
        paper: the paper's folder name.
    """

    def __init__(self, cfg, paper: str):
        self.cfg, self.paper = cfg, paper
        self.path = Path(cfg.run_dir) if cfg.run_dir else Path("runs") / paper / (cfg.preset or "run")
        self.checkpoints = self.path / "checkpoints"
        self.writes = distributed.rank() == 0
        self.lock: RunLock | None = None
        self.run_id = secrets.token_hex(8)  # in options, checkpoints and weights; a run that goes on keeps its own
        self.stats = self.visualdl = None  # stats.jsonl, and VisualDL's writer with --visualdl

    def take(self) -> None:
        """Locks the folder, moves an older run aside if asked, and removes what a killed process was writing.

        Raises:
            UserError: --resume names no checkpoint, or one of another run than the folder holds; nothing was written
                then. Another process trains in the folder.
        """
        if source := self._named_checkpoint():
            self._refuse_another_run(source, checkpoint_state.read_progress(source) or {}, told_run_id(self.path))
        if self.writes:
            self.lock = RunLock(self.path)
            older = any((self.path / name).exists() for name in ("options.json", "checkpoints"))
            if self.cfg.resume == "never" and older:
                aside = self.path.rename(free_name(self.path))
                print(f"the older run was moved to {aside}")
                moved, self.lock = self.lock, RunLock(self.path)
                moved.release()
                (aside / run_lock.NAME).unlink(missing_ok=True)
            atomic.remove_unfinished(self.path, self.checkpoints)
        (self.path / "previews").mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Lets others take the folder."""
        self.close_stats()
        if self.lock:
            self.lock.release()

    # ---- resume

    def resume(self, networks: dict, optimizers: dict) -> tuple[dict, dict]:
        """Fills networks and optimisers from a checkpoint, if there is one or --resume names one.

        Returns:
            Progress of the checkpoint, and the options that its run was started with; both empty for a new run, the
            options also where --resume names a checkpoint.

        Raises:
            UserError: there is nothing to resume where there should be, or the run had other options.
        """
        if source := self._named_checkpoint():
            progress = self._load(source, networks, optimizers)
            self._set_later_aside(source, progress["step"])
            self.run_id, options = told_run_id(self.path) or self.run_id, {}
        elif found := checkpoint_state.all_states(self.checkpoints):
            options = read_options(self.path, self.paper)
            self._refuse_other_options(options)
            source, progress = self.load_newest(found, networks, optimizers)
            self._refuse_another_run(source, progress, options.get("run"))
            self.run_id = options.get("run") or self.run_id
        elif any(self.checkpoints.glob("damaged-step_*")):  # set aside when it was tried before
            raise self._none_whole()
        else:
            if self.writes:
                (self.path / "stats.jsonl").unlink(missing_ok=True)
                visualdl_log.log_path(self.path).unlink(missing_ok=True)
            return {}, {}
        print(f"resumed from {source}, {progress['step']} steps done")
        return progress, options

    def _named_checkpoint(self) -> Path | None:
        if self.cfg.resume in ("auto", "never"):
            return None
        source = Path(self.cfg.resume)
        if not source.is_dir():
            raise UserError(f"--resume {source}: there is no such checkpoint folder; auto looks in the run folder")
        inside = checkpoint_state.newest_state(source / "checkpoints") or checkpoint_state.newest_state(source)
        if inside:
            raise UserError(f"--resume {source}: it is no checkpoint but holds some; name one, such as {inside}")
        return source

    def load_newest(self, found: list[Path], networks: dict, optimizers: dict) -> tuple[Path, dict]:
        """Fills from the newest whole one of some checkpoints. Damaged ones are renamed and named."""
        for source in found:
            try:
                return source, self._load(source, networks, optimizers)
            except checkpoint_state.DamagedError as problem:
                aside = checkpoint_state.set_aside(source, "damaged") if self.writes else source
                print(f"note: {problem}; it is now {aside.name}, and the checkpoint before it is tried")
        raise self._none_whole()

    def _none_whole(self) -> UserError:
        return UserError(
            f"no checkpoint in {self.checkpoints} is whole; put a copy back, or --resume never starts anew"
        )

    def _load(self, source: Path, networks: dict, optimizers: dict) -> dict:
        progress = checkpoint_state.load_state(source, networks, optimizers)
        if not (source / checkpoint_state.CHECKSUMS).exists():
            print(
                f"note: {source} has no {checkpoint_state.CHECKSUMS}, so nothing tells whether it is as it was written"
            )
        if self.writes:
            trim_stats(self.path, progress["step"])
            if self.cfg.visualdl:
                visualdl_log.trim(self.path, progress["step"])
        return progress

    def _set_later_aside(self, source: Path, step: int) -> None:
        """A run that is taken up from an older checkpoint must not find the newer ones when it is resumed again."""
        found = checkpoint_state.all_states(self.checkpoints) if self.writes else []
        for path in found:
            if int(path.name[5:]) >= step and path.resolve() != source.resolve():
                aside = checkpoint_state.set_aside(path, "later")
                print(f"note: {path} is now {aside.name}, since the run goes on from {source}")

    def _refuse_other_options(self, before: dict) -> None:
        now = config.to_json(self.cfg)
        checked = [key for key in now if key not in config.FREE_FIELDS]
        changed = [key for key in checked if key in before and before[key] != now[key]]
        if changed:
            listing = ", ".join(f"{key} was {before[key]}, is {now[key]}" for key in changed)
            raise UserError(
                f"{self.path} holds a run with other options ({listing}); choose another --run-dir, or --resume "
                "never to start anew, or name its checkpoint with --resume to go on all the same"
            )
        unknown = [f"{key} {now[key]}" for key in checked if key not in before]
        if unknown:
            print(f"note: {self.path / 'options.json'} does not tell {', '.join(unknown)}: taken as they are now")
        process = settings()
        other = [key for key in ROUNDING if before.get(key, process[key]) != process[key]]
        if other and self.writes:
            told = ", ".join(f"{key} was {before[key]}, is {process[key]}" for key in other)
            print(f"note: {told}: from here on not exactly as if the run had not stopped")
        if before.get("preset") != now["preset"]:
            print(f"note: the run was started with the preset {before.get('preset')}, this is {now['preset']}")

    def _refuse_another_run(self, source: Path, progress: dict, told: str | None) -> None:
        """One run's checkpoint must not be published beside another's options, nor mixed with its checkpoints."""
        found = progress.get("run")
        if told and found and told != found:
            raise UserError(
                f"{source} is a checkpoint of the run {found}, and {self.path} holds the run {told}; put the "
                "checkpoint's own options.json back, or go on from it with --resume in another --run-dir"
            )

    # ---- what a run writes

    def begin(self, schedule_steps: int) -> None:
        """Writes the options, and opens stats.jsonl and the VisualDL log."""
        self.open_stats()
        if self.writes:
            self._write_options(self.path, schedule_steps)

    def _write_options(self, folder: Path, schedule_steps: int) -> None:
        options = {**config.to_json(self.cfg), "schedule_steps": schedule_steps, "paper": self.paper}
        options |= {"run": self.run_id, "paddle": paddle.__version__, **settings()}
        write_text(folder / "options.json", json_text(options, indent=1) + "\n")

    def open_stats(self) -> None:
        self.stats = (self.path / "stats.jsonl" if self.writes else Path(os.devnull)).open("a")
        self.visualdl = visualdl_log.open_log(self.path) if self.cfg.visualdl and self.writes else None

    def close_stats(self) -> None:
        for log in filter(None, (self.stats, self.visualdl)):
            with contextlib.suppress(OSError):  # of a full disk, said when the line was written
                log.close()

    def log(self, step: int, values: dict[str, float], histograms: dict[str, np.ndarray] | None = None) -> None:
        """Appends one line to stats.jsonl: steps done, clock time and the values. VisualDL gets the histograms too."""
        try:
            self.stats.write(json_text({"step": step, "time": round(time.time(), 1), **values}) + "\n")
            self.stats.flush()
        except OSError as problem:
            raise UserError(
                f"cannot write {self.path / 'stats.jsonl'}: {problem.strerror or problem}; the same command goes on "
                "from the last checkpoint"
            ) from None
        if self.visualdl and not self.is_gone():
            visualdl_log.add(self.visualdl, step, values, histograms or {})

    def is_gone(self) -> bool:
        """Another folder, or none, is where the run began."""
        return self.lock is not None and self.lock.where()[0] != self.path

    def write_preview(self, step: int, image: np.ndarray) -> None:
        write_image(self.path / "previews" / f"step_{step:07d}.png", image)
        if self.visualdl:
            self.visualdl.add_image("preview", image, step)

    def save(self, networks: dict, optimizers: dict, progress: dict) -> None:
        """Writes a checkpoint and the curves.

        Raises:
            UserError: the disk is full; or the folder is not the one that the run began in, and it is saved elsewhere.
        """
        self._require(networks, optimizers, progress)
        before = checkpoint_state.newest_state(self.checkpoints)
        left = f"{before} is whole, and the same command goes on from it" if before else "nothing was saved before"
        with self._full_disk_is_told(left):
            # The curves first: killed after its last checkpoint a run is complete, and does not go on.
            curves.write_curves(self.path / "curves.png", read_stats(self.path))
            gc.collect()  # the parts of a drawing hold one another, some megabytes for each
            checkpoint_state.save_state(self.checkpoints, networks, optimizers, self._signed(progress))

    def save_weights(self, names: list[str], networks: dict, optimizers: dict, progress: dict, metadata: dict) -> None:
        """Writes some of the networks to weights.safetensors. Raises UserError as `save` does."""
        self._require(networks, optimizers, progress)
        wanted = {name: networks[name] for name in names}
        with self._full_disk_is_told("make room: the same command goes on from the last checkpoint"):
            weights.save_weights(self.path / "weights.safetensors", wanted, self._signed(metadata))

    def _signed(self, facts: dict) -> dict:
        return {**facts, "run": self.run_id}

    def _require(self, networks: dict, optimizers: dict, progress: dict) -> None:
        """Saves elsewhere, and raises UserError, when the folder is not the one that the run began in."""
        place, what = self.lock.where()
        if place == self.path:
            return
        rescue = place or free_name(self.path)
        try:
            if place is None:
                rescue.mkdir(parents=True)
                self._write_options(rescue, progress["schedule_steps"])
            checkpoint_state.save_state(rescue / "checkpoints", networks, optimizers, self._signed(progress))
            told = f"saved after {progress['step']} steps in {rescue}; go on with --run-dir {shlex.quote(str(rescue))}"
        except (OSError, SafetensorError) as problem:
            told = f"and {rescue} cannot be written ({problem}), so that the steps since the last checkpoint are lost"
        raise UserError(f"the run folder {self.path} {what} while it was in use; {told}")

    @contextlib.contextmanager
    def _full_disk_is_told(self, left: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if is_lost(problem):  # Paddle makes an OSError of it too
                raise
            raise UserError(f"cannot save to {self.path}: {problem.strerror or problem}; {left}") from None
        except Exception as problem:  # safetensors wraps the operating system's error in its own
            if not any(words in str(problem).lower() for words in ("os error", "i/o", "ioerror")):  # 0.4.3 has the last
                raise
            raise UserError(f"cannot save to {self.path}: {problem}; {left}") from None


# ---- disk


def write_text(path: Path, text: str) -> None:
    """Writes a text file. A process that is killed leaves the old text or the new one."""
    atomic.replace_whole(path, lambda temporary: temporary.write_text(text))


def free_name(folder: Path) -> Path:
    """A name beside a folder that is not taken: FOLDER-1, FOLDER-2 …"""
    number = 1
    while (free := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return free
