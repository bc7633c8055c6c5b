"""Masks of the Context Encoder (Sec. 3.3): the central region, random blocks, random regions."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from common.errors import UserError
from common.masks import irregular
from context_encoder.config import Kind

PATTERN_SEED = 0  # the release draws one pattern when it starts


def center(image_px: int, overlap_px: int = 4) -> np.ndarray:
    """The square in the middle, half as wide as the image less the visible ring: 56 px of 128.

    The square of 64 px is predicted; of it the network sees a ring of `overlap_px`.

    Returns:
        bool [image_px, image_px].
    """
    mask = np.zeros((image_px, image_px), bool)
    start, end = image_px // 4 + overlap_px, image_px * 3 // 4 - overlap_px
    mask[start:end, start:end] = True
    return mask


def sampler(
    kind: Kind, image_px: int, overlap_px: int = 4, shapes_dir: Path | None = None
) -> Callable[[np.random.Generator], np.ndarray]:
    """Returns the function that samples a training mask: rng -> bool [image_px, image_px].

    Args:
        kind: `center`; `blocks`, several overlapping squares, up to a quarter of the image; `regions`, the shape of
            an object, deformed and anywhere, 5 to 25 %; `noise`, thresholded noise, 20 to 30 %: what the release does
            under the name of random regions (D7).
        shapes_dir: PASCAL VOC 2012, for `regions`; None uses shapes of our own.

    Raises:
        UserError: no such kind, or no shapes in the folder.
    """
    if kind == "center":
        mask = center(image_px, overlap_px)
        return lambda rng: mask
    if kind == "blocks":
        return lambda rng: irregular.blocks(image_px, image_px, rng)
    if kind == "regions":
        shapes = irregular.open_shapes(shapes_dir)
        return lambda rng: irregular.region(image_px, image_px, rng, shapes)
    if kind == "noise":
        pattern = irregular.noise_pattern(PATTERN_SEED)
        return lambda rng: irregular.noise(image_px, image_px, rng, pattern)
    raise UserError(f"there are no masks of the kind {kind!r}; choose from {', '.join(get_args(Kind))}")
