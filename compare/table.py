"""Scores all completion papers, baselines and results of other methods on the same images and masks, in one table.

python -m compare table --data-dir DIR --output FOLDER --mask center random freeform --perceptual

What a network completed is kept below the folder, so that a second call goes on where the first one ended.
"""

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

import side_by_side
from common.checkpoint.atomic import replace_whole
from common.config import at_least, parse
from common.datasets.image_folder import announce
from common.datasets.paired_images import open_photos
from common.errors import UserError
from common.evaluation import comparison, protocol
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.io import write_image
from common.imaging.transforms import Crop
from common.masks.benchmark_sets import fingerprint
from common.runtime.commands import one_line_errors
from common.runtime.device import open_device
from common.runtime.strict_json import json_text

COLUMNS = ("hole_psnr_db", "hole_l1_percent", "image_ssim")
TIMED = 3  # images on which a baseline's milliseconds are measured


@dataclass(frozen=True, kw_only=True)
class Options(comparison.Options):
    """Score all completion papers, baselines and other methods' results in one table."""

    # ---- data
    output: Path = field()  # without a default, unlike in `evaluate`
    """The folder for table.md, table.json, a picture and the scores of each kind of masks; it is read again."""
    mask: tuple[str, ...] = ("center", "random", "freeform")
    """The masks, one table each: kinds as in `evaluate`, or folders of mask files."""
    papers: tuple[str, ...] = ()
    """The folders of the papers to compare; none takes all that complete images and have weights in weights/."""
    weights: tuple[Path, ...] = ()
    """Files in place of those in weights/; each is of one paper."""
    image_px: int = 128
    """The side to which images are brought; each paper brings them to its own size and back."""
    crop: Crop = "square178"
    """The crop of the images: square178 for aligned faces, or center."""


def run(options: Options) -> str:
    """Completes and scores; returns the tables as Markdown and writes them.

    Raises:
        UserError: the data, weights, masks or results cannot be read.
    """
    at_least(options, limit=1, seed=0, image_px=32)
    metrics, files = PerceptualMetrics(options), side_by_side.choose(options.papers, options.weights)
    dataset = open_photos(options.data_dir, options.split, options.pairs)
    announce(dataset, options.data_dir, f"{dataset.split} images")
    texts, results = [], {}
    for kind in dict.fromkeys(options.mask):
        test = comparison.open_set(dataset, options.image_px, options.crop, kind, options.limit, options.seed)
        folder = options.output / Path(kind).name
        completed, costs = {}, {}
        for paper, file in files.items():
            label = side_by_side.LABELS.get(paper, paper)
            completed[label], costs[label] = completions(folder / paper, paper, file, test, options.seed)
        result = comparison.compare(test, completed, options, metrics, options.data_dir)
        add_costs(result, test, costs)
        result |= {
            "split": dataset.split,
            "data": str(options.data_dir),
            "weights": [str(each) for each in files.values()],
        }
        shown = protocol.sheet(result, ("input", *result["rows"], "truth"))
        protocol.write(result, folder, shown, options.html)
        texts.append(f"## {kind}\n\n{protocol.table(result, [], COLUMNS)}\n")
        results[kind] = {key: value for key, value in result.items() if key not in protocol.NOT_JSON}
    text = "\n".join(texts)
    replace_whole(options.output / "table.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    replace_whole(options.output / "table.json", lambda temporary: temporary.write_text(protocol.to_json(results)))
    return text


def completions(folder: Path, paper: str, file: Path, test: comparison.EvaluationSet, seed: int) -> tuple:
    """What a paper makes of the set, uint8 [N, side, side, 3], with its costs; read from the folder if it is there.

    A folder counts only if it was written for these weights, images and masks.
    """
    asked = {
        "weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "images_sha256": hashlib.sha256(test.images.tobytes()).hexdigest(),
        "masks_sha256": fingerprint(test.masks),
        "seed": seed,
    }
    note = folder / "completed.json"
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        known = {}
    if all(known.get(key) == value for key, value in asked.items()):
        print(f"{paper}: completed before, read from {folder}")
        return comparison.read_results(folder, test), known["costs"]
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    network, seconds, made = side_by_side.load(paper, file), 0.0, []
    pairs = zip(test.images, test.masks, strict=True)
    for n, (image, mask) in enumerate(tqdm(pairs, f"{paper}, {test.kind}", len(test.images), leave=False)):
        result = side_by_side.ask_paper(paper, file, image, mask, seed=seed)
        if result.problem:
            raise UserError(f"{paper} cannot complete image {n} ({test.names[n]}): {result.problem}")
        seconds += result.seconds
        made.append(result.image)
        write_image(folder / comparison.file_name(n), result.image)
    costs = {"ms": 1000 * seconds / len(made), "mparameters": parameters(network) / 1e6}
    replace_whole(note, lambda temporary: temporary.write_text(json_text({**asked, "costs": costs}, indent=1)))
    return np.stack(made), costs


def parameters(network) -> int:
    """Trainable numbers of a network, or of all networks that a search uses."""
    parts = network if isinstance(network, tuple) else (network,)
    return sum(math.prod(value.shape) for part in parts if hasattr(part, "parameters") for value in part.parameters())


def add_costs(result: dict, test: comparison.EvaluationSet, costs: dict[str, dict]) -> None:
    """Puts milliseconds per image and millions of parameters into the rows; baselines are timed on three images."""
    for name, cost in costs.items():
        result["rows"][name] |= {f"cost_{key}": (value, math.nan) for key, value in cost.items()}
    for name, method in (protocol.FAST | protocol.SLOW).items():
        if name not in result["rows"]:
            continue
        start, count = time.perf_counter(), min(TIMED, len(test.images))
        for n in range(count):
            method(test.images[n], test.masks[n])
        result["rows"][name]["cost_ms"] = (1000 * (time.perf_counter() - start) / count, math.nan)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = parse(Options, argv, "python -m compare table", __doc__)
    protocol.check_folder(options.output)
    open_device(options.device, options.disable_cpu_layers)
    print(run(options))
    print(f"written: {options.output / 'table.md'}, {options.output / 'table.json'}")
