"""Completes photos of any size, with holes of any shape, and with a sketch of what should be there.

python -m deepfill.infer --demo

python -m deepfill.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png

python -m deepfill.infer --weights WEIGHTS --input PHOTO --mask HOLE --sketch LINES --output OUT.png

python -m deepfill.infer --weights WEIGHTS --input FOLDER --mask freeform --output FOLDER
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from common import completion, demo, photos
from common.blending import Blend
from common.checkpoint import build_network, load_network, read_weights
from common.compiled import compile_network
from common.config import at_least
from common.device import describe, open_device
from common.errors import UserError, one_line_errors
from common.images import read_image, resize, show_hole, to_network, write_image
from common.windows import WindowMode, plan
from data import EXAMPLES
from deepfill import flow, sketch
from deepfill.model import Generator
from weights import bundled

import paddle

STRIDE = 8  # two layers of stride 2, and attention between patches two pixels apart
LARGEST_HOLE = 0.5  # share of the side that the rectangles of training cover


@dataclass(frozen=True)
class Options:
    """Complete one photo, or a folder of them."""

    weights: Path | None = None
    """what `train` or `convert` wrote"""
    input: Path | None = None
    """a picture, or a folder of pictures"""
    output: Path | None = None
    """a picture to write, or a folder if the input is one; PNG keeps the known pixels exactly"""
    demo: bool = False
    """needs nothing else: bundled weights, bundled pictures, results in demo_deepfill/ or the output"""
    mask: str = "freeform"
    """the hole: a picture (white is hole), a folder of pictures named as the photos, or center, random, freeform,
    blocks, regions, noise"""
    invert_mask: bool = False
    """black is hole"""
    sketch: Path | None = None
    """lines of what should be in the hole, dark on light or light on dark, of the photo's size; for a folder of photos
    a folder, files named as the photos or NAME_edge. For weights trained with sketches"""
    blend: Blend = "paste"
    """how the hole joins the photo; paste is none, as in the release"""
    window: WindowMode = "auto"
    """whole: the network sees the whole photo; hole: a window around each hole; auto: by the photo's size"""
    offsets: Path | None = None
    """a picture to write that shows by colours from where the attention takes what it puts; for one photo"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """the stock eager network; else, on a CPU and for much work, it is compiled"""
    seed: int = 0
    """of the holes that are drawn"""
    batch_size: int = 4
    """windows computed at once"""
    skip_existing: bool = False
    """leave out photos of a folder whose output is there already"""


def load(weights: str | Path) -> Generator:
    """The generator of a weights file, ready to complete; its `facts` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "deepfill" or "generator" not in facts:
        raise UserError(f"{weights} holds no DeepFill v2 but weights of {facts.get('paper', 'unknown')}")
    network = build_network(Generator, facts["generator"], tensors, weights)
    load_network(network, tensors, "generator", weights)
    if facts.get("colours") == "BGR":
        for layer in (network.coarse.conv1.conv, network.refine.xconv1.conv, network.refine.pmconv1.conv):
            exchange_red_and_blue(layer.weight, axis=1)
        for layer in (network.coarse.conv17, network.refine.allconv17):
            exchange_red_and_blue(layer.weight, axis=0)
            exchange_red_and_blue(layer.bias, axis=0)
    network.eval()
    network.facts = {**facts, "colours": "RGB"}
    return network


