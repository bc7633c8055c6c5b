"""Distances between two sets of images by their features: Frechet distance (FID), KID, P-IDS and U-IDS.

They work on the features of any network. Sets of any length pass through `FeatureSet`, whose memory does not grow.
"""

import math

import numpy as np

from common.errors import UserError

KID_MIN_IMAGES = 50
FID_MIN_IMAGES = 2048  # the dimensions of its features: with fewer images their covariance has no full rank
SAMPLE = 10_000  # feature vectors kept of a set, uniformly chosen: 80 MB of 2,048 dimensions
SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as published
WHOLE = 2000  # images of a set up to which KID compares all with all


class FeatureSet:
    """Mean and covariance (float64) of feature vectors that stream by, and a uniform sample of them for KID.

    Sets of equal length and seed sample the same places, so that pairs stay pairs.
    """

    def __init__(self, seed: int = 0, sample_size: int = SAMPLE):
        self.count, self.sample_size = 0, sample_size
        self._rng = np.random.default_rng(seed)
        self._mean = self._scatter = None
        self._sample: list[np.ndarray] = []

    def add(self, features: np.ndarray) -> None:
        """Take in feature vectors [N, D]."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        if self._mean is None:
            self._mean = np.zeros(batch.shape[1])
            self._scatter = np.zeros((batch.shape[1], batch.shape[1]))
        mean, total = batch.mean(0), self.count + len(batch)
        shift, centred = mean - self._mean, batch - mean
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.count * len(batch) / total)
        self._mean += shift * (len(batch) / total)
        for vector in np.asarray(features, np.float32):
            self.count += 1
            if len(self._sample) < self.sample_size:
                self._sample.append(vector)
            elif (place := int(self._rng.integers(self.count))) < self.sample_size:  # reservoir sampling
                self._sample[place] = vector

    @property
    def mean(self) -> np.ndarray:
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        return self._scatter / (self.count - 1)

    @property
    def sample(self) -> np.ndarray:
        return np.stack(self._sample)


# ---- Frechet distance


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The trace of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2), which is symmetric:
    no matrix root of a product that is not, and no complex numbers.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance_a, np.float64))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ np.asarray(covariance_b, np.float64) @ root)
    difference = np.asarray(mean_a, np.float64) - mean_b
    traces = np.trace(covariance_a) + np.trace(covariance_b)
    return float(difference @ difference + traces - 2 * np.sqrt(mixed.clip(0)).sum())


def fid(real: FeatureSet, made: FeatureSet) -> float:
    """Frechet distance of two sets' features.

    Raises:
        UserError: a set has fewer than `FID_MIN_IMAGES` images.
    """
    fewest = min(real.count, made.count)
    if fewest < FID_MIN_IMAGES:
        raise UserError(
            f"FID of {fewest:,} images would mostly measure their number: it needs {FID_MIN_IMAGES:,}, the dimensions "
            "of its features; use KID, which is unbiased for any number"
        )
    return frechet_distance(real.mean, real.covariance, made.mean, made.covariance)


# ---- KID


def kid(real: FeatureSet, made: FeatureSet, seed: int = 0) -> tuple[float, float]:
    """Kernel distance (Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Up to 2,000 images are compared as a whole, more in 100 random subsets of 1,000 each.

    Returns:
        (value, its standard error by the delete-d jackknife over 100 subsets of at most half the images)

    Raises:
        UserError: a set has fewer than `KID_MIN_IMAGES` images.
    """
    a, b = real.sample.astype(np.float64), made.sample.astype(np.float64)
    fewest = min(len(a), len(b))
    if fewest < KID_MIN_IMAGES:
        raise UserError(
            f"KID needs at least {KID_MIN_IMAGES} images to say anything, there are {fewest}; score more of them"
        )
    size = min(SUBSET_SIZE, max(2, fewest // 2))  # of one image there is no pair to compare
    subsets = subset_distances(a, b, size, np.random.default_rng(seed))
    value = squared_mmd(a, b) if max(len(a), len(b)) <= WHOLE else subsets.mean()
    return float(value), float(subsets.std(ddof=1) * math.sqrt(size / (fewest - size)))


def subset_distances(a: np.ndarray, b: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Squared MMD of 100 random subsets, `size` vectors of each set."""
    draws = ((rng.choice(len(a), size, replace=False), rng.choice(len(b), size, replace=False)) for _ in range(SUBSETS))
    return np.array([squared_mmd(a[rows], b[columns]) for rows, columns in draws])


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel, of float64 [N, D] and [M, D]."""
    within = 0.0
    for each in (a, b):
        kernel = _cubic(each, each)
        within += (kernel.sum() - np.trace(kernel)) / (len(each) * (len(each) - 1))
    return float(within - 2 * _cubic(a, b).mean())


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kernel = a @ b.T / a.shape[1] + 1
    return kernel * kernel * kernel  # many times faster than kernel**3


# ---- inception discriminative score


def discriminative_scores(real: FeatureSet, made: FeatureSet) -> tuple[float, float]:
    """P-IDS and U-IDS (Zhao et al. 2021, as in MAT), in percent, of sets whose images are pairs in order.

    A linear support vector machine is fitted to tell the features apart. U-IDS is the percentage it takes for the
    other kind (50 is best); P-IDS that of completed images which it holds for more real than their originals.

    Raises:
        UserError: scikit-learn is missing, the sets are no pairs, or too few to be inseparable.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise UserError('P-IDS and U-IDS need the package scikit-learn: pip install -e ".[metrics]"') from None
    if real.count != made.count:
        raise UserError(f"P-IDS compares pairs, the sets have {real.count} and {made.count} images")
    a, b = real.sample, made.sample
    if len(a) <= a.shape[1]:
        raise UserError(
            f"P-IDS and U-IDS of {len(a)} images are 0 whatever their quality: a plane separates any two sets of fewer "
            f"images than features ({a.shape[1]:,}); score more of them, or use KID"
        )
    machine = LinearSVC(dual=False)
    labels = np.repeat([1, 0], [len(a), len(b)])
    machine.fit(np.concatenate([a, b]), labels)
    wrong = 1 - machine.score(np.concatenate([a, b]), labels)
    paired = float((machine.decision_function(b) > machine.decision_function(a)).mean())
    return 100 * paired, 100 * float(wrong)
