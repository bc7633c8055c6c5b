"""How fast the readers deliver pictures, beside the bare decoder on the same files in the same run.

    python -m benchmarks.readers --data-dir DIR

The peer is a plain loop of `cv2.imread`. Rounds alternate between the two, because machines drift.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import tyro

from common.batches import Batches
from common.errors import one_line_errors
from common.image_folder import open_pictures
from common.images import crop_square

BATCH = 16


@dataclass(frozen=True)
class Options:
    """Measure reading."""

    data_dir: Path
    """an unpacked CelebA or a folder of pictures"""
    pictures: int = 960
    """per round"""
    rounds: int = 7
    """pairs of measurements"""
    workers: int = 2
    """threads of our reader"""
    json: Path | None = None
    """file for the result"""


def measure(options: Options) -> dict:
    """Pictures per second and ratios (ours / peer) of each round, as medians with their range."""
    pictures = open_pictures(options.data_dir, "train")
    count = min(options.pictures, len(pictures)) // BATCH * BATCH
    paths = [str(pictures.path(index)) for index in range(count)]

    def decode(index, rng):
        return (pictures[index],)

    def prepare(index, rng):
        return (crop_square(pictures[index], "random160", 96, rng),)

    rows = {"read": decode, "read, crop, resize to 96 px": prepare}
    rates = {name: [] for name in ("cv2.imread", *rows)}
    for _ in range(options.rounds + 1):  # the first round warms the disk cache
        rates["cv2.imread"].append(count / timed(lambda: [cv2.imread(path) for path in paths]))
        for name, make in rows.items():
            rates[name].append(count / timed(lambda make=make: drain(Batches(count, make, BATCH, 0, options.workers))))
    result = {"pictures": count, "rounds": options.rounds, "workers": options.workers}
    for name, values in rates.items():
        ratios = [ours / peer for ours, peer in zip(values[1:], rates["cv2.imread"][1:], strict=True)]
        result[name] = {
            "pictures_per_second": round(statistics.median(values[1:])),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
        }
    return result


def timed(work) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drain(batches: Batches) -> None:
    """Reads one epoch."""
    stream = batches(0)
    for _ in range(batches.count // BATCH):
        next(stream)
    stream.close()


@one_line_errors
def main(argv: list[str] | None = None) -> dict:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.readers", description=__doc__)
    result = measure(options)
    print(f"{result['pictures']} pictures, {result['workers']} workers, {result['rounds']} rounds")
    print("| | pictures per second | ratio to cv2.imread | range |\n|---|---|---|---|")
    for name, row in result.items():
        if isinstance(row, dict):
            span = f"{row['ratio_min']} .. {row['ratio_max']}"
            print(f"| {name} | {row['pictures_per_second']:,} | {row['ratio_median']} | {span} |")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
