"""Completes photos of any size, with holes of any place and size, with a trained Context Encoder.

python -m context_encoder.infer --demo

python -m context_encoder.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png

python -m context_encoder.infer --weights WEIGHTS --input FOLDER --mask regions --output FOLDER
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
from context_encoder.holes import center
from context_encoder.model import ContextEncoder
from data import EXAMPLES
from weights import bundled

import paddle

PASSES = 2  # of the centre network over a hole that one window cannot fill
LARGEST_REGION = 0.5  # share of a side: holes of random regions cover up to a quarter of the picture


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
    """needs nothing else: bundled weights, bundled pictures, results in demo_context_encoder/ or the output"""
    mask: str = "center"
    """the hole: a picture (white is hole), a folder of pictures named as the photos, or center, random, freeform,
    blocks, regions, noise"""
    invert_mask: bool = False
    """black is hole"""
    blend: Blend = "poisson"
    """how the hole joins the photo; paste is none, as in the release"""
    window: WindowMode = "auto"
    """whole: the network sees the whole photo; hole: a window around each hole; auto: by the photo's size"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """the stock eager network; else, on a CPU and for much work, it is compiled"""
    seed: int = 0
    """of the holes that are drawn, and of the noise of networks that take some"""
    batch_size: int = 16
    """windows computed at once"""
    skip_existing: bool = False
    """leave out photos of a folder whose output is there already"""


def load(weights: str | Path) -> ContextEncoder:
    """The generator of a weights file, ready to complete; its `facts` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "context_encoder" or "generator" not in facts:
        raise UserError(f"{weights} holds no Context Encoder but weights of {facts.get('paper', 'unknown')}")
    network = build_network(ContextEncoder, facts["generator"], tensors, weights)
    load_network(network, tensors, "generator", weights)
    network.eval()
    network.facts = facts
    return network


def faster(network):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`)."""
    return compile_network(network, "batch")


