"""Measures windows and blendings on aligned faces at their own size: the table by which the defaults were chosen.

python -m benchmarks.framing --weights weights/glcic_faces.safetensors --data-dir celeba

Choose on validation faces; the test split is for reporting.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from common.checkpoint.weights import read_weights
from common.config import at_least
from common.datasets.image_folder import open_images
from common.errors import UserError
from common.evaluation import image_metrics
from common.imaging.transforms import ALIGNED, aligned_scale
from common.inpainting import baselines
from common.masks import benchmark_sets
from common.runtime.commands import one_line_errors
from common.runtime.device import open_device

WAYS = (  # window and blending
    *[("auto", blend) for blend in ("poisson", "telea-poisson", "paste", "feather")],
    *[(window, "poisson") for window in ("whole", "mask")],
)
BOXES = {  # left, top, right, bottom on 178 x 218 px
    "centre 54 px": (62, 82, 116, 136),
    "centre 80 px": (49, 69, 129, 149),
    "eyes": (44, 95, 134, 130),
    "mouth": (60, 140, 118, 170),
    "top, beyond square178": (40, 0, 138, 40),
}
STROKES = {"strokes 3 px": 3, "strokes 8 px": 8, "strokes 16 px": 16}
SAMPLED = ("random", "blocks", "freeform")
KINDS = (*BOXES, *STROKES, *SAMPLED)


@dataclass(frozen=True)
class Options:
    """Score windows and blendings of one network on aligned faces."""

    weights: Path
    """Weights of a network that fills masks in one pass."""
    data_dir: Path
    """Aligned CelebA."""
    split: str = "val"
    """Split to score: train, val or test."""
    limit: int = 30
    """Number of faces to score."""
    kinds: tuple[str, ...] = ()
    """Rows of the table to score; all if none is given."""


def mask_of(kind: str, height: int, width: int, index: int) -> np.ndarray:
    """The mask of face `index`, bool [height, width], True where the face is missing."""
    rng = np.random.default_rng((7, index))
    if kind in SAMPLED:
        return benchmark_sets.evaluation_masks(kind, index + 1, height, width)[0][index]
    scale, mask = width / ALIGNED[0], np.zeros((height, width), np.uint8)
    if kind in BOXES:
        left, top, right, bottom = (round(place * scale) for place in BOXES[kind])
        mask[top:bottom, left:right] = 1
    else:
        for _ in range(3):
            points = np.cumsum(np.r_[rng.integers(20, 158, (1, 2)), rng.integers(-40, 41, (5, 2))], axis=0)
            points = np.clip(points, 0, ALIGNED) * scale
            cv2.polylines(mask, [points.astype(np.int32)], False, 1, round(STROKES[kind] * scale))
    return mask > 0


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Prints a Markdown table of hole PSNR, the mean over faces."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.framing", description=__doc__)
    at_least(options, limit=1)
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"there is no row {unknown[0]!r}; choose from {', '.join(KINDS)}")
    open_device("cpu")
    module = importlib.import_module(f"{read_weights(options.weights)[1]['paper']}.infer")
    network = module.faster(module.load(options.weights))
    images = open_images(options.data_dir, options.split)
    faces = [images[index] for index in range(min(options.limit, len(images)))]
    if any(aligned_scale(*face.shape[:2]) is None for face in faces):
        raise UserError(f"{options.data_dir} has images of another shape than aligned CelebA's, 178 x 218 px")
    print("| hole PSNR dB | Telea | " + " | ".join(f"{window}, {blend}" for window, blend in WAYS) + " |")
    print("|---" * (2 + len(WAYS)) + "|")
    for kind in options.kinds or KINDS:
        masks = [mask_of(kind, *face.shape[:2], index) for index, face in enumerate(faces)]
        ways = [[baselines.telea(face, mask) for face, mask in zip(faces, masks, strict=True)]]
        ways += [module.complete_batch(network, faces, masks, window=window, blend=blend) for window, blend in WAYS]
        scores = [
            np.mean([image_metrics.score(*each)["hole_psnr_db"] for each in zip(faces, results, masks, strict=True)])
            for results in ways
        ]
        print(f"| {kind} | " + " | ".join(f"{score:.2f}" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
