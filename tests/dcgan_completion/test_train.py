"""Who moves in a step and how often, the average, and that a run goes on exactly where it stopped."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint.state import newest_state
from common.errors import UserError
from data.synthetic import write_faces
from dcgan_completion import train as dcgan_train
from dcgan_completion.config import ARTICLE, TINY

import paddle

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=60)


def test_one_step_of_d_then_two_of_g_on_the_same_z(monkeypatch):
    """The article's code: D once, G twice."""
    cfg = dataclasses.replace(TINY, generator_steps=ARTICLE.generator_steps)
    nets, optimizers = dcgan_train.build(cfg)
    order, points = [], []
    for name, optimizer in optimizers.items():
        step = optimizer.step
        monkeypatch.setattr(optimizer, "step", lambda name=name, step=step: (order.append(name), step()))
    nets["generator"].register_forward_pre_hook(lambda layer, inputs: points.append(inputs[0].numpy()))
    dcgan_train.train_step(nets, optimizers, paddle.randn([4, 3, 32, 32]), paddle.rand([4, cfg.z_channels]), cfg)
    assert order == ["discriminator", "generator", "generator"]
    assert len(points) == 2 and (points[0] == points[1]).all() and np.abs(points[0]).max() <= 1


@pytest.mark.medium
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_follows_by_its_decay(accumulate, faces, tmp_path):
    """Once a step, however many micro-batches it has."""
    cfg = dataclasses.replace(TINY, average_decay=0.75, total_steps=1, accumulate=accumulate, device="cpu")
    start = dcgan_train.build(cfg)[0]["generator"].deconv1.weight.numpy()
    dcgan_train.train(dataclasses.replace(cfg, data_dir=faces, run_dir=tmp_path))
    saved = load_file(newest_state(tmp_path / "checkpoints") / "state.safetensors")
    now = saved["generator.deconv1.weight"]
    assert (now != start).any()
    np.testing.assert_allclose(saved["average.deconv1.weight"], 0.75 * start + 0.25 * now, atol=1e-7)


def test_a_settled_generator_normalises_its_layers():
    """What enters the first normalisation has the mean and the variance that were measured, whatever they were."""
    generator = dcgan_train.build(TINY)[0]["generator"]
    generator.norm1._mean.set_value(paddle.full_like(generator.norm1._mean, 7.0))
    dcgan_train.settle(generator, seed=0)
    seen = []
    generator.norm1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    with paddle.no_grad():
        generator(paddle.to_tensor(np.random.default_rng(5).uniform(-1, 1, (2000, 12)).astype(np.float32)))
    deviation = seen[0].std((0, 2, 3))
    assert not generator.training
    np.testing.assert_allclose(np.sqrt(generator.norm1._variance.numpy()), deviation, rtol=0.05)
    assert (np.abs(generator.norm1._mean.numpy() - seen[0].mean((0, 2, 3))) < 0.1 * deviation).all()


def test_settings_that_cannot_work():
    for changes, told in (({"image_px": 48}, "48 is no power of two"), ({"generator_steps": 0}, "1 or more")):
        with pytest.raises(UserError, match=told):
            dcgan_train.check(dataclasses.replace(TINY, data_dir=Path("somewhere"), **changes))
