"""Scores a completion network on a numbered set of masks, beside the classical methods.

python -m glcic.evaluate --weights WEIGHTS --data-dir DIR --mask random
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from glcic.options import EvaluateOptions as Options
from glcic.options import read_evaluate

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_evaluate, __doc__)


import numpy as np

from common.evaluation import comparison, protocol
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.transforms import from_network, to_network
from common.runtime import memory
from glcic.infer import faster, load

import paddle

BATCH = 16

# What others report, for orientation; none is comparable with a row of ours.
MMAGIC = "256 px, 500k steps, 8 GPUs, random square holes"
PUBLISHED = [
    ("MMagic, Places365", "hole L1 11.164 %, PSNR 23.152 dB, SSIM 0.862", MMAGIC),
    ("MMagic, CelebA-HQ", "hole L1 6.678 %, PSNR 26.780 dB, SSIM 0.904", MMAGIC),
    ("the paper", "77.0 % of completed faces judged real", "a user study; it has no table of PSNR or SSIM"),
]


def evaluate(options: Options) -> dict:
    """Completes the images with the network and with the baselines, and scores all alike.

    Images are cut and resized to the network's training size, and scored as uint8 composites.

    Returns:
        JSON values: what was scored, and `comparison.compare`, which says more.
    """
    network, metrics = load(options.weights), PerceptualMetrics(options)
    if not options.disable_cpu_layers:
        network = faster(network)
    metadata = network.metadata
    dataset = comparison.open_data(options)
    test = comparison.open_set(
        dataset, metadata["image_px"], metadata["crop"], options.mask, options.limit, options.seed
    )
    comparison.check(test, options)
    completed = {"ours": complete_all(network, test.images, test.masks)}
    return {
        "weights": str(options.weights),
        **comparison.facts(options, metadata, dataset),
        **comparison.compare(test, completed, options, metrics, options.data_dir),
    }


@memory.names_images
def complete_all(network, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Completes images of the network's own size, in batches; known pixels stay as they are.

    Args:
        images: uint8 [N, side, side, 3].
        masks: bool [N, side, side].

    Returns:
        uint8 [N, side, side, 3].
    """
    was_training = network.training
    network.eval()
    completed = []
    for start in range(0, len(images), BATCH):
        image, mask = images[start : start + BATCH], masks[start : start + BATCH]
        with paddle.no_grad():
            window_mask = paddle.to_tensor(mask[:, None].astype(np.float32))
            predicted = from_network(network(paddle.to_tensor(to_network(image)), window_mask).numpy())
        completed.append(np.where(mask[..., None], predicted, image))
    if was_training:
        network.train()
    return np.concatenate(completed)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_evaluate(argv, __doc__)
    protocol.run(options, evaluate, lambda result: protocol.table(result, PUBLISHED))


if __name__ == "__main__":
    main()
