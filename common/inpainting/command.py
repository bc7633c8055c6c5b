"""The `infer` command of the papers that complete photos: its flags, and what it does around a paper's network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.config import InferSettings, parse
from common.imaging.photo_file import Format
from common.inpainting import demo, folder_run, photos
from common.inpainting.blending import BlendChoice
from common.inpainting.mask_source import Masks
from common.inpainting.tiling import WindowMode, plan
from common.runtime.device import describe, open_device


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
        bundled: see `demo.fill`.
        examples: folder of the bundled images.
        brought: further options that --demo sets.
    """
    options = parse(kind, argv, f"python -m {paper}.infer", description, batch_size=1, seed=0)
    faces = {"input": examples / "faces", "mask": str(examples / "masks"), "invert_mask": False}
    options = demo.fill(options, paper, bundled, **faces, **brought)
    folder_run.check_places(options.input, options.output, options.mask)
    return options


def open_network(options: InferSettings, load: Callable, faster: Callable):
    """The network of a command on its device; `faster` makes it an equal one, unless that is disabled."""
    place = open_device(options.device, options.disable_cpu_layers)
    network = load(options.weights)
    network = network if options.disable_cpu_layers else faster(network)
    print(describe(place))
    return network


def complete_input(
    options: CompletionSettings,
    complete: photos.Complete,
    trained_on: dict,
    megabytes: Callable | None = None,
    find_mask: Callable | None = None,
) -> int:
    """Completes the photo or the photos of a command. Returns the number that failed.

    Args:
        complete: is given images and their masks.
        trained_on: see `tiling.plan`.
        megabytes: see `photos.complete_file`.
        find_mask: (the command's masks, photo, image, index) -> mask, where more than the mask is to be found.
    """
    masks = Masks(options.mask, options.input, options.output, options.invert_mask, options.seed)
    find = partial(find_mask, masks) if find_mask else masks
    if options.input.is_file():
        windows = partial(plan, **trained_on, window=options.window)
        photos.complete_file(options.input, options.output, find, complete, windows, megabytes)
        return 0
    return photos.complete_folder(
        options.input, options.output, find, complete, options.weights, options.skip_existing, options.format,
        mask=masks, settings=photos.settings_of(options),
    )  # fmt: skip


def run(options: CompletionSettings, complete: photos.Complete, trained_on: dict, megabytes: Callable | None = None):
    """The rest of a command: completes, shows what the demo made, and exits with status 1 if a photo failed."""
    failed = complete_input(options, complete, trained_on, megabytes)
    if options.demo:
        demo.show_completed(options.input, options.mask, options.output)
    if failed:
        raise SystemExit(1)
