"""Completes photos of any size, with holes of any shape, and with a sketch of what should be there.

python -m deepfill.infer --demo

python -m deepfill.infer --weights WEIGHTS --input PHOTO --mask MASK --output OUT.png

python -m deepfill.infer --weights WEIGHTS --input PHOTO --mask MASK --sketch LINES --output OUT.png

python -m deepfill.infer --weights WEIGHTS --input FOLDER --mask freeform --output FOLDER
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from deepfill.options import InferOptions as Options
from deepfill.options import read_infer

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_infer, __doc__)

from dataclasses import replace
from functools import partial

import numpy as np

from common.checkpoint.tensors import load_network
from common.checkpoint.weights import load_trained, read_weights
from common.deploy.engine import compile_network
from common.errors import UserError
from common.imaging.grid import show_mask
from common.imaging.io import read_image
from common.imaging.transforms import resize, to_network
from common.inpainting import command, demo, folder_run, photos, pipeline
from common.inpainting.blending import Blend, BlendChoice, choose
from common.inpainting.tiling import WindowMode, plan
from data import EXAMPLES
from deepfill import flow, sketch
from deepfill.model import Discriminator, Generator

import paddle

STRIDE = 8  # two layers of stride 2, and attention between patches two pixels apart
LARGEST_MASK = 0.5  # fraction of the side that the rectangles of training cover
PAPER_BLEND: Blend = "paste"  # the release pastes


def load(weights: str | Path) -> Generator:
    """The generator of a weights file, ready to complete; its `metadata` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    network = load_trained(Generator, weights, "deepfill", "generator", "DeepFill v2")
    if network.metadata.get("colours") == "BGR":
        for layer in (network.coarse.conv1.conv, network.refine.xconv1.conv, network.refine.pmconv1.conv):
            exchange_red_and_blue(layer.weight, axis=1)
        for layer in (network.coarse.conv17, network.refine.allconv17):
            exchange_red_and_blue(layer.weight, axis=0)
            exchange_red_and_blue(layer.bias, axis=0)
    network.metadata = {**network.metadata, "colours": "RGB"}
    return network


class Refined(paddle.nn.Layer):
    """The generator, of whose two images only the refined one is given."""

    def __init__(self, network: Generator):
        super().__init__()
        self.network = network

    def forward(self, image, mask, edge=None):
        """As `model.Generator.forward`: float32 [N, 3, H, W] in [-1, 1], for RGB."""
        return self.network(image, mask, edge)[1]


