"""On a GPU: the same losses, search and images as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from common.imaging.transforms import to_network
from dcgan_completion import infer
from dcgan_completion import train as dcgan_train
from dcgan_completion.config import TINY
from dcgan_completion.search import Settings, image_rng, search
from tests.helpers import assert_equal_steps, built_on, initial_states

import paddle

pytestmark = pytest.mark.gpu

VARIANTS = [{}, {"variant": "4x4"}, {"variant": "wide", "generator_steps": 2, "average_decay": 0.0}]
FEW = Settings(optimizer="adam", learning_rate=0.05, steps=3, restarts=2, statistics="running")


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_training_step_equals_the_processors(changes, gpu):
    cfg = dataclasses.replace(TINY, **changes)
    image = np.random.default_rng(0).uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)
    points = np.random.default_rng(1).uniform(-1, 1, (4, cfg.z_channels)).astype(np.float32)

    def step(nets, optimizers):
        return dcgan_train.train_step(nets, optimizers, paddle.to_tensor(image), paddle.to_tensor(points), cfg)

    assert_equal_steps(("cpu", gpu), dcgan_train, cfg, step)


@pytest.mark.parametrize("optimizer", ["nesterov", "adam", "hmc"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_a_search_equals_the_processors(optimizer, statistics, gpu):
    """Small steps: where a descent oscillates, a difference in the last digit soon is one in the first."""
    settings = dataclasses.replace(
        FEW, optimizer=optimizer, statistics=statistics, learning_rate=1e-4, leapfrog_steps=3, step_size=1e-3
    )
    start, rng, found = initial_states(dcgan_train, TINY), np.random.default_rng(0), []
    images = to_network(rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    masks = np.zeros((3, 1, 32, 32), np.float32)
    masks[:, :, 8:24, 8:24] = 1
    for device in ("cpu", gpu):
        nets, _ = built_on(device, dcgan_train, TINY, start)
        rngs = [image_rng(0, n) for n in range(3)]
        found.append(search(nets["generator"], nets["discriminator"], images, masks, settings, rngs))
    np.testing.assert_allclose(found[0].z, found[1].z, atol=1e-3)
    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-3)


def test_a_completed_picture_equals_the_processors(gpu):
    """One level of difference for other orders of summing."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    missing = np.zeros((60, 80), bool)
    missing[15:35, 30:50] = True
    start, made = initial_states(dcgan_train, TINY), []
    settings = dataclasses.replace(FEW, learning_rate=1e-4)
    for device in ("cpu", gpu):
        nets, _ = built_on(device, dcgan_train, TINY, start)
        for net in nets.values():
            net.eval()
        dcgan = infer.Dcgan(nets["generator"], nets["discriminator"], dcgan_train.metadata(nets, TINY))
        made.append(infer.complete(dcgan, image, missing, settings).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    np.testing.assert_array_equal(made[1][~missing], image[~missing])
