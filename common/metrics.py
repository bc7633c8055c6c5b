"""How far a completed picture is from the truth: L1, L2, PSNR and SSIM on uint8, over the hole or the whole picture.

Every function takes uint8 [height, width, 3] pictures; `where` is a bool [height, width] choice of pixels, all if None.
"""

import math

import cv2
import numpy as np

from common.errors import UserError


def _difference(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    if truth.shape != completed.shape:
        raise UserError(
            f"cannot compare a picture of {truth.shape[1]} x {truth.shape[0]} px with one of "
            f"{completed.shape[1]} x {completed.shape[0]} px; bring both to one size"
        )
    if where is not None:
        truth, completed = truth[where], completed[where]
    return truth.astype(np.float64) - completed


def l1(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None = None) -> float:
    """Mean absolute difference in percent of the full range, over pixels and channels."""
    return float(np.abs(_difference(truth, completed, where)).mean() / 255 * 100)


def l2(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None = None) -> float:
    """Mean squared difference of values in 0..1, in percent."""
    return float((_difference(truth, completed, where) ** 2).mean() / 255**2 * 100)


def psnr(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None = None) -> float:
    """10 log10(255^2 / mean squared error) in dB, over pixels and channels; infinite for identical pictures."""
    error = float((_difference(truth, completed, where) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 x 11 px, sigma 1.5, K1 0.01, K2 0.03, RGB.

    The mean of the map over channels and, without `where`, over those pixels whose window lies inside the picture;
    with `where`, over exactly those pixels, the picture reflected at its edge.
    """
    similarity = _ssim_map(truth, completed)
    if where is not None:
        return float(similarity[where].mean())
    if min(truth.shape[:2]) < 11:
        raise UserError(f"SSIM needs 11 x 11 px, the picture has {truth.shape[1]} x {truth.shape[0]}; use a larger one")
    return float(similarity[5:-5, 5:-5].mean())


def _ssim_map(truth: np.ndarray, completed: np.ndarray) -> np.ndarray:
    _difference(truth, completed, None)  # for its check of the sizes
    x, y = truth.astype(np.float64), completed.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def _window(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


def score(truth: np.ndarray, completed: np.ndarray, hole: np.ndarray) -> dict[str, float]:
    """All figures of one picture; `hole_…` over the hole's pixels only, `image_…` over the whole picture.

    Raises:
        UserError: the hole is empty, or the sizes differ.
    """
    if not hole.any():
        raise UserError("cannot score an empty hole; leave the picture out")
    figures = {}
    for name, where in (("hole", hole), ("image", None)):
        figures[f"{name}_l1_percent"] = l1(truth, completed, where)
        figures[f"{name}_l2_percent"] = l2(truth, completed, where)
        figures[f"{name}_psnr_db"] = psnr(truth, completed, where)
        figures[f"{name}_ssim"] = ssim(truth, completed, where)
    return figures


def summarise(scores: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard error (sample deviation / sqrt n) of each figure over the pictures.

    An infinite PSNR (a perfect picture) is left out of its mean, which is then a little too low rather than infinite;
    the mean is infinite only if all are. The standard error of fewer than two figures is nan.
    """
    summary = {}
    for name in scores[0]:
        values = np.array([figures[name] for figures in scores], np.float64)
        values = values[np.isfinite(values)] if np.isfinite(values).any() else values[:1]
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        summary[name] = (float(values.mean()), error)
    return summary
