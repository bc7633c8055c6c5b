"""A numbered set of images and masks, completed by several methods and scored alike: rows, table, sheet, files.

A result is a dict of JSON values that `scored` begins; under "images" it holds the arrays that `sheet` shows.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from common.checkpoint.atomic import replace_whole
from common.config import EvaluateSettings
from common.datasets.image_folder import readable
from common.errors import UserError
from common.evaluation import image_metrics, score_page
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.grid import grid, show_mask
from common.imaging.io import write_image
from common.imaging.transforms import Crop, crop_square
from common.inpainting import baselines, blending
from common.masks import benchmark_sets
from common.masks.irregular import Shapes
from common.runtime.device import open_device
from common.runtime.outputs import check_output
from common.runtime.strict_json import json_text

EVALUATION_CROPS = {"random160": "center", "random": "center"}  # the crops of training that hold chance, without it
BASELINES = {"Telea": baselines.telea, "Navier-Stokes": baselines.navier_stokes, "mean colour": baselines.mean_colour}
FAST = {**BASELINES, "membrane": blending.membrane}
SLOW = {"biharmonic": baselines.biharmonic, "PatchMatch": baselines.patchmatch}  # each needs a package of its own
COLUMNS = ("hole_l1_percent", "hole_l2_percent", "hole_psnr_db", "image_psnr_db", "image_ssim")
# Of numbers that JSON lacks: what `metrics.summarise` answers, and a PSNR.
REASONS = {"nan": "a standard error needs two finite values", "inf": "every image that was made equals the truth"}
SHOWN = ("input", "mask", "Telea", "ours", "truth")
HIGHER_IS_BETTER = ("psnr", "ssim", "ids")  # parts of the names of scores; of all others lower is better


def fixed_set(
    dataset, side_px: int, crop: Crop, kind: str, limit: int, seed: int = 0, shapes: Shapes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` readable images of a set, cropped without chance, with their numbered masks.

    Args:
        kind, seed, shapes: see `masks.evaluation_masks`.

    Returns:
        (images uint8 [N, side, side, 3], masks bool [N, side, side]).

    Raises:
        UserError: no image can be read, or there are no holes of that kind.
    """
    images = cut_images(dataset, side_px, crop, limit)
    return images, benchmark_sets.evaluation_masks(kind, len(images), side_px, side_px, seed, shapes)[0]


def cut_images(dataset, side_px: int, crop: Crop, limit: int) -> np.ndarray:
    """The first `limit` readable images of a set, cropped without chance: uint8 [N, side, side, 3].

    Raises:
        UserError: no image can be read.
    """
    return np.stack([image for _, image in cut_each(dataset, side_px, crop, limit)])


def cut_each(dataset, side_px: int, crop: Crop, limit: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, uint8 [side, side, 3]) of the first `limit` readable images, cropped without chance.

    Raises:
        UserError: no image can be read.
    """
    name = getattr(dataset, "name", lambda index: "")
    for index, image in readable(dataset, limit):
        yield name(index), crop_square(image, evaluation_crop(crop), side_px, np.random.default_rng(0))


def evaluation_crop(crop: Crop) -> Crop:
    """The crop of training without its chance."""
    return EVALUATION_CROPS.get(crop, crop)


def baselines_of(which: Literal["all", "fast", "none"]) -> dict[str, Callable]:
    """The baselines of --baselines, by their names."""
    return {"all": FAST | SLOW, "fast": FAST, "none": {}}[which]


def complete_with_baselines(
    images: np.ndarray, masks: np.ndarray, which: Literal["all", "fast", "none"]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Each baseline's completions, uint8 [N, H, W, 3], by its name; and a line on each whose package is missing."""
    completed, notes = {}, []
    for name, method in baselines_of(which).items():
        pairs = tqdm(zip(images, masks, strict=True), name, len(images), leave=False, delay=2)
        try:
            completed[name] = np.stack([method(image, mask) for image, mask in pairs])
        except UserError as problem:
            pairs.close()
            notes.append(f"{name} left out: {problem}")
    return completed, notes


def score_all(images: np.ndarray, masks: np.ndarray, completed: np.ndarray) -> list[dict[str, float]]:
    """metrics.score of each image."""
    return [image_metrics.score(*each) for each in zip(images, completed, masks, strict=True)]


def mean_scores(images: np.ndarray, masks: np.ndarray, completed: np.ndarray) -> dict[str, float]:
    """Mean of each score over the images."""
    return {name: mean for name, (mean, _) in image_metrics.summarise(score_all(images, masks, completed)).items()}


