"""Scores trained networks on held-out pairs: classes of translated labels, or nearness of translated photos.

python -m pix2pix.evaluate --weights WEIGHTS --data-dir DIR

python -m pix2pix.evaluate --weights LABEL_TO_PHOTO --segment-with PHOTO_TO_LABEL --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from pix2pix.options import EvaluateOptions as Options
from pix2pix.options import read_evaluate

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_evaluate, __doc__)

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.datasets.image_folder import announce, open_images, readable
from common.datasets.paired_images import (
    CLASSES,
    PALETTE,
    VOID,
    classify,
    colourise,
    crop_pair,
    open_pairs,
    refuse_withheld,
)
from common.errors import UserError
from common.evaluation import image_metrics, protocol, score_page
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.grid import grid
from common.imaging.transforms import resize
from pix2pix import encoding
from pix2pix.infer import faster, load, translate
from pix2pix.tally import Tally, majority

RANKED_BY = ("pixel_accuracy", "psnr_db")  # the first of these that a set has ranks the checkpoints of a run
SHOWN = 8
OF_SETS = ("kid", "fid", "lpips", "ms_ssim", "swd", "p_ids", "u_ids")  # perceptual ones

# Per-pixel accuracy, per-class accuracy, class IoU of the paper, 500 pairs of 256 px; by full-size U-Nets on a GPU.
PUBLISHED_LABELS = [
    ("the paper, L1", 0.86, 0.42, 0.35),
    ("the paper, cGAN", 0.74, 0.28, 0.22),
    ("the paper, L1 + cGAN", 0.83, 0.36, 0.29),
]
PUBLISHED_PHOTOS = [
    ("the paper, L1", 0.42, 0.15, 0.11),
    ("the paper, GAN", 0.22, 0.05, 0.01),
    ("the paper, cGAN", 0.57, 0.22, 0.16),
    ("the paper, L1 + GAN", 0.64, 0.20, 0.15),
    ("the paper, L1 + cGAN", 0.66, 0.23, 0.17),
    ("the paper, real photos", 0.80, 0.26, 0.21),
]
SEGMENTATION = ("pixel_accuracy", "class_accuracy", "mean_iou")


@dataclass(frozen=True)
class FixedSet:
    """Held-out pairs of one size, uint8 [N, side, side, 3]; `labels` are the truth's class ids, or None."""

    sources: np.ndarray
    targets: np.ndarray
    labels: np.ndarray | None


def open_data(data_dir: Path, split: str, direction: str, photo_side: str):
    """The set's pairs, none of train/ set aside for a test (the papers score val); for grey-to-colour its photos."""
    if direction == "grey-to-colour":
        return open_images(data_dir, split)
    return open_pairs(data_dir, split, photo_side, wanted=("train", "val"))


def has_class_colours(label: np.ndarray) -> bool:
    """Whether a label, uint8 [H, W, 3], is painted in the colours of Cityscapes: most pixels are near one of them."""
    distance = np.abs(colourise(classify(label, void=True)).astype(int) - label).max(axis=2)
    return bool((distance <= 16).mean() > 0.65)


# ---- while training


def fixed_set(data, direction: str, side_px: int, count: int) -> FixedSet:
    """The first `count` pairs, resized without chance."""
    pairs = [encoding.as_pair(item, direction) for _, item in readable(data, count, "pair")]
    sources, targets = zip(*(crop_pair(*pair, 0, side_px, False, None) for pair in pairs), strict=True)
    labels = None
    if direction == "photo-to-label" and has_class_colours(pairs[0][1]):
        labels = np.stack([classify(target, void=True) for target in targets])
    return FixedSet(np.stack(sources), np.stack(targets), labels)


def fixed_scores(fixed: FixedSet, translated: np.ndarray) -> dict[str, float]:
    """L1 (percent of the range), PSNR and, for class labels, the segmentation scores of a FixedSet's translations."""
    pairs = list(zip(fixed.targets, translated, strict=True))
    scores = {
        "val_l1_percent": float(np.mean([image_metrics.l1(*pair) for pair in pairs])),
        "psnr_db": float(np.mean([image_metrics.psnr(*pair) for pair in pairs])),
    }
    if fixed.labels is not None:
        found = np.stack([classify(image, void=False) for image in translated])
        segmentation = image_metrics.segmentation_scores(image_metrics.class_histogram(fixed.labels, found))
        scores |= {name: segmentation[name] for name in SEGMENTATION}
    return scores


def ranked_by(scores: dict[str, float]) -> str:
    """The score that ranks the checkpoints."""
    return next(name for name in RANKED_BY if name in scores)


# ---- the table


