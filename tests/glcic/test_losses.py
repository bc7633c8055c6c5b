"""The objectives against numbers worked out by hand."""

import math

import numpy as np
import pytest

from glcic import losses

import paddle


def test_completion_loss_counts_the_hole_only():
    """4 x 4 image, 2 x 2 hole, error 1.0 in [-1, 1], so 0.5 in [0, 1]: 4/16 * 0.25; known pixels are far off."""
    image, completed = paddle.zeros([1, 3, 4, 4]), paddle.full([1, 3, 4, 4], -1.0)
    mask = paddle.zeros([1, 1, 4, 4])
    mask[:, :, 1:3, 1:3] = 1
    completed = completed * (1 - mask) + mask
    assert float(losses.completion_loss(completed, image, mask)) == pytest.approx(4 / 16 * 0.25)


def test_l1_completion_loss_counts_the_hole_only():
    """4 of 16 pixels with an error of -1.0 in [-1, 1], so 0.5 in [0, 1]: 4/16 * 0.5."""
    mask = paddle.zeros([1, 1, 4, 4])
    mask[:, :, 1:3, 1:3] = 1
    completed = 3 * (1 - mask) - mask
    assert float(losses.completion_loss(completed, paddle.zeros([1, 3, 4, 4]), mask, "l1")) == pytest.approx(4 / 16 / 2)


def test_adversarial_losses_at_known_probabilities():
    """D(x) = 0.8 and D(C) = 0.3."""
    real, fake = (paddle.to_tensor([[math.log(p / (1 - p))]]) for p in (0.8, 0.3))
    assert float(sum(losses.discriminator_loss(real, fake))) == pytest.approx(-math.log(0.8) - math.log(0.7), rel=1e-6)
    assert float(losses.adversarial_loss(fake)) == pytest.approx(-math.log(0.3), rel=1e-6)
    assert float(losses.adversarial_loss(fake, minimax=True)) == pytest.approx(math.log(0.7), rel=1e-6)


def test_gradients_of_the_two_forms():
    """d(-log D)/dlogit = D - 1 and d log(1 - D)/dlogit = -D: both push D(C) up."""
    for minimax, expected in ((False, 0.3 - 1), (True, -0.3)):
        logit = paddle.to_tensor([[math.log(0.3 / 0.7)]], stop_gradient=False)
        losses.adversarial_loss(logit, minimax).backward()
        assert logit.grad.item() == pytest.approx(expected, rel=1e-5)


def test_no_overflow_for_confident_discriminators():
    far = paddle.to_tensor([[200.0]])
    assert np.isfinite(float(sum(losses.discriminator_loss(-far, far))))
    assert float(sum(losses.discriminator_loss(-far, far))) == pytest.approx(400, rel=1e-5)
