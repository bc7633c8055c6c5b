"""FID, KID and P-IDS against closed forms, arithmetic, SciPy and clean-fid."""

import math

import numpy as np
import pytest
import scipy.linalg

from common.errors import UserError
from common.evaluation import distribution_metrics as metrics


def feature_set(vectors, **options):
    made = metrics.FeatureSet(**options)
    made.add(np.asarray(vectors))
    return made


def normal(count, dimensions, shift=0.0, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32) + np.float32(shift)


# ---- sets that stream by


def test_mean_and_covariance_of_a_stream_of_uneven_batches_far_from_zero():
    vectors = normal(500, 6, seed=1) @ normal(6, 6, seed=2) + np.float32(3000)
    streamed = metrics.FeatureSet()
    for part in np.split(vectors, [1, 3, 3, 200, 499]):
        streamed.add(part)
    exact = vectors.astype(np.float64)
    assert streamed.count == 500
    np.testing.assert_allclose(streamed.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(streamed.covariance, np.cov(exact, rowvar=False), rtol=1e-8)


def test_fifty_thousand_vectors_leave_a_uniform_sample_of_pairs():
    first, second = metrics.FeatureSet(sample_size=400), metrics.FeatureSet(sample_size=400)
    for start in range(0, 50_000, 1000):
        places = np.arange(start, start + 1000, dtype=np.float32)[:, None]
        first.add(places)
        second.add(places + np.float32(0.5))
    assert first.sample.shape == (400, 1) and first.count == 50_000
    np.testing.assert_array_equal(second.sample - first.sample, 0.5)  # the same places of both
    assert abs(first.sample.mean() - 25_000) < 4 * 50_000 / math.sqrt(12 * 400)
    assert len(np.unique(first.sample)) == 400 and (first.sample > 45_000).sum() == pytest.approx(40, abs=25)


# ---- Frechet distance


def test_frechet_distance_of_gaussians_that_share_their_axes():
    """Then it is |m_a - m_b|^2 + the sum of (s_a - s_b)^2 over the axes."""
    axes = scipy.linalg.qr(normal(5, 5).astype(np.float64))[0]
    a, b = np.array([4.0, 1, 9, 0.25, 0]), np.array([1.0, 1, 16, 4, 9])
    mean_a, mean_b = np.zeros(5), np.array([1.0, 2, 0, 0, 2])
    found = metrics.frechet_distance(mean_a, axes * a @ axes.T, mean_b, axes * b @ axes.T)
    assert found == pytest.approx(9 + (1 + 0 + 1 + 2.25 + 9))


def test_frechet_distance_of_tilted_gaussians():
    """In two dimensions tr (AB)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2); in more SciPy's matrix root decides."""
    a, b = np.array([[2.0, 1], [1, 3]]), np.array([[4.0, -1.5], [-1.5, 1]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    assert metrics.frechet_distance([0, 0], a, [0, 0], b) == pytest.approx(10 - 2 * root)
    c, d = (np.cov(normal(60, 8, seed=n) @ normal(8, 8, seed=n + 9), rowvar=False) for n in (0, 1))
    expected = np.trace(c) + np.trace(d) - 2 * np.trace(scipy.linalg.sqrtm(c @ d)).real
    assert metrics.frechet_distance(np.zeros(8), c, np.zeros(8), d) == pytest.approx(expected)


def test_fid_wants_as_many_images_as_features():
    few, enough = feature_set(normal(2047, 3)), feature_set(normal(2048, 3))
    assert metrics.fid(enough, enough) == pytest.approx(0, abs=1e-9)
    assert metrics.fid(enough, feature_set(normal(2048, 3, 2))) == pytest.approx(12, abs=1e-5)
    with pytest.raises(UserError, match=r"2,047 images .* needs 2,048.*use KID"):
        metrics.fid(enough, few)


# ---- KID


def test_kernel_distance_by_hand():
    """D = 1: k(0, 0) = 1, k(1, 1) = 8, k(0, 1) = 1; the value of a pair with itself does not count."""
    assert metrics.squared_mmd(np.zeros((2, 1)), np.ones((2, 1))) == pytest.approx(1 + 8 - 2)
    a, b = np.array([[0.0], [2]]), np.array([[1.0], [1]])  # k(0, 2) = 1, k(1, 1) = 8, k(0, 1) = 1, k(2, 1) = 27
    assert metrics.squared_mmd(a, b) == pytest.approx(1 + 8 - (1 + 27))


def test_kid_of_few_images_is_taken_over_all_of_them():
    a, b = normal(60, 4), normal(55, 4, 0.5, seed=1)

    def kernel(x, y):
        return (float(x.astype(np.float64) @ y) / 4 + 1) ** 3

    within = [
        sum(kernel(x, y) for i, x in enumerate(z) for j, y in enumerate(z) if i != j) / len(z) / (len(z) - 1)
        for z in (a, b)
    ]
    across = sum(kernel(x, y) for x in a for y in b) / len(a) / len(b)
    assert metrics.kid(feature_set(a), feature_set(b))[0] == pytest.approx(sum(within) - 2 * across)


@pytest.mark.parametrize("count", [3, 4, 50])
def test_no_kid_is_without_its_error(monkeypatch, count):
    """Half of three images is one, which has no pair: a set that small is only let in here."""
    monkeypatch.setattr(metrics, "KID_MIN_IMAGES", 3)
    found = metrics.kid(feature_set(normal(count, 8)), feature_set(normal(count, 8, seed=1)))
    assert np.isfinite(found).all() and found[1] > 0


def test_kid_refuses_fewer_than_fifty_images():
    metrics.kid(feature_set(normal(50, 3)), feature_set(normal(50, 3, seed=1)))
    with pytest.raises(UserError, match="at least 50 images .* there are 49"):
        metrics.kid(feature_set(normal(49, 3)), feature_set(normal(50, 3)))


def test_kid_of_many_images_comes_near_the_value_of_all():
    a, b = normal(2100, 3), normal(2100, 3, 0.7, seed=1)
    value, error = metrics.kid(feature_set(a), feature_set(b))
    exact = metrics.squared_mmd(a.astype(np.float64), b.astype(np.float64))
    assert value != exact and error > 0 and abs(value - exact) < error and exact > 10 * error


@pytest.mark.parametrize("subset_size", [1000, 20])
def test_the_standard_error_of_kid_is_the_spread_between_sets(monkeypatch, subset_size):
    """Whether taken from halves of the images or from a tenth of them."""
    monkeypatch.setattr(metrics, "SUBSET_SIZE", subset_size)
    count = 80 if subset_size == 1000 else 200
    pairs = [(normal(count, 4, seed=n), normal(count, 4, 0.6, seed=n + 1000)) for n in range(60)]
    found = np.array([metrics.kid(feature_set(a), feature_set(b)) for a, b in pairs])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.3)


def test_kid_equals_clean_fid():
    fid = pytest.importorskip("cleanfid.fid")
    a, b = normal(100, 16), normal(100, 16, 0.3, seed=1)
    assert metrics.kid(feature_set(a), feature_set(b))[0] == pytest.approx(fid.kernel_distance(a, b), rel=1e-4)


def test_frechet_distance_equals_pytorch_fid():
    score = pytest.importorskip("pytorch_fid.fid_score")
    a, b = feature_set(normal(400, 16)), feature_set(normal(400, 16, 0.3, seed=1) * np.float32(1.2))
    try:
        theirs = score.calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    except (TypeError, ValueError):
        pytest.skip("this pytorch-fid calls scipy.linalg.sqrtm in a way that SciPy dropped")
    ours = metrics.frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert ours == pytest.approx(theirs, rel=1e-4)


# ---- P-IDS and U-IDS


def test_discriminative_scores_by_hand():
    """A quarter of the completed images lie beyond the real ones: more real than these, and taken for real."""
    pytest.importorskip("sklearn")
    real, made = np.full((80, 1), 1.0), np.where(np.arange(80) % 4 == 0, 2.0, -1.0)[:, None]
    paired, unpaired = metrics.discriminative_scores(feature_set(real), feature_set(made))
    assert paired == pytest.approx(25) and unpaired == pytest.approx(12.5)


def test_discriminative_scores_of_one_distribution_are_near_a_half():
    pytest.importorskip("sklearn")
    paired, unpaired = metrics.discriminative_scores(feature_set(normal(2000, 2)), feature_set(normal(2000, 2, seed=1)))
    assert paired == pytest.approx(50, abs=5) and unpaired == pytest.approx(50, abs=5)


def test_discriminative_scores_refuse_what_a_plane_always_separates():
    pytest.importorskip("sklearn")
    with pytest.raises(UserError, match="of 30 images are 0 whatever"):
        metrics.discriminative_scores(feature_set(normal(30, 30)), feature_set(normal(30, 30, seed=1)))
    with pytest.raises(UserError, match="40 and 41 images"):
        metrics.discriminative_scores(feature_set(normal(40, 3)), feature_set(normal(41, 3)))
