"""The flags of the `infer` commands, and what is checked of them before any work. Imports no Paddle."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.config import BlendChoice, Format, InferSettings, WindowMode, parse
from common.errors import UserError
from common.imaging.folders import SUFFIXES, WRITABLE, is_zip
from common.runtime.commands import unpack_command
from common.runtime.outputs import check_output

NEEDED = ("weights", "input", "output")  # options that a command cannot do without

T = TypeVar("T")


@dataclass(frozen=True)
class MaskSettings(InferSettings):
    """The flags of every `infer` command that takes a mask."""

    # ---- data
    mask: str = "center"
    """Mask of the missing region: an image (white is missing), a folder of images matched by path or name, or one of
    center, random, freeform, blocks, regions, noise."""
    invert_mask: bool = False
    """Read a mask image the other way round: black is missing."""
    format: Format = "png"
    """Format of a folder's results: png, which keeps the known pixels exactly, or keep for each photo's own, JPEG at
    quality 95 with the photo's chroma."""

    # ---- model
    blend: BlendChoice = "poisson"
    """How the prediction joins the photo; poisson was best on validation faces, paper is the paper's own way."""


@dataclass(frozen=True)
class CompletionSettings(MaskSettings):
    """Complete one photo, or a folder of them."""

    # ---- model
    window: WindowMode = "auto"
    """What the network sees: whole is the whole photo, mask a window around each missing region, auto an aligned face
    as it was cut in training and any other photo by its size."""

    # ---- run
    batch_size: int = 4
    """Number of windows computed at once."""


def read_options(kind, argv: list[str] | None, paper: str, description: str, bundled, examples: Path, **brought):
    """The options of a command whose --demo completes the bundled faces, checked before any work.

    Args:
        kind: a dataclass, see `config.parse`.
        bundled: see `fill_demo`.
        examples: folder of the bundled images.
        brought: further options that --demo sets.
    """
    options = parse(kind, argv, f"python -m {paper}.infer", description, batch_size=1, seed=0)
    faces = {"input": examples / "faces", "mask": str(examples / "masks"), "invert_mask": False}
    options = fill_demo(options, paper, bundled, **faces, **brought)
    check_places(options.input, options.output, options.mask)
    return options


def fill_demo(options: T, paper: str, bundled: Callable[[str], list[Path]], **brought) -> T:
    """The options of an `infer` command, complete: as they were given, or, with --demo, with what it brings.

    Args:
        options: a dataclass with `demo`, and None in what is left out of NEEDED.
        paper: the folder's name.
        bundled: the files of a paper's weights; asked only where none are given.
        brought: by --demo, options by their names. None of them may be given beside it.

    Raises:
        UserError: without --demo something is missing; with it, something is given that it brings, the output is no
            folder, or no weights are bundled.
    """
    if not options.demo:
        missing = [_flag(name) for name in NEEDED if getattr(options, name) is None]
        if missing:
            few = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
            raise UserError(f"{few} must be given; or try --demo, which needs nothing else")
        return options
    usual = {field.name: field.default for field in dataclasses.fields(options)}
    for name in brought:
        if getattr(options, name) != usual[name]:
            raise UserError(f"--demo brings its own images: give --demo or {_flag(name)}, not both")
    output = options.output or Path(f"demo_{paper}")
    if output.is_file() or output.suffix.lower() in SUFFIXES:
        raise UserError(f"--output {output}: --demo writes several images; name a folder")
    return dataclasses.replace(options, weights=options.weights or bundled(paper)[0], output=output, **brought)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_places(source: Path, output: Path, mask: str = "center") -> None:
    """Refuses an output that cannot be written, or that would overwrite what is read; called before the work.

    Args:
        source: the photo, or the folder of photos.
        output: a file if the source is one, else a folder.

    Raises:
        UserError: see `outputs.check_output`; or the source is not there.
    """
    if not source.exists():
        raise UserError(f"there is no image or folder {source}")
    if is_zip(source):
        raise UserError(f"{source} is a zip, which is not read here: `{unpack_command('images', source)}` unpacks it")
    if not source.is_dir():
        check_output(output, WRITABLE, [source, Path(mask)])
        return
    check_output(output)
    for place, what in ((source, "photos"), (Path(mask), "masks")):
        if output.is_dir() and place.is_dir() and output.samefile(place):
            raise UserError(f"--output {output} is the folder of the {what}, which are never overwritten; name another")