def scored(
    images: np.ndarray,
    masks: np.ndarray,
    completed: dict[str, np.ndarray],
    kind: str,
    seed: int,
    metrics: PerceptualMetrics | None = None,
    references: Iterable[np.ndarray] | None = None,
) -> dict:
    """What a result says of a `fixed_set` that several methods completed.

    Args:
        images: uint8 [N, side, side, 3], the truth.
        masks: bool [N, side, side].
        completed: uint8 [N, side, side, 3] by the method's name.
        kind, seed: of the masks, to be named; the SHA-256 is taken of the masks given.
        metrics: those beyond L1, L2, PSNR and SSIM.
        references: of KID and FID, in place of the truth.

    Returns:
        JSON values: rows (method -> score name -> [mean, standard error]), mask set, SHA-256, counts, the metrics'
        protocols; under "images" the arrays behind them: truth, masks and each method's completions; under "per_image"
        each method's list of scores.
    """
    per_image = {name: score_all(images, masks, done) for name, done in completed.items()}
    rows_of_sets: dict[str, dict] = {}
    if metrics:
        for name, more in metrics.of_images(images, completed).items():
            per_image[name] = [a | b for a, b in zip(per_image[name], more, strict=True)]
        rows_of_sets = metrics.of_sets(images, completed, references)
    return {
        "images_scored": len(images),
        "image_px": images.shape[1],
        "masks": kind,
        "masks_seed": seed,
        "masks_version": benchmark_sets.GENERATOR_VERSION,
        "masks_sha256": benchmark_sets.fingerprint(masks),
        "mask_fraction_percent": round(100 * float(masks.mean()), 2),
        "rows": {
            name: image_metrics.summarise(scores) | rows_of_sets.get(name, {}) for name, scores in per_image.items()
        },
        "metric_notes": metrics.notes if metrics else [],
        "per_image": per_image,
        "images": {"truth": images, "masks": masks, **completed},
    }


def folder_names(kinds: Iterable[str]) -> dict[str, str]:
    """What the folder for each kind of masks is called: the kind, or the last part of the path of a folder of masks.

    Raises:
        UserError: two would have one folder.
    """
    names = {kind: Path(kind).resolve().name for kind in kinds}
    for kind, name in names.items():
        if [*names.values()].count(name) > 1:
            raise UserError(f"--mask {kind}: the scores of two of the masks would go to {name}/; rename one folder")
    return names


# ---- the table


