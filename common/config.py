"""A frozen dataclass becomes a command line; its values are saved beside the run.

The text under a field is its flag's help, and a comment `# ---- model` above some fields is the heading of their group.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import math
import re
import textwrap
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args, get_type_hints

import tyro

from common.errors import UserError

ExportFormat = Literal["paddle", "onnx", "pdparams"]
Amp = Literal["off", "float16", "bfloat16"]
AmpLevel = Literal["O1", "O2"]
Crop = Literal["squash", "square178", "center108", "random160", "center", "random"]
Format = Literal["png", "keep"]
Blend = Literal["paste", "feather", "poisson", "telea-poisson"]
BlendChoice = Literal["paper", "paste", "feather", "poisson", "telea-poisson"]  # `paper` is each paper's own; `choose`
WindowMode = Literal["auto", "whole", "mask"]

# Names of version 0.1, which stand in the options.json of older runs; `output` is the file to write since.
RENAMED = {
    **{"holes": "mask", "hole_px": "mask_px", "hole_per_batch": "mask_per_batch", "plain": "disable_cpu_layers"},
    **{"init_completion": "init_generator", "generator_channels": "base_channels"},
}
OUTPUTS = {
    **dict.fromkeys(("center", "whole"), "predicted_region"),
    **dict.fromkeys(("sigmoid", "tanh", "clamp"), "output_activation"),
}

READ = {  # what is to be read -> what is said where it is not there
    "data_dir": "there is no folder {}; data/README.md says what --data-dir takes and what `python -m data.prepare` "
    "does for it, and the preset `quick` needs none",
    "published": "cannot read {}: there is no such file or folder",
    **dict.fromkeys(("weights", "init_generator", "init_discriminator"), "there is no weights file {}"),
}

GROUPS = ("data", "model", "optimisation", "run", "device")  # of flags, in the order of --help
HEADING = re.compile(r" +# ---- (\w+)$")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The flags that every `train` command shares. A paper's Config adds its own below them.

    The text under each field is its help; the bracket at the end says where the value comes from.
    """

    # ---- data
    data_dir: Path | None = None
    """Folder or zip with the training images [none: the preset draws its own or asks]"""
    workers: int = 2
    """Number of threads that read and prepare images ahead of need; 0 reads in the loop [ours]"""

    # ---- optimisation
    total_steps: int = 1
    """Number of optimisation steps of the whole run [each paper sets it]"""
    batch_size: int = 1
    """Number of images per update of the weights, of all micro-batches and processes together [each paper sets it]"""
    accumulate: int = 1
    """Number of micro-batches that each batch is computed in, one after another, to need less memory; batch norm's
    statistics are those of each micro-batch [ours]"""
    restart_schedule: bool = False
    """Plan the learning rate anew when a run is resumed with another --total-steps; without this flag it keeps the
    schedule that the run started with, and at its end stays as it is [ours]"""
    on_nan: Literal["stop", "rollback"] = "stop"
    """What to do when losses or weights are not finite: stop, or roll back to the newest checkpoint and go on with
    other images [ours]"""

    # ---- run
    preset: tyro.conf.Suppress[str] = ""
    """Name of the preset that these values started from [ours]"""
    run_dir: Path | None = None
    """Folder for everything that the run writes [none: runs/PAPER/PRESET]"""
    resume: str = "auto"
    """Checkpoint to resume from: auto takes the run folder's newest, never starts anew and moves the old run aside, a
    path names a checkpoint's folder [ours]"""
    seed: int = 0
    """Random seed for initialisation, order of the images, crops and masks [ours]"""
    save_minutes: float = 5.0
    """Minutes between checkpoints; one more is written at the end and on Ctrl-C, SIGTERM or SIGHUP [ours]"""
    preview_steps: int = 500
    """Number of steps between preview images, after those at steps 1, 50 and 200 [ours]"""
    visualdl: bool = False
    """Log every recorded value, the previews, and histograms of what a discriminator says for VisualDL too, in
    visualdl/ of the run folder (pip install -e ".[log]") [ours]"""
    max_minutes: float = 0.0
    """Minutes after which this session stops, saved and ready to resume; 0 is no limit [ours]"""

    # ---- device
    device: str = "auto"
    """Device to compute on: auto (the first GPU or other device that Paddle can use, else the CPU), cpu, gpu, gpu:N, or
    another type that Paddle lists (xpu, npu, mlu) [ours]"""
    disable_cpu_layers: bool = False
    """Use Paddle's stock layers and settings on a CPU, without the equal but faster ones of common/cpu_layers [ours]"""
    amp: Amp = "off"
    """Automatic mixed precision (GPU only): float16, or bfloat16 where the GPU has it [ours]"""
    amp_level: AmpLevel = "O1"
    """Level of mixed precision: O1 computes convolutions and products in 16 bits, O2 all but what needs float32;
    weights stay float32, and O2 has not been tried on a real GPU [ours]"""
    channels_last: bool = False
    """Let Paddle lay out feature maps as convolutions compute fastest on the GPU (needs --amp float16) [ours]"""
    sync_batch_norm: bool = False
    """Synchronise batch-norm statistics across the GPUs of several processes (SyncBatchNorm) [ours]"""
    to_static: bool = False
    """Compile the networks, of stock layers, with paddle.jit.to_static: the same numbers, less overhead per operator on
    a GPU [ours]"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """The flag of every command that computes on a device."""

    # ---- device
    device: str = "auto"
    """Device to compute on: auto (the first GPU or other device that Paddle can use, else the CPU), cpu, gpu, gpu:N, or
    another type that Paddle lists (xpu, npu, mlu)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FasterSettings(DeviceSettings):
    """The flags of every command that computes with a network, or with an equal but faster one."""

    # ---- device
    disable_cpu_layers: bool = False
    """Run Paddle's stock eager network on a CPU, without anything equal but faster (compiled networks, CPU layers)."""


