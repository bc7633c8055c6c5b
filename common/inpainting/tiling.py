"""Through which windows, and at what scale, a network that knows one size sees a photo of any size."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from common.config import WindowMode
from common.imaging.transforms import ALIGNED, SQUARES, Crop, aligned_scale
from common.masks.components import components

Box = tuple[int, int, int, int]  # top, left, bottom, right; ends excluded

WHOLE_UP_TO = 2  # times the network's size: a photo of this short side is still seen whole
SNAP = 0.05  # a scale this near to 1 becomes 1, which spares two resamplings
LARGEST_INPUT = 16  # times the network's own number of pixels, for very long images


@dataclass(frozen=True)
class Window:
    """A part of a photo, and the size at which the network sees it.

    Attributes:
        top, left, bottom, right: its place in the photo, ends excluded.
        height, width: its size in the network's pixels, before padding to the stride.
        core: the box in the photo whose hole it fills.
        parts: numbers of the hole's connected parts (`masks.components`) it fills there.
        framed: whether this is the square that training cut from such photos; where it meets other windows it prevails.
    """

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int
    core: Box
    parts: tuple[int, ...]
    framed: bool = False

    def __str__(self) -> str:
        size = f"{self.right - self.left} x {self.bottom - self.top} px at ({self.left}, {self.top})"
        return f"{size}, seen as {self.width} x {self.height}"


def frame(height: int, width: int, crop: Crop | None) -> Box | None:
    """The part of an image of aligned CelebA's shape that training cut; None for another shape, and another crop.

    Networks that were trained on aligned faces know where in the square the eyes are. `random160` cut squares of many
    places and sizes: the largest, in the middle, stands for them.
    """
    scale = aligned_scale(height, width)
    if scale is None or crop not in (*SQUARES, "random160", "squash"):
        return None
    if crop == "squash":
        return 0, 0, height, width
    side = min(height, width, round(SQUARES.get(crop, ALIGNED[0]) * scale))
    top, left = (height - side) // 2, (width - side) // 2
    return top, left, top + side, left + side


def plan(
    mask: np.ndarray,
    *,
    network_px: int,
    largest_mask: float = 0.5,
    window: WindowMode = "auto",
    crop: Crop | None = None,
) -> list[Window]:
    """Chooses the windows through which the network sees a photo.

    * For a network trained on aligned faces and a photo of their shape: the square that training cut (`frame`), at
      the size of training. What is missing beyond that square gets windows by the other rules.
    * The whole photo, its short side scaled to `network_px`: if that short side is at most twice as long (the
      network's training images were probably framed alike), or `window` is "whole".
    * Otherwise windows of `network_px` at full resolution, each around those parts of the hole that fit together into
      the share `largest_mask` of it. A long thin part (a scratch) is covered by several overlapping ones.
    * A part too large for that gets its own window, scaled down until it fits, but never below the whole photo's scale.

    Photos are never enlarged, except to be seen whole.

    Args:
        mask: bool [height, width].
        network_px: side of the images the network was trained on.
        largest_mask: the largest hole it was trained on, as a fraction of that side.
        crop: how its training images were cut.

    Returns:
        The windows, none if the hole is empty.
    """
    if not mask.any():
        return []
    return plan_parts(mask, *components(mask), network_px, largest_mask, window, crop)


def plan_parts(
    mask, labels, boxes, network_px: int, largest_mask: float, window: WindowMode, crop: Crop | None = None
) -> list[Window]:
    """`plan`, given the hole's connected parts as `masks.components` returns them."""
    height, width = mask.shape
    square = frame(height, width, crop) if window == "auto" else None
    if square:
        return _framed(mask, labels, square, network_px, largest_mask)
    roughly_its_size = min(height, width) <= WHOLE_UP_TO * network_px and max(height, width) <= 4 * min(height, width)
    if window == "whole" or (window == "auto" and roughly_its_size):
        everything = (0, 0, height, width)
        parts = tuple(range(1, len(boxes) + 1))
        return [_seen(everything, network_px / min(height, width), network_px, everything, parts)]
    limit = max(1, int(network_px * largest_mask))
    small, windows = [], []
    for part, box in enumerate(boxes.tolist(), 1):
        longest = max(box[2] - box[0], box[3] - box[1])
        if longest <= limit:
            small.append((*box, part))
        elif longest > 2 * limit and _thickness(labels, part, box) <= limit:
            small.extend(_cells(labels, part, box, limit))
        else:
            windows.append(_window(mask.shape, tuple(box), (part,), math.ceil(longest / largest_mask), network_px))
    return windows + [_window(mask.shape, core, parts, network_px, network_px) for core, parts in _gather(small, limit)]


def _framed(mask: np.ndarray, labels: np.ndarray, square: Box, network_px: int, largest_mask: float) -> list[Window]:
    """The frame of training, if any of the hole lies in it, and windows for what lies beyond."""
    place = np.s_[square[0] : square[2], square[1] : square[3]]
    beyond = mask.copy()
    beyond[place] = False
    windows = []
    if mask[place].any():
        parts = tuple(np.unique(labels[place][mask[place]]).tolist())
        windows.append(Window(*square, network_px, network_px, square, parts, framed=True))
    if beyond.any():
        pieces, boxes = components(beyond)
        for one in plan_parts(beyond, pieces, boxes, network_px, largest_mask, "auto"):
            parts = tuple(np.unique(labels[np.isin(pieces, one.parts)]).tolist())
            windows.append(replace(one, parts=parts))
    return windows


def _seen(place: Box, scale: float, network_px: int, core: Box, parts: tuple[int, ...]) -> Window:
    height, width = place[2] - place[0], place[3] - place[1]
    scale = min(scale, math.sqrt(LARGEST_INPUT * network_px**2 / (height * width)))
    if abs(scale - 1) < SNAP:
        scale = 1
    return Window(*place, max(1, round(height * scale)), max(1, round(width * scale)), core, parts)


def _window(shape: tuple[int, int], core: Box, parts: tuple[int, ...], side_px: int, network_px: int) -> Window:
    """The square of `side_px` around a box, moved and cut to stay inside the photo."""
    place = []
    for start, end, length in zip(core[:2], core[2:], shape, strict=True):
        side = min(side_px, length)
        place.append(min(max((start + end - side) // 2, 0), length - side))
    top, left = place
    place = (top, left, top + min(side_px, shape[0]), left + min(side_px, shape[1]))
    scale = min(1, max(network_px / side_px, network_px / min(shape)))
    return _seen(place, scale, network_px, core, parts)


def _thickness(labels: np.ndarray, part: int, box: list[int]) -> float:
    """Twice the largest distance from a pixel of this part of the hole to the nearest pixel outside it."""
    around = np.s_[max(0, box[0] - 1) : box[2] + 1, max(0, box[1] - 1) : box[3] + 1]
    mine = (labels[around] == part).astype(np.uint8)
    if mine.all():
        return math.inf
    return 2 * float(cv2.distanceTransform(mine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())


def _cells(labels: np.ndarray, part: int, box: list[int], limit: int) -> list[tuple[int, ...]]:
    """Boxes of at most `limit` px that cover a long thin part, one overlapping the next by a quarter."""
    step, cells = max(1, limit * 3 // 4), []
    starts = [
        range(start, max(start + 1, end - limit + step), step) for start, end in zip(box[:2], box[2:], strict=True)
    ]
    for top in starts[0]:
        for left in starts[1]:
            rows, columns = np.nonzero(labels[top : min(top + limit, box[2]), left : min(left + limit, box[3])] == part)
            if len(rows):
                ends = top + int(rows.max()) + 1, left + int(columns.max()) + 1
                cells.append((top + int(rows.min()), left + int(columns.min()), *ends, part))
    return cells


def _gather(small: list[tuple[int, ...]], limit: int) -> list[tuple[Box, tuple[int, ...]]]:
    """Gathers small boxes (top, left, bottom, right, part) that fit together into `limit` px, from the top down."""
    boxes = np.array(sorted(small), np.int64).reshape(-1, 5)
    free, gathered = np.ones(len(boxes), bool), []
    for i, (top, left, bottom, right, part) in enumerate(boxes.tolist()):
        if not free[i]:
            continue
        free[i], parts = False, {part}
        near = free & (boxes[:, 2] <= top + limit) & (boxes[:, 1] >= right - limit) & (boxes[:, 3] <= left + limit)
        for j in np.flatnonzero(near):
            _, its_left, its_bottom, its_right, its_part = boxes[j].tolist()
            if max(right, its_right) - min(left, its_left) <= limit:
                left, bottom, right = min(left, its_left), max(bottom, its_bottom), max(right, its_right)
                free[j] = False
                parts.add(its_part)
        gathered.append(((top, left, bottom, right), tuple(sorted(parts))))
    return gathered
