"""The most memory that DeepFill v2 takes for large images, at the release's width, and a training step, on a CPU.

    python -m benchmarks.memory --json docs/memory.json

Each row has a process of its own; the peak is that process's, Paddle and all.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro

from benchmarks import report
from benchmarks.worker import peak_megabytes
from common.config import at_least
from common.errors import UserError
from common.runtime.commands import one_line_errors

ROWS = {
    "photo": "`deepfill.infer`, photo of 4000 x 3000 px with a hole of 8 %",
    "windows-2048": "`deepfill.infer`, 2048 x 2048 px with a hole of 8 %",
    "whole-1024": "`deepfill.infer --window whole`, 1024 x 1024 px (scaled down to what the network knows)",
    "network-1024": "the network itself on 1024 x 1024 px",
    "compiled-1024": "the same, compiled, and what it takes to compile it",
    "network-2048": "the network itself on 2048 x 2048 px",
    "step-1": "one joint training step of GLCIC's `article`, 16 images of 128 px at once",
    "step-4": "the same with `--accumulate 4`, four images at once",
}
STEP_IMAGES = 16
KNOWN_PX = 256  # side of the release's training images
MASK = 0.08  # of the image's area


@dataclass(frozen=True)
class Options:
    """Measure peaks of memory."""

    rows: tyro.conf.Positional[tuple[str, ...]] = ()
    """none: all"""
    threads: int = 2
    """of each process"""
    json: Path | None = None
    """file for the result"""


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 [height, width, 3], and a hole in its middle of the same form, bool [height, width]."""
    from benchmarks.ours import Pictures

    mask, fraction = np.zeros((height, width), bool), np.sqrt(MASK) / 2
    rows, columns = (slice(int(side * (0.5 - fraction)), int(side * (0.5 + fraction))) for side in (height, width))
    mask[rows, columns] = True
    return Pictures(height, width)[0], mask


def complete(height: int, width: int, *flags: str) -> None:
    """Completes an image as a user does, by the command line, with initial weights of the release's shape."""
    from common.checkpoint.weights import save_weights
    from common.imaging.io import write_image
    from deepfill import infer
    from deepfill.model import Generator

    with tempfile.TemporaryDirectory() as folder:
        network = Generator()
        metadata = {"paper": "deepfill", "generator": network.arguments, "image_px": KNOWN_PX, "colours": "RGB"}
        weights = save_weights(Path(folder, "release.safetensors"), {"generator": network}, metadata)
        image, mask = scene(height, width)
        files = {name: str(Path(folder, f"{name}.png")) for name in ("input", "mask", "output")}
        write_image(Path(files["input"]), image)
        write_image(Path(files["mask"]), np.uint8(mask)[..., None].repeat(3, 2) * 255)
        given = [text for name, file in files.items() for text in (f"--{name}", file)]
        infer.main(["--weights", str(weights), "--device", "cpu", *given, *flags])


def run_network(side: int, compiled: bool) -> None:
    """Has the network of the release see a square image at its own size."""
    from common.imaging.transforms import to_network
    from common.runtime.device import open_device, paddle
    from deepfill.infer import faster
    from deepfill.model import Generator

    open_device("cpu")
    network = Generator()
    network.eval()
    image, mask = scene(side, side)
    inputs = [paddle.to_tensor(to_network(image[None])), paddle.to_tensor(np.float32(mask[None, None]))]
    with paddle.no_grad():
        if compiled:
            network = faster(network)
            network.compile_now(*inputs)
        network(*inputs)


def train_step(accumulate: int) -> None:
    """Does one step of all of GLCIC's networks on STEP_IMAGES images."""
    from benchmarks.ours import Pictures
    from common.runtime.device import open_device
    from glcic import train
    from glcic.config import ARTICLE

    open_device("cpu")
    cfg = replace(ARTICLE, batch_size=STEP_IMAGES, accumulate=accumulate)
    nets, optimizers = train.build(cfg)
    make, rng = train.sample_maker(Pictures(cfg.image_px, cfg.image_px), cfg), np.random.default_rng(0)
    batch = tuple(map(np.stack, zip(*(make(0, rng) for _ in range(STEP_IMAGES)), strict=True)))
    train.train_step(nets, optimizers, *train.to_tensors(batch), "joint", cfg)


def measure(name: str) -> dict:
    """Does a row, in a process that has done nothing else."""
    kind, _, side = name.partition("-")
    start = time.perf_counter()
    with redirect_stdout(sys.stderr):
        if kind in ("photo", "windows", "whole"):
            height, width = (int(side), int(side)) if side else (3000, 4000)
            complete(height, width, *(["--window", "whole"] if kind == "whole" else []))
        elif kind == "step":
            train_step(int(side))
        else:
            run_network(int(side), kind == "compiled")
    gigabytes = peak_megabytes() * 2**20 / 1e9
    return {"name": name, "gigabytes": round(gigabytes, 2), "seconds": round(time.perf_counter() - start, 1)}


def run(options: Options) -> dict:
    """Measures the rows that were chosen.

    Raises:
        UserError: a name that is none, or a process that was killed.
    """
    for name in options.rows:
        if name not in ROWS:
            raise UserError(f"there is no row {name!r}; choose from {', '.join(ROWS)}")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    result = {"machine": report.machine(options.threads), "rows": []}
    print("| | peak | seconds |\n|---|---|---|")
    for name in options.rows or ROWS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            try:
                result["rows"].append(process.submit(measure, name).result())
            except BrokenProcessPool:
                raise UserError(f"the process of {name} was killed; the memory may be too small") from None
        done = result["rows"][-1]
        print(f"| {ROWS[name]} | {done['gigabytes']:.2f} GB | {done['seconds']:.0f} |", flush=True)
        if options.json:
            report.write_json(options.json, result)
    return result


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.memory", description=__doc__)
    at_least(options, threads=1)
    run(options)


if __name__ == "__main__":
    main()