@dataclasses.dataclass(frozen=True)
class InferSettings(FasterSettings):
    """The flags that every `infer` command shares."""

    # ---- data
    weights: Path | None = None
    """Weights file that `train` or `convert` wrote, or the folder that `export` wrote."""
    input: Path | None = None
    """Image to work on, or a folder of images."""
    output: Path | None = None
    """Image to write, or a folder if the input is one."""
    demo: bool = False
    """Run on bundled weights and images with no other flag; results go to demo_PAPER/, or to the output."""

    # ---- run
    seed: int = 0
    """Random seed of everything that is sampled: masks, noise, dropout, the first z."""
    skip_existing: bool = False
    """Skip the images of a folder whose result is there, whole and made with the same settings."""


@dataclasses.dataclass(frozen=True)
class EvaluateSettings(FasterSettings):
    """The flags that every `evaluate` command shares."""

    # ---- data
    weights: Path
    """Weights file that `train` or `convert` wrote, or the folder that `export` wrote."""
    data_dir: Path
    """Folder or zip with the images to score: CelebA, or any folder of images."""
    split: str = "test"
    """Split of the data to score: train, val or test."""
    limit: int = 250
    """Number of images to score."""
    output: Path | None = None
    """Folder for the scores and images.png; without it the scores are only printed."""

    # ---- run
    seed: int = 0
    """Number of the mask set, and random seed of everything else that is sampled."""


@dataclasses.dataclass(frozen=True)
class ExportSettings(DeviceSettings):
    """Write the network as a Paddle Inference or ONNX model and compare it with the original."""

    # ---- data
    weights: Path
    """Weights file that `train` or `convert` wrote."""
    output: Path
    """Folder for the exported network: NAME.json (.pdmodel of Paddle 2) and NAME.pdiparams, or NAME.onnx, or
    NAME.pdparams and weights.json."""
    format: ExportFormat = "paddle"
    """Format to export to: a Paddle Inference model, ONNX for other runtimes by paddle2onnx (pip install -e
    ".[export]"), or the parameters alone, as paddle.load and set_state_dict take them."""


# Fields that may differ between a run and its resumption; that other data or devices make it another run is said.
FREE_FIELDS = {
    *("data_dir", "run_dir", "device", "resume", "total_steps", "workers", "save_minutes", "preview_steps"),
    *("max_minutes", "on_nan", "preset", "to_static", "channels_last", "restart_schedule", "visualdl"),
}


def choose(
    presets: dict[str, tuple[str, T]], argv: list[str] | None, prog: str, description: str, **smallest: float
) -> T:
    """Reads `PRESET [--flag value …]` from the command line.

    Args:
        presets: name -> (one line of help, config); every field of the config becomes a flag.
        argv: the arguments; None takes the process's own.
        smallest: the smallest values of this paper's fields where they are not those that every run needs.

    Returns:
        The preset's config with the flags applied. Mistakes in the flags end with exit status 2.

    Raises:
        UserError: a number is not finite, or one that every run needs is below what it can be.
    """
    kind = type(next(iter(presets.values()))[1])
    named = {name: (text, _grouped(kind, {**vars(config), "preset": name})) for name, (text, config) in presets.items()}
    config = _ungrouped(kind, tyro.extras.overridable_config_cli(named, args=argv, prog=prog, description=description))
    ask_for_data(config)
    finite(config)
    present(config)
    every = {"total_steps": 1, "batch_size": 1, "accumulate": 1, "preview_steps": 1}
    at_least(config, **{**every, "workers": 0, "seed": 0, "save_minutes": 0, "max_minutes": 0, **smallest})
    return config


def parse(
    kind: type[T], argv: list[str] | None, prog: str, description: str, defaults: dict | None = None, **smallest: float
) -> T:
    """Reads `[--flag value …]` from the command line.

    Args:
        kind: a dataclass; every field becomes a flag.
        argv: the arguments; None takes the process's own.
        defaults: values of fields in place of the class's own defaults.
        smallest: the smallest values of some fields.

    Raises:
        UserError: a number is not finite or too small.
    """
    usual = {field.name: field.default for field in dataclasses.fields(kind)} | (defaults or {})
    found = tyro.cli(_groups(kind), args=argv, prog=prog, description=description, default=_grouped(kind, usual))
    options = _ungrouped(kind, found)
    finite(options)
    present(options)
    at_least(options, **smallest)
    return options


