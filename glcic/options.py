"""The flags of GLCIC's commands other than `train`, and how each reads them. Imports no Paddle."""

from dataclasses import dataclass
from pathlib import Path

from common.config import ExportSettings, parse
from common.convert.options import ConvertSettings
from common.deploy import options as export_options
from common.evaluation.options import ScoringSettings
from common.inpainting.options import CompletionSettings, read_options
from data import EXAMPLES
from weights import bundled


@dataclass(frozen=True)
class EvaluateOptions(ScoringSettings):
    """Score a network on a numbered set of masks or on mask files, beside the baselines."""

    # ---- data
    mask: str = "random"
    """The masks: center, random, freeform, blocks, regions, noise, area-1-10 … area-50-60, lama-thin, lama-medium,
    lama-thick, or a folder of mask files."""


@dataclass(frozen=True)
class ConvertOptions(ConvertSettings):
    """Bring published weights over."""

    # ---- model
    image_px: int | None = None
    """Side of the images that the network was trained on [none: as published]"""
    mean: tuple[float, float, float] | None = None
    """Mean colour of the training set, RGB in 0..1, where the file does not hold it (model_cn, the ports) [none: as
    published]"""
    config: Path | None = None
    """otenim's config.json, whose `mpv` is that mean [none: the one beside the published file, if there is one]"""


def read_infer(argv: list[str] | None, description: str) -> CompletionSettings:
    return read_options(CompletionSettings, argv, "glcic", description, bundled, EXAMPLES)


def read_evaluate(argv: list[str] | None, description: str) -> EvaluateOptions:
    return parse(EvaluateOptions, argv, "python -m glcic.evaluate", description, limit=1, seed=0)


def read_convert(argv: list[str] | None, description: str) -> ConvertOptions:
    return parse(ConvertOptions, argv, "python -m glcic.convert", description)


def read_export(argv: list[str] | None, description: str) -> ExportSettings:
    return export_options.read_options(ExportSettings, argv, "glcic", description)
