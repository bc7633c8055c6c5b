"""Where GLCIC's training holes and local patches lie (Sec. 3.3), and how three codebases place theirs.

A `Layout` is one picture's hole, the patch around it, and the patch that the local discriminator gets from a real
picture. A corner is (top, left).
"""

from typing import Literal, NamedTuple

import numpy as np

from common import masks
from common.errors import UserError

Placement = Literal["paper", "window", "article", "bounding-box", "freeform"]


class Layout(NamedTuple):
    """hole: bool [side, side]; corners: int64 [2]."""

    hole: np.ndarray
    patch_corner: np.ndarray
    real_corner: np.ndarray


def check(side_px: int, patch_px: int, hole_px: tuple[int, int]) -> None:
    """Raises UserError when holes do not fit the patch or patches the picture."""
    smallest, largest = hole_px
    if not 0 < smallest <= largest <= patch_px <= side_px:
        raise UserError(
            f"holes of {smallest} to {largest} px, patches of {patch_px} px and pictures of {side_px} px do not fit "
            "into each other; lower --hole-px or --local-px, or raise --image-px"
        )


def sample(placement: Placement, side_px: int, patch_px: int, hole_px: tuple[int, int], rng: np.random.Generator):
    """Draws one layout.

    Args:
        placement: `paper`: hole anywhere, patch centred on it (kept inside the picture), real patch anywhere.
            `window`: patch anywhere, hole anywhere in it, real patch anywhere (otenim, which shares one patch among a
            whole batch; here every picture has its own).
            `article`: as `window`, but the hole is painted one row and one column larger than drawn, and the real patch
            is the same as the completed one.
            `bounding-box`: the longest hole less the same 0 to (longest - shortest)/2 on opposite sides, a margin of
            1/12.8 of the picture from its border; patch around it; real patch the same (MMagic).
            `freeform`: brush strokes instead of a rectangle, for users who scribble; patches as in `paper`. (The
            authors' later free-form weights were trained on random regions.)
        side_px: side of the picture.
        patch_px: side of the local patch.
        hole_px: (smallest, largest) side of the hole; both sides are drawn independently, both ends included. Not used
            by `freeform`.
    """
    if placement in ("paper", "freeform"):
        rectangle = placement == "paper"
        hole = masks.rectangle(side_px, side_px, hole_px, rng) if rectangle else masks.freeform(side_px, side_px, rng)
        return Layout(hole, centred_corner(hole, patch_px), _anywhere(side_px, patch_px, rng))
    if placement == "window":
        corner = _anywhere(side_px, patch_px, rng)
        hole = np.zeros((side_px, side_px), bool)
        inside = hole[corner[0] : corner[0] + patch_px, corner[1] : corner[1] + patch_px]
        inside[:] = masks.rectangle(patch_px, patch_px, hole_px, rng)
        return Layout(hole, corner, _anywhere(side_px, patch_px, rng))
    if placement == "article":
        corner = _anywhere(side_px, patch_px, rng)
        width, height = rng.integers(hole_px[0], hole_px[1], 2, endpoint=True)
        left = corner[1] + rng.integers(0, max(1, patch_px - width))
        top = corner[0] + rng.integers(0, max(1, patch_px - height))
        hole = np.zeros((side_px, side_px), bool)
        hole[top : top + height + 1, left : left + width + 1] = True
        return Layout(hole, corner, corner)
    hole = _bounding_box(side_px, hole_px, rng)
    corner = centred_corner(hole, patch_px)
    return Layout(hole, corner, corner)


def centred_corner(hole: np.ndarray, patch_px: int) -> np.ndarray:
    """Corner of the patch centred on a hole, moved as little as needed to lie inside the picture."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    middle = np.array([rows[0] + rows[-1] + 1, columns[0] + columns[-1] + 1]) // 2
    return np.clip(middle - patch_px // 2, 0, np.array(hole.shape) - patch_px)


def _anywhere(side_px: int, patch_px: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, side_px - patch_px, 2, endpoint=True)


def _bounding_box(side_px: int, hole_px: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    smallest, largest = hole_px
    margin = max(0, min(round(side_px / 12.8), (side_px - largest) // 2))
    top, left = margin + rng.integers(0, side_px - largest - 2 * margin, 2, endpoint=True)
    shrink_top, shrink_left = rng.integers(0, (largest - smallest) // 2, 2, endpoint=True)
    hole = np.zeros((side_px, side_px), bool)
    hole[top + shrink_top : top + largest - shrink_top, left + shrink_left : left + largest - shrink_left] = True
    return hole
