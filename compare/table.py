"""Scores all completion papers, baselines and results of other methods on the same images and masks, in one table.

python -m compare table --data-dir DIR --output FOLDER --mask center random freeform --perceptual

What each method completed is kept below the folder, so that a second call goes on where the first one ended.
"""

import functools
import hashlib
import importlib
import inspect
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.checkpoint.atomic import replace_whole
from common.config import at_least
from common.errors import UserError
from common.evaluation import comparison, protocol, results_folder
from common.evaluation.network_cost import counted_macs
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.io import write_image
from common.imaging.transforms import ALIGNED
from common.masks.benchmark_sets import fingerprint
from common.runtime.commands import one_line_errors
from common.runtime.device import open_device, paddle
from common.runtime.strict_json import json_text
from compare import photo
from compare.options import TableOptions as Options
from compare.options import read_table

COLUMNS = ("hole_psnr_db", "hole_l1_percent", "image_ssim")
CHUNK = 25  # images completed at once, and lost at most when the command is stopped
ROWS_SHOWN = 3  # of each kind of masks in the one picture of all
BY_BLOCKS = ("deepfill",)  # papers whose ConvBlock uses its kernel without calling it, see `counted_macs`
TIMING = {
    "cpu": "cost_ms: processor time for one image, all threads together, without the start of the program",
    "gpu": "cost_ms: time for one image, without the start of the program",
}

# (uint8 [N, H, W, 3], bool [N, H, W], number of the first) -> uint8 [N, H, W, 3]
Fill = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def run(options: Options) -> str:
    """Completes and scores; returns the tables as Markdown and writes them.

    Raises:
        UserError: the data, weights, masks or results cannot be read.
    """
    at_least(options, limit=1, seed=0, image_px=32, search_steps=1)
    folders, files = protocol.folder_names(options.mask), photo.choose(options.papers, options.weights)
    for paper, file in files.items():  # before the work, like all that may be a mistake
        photo.load(paper, file)
    metrics, dataset = PerceptualMetrics(options), comparison.open_data(options)
    images = comparison.open_images(dataset, options.image_px, options.crop, options.limit, options.seed)
    sets = {kind: comparison.masked(images, kind) for kind in folders}
    for kind, test in sets.items():
        comparison.check(test, replace(options, results=own_results(options.results, folders[kind])))
    about = {"split": dataset.split, "data": str(options.data_dir), "weights": [str(file) for file in files.values()]}
    texts, results, shown = [], {}, []
    for kind, test in sets.items():
        result = about | score(test, folders[kind], files, options, metrics)
        names = ("input", *result["rows"], "truth")
        protocol.write(result, options.output / folders[kind], protocol.sheet(result, names), options.html)
        texts.append(f"## {kind}\n\n{protocol.table(result, [], COLUMNS)}\n")
        results[kind] = {key: value for key, value in result.items() if key not in protocol.NOT_JSON}
        shown.append(protocol.sheet(result, names, ROWS_SHOWN))
    text = "\n".join(texts)
    replace_whole(options.output / "table.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    replace_whole(options.output / "table.json", lambda temporary: temporary.write_text(protocol.to_json(results)))
    replace_whole(options.output / "table.png", lambda temporary: write_image(temporary, stacked(shown)))
    return text


def own_results(folders: tuple[Path, ...], name: str) -> tuple[Path, ...]:
    """Other methods' folders for one kind of masks: that of its name in each, or if there is none itself."""
    return tuple(folder / name if (folder / name).is_dir() else folder for folder in folders)


def score(
    test: comparison.EvaluationSet, kind: str, files: dict[str, Path], options: Options, metrics: PerceptualMetrics
) -> dict:
    """Completes one set by every method and scores all alike: `comparison.compare`, with costs in the rows.

    Args:
        kind: what the folder of these masks is called.
    """
    folder = options.output / kind
    learned, classical, costs, notes = {}, {}, {}, []
    for paper, file in files.items():
        label = photo.LABELS.get(paper, paper)
        asked = {"weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "steps": options.search_steps}
        fill = paper_fill(paper, photo.load(paper, file), options)
        measure = functools.partial(size, paper, file, test, options)
        learned[label], costs[label] = completions(folder / paper, asked, test, fill, measure)
    for name, method in protocol.baselines_of(options.baselines).items():
        try:
            place = folder / re.sub(r"\W+", "_", name.lower())
            classical[name], costs[name] = completions(place, {}, test, baseline_fill(method))
        except UserError as problem:
            notes.append(f"{name} left out: {problem}")
    for results, own in zip(options.results, own_results(options.results, kind), strict=True):
        made = results_folder.read_results(own, test.names, test.images, test.masks)
        learned[comparison.row_name(results, learned)] = made
    inputs = options.write_inputs and options.write_inputs / kind
    rest = replace(options, results=(), write_inputs=inputs)
    result = comparison.compare(test, learned, rest, metrics, options.data_dir, classical)
    for name, cost in costs.items():
        result["rows"][name] |= {f"cost_{key}": (value, math.nan) for key, value in cost.items()}
    result["metric_notes"] += [*notes, TIMING["cpu" if on_cpu() else "gpu"]]
    return result


def stacked(sheets: list[np.ndarray]) -> np.ndarray:
    """Images of any widths below each other, on white."""
    width = max(sheet.shape[1] for sheet in sheets)
    return np.concatenate(
        [np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)), constant_values=255) for sheet in sheets]
    )


