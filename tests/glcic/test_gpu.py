"""On a GPU: the same losses as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from glcic import train as glcic_train
from glcic.config import TINY
from tests.helpers import assert_equal_steps, one_batch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("now", ["completion", "discriminator", "joint"])
def test_a_training_step_equals_the_processors(now, gpu):
    cfg = dataclasses.replace(TINY, image_px=64, local_px=32)
    images = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    batch = one_batch(glcic_train, cfg, images)
    assert_equal_steps(
        ("cpu", gpu), glcic_train, cfg,
        lambda *built: glcic_train.train_step(*built, *glcic_train.to_tensors(batch), now, cfg),
    )  # fmt: skip
