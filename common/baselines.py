"""Classical fillings that a learned one must beat, and two of them that post-processing builds on.

Each takes uint8 [height, width, 3] and a bool hole [height, width], reads known pixels only, returns a new picture,
and leaves known pixels as they are. A hole without any known pixel around it is filled with mid-grey.
"""

import cv2
import numpy as np

from common.masks import components

MARGIN_PX = 8  # of known picture around each part of the hole; the methods look no further than their radius


def mean_colour(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fills the hole with the mean of the picture's known pixels."""
    filled = image.copy()
    filled[hole] = 128 if hole.all() else np.rint(image[~hole].mean(axis=0)).astype(np.uint8)
    return filled


def telea(image: np.ndarray, hole: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Fast marching from the rim inwards (Telea 2004)."""
    return _inpaint(image, hole, radius_px, cv2.INPAINT_TELEA)


def navier_stokes(image: np.ndarray, hole: np.ndarray, radius_px: int = 3) -> np.ndarray:
    """Isophotes continued into the hole (Bertalmio et al. 2001)."""
    return _inpaint(image, hole, radius_px, cv2.INPAINT_NS)


def _inpaint(image: np.ndarray, hole: np.ndarray, radius_px: int, method: int) -> np.ndarray:
    # OpenCV's Navier-Stokes reads pixels under the mask before it has filled them, and both methods return the picture
    # itself for a full mask: the truth must be gone before they start.
    emptied = mean_colour(image, hole)
    if hole.all():
        return emptied
    filled, margin = image.copy(), MARGIN_PX + radius_px
    labels, boxes = components(hole)
    for label, (top, left, bottom, right) in enumerate(boxes.tolist(), 1):
        part = np.s_[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        mine = labels[part] == label
        filled[part][mine] = cv2.inpaint(emptied[part], hole[part].astype(np.uint8), radius_px, method)[mine]
    return filled
