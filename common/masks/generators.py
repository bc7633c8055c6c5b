"""Holes: samplers and numbered evaluation sets; `mask_reader` reads mask files.

A mask is bool [height, width], True where the image is missing. All chance comes from the generator passed in.
"""

import math

import numpy as np

from common.errors import UserError
from common.masks import irregular

BAND_TRIES, BAND_STROKES = 30, 60  # free-form holes drawn, and strokes in each, before the area is repaired


def rectangle(height: int, width: int, side_px: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One rectangle: both sides uniform and independent, its place uniform among those fully inside.

    Args:
        side_px: (shortest, longest) side in pixels, both included.

    Raises:
        UserError: the longest side does not fit into the image, or the range is empty.
    """
    shortest, longest = side_px
    if not 1 <= shortest <= longest <= min(height, width):
        raise UserError(
            f"a hole with sides of {shortest}..{longest} px does not fit an image of {width} x {height} px; "
            f"choose 1 <= shortest <= longest <= {min(height, width)}"
        )
    return sized_rectangle(height, width, side_px, side_px, rng)


def anywhere(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One `rectangle` with sides of 3/8 to 1/2 of the image's shorter side: `--mask random`."""
    side = min(height, width)
    return rectangle(height, width, (max(1, side * 3 // 8), max(1, side // 2)), rng)


def sized_rectangle(height: int, width: int, rows_px: tuple, columns_px: tuple, rng: np.random.Generator) -> np.ndarray:
    rows = int(rng.integers(*rows_px, endpoint=True))
    columns = int(rng.integers(*columns_px, endpoint=True))
    top = int(rng.integers(0, height - rows, endpoint=True))
    left = int(rng.integers(0, width - columns, endpoint=True))
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def center(height: int, width: int, fraction: float = 0.5) -> np.ndarray:
    """The box in the middle whose sides are `fraction` of the image's (at least one pixel)."""
    rows, columns = max(1, round(height * fraction)), max(1, round(width * fraction))
    top, left = (height - rows) // 2, (width - columns) // 2
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def freeform(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One to three brush strokes, as in the published code of Yu et al. 2019 (free-form masks).

    The numbers are those for 256 x 256 px; lengths follow the image's diagonal and brush widths its area.
    Unlike there the segments are drawn as exact capsules, so that no drawing library can change a hole.
    """
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(1, 4))):
        _stroke(mask, rng)
    return mask


def _stroke(mask: np.ndarray, rng: np.random.Generator) -> None:
    """Draws one zigzag with round joints into `mask`: 4..11 turns, brush 12..39 px of 256, steps around an 8th."""
    height, width = mask.shape
    vertices = int(rng.integers(4, 12))
    smallest = 2 * math.pi / 5 - rng.uniform(0, 2 * math.pi / 15)
    largest = 2 * math.pi / 5 + rng.uniform(0, 2 * math.pi / 15)
    brush_px = max(1, int(rng.uniform(12, 40) * math.sqrt(height * width) / 256))
    step_px = math.hypot(height, width) / 8
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    for turn in range(vertices):
        angle = rng.uniform(smallest, largest)
        if turn % 2 == 0:
            angle = 2 * math.pi - angle
        length = min(max(rng.normal(step_px, step_px // 2), 0), 2 * step_px)
        to_x = int(min(max(x + length * math.cos(angle), 0), width))
        to_y = int(min(max(y + length * math.sin(angle), 0), height))
        capsule(mask, x, y, to_x, to_y, brush_px / 2)
        x, y = to_x, to_y


def capsule(mask: np.ndarray, x: int, y: int, to_x: int, to_y: int, radius: float) -> None:
    """Sets all pixels within `radius` of the segment (x, y) - (to_x, to_y)."""
    reach = math.ceil(radius)
    top, bottom = max(0, min(y, to_y) - reach), min(mask.shape[0], max(y, to_y) + reach + 1)
    left, right = max(0, min(x, to_x) - reach), min(mask.shape[1], max(x, to_x) + reach + 1)
    rows = np.arange(top, bottom, dtype=np.float64)[:, None] - y
    columns = np.arange(left, right, dtype=np.float64)[None] - x
    across, down = to_x - x, to_y - y
    along = np.clip((columns * across + rows * down) / max(1, across * across + down * down), 0, 1)
    near = (columns - along * across) ** 2 + (rows - along * down) ** 2 <= radius * radius
    mask[top:bottom, left:right] |= near


def freeform_in_band(height: int, width: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Brush strokes, added until their fraction of the image is in [low, high).

    After a bounded number of tries the last hole is grown or shrunk evenly along its rim to the middle of the band.

    Raises:
        UserError: no whole number of pixels of this image lies in the band.
    """
    pixels = height * width
    fewest, most = max(1, math.ceil(low * pixels)), math.ceil(high * pixels) - 1
    if not fewest <= most < pixels:
        raise UserError(
            f"no hole covers {low:.1%} to {high:.1%} of {width} x {height} px; use a larger image or a wider band"
        )
    for _ in range(BAND_TRIES):
        wanted = int(rng.integers(fewest, most, endpoint=True))  # so that the shares fill the band
        mask = np.zeros((height, width), bool)
        for _ in range(BAND_STROKES):
            _stroke(mask, rng)
            if mask.sum() >= wanted:
                break
        if fewest <= mask.sum() <= most:
            return mask
    return irregular.with_area(mask, (fewest + most) // 2)
