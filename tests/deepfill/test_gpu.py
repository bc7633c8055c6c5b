"""On a GPU: the same losses and images as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from common.runtime.device import open_device
from deepfill import infer
from deepfill import train as df_train
from deepfill.config import TINY

import paddle

pytestmark = pytest.mark.gpu

VARIANTS = [
    {"residual": False},
    {"residual": True, "sketch_drop": 0.0},
    {"layers": "partial", "batch_size": 1},
    {"layers": "vanilla", "guided": False},
    {"inputs": "article", "gate_first": True, "padding": "symmetric"},
]


def start(cfg):
    """The initial weights, made on the processor: chance differs between devices."""
    open_device("cpu")
    nets, _ = df_train.build(cfg)
    for last in (nets["generator"].coarse.conv17, nets["generator"].refine.allconv17):
        last.weight.set_value(paddle.randn(last.weight.shape) * 0.3)  # zeros, if residual
    return {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes, gpu):
    cfg = dataclasses.replace(TINY, **changes)
    images = np.random.default_rng(0).integers(0, 255, (4, 40, 40, 3), dtype=np.uint8)
    make = df_train.sample_maker(images, cfg)
    samples = [make(n, np.random.default_rng(n)) for n in range(cfg.batch_size)]
    batch = tuple(np.stack(column) for column in zip(*samples, strict=True))
    weights, losses = start(cfg), []
    for device in ("cpu", gpu):
        place = open_device(device)
        nets, optimizers = df_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(weights[name])
            assert str(net.parameters()[0].place) == str(place)
        done = df_train.train_step(nets, optimizers, *df_train.to_tensors(batch, False), False, cfg)
        losses.append({name: float(value.mean()) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_completed_picture_equals_the_processors(changes, gpu):
    """Several windows, with and without lines; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[15:30, 20:34] = mask[90:, :9] = mask[50:80, 60:110] = True
    lines = np.random.default_rng(1).random(mask.shape) < 0.2 if cfg.guided else None
    weights, made = start(cfg)["generator"], []
    for device in ("cpu", gpu):
        open_device(device)
        network = df_train.build(cfg)[0]["generator"]
        network.set_state_dict(weights)
        network.eval()
        network.metadata = {"image_px": cfg.image_px}
        made.append([infer.complete(network, image, mask, given).astype(int) for given in (None, lines)])
    for one, two in zip(*made, strict=True):
        assert np.abs(one - two).max() <= 1
        np.testing.assert_array_equal(two[~mask], image[~mask])
