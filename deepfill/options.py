"""The flags of DeepFill v2's commands other than `train`, and how each reads them. Imports no Paddle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.config import ExportSettings, parse
from common.convert.options import ConvertSettings
from common.deploy import options as export_options
from common.errors import UserError
from common.evaluation.options import ScoringSettings
from common.imaging.folders import SUFFIXES
from common.inpainting.options import CompletionSettings, read_options
from common.runtime.outputs import check_output
from data import EXAMPLES
from weights import bundled

Attention = Literal["auto", "release", "article", "networks_tf", "networks"]


@dataclass(frozen=True)
class InferOptions(CompletionSettings):
    """Complete one photo, or a folder of them."""

    # ---- data
    mask: str = "freeform"
    sketch: Path | None = None
    """Sketch of what should be in the hole, for weights trained with sketches: lines dark on light or light on dark, of
    the photo's size; for a folder of photos a folder, files named as the photos or NAME_edge."""
    offsets: Path | None = None
    """Image to write that shows by colours from where the attention takes what it puts, for one photo."""


@dataclass(frozen=True)
class EvaluateOptions(ScoringSettings):
    """Score a generator on a numbered set of masks or on mask files, beside the baselines."""

    # ---- data
    weights: tuple[Path, ...]
    """Weights file that `train` or `convert` wrote; several are compared."""
    mask: str = "freeform"
    """The masks: freeform, official (strokes and a rectangle), random (a rectangle), center, blocks, regions, noise,
    area-1-10 … area-50-60, lama-thin, lama-medium, lama-thick, or a folder of mask files."""


@dataclass(frozen=True)
class ConvertOptions(ConvertSettings):
    """Bring published weights over."""

    # ---- model
    colours: Literal["auto", "RGB", "BGR"] = "auto"
    """Order of the colours that the networks were trained with; auto is BGR for the release and MMagic, RGB for
    others."""
    padding: Literal["auto", "same", "symmetric"] = "auto"
    """Padding of a discriminator of nipponjo's that comes without its generator: same for networks_tf, symmetric for
    networks; auto takes the generator's, or same."""
    attention: Attention = "auto"
    """Codebase whose contextual attention the generator computes with; auto is its own."""


def read_infer(argv: list[str] | None, description: str) -> InferOptions:
    options = read_options(InferOptions, argv, "deepfill", description, bundled, EXAMPLES, sketch=None)
    check_sketch(options)
    return options


def read_evaluate(argv: list[str] | None, description: str) -> EvaluateOptions:
    return parse(EvaluateOptions, argv, "python -m deepfill.evaluate", description, limit=1, seed=0)


def read_convert(argv: list[str] | None, description: str) -> ConvertOptions:
    return parse(ConvertOptions, argv, "python -m deepfill.convert", description)


def read_export(argv: list[str] | None, description: str) -> ExportSettings:
    return export_options.read_options(ExportSettings, argv, "deepfill", description)


def check_sketch(options: InferOptions) -> None:
    """Raises UserError for files that are not there, or do not go together."""
    if options.sketch and not options.sketch.exists():
        raise UserError(f"there is no sketch {options.sketch}")
    if options.sketch and options.input.is_file() and options.sketch.is_dir():
        raise UserError(f"--sketch {options.sketch} is a folder, the input one photo; give the photo's sketch")
    if options.sketch and options.input.is_dir() and options.sketch.is_file():
        raise UserError(f"--sketch {options.sketch} is one file, the input a folder; give a folder of sketches")
    if options.offsets and options.input.is_dir():
        raise UserError("--offsets is for one photo")
    if options.offsets:
        read = [options.input, Path(options.mask), *([options.sketch] if options.sketch else [])]
        check_output(options.offsets, SUFFIXES, read)
    if options.offsets and options.offsets.resolve() == options.output.resolve():
        raise UserError(f"--offsets and --output are one file, {options.output}; name two")
