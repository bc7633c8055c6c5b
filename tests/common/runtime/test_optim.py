"""Steps from clean gradients, and networks that pass gradients on without collecting any."""

import contextlib
import types

import numpy as np
import pytest

from common.errors import UserError
from common.runtime.device import open_device
from common.runtime.optim import (
    check_amp,
    frozen,
    in_micro_batches,
    mixed_precision,
    open_scalers,
    scaler_states,
    update,
)

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


# ---- mixed precision


class Scaler:
    """Paddle's is for GPUs; this one does on a processor what it documents: scale, unscale, leave out, adapt."""

    def __init__(self, scale):
        self.factor, self.steps, self.updates = scale, 0, 0

    def scale(self, loss):
        return loss * self.factor

    def step(self, optimizer):
        self.steps += 1
        weights = [weight for weight in optimizer._parameter_list if weight.grad is not None]
        self.found = not all(np.isfinite(weight.grad.numpy()).all() for weight in weights)
        for weight in weights:
            weight.grad.set_value(weight.grad / self.factor)
        if not self.found:
            optimizer.step()

    def update(self):
        self.updates += 1
        self.factor *= 0.5 if self.found else 1


def test_scaled_losses_make_the_same_steps_and_overflow_leaves_one_out(monkeypatch):
    """3 w, scaled by 2^10 and back: 2 - 0.3; then a loss of 1e36 overflows, then 3 w again, scaled by half of it."""
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **_: contextlib.nullcontext())
    layer, other = Scale(2.0), Scale(2.0)
    nets = {"a": layer, "b": other}
    optimizers = {name: paddle.optimizer.SGD(0.1, parameters=net.parameters()) for name, net in nets.items()}
    scaler = Scaler(1024.0)
    for factor, weight, scale in [(3, 1.7, 1024), (1e36, 1.7, 512), (3, 1.4, 512)]:
        with mixed_precision("float16", optimizers, {"a": scaler}):
            update(layer, optimizers["a"], layer(paddle.ones([1])) * factor)
            update(other, optimizers["b"], other(paddle.ones([1])) * 0)
        assert layer.weight.item() == pytest.approx(weight) and scaler.factor == scale
    update(layer, optimizers["a"], layer(paddle.ones([1])) * 1e36)  # out of it nothing is scaled
    assert abs(layer.weight.item()) > 1e34 and other.weight.item() == 2


@in_micro_batches
def scaled_step(nets, optimizers, x, cfg):
    """Loss: the mean over the batch of x w, whose gradient is the mean of x."""
    loss = (nets["a"](x)).mean()
    yield nets["a"], optimizers["a"], loss
    return {"loss": loss}


def test_micro_batches_are_scaled_as_the_batch_is_and_one_overflow_leaves_out_the_whole_update(monkeypatch):
    """x of mean 3 in 1, 2 or 4 parts: 2 - 0.3. An overflow in the last part: no step, and the scale halved once."""
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **_: contextlib.nullcontext())
    for count in (1, 2, 4):
        nets, scaler = {"a": Scale(2.0)}, Scaler(1024.0)
        optimizers = {"a": paddle.optimizer.SGD(0.1, parameters=nets["a"].parameters())}
        cfg = types.SimpleNamespace(accumulate=count)
        for values, weight, scale in [([0, 3, 4, 5], 1.7, 1024), ([1, 1, 1, 1e37], 1.7, 512), ([3, 3, 0, 6], 1.4, 512)]:
            with mixed_precision("float16", optimizers, {"a": scaler}):
                log = scaled_step(nets, optimizers, paddle.to_tensor(values, "float32"), cfg)
            assert nets["a"].weight.item() == pytest.approx(weight) and scaler.factor == scale, (count, values)
            assert scaler.updates == scaler.steps
        assert scaler.steps == 3 and log["loss"].item() == pytest.approx(3 * 1.7)  # logged before it is scaled


def test_mixed_precision_asks_for_its_level_and_float32_where_squares_overflow(monkeypatch):
    asked = []
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **asks: asked.append(asks) or contextlib.nullcontext())
    for amp, level in (("off", "O1"), ("bfloat16", "O1"), ("bfloat16", "O2")):
        with mixed_precision(amp, {}, {}, level=level):
            pass
    assert [(asks["dtype"], asks["level"]) for asks in asked] == [("bfloat16", "O1"), ("bfloat16", "O2")]
    assert all("square" in asks["custom_black_list"] for asks in asked)


@pytest.mark.parametrize("amp", ["float16", "bfloat16"])
def test_mixed_precision_is_for_cards(amp, monkeypatch):
    check_amp("off")
    assert open_scalers("off", {"a": None}) == {}
    monkeypatch.setattr(paddle, "get_device", lambda: "cpu")
    with pytest.raises(UserError, match=f"--amp {amp}: .* GPUs only"):
        check_amp(amp)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.amp, f"is_{amp}_supported", lambda *_: False)
    with pytest.raises(UserError, match=f"cannot compute in {amp}"):
        check_amp(amp)
    monkeypatch.setattr(paddle.amp, f"is_{amp}_supported", lambda *_: True)
    check_amp(amp)
    assert list(open_scalers(amp, {"a": None, "b": None})) == (["a", "b"] if amp == "float16" else [])


@pytest.mark.gpu(real="a CPU has no float16 convolution")
@pytest.mark.parametrize("amp", ["float16", "bfloat16"])
def test_a_step_in_mixed_precision_is_near_one_in_float32(amp, gpu):
    """On a GPU: losses within 2 %, and a scaler's state goes through JSON."""
    open_device(gpu)
    if not getattr(paddle.amp, f"is_{amp}_supported")():
        pytest.skip(f"this GPU has no {amp}")
    losses, x = [], paddle.to_tensor(np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32))
    for used in ("off", amp):
        paddle.seed(0)
        net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 8, 3), paddle.nn.ReLU(), paddle.nn.Conv2D(8, 3, 3))
        optimizers = {"net": paddle.optimizer.Adam(1e-3, parameters=net.parameters())}
        scalers = open_scalers(used, optimizers)
        for _ in range(5):
            with mixed_precision(used, optimizers, scalers):
                loss = paddle.square(net(x)).mean()
                update(net, optimizers["net"], loss)
        losses.append(float(loss))
        for name, state in scaler_states(scalers).items():
            scalers[name].load_state_dict(state)
            assert scaler_states(scalers)[name] == state
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