def faster(network: Generator, refined_only: bool = False):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`).

    Args:
        refined_only: give the refined image alone, as an exported network does; else both stages' images.
    """
    if not refined_only:
        return compile_network(network, "nothing")
    refined = Refined(network)
    refined.eval()
    free = "size" if "exported" in network.metadata else "nothing"
    return compile_network(network, free, stands_for=refined, output=1)


def exchange_red_and_blue(value, axis: int, shape: tuple | None = None) -> None:
    """Exchanges the first and the third place on an axis of a weight, seen in its own or another shape.

    Done to layers that read colours (axis 1) and that make colours (axis 0), it turns networks that were trained with
    blue first, as the release's were, into networks for RGB.
    """
    array = value.numpy().reshape(shape or value.shape)
    array = np.take(array, [2, 1, 0, *range(3, array.shape[axis])], axis)
    value.set_value(array.reshape(value.shape))


def load_discriminator(path: Path, guided: bool) -> Discriminator:
    """The discriminator of a weights file. Raises UserError when it judges something else than is trained."""
    tensors, metadata = read_weights(path)
    arguments = metadata.get("discriminator")
    if metadata.get("paper") != "deepfill" or arguments is None:
        raise UserError(f"{path} holds no discriminator of DeepFill v2")
    if arguments["guided"] != guided:
        raise UserError(f"the discriminator in {path} {'takes a' if arguments['guided'] else 'takes no'} sketch")
    # Planned by `build_network` it cannot be: the spectral normalisation computes when it is made.
    last = tensors.get("discriminator.conv6.weight_orig")
    if last is None or last.shape[0] != 4 * arguments["base_channels"]:
        raise UserError(f"{path} describes a discriminator of {arguments['base_channels']} channels without its layers")
    discriminator = Discriminator(**arguments)
    load_network(discriminator, tensors, "discriminator", path)
    if metadata.get("colours") == "BGR":
        first = discriminator.conv1
        exchange_red_and_blue(first.weight_orig, axis=1)
        exchange_red_and_blue(first.weight_v, axis=0, shape=(first.weight_orig.shape[1], -1))  # a filter, flattened
    return discriminator


def complete(
    network: Generator,
    image: np.ndarray,
    mask: np.ndarray,
    lines: np.ndarray | None = None,
    blend: BlendChoice = "poisson",
    window: WindowMode = "auto",
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        mask: bool [height, width], True where the photo is missing.
        lines: bool [height, width], a sketch, True on its lines; looked at inside the hole. None is no line.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.

    Raises:
        UserError: a sketch for a network that takes none, or sizes that differ.
    """
    return complete_batch(network, [image], [mask], None if lines is None else [lines], blend, window)[0]


def complete_batch(network, images, masks, sketches=None, blend="poisson", window="auto", batch_size: int = 4) -> list:
    """`complete` for several photos of any sizes, whose windows share the network's batches."""
    if sketches is not None:
        if not network.arguments["guided"]:
            raise UserError("these weights take no sketch; train with --guided, or leave the sketch out")
        for image, mask, lines in zip(images, masks, sketches, strict=True):
            if not lines.shape == image.shape[:2] == mask.shape:
                sizes = ["{} x {} px".format(*shape[1::-1]) for shape in (lines.shape, image.shape, mask.shape)]
                raise UserError("the sketch is {}, its image {}, the hole {}; give all one size".format(*sizes))
        # Cut already here: in a photo that is shrunk for the network, pixels on the rim show what is beside the hole.
        sketches = [lines & mask for lines, mask in zip(sketches, masks, strict=True)]

    def run(pixels: np.ndarray, window_mask: np.ndarray, edge: np.ndarray | None = None) -> np.ndarray:
        return predict(network, pixels, window_mask, edge)[-1]

    return pipeline.complete_batch(
        run, images, masks, **trained_on(network), stride=STRIDE, blend=choose(blend, PAPER_BLEND), window=window,
        batch_size=batch_size, sketches=sketches,
    )  # fmt: skip


def predict(network: Generator, pixels: np.ndarray, mask: np.ndarray, edge: np.ndarray | None = None) -> tuple:
    """Both stages' images, float32 [N, 3, H, W] in [-1, 1], from arrays of that form, H and W multiples of 8.

    The refined one alone, in a tuple too, if the network gives no other (see `faster`).
    """
    if edge is None and network.arguments["guided"]:
        edge = np.zeros_like(mask)  # what no line is; an exported network takes no None
    with paddle.no_grad():
        edge = None if edge is None else paddle.to_tensor(edge)
        images = network(paddle.to_tensor(pixels), paddle.to_tensor(mask), edge)
    return tuple(each.numpy() for each in (images if isinstance(images, tuple) else (images,)))


def trained_on(network: Generator) -> dict:
    """The image side, the largest hole's fraction of it and the crop of training: see `windows.plan`."""
    return {
        "network_px": network.metadata["image_px"],
        "largest_mask": LARGEST_MASK,
        "crop": network.metadata.get("crop"),
    }


def show_offsets(
    network: Generator, image: np.ndarray, mask: np.ndarray, lines: np.ndarray | None = None
) -> np.ndarray:
    """Where the attention looks in a photo seen whole, at the scale of `--window whole`.

    Returns:
        uint8 [height, width, 3]: white is nowhere else, by Middlebury's colour wheel the hue is the direction.
    """
    (seen,) = plan(mask, **trained_on(network), window="whole")
    pad = [(0, -side % STRIDE) for side in (seen.height, seen.width)]

    def fit(array: np.ndarray) -> np.ndarray:
        array = resize(array, seen.height, seen.width)
        return np.pad(array, [*pad, (0, 0)][: array.ndim], mode="edge")

    maps = [(mask, 1e-6)] if lines is None else [(mask, 1e-6), (lines & mask, pipeline.LINE_FRACTION)]
    maps = [(fit(each.astype(np.float32)) >= fraction)[None, None].astype(np.float32) for each, fraction in maps]
    with paddle.no_grad():
        pixels = paddle.to_tensor(to_network(fit(show_mask(image, mask, (128, 128, 128)))[None]))
        offsets = network.offsets(pixels, *(paddle.to_tensor(each) for each in maps)).numpy()[0]
    colours = flow.flow_colours(offsets).repeat(STRIDE, 0).repeat(STRIDE, 1)[: seen.height, : seen.width]
    return resize(colours, *mask.shape)


# ---- command line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = read_infer(argv, __doc__)
    network = command.open_network(options, load, partial(faster, refined_only=True))
    if options.sketch and not network.arguments["guided"]:
        raise UserError(f"{options.weights} takes no sketch; train with --guided, or leave --sketch out")
    if options.sketch and network.arguments["layers"] == "partial":
        print("note: partial convolutions see nothing in a hole, and so no sketch either; it will change nothing")
    if network.arguments["guided"] and not options.sketch:
        print("note: these weights take a sketch (--sketch); without one the hole is free of lines")
    failed = complete_demo(network, options) if options.demo else complete_input(network, options)
    if failed:
        raise SystemExit(1)


def complete_input(network: Generator, options: Options) -> int:
    """Completes the photo or the photos of a command. Returns the number that failed."""
    lines: dict[int, np.ndarray] = {}  # of the photos whose masks were found, by the masks' identities

    def find_mask(masks, photo: Path, image: np.ndarray, index: int = 0) -> np.ndarray:
        mask = masks(photo, image, index)
        if options.sketch:
            path = sketch.edge_file(photo, options.sketch) if options.sketch.is_dir() else options.sketch
            lines[id(mask)] = sketch.read_sketch(path, *mask.shape)
        return mask

    def fill(images: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
        sketches = [lines.pop(id(mask)) for mask in masks] if options.sketch else None
        if options.offsets:
            show = show_offsets(network, images[0], masks[0], sketches and sketches[0])
            folder_run.write_result(options.offsets, show)
            print(f"written: {options.offsets}")
        return complete_batch(network, images, masks, sketches, options.blend, options.window, options.batch_size)

    return command.complete_input(options, fill, trained_on(network), find_mask=find_mask)


def complete_demo(network: Generator, options: Options) -> int:
    """Completes the bundled faces, and the one with a sketch if the network takes any; returns how many failed."""
    failed = complete_input(network, options)
    demo.show_completed(options.input, options.mask, options.output)
    if network.arguments["guided"]:
        files = [EXAMPLES / "sketch" / f"{name}.png" for name in ("face", "mask", "lines")]
        output = options.output / "sketch" / files[0].name
        complete_input(network, replace(options, input=files[0], mask=str(files[1]), sketch=files[2], output=output))
        image = read_image(files[0])
        mask = photos.mask_for(files[0], image, str(files[1]))
        freely = complete(network, image, mask, None, options.blend, options.window)
        row = [show_mask(image, mask), read_image(files[2]), freely, read_image(output), image]
        demo.write_sheet(output.parent, [row], ["input", "lines", "without lines", "ours, with lines", "truth"])
    return failed


if __name__ == "__main__":
    main()
