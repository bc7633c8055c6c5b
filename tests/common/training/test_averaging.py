"""The moving average of a network's parameters, and the batch norm statistics that go with it."""

import numpy as np
import pytest

from common.training.averaging import average_of, recompute_batch_norm_stats, update_average

import paddle


class Block(paddle.nn.Layer):
    def __init__(self, outputs):
        super().__init__()
        self.arguments = {"outputs": outputs}
        self.conv = paddle.nn.Conv2D(3, outputs, 1)
        self.norm = paddle.nn.BatchNorm2D(outputs, momentum=0.99)
        self.register_buffer("colour", paddle.zeros([3]))

    def forward(self, image):
        return self.norm(self.conv(image))


def test_the_average_starts_equal_and_moves_by_its_decay():
    network = Block(4)
    average = average_of(network)
    start = network.conv.weight.numpy().copy()
    np.testing.assert_array_equal(average.conv.weight.numpy(), start)
    assert not average.training and network.training
    for value in (network.conv.weight, network.norm._mean):
        value.set_value(value + 1)
    update_average(average, network, 0.75)
    update_average(average, network, 0.75)
    np.testing.assert_allclose(average.conv.weight.numpy(), start + 1 - 0.75**2, atol=1e-6)
    np.testing.assert_array_equal(average.norm._mean.numpy(), np.zeros(4, np.float32))  # statistics do not follow


def test_statistics_are_the_plain_means_over_the_batches_whatever_they_were():
    network = Block(4)
    network.norm._mean.set_value(paddle.full([4], 7.0))
    rng = np.random.default_rng(0)
    batches = [rng.normal(n, 1 + n, (5, 3, 6, 6)).astype(np.float32) for n in range(3)]
    recompute_batch_norm_stats(network, ((paddle.to_tensor(batch),) for batch in batches))
    weight, bias = network.conv.weight.numpy()[:, :, 0, 0], network.conv.bias.numpy()
    features = [np.einsum("oc,nchw->nohw", weight, batch) + bias[None, :, None, None] for batch in batches]
    means, variances = (np.mean([how(each) for each in features], 0) for how in (_mean, _variance))
    np.testing.assert_allclose(network.norm._mean.numpy(), means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.norm._variance.numpy(), variances, rtol=0.01)  # n or n - 1 of 180 values
    assert network.norm._momentum == 0.99 and not network.training


def _mean(features):
    return features.mean((0, 2, 3))


def _variance(features):
    return features.var((0, 2, 3))


def test_momenta_come_back_when_a_batch_cannot_be_read():
    network = Block(4)

    def batches():
        yield (paddle.randn([2, 3, 4, 4]),)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        recompute_batch_norm_stats(network, batches())
    assert network.norm._momentum == 0.99
