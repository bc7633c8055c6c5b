"""Ridge regression against its textbook solution, PCA against images that lie in its span."""

import numpy as np
import pytest

from common.errors import UserError
from common.evaluation import linear_floors

SIDE = 12
MASK = np.zeros((SIDE, SIDE), bool)
MASK[4:8, 3:9] = True


def family(count, seed, noise=4.0):
    """Images that are random sums of six fixed smooth ones, with noise."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    waves = np.sin(
        np.linspace(0, 3, SIDE)[:, None] * fixed.uniform(0.5, 3, (6, 1, 1)) + fixed.uniform(0, 6, (6, 1, SIDE))
    )
    colours = fixed.uniform(-20, 20, (6, 1, 1, 3))
    images = 128 + np.tensordot(rng.standard_normal((count, 6)), waves[..., None] * colours, 1)
    return np.clip(np.rint(images + rng.normal(0, noise, images.shape)), 0, 255).astype(np.uint8)


def test_ridge_is_the_textbook_solution():
    """(X'X + s I)^-1 X'Y with centred X and Y, s the chosen strength times the mean eigenvalue of XX'."""
    train, validation, image = family(60, 0), family(30, 1), family(1, 2)[0]
    ridge = linear_floors.Ridge(train, validation, MASK)
    missing = np.repeat(MASK.ravel(), 3)
    x, y = (train.reshape(60, -1)[:, which].astype(np.float64) for which in (~missing, missing))
    centred = x - x.mean(0)
    strength = ridge.strength * np.square(centred).sum() / 60
    weights = np.linalg.solve(centred.T @ centred + strength * np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    expected = (image.reshape(-1)[~missing] - x.mean(0)) @ weights + y.mean(0)
    found = ridge.complete(image)
    np.testing.assert_array_equal(found[~MASK], image[~MASK])
    np.testing.assert_allclose(found[MASK].ravel(), expected, atol=0.51)


@pytest.mark.parametrize("noise, bound", [(0.0, 0.01), (30.0, 0.01)])
def test_ridge_is_more_careful_with_noisy_images(noise, bound):
    ridge = linear_floors.Ridge(family(60, 0, noise), family(30, 1, noise), MASK)
    assert (ridge.strength > bound) == (noise > 0)


def test_both_fill_what_is_linear_far_better_than_the_mean_of_the_training_images():
    train, validation, test = family(100, 0), family(30, 1), family(20, 2)
    pca = linear_floors.PCA(train, validation, [MASK] * 30)
    ridge = linear_floors.Ridge(train, validation, MASK)
    mean = train.mean(0)

    def error(fills):
        return np.mean(
            [np.square(f[MASK].astype(float) - image[MASK]).mean() for f, image in zip(fills, test, strict=True)]
        )

    floor = error([mean] * 20)
    assert error([ridge.complete(image) for image in test]) < floor / 8
    assert error([pca.complete(image, MASK) for image in test]) < floor / 8


def test_pca_finds_the_image_of_its_span_under_any_mask_and_keeps_known_pixels():
    train = family(200, 0, noise=0)
    pca = linear_floors.PCA(train, family(30, 1, noise=0), [MASK] * 30)
    count = len(pca.components)
    assert count > 6
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(count), atol=0.01)
    image, mask = family(1, 5, noise=0)[0], np.random.default_rng(0).random((SIDE, SIDE)) < 0.7
    found = pca.complete(image, mask)
    np.testing.assert_array_equal(found[~mask], image[~mask])
    assert np.abs(found.astype(int) - image).max() < 6
    hidden = image.copy()
    hidden[mask] = 0
    np.testing.assert_array_equal(pca.complete(hidden, mask), found)  # what lies under the mask is not read


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="at least 20 training images .* 19 and 5"):
        linear_floors.Ridge(family(19, 0), family(5, 1), MASK)
    with pytest.raises(UserError, match="20 and 0"):
        linear_floors.PCA(family(20, 0), family(1, 1)[:0], [])
