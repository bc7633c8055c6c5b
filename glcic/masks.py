"""Sampling of GLCIC's training masks and local patches (Sec. 3.3), in the ways of three codebases.

A `Layout` is one image's mask, the patch around it, and the patch that the local discriminator gets from a real
image. A corner is (top, left).
"""

from typing import NamedTuple

import numpy as np

from common.errors import UserError
from common.masks import generators
from glcic.config import Placement


class Layout(NamedTuple):
    """Mask, bool [side, side], and corners, int64 [2]."""

    mask: np.ndarray
    patch_corner: np.ndarray
    real_corner: np.ndarray


def check(side_px: int, patch_px: int, mask_px: tuple[int, int]) -> None:
    """Raises UserError when masks do not fit the patch or patches the image."""
    smallest, largest = mask_px
    if not 0 < smallest <= largest <= patch_px <= side_px:
        raise UserError(
            f"masks of {smallest} to {largest} px, patches of {patch_px} px and images of {side_px} px do not fit "
            "into each other; lower --mask-px or --local-px, or raise --image-px"
        )


def sample(placement: Placement, side_px: int, patch_px: int, mask_px: tuple[int, int], rng: np.random.Generator):
    """Samples one layout.

    Args:
        placement: `paper`: mask anywhere, patch centred on it (kept inside the image), real patch anywhere.
            `window`: patch anywhere, mask anywhere in it, real patch anywhere (otenim, which shares one patch among a
            whole batch; here every image has its own).
            `article`: as `window`, but the mask is one row and one column larger than sampled, and the real patch is
            the same as the completed one.
            `bounding-box`: the largest mask less the same 0 to (largest - smallest)/2 on opposite sides, a margin of
            1/12.8 of the image from its border; patch around it; real patch the same (MMagic).
            `freeform`: brush strokes instead of a rectangle, for users who scribble; patches as in `paper`. (The
            authors' later free-form weights were trained on random regions.)
        side_px: side of the image.
        patch_px: side of the local patch.
        mask_px: (smallest, largest) side of the mask; both sides are sampled independently, both ends included.
            `freeform` ignores it.
    """
    if placement in ("paper", "freeform"):
        rectangle = placement == "paper"
        mask = (
            generators.rectangle(side_px, side_px, mask_px, rng)
            if rectangle
            else generators.freeform(side_px, side_px, rng)
        )
        return Layout(mask, centred_corner(mask, patch_px), _anywhere(side_px, patch_px, rng))
    if placement == "window":
        corner = _anywhere(side_px, patch_px, rng)
        mask = np.zeros((side_px, side_px), bool)
        inside = mask[corner[0] : corner[0] + patch_px, corner[1] : corner[1] + patch_px]
        inside[:] = generators.rectangle(patch_px, patch_px, mask_px, rng)
        return Layout(mask, corner, _anywhere(side_px, patch_px, rng))
    if placement == "article":
        corner = _anywhere(side_px, patch_px, rng)
        width, height = rng.integers(mask_px[0], mask_px[1], 2, endpoint=True)
        left = corner[1] + rng.integers(0, max(1, patch_px - width))
        top = corner[0] + rng.integers(0, max(1, patch_px - height))
        mask = np.zeros((side_px, side_px), bool)
        mask[top : top + height + 1, left : left + width + 1] = True
        return Layout(mask, corner, corner)
    mask = _bounding_box(side_px, mask_px, rng)
    corner = centred_corner(mask, patch_px)
    return Layout(mask, corner, corner)


def centred_corner(mask: np.ndarray, patch_px: int) -> np.ndarray:
    """Corner of the patch centred on a mask, moved as little as needed to lie inside the image."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    middle = np.array([rows[0] + rows[-1] + 1, columns[0] + columns[-1] + 1]) // 2
    return np.clip(middle - patch_px // 2, 0, np.array(mask.shape) - patch_px)


def _anywhere(side_px: int, patch_px: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, side_px - patch_px, 2, endpoint=True)


def _bounding_box(side_px: int, mask_px: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    smallest, largest = mask_px
    margin = max(0, min(round(side_px / 12.8), (side_px - largest) // 2))
    top, left = margin + rng.integers(0, side_px - largest - 2 * margin, 2, endpoint=True)
    shrink_top, shrink_left = rng.integers(0, (largest - smallest) // 2, 2, endpoint=True)
    mask = np.zeros((side_px, side_px), bool)
    mask[top + shrink_top : top + largest - shrink_top, left + shrink_left : left + largest - shrink_left] = True
    return mask
