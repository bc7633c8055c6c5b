"""Scores DeepFill v2 on a numbered set of holes: L1, PSNR and SSIM, beside the classical methods.

python -m deepfill.evaluate --weights WEIGHTS --data-dir DIR

python -m deepfill.evaluate --weights WEIGHTS --data-dir DIR --masks area-40-50

python -m deepfill.evaluate --weights GATED PARTIAL VANILLA --data-dir DIR
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common import evaluation
from common.cityscapes import open_photos
from common.config import at_least
from common.device import open_device
from common.errors import UserError, one_line_errors
from common.images import from_network, to_network
from deepfill.holes import KINDS
from deepfill.infer import STRIDE, faster, load, predict
from deepfill.sketch import edges

BATCH = 8
OFFICIAL = "official"  # the release's training holes, which the common evaluation sets do not have

# l1 in percent of the hole, PSNR and SSIM of the composite; or l1 and l2 in percent of the picture (the paper).
PUBLISHED = [
    ("the paper, Places2, free-form", "l1 9.1 %, l2 1.6 %", "validation pictures of Places2, 256 px, its own holes"),
    ("the paper, Places2, rectangles", "l1 8.6 %, l2 2.0 %", "the same pictures"),
    ("MMagic, Places365, free-form", "l1 8.635 %, PSNR 22.398 dB, SSIM 0.815", "hole l1; its own training and holes"),
    ("MMagic, CelebA-HQ, free-form", "l1 5.411 %, PSNR 25.721 dB, SSIM 0.871", "hole l1; 256 px, its own holes"),
]


@dataclass(frozen=True)
class Options:
    """Score a generator, beside Telea, Navier-Stokes and the mean colour."""

    weights: tuple[Path, ...]
    """what `train` or `convert` wrote; several are compared"""
    data_dir: Path
    """CelebA or any folder of pictures"""
    split: str = "test"
    """train, val or test"""
    masks: str = "freeform"
    """kind of holes: freeform, official (strokes and a rectangle), random (a rectangle), center, area-1-10 …
    area-50-60, blocks, regions, noise"""
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

    Pictures are cut and resized to the network's size. The row `coarse` is the first stage's; of several networks only
    the second stages are scored. A guided network is given no sketch but in the row `sketched`: there Canny's lines of
    the truth, as in training.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "pictures" the arrays behind them: truth, holes and each method's completions.
    """
    at_least(options, limit=1, seed=0)
    networks = load_all(options.weights)
    if not options.plain:
        networks = {name: faster(network) for name, network in networks.items()}
    facts = next(iter(networks.values())).facts
    pictures = open_photos(options.data_dir, options.split, options.pairs)
    images, holes = fixed_set(pictures, facts, options.masks, options.limit, options.seed)
    both = {name: complete_all(network, images, holes) for name, network in networks.items()}
    completed, columns = {name: refined for name, (_, refined) in both.items()}, list(networks)
    if len(networks) == 1:
        completed["coarse"], columns = both["ours"][0], ["coarse", "ours"]
        if networks["ours"].arguments["guided"]:
            lines = np.stack([edges(image) for image in images])
            completed["sketched"] = complete_all(networks["ours"], images, holes, lines)[1]
            columns.append("sketched")
    completed |= evaluation.complete_classically(images, holes)
    return {
        "weights": [str(path) for path in options.weights],
        "preset": facts["preset"],
        "steps": facts["step"],
        "columns": ["input", "Telea", *columns, "truth"],
        "data": str(options.data_dir),
        "split": options.split,
        **evaluation.scored(images, holes, completed, options.masks, options.seed),
    }


def load_all(paths: tuple[Path, ...]) -> dict:
    """Networks by the name of their row: `ours`; or of several their kind of layers, or else their files' folders.

    Raises:
        UserError: there is none, one is named twice, or they were trained on pictures of different sizes or crops.
    """
    if not paths:
        raise UserError("--weights wants at least one file")
    if len(set(paths)) < len(paths):
        raise UserError("--weights names the same file twice")
    networks = [load(path) for path in paths]
    if len(networks) == 1:
        return {"ours": networks[0]}
    for key in ("image_px", "crop"):
        seen = {network.facts[key] for network in networks}
        if len(seen) > 1:
            raise UserError(
                f"the weights were trained with {key} {', '.join(sorted(map(str, seen)))}; score them apart"
            )
    for names in ([net.arguments["layers"] for net in networks], [str(path.parent) for path in paths]):
        if len(set(names)) == len(names):
            return dict(zip(names, networks, strict=True))
    return dict(zip(map(str, paths), networks, strict=True))


def fixed_set(pictures, facts: dict, kind: str, limit: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` readable pictures at the network's size, with their numbered holes.

    Returns:
        (images uint8 [N, side, side, 3], holes bool [N, side, side]).
    """
    side = facts["image_px"]
    if kind != OFFICIAL:
        return evaluation.fixed_set(pictures, side, facts["crop"], kind, limit, seed)
    images = evaluation.cut_pictures(pictures, side, facts["crop"], limit)
    words = [zlib.crc32(kind.encode()), seed]
    holes = [KINDS[kind](side, side, np.random.default_rng([*words, n, side])) for n in range(len(images))]
    return images, np.stack(holes)


def complete_all(network, images: np.ndarray, holes: np.ndarray, sketches: np.ndarray | None = None) -> tuple:
    """Completes pictures of one size, in batches; known pixels stay as they are.

    Args:
        images: uint8 [N, H, W, 3], H and W multiples of 8.
        holes, sketches: bool [N, H, W].

    Returns:
        The composites of both stages, coarse first, uint8 [N, H, W, 3].
    """
    if images.shape[1] % STRIDE or images.shape[2] % STRIDE:
        raise ValueError(f"pictures of {images.shape[1]} x {images.shape[2]} px; sides must be multiples of {STRIDE}")
    was_training = network.training
    network.eval()
    stages = [], []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        maps = [each[part, None].astype(np.float32) for each in (holes, sketches) if each is not None]
        for stage, made in zip(stages, predict(network, to_network(images[part]), *maps), strict=True):
            stage.append(np.where(holes[part, ..., None], from_network(made), images[part]))
    if was_training:
        network.train()
    return tuple(np.concatenate(stage) for stage in stages)


def table(result: dict) -> str:
    """The result as a Markdown table, with the published figures below."""
    return evaluation.table(result, PUBLISHED)


def write(result: dict, folder: Path) -> None:
    """Writes scores.json and pictures.png."""
    evaluation.write(result, folder, evaluation.sheet(result, result["columns"]))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m deepfill.evaluate", description=__doc__)
    open_device(options.device, options.plain)
    result = evaluate(options)
    print(table(result))
    if options.output:
        write(result, options.output)
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
