"""Sheets of images: a mask painted over its image, and labelled grids."""

import math

import cv2
import numpy as np


def show_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """The image with its hole painted over, for previews."""
    shown = image.copy()
    shown[mask] = colour
    return shown


def completion_sheet(images: np.ndarray, masks: np.ndarray, count: int, cell_px: int = 0, **completed) -> np.ndarray:
    """The first few images of a set in rows: input, completed by name, truth; all uint8 [N, H, W, 3]."""
    rows = [
        [show_mask(images[n], masks[n]), *(each[n] for each in completed.values()), images[n]]
        for n in range(min(count, len(images)))
    ]
    return grid(rows, ["input", *completed, "truth"], cell_px=cell_px)


def grid(
    rows: list[list[np.ndarray]], titles: list[str] | None = None, gap_px: int = 4, cell_px: int = 0
) -> np.ndarray:
    """One sheet from rows of equally sized images, with a title above each column.

    Args:
        rows: uint8 [h, w, 3] images, all of one size.
        cell_px: enlarges each cell to at least this width by whole multiples, so that small images can be judged.
    """
    height, width = rows[0][0].shape[:2]
    times = max(1, math.ceil(cell_px / width))
    height, width = height * times, width * times
    head = 20 if titles else 0
    columns = max(len(row) for row in rows)
    shape = (head + len(rows) * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, 3)
    sheet = np.full(shape, 255, np.uint8)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            top, left = head + gap_px + r * (height + gap_px), gap_px + c * (width + gap_px)
            sheet[top : top + height, left : left + width] = cell.repeat(times, 0).repeat(times, 1)
    for c, title in enumerate(titles or []):
        place = (gap_px + c * (width + gap_px), 16)
        cv2.putText(sheet, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
