"""The `infer` command of the papers that complete photos: its flags, and what it does around a paper's network."""

from collections.abc import Callable
from functools import partial

from common.config import InferSettings
from common.inpainting import demo, photos
from common.inpainting.mask_source import Masks
from common.inpainting.options import CompletionSettings
from common.inpainting.tiling import plan
from common.runtime.device import describe, open_device


def open_network(options: InferSettings, load: Callable, faster: Callable):
    """The network of a command on its device; `faster` makes it an equal one, unless that is disabled."""
    place = open_device(options.device, options.disable_cpu_layers)
    network = load(options.weights)
    if not options.disable_cpu_layers:
        network = faster(network)
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
