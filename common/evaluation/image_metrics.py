"""How far a completed image is from the truth: L1, L2, PSNR and SSIM on uint8, over the hole or the whole image.

Every function takes uint8 [height, width, 3] images; `where` is a bool [height, width] choice of pixels, all if None.
"""

import math

import cv2
import numpy as np

from common.errors import UserError


def _difference(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    if truth.shape != completed.shape:
        raise UserError(
            f"cannot compare an image of {truth.shape[1]} x {truth.shape[0]} px with one of "
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
    """10 log10(255^2 / mean squared error) in dB, over pixels and channels; infinite for identical images."""
    error = float((_difference(truth, completed, where) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(truth: np.ndarray, completed: np.ndarray, where: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 x 11 px, sigma 1.5, K1 0.01, K2 0.03, RGB.

    The mean of the map over channels and, without `where`, over those pixels whose window lies inside the image;
    with `where`, over exactly those pixels, the image reflected at its edge.
    """
    similarity = _ssim_map(truth, completed)
    if where is not None:
        return float(similarity[where].mean())
    if min(truth.shape[:2]) < 11:
        raise UserError(f"SSIM needs 11 x 11 px, the image has {truth.shape[1]} x {truth.shape[0]}; use a larger one")
    return float(similarity[5:-5, 5:-5].mean())


MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_PX = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)  # so that the window fits the coarsest of its scales


def ms_ssim(truth: np.ndarray, completed: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang et al. 2003): five scales, each the mean of 2 x 2 px of the finer one.

    Contrast and structure of all scales and the luminance of the coarsest, as `ssim`; by channel, then their mean.
    Images of odd sizes lose a row or a column where they are halved.

    Raises:
        UserError: the images are smaller than 176 px, or of different sizes.
    """
    if min(truth.shape[:2]) < MS_SSIM_PX:
        raise UserError(f"MS-SSIM needs {MS_SSIM_PX} px, the image has {truth.shape[1]} x {truth.shape[0]}; use SSIM")
    x, y = truth.astype(np.float64), completed.astype(np.float64)
    product = np.ones(3)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, structure = _ssim_factors(x, y)
        similarity = luminance * structure if scale == len(MS_SSIM_WEIGHTS) - 1 else structure
        product *= similarity[5:-5, 5:-5].mean((0, 1)).clip(0) ** weight
    return float(product.mean())


def _halve(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    return cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)


def _ssim_map(truth: np.ndarray, completed: np.ndarray) -> np.ndarray:
    luminance, structure = _ssim_factors(truth.astype(np.float64), completed.astype(np.float64))
    return luminance * structure


def _ssim_factors(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of luminance, and of contrast and structure, whose product is the similarity."""
    _difference(x, y, None)  # for its check of the sizes
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def _window(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


def score(truth: np.ndarray, completed: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """All figures of one image; `hole_…` over the hole's pixels only, `image_…` over the whole image.

    Raises:
        UserError: the hole is empty, or the sizes differ.
    """
    if not mask.any():
        raise UserError("cannot score an empty hole; leave the image out")
    figures = {}
    for name, where in (("hole", mask), ("image", None)):
        figures[f"{name}_l1_percent"] = l1(truth, completed, where)
        figures[f"{name}_l2_percent"] = l2(truth, completed, where)
        figures[f"{name}_psnr_db"] = psnr(truth, completed, where)
        figures[f"{name}_ssim"] = ssim(truth, completed, where)
    return figures


def summarise(scores: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard error (sample deviation / sqrt n) of each figure over the images.

    An infinite PSNR (a perfect image) is left out of its mean, which is then a little too low rather than infinite;
    the mean is infinite only if all are. The standard error of fewer than two figures is nan.
    """
    summary = {}
    for name in scores[0]:
        values = np.array([figures[name] for figures in scores], np.float64)
        values = values[np.isfinite(values)] if np.isfinite(values).any() else values[:1]
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        summary[name] = (float(values.mean()), error)
    return summary


# ---- classes of pixels


def class_histogram(truth_ids: np.ndarray, found_ids: np.ndarray, classes: int = 19) -> np.ndarray:
    """How often each class was taken for each other.

    Args:
        truth_ids: uint8 ids 0..classes - 1; 255 is not counted.
        found_ids: uint8 of the same shape; 255 is an answer too, a wrong one.

    Returns:
        int64 [classes, classes + 1]: rows are the truth, columns what was found, the last one for 255.

    Raises:
        ValueError: another id, or shapes that differ.
    """
    if truth_ids.shape != found_ids.shape:
        raise ValueError(f"ids of shape {truth_ids.shape} and {found_ids.shape} cannot be compared")
    counted = truth_ids != 255
    truth, found = truth_ids[counted].astype(np.int64), found_ids[counted].astype(np.int64)
    if (truth >= classes).any() or ((found >= classes) & (found != 255)).any():
        raise ValueError(f"a class id is neither below {classes} nor 255")
    found[found == 255] = classes
    counts = np.bincount(truth * (classes + 1) + found, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def segmentation_scores(histogram: np.ndarray) -> dict:
    """Accuracies and intersection over union of one histogram over a whole set.

    Returns:
        pixel_accuracy; class_accuracy and mean_iou, in which a class that the truth lacks counts as 0, as in the script
        behind the published numbers; the same over the classes present only, as `…_present`; iou, a list.
    """
    right = np.diagonal(histogram).astype(np.float64)
    truth, found = histogram.sum(1), histogram[:, : len(histogram)].sum(0)
    accuracy, iou = right / np.maximum(truth, 1), right / np.maximum(truth + found - right, 1)
    present = truth > 0
    return {
        "pixel_accuracy": float(right.sum() / max(1, truth.sum())),
        "class_accuracy": float(accuracy.mean()),
        "mean_iou": float(iou.mean()),
        "class_accuracy_present": float(accuracy[present].mean()) if present.any() else 0.0,
        "mean_iou_present": float(iou[present].mean()) if present.any() else 0.0,
        "iou": [round(float(value), 4) for value in iou],
    }
