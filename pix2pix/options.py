"""The flags of pix2pix's commands other than `train`, and how each reads them. Imports no Paddle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import EvaluateSettings, ExportSettings, InferSettings, parse
from common.convert.options import ConvertSettings
from common.deploy import options as export_options
from common.evaluation.options import MetricOptions
from common.inpainting.options import check_places, fill_demo
from data import EXAMPLES
from pix2pix.config import Direction, Dropout
from weights import bundled

Statistics = Literal["paper", "running"]
Size = Literal["trained", "full"]


@dataclass(frozen=True)
class InferOptions(InferSettings):
    """Translate one image, or a folder of them."""

    # ---- data
    half: Literal["whole", "left", "right"] = "whole"
    """Half of each image to take, for pairs that stand side by side in one file."""

    # ---- model
    statistics: Statistics = "paper"
    """Statistics of batch normalisations: paper takes the image's own, with dropout, as in training (Sec. 3.3), running
    takes the averages, without dropout."""
    size: Size = "trained"
    """Size at which the network sees the image: the one it was trained on, or the image's full size."""


@dataclass(frozen=True)
class EvaluateOptions(MetricOptions, EvaluateSettings):
    """Score networks on held-out pairs."""

    # ---- data
    weights: tuple[Path, ...]
    """Weights file that `train` or `convert` wrote; several, of one direction, are scored and shown side by side."""
    data_dir: Path
    """Folder or zip with the images to score: Cityscapes, facades, any paired folder, or for grey-to-colour any folder
    of images."""
    split: str = "val"
    limit: int = 500
    segment_with: Path | None = None
    """Weights of a photo-to-label network that turns the photos of a label-to-photo one back into labels."""

    # ---- model
    statistics: Statistics = "paper"
    """Statistics of batch normalisations: paper takes the image's own, with dropout, as in training (Sec. 3.3), running
    takes the averages, without dropout."""


@dataclass(frozen=True)
class ConvertOptions(ConvertSettings):
    """Bring published weights over."""

    # ---- model
    direction: Direction | None = None
    """What becomes what [none: told by the name of the file if that is a published one, else label-to-photo]"""
    image_px: int | None = None
    """Side of the images that the network was trained on [none: 256, and 128 for a U-Net of 7 levels]"""
    dropout: Dropout | None = None
    """Where the U-Net drops features, which the file does not tell [none: where its codebase does]"""


@dataclass(frozen=True)
class ExportOptions(ExportSettings):
    """Write the generator as a Paddle Inference or ONNX model and compare it with the original."""

    # ---- model
    statistics: Statistics = "paper"
    """Statistics of batch normalisations: paper takes each image's own, running takes the averages of training; an
    exported model has no dropout in either."""


def read_infer(argv: list[str] | None, description: str) -> InferOptions:
    options = parse(InferOptions, argv, "python -m pix2pix.infer", description, seed=0)
    filled = fill_demo(options, "pix2pix", bundled, input=EXAMPLES, half="whole")
    check_places(filled.input, filled.output)
    return replace(filled, weights=options.weights)  # without any the demo shows all bundled networks


def read_evaluate(argv: list[str] | None, description: str) -> EvaluateOptions:
    return parse(EvaluateOptions, argv, "python -m pix2pix.evaluate", description, limit=1, seed=0)


def read_convert(argv: list[str] | None, description: str) -> ConvertOptions:
    return parse(ConvertOptions, argv, "python -m pix2pix.convert", description)


def read_export(argv: list[str] | None, description: str) -> ExportOptions:
    return export_options.read_options(ExportOptions, argv, "pix2pix", description)
