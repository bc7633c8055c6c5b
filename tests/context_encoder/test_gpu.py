"""On a GPU: the same losses and images as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from context_encoder import infer
from context_encoder import train as ce_train
from context_encoder.config import TINY
from tests.helpers import assert_equal_steps, built_on, initial_states, one_batch

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
    batch = one_batch(ce_train, cfg, images)
    assert_equal_steps(
        ("cpu", gpu), ce_train, cfg, lambda *built: ce_train.train_step(*built, *ce_train.to_tensors(batch), cfg)
    )


@pytest.mark.parametrize("changes", VARIANTS[1:3])
def test_a_completed_picture_equals_the_processors(changes, gpu):
    """A hole of many windows and two passes; one level of difference for other orders of summing."""
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[15:35, 20:50] = mask[50:, :9] = True
    states, made = initial_states(ce_train, cfg), []
    for device in ("cpu", gpu):
        network = built_on(device, ce_train, cfg, states)[0]["generator"]
        network.eval()
        made.append(infer.complete(network, image, mask).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    np.testing.assert_array_equal(made[1][~mask], image[~mask])
