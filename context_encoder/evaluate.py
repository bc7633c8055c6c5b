"""Scores a Context Encoder by the paper's table: mean L1, mean L2 and PSNR, beside the classical methods.

python -m context_encoder.evaluate --weights WEIGHTS --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from context_encoder.options import EvaluateOptions as Options
from context_encoder.options import read_evaluate

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_evaluate, __doc__)


import numpy as np

from common.evaluation import comparison, image_metrics, protocol
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.transforms import from_network, to_network
from common.masks import irregular
from common.runtime import memory
from context_encoder.infer import composite, faster, load, predict, slide
from context_encoder.masks import center

BATCH = 16

# Table 1 of the paper: L1 and L2 in percent, PSNR in dB, over the 64 x 64 px in the middle, ring included.
PUBLISHED = [
    ("the paper", "L1 9.37 %, L2 1.96 %, PSNR 18.58 dB", "hole-64 of 100 images of Paris StreetView, 128 px"),
    ("the paper, nearest neighbour by its features", "15.10 %, 4.30 %, 14.70 dB", "the same images"),
    ("the paper, nearest neighbour by HOG", "19.92 %, 6.92 %, 12.79 dB", "the same images"),
    ("Yang et al. 2017, of the released weights", "10.33 %, 2.35 %, 17.59 dB", "the same images, their measurement"),
]


def evaluate(options: Options) -> dict:
    """Completes the images with the network and with the baselines, and scores all alike.

    Images are cut and resized to the network's size. `mask` is over the pixels of the hole (the paper's centre: 56 x
    56 of 128), `image` over the whole image; both score uint8 composites. For centre masks `patch` is over the square
    that a centre network predicts (64 x 64), ring included, as the paper's table: the network's own prediction there,
    while the classical methods have the photo's own ring.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "images" the arrays behind them: truth, masks and each method's completions.
    """
    network, metrics = load(options.weights), PerceptualMetrics(options)
    if not options.disable_cpu_layers:
        network = faster(network)
    metadata = network.metadata
    kind = metadata["holes"] if options.mask == "own" else options.mask
    dataset = comparison.open_data(options)
    test = fixed_set(dataset, metadata, kind, options.limit, options.shapes_dir, options.seed)
    comparison.check(test, options)
    images, masks = test.images, test.masks
    predicted = predict_all(network, images, masks)
    completed = {"ours": composite(images, predicted, masks)}
    result = comparison.compare(test, completed, options, metrics, options.data_dir)
    if kind == "center":
        side = network.image_px
        patch = np.broadcast_to(center(side, 0), masks.shape)
        for name, scores in result["rows"].items():
            done = composite(images, predicted, patch) if name == "ours" else result["images"][name]
            figures = [patch_scores(*each) for each in zip(images, done, patch, strict=True)]
            scores |= image_metrics.summarise(figures)
            result["per_image"][name] = [a | b for a, b in zip(result["per_image"][name], figures, strict=True)]
    return {"weights": str(options.weights), **comparison.facts(options, metadata, dataset), **result}


def fixed_set(
    dataset, metadata: dict, kind: str, limit: int, shapes_dir: Path | None = None, seed: int = 0
) -> comparison.EvaluationSet:
    """The first `limit` readable images at the network's size, with their numbered masks or those of a folder.

    `center` is the paper's: of the 64 px in the middle the 56 that are hidden; every other kind is
    `benchmark_sets.evaluation_masks`.
    """
    side = metadata["image_px"]
    shapes = irregular.open_shapes(shapes_dir) if kind == "regions" else None
    test = comparison.open_set(dataset, side, metadata["crop"], kind, limit, seed, shapes)
    if kind != "center":
        return test
    overlap_px = metadata["generator"]["overlap_px"] or round(4 * side / 128)
    return comparison.with_masks(test, np.repeat(center(side, overlap_px)[None], len(test.images), axis=0), kind)


def predict_all(network, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """What the network predicts, for images of its own size, in batches; not composited with the known pixels.

    Args:
        images: uint8 [N, side, side, 3].
        masks: bool [N, side, side].

    Returns:
        uint8 [N, side, side, 3]; a centre network's predictions lie in the image.
    """
    was_training = network.training
    network.eval()
    whole_windows = network.output == "whole" or (masks == center(network.image_px, network.overlap_px)).all()
    predicted = []
    for start in range(0, len(images), BATCH):
        pixels, mask = to_network(images[start : start + BATCH]), masks[start : start + BATCH]
        if whole_windows:  # one window is the image: what `slide` does, for many at once
            predicted.append(_predict_windows(network, pixels, mask))
        else:
            rng = np.random.default_rng(0)
            predicted.append(np.stack([slide(network, *one, BATCH, rng) for one in zip(pixels, mask, strict=True)]))
    if was_training:
        network.train()
    return from_network(np.concatenate(predicted))


def _predict_windows(network, pixels: np.ndarray, masks: np.ndarray) -> np.ndarray:
    made = predict(network, pixels, masks, np.random.default_rng(0))
    if network.output == "whole":
        return made
    start = network.image_px // 4
    images = pixels.copy()
    images[:, :, start : start + network.output_px, start : start + network.output_px] = made
    return images


@memory.names_images
def complete_all(network, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Composites of `predict_all`; known pixels stay as they are."""
    return composite(images, predict_all(network, images, masks), masks)


def patch_scores(truth: np.ndarray, completed: np.ndarray, patch: np.ndarray) -> dict[str, float]:
    """L1, L2 and PSNR over the patch."""
    return {
        "patch_l1_percent": image_metrics.l1(truth, completed, patch),
        "patch_l2_percent": image_metrics.l2(truth, completed, patch),
        "patch_psnr_db": image_metrics.psnr(truth, completed, patch),
    }


def table(result: dict) -> str:
    """The result as a Markdown table with the columns of the paper's, and its rows below."""
    parts = ("hole", "patch", "image") if result["masks"] == "center" else ("hole", "image")
    columns = tuple(f"{part}_{score}" for part in parts for score in ("l1_percent", "l2_percent", "psnr_db"))
    return protocol.table(result, PUBLISHED, columns)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_evaluate(argv, __doc__)
    protocol.run(options, evaluate, table)


if __name__ == "__main__":
    main()
