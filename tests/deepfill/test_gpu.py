"""On a GPU: the same losses and images as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from deepfill import infer
from deepfill import train as df_train
from deepfill.config import TINY
from tests.helpers import assert_equal_steps, built_on, initial_states, one_batch

pytestmark = pytest.mark.gpu

VARIANTS = [
    {"residual": False},
    {"residual": True, "sketch_drop": 0.0},
    {"layers": "partial", "batch_size": 1},
    {"layers": "vanilla", "guided": False},
    {"inputs": "article", "gate_first": True, "padding": "symmetric"},
]


def start(cfg):
    """The initial weights, the last layers' too, which are zeros if residual."""
    states, rng = initial_states(df_train, cfg), np.random.default_rng(0)
    for name in ("coarse.conv17.weight", "refine.allconv17.weight"):
        shape = states["generator"][name].shape
        states["generator"][name] = np.float32(0.3 * rng.standard_normal(shape))
    return states


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes, gpu):
    cfg = dataclasses.replace(TINY, **changes)
    images = np.random.default_rng(0).integers(0, 255, (4, 40, 40, 3), dtype=np.uint8)
    batch = one_batch(df_train, cfg, images)

    def step(nets, optimizers):
        return df_train.train_step(nets, optimizers, *df_train.to_tensors(batch, False), False, cfg)

    assert_equal_steps(("cpu", gpu), df_train, cfg, step, start(cfg))


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_completed_picture_equals_the_processors(changes, gpu):
    """Several windows, with and without lines; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[15:30, 20:34] = mask[90:, :9] = mask[50:80, 60:110] = True
    lines = np.random.default_rng(1).random(mask.shape) < 0.2 if cfg.guided else None
    states, made = start(cfg), []
    for device in ("cpu", gpu):
        network = built_on(device, df_train, cfg, states)[0]["generator"]
        network.eval()
        network.metadata = {"image_px": cfg.image_px}
        made.append([infer.complete(network, image, mask, given).astype(int) for given in (None, lines)])
    for one, two in zip(*made, strict=True):
        assert np.abs(one - two).max() <= 1
        np.testing.assert_array_equal(two[~mask], image[~mask])
