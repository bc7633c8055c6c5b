"""On a card: the same losses and pictures as on the processor. Skipped where Paddle finds none."""

import dataclasses

import numpy as np
import pytest

from common.device import count_cards, open_device
from deepfill import infer
from deepfill import train as df_train
from deepfill.config import TINY

import paddle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(count_cards() == 0, reason="Paddle finds no usable card"),
]

VARIANTS = [
    {"residual": False},
    {"residual": True, "sketch_drop": 0.0},
    {"layers": "partial", "batch_size": 1},
    {"layers": "vanilla", "guided": False},
    {"inputs": "article", "gate_first": True, "padding": "symmetric"},
]


@pytest.fixture(autouse=True)
def back_to_cpu():
    yield
    open_device("cpu")


def start(cfg):
    """The first weights, made on the processor: chance differs between devices."""
    open_device("cpu")
    nets, _ = df_train.build(cfg)
    for last in (nets["generator"].coarse.conv17, nets["generator"].refine.allconv17):
        last.weight.set_value(paddle.randn(last.weight.shape) * 0.3)  # zeros, if residual
    return {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes):
    cfg = dataclasses.replace(TINY, **changes)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 40, 40, 3), dtype=np.uint8)
    make = df_train.sample_maker(pictures, cfg)
    samples = [make(n, np.random.default_rng(n)) for n in range(cfg.batch_size)]
    batch = tuple(np.stack(column) for column in zip(*samples, strict=True))
    weights, losses = start(cfg), []
    for device in ("cpu", "gpu"):
        place = open_device(device)
        nets, optimizers = df_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(weights[name])
            assert str(net.parameters()[0].place).count("gpu") == isinstance(place, paddle.CUDAPlace)
        done = df_train.train_step(nets, optimizers, *df_train.to_tensors(batch, False), False, cfg)
        losses.append({name: float(value) for name, value in done.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_completed_picture_equals_the_processors(changes):
    """Several windows, with and without lines; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8)
    hole = np.zeros((100, 120), bool)
    hole[15:30, 20:34] = hole[90:, :9] = hole[50:80, 60:110] = True
    lines = np.random.default_rng(1).random(hole.shape) < 0.2 if cfg.guided else None
    weights, made = start(cfg)["generator"], []
    for device in ("cpu", "gpu"):
        open_device(device)
        network = df_train.build(cfg)[0]["generator"]
        network.set_state_dict(weights)
        network.eval()
        network.facts = {"image_px": cfg.image_px}
        made.append([infer.complete(network, image, hole, given).astype(int) for given in (None, lines)])
    for one, two in zip(*made, strict=True):
        assert np.abs(one - two).max() <= 1
        np.testing.assert_array_equal(two[~hole], image[~hole])
