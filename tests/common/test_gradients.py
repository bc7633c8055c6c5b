"""Steps from clean gradients, and networks that pass gradients on without collecting any."""

import numpy as np
import pytest

from common.gradients import frozen, update

import paddle


class Scale(paddle.nn.Layer):
    """x * weight, beside a parameter that is never trained, as running statistics are."""

    def __init__(self, weight):
        super().__init__()
        self.weight = self.create_parameter([1])
        self.weight.set_value(np.float32([weight]))
        self.average = self.create_parameter([1])
        self.average.stop_gradient = True

    def forward(self, x):
        return x * self.weight


def test_update_steps_from_clean_gradients():
    """Gradient descent on 3 w with rate 0.1: 2 - 0.3 - 0.3, whatever another loss left on the weight."""
    layer = Scale(2.0)
    optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
    (layer(paddle.ones([1])) * 100).backward()
    for _ in range(2):
        update(layer, optimizer, layer(paddle.ones([1])) * 3)
    assert layer.weight.item() == pytest.approx(1.4) and layer.weight.grad.item() == 3


def test_frozen_passes_gradients_through_and_collects_none():
    """y = d (g x): dy/dg = d x = 5 * 7, with nothing on d, though the backward pass comes after the block."""
    generator, judge = Scale(2.0), Scale(5.0)
    with frozen(judge):
        loss = judge(generator(paddle.full([1], 7.0)))
    loss.backward()
    assert loss.item() == 70 and generator.weight.grad.item() == 35
    assert judge.weight.grad is None


def test_frozen_leaves_gradients_that_were_there_and_weights_learn_again_after_it():
    generator, judge = Scale(2.0), Scale(5.0)
    judge(paddle.full([1], 3.0)).backward()
    with frozen(judge):
        judge(generator(paddle.full([1], 7.0))).backward()
    assert judge.weight.grad.item() == 3
    judge(paddle.full([1], 4.0)).backward()
    assert judge.weight.grad.item() == 3 + 4


def test_frozen_restores_what_was_trained_and_nothing_else_even_after_an_error():
    judge = Scale(5.0)
    with pytest.raises(ZeroDivisionError), frozen(judge):
        assert judge.weight.stop_gradient and judge.average.stop_gradient
        raise ZeroDivisionError
    assert not judge.weight.stop_gradient and judge.average.stop_gradient
