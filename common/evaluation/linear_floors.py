"""Learned linear baselines for aligned images, fitted in closed form: what a network must beat to have learned more.

* Ridge regression from the known pixels to the missing ones, for one fixed mask.
* PCA: the most probable image in the span of the training images' principal components, given the known pixels, joined
  to them by a membrane; for any mask.

Both choose their strength of regularisation on validation images. Images are uint8 [N, H, W, 3], masks bool [H, W].
"""

from collections.abc import Iterable

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from common.errors import UserError
from common.inpainting.blending import blend

COMPONENTS = 400
MIN_IMAGES = 20
RIDGE_STRENGTHS = 10.0 ** np.arange(-4, 3)  # times the mean squared length of a training vector
PCA_STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # times the variance that the components leave


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def _pixels(mask: np.ndarray) -> np.ndarray:
    """The mask as a choice of the values of a flat image."""
    return np.repeat(mask.ravel(), 3)


def _put(image: np.ndarray, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    filled = image.copy()
    filled[mask] = np.clip(np.rint(values.reshape(-1, 3)), 0, 255).astype(np.uint8)
    return filled


def _check(train: np.ndarray, validation: np.ndarray) -> None:
    if len(train) < MIN_IMAGES or not len(validation):
        raise UserError(
            f"a linear baseline is fitted on at least {MIN_IMAGES} training images and chosen on validation images; "
            f"there are {len(train)} and {len(validation)}"
        )


class Ridge:
    """Linear regression of the missing pixels on the known ones, penalised; solved in the space of the images.

    Attributes:
        strength: the multiple of the mean squared length that was best on the validation images.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, mask: np.ndarray):
        _check(train, validation)
        self.mask, missing = mask, _pixels(mask)
        x, y = _flat(train)[:, ~missing], _flat(train)[:, missing]
        self.mean_x, self.mean_y = x.mean(0), y.mean(0)
        self.x, y = x - self.mean_x, y - self.mean_y
        values, vectors = eigh((self.x @ self.x.T).astype(np.float64))
        scale, turned = values.mean(), vectors.T @ y
        seen = (_flat(validation)[:, ~missing] - self.mean_x) @ self.x.T @ vectors
        wanted = _flat(validation)[:, missing] - self.mean_y

        def error(strength: float) -> float:
            return float(np.square(seen / (values + strength * scale) @ turned - wanted).mean())

        self.strength = min(RIDGE_STRENGTHS, key=error)
        self.weights = vectors @ (turned / (values + self.strength * scale)[:, None])

    def complete(self, image: np.ndarray) -> np.ndarray:
        """The image with the fixed mask filled."""
        known = _flat(image[None])[:, ~_pixels(self.mask)] - self.mean_x
        return _put(image, self.mask, known @ self.x.T @ self.weights + self.mean_y)


class PCA:
    """Principal components of the training images, with their variances and the variance that they leave.

    Attributes:
        strength: the multiple of that variance that was best on the validation images.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, masks: Iterable[np.ndarray]):
        _check(train, validation)
        self.mean = _flat(train).mean(0)
        centred = _flat(train) - self.mean
        count = min(COMPONENTS, len(train) - 1)
        products = (centred @ centred.T).astype(np.float64)
        values, vectors = eigh(products, subset_by_index=[len(train) - count, len(train) - 1])
        real = values > 1e-6 * values[-1]  # smaller ones are rounding
        values, vectors = values[real], vectors[:, real]
        self.components = (centred.T @ (vectors / np.sqrt(values))).T.astype(np.float32)
        self.variances = values / len(train)
        left = np.square(centred).sum() / len(train) - self.variances.sum()
        self.noise = max(float(left) / centred.shape[1], 1.0)
        pairs = list(zip(validation, masks, strict=False))

        def error(strength: float) -> float:
            self.strength = strength
            return sum(
                float(np.square(self._predict(image, mask)[_pixels(mask)] - image[mask].ravel()).sum())
                for image, mask in pairs
            )

        self.strength = min(PCA_STRENGTHS, key=error)

    def _predict(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The whole flat image, most probable given its known pixels (probabilistic PCA)."""
        known = ~_pixels(mask)
        basis = self.components[:, known]
        system = (basis @ basis.T).astype(np.float64)
        system[np.diag_indices_from(system)] += self.strength * self.noise / self.variances
        right = basis @ (_flat(image[None])[0, known] - self.mean[known])
        return self.mean + cho_solve(cho_factor(system), right).astype(np.float32) @ self.components

    def complete(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The image with its mask filled, the fill's colours moved by a membrane to meet the known pixels."""
        whole = np.clip(np.rint(self._predict(image, mask)), 0, 255).astype(np.uint8).reshape(image.shape)
        return blend(image, whole, mask, "poisson")