# ---- what the methods make of a set


def completions(
    folder: Path, asked: dict, test: comparison.EvaluationSet, fill: Fill, measure: Callable[[], dict] = dict
) -> tuple[np.ndarray, dict[str, float]]:
    """What a method makes of the set, uint8 [N, side, side, 3], and its costs: `ms` of one image, what `measure` finds.

    Both are kept in the folder. What is there counts if it was made of these images and masks by the method `asked`.
    """
    asked = asked | {
        "images_sha256": hashlib.sha256(test.images.tobytes()).hexdigest(),
        "masks_sha256": fingerprint(test.masks),
        "seed": test.seed,
        "crop": test.crop,
    }
    note, count = folder / "completed.json", len(test.images)
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        known = {}
    if any(known.get(key) != value for key, value in asked.items()):
        known = asked | {"images": 0, "seconds": 0.0}
    if known["images"]:
        print(f"{folder.name}, {test.kind}: {known['images']} of {count} images completed before, read from {folder}")
    with tqdm(total=count, initial=known["images"], desc=f"{folder.name}, {test.kind}", leave=False) as bar:
        for first in range(known["images"], count, CHUNK):
            part = slice(first, first + CHUNK)
            start = now()
            made = fill(test.images[part], test.masks[part], first)
            known["seconds"] += now() - start
            for n, image in enumerate(made, first):
                write_image(folder / results_folder.file_name(n), image)
            known["images"] = first + len(made)
            replace_whole(note, lambda temporary: temporary.write_text(json_text(known, indent=1)))
            bar.update(len(made))
    if "size" not in known:
        known["size"] = measure()
        replace_whole(note, lambda temporary: temporary.write_text(json_text(known, indent=1)))
    made = results_folder.read_results(folder, [""] * count, test.images, test.masks)
    return made, {"ms": 1000 * known["seconds"] / count, **known["size"]}


def on_cpu() -> bool:
    return paddle.get_device() == "cpu"


def now() -> float:
    """Seconds of a clock: on a CPU the process's own time, which other programs do not lengthen."""
    return time.process_time() if on_cpu() else time.perf_counter()


def baseline_fill(method: Callable) -> Fill:
    return lambda images, masks, first: np.stack([method(*pair) for pair in zip(images, masks, strict=True)])


def paper_fill(paper: str, network, options: Options) -> Fill:
    """A paper's own `complete_batch`, with its usual blending, on images in the frame of its training.

    A paper that refuses some image stops the comparison: UserError.
    """
    verb = importlib.import_module(f"{paper}.infer").complete_batch
    known = inspect.signature(verb).parameters
    wanted = {"seed": options.seed, "steps": options.search_steps}
    wanted = {name: value for name, value in wanted.items() if name in known}

    def fill(images: np.ndarray, masks: np.ndarray, first: int) -> np.ndarray:
        top, frames = 0, [*images]
        if options.crop == "square178":
            top, frames = in_aligned_frames(images)
            masks = np.pad(masks, ((0, 0), (top, len(frames[0]) - top - masks.shape[1]), (0, 0)))
        numbered = {"first": first} if "first" in known else {}
        try:
            made = verb(network, frames, [*masks], **wanted, **numbered)
        except UserError as problem:
            raise UserError(f"{paper} cannot complete images {first} to {first + len(images) - 1}: {problem}") from None
        return np.stack([image[top : top + images.shape[1]] for image in made])

    return fill


def in_aligned_frames(images: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """Squares in the middle of images of aligned CelebA's shape, by which a paper knows where the face is.

    Returns:
        (the square's first row, images whose rows above and below it are mirrored; no paper's frame has them)
    """
    side = images.shape[1]
    height = round(side * ALIGNED[1] / ALIGNED[0])
    top = (height - side) // 2
    return top, [np.pad(image, ((top, height - side - top), (0, 0), (0, 0)), "reflect") for image in images]


def size(paper: str, file: Path, test: comparison.EvaluationSet, options: Options) -> dict[str, float]:
    """Millions of parameters of a network, and 10^9 MACs of all their calls for the set's first image."""
    network = importlib.import_module(f"{paper}.infer").load(file)  # what `photo.load` compiles hides its layers
    blocks = (importlib.import_module(f"{paper}.model").ConvBlock,) if paper in BY_BLOCKS else ()
    with counted_macs(network, blocks) as macs:
        paper_fill(paper, network, options)(test.images[:1], test.masks[:1], 0)
    numbers = sum(math.prod(value.shape) for value in network.parameters())
    return {"mparameters": numbers / 1e6, "gmacs": sum(macs) / 1e9}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_table(argv, __doc__)
    protocol.check_folder(options.output)
    open_device(options.device, options.disable_cpu_layers)
    print(run(options))
    print(f"written: {options.output / 'table.md'}, {options.output / 'table.json'}, {options.output / 'table.png'}")
