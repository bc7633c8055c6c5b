"""Brings a network's image into the hole of a photo. Known pixels are never altered, and only they are read.

* `paste` puts the prediction in as it is.
* `feather` fades, within a few pixels of the rim, from the mean of the known colours nearby to the prediction.
* `poisson` shifts the prediction's colours so that they meet the photo at the rim and the shift is as smooth as can be.
* `telea-poisson` fills a thin band along the rim by fast marching and then does the same from that band inwards.

`cv2.seamlessClone` is not used: it shrinks the hole, moves known pixels, and pulls colours from under it.
"""

from typing import get_args

import cv2
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from common.config import Blend, BlendChoice
from common.errors import UserError
from common.inpainting.baselines import telea
from common.masks.components import components

FEATHER_PX = 8  # width of the fade, inside the hole
BAND_PX = 3  # the width that seamlessClone leaves of its target image inside the hole
DIRECT_PIXELS = 256 * 256  # unknowns solved at once, about 0.3 s; more are first solved at half size
SWEEPS = 40  # relaxations after each doubling


def blend(image: np.ndarray, filled: np.ndarray, mask: np.ndarray, how: Blend) -> np.ndarray:
    """The photo with the prediction in its hole.

    Args:
        image: uint8 [height, width, 3]; what lies under the hole is not read.
        filled: the prediction, uint8 or float in 0..255, [height, width, 3]. The two Poisson modes also read it at
            the known pixels beside the hole, so give it as the network made it; where it equals the photo there
            (already composited), the prediction just inside the hole stands in.
        mask: bool [height, width].

    Returns:
        uint8 [height, width, 3], equal to `image` outside the hole.

    Raises:
        UserError: unknown `how`, or sizes that differ.
    """
    if how not in get_args(Blend):
        raise UserError(f"cannot blend by {how!r}; choose from {', '.join(get_args(Blend))}")
    if not image.shape == filled.shape == (*mask.shape, 3):
        raise UserError(
            f"cannot blend an image {filled.shape} into {image.shape} with a hole {mask.shape}; use one size"
        )
    if not mask.any():
        return image.copy()
    if how == "paste" or mask.all():
        return _put(image, mask, filled[mask])
    if how == "feather":
        return _feather(image, filled, mask)
    if how == "poisson":
        return _poisson(image, filled, mask)
    return _telea_poisson(image, filled, mask)


