"""The random masks of LaMa (Suvorov et al. 2022): thin, medium and thick, with the settings published for 256 px.

Lengths are given for 256 x 256 px and follow the image's size. Segments are drawn as exact capsules, so that no drawing
library can change a mask.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from common.masks.generators import capsule

LARGEST_FRACTION = 0.5  # a mask that covers more is sampled again
TRIES = 200


@dataclass(frozen=True)
class Kind:
    """`data_gen/random_…_256.yaml`: strokes (fewest, most), their longest segment and widest brush; boxes likewise."""

    strokes: tuple[int, int]
    length_px: int
    brush_px: int
    boxes: tuple[int, int] = (0, 0)
    box_px: tuple[int, int] = (0, 0)
    margin_px: int = 0


KINDS = {
    "lama-thin": Kind((4, 50), 40, 10),
    "lama-medium": Kind((4, 5), 100, 50, (1, 5), (10, 50), 0),
    "lama-thick": Kind((1, 5), 200, 100, (1, 3), (30, 150), 10),
}
BOX_CHANCE = 0.3 / 1.3  # of boxes in place of strokes, where a kind has them


def sample(name: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One mask, bool [height, width], that covers something and at most half of the image.

    Raises:
        UserError: the image is too small for such masks.
    """
    kind, scale = KINDS[name], math.sqrt(height * width) / 256
    for _ in range(TRIES):
        draw = _boxes if kind.boxes[1] and rng.random() < BOX_CHANCE else _strokes
        mask = draw(kind, height, width, scale, rng)
        if mask.any() and mask.mean() <= LARGEST_FRACTION:
            return mask
    raise UserError(f"no {name} mask covers at most half of {width} x {height} px; use larger images")


def _strokes(kind: Kind, height: int, width: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    fewest, most = kind.strokes
    for stroke in range(int(rng.integers(fewest, most + 2))):  # the published code adds one to the most
        x, y = int(rng.integers(width)), int(rng.integers(height))
        for _ in range(1 + int(rng.integers(5))):
            angle = 0.01 + int(rng.integers(4))
            if stroke % 2 == 0:
                angle = 2 * math.pi - angle
            length = scale * (10 + int(rng.integers(kind.length_px)))
            brush = max(1.0, scale * (5 + int(rng.integers(kind.brush_px))))
            to_x = int(np.clip(x + length * math.sin(angle), 0, width))
            to_y = int(np.clip(y + length * math.cos(angle), 0, height))
            capsule(mask, x, y, to_x, to_y, brush / 2)
            x, y = to_x, to_y
    return mask


def _boxes(kind: Kind, height: int, width: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    mask, margin = np.zeros((height, width), bool), round(scale * kind.margin_px)
    smallest = max(1, round(scale * kind.box_px[0]))
    largest = min(round(scale * kind.box_px[1]), height - 2 * margin, width - 2 * margin)
    for _ in range(int(rng.integers(kind.boxes[0], kind.boxes[1] + 1))):
        rows, columns = (int(rng.integers(smallest, max(largest, smallest + 1))) for _ in range(2))
        top = int(rng.integers(margin, height - margin - rows + 1))
        left = int(rng.integers(margin, width - margin - columns + 1))
        mask[top : top + rows, left : left + columns] = True
    return mask