def table(result: dict, published: list[tuple[str, str, str]], columns: tuple[str, ...] = COLUMNS) -> str:
    """The result as a Markdown table, with the mask set that it belongs to and the published figures.

    The best baseline of each column stands in bold; below the table is how far each learned row is from it.

    Args:
        result: `scored`, and the `split` of the data.
        published: (who, their figures, why these are not comparable), for orientation.
        columns: the names of the scores to show; those of perceptual metrics follow them.
    """
    columns = (*columns, *more_columns(result))
    lines = [
        "{images_scored} {split} images of {image_px} px; masks: {masks}, set {masks_seed}, generator "
        "{masks_version}, {mask_fraction_percent} % of the image, SHA-256 {masks_sha256:.16}".format(**result),
        "",
        "| method | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    lines += table_rows(result, columns)
    notes = result.get("metric_notes", [])
    lines += ["", *notes] + [""] * bool(notes)
    lines += [f"not comparable: {who}: {figures} ({why})" for who, figures, why in published]
    return "\n".join(lines)


def table_rows(result: dict, columns: tuple[str, ...], digits: int = 3) -> list[str]:
    """The rows of a Markdown table, and below them each learned row minus the best baseline."""
    best, lines = best_baselines(result, columns), []
    for name, scores in result["rows"].items():
        cells = [cell(scores[key], digits) if key in scores else "-" for key in columns]
        cells = [f"**{text}**" if best.get(key) == name else text for key, text in zip(columns, cells, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in result.get("learned", []) if best else []:
        cells = [_gain(result, name, best.get(key), key) for key in columns]
        lines.append(f"| {name} - best baseline | " + " | ".join(cells) + " |")
    return lines


def more_columns(result: dict) -> list[str]:
    """Names of the scores beyond those of single pixels, in the order of the rows."""
    names = dict.fromkeys(key for scores in result["rows"].values() for key in scores)
    return [key for key in names if not key.startswith(("hole_", "image_", "patch_"))]


def is_higher_better(key: str) -> bool:
    return any(part in key for part in HIGHER_IS_BETTER)


def best_baselines(result: dict, columns: Iterable[str]) -> dict[str, str]:
    """The name of the best baseline by score name; without baselines empty."""
    best = {}
    for key in columns:
        if key.startswith("cost_"):
            continue
        means = {
            name: result["rows"][name][key][0] for name in result.get("baselines", []) if key in result["rows"][name]
        }
        if means:
            best[key] = (max if is_higher_better(key) else min)(means, key=means.get)
    return best


def _gain(result: dict, name: str, baseline: str | None, key: str) -> str:
    """A row's score minus the best baseline's: the mean difference of images ± its standard error, or of sets."""
    if baseline is None or key not in result["rows"][name]:
        return "-"
    ours, theirs = (result["per_image"][row] for row in (name, baseline))
    if key in ours[0] and key in theirs[0]:
        differences = [a[key] - b[key] for a, b in zip(ours, theirs, strict=True)]
        mean, error = image_metrics.summarise([{key: each} for each in differences])[key]
    else:
        mean, error = result["rows"][name][key][0] - result["rows"][baseline][key][0], math.nan
    return f"{mean:+.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")


def cell(score: tuple[float, float], digits: int = 3) -> str:
    """Mean ± standard error, which a single image does not have."""
    mean, error = score
    if math.isnan(error):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def sheet(result: dict, columns: tuple[str, ...] = (), count: int = 8) -> np.ndarray:
    """Images spread evenly over the set, in rows.

    Args:
        columns: `input` (the truth, its hole painted over), `mask`, and names of the result's images; none takes those
            that the result wants shown. Those that --baselines left out are passed over.
    """
    images, wanted = result["images"], columns or result.get("columns", SHOWN)
    columns = [name for name in wanted if name in ("input", "mask") or name in images]
    chosen = np.unique(np.linspace(0, len(images["truth"]) - 1, min(count, len(images["truth"]))).astype(int))
    rows = []
    for n in chosen:
        truth, mask = images["truth"][n], images["masks"][n]
        shape = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
        made = {"input": show_mask(truth, mask), "mask": shape}
        rows.append([made[name] if name in made else images[name][n] for name in columns])
    return grid(rows, columns, cell_px=96)


def check_folder(folder: Path | None) -> None:
    """Refuses, before the work, a folder that `write` could not write to; see `outputs.check_output`."""
    if folder:
        check_output(folder)
        check_output(folder / "scores.json", [".json"])
        check_output(folder / "scores.csv", [".csv"])
        check_output(folder / "images.png", [".png"])
        check_output(folder / "worst_best.jpg", [".jpg"])


NOT_JSON = ("images", "per_image", "names", "extremes")


def write(result: dict, folder: Path, shown: np.ndarray | None = None, html: bool = False) -> None:
    """Writes scores.json, images.png from the sheet (of the result if none is given), and scores.html if wanted.

    Of a result with each image's scores it writes scores.csv and worst_best.jpg too.

    Raises:
        UserError: a file cannot be written.
    """
    plain = {key: value for key, value in result.items() if key not in NOT_JSON}
    text, shown = to_json(plain), sheet(result) if shown is None else shown
    try:
        replace_whole(folder / "images.png", lambda temporary: write_image(temporary, shown))
        replace_whole(folder / "scores.json", lambda temporary: temporary.write_text(text))
        if "per_image" in result:
            replace_whole(folder / "scores.csv", lambda temporary: temporary.write_text(csv_text(result)))
        extremes = score_page.extremes(result) if "per_image" in result else result.get("extremes")
        if extremes is not None:
            replace_whole(folder / "worst_best.jpg", lambda temporary: write_image(temporary, extremes))
        if html:
            page = score_page.page(result)
            replace_whole(folder / "scores.html", lambda temporary: temporary.write_text(page, encoding="utf-8"))
            print(f"written: {folder / 'scores.html'}, for a browser")
    except OSError as problem:
        raise UserError(f"cannot write the scores to {folder}: {problem.strerror or problem}") from None


def to_json(values: dict) -> str:
    """Scores as JSON, with the reason beside each number that JSON lacks."""
    return json_text(values, indent=1, reasons=REASONS) + "\n"


def csv_text(result: dict) -> str:
    """One line for each image and method: number, name, percent missing, method, scores."""
    per_image, masks = result["per_image"], result["images"]["masks"]
    keys = list(dict.fromkeys(key for scores in per_image.values() for key in scores[0]))
    names = result.get("names") or [""] * len(masks)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["number", "image", "mask_percent", "method", *keys])
    for method, scores in per_image.items():
        for n, each in enumerate(scores):
            values = [f"{each[key]:.6g}" if key in each else "" for key in keys]
            writer.writerow([n, names[n], f"{100 * masks[n].mean():.2f}", method, *values])
    return file.getvalue()


def run(options: EvaluateSettings, evaluate: Callable, table: Callable, write_to: Callable | None = None) -> None:
    """The rest of an `evaluate` command: scores, prints the table, and writes to the output if there is one.

    Args:
        evaluate: options -> result.
        table: result -> text.
        write_to: (result, folder) -> writes scores.json and images.png; None takes `write`.
    """
    check_folder(options.output)
    open_device(options.device, options.disable_cpu_layers)
    result = evaluate(options)
    print(table(result))
    if options.output:
        if write_to is None:
            write(result, options.output, html=options.html)
        else:
            write_to(result, options.output)
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'images.png'}")