def complete(
    network: ContextEncoder,
    image: np.ndarray,
    hole: np.ndarray,
    blend: Blend = "poisson",
    window: WindowMode = "auto",
    seed: int = 0,
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`; either kind fills any hole (see `slide`).
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        hole: bool [height, width], True where the photo is missing.
        seed: of the noise, for networks that take some.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.
    """
    return complete_batch(network, [image], [hole], blend, window, seed=seed)[0]


def complete_batch(network, images, holes, blend="poisson", window="auto", batch_size: int = 16, seed: int = 0) -> list:
    """`complete` for lists of photos and holes."""

    def run(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
        windows = zip(pictures, masks[:, 0] > 0, strict=True)  # each with the same noise, whatever it is computed with
        return np.stack([slide(network, *one, batch_size, np.random.default_rng(seed)) for one in windows])

    return completion.complete_batch(
        run, images, holes, **trained_on(network), stride=1, blend=blend, window=window, batch_size=batch_size
    )


def trained_on(network: ContextEncoder) -> dict:
    """The picture side that the network knows, and the largest hole's share of it."""
    side, share = network.image_px, LARGEST_REGION
    if network.output == "center":  # two pixels less than it fills: a hole can grow by so much when it is resized
        share = max(1, side // 2 - 2 * network.overlap_px - 2) / side
    return {"network_px": side, "largest_hole": share}


# ---- from one window to any picture


def slide(network: ContextEncoder, image: np.ndarray, hole: np.ndarray, batch_size: int, rng) -> np.ndarray:
    """Predicts a hole of any place and size by moving the network's window over it.

    The network sees exactly image_px x image_px. A centre network fills the square in the middle of its window, always
    all of it, as in training; a hole that needs several windows is covered by overlapping ones, and beyond the edge of
    the picture lies its reflection. What is missing elsewhere in a window gets the mean colour in the first pass and
    the first pass's prediction in the second. A network for whole pictures needs more than one window only for long
    pictures, and one pass. Overlapping predictions fade into each other.

    Args:
        image: float32 [3, height, width] in [-1, 1].
        hole: bool [height, width].
        batch_size: windows computed at once.
        rng: of the noise.

    Returns:
        float32 [3, height, width] in [-1, 1], the image with predictions in the hole and on a few pixels around it.
    """
    side = network.image_px
    filled = side // 2 if network.output == "whole" else int(center(side, network.overlap_px)[side // 2].sum())
    margin = (side - filled) // 2
    pads = [(margin, max(margin, side - length)) for length in hole.shape]
    missing = np.pad(hole, pads, mode="reflect")
    inside = np.s_[:, margin : margin + hole.shape[0], margin : margin + hole.shape[1]]
    corners = window_corners(hole, side, filled, stay_inside=network.output == "whole")
    predicted = image
    for number in range(PASSES):
        picture = np.pad(np.where(hole, predicted, image), [(0, 0), *pads], mode="reflect")
        sums, weights = np.zeros_like(picture), np.zeros(missing.shape, np.float32)
        for start in range(0, len(corners), batch_size):
            batch = [(top + margin, left + margin) for top, left in corners[start : start + batch_size]]
            places = [np.s_[top : top + side, left : left + side] for top, left in batch]
            masks = np.stack([missing[place] if number == 0 else np.zeros((side, side), bool) for place in places])
            if network.output == "center":
                masks |= center(side, network.overlap_px)
            seen = np.stack([picture[:, place[0], place[1]] for place in places])
            for prediction, (top, left) in zip(predict(network, seen, masks, rng), batch, strict=True):
                ring = (side - network.output_px) // 2
                _add(sums, weights, prediction, top + ring, left + ring)
        predicted = np.where(weights > 0, sums / np.maximum(weights, 1), picture)[inside]
        if network.output == "whole" or not _context_was_missing(missing, corners, side, margin):
            break
    return predicted


def window_corners(hole: np.ndarray, side_px: int, filled_px: int, stay_inside: bool) -> list[tuple[int, int]]:
    """Top and left of the windows of `side_px` whose inner squares of `filled_px` cover a hole.

    Neighbours overlap by half a square or more. A hole that one square covers gets one, centred on it.

    Args:
        stay_inside: windows are moved into the picture; otherwise they may lie beyond its edge, by the width that
            surrounds the square.
    """
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    if not len(rows):
        return []
    margin, lines = (side_px - filled_px) // 2, []
    for places, length in ((rows, hole.shape[0]), (columns, hole.shape[1])):
        first, extent = int(places[0]), int(places[-1] - places[0]) + 1
        steps = max(0, -(-2 * (extent - filled_px) // filled_px))
        if steps:
            starts = [first + round(n * (extent - filled_px) / steps) for n in range(steps + 1)]
        else:
            starts = [min(max(0, first - (filled_px - extent) // 2), max(0, length - filled_px))]
        lines.append([(start, _inside(start - margin, length - side_px, stay_inside)) for start in starts])
    covers = [
        (top, left)
        for row, top in lines[0]
        for column, left in lines[1]
        if hole[row : row + filled_px, column : column + filled_px].any()
    ]
    return list(dict.fromkeys(covers))


def _inside(start: int, last: int, stay_inside: bool) -> int:
    return min(max(start, 0), max(0, last)) if stay_inside else start


def predict(network: ContextEncoder, images: np.ndarray, masks: np.ndarray, rng) -> np.ndarray:
    """The network's output, float32 [N, 3, output_px, output_px], for arrays [N, 3, side, side] and [N, side, side]."""
    noise = None
    if network.noise_channels:
        noise = paddle.to_tensor(rng.standard_normal((len(images), network.noise_channels)).astype(np.float32))
    with paddle.no_grad():
        masks = paddle.to_tensor(masks[:, None].astype(np.float32))
        return network(paddle.to_tensor(np.ascontiguousarray(images)), masks, noise).numpy()


def _add(sums: np.ndarray, weights: np.ndarray, prediction: np.ndarray, top: int, left: int) -> None:
    """Adds a prediction [3, h, h] at its place; its weight falls evenly towards its edge."""
    side = prediction.shape[1]
    line = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float32)
    tent = line[:, None] * line[None]
    sums[:, top : top + side, left : left + side] += prediction * tent
    weights[top : top + side, left : left + side] += tent


def _context_was_missing(missing: np.ndarray, corners: list, side: int, margin: int) -> bool:
    around = np.ones((side, side), bool)
    around[margin : side - margin, margin : side - margin] = False
    tops = [(top + margin, left + margin) for top, left in corners]
    return any((missing[top : top + side, left : left + side] & around).any() for top, left in tops)


def composite(image: np.ndarray, predicted: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Predictions in the hole, the picture elsewhere, the ring included (D13).

    Args:
        image, predicted: uint8 [..., H, W, 3].
        hole: bool [..., H, W].
    """
    return np.where(hole[..., None], predicted, image)


# ---- command line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = tyro.cli(Options, args=argv, prog="python -m context_encoder.infer", description=__doc__)
    at_least(options, batch_size=1, seed=0)
    options = demo.fill(
        options, "context_encoder", bundled, input=EXAMPLES / "faces", mask=str(EXAMPLES / "holes"), invert_mask=False
    )
    if not options.input.exists():
        raise UserError(f"there is no picture or folder {options.input}")
    place = open_device(options.device, options.plain)
    network = load(options.weights)
    network = network if options.plain else faster(network)
    print(describe(place))
    find_hole = partial(photos.hole_for, mask=options.mask, invert_mask=options.invert_mask, seed=options.seed)

    def fill(images: list[np.ndarray], holes: list[np.ndarray]) -> list[np.ndarray]:
        return complete_batch(network, images, holes, options.blend, options.window, options.batch_size, options.seed)

    if options.input.is_file():
        windows = partial(plan, **trained_on(network), window=options.window)
        photos.complete_file(options.input, options.output, find_hole, fill, windows)
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
