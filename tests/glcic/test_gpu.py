"""On a GPU: the same losses as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from common.runtime.device import open_device
from glcic import train as glcic_train
from glcic.config import TINY

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("now", ["completion", "discriminator", "joint"])
def test_a_training_step_equals_the_processors(now, gpu):
    cfg = dataclasses.replace(TINY, image_px=64, local_px=32)
    images = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    make = glcic_train.sample_maker(images, cfg)
    batch = tuple(
        np.stack(column) for column in zip(*(make(n, np.random.default_rng(n)) for n in range(4)), strict=True)
    )
    open_device("cpu")
    nets, _ = glcic_train.build(cfg)
    start = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    losses = []
    for device in ("cpu", gpu):
        place = open_device(device)
        nets, optimizers = glcic_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(start[name])
            assert str(net.parameters()[0].place) == str(place)
        done = glcic_train.train_step(nets, optimizers, *glcic_train.to_tensors(batch), now, cfg)
        losses.append({name: float(value.mean()) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
