"""Objectives against hand arithmetic, and the gradient penalty against finite differences."""

import math

import numpy as np
import pytest

from pix2pix import losses
from pix2pix.model import PatchDiscriminator, initialise

import paddle


def patches(*values):
    return paddle.to_tensor(np.float32(values).reshape(1, 1, 1, -1))


def test_l1_by_hand():
    fake, real = paddle.to_tensor([0.5, -1.0, 0.0]), paddle.to_tensor([1.0, 1.0, 0.0])
    assert float(losses.l1_loss(fake, real)) == pytest.approx(2.5 / 3)


def test_cross_entropy_by_hand():
    """D = sigmoid(logit): log 3 -> 3/4, 0 -> 1/2."""
    real, fake = patches(math.log(3), 0.0), patches(0.0, math.log(3))
    expected = (-(math.log(3 / 4) + math.log(1 / 2)) / 2 - (math.log(1 / 2) + math.log(1 / 4)) / 2) / 2
    assert float(sum(losses.discriminator_loss(real, fake))) == pytest.approx(expected, rel=1e-6)
    assert float(losses.adversarial_loss(fake)) == pytest.approx(-(math.log(1 / 2) + math.log(3 / 4)) / 2, rel=1e-6)


def test_least_squares_and_wasserstein_by_hand():
    real, fake = patches(0.5, 2.0), patches(1.0, -1.0)
    assert [float(part) for part in losses.discriminator_loss(real, fake, "lsgan")] == [(0.25 + 1) / 4, (1 + 1) / 4]
    assert float(losses.adversarial_loss(fake, "lsgan")) == pytest.approx((0 + 4) / 2)
    assert [float(part) for part in losses.discriminator_loss(real, fake, "wgan-gp")] == [-1.25, 0]
    assert float(losses.adversarial_loss(patches(1.0, 2.0), "wgan-gp")) == pytest.approx(-1.5)


def test_cross_entropy_of_certain_judges_is_finite():
    assert float(sum(losses.discriminator_loss(patches(-200.0), patches(200.0)))) == pytest.approx(200)


@pytest.fixture
def double():
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


@pytest.mark.medium
@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.parametrize("conditional", [True, False])
def test_gradient_penalty_equals_finite_differences(double, norm, conditional):
    """Value: norms of central differences over every input. Gradient in the weights: likewise, of the value."""
    paddle.seed(3)
    discriminator = PatchDiscriminator(16, 2, norm=norm, conditional=conditional)
    initialise(discriminator)
    for weight in discriminator.parameters():
        weight.set_value(weight * 20)  # a slope of about 1
    rng = np.random.default_rng(0)
    source, real, fake = (paddle.to_tensor(rng.uniform(-1, 1, (2, 3, 10, 10))) for _ in range(3))
    mix = paddle.to_tensor(rng.uniform(0, 1, (2, 1, 1, 1)))

    def penalty():
        return losses.gradient_penalty(discriminator, source, real, fake, mix)

    value = penalty()
    between = (mix * real + (1 - mix) * fake).numpy()
    seen = np.concatenate([source.numpy(), between], 1) if conditional else between
    slopes, h = np.zeros_like(seen), 1e-5
    for place in np.ndindex(*seen.shape[1:]):  # both images at once: they do not touch one another
        for sign in (1, -1):
            moved = seen.copy()
            moved[(slice(None), *place)] += sign * h
            with paddle.no_grad():
                slopes[(slice(None), *place)] += sign * discriminator.judge(paddle.to_tensor(moved)).numpy().sum(
                    (1, 2, 3)
                )
    norms = np.sqrt(np.square(slopes / (2 * h)).sum((1, 2, 3)))
    assert abs(norms - 1).min() > 0.01  # the test sees something
    assert float(value) == pytest.approx(np.square(norms - 1).mean(), rel=1e-4)

    value.backward()
    weight = discriminator.convs[1].conv.weight
    for place in [(0, 0, 0, 0), (1, 1, 2, 3), (3, 0, 1, 1)]:
        start, ends = weight.numpy(), []
        for sign in (1, -1):
            moved = start.copy()
            moved[place] += sign * h
            weight.set_value(moved)
            ends.append(float(penalty()))
        weight.set_value(start)
        expected = (ends[0] - ends[1]) / (2 * h)
        assert float(weight.grad.numpy()[place]) == pytest.approx(expected, rel=1e-3, abs=1e-7), place


def test_gradient_penalty_leaves_source_and_pictures_without_gradient():
    discriminator = PatchDiscriminator(16, 2, norm="instance")
    source, real, fake = (paddle.uniform([1, 3, 16, 16]) for _ in range(3))
    fake.stop_gradient = False
    losses.gradient_penalty(discriminator, source, real, fake, paddle.full([1, 1, 1, 1], 0.5)).backward()
    assert fake.grad is None and discriminator.convs[0].conv.weight.grad is not None
