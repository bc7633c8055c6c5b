"""Holes that are neither rectangles nor strokes: overlapping blocks, the shapes of objects, thresholded noise.

A mask is bool [height, width], True where the image is missing. All chance comes from the generator passed in.
Outlines come from arithmetic, not from a drawing library, so that no version of one can change a hole.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import scipy  # whose parts are imported when they are used first
from PIL import Image

from common.errors import UserError
from common.imaging.io import decode

Shapes = Callable[[np.random.Generator], np.ndarray]  # draws one shape, bool [h, w], cropped to its box

TRIES = 100  # squares, places or windows that do not fit, before the hole is repaired
SMALLEST_OBJECT = 0.01  # fraction of its image; what is smaller in a class map is a splinter of an object
BORDER_PX = 5  # width of the border that runs around every object of a class map
CACHED_MAPS = 256  # class maps whose objects are kept: about 20 MB
FIGURE_PX = 96  # longer side of a drawn figure
PATTERN_PX, PATTERN_LEVEL = 10_000, 0.25  # side of the enlarged noise pattern; what is below this share is hole
PATTERN_CELLS = 600  # side of the noise pattern before it is enlarged
PATTERN_SCALE_PX = 128  # short side of the largest image that sees the pattern at its own scale


def _pixels(fraction: tuple[float, float], height: int, width: int) -> tuple[int, int]:
    """Fewest and most pixels of a hole whose part of the image lies between the ends of `share`."""
    fewest, most = math.floor(fraction[0] * height * width) + 1, math.ceil(fraction[1] * height * width) - 1
    if not fewest <= most < height * width:
        raise UserError(
            f"no hole covers {fraction[0]:.1%} to {fraction[1]:.1%} of {width} x {height} px; use a larger image"
        )
    return fewest, most


def with_area(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The hole grown or shrunk along its rim to exactly `pixels`: nearest pixels first, ties in reading order."""
    missing = pixels - int(mask.sum())
    inside = missing < 0
    distance = scipy.ndimage.distance_transform_edt(mask if inside else ~mask).ravel()
    distance[distance == 0] = np.inf  # the other side of the rim
    repaired = mask.copy()
    repaired.ravel()[np.argsort(distance, kind="stable")[: abs(missing)]] = not inside
    return repaired


# ---- blocks


