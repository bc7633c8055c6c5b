"""On a GPU: the same losses as on the processor. See `gpu` in tests/conftest.py."""

import dataclasses

import numpy as np
import pytest

from common.runtime.device import open_device
from pix2pix import encoding
from pix2pix import train as pix2pix_train
from pix2pix.config import TINY

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
    open_device("cpu")
    nets, _ = pix2pix_train.build(cfg)
    start = {name: {key: value.numpy() for key, value in net.state_dict().items()} for name, net in nets.items()}
    losses = []
    for device in ("cpu", gpu):
        place = open_device(device)
        nets, optimizers = pix2pix_train.build(cfg)
        for name, net in nets.items():
            net.set_state_dict(start[name])
            assert str(net.parameters()[0].place) == str(place)
        batch = encoding.to_networks(source, target, cfg.direction)
        done = pix2pix_train.train_step(nets, optimizers, *batch, cfg)
        losses.append({name: float(value.mean()) for name, value in done.items() if name != "penalty"})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
