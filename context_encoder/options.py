"""The flags of the Context Encoder's commands other than `train`, and how each reads them. Imports no Paddle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.config import ExportSettings, parse
from common.convert.options import ConvertSettings
from common.deploy import options as export_options
from common.evaluation.options import ScoringSettings
from common.inpainting.options import CompletionSettings, read_options
from data import EXAMPLES
from weights import bundled


@dataclass(frozen=True)
class InferOptions(CompletionSettings):
    """Complete one photo, or a folder of them."""

    batch_size: int = 16


@dataclass(frozen=True)
class EvaluateOptions(ScoringSettings):
    """Score a network by the paper's table, on a numbered set of masks or on mask files, beside the baselines."""

    # ---- data
    mask: str = "own"
    """The masks: own (those of the network's training), center, blocks, regions, noise, random, freeform,
    area-1-10 … area-50-60, lama-thin, lama-medium, lama-thick, or a folder of mask files."""
    shapes_dir: Path | None = None
    """Folder with PASCAL VOC 2012, whose object shapes make the regions; without it shapes are drawn."""


@dataclass(frozen=True)
class ConvertOptions(ConvertSettings):
    """Bring published weights over."""

    # ---- model
    mean_colour: Literal["release", "imagenet"] = "release"
    """Mean colour that fills the mask, as in the generator's training: RGB (117, 104, 123) as in every published one,
    or (123, 117, 104) of ImageNet."""


def read_infer(argv: list[str] | None, description: str) -> InferOptions:
    return read_options(InferOptions, argv, "context_encoder", description, bundled, EXAMPLES)


def read_evaluate(argv: list[str] | None, description: str) -> EvaluateOptions:
    return parse(EvaluateOptions, argv, "python -m context_encoder.evaluate", description, limit=1, seed=0)


def read_convert(argv: list[str] | None, description: str) -> ConvertOptions:
    return parse(ConvertOptions, argv, "python -m context_encoder.convert", description)


def read_export(argv: list[str] | None, description: str) -> ExportSettings:
    return export_options.read_options(ExportSettings, argv, "context_encoder", description)
