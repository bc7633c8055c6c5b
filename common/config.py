"""A frozen dataclass becomes a command line; its values are saved beside the run."""

import dataclasses
from pathlib import Path
from typing import Literal, TypeVar

import tyro

from common.errors import UserError
from common.gradients import Amp

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The flags that every `train` command shares. A paper's Config adds its own below them.

    The text under each field is its help; the bracket at the end says where the value comes from.
    """

    preset: tyro.conf.Suppress[str] = ""
    """name of the preset these values started from [ours]"""
    data_dir: Path | None = None
    """folder or zip with the pictures [none: the preset draws its own or asks]"""
    run_dir: Path | None = None
    """folder for everything the run writes [none: runs/PAPER/PRESET]"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N; auto takes the first card if Paddle can use one [ours]"""
    seed: int = 0
    """start of every chain of chance: weights, order, crops, holes [ours]"""
    resume: str = "auto"
    """auto: go on from the run folder's newest checkpoint; never: start anew and move the old run aside; or the path of
    a checkpoint folder [ours]"""
    total_steps: int = 1
    """optimisation steps of the whole run [each paper sets it]"""
    batch_size: int = 1
    """pictures per step [each paper sets it]"""
    workers: int = 2
    """threads that read and prepare pictures ahead of need; 0 reads in the loop [ours]"""
    save_minutes: float = 5.0
    """minutes between checkpoints; one more is written at the end and on Ctrl-C or SIGTERM [ours]"""
    preview_steps: int = 500
    """steps between preview pictures, after those at steps 1, 50 and 200 [ours]"""
    amp: Amp = "off"
    """automatic mixed precision on a graphics card, O1: float16, or bfloat16 where the card has it [ours]"""
    channels_last: bool = False
    """with --amp float16: Paddle lays out the maps of a step as its convolutions compute fastest on the card [ours]"""
    sync_batch_norm: bool = False
    """of several processes, each with a card: statistics of batch norm over the pictures of all [ours]"""
    to_static: bool = False
    """compile the networks, of stock layers, with paddle.jit.to_static: the same numbers, less overhead per operator on
    a card [ours]"""
    plain: bool = False
    """on a CPU compute with Paddle's own layers and settings; else with equal layers that are faster (common/cpu.py),
    freed memory kept and transposes copied [ours]"""
    on_nan: Literal["stop", "rollback"] = "stop"
    """when losses or weights are no finite numbers: stop, or go back to the newest checkpoint and go on with other
    pictures [ours]"""
    max_minutes: float = 0.0
    """stop after so many minutes of this session, saved and ready to resume; 0 is no limit [ours]"""


# Fields that may differ between a run and its resumption: none of them changes what a step computes.
FREE_FIELDS = {
    *("data_dir", "run_dir", "device", "resume", "total_steps", "workers", "save_minutes", "preview_steps"),
    *("max_minutes", "on_nan", "preset", "to_static", "channels_last"),
}


def choose(presets: dict[str, tuple[str, T]], argv: list[str] | None, prog: str, description: str) -> T:
    """Reads `PRESET [--flag value …]` from the command line.

    Args:
        presets: name -> (one line of help, config); every field of the config becomes a flag.
        argv: the arguments; None takes the process's own.

    Returns:
        The preset's config with the flags applied. Mistakes in the flags end with exit status 2.

    Raises:
        UserError: a number that every run needs is below what it can be.
    """
    config = _choose(presets, argv, prog, description)
    at_least(config, total_steps=1, batch_size=1, preview_steps=1, workers=0, seed=0, save_minutes=0, max_minutes=0)
    return config


def _choose(presets: dict[str, tuple[str, T]], argv: list[str] | None, prog: str, description: str) -> T:
    named = {name: (text, dataclasses.replace(config, preset=name)) for name, (text, config) in presets.items()}
    return tyro.extras.overridable_config_cli(named, args=argv, prog=prog, description=description)


def at_least(options, **smallest: float) -> None:
    """Raises UserError for an option that is below the smallest value it can have; the flag is named."""
    for name, least in smallest.items():
        value = getattr(options, name)
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be {least} or more")


def ask_for_data(config: RunSettings) -> None:
    """Raises UserError for a run without data whose preset draws none."""
    if config.data_dir is None and config.preset not in ("quick", ""):
        raise UserError(
            f"the preset {config.preset} trains on real pictures: give --data-dir (see data/README.md), or try "
            "the preset quick, which draws its own"
        )


def to_json(config) -> dict:
    """The config as plain JSON values (paths become text, tuples lists)."""

    def plain(value):
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        return value

    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
