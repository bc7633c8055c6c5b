"""What is logged of a discriminator, against arithmetic."""

import pytest

from common.training.gan_log import discriminator_log

import paddle


def logged(sigmoid):
    """Of two images each: sigmoid(log 3) = 3/4, sigmoid(0) = 1/2, sigmoid(-log 4) = 1/5."""
    real, fake = paddle.log(paddle.to_tensor([[3.0], [1.0]])), paddle.log(paddle.to_tensor([[0.25], [0.25]]))
    real.stop_gradient = False
    return discriminator_log((real.mean(), 2 * fake.mean()), real, fake, sigmoid)


def test_losses_apart_and_probabilities_of_each_image():
    log = logged(sigmoid=True)
    assert list(log) == [
        *("discriminator", "discriminator_real", "discriminator_fake", "real_probability", "fake_probability")
    ]
    assert float(log["discriminator"]) == float(log["discriminator_real"]) + float(log["discriminator_fake"])
    assert log["real_probability"].flatten().tolist() == pytest.approx([0.75, 0.5])
    assert log["fake_probability"].flatten().tolist() == pytest.approx([0.2, 0.2])
    assert log["real_probability"].stop_gradient and not log["discriminator_real"].stop_gradient


def test_outputs_that_are_no_probabilities_are_called_outputs():
    log = logged(sigmoid=False)
    assert log["real_output"].flatten().tolist() == pytest.approx([1.0986123, 0])
    assert "real_probability" not in log and "fake_output" in log
