"""Scores DeepFill v2 on a numbered set of masks: L1, PSNR and SSIM, beside the classical methods.

python -m deepfill.evaluate --weights WEIGHTS --data-dir DIR

python -m deepfill.evaluate --weights WEIGHTS --data-dir DIR --mask area-40-50

python -m deepfill.evaluate --weights GATED PARTIAL VANILLA --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from deepfill.options import EvaluateOptions as Options
from deepfill.options import read_evaluate

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_evaluate, __doc__)

import zlib

import numpy as np

from common.errors import UserError
from common.evaluation import comparison, protocol
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.transforms import from_network, to_network
from common.runtime import memory
from deepfill.infer import STRIDE, faster, load, predict
from deepfill.masks import KINDS
from deepfill.sketch import edges

BATCH = 8
OFFICIAL = "official"  # the release's training masks, which the common evaluation sets do not have

# l1 in percent of the hole, PSNR and SSIM of the composite; or l1 and l2 in percent of the image (the paper).
PUBLISHED = [
    ("the paper, Places2, free-form", "l1 9.1 %, l2 1.6 %", "validation images of Places2, 256 px, its own holes"),
    ("the paper, Places2, rectangles", "l1 8.6 %, l2 2.0 %", "the same images"),
    ("MMagic, Places365, free-form", "l1 8.635 %, PSNR 22.398 dB, SSIM 0.815", "hole l1; its own training and holes"),
    ("MMagic, CelebA-HQ, free-form", "l1 5.411 %, PSNR 25.721 dB, SSIM 0.871", "hole l1; 256 px, its own holes"),
]


def evaluate(options: Options) -> dict:
    """Completes the images with the network and with the baselines, and scores all alike.

    Images are cut and resized to the network's size. The row `coarse` is the first stage's; of several networks only
    the second stages are scored. A guided network is given no sketch but in the row `sketched`: there Canny's lines of
    the truth, as in training.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "images" the arrays behind them: truth, masks and each method's completions.
    """
    networks, metrics = load_all(options.weights), PerceptualMetrics(options)
    if not options.disable_cpu_layers:
        networks = {name: faster(network) for name, network in networks.items()}
    metadata = next(iter(networks.values())).metadata
    dataset = comparison.open_data(options)
    test = fixed_set(dataset, metadata, options.mask, options.limit, options.seed)
    comparison.check(test, options)
    images, masks = test.images, test.masks
    both = {name: complete_all(network, images, masks) for name, network in networks.items()}
    completed, columns = {name: refined for name, (_, refined) in both.items()}, list(networks)
    if len(networks) == 1:
        completed["coarse"], columns = both["ours"][0], ["coarse", "ours"]
        if networks["ours"].arguments["guided"]:
            lines = np.stack([edges(image) for image in images])
            completed["sketched"] = complete_all(networks["ours"], images, masks, lines)[1]
            columns.append("sketched")
    return {
        "weights": [str(path) for path in options.weights],
        **comparison.facts(options, metadata, dataset),
        "columns": ["input", "Telea", *columns, "truth"],
        **comparison.compare(test, completed, options, metrics, options.data_dir),
    }


def load_all(paths: tuple[Path, ...]) -> dict:
    """Networks by the name of their row: `ours`; or of several their kind of layers, or else their files' folders.

    Raises:
        UserError: there is none, one is named twice, or they were trained on images of different sizes or crops.
    """
    if not paths:
        raise UserError("--weights wants at least one file")
    if len(set(paths)) < len(paths):
        raise UserError("--weights names the same file twice")
    networks = [load(path) for path in paths]
    if len(networks) == 1:
        return {"ours": networks[0]}
    for key in ("image_px", "crop"):
        seen = {network.metadata[key] for network in networks}
        if len(seen) > 1:
            raise UserError(
                f"the weights were trained with {key} {', '.join(sorted(map(str, seen)))}; score them apart"
            )
    for names in ([net.arguments["layers"] for net in networks], [str(path.parent) for path in paths]):
        if len(set(names)) == len(names):
            return dict(zip(names, networks, strict=True))
    return dict(zip(map(str, paths), networks, strict=True))


def fixed_set(dataset, metadata: dict, kind: str, limit: int, seed: int = 0) -> comparison.EvaluationSet:
    """The first `limit` readable images at the network's size, with their numbered masks or those of a folder."""
    side = metadata["image_px"]
    if kind != OFFICIAL:
        return comparison.open_set(dataset, side, metadata["crop"], kind, limit, seed)
    test = comparison.open_images(dataset, side, metadata["crop"], limit, seed)
    words = [zlib.crc32(kind.encode()), seed]
    masks = [KINDS[kind](side, side, np.random.default_rng([*words, n, side])) for n in range(len(test.images))]
    return comparison.with_masks(test, np.stack(masks), kind)


@memory.names_images
def complete_all(network, images: np.ndarray, masks: np.ndarray, sketches: np.ndarray | None = None) -> tuple:
    """Completes images of one size, in batches; known pixels stay as they are.

    Args:
        images: uint8 [N, H, W, 3], H and W multiples of 8.
        masks, sketches: bool [N, H, W].

    Returns:
        The composites of both stages, coarse first, uint8 [N, H, W, 3].
    """
    if images.shape[1] % STRIDE or images.shape[2] % STRIDE:
        raise ValueError(f"images of {images.shape[1]} x {images.shape[2]} px; sides must be multiples of {STRIDE}")
    was_training = network.training
    network.eval()
    stages = [], []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        maps = [each[part, None].astype(np.float32) for each in (masks, sketches) if each is not None]
        for stage, made in zip(stages, predict(network, to_network(images[part]), *maps), strict=True):
            stage.append(np.where(masks[part, ..., None], from_network(made), images[part]))
    if was_training:
        network.train()
    return tuple(np.concatenate(stage) for stage in stages)


def table(result: dict) -> str:
    """The result as a Markdown table, with the published figures below."""
    return protocol.table(result, PUBLISHED)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_evaluate(argv, __doc__)
    protocol.run(options, evaluate, table)


if __name__ == "__main__":
    main()
