"""Figures against values worked by hand, and SSIM against scikit-image."""

import math

import numpy as np
import pytest

from common.errors import UserError
from common.evaluation import image_metrics


def image(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_figures_of_one_wrong_pixel():
    truth = np.zeros((10, 10, 3), np.uint8)
    wrong = truth.copy()
    wrong[2, 3] = (51, 0, 0)  # a fifth of the range in one of 300 values
    mask = np.zeros((10, 10), bool)
    mask[2, 2:4] = True  # 6 values
    assert image_metrics.l1(truth, wrong) == pytest.approx(100 * 0.2 / 300)
    assert image_metrics.l1(truth, wrong, mask) == pytest.approx(100 * 0.2 / 6)
    assert image_metrics.l2(truth, wrong) == pytest.approx(100 * 0.04 / 300)
    assert image_metrics.l2(truth, wrong, mask) == pytest.approx(100 * 0.04 / 6)
    assert image_metrics.psnr(truth, wrong) == pytest.approx(-10 * math.log10(0.04 / 300))
    assert image_metrics.psnr(truth, wrong, mask) == pytest.approx(-10 * math.log10(0.04 / 6))
    assert image_metrics.psnr(truth, wrong, ~mask) == math.inf


def test_darker_is_as_far_as_brighter():
    dark, light = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 250, np.uint8)
    assert image_metrics.l1(dark, light) == image_metrics.l1(light, dark) == pytest.approx(100 * 240 / 255)
    assert image_metrics.psnr(np.zeros_like(dark), np.full_like(dark, 255)) == 0


def test_ssim_of_two_flat_pictures():
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)  # no variance: the second factor is 1
    pair = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 150, np.uint8)
    assert image_metrics.ssim(*pair) == pytest.approx(expected, abs=1e-9)
    assert image_metrics.ssim(*pair, np.eye(20, dtype=bool)) == pytest.approx(expected, abs=1e-9)
    assert image_metrics.ssim(image(), image()) == pytest.approx(1)


@pytest.mark.parametrize("size", [(40, 50), (11, 11), (33, 47)])
def test_ssim_equals_scikit_image(size):
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    truth = image(*size)
    for noise in (5, 40, 200):
        shift = np.random.default_rng(1).integers(-noise, noise, truth.shape)
        other = np.clip(truth + shift, 0, 255).astype(np.uint8)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
        mean, full = similarity(truth, other, **options, data_range=255, full=True)
        assert image_metrics.ssim(truth, other) == pytest.approx(mean, abs=1e-9)
        somewhere = np.random.default_rng(2).random(size) < 0.3
        assert image_metrics.ssim(truth, other, somewhere) == pytest.approx(full[somewhere].mean(), abs=1e-9)


def test_ms_ssim_of_flat_images_is_the_luminance_of_the_coarsest_scale():
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    pair = np.full((176, 180, 3), 100, np.uint8), np.full((176, 180, 3), 150, np.uint8)
    assert image_metrics.ms_ssim(*pair) == pytest.approx(luminance**0.1333, abs=1e-6)
    assert image_metrics.ms_ssim(image(176, 201), image(176, 201)) == pytest.approx(1)


def test_ms_ssim_forgives_fine_noise_that_ssim_does_not():
    truth = np.repeat(np.repeat(image(22, 22), 8, 0), 8, 1)
    noisy = np.clip(truth + np.random.default_rng(0).normal(0, 40, truth.shape), 0, 255).astype(np.uint8)
    assert image_metrics.ms_ssim(truth, noisy) > image_metrics.ssim(truth, noisy) + 0.1


def test_ms_ssim_equals_pytorch_msssim():
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("pytorch_msssim")
    truth = np.repeat(np.repeat(image(48, 56), 4, 0), 4, 1)
    for noise in (5, 40, 200):
        shift = np.random.default_rng(1).integers(-noise, noise, truth.shape)
        other = np.clip(truth + shift, 0, 255).astype(np.uint8)
        pair = [torch.from_numpy(each.transpose(2, 0, 1)[None].astype(np.float64)) for each in (truth, other)]
        theirs = float(reference.ms_ssim(*pair, data_range=255))
        assert image_metrics.ms_ssim(truth, other) == pytest.approx(theirs, abs=1e-4)


def test_ms_ssim_refuses_images_too_small_for_its_window():
    with pytest.raises(UserError, match="needs 176 px, the image has 300 x 175"):
        image_metrics.ms_ssim(image(175, 300), image(175, 300))


@pytest.mark.medium
def test_psnr_equals_scikit_image():
    ratio = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    assert image_metrics.psnr(image(), image(seed=1)) == pytest.approx(ratio(image(), image(seed=1)))