def add_perceptual(rows: dict, metrics: PerceptualMetrics, photos: dict[str, list], data) -> dict[str, dict]:
    """Scores of whole sets by the row's name; those of single images join the rows.

    Args:
        photos: uint8 [H, W, 3] by the row's name and under `truth`.
        data: pairs, whose first photos are scored too, as `real photos`.
    """
    if len({image.shape for image in photos["truth"]}) > 1:
        raise UserError("perceptual metrics compare images of one size; these pairs have several")
    made = {name: np.stack(images) for name, images in photos.items()}
    truth = made.pop("truth")
    for name, found in metrics.of_images(truth, made).items():
        for scores, more in zip(rows[name].nearness, found, strict=True):
            scores |= more
    others = [encoding.as_pair(item, "label-to-photo")[1] for _, item in readable(data, len(truth), "pair")]
    enough = len(others) == len(truth) and {image.shape for image in others} == {truth.shape[1:]}
    sets = metrics.of_sets(truth, made | ({"real photos": np.stack(others)} if enough else {}))
    metrics.notes.append(f"real photos{'' if enough else ' left out'}: the first {len(others)} photos of {data.split}")
    return sets


def evaluate(options: Options, segment: Callable[[np.ndarray], np.ndarray] | None = None) -> dict:
    """Translates held-out pairs at their own size and scores the results.

    photo-to-label, with Cityscapes colours: the nearest of the 19 class colours to each pixel, counted in one histogram
    over the set; void is not scored, and a class that the set lacks counts as zero (the paper's script does both).
    label-to-photo: the same, of what a segmentation network sees in the generated photos.
    Always: L1, PSNR and SSIM of the images.

    Args:
        segment: a segmentation network of yours: photo uint8 [H, W, 3] -> class ids 0..18 [H, W]; it goes before
            options.segment_with.

    Returns:
        JSON values: rows (name -> score name -> value), what was scored; under "images" arrays for `sheet`.
    """
    networks, metrics = load_all(options.weights), PerceptualMetrics(options)
    if not options.disable_cpu_layers:
        networks = {name: faster(network, options.statistics) for name, network in networks.items()}
    metadata = next(iter(networks.values())).metadata
    direction = metadata["direction"]
    segment = segment or segment_with(options, direction)
    measured = bool(metrics.networks or metrics.lpips)
    if measured and direction != "label-to-photo":
        raise UserError(f"perceptual metrics compare photos; these weights translate {direction}")
    data = open_data(options.data_dir, options.split, direction, metadata.get("photo_side", "left"))
    announce(data, options.data_dir, f"{data.split} pairs")
    if direction != "grey-to-colour":
        refuse_withheld(data)
    rows = {name: Tally() for name in networks}
    shown = {name: [] for name in ("source", *networks, "truth")}
    photos = {name: [] for name in (*networks, "truth")} if measured else {}
    keep = set(np.linspace(0, min(options.limit, len(data)) - 1, SHOWN).astype(int).tolist())
    classes, scored, frequency, extremes = None, 0, 0, []
    for index, item in readable(data, options.limit, "pair"):
        source, target = encoding.as_pair(item, direction)
        if classes is None:  # decided by the first pair
            classes = direction != "grey-to-colour" and has_class_colours(item[1])
            classes = classes and (direction == "photo-to-label" or segment is not None)
        truth = classify(item[1], void=True) if classes else None
        results = {}
        for name, network in networks.items():
            results[name] = image = translate(network, source, options.statistics, seed=options.seed)
            rows[name].compare(target, image)
            if measured:
                photos[name].append(image)
            if classes:
                rows[name].count(truth, classes_in(image, segment))
                if direction == "photo-to-label":
                    rows.setdefault(f"{name}, void allowed", Tally()).count(truth, classify(image, void=True))
                    strict = rows.setdefault(f"{name}, only black ignored", Tally())
                    strict.count(black_ignored(item[1]), classify(image, void=False))
        if measured:
            photos["truth"].append(target)
        if classes:
            frequency = frequency + np.bincount(truth.ravel(), minlength=256)[: len(CLASSES)]
            add_bars(rows, truth, target, segment, metadata["image_px"])
        first = next(iter(networks))
        score_page.keep_extremes(extremes, rows[first].nearness[-1]["psnr_db"], [source, results[first], target])
        if index in keep:
            for name, image in {"source": source, **results, "truth": target}.items():
                shown[name].append(image)
        scored += 1
    if classes and direction == "photo-to-label":
        rows[f"all {CLASSES[int(np.argmax(frequency))]}"] = majority(frequency)
    sets = {}
    if measured:
        other = open_data(options.data_dir, "train", direction, metadata.get("photo_side", "left"))
        sets = add_perceptual(rows, metrics, photos, other)
    return {
        "weights": [str(path) for path in options.weights],
        "direction": direction,
        "preset": metadata["preset"],
        "steps": metadata["step"],
        "data": str(options.data_dir),
        "split": data.split,
        "data_notes": data.notes,
        "pairs_scored": scored,
        "image_px": metadata["image_px"],
        "statistics": options.statistics,
        "rows": {name: (rows[name].scores() if name in rows else {}) | sets.get(name, {}) for name in {**rows, **sets}},
        "metric_notes": metrics.notes,
        "images": shown,
        "extremes": score_page.extremes_sheet(extremes, ["ours", "truth"]),
    }


