"""On a card: the same losses and pictures as on the processor. Skipped where Paddle finds none."""

import dataclasses

import numpy as np
import pytest

from common.device import count_cards, open_device
from context_encoder import infer
from context_encoder import train as ce_train
from context_encoder.config import TINY

import paddle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(count_cards() == 0, reason="Paddle finds no usable card"),
]

VARIANTS = [{}, {"conditional": True}, {"output": "whole", "holes": "blocks", "overlap_px": 0}, {"batch_size": 1}]


@pytest.fixture(autouse=True)
def back_to_cpu():
    yield
    open_device("cpu")


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes):
    cfg = dataclasses.replace(TINY, **changes)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    make = ce_train.sample_maker(pictures, cfg)
    samples = [make(n, np.random.default_rng(n)) for n in range(cfg.batch_size)]
    batch = tuple(np.stack(column) for column in zip(*samples, strict=True))
    open_device("cpu")
    nets, _ = ce_train.build(cfg)
    start = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    losses = []
    for device in ("cpu", "gpu"):
        place = open_device(device)
        nets, optimizers = ce_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(start[name])
            assert str(net.parameters()[0].place).count("gpu") == isinstance(place, paddle.CUDAPlace)
        done = ce_train.train_step(nets, optimizers, *ce_train.to_tensors(batch), cfg)
        losses.append({name: float(value) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("changes", VARIANTS[1:3])
def test_a_completed_picture_equals_the_processors(changes):
    """A hole of many windows and two passes; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    hole = np.zeros((60, 80), bool)
    hole[15:35, 20:50] = hole[50:, :9] = True
    open_device("cpu")
    nets, _ = ce_train.build(cfg)
    start = {key: value.numpy() for key, value in nets["generator"].state_dict().items()}
    made = []
    for device in ("cpu", "gpu"):
        open_device(device)
        network = ce_train.build(cfg)[0]["generator"]
        network.set_state_dict(start)
        network.eval()
        made.append(infer.complete(network, image, hole).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    np.testing.assert_array_equal(made[1][~hole], image[~hole])