def test_score_keeps_hole_and_picture_apart():
    truth, completed = image(), image()
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:30] = True  # a tenth of the image
    completed[mask] = image(seed=1)[mask]
    figures = image_metrics.score(truth, completed, mask)
    assert figures["hole_l1_percent"] == pytest.approx(10 * figures["image_l1_percent"])
    assert figures["hole_l2_percent"] == pytest.approx(10 * figures["image_l2_percent"])
    assert figures["hole_psnr_db"] == pytest.approx(figures["image_psnr_db"] - 10)
    assert figures["hole_ssim"] < 0.3 < figures["image_ssim"] < 1
    assert set(figures) == {
        f"{a}_{b}" for a in ("hole", "image") for b in ("l1_percent", "l2_percent", "psnr_db", "ssim")
    }


def test_mean_and_standard_error():
    scores = [{"a": 1.0, "b": math.inf}, {"a": 2.0, "b": 30.0}, {"a": 6.0, "b": 40.0}]
    summary = image_metrics.summarise(scores)
    assert summary["a"] == pytest.approx((3, math.sqrt(7) / math.sqrt(3)))  # variance ((2² + 1² + 3²) / 2) = 7
    assert summary["b"] == pytest.approx((35, 5))  # the perfect image is left out
    mean, error = image_metrics.summarise([{"b": math.inf}, {"b": math.inf}])["b"]
    assert mean == math.inf and math.isnan(error)
    assert math.isnan(image_metrics.summarise([{"a": 4.0}])["a"][1])


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"50 x 40.*60 x 40"):
        image_metrics.l1(image(), image(40, 60))
    with pytest.raises(UserError, match=r"50 x 40.*60 x 40"):
        image_metrics.ssim(image(), image(40, 60))
    with pytest.raises(UserError, match="empty hole"):
        image_metrics.score(image(), image(), np.zeros((40, 50), bool))
    with pytest.raises(UserError, match="11 x 11"):
        image_metrics.ssim(image(10, 50), image(10, 50))


# ---- classes of pixels


def test_histogram_and_scores_by_hand():
    """Two classes in four: truth 0 0 0 1 1 void, found 0 0 1 1 other other."""
    truth, found = np.uint8([[0, 0, 0, 1, 1, 255]]), np.uint8([[0, 0, 1, 1, 255, 255]])
    histogram = image_metrics.class_histogram(truth, found, classes=4)
    np.testing.assert_array_equal(histogram[:2], [[2, 1, 0, 0, 0], [0, 1, 0, 0, 1]])
    assert histogram.sum() == 5
    scores = image_metrics.segmentation_scores(histogram)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    assert scores["class_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 4)  # absent classes count as 0
    assert scores["class_accuracy_present"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["mean_iou"] == pytest.approx((2 / 3 + 1 / 3) / 4)  # 2 / (3 + 2 - 2), 1 / (2 + 2 - 1)
    assert scores["mean_iou_present"] == pytest.approx(1 / 2)


def test_scores_equal_set_arithmetic():
    """Every figure again from sets of pixels, with void in both and class 7 in neither."""
    rng = np.random.default_rng(3)
    truth = rng.choice(np.uint8([0, 1, 2, 5, 18, 255]), (40, 50))
    found = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice(np.uint8([0, 1, 9, 255]), truth.shape))
    scores = image_metrics.segmentation_scores(image_metrics.class_histogram(truth, found))
    scored = truth != 255
    accuracy, iou = np.zeros(19), np.zeros(19)
    for n in (0, 1, 2, 5, 18):
        mine, theirs = (truth == n), (found == n) & scored
        accuracy[n] = (mine & theirs).sum() / mine.sum()
        iou[n] = (mine & theirs).sum() / (mine | theirs).sum()
    assert scores["pixel_accuracy"] == pytest.approx((truth == found)[scored].mean())
    assert scores["class_accuracy"] == pytest.approx(accuracy.sum() / 19)
    assert scores["class_accuracy_present"] == pytest.approx(accuracy.sum() / 5)
    assert scores["mean_iou"] == pytest.approx(iou.sum() / 19)
    assert scores["mean_iou_present"] == pytest.approx(iou.sum() / 5)
    np.testing.assert_allclose(scores["iou"], iou, atol=5e-5)
    assert (image_metrics.class_histogram(truth, found)[:, 9] > 0).any()  # found where it never is: in its row nothing
    assert (
        image_metrics.segmentation_scores(image_metrics.class_histogram(truth[~scored], found[~scored]))["mean_iou"]
        == 0
    )


def test_histograms_add_up_over_a_set_and_refuse_unknown_ids():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 19, (2, 5, 30, 40)).astype(np.uint8)
    parts = sum(image_metrics.class_histogram(a, b) for a, b in zip(truth, found, strict=True))
    np.testing.assert_array_equal(parts, image_metrics.class_histogram(truth, found))
    assert image_metrics.segmentation_scores(parts)["pixel_accuracy"] == pytest.approx((truth == found).mean())
    with pytest.raises(ValueError, match="neither below 19 nor 255"):
        image_metrics.class_histogram(truth[0], np.full_like(found[0], 19))
    with pytest.raises(ValueError, match="neither below 19 nor 255"):
        image_metrics.class_histogram(np.full_like(truth[0], 19), found[0])
    with pytest.raises(ValueError):
        image_metrics.class_histogram(truth[0], found[0][:, :-1])
