"""Completes photos of any size with a trained network.

python -m glcic.infer --demo

python -m glcic.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png

python -m glcic.infer --weights WEIGHTS --input FOLDER --mask random --output FOLDER
"""

from dataclasses import dataclass
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
from common.windows import WindowMode, plan
from data import EXAMPLES
from glcic.model import STRIDE, CompletionNetwork
from weights import bundled

import paddle


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
    """needs nothing else: bundled weights, bundled pictures, results in demo_glcic/ or the output"""
    mask: str = "center"
    """the hole: a picture (white is hole), a folder of pictures named as the photos, or center, random, freeform,
    blocks, regions, noise"""
    invert_mask: bool = False
    """black is hole"""
    blend: Blend = "telea-poisson"
    """how the hole joins the photo; telea-poisson is the paper's post-processing (D14), paste is none"""
    window: WindowMode = "auto"
    """whole: the network sees the whole photo; hole: a window around each hole; auto: by the photo's size"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """the stock eager network; else, on a CPU and for much work, it is compiled"""
    seed: int = 0
    """of the holes that hold chance"""
    batch_size: int = 4
    """windows computed at once"""
    skip_existing: bool = False
    """leave out photos of a folder whose output is there already"""


def load(weights: str | Path) -> CompletionNetwork:
    """The completion network of a weights file, ready to complete; its `facts` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "glcic" or "completion" not in facts:
        raise UserError(f"{weights} holds no GLCIC completion network but weights of {facts.get('paper', 'unknown')}")
    network = build_network(CompletionNetwork, facts["completion"], tensors, weights)
    load_network(network, tensors, "completion", weights)
    network.eval()
    network.facts = facts
    return network


def faster(network):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`)."""
    return compile_network(network)


def complete(
    network: CompletionNetwork,
    image: np.ndarray,
    hole: np.ndarray,
    blend: Blend = "telea-poisson",
    window: WindowMode = "auto",
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        hole: bool [height, width], True where the photo is missing.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.
    """
    return complete_batch(network, [image], [hole], blend, window)[0]


def complete_batch(network, images, holes, blend="telea-poisson", window="auto", batch_size: int = 4) -> list:
    """`complete` for several photos of any sizes, whose windows share the network's batches."""

    def run(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return network(paddle.to_tensor(pixels), paddle.to_tensor(mask)).numpy()

    return completion.complete_batch(
        run, images, holes, **trained_on(network), stride=STRIDE, blend=blend, window=window, batch_size=batch_size
    )


def trained_on(network: CompletionNetwork) -> dict:
    """The picture side and the largest hole's share of it that the network knows."""
    return {"network_px": network.facts["image_px"], "largest_hole": network.facts["largest_hole"]}


# ---- command line


def memory_megabytes(network: CompletionNetwork, photo_pixels: int, windows: list, batch_size: int) -> int:
    """Estimate of the whole process's peak: Paddle, the photo and its copies, the feature maps of one batch.

    The three constants were read off processes on the CPU; the tests hold them to what a large photo takes.
    """
    paddle_mb, photo_bytes, map_bytes_per_channel = 330, 45, 80
    batch = min(batch_size, len(windows)) * max((window.height * window.width for window in windows), default=0)
    channels = network.facts["completion"]["base_channels"]
    return round(paddle_mb + (photo_bytes * photo_pixels + map_bytes_per_channel * channels * batch) / 2**20)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = tyro.cli(Options, args=argv, prog="python -m glcic.infer", description=__doc__)
    at_least(options, batch_size=1, seed=0)
    options = demo.fill(
        options, "glcic", bundled, input=EXAMPLES / "faces", mask=str(EXAMPLES / "holes"), invert_mask=False
    )
    if not options.input.exists():
        raise UserError(f"there is no picture or folder {options.input}")
    place = open_device(options.device, options.plain)
    network = load(options.weights)
    network = network if options.plain else faster(network)
    print(describe(place))
    find_hole = partial(photos.hole_for, mask=options.mask, invert_mask=options.invert_mask, seed=options.seed)

    def fill(images: list[np.ndarray], holes: list[np.ndarray]) -> list[np.ndarray]:
        return complete_batch(network, images, holes, options.blend, options.window, options.batch_size)

    if options.input.is_file():
        windows = partial(plan, **trained_on(network), window=options.window)
        megabytes = partial(memory_megabytes, network, batch_size=options.batch_size)
        photos.complete_file(options.input, options.output, find_hole, fill, windows, megabytes)
        return
    failed = photos.complete_folder(
        options.input, options.output, find_hole, fill, options.weights, options.skip_existing
    )
    if options.demo:
        demo.show_completed(options.input, options.mask, options.output)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
