"""Completes photos of any size, with holes of any place and size, with a trained Context Encoder.

python -m context_encoder.infer --demo

python -m context_encoder.infer --weights WEIGHTS --input PHOTO --mask MASK --output OUT.png

python -m context_encoder.infer --weights WEIGHTS --input FOLDER --mask regions --output FOLDER
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from context_encoder.options import read_infer

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_infer, __doc__)


import numpy as np

from common.checkpoint.weights import load_trained
from common.deploy.engine import compile_network
from common.inpainting import command, pipeline
from common.inpainting.blending import Blend, BlendChoice, choose
from common.inpainting.tiling import WindowMode
from common.runtime import memory
from context_encoder.masks import center
from context_encoder.model import ContextEncoder

import paddle

PASSES = 2  # of the centre network over a hole that one window cannot fill
LARGEST_REGION = 0.5  # fraction of a side: holes of random regions cover up to a quarter of the image
PAPER_BLEND: Blend = "paste"  # the release pastes


def load(weights: str | Path) -> ContextEncoder:
    """The generator of a weights file, ready to complete; its `metadata` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    return load_trained(ContextEncoder, weights, "context_encoder", "generator", "Context Encoder")


def faster(network):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`)."""
    return compile_network(network, "batch")


def complete(
    network: ContextEncoder,
    image: np.ndarray,
    mask: np.ndarray,
    blend: BlendChoice = "poisson",
    window: WindowMode = "auto",
    seed: int = 0,
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`; either kind fills any hole (see `slide`).
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        mask: bool [height, width], True where the photo is missing.
        seed: of the noise, for networks that take some.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.
    """
    return complete_batch(network, [image], [mask], blend, window, seed=seed)[0]


def complete_batch(network, images, masks, blend="poisson", window="auto", batch_size: int = 16, seed: int = 0) -> list:
    """`complete` for lists of photos and masks."""

    def run(windows: np.ndarray, window_masks: np.ndarray) -> np.ndarray:
        seen = list(zip(windows, window_masks[:, 0] > 0, strict=True))

        def compute(most: int) -> np.ndarray:  # each with the same noise, whatever it is computed with
            return np.stack([slide(network, *one, most, np.random.default_rng(seed)) for one in seen])

        return memory.halving(compute, batch_size, f"computing {{}} windows of {network.image_px} px")

    return pipeline.complete_batch(
        run, images, masks, **trained_on(network), stride=1, blend=choose(blend, PAPER_BLEND), window=window,
        batch_size=batch_size,
    )  # fmt: skip


def trained_on(network: ContextEncoder) -> dict:
    """The image side, the largest hole's fraction of it and the crop of training: see `windows.plan`."""
    side, fraction = network.image_px, LARGEST_REGION
    if network.output == "center":  # two pixels less than it fills: a hole can grow by so much when it is resized
        fraction = max(1, side // 2 - 2 * network.overlap_px - 2) / side
    return {"network_px": side, "largest_mask": fraction, "crop": getattr(network, "metadata", {}).get("crop")}


# ---- from one window to any image


def slide(network: ContextEncoder, image: np.ndarray, mask: np.ndarray, batch_size: int, rng) -> np.ndarray:
    """Predicts a hole of any place and size by moving the network's window over it.

    The network sees exactly image_px x image_px. A centre network fills the square in the middle of its window, always
    all of it, as in training; a hole that needs several windows is covered by overlapping ones, and beyond the edge of
    the image lies its reflection. What is missing elsewhere in a window gets the mean colour in the first pass and
    the first pass's prediction in the second. A network for whole images needs more than one window only for long
    images, and one pass. Overlapping predictions fade into each other.

    Args:
        image: float32 [3, height, width] in [-1, 1].
        mask: bool [height, width].
        batch_size: windows computed at once.
        rng: of the noise.

    Returns:
        float32 [3, height, width] in [-1, 1], the image with predictions in the hole and on a few pixels around it.
    """
    side = network.image_px
    filled = side // 2 if network.output == "whole" else int(center(side, network.overlap_px)[side // 2].sum())
    margin = (side - filled) // 2
    pads = [(margin, max(margin, side - length)) for length in mask.shape]
    missing = np.pad(mask, pads, mode="reflect")
    inside = np.s_[:, margin : margin + mask.shape[0], margin : margin + mask.shape[1]]
    corners = window_corners(mask, side, filled, stay_inside=network.output == "whole")
    predicted = image
    for number in range(PASSES):
        padded = np.pad(np.where(mask, predicted, image), [(0, 0), *pads], mode="reflect")
        sums, weights = np.zeros_like(padded), np.zeros(missing.shape, np.float32)
        for start in range(0, len(corners), batch_size):
            batch = [(top + margin, left + margin) for top, left in corners[start : start + batch_size]]
            places = [np.s_[top : top + side, left : left + side] for top, left in batch]
            masks = np.stack([missing[place] if number == 0 else np.zeros((side, side), bool) for place in places])
            if network.output == "center":
                masks |= center(side, network.overlap_px)
            seen = np.stack([padded[:, place[0], place[1]] for place in places])
            for prediction, (top, left) in zip(predict(network, seen, masks, rng), batch, strict=True):
                ring = (side - network.output_px) // 2
                _add(sums, weights, prediction, top + ring, left + ring)
        predicted = np.where(weights > 0, sums / np.maximum(weights, 1), padded)[inside]
        if network.output == "whole" or not _context_was_missing(missing, corners, side, margin):
            break
    return predicted


def window_corners(mask: np.ndarray, side_px: int, filled_px: int, stay_inside: bool) -> list[tuple[int, int]]:
    """Top and left of the windows of `side_px` whose inner squares of `filled_px` cover a hole.

    Neighbours overlap by half a square or more. A hole that one square covers gets one: centred on it, or moved as far
    as it still covers the hole towards where no part of the window lies beyond the image's edge. In an image of the
    window's size, such as an aligned face, it so stays as near as it can to where it was in training.

    Args:
        stay_inside: windows are moved into the image; otherwise they may lie beyond its edge, by the width that
            surrounds the square.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    margin, lines = (side_px - filled_px) // 2, []
    for places, length in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        first, extent = int(places[0]), int(places[-1] - places[0]) + 1
        steps = max(0, -(-2 * (extent - filled_px) // filled_px))
        if steps:
            starts = [first + round(n * (extent - filled_px) / steps) for n in range(steps + 1)]
        else:
            middle = first - (filled_px - extent) // 2
            whole = min(max(margin, middle), max(margin, margin + length - side_px))  # nothing beyond the edge
            starts = [min(max(0, first + extent - filled_px, min(whole, first)), max(0, length - filled_px))]
        lines.append([(start, _inside(start - margin, length - side_px, stay_inside)) for start in starts])
    covers = [
        (top, left)
        for row, top in lines[0]
        for column, left in lines[1]
        if mask[row : row + filled_px, column : column + filled_px].any()
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


def composite(image: np.ndarray, predicted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Predictions in the hole, the image elsewhere, the ring included (D13).

    Args:
        image, predicted: uint8 [..., H, W, 3].
        mask: bool [..., H, W].
    """
    return np.where(mask[..., None], predicted, image)


# ---- command line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = read_infer(argv, __doc__)
    network = command.open_network(options, load, faster)

    def fill(images: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
        return complete_batch(network, images, masks, options.blend, options.window, options.batch_size, options.seed)

    command.run(options, fill, trained_on(network))


if __name__ == "__main__":
    main()
