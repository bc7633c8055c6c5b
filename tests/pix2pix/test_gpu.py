"""On a GPU: the same losses as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from pix2pix import encoding
from pix2pix import train as pix2pix_train
from pix2pix.config import TINY
from tests.helpers import assert_equal_steps

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("generator", ["unet", "resnet"])
@pytest.mark.parametrize("mode", ["vanilla", "wgan-gp"])
def test_a_training_step_equals_the_processors(generator, mode, gpu):
    """Without dropout and without the penalty's random mixing, which each device draws in its own way."""
    cfg = dataclasses.replace(
        TINY, generator=generator, gan_mode=mode, penalty_weight=0.0, discriminator_norm="instance", dropout="none"
    )
    rng = np.random.default_rng(0)
    source, target = (rng.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8) for _ in range(2))

    def step(nets, optimizers):
        return pix2pix_train.train_step(nets, optimizers, *encoding.to_networks(source, target, cfg.direction), cfg)

    assert_equal_steps(("cpu", gpu), pix2pix_train, cfg, step)
