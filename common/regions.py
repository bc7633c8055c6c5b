"""Holes of irregular shape: overlapping blocks, the shapes of objects, thresholded noise.

A hole is bool [height, width], True where the picture is missing. All chance comes from the generator passed in.
Everything is drawn with arithmetic, not with a drawing library, so that no version of one can change a hole.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from common.errors import UserError

Shapes = Callable[[np.random.Generator], np.ndarray]  # draws one shape, bool [h, w], cropped to its box

TRIES = 200  # of blocks, windows and regions, before a plain one is taken
DRAWN_PX = 96  # canvas of the drawn shapes
SMALLEST_OBJECT = 0.01  # share of its picture; smaller objects of the class maps are fragments
PATTERN_CELLS, PATTERN_PX, PATTERN_LEVEL = 600, 10_000, 0.25  # of the noise pattern
PATTERN_SCALE_PX = 128  # a picture this large sees the pattern at its own scale


# ---- blocks


def blocks(height: int, width: int, rng: np.random.Generator, share: tuple[float, float] = (0.2, 0.25)) -> np.ndarray:
    """Several overlapping squares that cover `share` of the picture together.

    Pathak et al. 2016, Sec. 3.3: smaller, possibly overlapping blocks, up to a quarter of the picture. No code was
    released; sides are 1/8 to 3/8 of the short side (16 to 48 px of 128), and a square that would go beyond the upper
    end is drawn anew. Pictures of a few pixels may get less.
    """
    hole, short = np.zeros((height, width), bool), min(height, width)
    fewest, most = math.ceil(share[0] * hole.size), math.floor(share[1] * hole.size)
    shortest, longest = max(1, short // 8), max(1, short * 3 // 8)
    for _ in range(TRIES):
        if hole.sum() >= fewest:
            break
        before = hole.copy()
        side = int(rng.integers(shortest, longest, endpoint=True))
        top, left = (int(rng.integers(0, length - side, endpoint=True)) for length in (height, width))
        hole[top : top + side, left : left + side] = True
        if hole.sum() > most:
            hole, longest = before, max(shortest, side - 1)
    return hole


# ---- regions


def open_shapes(voc_dir: str | Path | None) -> Shapes:
    """What draws the shapes of random regions.

    Args:
        voc_dir: PASCAL VOC 2012, or its folder SegmentationClass: the objects of its class maps, read as needed. None:
            drawn figures of a body, limbs and a head.

    Raises:
        UserError: there is no such folder, or no class map in it; later, from the shapes, a broken class map.
    """
    if voc_dir is None:
        return _figure
    folder = Path(voc_dir)
    for inside in (folder / "SegmentationClass", *folder.glob("VOCdevkit/VOC2012/SegmentationClass"), folder):
        if inside.is_dir() and any(inside.glob("*.png")):
            return _objects(sorted(inside.glob("*.png")))
    what = "is no folder" if not folder.is_dir() else "holds no SegmentationClass/*.png"
    raise UserError(
        f"{folder} {what}; give the folder of PASCAL VOC 2012 (`python -m data.prepare voc --help`), or none for drawn "
        "shapes"
    )


def _objects(paths: list[Path]) -> Shapes:
    def draw(rng: np.random.Generator) -> np.ndarray:
        for _ in range(TRIES):
            found = _objects_of(paths[int(rng.integers(len(paths)))])
            if found:
                return found[int(rng.integers(len(found)))]
        raise UserError(f"the class maps in {paths[0].parent} hold no object")

    return draw


@lru_cache(maxsize=256)
def _objects_of(path: Path) -> list[np.ndarray]:
    """The connected objects of a class map, borders (255) included, each bool and cropped to its box."""
    try:
        with Image.open(path) as opened:
            if opened.mode not in ("P", "L"):
                raise UserError(f"{path} is no class map but a picture of mode {opened.mode}")
            ids = np.asarray(opened)
    except (OSError, ValueError, SyntaxError) as problem:
        raise UserError(f"cannot read the class map {path}: {problem}") from None
    if ((ids > 20) & (ids < 255)).any():
        raise UserError(f"{path} is no class map: it has values other than 0 to 20 and 255")
    _, labels, stats, _ = cv2.connectedComponentsWithStats((ids > 0).astype(np.uint8), connectivity=8)
    objects = []
    for number, (left, top, columns, rows, pixels) in enumerate(stats[1:].tolist(), 1):
        box = np.s_[top : top + rows, left : left + columns]
        mine = labels[box] == number
        if pixels >= SMALLEST_OBJECT * ids.size and (ids[box][mine] < 255).any():
            objects.append(mine)
    return objects


def _figure(rng: np.random.Generator) -> np.ndarray:
    """A body with a wavy outline, two to five tapering limbs, and often a head."""
    y, x = np.mgrid[:DRAWN_PX, :DRAWN_PX] - (DRAWN_PX - 1) / 2
    angle, far = np.arctan2(y, x), np.hypot(x, y / rng.uniform(0.8, 1.8))
    outline = np.full_like(angle, DRAWN_PX * rng.uniform(0.13, 0.22))
    base = outline.copy()
    for waves in range(2, 7):
        outline += base * rng.uniform(0, 0.7) / waves * np.cos(waves * angle + rng.uniform(0, 2 * math.pi))
    shape = far <= outline
    for limb in range(int(rng.integers(2, 6))):
        towards, reach = rng.uniform(0, 2 * math.pi), DRAWN_PX * rng.uniform(0.28, 0.46)
        along = x * math.cos(towards) + y * math.sin(towards)
        bend = rng.uniform(-0.25, 0.25) * np.clip(along, 0, reach) ** 2 / reach
        across = np.abs(-x * math.sin(towards) + y * math.cos(towards) - bend)
        thick = DRAWN_PX * rng.uniform(0.03, 0.09) * (1.4 - 0.8 * np.clip(along / reach, 0, 1))
        shape |= (along >= 0) & (along <= reach) & (across <= thick)
        if limb == 0 and rng.random() < 0.7:
            centre = reach * math.cos(towards), reach * math.sin(towards)
            shape |= np.hypot(x - centre[0], y - centre[1]) <= DRAWN_PX * rng.uniform(0.06, 0.12)
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    return shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def region(
    height: int,
    width: int,
    rng: np.random.Generator,
    shapes: Shapes,
    share: tuple[float, float] = (0.05, 0.25),
) -> np.ndarray:
    """The shape of an object, deformed and laid anywhere, so that it covers `share` of the picture.

    Pathak et al. 2016, Sec. 3.3: arbitrary shapes from PASCAL VOC 2012, deformed and pasted at arbitrary places, up to
    a quarter of the picture. Here a shape is mirrored, turned by any angle, stretched by up to 1.4, scaled, and placed
    with its middle anywhere in the picture; its edge may cut it.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(TRIES):
        shape = shapes(rng)
        stretch, angle = math.exp(rng.uniform(-0.34, 0.34)), rng.uniform(0, 2 * math.pi)
        size = math.sqrt(rng.uniform(*share) * height * width / shape.sum())  # picture pixels per shape pixel
        sides = size * stretch * rng.choice([-1, 1]), size / stretch
        down, right = y - rng.uniform(0, height), x - rng.uniform(0, width)
        column = (right * math.cos(angle) + down * math.sin(angle)) / sides[0] + shape.shape[1] / 2
        row = (down * math.cos(angle) - right * math.sin(angle)) / sides[1] + shape.shape[0] / 2
        on = (row >= 0) & (row < shape.shape[0]) & (column >= 0) & (column < shape.shape[1])
        hole = np.zeros((height, width), bool)
        hole[on] = shape[row[on].astype(int), column[on].astype(int)]
        if share[0] <= hole.mean() <= share[1]:
            return hole
    middle = (y / height - 0.5) ** 2 + (x / width - 0.5) ** 2
    return middle <= sum(share) / 2 / math.pi  # an ellipse, for pictures that no shape fits


