"""On a GPU: the same losses and images as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from common.runtime.device import open_device
from context_encoder import infer
from context_encoder import train as ce_train
from context_encoder.config import TINY

pytestmark = pytest.mark.gpu

VARIANTS = [
    {},
    {"conditional": True},
    {"predicted_region": "whole", "mask": "blocks", "overlap_px": 0},
    {"batch_size": 1},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes, gpu):
    cfg = dataclasses.replace(TINY, **changes)
    images = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    make = ce_train.sample_maker(images, cfg)
    samples = [make(n, np.random.default_rng(n)) for n in range(cfg.batch_size)]
    batch = tuple(np.stack(column) for column in zip(*samples, strict=True))
    open_device("cpu")
    nets, _ = ce_train.build(cfg)
    start = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    losses = []
    for device in ("cpu", gpu):
        place = open_device(device)
        nets, optimizers = ce_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(start[name])
            assert str(net.parameters()[0].place) == str(place)
        done = ce_train.train_step(nets, optimizers, *ce_train.to_tensors(batch), cfg)
        losses.append({name: float(value.mean()) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("changes", VARIANTS[1:3])
def test_a_completed_picture_equals_the_processors(changes, gpu):
    """A hole of many windows and two passes; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[15:35, 20:50] = mask[50:, :9] = True
    open_device("cpu")
    nets, _ = ce_train.build(cfg)
    start = {key: value.numpy() for key, value in nets["generator"].state_dict().items()}
    made = []
    for device in ("cpu", gpu):
        open_device(device)
        network = ce_train.build(cfg)[0]["generator"]
        network.set_state_dict(start)
        network.eval()
        made.append(infer.complete(network, image, mask).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    np.testing.assert_array_equal(made[1][~mask], image[~mask])
