"""On a card: the same losses as on the processor. Skipped where Paddle finds none."""

import dataclasses

import numpy as np
import pytest

from common.device import count_cards, open_device
from glcic import train as glcic_train
from glcic.config import TINY

import paddle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(count_cards() == 0, reason="Paddle finds no usable card"),
]


@pytest.fixture(autouse=True)
def back_to_cpu():
    yield
    open_device("cpu")


@pytest.mark.parametrize("now", ["completion", "discriminator", "joint"])
def test_a_training_step_equals_the_processors(now):
    cfg = dataclasses.replace(TINY, image_px=64, local_px=32)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    make = glcic_train.sample_maker(pictures, cfg)
    batch = tuple(
        np.stack(column) for column in zip(*(make(n, np.random.default_rng(n)) for n in range(4)), strict=True)
    )
    open_device("cpu")
    nets, _ = glcic_train.build(cfg)
    start = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    losses = []
    for device in ("cpu", "gpu"):
        place = open_device(device)
        nets, optimizers = glcic_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(start[name])
            assert str(net.parameters()[0].place).count("gpu") == isinstance(place, paddle.CUDAPlace)
        done = glcic_train.train_step(nets, optimizers, *glcic_train.to_tensors(batch), now, cfg)
        losses.append({name: float(value) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
