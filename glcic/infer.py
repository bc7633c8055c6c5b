"""Completes photos of any size with a trained network.

python -m glcic.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png

python -m glcic.infer --weights WEIGHTS --input FOLDER --mask random --output FOLDER
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from common import completion, masks
from common.blending import Blend
from common.checkpoint import load_network, read_weights
from common.device import describe, open_device
from common.errors import UserError, one_line_errors
from common.images import find_images, read_image, write_image
from common.windows import WindowMode, plan
from glcic.model import STRIDE, CompletionNetwork

import paddle

SAMPLED = ("center", "random", "freeform")  # holes that need no file
CHUNK = 16  # photos of a folder held in memory at once
LOSSY = (".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Options:
    """Complete one photo, or a folder of them."""

    weights: Path
    """what `train` or `convert` wrote"""
    input: Path
    """a picture, or a folder of pictures"""
    output: Path
    """a picture to write, or a folder if the input is one; PNG keeps the known pixels exactly"""
    mask: str = "center"
    """the hole: a picture (white is hole), a folder of pictures named as the photos, or center, random, freeform"""
    invert_mask: bool = False
    """black is hole"""
    blend: Blend = "telea-poisson"
    """how the hole joins the photo; telea-poisson is the paper's post-processing (D14), paste is none"""
    window: WindowMode = "auto"
    """whole: the network sees the whole photo; hole: a window around each hole; auto: by the photo's size"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    seed: int = 0
    """of the random and freeform holes"""
    batch_size: int = 4
    """windows computed at once"""
    skip_existing: bool = False
    """leave out photos of a folder whose output is there already"""


def load(weights: str | Path) -> CompletionNetwork:
    """The completion network of a weights file, ready to complete; its `facts` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "glcic" or "completion" not in facts:
        raise UserError(f"{weights} holds no GLCIC completion network but weights of {facts.get('paper', 'unknown')}")
    network = CompletionNetwork(**facts["completion"])
    load_network(network, tensors, "completion", weights)
    network.eval()
    network.facts = facts
    return network