def faster(network):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`)."""
    return compile_network(network, "nothing")


def exchange_red_and_blue(value, axis: int, shape: tuple | None = None) -> None:
    """Exchanges the first and the third place on an axis of a weight, seen in its own or another shape.

    Done to layers that read colours (axis 1) and that make colours (axis 0), it turns networks that were trained with
    blue first, as the release's were, into networks for RGB.
    """
    array = value.numpy().reshape(shape or value.shape)
    array = np.take(array, [2, 1, 0, *range(3, array.shape[axis])], axis)
    value.set_value(array.reshape(value.shape))


def complete(
    network: Generator,
    image: np.ndarray,
    hole: np.ndarray,
    lines: np.ndarray | None = None,
    blend: Blend = "paste",
    window: WindowMode = "auto",
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        hole: bool [height, width], True where the photo is missing.
        lines: bool [height, width], a sketch, True on its lines; looked at inside the hole. None is no line.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.

    Raises:
        UserError: a sketch for a network that takes none, or sizes that differ.
    """
    return complete_batch(network, [image], [hole], None if lines is None else [lines], blend, window)[0]


def complete_batch(network, images, holes, sketches=None, blend="paste", window="auto", batch_size: int = 4) -> list:
    """`complete` for several photos of any sizes, whose windows share the network's batches."""
    if sketches is not None:
        if not network.arguments["guided"]:
            raise UserError("these weights take no sketch; train with --guided, or leave the sketch out")
        for image, hole, lines in zip(images, holes, sketches, strict=True):
            if not lines.shape == image.shape[:2] == hole.shape:
                sizes = ["{} x {} px".format(*shape[1::-1]) for shape in (lines.shape, image.shape, hole.shape)]
                raise UserError("the sketch is {}, its picture {}, the hole {}; give all one size".format(*sizes))
        # Cut already here: in a photo that is shrunk for the network, pixels on the rim show what is beside the hole.
        sketches = [lines & hole for lines, hole in zip(sketches, holes, strict=True)]

    def run(pixels: np.ndarray, mask: np.ndarray, edge: np.ndarray | None = None) -> np.ndarray:
        return predict(network, pixels, mask, edge)[1]

    return completion.complete_batch(
        run, images, holes, **trained_on(network), stride=STRIDE, blend=blend, window=window, batch_size=batch_size,
        sketches=sketches,
    )  # fmt: skip


def predict(network: Generator, pixels: np.ndarray, mask: np.ndarray, edge: np.ndarray | None = None) -> tuple:
    """Both stages' pictures, float32 [N, 3, H, W] in [-1, 1], from arrays of that form, H and W multiples of 8."""
    with paddle.no_grad():
        edge = None if edge is None else paddle.to_tensor(edge)
        coarse, refined = network(paddle.to_tensor(pixels), paddle.to_tensor(mask), edge)
    return coarse.numpy(), refined.numpy()


def trained_on(network: Generator) -> dict:
    """The picture side that the network knows, and the largest hole's share of it."""
    return {"network_px": network.facts["image_px"], "largest_hole": LARGEST_HOLE}


def show_offsets(
    network: Generator, image: np.ndarray, hole: np.ndarray, lines: np.ndarray | None = None
) -> np.ndarray:
    """Where the attention looks in a photo seen whole, at the scale of `--window whole`.

    Returns:
        uint8 [height, width, 3]: white is nowhere else, by Middlebury's colour wheel the hue is the direction.
    """
    (seen,) = plan(hole, **trained_on(network), window="whole")
    pad = [(0, -side % STRIDE) for side in (seen.height, seen.width)]

    def fit(picture: np.ndarray) -> np.ndarray:
        picture = resize(picture, seen.height, seen.width)
        return np.pad(picture, [*pad, (0, 0)][: picture.ndim], mode="edge")

    maps = [(hole, 1e-6)] if lines is None else [(hole, 1e-6), (lines & hole, completion.LINE_SHARE)]
    maps = [(fit(each.astype(np.float32)) >= share)[None, None].astype(np.float32) for each, share in maps]
    with paddle.no_grad():
        pixels = paddle.to_tensor(to_network(fit(show_hole(image, hole, (128, 128, 128)))[None]))
        offsets = network.offsets(pixels, *(paddle.to_tensor(each) for each in maps)).numpy()[0]
    colours = flow.flow_colours(offsets).repeat(STRIDE, 0).repeat(STRIDE, 1)[: seen.height, : seen.width]
    return resize(colours, *hole.shape)


# ---- command line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = tyro.cli(Options, args=argv, prog="python -m deepfill.infer", description=__doc__)
    at_least(options, batch_size=1, seed=0)
    brought = {"input": EXAMPLES / "faces", "mask": str(EXAMPLES / "holes"), "invert_mask": False, "sketch": None}
    options = demo.fill(options, "deepfill", bundled, **brought)
    check(options)
    place = open_device(options.device, options.plain)
    network = load(options.weights)
    network = network if options.plain else faster(network)
    print(describe(place))
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
    lines: dict[int, np.ndarray] = {}  # of the photos whose holes were found, by the holes' identities

    def find_hole(photo: Path, image: np.ndarray, index: int = 0) -> np.ndarray:
        hole = photos.hole_for(photo, image, options.mask, options.invert_mask, options.seed, index)
        if options.sketch:
            path = sketch.edge_file(photo, options.sketch) if options.sketch.is_dir() else options.sketch
            lines[id(hole)] = sketch.read_sketch(path, *hole.shape)
        return hole

    def fill(images: list[np.ndarray], holes: list[np.ndarray]) -> list[np.ndarray]:
        sketches = [lines.pop(id(hole)) for hole in holes] if options.sketch else None
        return complete_batch(network, images, holes, sketches, options.blend, options.window, options.batch_size)

    if options.input.is_file():
        windows = partial(plan, **trained_on(network), window=options.window)
        photos.complete_file(options.input, options.output, find_hole, fill, windows)
        if options.offsets:
            image = read_image(options.input)
            hole = find_hole(options.input, image)
            write_image(options.offsets, show_offsets(network, image, hole, lines.get(id(hole))))
            print(f"written: {options.offsets}")
        return 0
    return photos.complete_folder(
        options.input, options.output, find_hole, fill, options.weights, options.skip_existing
    )


def complete_demo(network: Generator, options: Options) -> int:
    """Completes the bundled faces, and the one with a sketch if the network takes any. Returns the number that failed.

    Faces are seen by windows around the holes: those show a face as large as training with `center108` did, the whole
    of an aligned photo shows it smaller. The face to sketch on is cut as in training.
    """
    closer = "hole" if options.window == "auto" else options.window
    failed = complete_input(network, replace(options, window=closer))
    demo.show_completed(options.input, options.mask, options.output)
    if network.arguments["guided"]:
        files = [EXAMPLES / "sketch" / f"{name}.png" for name in ("face", "hole", "lines")]
        output = options.output / "sketch" / files[0].name
        complete_input(network, replace(options, input=files[0], mask=str(files[1]), sketch=files[2], output=output))
        image = read_image(files[0])
        hole = photos.hole_for(files[0], image, str(files[1]))
        freely = complete(network, image, hole, None, options.blend, options.window)
        row = [show_hole(image, hole), read_image(files[2]), freely, read_image(output), image]
        demo.write_sheet(output.parent, [row], ["input", "lines", "without lines", "ours, with lines", "truth"])
    return failed


def check(options: Options) -> None:
    """Raises UserError for files that are not there, or do not go together."""
    if not options.input.exists():
        raise UserError(f"there is no picture or folder {options.input}")
    if options.sketch and not options.sketch.exists():
        raise UserError(f"there is no sketch {options.sketch}")
    if options.sketch and options.input.is_file() and options.sketch.is_dir():
        raise UserError(f"--sketch {options.sketch} is a folder, the input one photo; give the photo's sketch")
    if options.sketch and options.input.is_dir() and options.sketch.is_file():
        raise UserError(f"--sketch {options.sketch} is one file, the input a folder; give a folder of sketches")
    if options.offsets and options.input.is_dir():
        raise UserError("--offsets is for one photo")


if __name__ == "__main__":
    main()