def membrane(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with its mask filled by the solution of Laplace's equation: the simplest baseline that is smooth."""
    return blend(image, np.full_like(image, 128), mask, "poisson")


def choose(how: BlendChoice, papers_own: Blend) -> Blend:
    """The blending that was asked for, where `paper` means the paper's own."""
    return papers_own if how == "paper" else how


def _put(image: np.ndarray, where: np.ndarray, colours: np.ndarray) -> np.ndarray:
    result = image.copy()
    result[where] = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    return result


def _feather(image: np.ndarray, filled: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Prediction x s + near known colours x (1 - s), s rising from 0 at the rim to 1 at FEATHER_PX inside the hole.

    The near known colours are a Gaussian mean of the known pixels alone (sigma: half the width of the fade), which
    continues the photo into the hole without its detail.
    """
    result, reach = image.copy(), 2 * FEATHER_PX
    labels, boxes = components(mask)
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), 1):
        part = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
        known = ~mask[part]
        weight = known[:, :, None].astype(np.float32)
        kernel, sigma = (2 * reach + 1, 2 * reach + 1), FEATHER_PX / 2
        near = cv2.GaussianBlur(image[part] * weight, kernel, sigma, borderType=cv2.BORDER_CONSTANT)
        total = cv2.GaussianBlur(weight, kernel, sigma, borderType=cv2.BORDER_CONSTANT)[:, :, None]
        fraction = cv2.distanceTransform(mask[part].astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / (
            FEATHER_PX + 1
        )
        fraction = np.minimum(fraction, 1)[:, :, None]
        mixed = fraction * filled[part] + (1 - fraction) * near / np.maximum(total, 1e-6)
        result[part] = _put(result[part], labels[part] == label, mixed[labels[part] == label])
    return result


def _poisson(image: np.ndarray, filled: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Adds to the prediction the membrane through (photo - prediction) on the rim: Perez et al. 2003, Sec. 3.

    Minimising the distance between the gradients of result and prediction is Laplace's equation for their difference,
    free (Neumann) at the image's edge, and solved for each connected part of the hole by itself.
    """
    rim, shift = _rim(image, filled, mask)
    return _put(image, mask, filled[mask] + _membrane(mask, rim, shift))


def _telea_poisson(image: np.ndarray, filled: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The published post-processing of rectangle-era completion: fast marching, then Poisson blending.

    There, `seamlessClone` copies the prediction into a photo whose hole was first filled by fast marching of radius 1.
    It shrinks the hole by 3 px, so that a band of the marched colours remains visible along the rim, and the colours
    on the inner side of this band are what the prediction is shifted to meet. The same here, with the band's place
    exact, holes at the image's edge allowed and known pixels untouched. The band hides a prediction that is wrong
    right at the rim; where it is right there, plain `poisson` keeps more detail.
    """
    marched = telea(image, mask, radius_px=1)
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > BAND_PX
    return _poisson(marched, filled, inner) if inner.any() else marched


def _neighbours(flat: np.ndarray, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of four directions: (which of the flat indices have a neighbour there, the neighbours of those)."""
    rows, columns = np.divmod(flat, shape[1])
    sides = (rows > 0, -shape[1]), (rows < shape[0] - 1, shape[1]), (columns > 0, -1), (columns < shape[1] - 1, 1)
    return [(there, flat[there] + step) for there, step in sides]


def _rim(image: np.ndarray, filled: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The known pixels beside the hole (flat, sorted) and photo - prediction at each, float64 [n, 3]."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rim = np.flatnonzero(cv2.dilate(mask.astype(np.uint8), cross).astype(bool) & ~mask)
    photo, prediction = image.reshape(-1, 3), filled.reshape(-1, 3)
    shift = photo[rim] - prediction[rim].astype(np.float64)
    if not shift.any():  # composited: the photo tells nothing about the prediction here, the hole's inner rim does
        total, count = np.zeros_like(shift), np.zeros((len(rim), 1))
        for there, near in _neighbours(rim, mask.shape):
            inside = mask.ravel()[near]
            at = np.flatnonzero(there)[inside]
            total[at] += prediction[near[inside]]
            count[at] += 1
        shift = photo[rim] - total / count
    return rim, shift


def _membrane(mask: np.ndarray, rim: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Solves Laplace's equation in the hole, given `shift` on its `rim`; float [pixels of the hole, 3]."""
    unknown = np.flatnonzero(mask)
    if len(unknown) <= DIRECT_PIXELS:
        return _solve(mask.shape, unknown, rim, shift)
    labels, boxes = components(mask)
    label = labels.ravel()[unknown]
    sizes = np.bincount(label)
    large = sizes > DIRECT_PIXELS
    solution = np.zeros((len(unknown), 3), np.float32)
    # Small parts share systems of equations, filled up to the limit; each large part is solved by itself.
    system = np.where(large, -1, np.cumsum(np.where(large, 0, sizes)) // DIRECT_PIXELS)
    for one in np.unique(system[1:][~large[1:]]):
        mine = system[label] == one
        solution[mine] = _solve(mask.shape, unknown[mine], rim, shift)
    if large.any():
        on_rim, given = np.zeros(mask.shape, bool), np.zeros((*mask.shape, 3), np.float32)
        on_rim.ravel()[rim], given.reshape(-1, 3)[rim] = True, shift
        for part in np.flatnonzero(large):
            top, left, bottom, right = boxes[part - 1].tolist()
            box = np.s_[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1]
            mine = labels[box] == part
            solution[label == part] = _halving(mine, on_rim[box], given[box])[mine]
    return solution


def _solve(shape: tuple[int, int], unknown: np.ndarray, rim: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The membrane by one sparse factorisation; pixels that are neither `unknown` nor on the `rim` count as absent."""
    degree, right_side = np.zeros(len(unknown)), np.zeros((len(unknown), 3))
    rows, columns = [], []
    for there, near in _neighbours(unknown, shape):
        at = np.flatnonzero(there)
        for pixels, is_rim in ((unknown, False), (rim, True)):
            place = np.minimum(np.searchsorted(pixels, near), len(pixels) - 1)
            found = pixels[place] == near
            degree[at[found]] += 1
            if is_rim:
                right_side[at[found]] += shift[place[found]]
            else:
                rows.append(at[found])
                columns.append(place[found])
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    laplace = scipy.sparse.csc_matrix((-np.ones(len(rows)), (rows, columns)), shape=(len(unknown), len(unknown)))
    laplace += scipy.sparse.diags(degree, format="csc")
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    return splu(laplace.tocsc(), **options).solve(right_side)


def _halving(unknown: np.ndarray, rim: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The membrane of a large hole: solved at half size, doubled, relaxed; recursive.

    Args:
        unknown, rim: bool [h, w].
        shift: float32 [h, w, 3], given on the rim.

    Returns:
        float32 [h, w, 3], solved where `unknown`.
    """
    height, width = unknown.shape
    if np.count_nonzero(unknown) <= DIRECT_PIXELS:
        solved = shift.copy()
        if unknown.any():
            given = shift.reshape(-1, 3)[np.flatnonzero(rim)]
            solved[unknown] = _solve((height, width), np.flatnonzero(unknown), np.flatnonzero(rim), given)
        return solved
    even = ((0, height % 2), (0, width % 2))
    blocks = (height + height % 2) // 2, 2, (width + width % 2) // 2, 2
    # A block of four is unknown if all of it is; otherwise it takes the mean of its rim pixels, of which it has some
    # whenever an unknown block lies beside it.
    coarse = np.pad(unknown, even, constant_values=True).reshape(blocks).all(axis=(1, 3))
    given = np.pad(rim, even).reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    total = np.pad(shift * rim[:, :, None], (*even, (0, 0))).reshape(*blocks, 3).sum(axis=(1, 3))
    half = _halving(coarse, (given > 0) & ~coarse, total / np.maximum(given, 1)[:, :, None])
    solved = cv2.resize(half, (2 * blocks[2], 2 * blocks[0]), interpolation=cv2.INTER_LINEAR)[:height, :width]
    solved = np.where(rim[:, :, None], shift, solved)
    mean = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.float32) / 5
    for _ in range(SWEEPS):
        relaxed = cv2.filter2D(solved, -1, mean, borderType=cv2.BORDER_REPLICATE)
        np.copyto(solved, relaxed, where=unknown[:, :, None])
    return solved
