"""The sliced Wasserstein distance against closed forms and SciPy's convolution."""

import math

import cv2
import numpy as np
import pytest
import scipy.ndimage

from common.errors import UserError
from common.evaluation import sliced_wasserstein as swd


def images(count=6, height=64, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def patch_set(pictures, seed=0):
    made = swd.PatchSet(seed)
    made.add(pictures)
    return made


def test_a_set_against_itself_is_exactly_zero_and_against_another_is_not():
    first, same, other = patch_set(images()), patch_set(images()), patch_set(images(seed=1) // 2 + 40)
    assert swd.distances(first, same) == {48: 0.0, 24: 0.0}
    assert all(value > 5 for value in swd.distances(first, other).values())


@pytest.mark.parametrize("size", [(64, 48), (37, 70)])
def test_the_pyramid_is_that_of_the_published_filter_and_adds_up_again(size):
    """5 x 5 binomial filter, mirrored at the edge; each level is what the next coarser one, enlarged, lacks."""
    image = images(1, *size)[0].astype(np.float32)
    row = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(row, row)[..., None]
    levels = swd.laplacian_pyramid(image)
    assert [min(level.shape[:2]) for level in levels] == {48: [48, 24], 37: [37, 19]}[min(size)]
    coarse = scipy.ndimage.convolve(image, kernel, mode="mirror")[::2, ::2]
    np.testing.assert_allclose(levels[1], coarse, atol=1e-3)
    spread = np.zeros_like(image)
    spread[::2, ::2] = coarse
    np.testing.assert_allclose(levels[0] + scipy.ndimage.convolve(spread, 4 * kernel, mode="mirror"), image, atol=1e-3)


def test_distance_of_one_dimension_and_of_a_shift_in_many():
    """In one dimension it is the mean difference of the sorted values; a shift v in D dimensions gives
    |v| Gamma(D/2) / (sqrt(pi) Gamma((D+1)/2)), the mean length of its projection."""
    rng = np.random.default_rng
    a, b = np.float32([[0], [10], [4]]), np.float32([[5], [1], [0]])  # sorted: 0 4 10 and 0 1 5
    assert swd.sliced_distance(a, b, rng(0)) == pytest.approx((0 + 3 + 5) / 3)
    points = rng(1).standard_normal((400, 20)).astype(np.float32)
    shift = rng(2).standard_normal(20).astype(np.float32)
    mean_length = math.gamma(10) / (math.sqrt(math.pi) * math.gamma(10.5))
    moved = rng(3).permutation(points + shift)
    assert swd.sliced_distance(points, moved, rng(4)) == pytest.approx(np.linalg.norm(shift) * mean_length, rel=0.1)
    assert swd.sliced_distance(points, rng(5).permutation(points), rng(4)) < 1e-6


def test_patches_are_normalised_by_channel_over_the_set():
    levels = [np.random.default_rng(n).normal([5, -3, 100], [1, 20, 3], (30, 7, 7, 3)) for n in range(2)]
    flat = swd._normalised(levels)
    assert flat.shape == (60, 147)
    by_channel = flat.reshape(60, 7, 7, 3)
    np.testing.assert_allclose(by_channel.mean((0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(by_channel.std((0, 1, 2)), 1, atol=1e-9)


def test_blur_shows_in_the_fine_levels_and_not_in_the_coarse_ones():
    sharp = np.stack([cv2.resize(image, (128, 128), interpolation=cv2.INTER_NEAREST) for image in images(8, 32, 32)])
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in sharp])
    found = swd.distances(patch_set(sharp), patch_set(soft))
    assert list(found) == [128, 64, 32, 16]
    assert found[128] > 3 * found[16]


def test_memory_is_bounded_by_the_first_1024_images():
    small = images(1, 16, 16)[0]
    counted = patch_set(small for _ in range(1100))
    assert counted.count == 1024 and len(counted.levels[16]) == 1024


def test_sets_that_do_not_match_are_refused():
    with pytest.raises(UserError, match="not 6 images .* and 5 with"):
        swd.distances(patch_set(images()), patch_set(images(5)))
    with pytest.raises(UserError, match=r"one size and length.*\[24, 48\] and 6 with \[16, 32\]"):
        swd.distances(patch_set(images()), patch_set(images(6, 32, 32)))
    with pytest.raises(UserError, match="needs 16 px, the image has 15"):
        patch_set(images(1, 15, 40))