def blocks(
    height: int, width: int, rng: np.random.Generator, fraction: tuple[float, float] = (0.2, 0.25)
) -> np.ndarray:
    """Several overlapping squares that cover `share` of the image together.

    Pathak et al. 2016, Sec. 3.3: several smaller, possibly overlapping blocks, up to a quarter of the image. No code
    was released: here sides are 1/8 to 3/8 of the short side (16 to 48 px of 128), places uniform among those inside
    the image, and a square that would go beyond the upper end is dropped.

    Raises:
        UserError: no whole number of pixels of this image lies in the share.
    """
    fewest, most = _pixels(fraction, height, width)
    short, pixels, dropped = min(height, width), 0, 0
    mask = np.zeros((height, width), bool)
    while pixels < fewest and dropped < TRIES:
        side = int(rng.integers(max(1, short // 8), max(1, short * 3 // 8), endpoint=True))
        top, left = (int(rng.integers(0, length - side, endpoint=True)) for length in (height, width))
        square = mask[top : top + side, left : left + side]
        new = square.size - int(square.sum())
        if 0 < new <= most - pixels:
            square[:] = True
            pixels += new
        else:
            dropped += 1
    return mask if pixels >= fewest else with_area(mask, fewest)


# ---- regions


def open_shapes(voc_dir: str | Path | None) -> Shapes:
    """What draws the shapes of random regions.

    Args:
        voc_dir: PASCAL VOC 2012: the objects of its class maps, each read when it is drawn. The folder that holds
            SegmentationClass, that folder itself, or the one above VOCdevkit. None: drawn figures, for which nothing
            is needed.

    Returns:
        generator -> bool [h, w], a shape cropped to its box. Safe to call from several threads. Raises UserError for a
        class map that is corrupt or none, and where no class map holds an object.

    Raises:
        UserError: there is no such folder, no class map in it, or the first one is corrupt or none.
    """
    if voc_dir is None:
        return _figure
    folder = Path(voc_dir)
    advice = "give the folder of PASCAL VOC 2012 (`python -m data.prepare voc --help`), or none for drawn shapes"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; {advice}")
    places = (folder / above / "SegmentationClass" for above in (".", "VOC2012", "VOCdevkit/VOC2012"))
    inside = next((place for place in places if place.is_dir()), folder)
    paths = sorted(path for path in inside.glob("*.png") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder} holds no SegmentationClass/*.png; {advice}")
    read = lru_cache(CACHED_MAPS)(_objects_of)
    read(paths[0])  # the wrong folder is told now, not in the middle of a training

    def draw(rng: np.random.Generator) -> np.ndarray:
        for number in chain(rng.integers(len(paths), size=TRIES), range(len(paths))):  # few maps may hold an object
            objects = read(paths[number])
            if objects:
                return objects[int(rng.integers(len(objects)))]
        raise UserError(f"the class maps in {inside} hold no object; {advice}")

    return draw


def _objects_of(path: Path) -> list[np.ndarray]:
    """The objects of a class map: connected regions of one class with the border around them, cropped to their box."""
    ids = _read_class_map(path)
    objects = []
    for kind in np.flatnonzero(np.bincount(ids.ravel(), minlength=21)[1:21]) + 1:
        _, labels, stats, _ = cv2.connectedComponentsWithStats((ids == kind).astype(np.uint8), connectivity=8)
        large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= SMALLEST_OBJECT * ids.size)
        for number in large[large > 0].tolist():  # 0 is all the rest
            left, top, columns, rows, _ = stats[number].tolist()
            reach = [
                slice(max(0, at - BORDER_PX), at + long + BORDER_PX) for at, long in ((top, rows), (left, columns))
            ]
            here, border = labels[tuple(reach)] == number, ids[tuple(reach)] == 255
            for _ in range(BORDER_PX):  # pixel by pixel, so that the shape stays connected
                here |= border & cv2.dilate(here.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            objects.append(_cropped(here))
    return objects


def _read_class_map(path: Path) -> np.ndarray:
    """uint8 [h, w]: 0 background, 1 to 20 classes, 255 border."""

    def numbers(image: Image.Image) -> np.ndarray:
        ids = np.array(image) if image.mode in ("P", "L") else None
        if ids is None or ((ids > 20) & (ids < 255)).any():
            raise UserError(
                f"{path} is no class map (numbers 0 to 20 and 255) but a photo or drawing; give the SegmentationClass "
                "of PASCAL VOC 2012"
            )
        return ids

    return decode(path, numbers, f"the class map {path}")


def _cropped(shape: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    return shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _figure(rng: np.random.Generator) -> np.ndarray:
    """A figure like a creature's silhouette: trunk, mostly a head, one to three pairs of limbs, grown together."""
    bones = _bones(rng)
    thickest = bones[:, 4:].max(1, keepdims=True)
    low = (np.minimum(bones[:, :2], bones[:, 2:4]) - thickest).min(0) - 0.1
    high = (np.maximum(bones[:, :2], bones[:, 2:4]) + thickest).max(0) + 0.1
    x, y = (np.arange(low[axis], high[axis], (high - low).max() / FIGURE_PX) for axis in (0, 1))
    sway, turns, start = rng.uniform(0.02, 0.06, 2), rng.uniform(2, 5, 2), rng.uniform(0, 2 * math.pi, 2)
    x, y = (  # so that no edge is straight
        x + sway[0] * np.cos(turns[0] * y + start[0])[:, None],
        y[:, None] + sway[1] * np.cos(turns[1] * x + start[1]),
    )
    field = np.zeros(x.shape)
    for x0, y0, x1, y1, r0, r1 in bones:
        across, down = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * across + (y - y0) * down) / (across**2 + down**2), 0, 1)
        distance = np.sqrt((x - x0 - along * across) ** 2 + (y - y0 - along * down) ** 2)
        field += np.exp((r0 + along * (r1 - r0) - distance) / 0.04)  # the sum of two rounds the corner between them
    return _cropped(field >= 1)


def _bones(rng: np.random.Generator) -> np.ndarray:
    """Float [n, 6]: x and y of both ends of each bone and its radius there; the trunk is 1 long."""
    bones = []

    def grow(at: tuple[float, float], towards: float, length: float, radii: tuple) -> list[tuple[float, float]]:
        joints = [at]
        for radius, following in pairwise(radii):
            (x, y), towards = joints[-1], towards + rng.uniform(-0.5, 0.5)
            joints.append((x + length * math.cos(towards), y + length * math.sin(towards)))
            bones.append((x, y, *joints[-1], radius, following))
        return joints

    joints = grow((0, 0), 0, 0.5, rng.uniform(0.12, 0.36, 3))
    if rng.random() < 0.7:
        grow(joints[-1], rng.uniform(-0.8, 0.8), rng.uniform(0.15, 0.3), (0.12, 0.1, rng.uniform(0.12, 0.22)))
    for _ in range(int(rng.integers(1, 4))):
        joint, towards = joints[int(rng.integers(3))], rng.choice((-1, 1)) * rng.uniform(0.7, 2.4)
        length, radius = rng.uniform(0.25, 0.5), rng.uniform(0.07, 0.15)
        for aside in (-0.4, 0.4):
            grow(joint, towards + aside, length, (radius, radius, radius / 2))
    return np.array(bones)


def region(
    height: int, width: int, rng: np.random.Generator, shapes: Shapes, fraction: tuple[float, float] = (0.05, 0.25)
) -> np.ndarray:
    """The shape of an object, deformed and laid anywhere, so that it covers `share` of the image.

    Pathak et al. 2016, Sec. 3.3: arbitrary shapes from PASCAL VOC 2012, deformed and pasted at arbitrary places, up to
    a quarter of the image; at least a twentieth here. A shape is mirrored, stretched to up to twice its aspect,
    turned by any angle, scaled and laid with its middle anywhere in the image, whose edge may cut it. Where no shape
    fits, the best is grown or shrunk along its rim.

    Args:
        shapes: what draws a shape, see `open_shapes`.

    Raises:
        UserError: no whole number of pixels of this image lies in the share; whatever `shapes` raises.
    """
    fewest, most = _pixels(fraction, height, width)
    best, amiss = np.zeros((height, width), bool), math.inf
    best[height // 2, width // 2] = True
    for _ in range(TRIES):
        mask = _laid(shapes(rng), height, width, rng.uniform(*fraction) * height * width, rng)
        pixels = int(mask.sum())
        if fewest <= pixels <= most:
            return mask
        if pixels and max(fewest - pixels, pixels - most) < amiss:
            best, amiss = mask, max(fewest - pixels, pixels - most)
    return with_area(best, min(max(int(best.sum()), fewest), most))


def _laid(shape: np.ndarray, height: int, width: int, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """The shape deformed, at a size of about `pixels` and with its middle anywhere in an image."""
    stretch, angle = 2 ** rng.uniform(-0.5, 0.5), rng.uniform(0, 2 * math.pi)
    scale = math.sqrt(pixels / shape.sum())
    down, across = scale / stretch, scale * stretch * rng.choice((-1, 1))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    laid = turn * (down, across)  # (row, column) of the shape -> of the image
    middle, reach = rng.uniform(0, (height, width)), np.abs(laid) @ shape.shape / 2
    low = np.clip(np.floor(middle - reach), 0, (height, width)).astype(int)
    high = np.clip(np.ceil(middle + reach), 0, (height, width)).astype(int)
    back = np.linalg.inv(laid)
    padded = np.pad(shape, 3).astype(np.float32)
    if scale > 1:
        padded = scipy.ndimage.gaussian_filter(padded, 1)  # no steps along the edge
    offset = back @ (low + 0.5 - middle) + np.array(padded.shape) / 2 - 0.5
    mask = np.zeros((height, width), bool)
    if (high > low).all():
        box = scipy.ndimage.affine_transform(padded, back, offset, output_shape=tuple(high - low), order=1)
        mask[low[0] : high[0], low[1] : high[1]] = box >= 0.5
    return mask


# ---- noise


@lru_cache(maxsize=1)
def noise_pattern(seed: int) -> np.ndarray:
    """The noise behind the pattern of `noise`, float [600, 600], uniform in 0..255; depends on the seed only."""
    return np.random.default_rng(seed).uniform(0, 255, (PATTERN_CELLS, PATTERN_CELLS))


def noise(
    height: int, width: int, rng: np.random.Generator, pattern: np.ndarray, fraction: tuple[float, float] = (0.2, 0.3)
) -> np.ndarray:
    """A window of a fixed pattern of blobs (about 17 px wide) that covers `share` of the image.

    The random regions of Pathak et al.'s published code: noise of 600 x 600 cells is enlarged to 10,000 x 10,000 px
    (cubic, a = -0.5, corners aligned), what is below a quarter of its range is hole, and windows at uniform places are
    drawn until one fits. Only the window is computed here.

    The code was published for 64 and 128 px. Over many blobs the share settles at the pattern's 17 %, and no window
    would fit; so an image whose short side is longer than 128 px gets what one of 128 px would, enlarged. An image
    so long that no window fits all the same has the threshold raised until it does.

    Args:
        pattern: see `noise_pattern`.

    Raises:
        UserError: no whole number of pixels of this image lies in the share.
    """
    fewest, most = _pixels(fraction, height, width)
    step = min(1.0, PATTERN_SCALE_PX / min(height, width))
    coarse = slice(None, None, max(1, min(height, width) // PATTERN_SCALE_PX))
    for _ in range(TRIES):
        starts = (int(rng.uniform(0, PATTERN_PX - length * step)) for length in (height, width))
        rows, columns = (
            start + (np.arange(length) + 0.5) * step - 0.5
            for start, length in zip(starts, (height, width), strict=True)
        )
        glance = _enlarged(pattern, rows[coarse], columns[coarse]) < PATTERN_LEVEL * 255  # all of a small image
        if fraction[0] < glance.mean() < fraction[1]:
            mask = _enlarged(pattern, rows, columns) < PATTERN_LEVEL * 255
            if fewest <= mask.sum() <= most:
                return mask
    values, wanted = _enlarged(pattern, rows, columns), int(rng.integers(fewest, most, endpoint=True))
    return values <= np.partition(values.ravel(), wanted - 1)[wanted - 1]


def _enlarged(pattern: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The enlarged pattern's values at these rows and columns, which count its pixels from 0 to PATTERN_PX - 1."""
    down, across = (
        places * ((cells - 1) / (PATTERN_PX - 1)) for places, cells in zip((rows, columns), pattern.shape, strict=True)
    )
    top, left = max(0, math.floor(down[0]) - 1), max(0, math.floor(across[0]) - 1)
    part = pattern[top : math.floor(down[-1]) + 3, left : math.floor(across[-1]) + 3]
    return _cubic(_cubic(part.T, across - left).T, down - top)


def _cubic(cells: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Between the rows of `cells` [n, m] at fractional `places`: [places, m]; beyond its ends it goes on as there."""
    base = np.floor(places).astype(int)
    past = (places - base)[:, None]
    between = np.zeros((len(places), cells.shape[1]))
    for step in (-1, 0, 1, 2):
        far = np.abs(past - step)
        weight = (1.5 * far - 2.5) * far**2 + 1 if step in (0, 1) else ((2.5 - 0.5 * far) * far - 4) * far + 2
        between += weight * cells[np.clip(base + step, 0, len(cells) - 1)]
    return between