def load_all(paths: tuple[Path, ...]) -> dict:
    """Networks by the name of their row. Raises UserError if their directions differ."""
    if not paths:
        raise UserError("--weights wants at least one file")
    networks = [load(path) for path in paths]
    directions = sorted({network.metadata["direction"] for network in networks})
    if len(directions) > 1:
        raise UserError(f"the weights translate in different directions ({', '.join(directions)}); score them apart")
    if len(networks) == 1:
        return {"ours": networks[0]}
    names = [network.metadata.get("objective", network.metadata["preset"]) for network in networks]
    if len(set(names)) < len(names):
        names = [str(path.parent) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return dict(zip(names, networks, strict=True))


def segment_with(options: Options, direction: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """The network of --segment-with as a function from photos to class ids."""
    if options.segment_with is None:
        return None
    if direction != "label-to-photo":
        raise UserError(f"--segment-with judges generated photos; these weights make {direction.rpartition('-')[2]}s")
    network = load(options.segment_with)
    if network.metadata["direction"] != "photo-to-label":
        raise UserError(f"--segment-with wants photo-to-label weights; {options.segment_with} does the reverse")
    if not options.disable_cpu_layers:
        network = faster(network, options.statistics)
    return lambda photo: classify(translate(network, photo, options.statistics, seed=options.seed), void=False)


def classes_in(image: np.ndarray, segment) -> np.ndarray:
    """Class ids of a translated label, or of a generated photo as the segmentation network sees it."""
    return classify(image, void=False) if segment is None else segment(image)


def add_bars(rows: dict, truth: np.ndarray, target: np.ndarray, segment, image_px: int) -> None:
    """Rows that bound what can be reached: the truth itself, the truth seen at the network's size; or real photos."""
    if segment is not None:
        rows.setdefault("real photos", Tally()).count(truth, segment(target))
        return
    small = resize(target, image_px, image_px)
    again = encoding.decode(small.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1, target, "photo-to-label")
    rows.setdefault(f"truth at {image_px} px", Tally()).count(truth, classify(again, void=False))
    rows.setdefault("truth itself", Tally()).count(truth, classify(target, void=False))


def black_ignored(label: np.ndarray) -> np.ndarray:
    """Class ids of ground truth in which black alone is void: borders blended to another void colour count."""
    ids, colours = classify(label, void=False), label.astype(np.int32)
    black_is_nearer = np.square(colours).sum(2) < np.square(colours - PALETTE[ids]).sum(2)
    return np.where(black_is_nearer, VOID, ids).astype(np.uint8)


def table(result: dict) -> str:
    """The result as Markdown tables, with the paper's numbers beside ours."""
    lines = ["{pairs_scored} {split} pairs, {direction} at {image_px} px, statistics: {statistics}".format(**result)]
    rows = result["rows"]
    if any("mean_iou" in scores for scores in rows.values()):
        lines += ["", "| labels | per-pixel | per-class | class IoU |", "|---|---|---|---|"]
        for name, scores in rows.items():
            if "mean_iou" in scores:
                lines.append(f"| {name} | " + " | ".join(f"{scores[key]:.3f}" for key in SEGMENTATION) + " |")
        published = PUBLISHED_LABELS if result["direction"] == "photo-to-label" else PUBLISHED_PHOTOS
        lines += [f"| {name} | {a:.2f} | {b:.2f} | {c:.2f} |" for name, a, b, c in published]
        if result["direction"] == "label-to-photo":
            lines += ["", "not the paper's FCN-score: another network looks at the photos; the paper's is an FCN-8s"]
        else:
            lines += ["", "not comparable line by line: the paper's rows are 500 pairs, full-size networks, 200 epochs"]
    lines += ["", "| images | L1 % | PSNR dB | SSIM |", "|---|---|---|---|"]
    for name, scores in rows.items():
        if "psnr_db" in scores:
            cells = [protocol.cell(scores[key]) for key in ("l1_percent", "psnr_db", "ssim")]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    more = [key for key in protocol.more_columns(result) if "_lite0" in key or key.startswith(OF_SETS)]
    if more:
        lines += ["", "| photos | " + " | ".join(more) + " |", "|---|" + "---|" * len(more)]
        lines += protocol.table_rows(
            {**result, "rows": {name: rows[name] for name in rows if more[-1] in rows[name]}}, more
        )
        lines += ["", *result["metric_notes"]]
    return "\n".join(lines)


def sheet(columns: dict[str, list[np.ndarray]], count: int = SHOWN) -> np.ndarray:
    """Images in rows, one column for each name: source, translations, truth; brought to one size."""
    height, width = columns["source"][0].shape[:2]
    rows = [[resize(image, height, width) for image in row] for row in zip(*columns.values(), strict=True)]
    return grid(rows[:count], list(columns), cell_px=128)


def write(result: dict, folder: Path) -> None:
    """Writes scores.json, images.png and worst_best.jpg. Raises UserError if they cannot be written."""
    protocol.write(result, folder, sheet(result["images"]))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_evaluate(argv, __doc__)
    protocol.run(options, evaluate, table, write)


if __name__ == "__main__":
    main()
