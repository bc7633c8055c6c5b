"""Connected parts of a mask, and their boxes."""

import cv2
import numpy as np


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected parts of a hole, diagonals included.

    Returns:
        (int32 [height, width] with 1..n in the hole and 0 around it, int [n, 4] boxes), where row i holds top, left,
        bottom and right of part i + 1, ends excluded.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    left, top, columns, rows = stats[1:, :4].T
    return labels, np.stack([top, left, top + rows, left + columns], axis=1)
