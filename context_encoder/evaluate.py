"""Scores a Context Encoder by the paper's table: mean L1, mean L2 and PSNR, beside the classical methods.

python -m context_encoder.evaluate --weights WEIGHTS --data-dir DIR
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common import evaluation, metrics, regions
from common.cityscapes import open_photos
from common.config import at_least
from common.device import open_device
from common.errors import one_line_errors
from common.images import from_network, to_network
from context_encoder.holes import center
from context_encoder.infer import composite, faster, load, predict, slide

BATCH = 16

# Table 1 of the paper: L1 and L2 in percent, PSNR in dB, over the 64 x 64 px in the middle, ring included.
PUBLISHED = [
    ("the paper", "L1 9.37 %, L2 1.96 %, PSNR 18.58 dB", "hole-64 of 100 pictures of Paris StreetView, 128 px"),
    ("the paper, nearest neighbour by its features", "15.10 %, 4.30 %, 14.70 dB", "the same pictures"),
    ("the paper, nearest neighbour by HOG", "19.92 %, 6.92 %, 12.79 dB", "the same pictures"),
    ("Yang et al. 2017, of the released weights", "10.33 %, 2.35 %, 17.59 dB", "the same pictures, their measurement"),
]


@dataclass(frozen=True)
class Options:
    """Score a network by the paper's table, beside Telea, Navier-Stokes and the mean colour."""

    weights: Path
    """what `train` or `convert` wrote"""
    data_dir: Path
    """CelebA or any folder of pictures"""
    split: str = "test"
    """train, val or test"""
    masks: str = "own"
    """kind of holes: center, blocks, regions, noise, random, freeform, area-1-10 … area-50-60; own: those of the
    network's training"""
    shapes_dir: Path | None = None
    """PASCAL VOC 2012, whose object shapes make the regions; none: drawn shapes"""
    pairs: bool = False
    """the data are pairs of photo and label (Cityscapes, facades): take their photos"""
    limit: int = 250
    """pictures to score"""
    seed: int = 0
    """number of the hole set"""
    output: Path | None = None
    """folder for scores.json and pictures.png; none prints only"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """the stock eager network; else, on a CPU and for much work, it is compiled"""


def evaluate(options: Options) -> dict:
    """Completes the pictures with the network and with the classical methods, and scores all alike.

    Pictures are cut and resized to the network's size. `hole` is over the pixels of the hole (the paper's centre: 56 x
    56 of 128), `image` over the whole picture; both score uint8 composites. For centre holes `patch` is over the square
    that a centre network predicts (64 x 64), ring included, as the paper's table: the network's own prediction there,
    while the classical methods have the photo's own ring.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "pictures" the arrays behind them: truth, holes and each method's completions.
    """
    at_least(options, limit=1, seed=0)
    network = load(options.weights)
    network = network if options.plain else faster(network)
    facts = network.facts
    kind = facts["holes"] if options.masks == "own" else options.masks
    pictures = open_photos(options.data_dir, options.split, options.pairs)
    images, holes = fixed_set(pictures, facts, kind, options.limit, options.shapes_dir, options.seed)
    predicted = predict_all(network, images, holes)
    completed = {"ours": composite(images, predicted, holes), **evaluation.complete_classically(images, holes)}
    result = evaluation.scored(images, holes, completed, kind, options.seed)
    if kind == "center":
        side = network.image_px
        patch = np.broadcast_to(center(side, 0), holes.shape)
        raw = {**completed, "ours": composite(images, predicted, patch)}
        for name, done in raw.items():
            figures = [patch_scores(*each) for each in zip(images, done, patch, strict=True)]
            result["rows"][name] |= metrics.summarise(figures)
    return {
        "weights": str(options.weights),
        "preset": facts["preset"],
        "steps": facts["step"],
        "data": str(options.data_dir),
        "split": options.split,
        **result,
    }


def fixed_set(
    pictures, facts: dict, kind: str, limit: int, shapes_dir: Path | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` readable pictures at the network's size, with their numbered holes.

    `center` is the paper's: of the 64 px in the middle the 56 that are hidden; every other kind is
    `masks.evaluation_holes`.

    Returns:
        (images uint8 [N, side, side, 3], holes bool [N, side, side]).
    """
    side = facts["image_px"]
    shapes = regions.open_shapes(shapes_dir) if kind == "regions" else None
    images, holes = evaluation.fixed_set(pictures, side, facts["crop"], kind, limit, seed, shapes)
    if kind == "center":
        overlap_px = facts["generator"]["overlap_px"] or round(4 * side / 128)
        holes = np.repeat(center(side, overlap_px)[None], len(images), axis=0)
    return images, holes


def predict_all(network, images: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """What the network predicts, for pictures of its own size, in batches; not composited with the known pixels.

    Args:
        images: uint8 [N, side, side, 3].
        holes: bool [N, side, side].

    Returns:
        uint8 [N, side, side, 3]; a centre network's predictions lie in the picture.
    """
    was_training = network.training
    network.eval()
    whole_windows = network.output == "whole" or (holes == center(network.image_px, network.overlap_px)).all()
    predicted = []
    for start in range(0, len(images), BATCH):
        pixels, hole = to_network(images[start : start + BATCH]), holes[start : start + BATCH]
        if whole_windows:  # one window is the picture: what `slide` does, for many at once
            predicted.append(_predict_windows(network, pixels, hole))
        else:
            rng = np.random.default_rng(0)
            predicted.append(np.stack([slide(network, *one, BATCH, rng) for one in zip(pixels, hole, strict=True)]))
    if was_training:
        network.train()
    return from_network(np.concatenate(predicted))


def _predict_windows(network, pixels: np.ndarray, holes: np.ndarray) -> np.ndarray:
    made = predict(network, pixels, holes, np.random.default_rng(0))
    if network.output == "whole":
        return made
    start = network.image_px // 4
    pictures = pixels.copy()
    pictures[:, :, start : start + network.output_px, start : start + network.output_px] = made
    return pictures


def complete_all(network, images: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Composites of `predict_all`; known pixels stay as they are."""
    return composite(images, predict_all(network, images, holes), holes)


def patch_scores(truth: np.ndarray, completed: np.ndarray, patch: np.ndarray) -> dict[str, float]:
    """L1, L2 and PSNR over the patch."""
    return {
        "patch_l1_percent": metrics.l1(truth, completed, patch),
        "patch_l2_percent": metrics.l2(truth, completed, patch),
        "patch_psnr_db": metrics.psnr(truth, completed, patch),
    }


def table(result: dict) -> str:
    """The result as a Markdown table with the columns of the paper's, and its rows below."""
    parts = ("hole", "patch", "image") if result["holes"] == "center" else ("hole", "image")
    columns = tuple(f"{part}_{score}" for part in parts for score in ("l1_percent", "l2_percent", "psnr_db"))
    return evaluation.table(result, PUBLISHED, columns)


def write(result: dict, folder: Path) -> None:
    """Writes scores.json and pictures.png."""
    evaluation.write(result, folder, evaluation.sheet(result))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m context_encoder.evaluate", description=__doc__)
    open_device(options.device, options.plain)
    result = evaluate(options)
    print(table(result))
    if options.output:
        write(result, options.output)
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