def complete(
    network: CompletionNetwork,
    image: np.ndarray,
    hole: np.ndarray,
    blend: Blend = "telea-poisson",
    window: WindowMode = "auto",
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        hole: bool [height, width], True where the photo is missing.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.
    """
    return complete_batch(network, [image], [hole], blend, window)[0]


def complete_batch(network, images, holes, blend="telea-poisson", window="auto", batch_size: int = 4) -> list:
    """`complete` for several photos of any sizes, whose windows share the network's batches."""

    def run(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return network(paddle.to_tensor(pixels), paddle.to_tensor(mask)).numpy()

    return completion.complete_batch(
        run, images, holes, **trained_on(network), stride=STRIDE, blend=blend, window=window, batch_size=batch_size
    )


def trained_on(network: CompletionNetwork) -> dict:
    """The picture side and the largest hole's share of it that the network knows."""
    return {"network_px": network.facts["image_px"], "largest_hole": network.facts["largest_hole"]}


# ---- command line


def complete_file(network: CompletionNetwork, options: Options) -> None:
    """One photo: reads, says what the network will be given, completes, writes."""
    image = read_image(options.input)
    hole = hole_for(options.input, image, options, 0)
    warning = masks.check_hole(hole, image, options.output.with_name(options.output.stem + "-hole.png"))
    seen = plan(hole, **trained_on(network), window=options.window)
    if warning:
        print(f"note: {warning}")
    need = memory_megabytes(network, hole.size, seen, options.batch_size)
    print(
        f"{options.input}: {image.shape[1]} x {image.shape[0]} px, hole {hole.mean():.2%}; about {need:,} MB of memory"
    )
    print("\n".join(f"  window {window}" for window in seen[:8]) + ("\n  …" if len(seen) > 8 else ""))
    completed = complete_batch(network, [image], [hole], options.blend, options.window, options.batch_size)
    write_image(options.output, completed[0])
    print(f"written: {options.output}")
    if options.output.suffix.lower() in LOSSY:
        print("note: this format changes known pixels a little; write a .png to keep them exactly")


def memory_megabytes(network: CompletionNetwork, photo_pixels: int, windows: list, batch_size: int) -> int:
    """Estimate of the whole process's peak: Paddle, the photo and its copies, the feature maps of one batch.

    The three constants were read off processes on the CPU; the tests hold them to what a large photo takes.
    """
    paddle_mb, photo_bytes, map_bytes_per_channel = 330, 45, 80
    batch = min(batch_size, len(windows)) * max((window.height * window.width for window in windows), default=0)
    channels = network.facts["completion"]["base_channels"]
    return round(paddle_mb + (photo_bytes * photo_pixels + map_bytes_per_channel * channels * batch) / 2**20)


def complete_folder(network: CompletionNetwork, options: Options) -> int:
    """A folder of photos, in batches. Returns the number that failed; summary.json names them."""
    photos = find_images(options.input)
    if not photos:
        raise UserError(f"there is no picture in {options.input}")
    targets = {photo: options.output / photo.relative_to(options.input).with_suffix(".png") for photo in photos}
    if len(set(targets.values())) < len(photos):  # a.jpg and a.png side by side
        targets = {photo: target.with_name(photo.name + ".png") for photo, target in targets.items()}
    todo = [photo for photo in photos if not (options.skip_existing and targets[photo].exists())]
    failed: dict[str, str] = {}
    with tqdm(total=len(todo), unit="photo", desc="completing") as bar:
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            ready = read_chunk(chunk, photos, options, failed)
            images, holes = [image for _, image, _ in ready], [hole for _, _, hole in ready]
            completed = complete_batch(network, images, holes, options.blend, options.window, options.batch_size)
            for (photo, _, _), picture in zip(ready, completed, strict=True):
                write_image(targets[photo], picture)
            bar.update(len(chunk))
    summary = {
        "completed": len(todo) - len(failed),
        "skipped": len(photos) - len(todo),
        "failed": failed,
        "weights": str(options.weights),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{summary['completed']} completed, {summary['skipped']} skipped, {len(failed)} failed")
    print("\n".join(f"  {reason}" for reason in failed.values()))
    return len(failed)


def read_chunk(chunk: list[Path], photos: list[Path], options: Options, failed: dict[str, str]) -> list[tuple]:
    """(path, image, hole) of each photo that can be read; the others are noted in `failed`."""
    ready = []
    for photo in chunk:
        try:
            image = read_image(photo)
            hole = hole_for(photo, image, options, photos.index(photo))
            warning = masks.check_hole(hole, image, options.output / f"{photo.stem}-hole.png")
            if warning:
                tqdm.write(f"note: {photo}: {warning}")
            ready.append((photo, image, hole))
        except UserError as problem:
            failed[str(photo)] = str(problem)
    return ready


def hole_for(photo: Path, image: np.ndarray, options: Options, index: int) -> np.ndarray:
    """The hole of a photo, bool [height, width]: sampled, or read from the mask file or folder."""
    height, width = image.shape[:2]
    if options.mask in SAMPLED:
        rng = np.random.default_rng((options.seed, index))
        if options.mask == "center":
            return masks.center(height, width)
        if options.mask == "freeform":
            return masks.freeform(height, width, rng)
        side = min(height, width)
        return masks.rectangle(height, width, (max(1, side * 3 // 8), max(1, side // 2)), rng)
    path = Path(options.mask)
    if path.is_dir():
        found = [mask for mask in find_images(path) if mask.stem == photo.stem]
        if not found:
            raise UserError(f"there is no mask named {photo.stem} in {path}")
        path = found[0]
    elif not path.exists():
        raise UserError(f"there is no mask {path}; give a picture, a folder, or one of {', '.join(SAMPLED)}")
    return masks.read_hole(path, height, width, options.invert_mask)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = tyro.cli(Options, args=argv, prog="python -m glcic.infer", description=__doc__)
    if not options.input.exists():
        raise UserError(f"there is no picture or folder {options.input}")
    place = open_device(options.device)
    network = load(options.weights)
    print(describe(place))
    if options.input.is_file():
        complete_file(network, options)
    elif complete_folder(network, options):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
