"""The masks that DeepFill v2 is trained with (Sec. 3.4 and the released code), and those of its re-implementations.

Every kind is a function (height, width, rng) -> bool [height, width], True where the image is missing, in `KINDS`.
The sources' values are pixels of 256 x 256; at other sizes lengths and brushes grow with the root of the area (the
release's brush: see `masks.generators.freeform`), rectangles with the sides. Each call samples one image's mask;
the release samples one for its whole batch. Nothing here exchanges height and width of oblong images, as the release
does.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from common.masks import generators
from deepfill.config import Kind

BANDS = tuple((max(low, 1) / 100, (low + 10) / 100) for low in range(0, 60, 10))  # 1-10 %, 10-20 % ... 50-60 %
MMAGIC_FRACTION = 0.15, 0.65  # of the image; MMagic samples again until the mask's fraction lies between


def official(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The release's training masks: brush strokes and a rectangle, 31 % of the image on average."""
    return generators.freeform(height, width, rng) | rectangle(height, width, rng)


def rectangle(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The release's rectangle: a box of half of each side, from which 0..1/16 of the side is cut at both its ends.

    96 to 128 px of 256, even numbers only: 19 % of the image on average. As in the release the box never reaches the
    last row and column. `generators.freeform`, the other half of `official`, is the release's brush: same strokes,
    turns, steps and widths. The release then flips the strokes at random and throws the result away, so its zigzags
    all run from left to right; that is kept, and `algorithm1` has flips that work.
    """
    mask = np.zeros((height, width), bool)
    mask[_span(height, rng), _span(width, rng)] = True
    return mask


def _span(side: int, rng: np.random.Generator) -> slice:
    box = side // 2
    start, cut = int(rng.integers(0, side - box)), int(rng.integers(0, side // 16, endpoint=True))
    return slice(start + cut, start + box - cut)


def algorithm1(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    max_strokes: int = 3,
    max_vertex: int = 12,
    max_length_px: float = 90,
    max_brush_px: float = 40,
    max_angle: float = 8 * math.pi / 15,
) -> np.ndarray:
    """Algorithm 1 of the paper: brush strokes, then a flip at random of left and right and of top and bottom.

    The paper names maxVertex, maxLength, maxBrushWidth and maxAngle and says that several strokes may be drawn, but
    gives no values. Ours are the ends of the ranges in the released code; since here all ranges begin at 0, masks are
    smaller: 8 % of the image on average.

    Args:
        max_length_px, max_brush_px: for 256 x 256 px.
        max_angle: radians; every second segment is drawn at the negative angle.
    """
    canvas, scale = np.zeros((height, width), np.uint8), math.sqrt(height * width) / 256
    for _ in range(int(rng.integers(1, max_strokes, endpoint=True))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        brush_px = rng.uniform(0, max_brush_px) * scale
        thickness = max(1, int(brush_px) // 2 * 2)  # OpenCV draws an even thickness 1 px wider, an odd one 2 px
        for turn in range(int(rng.integers(1, max_vertex, endpoint=True))):
            angle = rng.uniform(0, max_angle) * (-1 if turn % 2 == 0 else 1)
            length = rng.uniform(0, max_length_px) * scale
            to_x, to_y = x + length * math.sin(angle), y + length * math.cos(angle)
            _line(canvas, x, y, to_x, to_y, thickness)
            x, y = to_x, to_y
    return _flipped(canvas.astype(bool), rng)


def _line(canvas: np.ndarray, x: float, y: float, to_x: float, to_y: float, thickness: int) -> None:
    """Between the pixels that hold both points; OpenCV's round ends are the circles that the paper puts at joints."""
    cv2.line(canvas, (math.floor(x), math.floor(y)), (math.floor(to_x), math.floor(to_y)), 1, thickness)


def _flipped(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = (slice(None, None, -1 if flip else 1) for flip in rng.random(2) < 0.5)
    return np.ascontiguousarray(mask[rows, columns])


def mmagic(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """MMagic's irregular masks for DeepFill v2: 4 to 9 strokes of 1 to 5 segments, sampled again until 15 to 65 %.

    Segments are 20..127 px long and 10..44 px wide (of 256), their angles 0.01 rad and a whole number of 0..5 rad.
    """
    while True:  # 97 of 100 attempts succeed
        mask = _mmagic_strokes(height, width, rng)
        if MMAGIC_FRACTION[0] < mask.mean() < MMAGIC_FRACTION[1]:
            return mask


def _mmagic_strokes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    canvas, scale = np.zeros((height, width), np.uint8), math.sqrt(height * width) / 256
    for stroke in range(int(rng.integers(4, 10))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        for _ in range(int(rng.integers(1, 6))):
            angle = (0.01 + int(rng.integers(0, 6))) * (-1 if stroke % 2 == 0 else 1)
            length, brush_px = int(rng.integers(20, 128)) * scale, int(rng.integers(10, 45)) * scale
            to_x, to_y = x + length * math.cos(angle), y + length * math.sin(angle)
            _line(canvas, x, y, to_x, to_y, max(1, int(brush_px)))
            x, y = to_x, to_y
    return canvas.astype(bool)


def bands(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Brush strokes whose fraction lies in one of `BANDS`, each as likely: for large masks, which the release lacks.

    Flipped at random, since many strokes that all run to the right would leave the left side known.
    """
    low, high = BANDS[int(rng.integers(len(BANDS)))]
    return _flipped(generators.freeform_in_band(height, width, low, high, rng), rng)


KINDS: dict[Kind, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "official": official,
    "rectangle": rectangle,
    "freeform": generators.freeform,
    "algorithm1": algorithm1,
    "mmagic": mmagic,
    "bands": bands,
}
