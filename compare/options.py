"""The flags of both comparisons, and how they are read. Imports no Paddle."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from common.config import BlendChoice, Crop, WindowMode, at_least, parse
from common.evaluation.options import ScoringSettings


@dataclass(frozen=True)
class PhotoOptions:
    """Complete one photo with all papers, and show the results side by side."""

    image: Path
    """the photo"""
    output: Path
    """the image to write"""
    mask: str = "center"
    """the hole: an image (white is hole), or center, random, freeform, blocks, regions, noise"""
    invert_mask: bool = False
    """black is hole"""
    papers: tuple[str, ...] = ()
    """folders of the papers to ask; none given: all that complete and have weights in weights/"""
    weights: tuple[Path, ...] = ()
    """files in place of those in weights/; each is of one paper"""
    blend: BlendChoice | None = None
    """how the hole joins the photo; paper: as each paper does it; none: what was measured as best"""
    window: WindowMode | None = None
    """whole: the networks see the whole photo; hole: a window around each hole; none: as each network was trained"""
    seed: int = 0
    """of holes that are drawn, and of papers that hold chance"""
    device: str = "auto"
    """Device to compute on: auto, cpu, gpu, gpu:N, or another type that Paddle lists (xpu, npu, mlu)."""


@dataclass(frozen=True, kw_only=True)
class TableOptions(ScoringSettings):
    """Score all completion papers, baselines and other methods' results in one table."""

    # ---- data
    output: Path = field()  # without a default, unlike in `evaluate`
    """The folder for table.md, table.json, table.png and the scores of each kind of masks; it is read again."""
    mask: tuple[str, ...] = ("center", "random", "freeform")
    """The masks, one table each: kinds as in `evaluate`, or folders of mask files."""
    papers: tuple[str, ...] = ()
    """The folders of the papers to compare; none takes all that complete images and have weights in weights/."""
    weights: tuple[Path, ...] = ()
    """Files in place of those in weights/; each is of one paper."""
    image_px: int = 128
    """The side to which images are brought; each paper brings them to its own size and back."""
    crop: Crop = "square178"
    """The crop of the images: square178 for aligned faces, of which each paper sees the part that it was trained on, or
    center."""

    # ---- run
    search_steps: int = 60
    """Number of steps from one starting point for papers that search for each image (DCGAN completion)."""


def read_photo(argv: list[str] | None, description: str) -> PhotoOptions:
    options = tyro.cli(PhotoOptions, args=argv, prog="python -m compare photo", description=description)
    at_least(options, seed=0)
    return options


def read_table(argv: list[str] | None, description: str) -> TableOptions:
    return parse(TableOptions, argv, "python -m compare table", description)