# ---- noise


@lru_cache(maxsize=1)
def noise_pattern(seed: int) -> np.ndarray:
    """The grid behind the thresholded noise of Pathak et al.'s release: uniform in 0..255, [600, 600]."""
    return np.random.default_rng(seed).uniform(0, 255, (PATTERN_CELLS, PATTERN_CELLS))


def noise(
    height: int,
    width: int,
    rng: np.random.Generator,
    pattern: np.ndarray,
    share: tuple[float, float] = (0.2, 0.3),
) -> np.ndarray:
    """A window of the noise pattern that covers `share` of the picture.

    Pathak et al.'s train_random.lua: the grid enlarged to 10,000 x 10,000 px (cubic, a = -0.5, corners aligned), all
    below a quarter of the range is hole; windows at random places until one fits. Only the window is computed. For
    pictures whose short side is longer than 128 px the pattern grows with them: over many of its blobs the share would
    settle at 17 % and no window would ever fit.
    """
    shrink = min(1.0, PATTERN_SCALE_PX / min(height, width))
    best, closest = None, math.inf
    for _ in range(TRIES):
        starts = (rng.uniform(0, PATTERN_PX - length * shrink) for length in (height, width))
        rows, columns = (
            _cubic(int(start) + np.arange(length) * shrink, len(pattern))
            for start, length in zip(starts, (height, width), strict=True)
        )
        (first, row_weights), (left, column_weights) = rows, columns
        part = pattern[first : first + row_weights.shape[1], left : left + column_weights.shape[1]]
        hole = row_weights @ part @ column_weights.T < PATTERN_LEVEL * 255
        covered = hole.mean()
        if share[0] < covered < share[1]:
            return hole
        away = max(share[0] - covered, covered - share[1])
        if away < closest:
            best, closest = hole, away
    return best


def _cubic(places: np.ndarray, cells: int) -> tuple[int, np.ndarray]:
    """First cell and weights [places, cells from there] that interpolate a line of cells at pattern pixels."""
    at = places * (cells - 1) / (PATTERN_PX - 1)
    base = np.floor(at).astype(int)
    first = max(0, base[0] - 1)
    weights = np.zeros((len(at), min(cells, base[-1] + 3) - first))
    for step in range(-1, 3):
        distance = np.abs(at - base - step)
        near = ((1.5 * distance - 2.5) * distance) * distance + 1
        farther = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = np.where(distance <= 1, near, np.where(distance < 2, farther, 0))
        np.add.at(weights, (np.arange(len(at)), np.clip(base + step, 0, cells - 1) - first), weight)
    return first, weights
