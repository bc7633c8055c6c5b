"""Scores a completion network on a numbered set of holes, beside the classical methods.

python -m glcic.evaluate --weights WEIGHTS --data-dir DIR --masks random
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common import evaluation
from common.config import at_least
from common.device import open_device
from common.errors import one_line_errors
from common.image_folder import open_pictures
from common.images import from_network, to_network
from glcic.infer import faster, load

import paddle

BATCH = 16

# What others report, for orientation; none is comparable with a row of ours.
PUBLISHED = [
    (
        "MMagic, Places365",
        "hole L1 11.164 %, PSNR 23.152 dB, SSIM 0.862",
        "256 px, 500k steps, 8 GPUs, random square holes",
    ),
    (
        "MMagic, CelebA-HQ",
        "hole L1 6.678 %, PSNR 26.780 dB, SSIM 0.904",
        "256 px, 500k steps, 8 GPUs, random square holes",
    ),
    ("the paper", "77.0 % of completed faces judged real", "a user study; it has no table of PSNR or SSIM"),
]


@dataclass(frozen=True)
class Options:
    """Score a network on a numbered set of holes, beside Telea, Navier-Stokes and the mean colour."""

    weights: Path
    """what `train` or `convert` wrote"""
    data_dir: Path
    """CelebA or any folder of pictures"""
    split: str = "test"
    """train, val or test"""
    masks: str = "random"
    """kind of holes: center, random, freeform, blocks, regions, noise, area-1-10, area-10-20 … area-50-60"""
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

    Pictures are cut and resized to the network's training size, and scored as uint8 composites.

    Returns:
        JSON values: what was scored, and `evaluation.scored`, which says more.
    """
    at_least(options, limit=1, seed=0)
    network = load(options.weights)
    network = network if options.plain else faster(network)
    facts = network.facts
    pictures = open_pictures(options.data_dir, options.split)
    images, holes = evaluation.fixed_set(
        pictures, facts["image_px"], facts["crop"], options.masks, options.limit, options.seed
    )
    completed = {"ours": complete_all(network, images, holes), **evaluation.complete_classically(images, holes)}
    return {
        "weights": str(options.weights),
        "preset": facts["preset"],
        "steps": facts["step"],
        "data": str(options.data_dir),
        "split": options.split,
        **evaluation.scored(images, holes, completed, options.masks, options.seed),
    }


def complete_all(network, images: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Completes pictures of the network's own size, in batches; known pixels stay as they are.

    Args:
        images: uint8 [N, side, side, 3].
        holes: bool [N, side, side].

    Returns:
        uint8 [N, side, side, 3].
    """
    was_training = network.training
    network.eval()
    completed = []
    for start in range(0, len(images), BATCH):
        image, hole = images[start : start + BATCH], holes[start : start + BATCH]
        with paddle.no_grad():
            mask = paddle.to_tensor(hole[:, None].astype(np.float32))
            predicted = from_network(network(paddle.to_tensor(to_network(image)), mask).numpy())
        completed.append(np.where(hole[..., None], predicted, image))
    if was_training:
        network.train()
    return np.concatenate(completed)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m glcic.evaluate", description=__doc__)
    open_device(options.device, options.plain)
    result = evaluate(options)
    print(evaluation.table(result, PUBLISHED))
    if options.output:
        evaluation.write(result, options.output, evaluation.sheet(result))
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