# ---- groups of flags


@functools.cache
def _groups(kind: type) -> type:
    """A dataclass of dataclasses, one for each group of the fields of `kind`: tyro gives each a panel of --help."""
    notes, groups = field_notes(kind), {}
    for field in dataclasses.fields(kind):
        inner = _settings_in(kind, field.name)
        if inner:
            groups[field.name] = [_flag(inner, each, field_notes(inner)) for each in dataclasses.fields(inner)]
        else:
            groups.setdefault(notes[field.name][0], []).append(_flag(kind, field, notes))
    order = [*(name for name in GROUPS if name in groups), *(name for name in groups if name not in GROUPS)]
    parts = {name: dataclasses.make_dataclass(name, groups[name], frozen=True) for name in order}
    fields = [(name, Annotated[part, tyro.conf.OmitArgPrefixes]) for name, part in parts.items()]
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=True)


def _flag(kind: type, field: dataclasses.Field, notes: dict) -> tuple:
    hint = get_type_hints(kind, include_extras=True)[field.name]
    return field.name, Annotated[hint, tyro.conf.arg(help=notes[field.name][1])]


def _settings_in(kind: type, name: str) -> type | None:
    """The dataclass that a field holds, such as the settings of a search; None for a flag."""
    hint = get_type_hints(kind)[name]
    return hint if dataclasses.is_dataclass(hint) else None


def _grouped(kind: type, values: dict):
    """Values by field, as an object of `_groups(kind)`."""
    made = {}
    for group in dataclasses.fields(_groups(kind)):
        given, part = values.get(group.name), get_args(group.type)[0]
        given = vars(given) if dataclasses.is_dataclass(given) else values
        flags = {field.name: given[field.name] for field in dataclasses.fields(part)}
        missing = {name: tyro.MISSING for name, value in flags.items() if value is dataclasses.MISSING}
        made[group.name] = part(**flags | missing)
    return _groups(kind)(**made)


def _ungrouped(kind: type[T], groups) -> T:
    values = {}
    for name, part in vars(groups).items():
        inner = _settings_in(kind, name) if name in get_type_hints(kind) else None
        values |= {name: inner(**vars(part))} if inner else vars(part)
    return kind(**values)


def field_notes(kind: type) -> dict[str, tuple[str, str]]:
    """(group, help) of each field of a dataclass, from where it, or a class that it inherits from, says so."""
    notes: dict[str, tuple[str, str]] = {field.name: ("", "") for field in dataclasses.fields(kind)}
    for base in filter(dataclasses.is_dataclass, kind.__mro__):
        for name, (group, text) in _own_notes(base).items():
            notes[name] = (notes[name][0] or group, notes[name][1] or text)
    return {name: (group or "options", text) for name, (group, text) in notes.items()}


@functools.cache
def _own_notes(kind: type) -> dict[str, tuple[str, str]]:
    source = textwrap.dedent(inspect.getsource(kind))
    lines = enumerate(source.splitlines(), 1)
    headings = [(number, found[1]) for number, line in lines if (found := HEADING.match(line))]
    body, notes = ast.parse(source).body[0].body, {}
    for node, after in itertools.zip_longest(body, body[1:]):
        if isinstance(node, ast.AnnAssign):
            group = next((word for number, word in headings[::-1] if number < node.lineno), "")
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            notes[node.target.id] = group, " ".join(text.split())
    return notes


def finite(options) -> None:
    """Raises UserError for an option that is infinite or not a number; the flag is named."""
    for name, value in vars(options).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be a finite number")


def at_least(options, **smallest: float) -> None:
    """Raises UserError for an option that is below the smallest value it can have; the flag is named."""
    for name, least in smallest.items():
        value = getattr(options, name)
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be {least} or more")


def present(options) -> None:
    """Raises UserError for data or weights that are to be read and are not there."""
    for name, problem in READ.items():
        given = getattr(options, name, None) or ()
        for path in given if isinstance(given, tuple) else (given,):
            beside = [*path.parent.glob("*.index"), *path.parent.glob("checkpoint*")] if name == "published" else []
            if not path.exists() and not beside:  # TensorFlow names a checkpoint by a prefix, which its reader looks up
                raise UserError(problem.format(path))


def current_name(name: str, value) -> str:
    """What an option of an older run is called now."""
    return OUTPUTS.get(str(value), name) if name == "output" else RENAMED.get(name, name)


def ask_for_data(config: RunSettings) -> None:
    """Raises UserError for a run without data whose preset draws none."""
    if config.data_dir is None and config.preset not in ("quick", ""):
        raise UserError(
            f"the preset {config.preset} trains on real images: give --data-dir (see data/README.md), or try "
            "the preset quick, which draws its own"
        )


def to_json(config) -> dict:
    """The config as plain JSON values (paths become text, tuples lists)."""
    return json.loads(json.dumps(vars(config), default=str))
