"""The flags of DCGAN completion's commands other than `train`, and how each reads them. Imports no Paddle."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from common import config
from common.config import Blend, ExportSettings
from common.convert.options import ConvertSettings
from common.deploy import options as export_options
from common.errors import UserError
from common.evaluation.options import ScoringSettings
from common.inpainting.options import MaskSettings, check_places, fill_demo
from data import EXAMPLES
from dcgan_completion.search_settings import PRESETS, Settings
from weights import bundled

TABLE = ("center", "pattern", "random80", "half")  # the paper's

T = TypeVar("T")


@dataclass(frozen=True)
class InferOptions(MaskSettings):
    """Complete the face in one photo, or in each of a folder."""

    # ---- data
    mask: str = "center"
    """Mask of the missing region: an image (white is missing), a folder of images matched by path or name, or of the
    face window one of center, random, freeform, random20, random80, left, half, grid, pattern; full writes G(z) with
    nothing missing, and lowres searches by 8 x 8 block means."""
    center_scale: float = 0.25
    """Known margin around the mask `center`, as a fraction of the face window's side."""
    eyes: tuple[float, float, float, float] | None = None
    """Position (x y x y) of the eye on the image's left and of that on its right, by which the face is brought to where
    training had it."""
    eyes_file: Path | None = None
    """File with the eyes for a folder: lines of a file name and the four numbers, such as CelebA's list of
    landmarks."""
    face: tuple[int, int, int] | None = None
    """Square that holds the face, as left, top and side in pixels; without it the eyes tell, or it is the middle as in
    training."""
    align: Literal["auto", "none"] = "auto"
    """How a photo that is no aligned face gets its window where no flag gives one: auto finds the eyes with a detector,
    none takes the square in the middle."""

    # ---- run
    every: int = 50
    """Number of steps between the frames of OUT-evolution.png and .gif; 0 writes neither, nor OUT-curves.png."""

    preset: str = "suite"
    """Settings of the search that its flags change: suite, article, bamos, yeh2017 or authors-repo."""
    search: Settings = PRESETS["suite"]


@dataclass(frozen=True)
class EvaluateOptions(ScoringSettings):
    """Score completion with the masks of the paper's table or mask files, beside the baselines."""

    # ---- data
    mask: tuple[str, ...] = TABLE
    """The masks: center, pattern, random80, half, random, random20, left, grid, freeform, or folders of mask files."""
    limit: int = 64

    # ---- model
    blend: Blend = "poisson"
    """How G(z) joins the image in the row `ours`; the row `overlay` is the article's."""

    # ---- run
    preset: str = "suite"
    """Settings of the search that its flags change: suite, article, bamos, yeh2017 or authors-repo."""
    search: Settings = PRESETS["suite"]


@dataclass(frozen=True)
class ConvertOptions(ConvertSettings):
    """Bring published weights over."""

    # ---- data
    discriminator: Path | None = None
    """The discriminator's file, where it is another one (netD.pth) [none: it has none, or lies in the same file]"""


def parse_search(kind: type[T], argv: list[str] | None, prog: str, description: str, **smallest: float) -> T:
    """The options of a command that searches: --preset sets the defaults of the search's flags."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="suite")
    preset = first.parse_known_args(argv)[0].preset
    if preset not in PRESETS:
        raise UserError(f"there is no preset {preset!r} of the search; choose from {', '.join(PRESETS)}")
    return config.parse(kind, argv, prog, description, {"search": PRESETS[preset]}, seed=0, **smallest)


def read_infer(argv: list[str] | None, description: str) -> InferOptions:
    options = parse_search(InferOptions, argv, "python -m dcgan_completion.infer", description, every=0)
    faces = {"input": EXAMPLES / "faces", "mask": str(EXAMPLES / "masks"), "invert_mask": False}
    aligned = {"eyes": None, "eyes_file": None, "face": None}  # the bundled faces are where training had them
    options = fill_demo(options, "dcgan_completion", bundled, **faces, **aligned)
    check_places(options.input, options.output, options.mask)
    eyes_given(options)
    return options


def read_evaluate(argv: list[str] | None, description: str) -> EvaluateOptions:
    return parse_search(EvaluateOptions, argv, "python -m dcgan_completion.evaluate", description, limit=1)


def read_convert(argv: list[str] | None, description: str) -> ConvertOptions:
    return config.parse(ConvertOptions, argv, "python -m dcgan_completion.convert", description)


def read_export(argv: list[str] | None, description: str) -> ExportSettings:
    return export_options.read_options(ExportSettings, argv, "dcgan_completion", description)


def eyes_given(options: InferOptions) -> dict:
    """Eye positions by file name. Raises UserError for options that cannot be meant."""
    from dcgan_completion import face  # not above: it imports OpenCV, which no help text needs

    if options.eyes and options.face or options.eyes_file and options.face:
        raise UserError("give the face by its eyes or by --face, not by both")
    if options.eyes and options.eyes_file:
        raise UserError("give the eyes by --eyes or by --eyes-file, not by both")
    if options.input.is_dir():
        if options.eyes or options.face:
            raise UserError("--eyes and --face are of one photo; for a folder give --eyes-file")
        return face.read_eyes(options.eyes_file) if options.eyes_file else {}
    if options.eyes_file:
        eyes = face.read_eyes(options.eyes_file)
        if options.input.name not in eyes:
            raise UserError(f"{options.eyes_file} has no line for {options.input.name}")
        return eyes
    return {options.input.name: options.eyes} if options.eyes else {}
