"""Images: read, write, resize, crop, uint8 <-> [-1, 1], labelled grids.

An image is uint8 [height, width, 3] in RGB order everywhere outside this module; OpenCV's BGR stays in here.
"""

import math

import cv2
import numpy as np

from common.config import Crop
from common.errors import UserError
from common.imaging.limits import MAX_PIXELS


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with the area filter where the image shrinks and bicubic where it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


ALIGNED = (178, 218)  # width and height of CelebA's aligned images
SQUARES = {"square178": 178, "center108": 108}  # sides that crops cut from these


def aligned_scale(height: int, width: int) -> float | None:
    """The size of an image of aligned CelebA's shape, of theirs; None for another shape."""
    if abs(height - width * ALIGNED[1] / ALIGNED[0]) <= 1:
        return width / ALIGNED[0]
    return None


def crop_square(image: np.ndarray, crop: Crop, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Makes a size_px x size_px image.

    Args:
        crop: `squash` resizes both sides, aspect lost; `square178` and `center108` cut that square from the middle
            (aligned CelebA is 178 x 218; from images of its shape at another size, a square of that share);
            `center` cuts the largest square; `random160` resizes the short side to 160..178 parts of 160 and cuts a
            random square, `random` to 256..384 parts of 256.
        rng: used by the two random crops only.

    Raises:
        UserError: the image is so long that these would make it larger than any image may be.
    """
    height, width = image.shape[:2]
    if crop == "squash":
        return resize(image, size_px, size_px)
    if crop in ("random160", "random"):
        smallest, largest = (160, 178) if crop == "random160" else (256, 384)
        short = int(rng.integers(size_px, math.floor(size_px * largest / smallest), endpoint=True))
        scale = short / min(height, width)
        rows, columns = max(size_px, round(height * scale)), max(size_px, round(width * scale))
        if rows * columns > MAX_PIXELS:
            raise UserError(f"an image of {width} x {height} px is too long to cut squares of {size_px} px from it")
        image = resize(image, rows, columns)
        top = int(rng.integers(0, image.shape[0] - size_px, endpoint=True))
        left = int(rng.integers(0, image.shape[1] - size_px, endpoint=True))
        return image[top : top + size_px, left : left + size_px]
    side = min(height, width)
    if crop in SQUARES:
        side = min(side, round(SQUARES[crop] * (aligned_scale(height, width) or 1)))
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], size_px, size_px)


def to_network(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] in 0..255 -> float32 [N, 3, H, W] in [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(127.5) - np.float32(1)


def from_network(images: np.ndarray) -> np.ndarray:
    """float32 [N, 3, H, W] in [-1, 1] (values outside are clipped) -> uint8 [N, H, W, 3]."""
    levels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))
