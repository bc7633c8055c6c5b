"""Scores a completion network on a numbered set of holes, beside the classical methods.

python -m glcic.evaluate --weights WEIGHTS --data-dir DIR --masks random
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common import baselines, masks, metrics
from common.device import open_device
from common.errors import UserError, one_line_errors
from common.image_folder import open_pictures
from common.images import Crop, crop_square, from_network, grid, show_hole, to_network, write_image
from glcic.infer import load

import paddle

BATCH = 16
EVALUATION_CROPS = {"random160": "center", "random": "center"}  # the crops of training that hold chance, without it
BASELINES = {
    "Telea": baselines.telea,
    "Navier-Stokes": baselines.navier_stokes,
    "mean colour": baselines.mean_colour,
}


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
COLUMNS = ("hole_l1_percent", "hole_l2_percent", "hole_psnr_db", "image_psnr_db", "image_ssim")


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
    """kind of holes: center, random, freeform, area-1-10, area-10-20 … area-50-60"""
    limit: int = 250
    """pictures to score"""
    seed: int = 0
    """number of the hole set"""
    output: Path | None = None
    """folder for scores.json and pictures.png; none prints only"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def evaluate(options: Options) -> dict:
    """Completes the pictures with the network and with the classical methods, and scores all alike.

    Pictures are cut and resized to the network's training size, and scored as uint8 composites.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "pictures" the arrays behind them: truth, holes and each method's completions.
    """
    if options.limit < 1:
        raise UserError(f"--limit {options.limit}: at least one picture is needed")
    network = load(options.weights)
    facts = network.facts
    pictures = open_pictures(options.data_dir, options.split)
    images, holes = fixed_set(pictures, facts["image_px"], facts["crop"], options.masks, options.limit, options.seed)
    completed = {"ours": complete_all(network, images, holes)}
    for name, method in BASELINES.items():
        completed[name] = np.stack([method(image, hole) for image, hole in zip(images, holes, strict=True)])
    rows = {name: metrics.summarise(score_all(images, holes, done)) for name, done in completed.items()}
    return {
        "weights": str(options.weights),
        "preset": facts["preset"],
        "steps": facts["step"],
        "data": str(options.data_dir),
        "split": options.split,
        "pictures_scored": len(images),
        "image_px": facts["image_px"],
        "holes": options.masks,
        "holes_seed": options.seed,
        "holes_version": masks.GENERATOR_VERSION,
        "holes_sha256": masks.evaluation_holes(options.masks, len(images), *images.shape[1:3], options.seed)[1],
        "hole_share_percent": round(100 * float(holes.mean()), 2),
        "rows": rows,
        "pictures": {"truth": images, "holes": holes, **completed},
    }


def fixed_set(
    pictures, side_px: int, crop: Crop, kind: str, limit: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` readable pictures of a set, cropped without chance, with their numbered holes.

    Returns:
        (images uint8 [N, side, side, 3], holes bool [N, side, side]).
    """
    images = []
    for index in range(len(pictures)):
        try:
            image = pictures[index]
        except UserError as problem:
            print(f"skipped: {problem}")
            continue
        images.append(crop_square(image, EVALUATION_CROPS.get(crop, crop), side_px, np.random.default_rng(0)))
        if len(images) == limit:
            break
    if not images:
        raise UserError("no picture of the set can be read")
    return np.stack(images), masks.evaluation_holes(kind, len(images), side_px, side_px, seed)[0]


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


def score_all(images: np.ndarray, holes: np.ndarray, completed: np.ndarray) -> list[dict[str, float]]:
    """metrics.score of each picture."""
    return [metrics.score(*each) for each in zip(images, completed, holes, strict=True)]


def mean_scores(images: np.ndarray, holes: np.ndarray, completed: np.ndarray) -> dict[str, float]:
    """Mean of each score over the pictures."""
    return {name: mean for name, (mean, _) in metrics.summarise(score_all(images, holes, completed)).items()}


def table(result: dict) -> str:
    """The result as a Markdown table, with the hole set that it belongs to and the published figures."""
    lines = [
        "{pictures_scored} {split} pictures of {image_px} px; holes: {holes}, set {holes_seed}, generator "
        "{holes_version}, {hole_share_percent} % of the picture, SHA-256 {holes_sha256:.16}".format(**result),
        "",
        "| method | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for name, scores in result["rows"].items():
        lines.append(
            f"| {name} | " + " | ".join(f"{scores[key][0]:.3f} ± {scores[key][1]:.3f}" for key in COLUMNS) + " |"
        )
    lines += [""] + [f"not comparable: {who}: {figures} ({why})" for who, figures, why in PUBLISHED]
    return "\n".join(lines)


def sheet(result: dict, count: int = 8) -> np.ndarray:
    """Input, hole, Telea, ours, truth for pictures spread evenly over the set."""
    pictures = result["pictures"]
    chosen = np.unique(np.linspace(0, len(pictures["truth"]) - 1, min(count, len(pictures["truth"]))).astype(int))
    rows = []
    for n in chosen:
        truth, hole = pictures["truth"][n], pictures["holes"][n]
        shape = np.repeat(hole[..., None], 3, axis=2).astype(np.uint8) * 255
        rows.append([show_hole(truth, hole), shape, pictures["Telea"][n], pictures["ours"][n], truth])
    return grid(rows, ["input", "hole", "Telea", "ours", "truth"], cell_px=96)


def write(result: dict, folder: Path) -> None:
    """Writes scores.json and pictures.png."""
    write_image(folder / "pictures.png", sheet(result))
    plain = {key: value for key, value in result.items() if key != "pictures"}
    (folder / "scores.json").write_text(json.dumps(plain, indent=1) + "\n")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m glcic.evaluate", description=__doc__)
    open_device(options.device)
    result = evaluate(options)
    print(table(result))
    if options.output:
        write(result, options.output)
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
