"""Sliced Wasserstein distance between Laplacian pyramids of two sets of images (Karras et al. 2018, section 5).

No network: 7 x 7 patches of each level, normalised by channel over the set, projected on random directions and sorted.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from common.errors import UserError

PATCH_PX, PATCHES_PER_IMAGE = 7, 128
DIRECTIONS, REPEATS = 128, 4
SMALLEST_PX = 16  # side of the coarsest level
MAX_IMAGES = 1024  # of the set, the first ones: about 80 MB a level (the paper takes 16,384)
KERNEL = np.float32([1, 4, 6, 4, 1]) / 16


class PatchSet:
    """Patches of the first `MAX_IMAGES` images of a set, at every level of their pyramids.

    Places are a function of the seed and the image's number: a set against itself is exactly 0.
    """

    def __init__(self, seed: int = 0):
        self.seed, self.count = seed, 0
        self.levels: dict[int, list[np.ndarray]] = {}  # by the level's shorter side

    def add(self, images: Iterable[np.ndarray]) -> None:
        """Take in uint8 [H, W, 3] images, all of one size, multiples of which halve down to 16 px."""
        for image in images:
            if self.count == MAX_IMAGES:
                return
            rng = np.random.default_rng([self.seed, self.count])
            for level in laplacian_pyramid(image):
                self.levels.setdefault(min(level.shape[:2]), []).append(patches(level, rng))
            self.count += 1


def laplacian_pyramid(image: np.ndarray) -> list[np.ndarray]:
    """float32 levels, finest first; the last is the blurred image of a shorter side of 16 to 31 px."""
    if min(image.shape[:2]) < SMALLEST_PX:
        raise UserError(f"a sliced Wasserstein distance needs {SMALLEST_PX} px, the image has {min(image.shape[:2])}")
    levels = [image.astype(np.float32)]
    while min(levels[-1].shape[:2]) >= 2 * SMALLEST_PX:
        finer = levels[-1]
        levels.append(_blur(finer)[::2, ::2])
        spread = np.zeros_like(finer)
        spread[::2, ::2] = 4 * levels[-1]
        levels[-2] = finer - _blur(spread)
    return levels


def _blur(image: np.ndarray) -> np.ndarray:
    return cv2.sepFilter2D(image, cv2.CV_32F, KERNEL, KERNEL, borderType=cv2.BORDER_REFLECT_101)


def patches(level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 [128, 7, 7, 3] from random places that lie inside."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH_PX, PATCH_PX), (0, 1))
    rows, columns = (rng.integers(0, side, PATCHES_PER_IMAGE) for side in windows.shape[:2])
    return windows[rows, columns].transpose(0, 2, 3, 1)


def distances(a: PatchSet, b: PatchSet, seed: int = 0) -> dict[int, float]:
    """Distance x 1000 at each level, by the level's shorter side.

    Raises:
        UserError: the sets have images of different sizes, or different numbers of them.
    """
    if a.levels.keys() != b.levels.keys() or a.count != b.count:
        raise UserError(
            f"a sliced Wasserstein distance compares sets of one size and length, not {a.count} images with levels "
            f"{sorted(a.levels)} and {b.count} with {sorted(b.levels)}"
        )
    rng = np.random.default_rng(seed)
    return {
        side: 1000 * sliced_distance(_normalised(a.levels[side]), _normalised(b.levels[side]), rng)
        for side in sorted(a.levels, reverse=True)
    }


def _normalised(parts: list[np.ndarray]) -> np.ndarray:
    all_patches = np.concatenate(parts)
    spread = all_patches.std((0, 1, 2))
    return ((all_patches - all_patches.mean((0, 1, 2))) / np.where(spread > 0, spread, 1)).reshape(len(all_patches), -1)


def sliced_distance(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> float:
    """Mean over 512 random directions of the Wasserstein-1 distance of float32 [N, D] projected on each."""
    results = []
    for _ in range(REPEATS):
        directions = rng.standard_normal((a.shape[1], DIRECTIONS))
        directions = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32).T
        results.append(np.abs(np.sort(directions @ a.T) - np.sort(directions @ b.T)).mean())  # rows sort twice as fast
    return float(np.mean(results))
