"""The objectives against arithmetic: weights per pixel, Eq. 1 to 3 by hand."""

import numpy as np
import pytest

from context_encoder import losses
from context_encoder.config import PAPER_CENTER, PAPER_RANDOM_REGION
from context_encoder.masks import center
from context_encoder.model import ContextEncoder

import paddle


def target_mask(image_px=128, overlap_px=4):
    mask = paddle.to_tensor(center(image_px, overlap_px)[None, None].astype(np.float32))
    return ContextEncoder(image_px, base_channels=4, bottleneck=8, overlap_px=overlap_px).target(mask)


def test_a_pixel_weighs_0_999_in_the_hole_and_9_99_on_the_ring():
    cfg = PAPER_CENTER
    weights = cfg.reconstruction_weight * losses.pixel_weights(target_mask(), cfg.known_weight).numpy()[0, 0]
    inner = np.zeros((64, 64), bool)
    inner[4:60, 4:60] = True
    np.testing.assert_allclose(weights[inner], 0.999, rtol=1e-6)
    np.testing.assert_allclose(weights[~inner], 9.99, rtol=1e-6)
    assert inner.sum() == 3136 and (~inner).sum() == 960
    assert weights.mean() / 0.999 == pytest.approx(3.11, abs=0.005)  # the mean factor


def test_the_weight_of_each_pixel_in_the_gradient():
    """d loss / d prediction = 2 w (F - x) / (3 * 64 * 64) at every pixel."""
    rng = np.random.default_rng(0)
    predicted = paddle.to_tensor(rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32), stop_gradient=False)
    target = rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    loss = 0.999 * losses.reconstruction_loss(predicted, paddle.to_tensor(target), target_mask(), 10.0)
    loss.backward()
    weight = np.full((64, 64), 9.99)
    weight[4:60, 4:60] = 0.999
    expected = 2 * weight * (predicted.numpy() - target) / (3 * 64 * 64)
    np.testing.assert_allclose(predicted.grad.numpy(), expected, rtol=1e-4, atol=1e-9)


def test_random_regions_weigh_known_pixels_as_asked():
    """1: the release's plain mean over the whole image; 0: Eq. 1, the hole alone; 10: its option useOverlapPred."""
    rng = np.random.default_rng(1)
    x, f = rng.uniform(-1, 1, (2, 2, 3, 8, 8))
    mask = (rng.random((2, 1, 8, 8)) < 0.3).astype(np.float64)
    found = {
        weight: losses.reconstruction_loss(*map(paddle.to_tensor, (f, x, mask)), weight).item() for weight in (0, 1, 10)
    }
    squares = (f - x) ** 2
    assert PAPER_RANDOM_REGION.known_weight == 1
    assert found[1] == pytest.approx(squares.mean())
    assert found[0] == pytest.approx((squares * mask).sum() / squares.size)
    assert found[10] == pytest.approx(((squares * mask).sum() + 10 * (squares * (1 - mask)).sum()) / squares.size)


def test_cross_entropies():
    """Eq. 2 with the probabilities that the logits stand for, summed without a half."""
    probability = np.array([[0.9], [0.6]]), np.array([[0.2], [0.7]])
    real, fake = (paddle.to_tensor(np.log(p / (1 - p))) for p in probability)
    expected = -np.log(probability[0]).mean() - np.log(1 - probability[1]).mean()
    assert sum(losses.discriminator_loss(real, fake)).item() == pytest.approx(expected)
    assert losses.adversarial_loss(fake).item() == pytest.approx(-np.log(probability[1]).mean())


def test_extreme_logits_stay_finite():
    far = paddle.to_tensor([[1e4], [-1e4]])
    assert losses.adversarial_loss(far).item() == pytest.approx(5e3)
    assert np.isfinite(sum(losses.discriminator_loss(far, far)).item())
