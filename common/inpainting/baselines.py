"""Classical fillings that a learned one must beat, and two of them that post-processing builds on.

Each takes uint8 [height, width, 3] and a bool hole [height, width], reads known pixels only, returns a new image,
and leaves known pixels as they are. A hole without any known pixel around it is filled with mid-grey.
"""

import cv2
import numpy as np

from common.errors import UserError
from common.masks.components import components

MARGIN_PX = 8  # of known image around each part of the hole; the methods look no further than their radius


def mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills the hole with the mean of the image's known pixels."""
    filled = image.copy()
    filled[mask] = 128 if mask.all() else np.rint(image[~mask].mean(axis=0)).astype(np.uint8)
    return filled


def telea(image: np.ndarray, mask: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Fast marching from the rim inwards (Telea 2004)."""
    return _inpaint(image, mask, radius_px, cv2.INPAINT_TELEA)


def navier_stokes(image: np.ndarray, mask: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Isophotes continued into the hole (Bertalmio et al. 2001)."""
    return _inpaint(image, mask, radius_px, cv2.INPAINT_NS)


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fills the mask with the surface of least bending through the known pixels (Damelin and Hoang 2018; scikit-image).

    Raises:
        UserError: the package is not installed.
    """
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError:
        raise missing("scikit-image") from None
    filled = mean_colour(image, mask)
    if mask.any() and not mask.all():
        surface = inpaint_biharmonic(filled / 255, mask, channel_axis=-1)
        filled[mask] = np.clip(np.rint(255 * surface[mask]), 0, 255).astype(np.uint8)
    return filled


def patchmatch(image: np.ndarray, mask: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Fills the mask with patches found elsewhere in the image, coarse to fine (Barnes et al. 2009; PyPatchMatch).

    Raises:
        UserError: the package is not installed.
    """
    try:
        import patchmatch as package
    except ImportError:
        raise missing("PyPatchMatch") from None
    if not package.patchmatch_available:
        raise missing("PyPatchMatch")
    if mask.all():
        return mean_colour(image, mask)
    filled = image.copy()
    filled[mask] = package.inpaint(mean_colour(image, mask), mask, patch_size=radius_px)[mask]
    return filled


def missing(package: str) -> UserError:
    return UserError(f'it needs the package {package}: pip install -e ".[metrics]"')


def _inpaint(image: np.ndarray, mask: np.ndarray, radius_px: int, method: int) -> np.ndarray:
    # OpenCV's Navier-Stokes reads pixels under the mask before it has filled them, and both methods return the image
    # itself for a full mask: the truth must be gone before they start.
    emptied = mean_colour(image, mask)
    if mask.all():
        return emptied
    filled, margin = image.copy(), MARGIN_PX + radius_px
    labels, boxes = components(mask)
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), 1):
        part = np.s_[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        mine = labels[part] == label
        filled[part][mine] = cv2.inpaint(emptied[part], mask[part].astype(np.uint8), radius_px, method)[mine]
    return filled
