"""A numbered set of pictures and holes, completed by several methods and scored alike: rows, table, sheet, files.

A result is a dict of JSON values that `scored` begins; under "pictures" it holds the arrays that `sheet` shows.
"""

import json
from pathlib import Path

import numpy as np

from common import baselines, masks, metrics
from common.errors import UserError
from common.images import Crop, crop_square, grid, show_hole, write_image
from common.regions import Shapes

EVALUATION_CROPS = {"random160": "center", "random": "center"}  # the crops of training that hold chance, without it
BASELINES = {
    "Telea": baselines.telea,
    "Navier-Stokes": baselines.navier_stokes,
    "mean colour": baselines.mean_colour,
}
COLUMNS = ("hole_l1_percent", "hole_l2_percent", "hole_psnr_db", "image_psnr_db", "image_ssim")
SHOWN = ("input", "hole", "Telea", "ours", "truth")


def fixed_set(
    pictures, side_px: int, crop: Crop, kind: str, limit: int, seed: int = 0, shapes: Shapes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` readable pictures of a set, cropped without chance, with their numbered holes.

    Args:
        kind, seed, shapes: see `masks.evaluation_holes`.

    Returns:
        (images uint8 [N, side, side, 3], holes bool [N, side, side]).

    Raises:
        UserError: no picture can be read, or there are no holes of that kind.
    """
    images = cut_pictures(pictures, side_px, crop, limit)
    return images, masks.evaluation_holes(kind, len(images), side_px, side_px, seed, shapes)[0]


def cut_pictures(pictures, side_px: int, crop: Crop, limit: int) -> np.ndarray:
    """The first `limit` readable pictures of a set, cropped without chance: uint8 [N, side, side, 3].

    Raises:
        UserError: no picture can be read.
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
    return np.stack(images)


def complete_classically(images: np.ndarray, holes: np.ndarray) -> dict[str, np.ndarray]:
    """Each baseline's completions, uint8 [N, H, W, 3], by the baseline's name."""
    return {
        name: np.stack([method(image, hole) for image, hole in zip(images, holes, strict=True)])
        for name, method in BASELINES.items()
    }


def score_all(images: np.ndarray, holes: np.ndarray, completed: np.ndarray) -> list[dict[str, float]]:
    """metrics.score of each picture."""
    return [metrics.score(*each) for each in zip(images, completed, holes, strict=True)]


def mean_scores(images: np.ndarray, holes: np.ndarray, completed: np.ndarray) -> dict[str, float]:
    """Mean of each score over the pictures."""
    return {name: mean for name, (mean, _) in metrics.summarise(score_all(images, holes, completed)).items()}


def scored(images: np.ndarray, holes: np.ndarray, completed: dict[str, np.ndarray], kind: str, seed: int) -> dict:
    """What a result says of a `fixed_set` that several methods completed.

    Args:
        images: uint8 [N, side, side, 3], the truth.
        holes: bool [N, side, side].
        completed: uint8 [N, side, side, 3] by the method's name.
        kind, seed: of the holes, to be named; the SHA-256 is taken of the holes given.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), hole set, SHA-256, counts; under
        "pictures" the arrays behind them: truth, holes and each method's completions.
    """
    return {
        "pictures_scored": len(images),
        "image_px": images.shape[1],
        "holes": kind,
        "holes_seed": seed,
        "holes_version": masks.GENERATOR_VERSION,
        "holes_sha256": masks.fingerprint(holes),
        "hole_share_percent": round(100 * float(holes.mean()), 2),
        "rows": {name: metrics.summarise(score_all(images, holes, done)) for name, done in completed.items()},
        "pictures": {"truth": images, "holes": holes, **completed},
    }


def table(result: dict, published: list[tuple[str, str, str]], columns: tuple[str, ...] = COLUMNS) -> str:
    """The result as a Markdown table, with the hole set that it belongs to and the published figures.

    Args:
        result: `scored`, and the `split` of the data.
        published: (who, their figures, why these are not comparable), for orientation.
        columns: the names of the scores to show.
    """
    lines = [
        "{pictures_scored} {split} pictures of {image_px} px; holes: {holes}, set {holes_seed}, generator "
        "{holes_version}, {hole_share_percent} % of the picture, SHA-256 {holes_sha256:.16}".format(**result),
        "",
        "| method | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, scores in result["rows"].items():
        lines.append(
            f"| {name} | " + " | ".join(f"{scores[key][0]:.3f} ± {scores[key][1]:.3f}" for key in columns) + " |"
        )
    lines += [""] + [f"not comparable: {who}: {figures} ({why})" for who, figures, why in published]
    return "\n".join(lines)


def sheet(result: dict, columns: tuple[str, ...] = SHOWN, count: int = 8) -> np.ndarray:
    """Pictures spread evenly over the set, in rows.

    Args:
        columns: `input` (the truth, its hole painted over), `hole`, and names of the result's pictures.
    """
    pictures = result["pictures"]
    chosen = np.unique(np.linspace(0, len(pictures["truth"]) - 1, min(count, len(pictures["truth"]))).astype(int))
    rows = []
    for n in chosen:
        truth, hole = pictures["truth"][n], pictures["holes"][n]
        shape = np.repeat(hole[..., None], 3, axis=2).astype(np.uint8) * 255
        made = {"input": show_hole(truth, hole), "hole": shape}
        rows.append([made[name] if name in made else pictures[name][n] for name in columns])
    return grid(rows, list(columns), cell_px=96)


def write(result: dict, folder: Path, shown: np.ndarray) -> None:
    """Writes scores.json and, from the sheet, pictures.png."""
    write_image(folder / "pictures.png", shown)
    plain = {key: value for key, value in result.items() if key != "pictures"}
    (folder / "scores.json").write_text(json.dumps(plain, indent=1) + "\n")
