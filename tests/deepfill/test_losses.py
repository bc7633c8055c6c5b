"""The objectives against arithmetic, and where their gradients go."""

import numpy as np
import pytest

from common.runtime.optim import frozen
from deepfill.losses import adversarial_loss, discriminator_loss, reconstruction_loss
from deepfill.model import Discriminator, Generator

import paddle


def test_reconstruction_is_the_mean_over_all_pixels_of_both_stages():
    image = paddle.zeros([2, 3, 4, 4])
    coarse, refined = paddle.full([2, 3, 4, 4], 0.5), paddle.full([2, 3, 4, 4], -0.25)
    mask = paddle.zeros([2, 1, 4, 4])
    mask[:, :, :, :1] = 1  # a quarter of the image
    assert float(reconstruction_loss(image, coarse, refined, mask)) == pytest.approx(0.75)
    assert float(reconstruction_loss(image, coarse, refined, mask, 0.2)) == pytest.approx(0.75 * (0.25 + 0.75 * 0.2))
    assert float(reconstruction_loss(image, coarse, refined, mask, 0)) == pytest.approx(0.75 * 0.25)
    inside, outside = coarse * mask, coarse * (1 - mask)
    assert float(reconstruction_loss(image, inside, inside, mask, 0.2)) == pytest.approx(0.25)
    assert float(reconstruction_loss(image, outside, outside, mask, 0.2)) == pytest.approx(0.75 * 0.2)


def test_hinge():
    """1 at zero logits; right answers beyond 1 cost nothing and pull no more."""
    zero = paddle.zeros([2, 16])
    assert [float(part) for part in discriminator_loss(zero, zero)] == [0.5, 0.5]
    real, fake = paddle.to_tensor([[2.0, 0.5, -1.0]]), paddle.to_tensor([[-3.0, 0.0, 1.0]])
    real.stop_gradient = fake.stop_gradient = False
    parts = discriminator_loss(real, fake)
    assert [float(part) for part in parts] == pytest.approx([0.5 * (0 + 0.5 + 2) / 3, 0.5 * (0 + 1 + 2) / 3])
    sum(parts).backward()
    np.testing.assert_allclose(real.grad.numpy(), [[0, -1 / 6, -1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(fake.grad.numpy(), [[0, 1 / 6, 1 / 6]], rtol=1e-6)


def test_adversarial():
    assert float(adversarial_loss(paddle.to_tensor([[2.0, 0.5, -1.0]]))) == pytest.approx(-0.5)


def test_the_generators_step_leaves_nothing_on_the_discriminator():
    """Frozen, it lets the gradient through and takes none; afterwards it learns as before."""
    paddle.seed(0)
    generator, discriminator = Generator(4, layers="vanilla"), Discriminator(4)
    image, mask = paddle.rand([2, 3, 32, 32]) * 2 - 1, paddle.ones([2, 1, 32, 32])
    trained = [weight for weight in discriminator.parameters() if not weight.stop_gradient]
    assert len(trained) == 12  # six weights, six biases

    def step():
        adversarial_loss(discriminator(generator(image, mask)[1], mask)).backward()
        moved = [weight.grad is not None and bool(weight.grad.abs().max() > 0) for weight in generator.parameters()]
        assert all(moved[-2:])  # those of allconv17
        return [weight.grad for weight in trained]

    with frozen(discriminator):
        assert step() == [None] * 12
    assert all(gradient is not None for gradient in step())
