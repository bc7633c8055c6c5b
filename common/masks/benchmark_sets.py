"""Numbered sets of masks for evaluation: the same seed and version give the same masks on every machine."""

import hashlib
import math
import zlib

import numpy as np

from common.errors import UserError
from common.masks import generators, irregular, lama

GENERATOR_VERSION = 1  # raise it whenever a change below alters a single pixel of an evaluation set
KINDS = (
    *("center", "random", "freeform", "blocks", "regions", "noise"),
    *(f"area-{low or 1}-{low + 10}" for low in range(0, 60, 10)),
    *lama.KINDS,
)


def evaluation_masks(
    kind: str, count: int, height: int, width: int, seed: int = 0, shapes: irregular.Shapes | None = None
) -> tuple[np.ndarray, str]:
    """A numbered set of masks for measuring: mask i depends on the generator's version, kind, seed, i and size only.

    Args:
        kind: `center` (half of each side), `random` (a rectangle anywhere with sides of 3/8 to 1/2 of the image's),
            `freeform` (brush strokes), `blocks`, `regions` and `noise` (see `common.masks.irregular`), or `area-1-10`,
            `area-10-20` ... `area-50-60` (strokes that cover this many percent, the upper end excluded).
        shapes: of `regions`, from `regions.open_shapes`, and then the holes depend on it too; None draws figures.

    Returns:
        (bool [count, height, width], their `fingerprint`)

    Raises:
        UserError: there is no such kind, or no mask of it fits so small an image.
    """
    if kind not in KINDS:
        raise UserError(f"there are no masks of the kind {kind!r}; choose from {', '.join(KINDS)}, or name a folder")
    masks = np.zeros((count, height, width), bool)
    for i in range(count):
        words = [GENERATOR_VERSION, zlib.crc32(kind.encode()), seed, i, height, width]
        masks[i] = _evaluation_mask(kind, height, width, np.random.default_rng(words), shapes)
    return masks, fingerprint(masks)


def fingerprint(masks: np.ndarray) -> str:
    """The SHA-256, in hexadecimal, of the packed bits of masks [N, height, width]."""
    return hashlib.sha256(np.packbits(masks.reshape(len(masks), -1), axis=1).tobytes()).hexdigest()


def _evaluation_mask(kind: str, height: int, width: int, rng: np.random.Generator, shapes) -> np.ndarray:
    if kind == "center":
        return generators.center(height, width)
    if kind == "random":
        rows_px, columns_px = ((math.ceil(side * 3 / 8), side // 2) for side in (height, width))
        return generators.sized_rectangle(height, width, rows_px, columns_px, rng)
    if kind == "freeform":
        return generators.freeform(height, width, rng)
    if kind in ("blocks", "regions", "noise"):
        return irregular_mask(kind, height, width, rng, shapes)
    if kind in lama.KINDS:
        return lama.sample(kind, height, width, rng)
    low, high = kind.split("-")[1:]
    return generators.freeform_in_band(height, width, int(low) / 100, int(high) / 100, rng)


def irregular_mask(kind: str, height: int, width: int, rng: np.random.Generator, shapes=None) -> np.ndarray:
    """One hole of the kinds `blocks`, `regions` or `noise` of `common.masks.irregular`, with their usual shares."""
    if kind == "blocks":
        return irregular.blocks(height, width, rng)
    if kind == "regions":
        return irregular.region(height, width, rng, shapes or irregular.open_shapes(None))
    return irregular.noise(height, width, rng, irregular.noise_pattern(0))
