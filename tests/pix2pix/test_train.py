"""Every objective's step against hand-written gradients, the schedule, the data's order, and exact resuming."""

import dataclasses
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint.state import newest_state
from common.checkpoint.weights import read_weights, save_weights
from common.datasets.loader import Batches
from common.errors import UserError
from common.runtime.optim import update
from data.synthetic import write_streets
from pix2pix import train as pix2pix_train
from pix2pix.config import PAPER_FACADES, PRESETS, TINY, Config
from pix2pix.model import PatchDiscriminator

import paddle

RATE, L1, PENALTY = 0.1, 3.0, 2.0


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return write_streets(tmp_path_factory.mktemp("streets") / "drawn", count=30)


def settings(streets, folder, **changes):
    return dataclasses.replace(TINY, data_dir=streets, run_dir=folder, device="cpu", **changes)


# ---- one step by hand


class Linear(paddle.nn.Layer):
    """A generator or discriminator with one weight per channel, so that its gradients can be written down."""

    def __init__(self, weight, conditional=True):
        super().__init__()
        self.weight = self.create_parameter([len(weight)], dtype="float64")
        self.weight.set_value(np.float64(weight))
        self.conditional = conditional

    def forward(self, source, image=None):
        if image is None:  # as a generator
            return source * self.weight.reshape([1, -1, 1, 1])
        return self.judge(paddle.concat([source, image], 1) if self.conditional else image)

    def judge(self, x):
        return (x * self.weight.reshape([1, -1, 1, 1])).sum(1, keepdim=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slopes(mode, real, fake):
    """d(D's loss)/d(real logits), d(D's loss)/d(fake logits), d(G's loss)/d(fake logits); losses are means."""
    n = real.size
    if mode == "vanilla":
        return -sigmoid(-real) / 2 / n, sigmoid(fake) / 2 / n, -sigmoid(-fake) / n
    if mode == "lsgan":
        return (real - 1) / n, fake / n, 2 * (fake - 1) / n
    return np.full_like(real, -1 / n), np.full_like(fake, 1 / n), np.full_like(fake, -1 / n)


def expected_step(g, d, x, y, objective, mode):
    """Weights of generator and discriminator after one step of plain gradient descent, in numpy."""
    conditional, adversarial = "cgan" in objective, "gan" in objective
    fake = x * g[:, None, None]

    def seen(image):
        return np.concatenate([x, image], 1) if conditional else image

    def judge(image):
        return (seen(image) * d[:, None, None]).sum(1, keepdims=True)

    if adversarial:
        of_real, of_fake, _ = slopes(mode, judge(y), judge(fake))
        slope = (of_real * seen(y) + of_fake * seen(fake)).sum((0, 2, 3))
        if mode == "wgan-gp":  # |grad| is the same everywhere: sqrt(pixels) |d|
            pixels = x.shape[2] * x.shape[3]
            norm = np.sqrt(pixels * (d**2).sum())
            slope = slope + PENALTY * 2 * (norm - 1) * np.sqrt(pixels) * d / np.sqrt((d**2).sum())
        d = d - RATE * slope
    slope = np.zeros_like(fake)
    if "l1" in objective:
        slope = slope + L1 * np.sign(fake - y) / fake.size
    if adversarial:  # judged by D after its step
        slope = slope + slopes(mode, judge(y), judge(fake))[2] * d[-3:, None, None]
    return g - RATE * (slope * x).sum((0, 2, 3)), d


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "wgan-gp"])
@pytest.mark.parametrize("objective", ["l1", "gan", "cgan", "l1+gan", "l1+cgan"])
def test_one_step_of_every_objective_by_hand(objective, mode):
    rng = np.random.default_rng(0)
    conditional = "cgan" in objective
    g, d = rng.normal(size=3), rng.normal(size=6 if conditional else 3)
    x, y = rng.uniform(-1, 1, (2, 3, 4, 5)), rng.uniform(-1, 1, (2, 3, 4, 5))
    nets = {"generator": Linear(g)}
    if objective != "l1":
        nets["discriminator"] = Linear(d, conditional)
    optimizers = {name: paddle.optimizer.SGD(RATE, parameters=net.parameters()) for name, net in nets.items()}
    cfg = Config(objective=objective, gan_mode=mode, l1_weight=L1, penalty_weight=PENALTY)
    for _ in range(2):  # the second step shows whether gradients of the first are left
        losses = pix2pix_train.train_step(nets, optimizers, paddle.to_tensor(x), paddle.to_tensor(y), cfg)
        g, d = expected_step(g, d, x, y, objective, mode)
        np.testing.assert_allclose(nets["generator"].weight.numpy(), g, rtol=1e-9)
        if objective != "l1":
            np.testing.assert_allclose(nets["discriminator"].weight.numpy(), d, rtol=1e-9)
    assert ("discriminator" in losses) == (objective != "l1") and ("penalty" in losses) == (
        objective != "l1" and mode == "wgan-gp"
    )


@pytest.mark.parametrize("objective, channels", [("l1", None), ("gan", 3), ("cgan", 6), ("l1+gan", 3), ("l1+cgan", 6)])
def test_objectives_are_what_they_say(objective, channels):
    nets, optimizers = pix2pix_train.build(dataclasses.replace(TINY, objective=objective))
    assert nets.keys() == optimizers.keys() and ("discriminator" in nets) == (channels is not None)
    if channels:
        assert nets["discriminator"].convs[0].conv.weight.shape[1] == channels


def test_the_generators_gradient_is_its_own():
    """The discriminator's step leaves no gradient on the generator (D1), the generator's none on the discriminator."""
    nets, optimizers = pix2pix_train.build(TINY)
    source, real = paddle.uniform([2, 3, 32, 32]), paddle.uniform([2, 3, 32, 32])
    seen = {}
    for name, other in (("discriminator", "generator"), ("generator", "discriminator")):

        def step(name=name, other=other, really=optimizers[name].step):
            seen[name] = [p.grad is None or not p.grad.numpy().any() for p in nets[other].parameters()]
            really()

        optimizers[name].step = step
    before = [p.numpy() for p in nets["discriminator"].parameters()]
    pix2pix_train.train_step(nets, optimizers, source, real, TINY)
    assert all(seen["discriminator"])
    assert any((a != b.numpy()).any() for a, b in zip(before, nets["discriminator"].parameters(), strict=True))
    gradients = [p.grad.numpy() for p in nets["discriminator"].parameters() if p.grad is not None]
    update(nets["generator"], optimizers["generator"], nets["generator"](source).mean())
    after = [p.grad.numpy() for p in nets["discriminator"].parameters() if p.grad is not None]
    assert all((a == b).all() for a, b in zip(gradients, after, strict=True))


# ---- schedule


def test_learning_rates_of_the_official_code():
    """200 epochs of 400 pairs: rates of epochs 1, 100, 101, 151 and 200, at their first and last step."""
    rates = {1: 2e-4, 100: 2e-4, 101: 1.9802e-4, 151: 9.901e-5, 200: 1.9802e-6}
    for epoch, rate in rates.items():
        for step in ((epoch - 1) * 400, epoch * 400 - 1):
            assert pix2pix_train.learning_rate(step, 200 * 400, PAPER_FACADES) == pytest.approx(rate, rel=1e-4)


def test_shorter_runs_go_through_the_same_schedule():
    rates = [pix2pix_train.learning_rate(step, 1_000, PAPER_FACADES) for step in range(1_000)]
    assert rates[:500] == [2e-4] * 500 and rates[-1] == pytest.approx(1.98e-6, rel=1e-3)
    assert sorted(rates, reverse=True) == rates
    article = PRESETS["article-scene2mask"][1]
    assert {pix2pix_train.learning_rate(step, 50_000, article) for step in (0, 25_000, 49_999)} == {2e-4}


@pytest.mark.medium
def test_epochs_make_the_number_of_steps(streets, tmp_path):
    """27 training pairs, 2 epochs, batches of 4: 13.5 steps, rounded up."""
    cfg = settings(streets, tmp_path / "run", total_steps=0, epochs=2, decay_epochs=1, batch_size=4)
    assert read_weights(pix2pix_train.train(cfg))[1]["step"] == 14


# ---- data


def test_shuffling_never_breaks_a_pair():
    """Pairs whose two halves carry the same colour code: it agrees through shuffling, cropping and threads."""
    codes = np.random.default_rng(5).integers(0, 255, (40, 3), dtype=np.uint8)
    data = [(np.full((20, 20, 3), code), np.full((20, 20, 3), 255 - code)) for code in codes]
    cfg = dataclasses.replace(TINY, load_px=0, image_px=16)
    for direction in ("photo-to-label", "label-to-photo"):
        make = pix2pix_train.sample_maker(data, dataclasses.replace(cfg, direction=direction))
        seen = []
        stream = Batches(40, make, 4, 0, workers=3)(0)
        for _ in range(20):
            source, target = next(stream)
            photo, label = (source, target) if direction == "photo-to-label" else (target, source)
            np.testing.assert_array_equal(photo, 255 - label)
            seen += [tuple(image[0, 0]) for image in photo]
        assert seen[:40] != seen[40:] and sorted(seen[:40]) == sorted(seen[40:]) == sorted(map(tuple, codes))


def test_articles_crop_keeps_pixels_and_papers_resizes():
    """Native 256 cut to 224: every pixel is one of the image's; 286 -> 256 blends neighbours."""
    label = np.random.default_rng(0).choice(np.uint8([0, 255]), (256, 256, 1)).repeat(3, 2)
    for preset, pure, side in (("article-scene2mask", True, 224), ("paper-facades", False, 256)):
        source, _ = pix2pix_train.sample_maker([(label, label)], PRESETS[preset][1])(0, np.random.default_rng(0))
        assert source.shape == (side, side, 3) and (set(np.unique(source)) == {0, 255}) == pure


# ---- runs


def final_state(folder):
    return load_file(newest_state(folder / "checkpoints") / "state.safetensors")


@pytest.mark.medium
def test_resume_is_exact(streets, tmp_path, monkeypatch):
    """6 steps = 3, SIGTERM, 3: weights, statistics, moments, dropout; with another network built in between."""
    pix2pix_train.train(settings(streets, tmp_path / "whole"))
    count, really = iter(range(100)), pix2pix_train.train_step

    def step(*arguments):
        if next(count) == 2:
            signal.raise_signal(signal.SIGTERM)
        return really(*arguments)

    monkeypatch.setattr(pix2pix_train, "train_step", step)
    with pytest.raises(SystemExit) as stop:
        pix2pix_train.train(settings(streets, tmp_path / "parts"))
    assert stop.value.code == 143 and newest_state(tmp_path / "parts/checkpoints").name == "step_0000003"
    paddle.nn.Sequential(paddle.nn.Conv2D(3, 3, 3), paddle.nn.BatchNorm2D(3))  # moves Paddle's generated names on
    pix2pix_train.train(settings(streets, tmp_path / "parts", workers=0))
    whole, parts = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert whole.keys() == parts.keys() and any("/moment1" in name for name in whole)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


@pytest.mark.medium
def test_previews_do_not_change_what_is_learnt(streets, tmp_path):
    """Neither the dropout drawn for a preview nor the statistics of its images reach the training."""
    pix2pix_train.train(settings(streets, tmp_path / "few"))
    pix2pix_train.train(settings(streets, tmp_path / "many", preview_steps=1))
    few, many = final_state(tmp_path / "few"), final_state(tmp_path / "many")
    for name in few:
        np.testing.assert_array_equal(few[name], many[name], err_msg=name)
    assert len(list((tmp_path / "many/previews").iterdir())) == 6


@pytest.mark.medium
def test_fine_tuning_starts_from_the_given_weights(streets, tmp_path):
    weights = pix2pix_train.train(settings(streets, tmp_path / "first"))
    nets, _ = pix2pix_train.build(settings(streets, tmp_path / "second", init_generator=weights, base_channels=8))
    tensors, _ = read_weights(weights)
    np.testing.assert_array_equal(
        nets["generator"].down[2].conv.weight.numpy(), tensors["generator.down.2.conv.weight"]
    )
    assert nets["generator"].training


def test_a_discriminator_from_a_file(streets, tmp_path):
    """Its own arguments and numbers; what does not fit is refused with the flag that mends it."""
    paddle.seed(3)
    judge = PatchDiscriminator(34, 6, "instance")
    metadata = {"paper": "pix2pix", "discriminator": judge.arguments}
    path = save_weights(tmp_path / "d.safetensors", {"discriminator": judge}, metadata)
    cfg = settings(streets, tmp_path / "run", init_discriminator=path, total_steps=1)
    nets, optimizers = pix2pix_train.build(cfg)
    assert nets["discriminator"].arguments["base_channels"] == 6 and optimizers.keys() == nets.keys()
    for key, value in judge.state_dict().items():
        np.testing.assert_array_equal(nets["discriminator"].state_dict()[key].numpy(), value.numpy())
    for changes, told in (
        ({"patch_px": 16}, "judges patches of 34 px; set --patch-px 34"),
        ({"objective": "l1+gan"}, "sees the source; set --objective l1\\+cgan"),
        ({"direction": "grey-to-colour"}, "judges 3 channels made of 3"),
        ({"init_generator": path, "init_discriminator": None}, "holds no pix2pix generator"),
    ):
        with pytest.raises(UserError, match=told):
            pix2pix_train.build(dataclasses.replace(cfg, **changes))
    with pytest.raises(UserError, match="--objective l1 has none"):
        pix2pix_train.check(dataclasses.replace(cfg, objective="l1"))
    generator = nets["generator"]
    metadata = {"paper": "pix2pix", "generator": generator.arguments, "image_px": 32}
    weights = save_weights(tmp_path / "g.safetensors", {"generator": generator}, metadata)
    with pytest.raises(UserError, match="holds no discriminator of pix2pix"):
        pix2pix_train.build(dataclasses.replace(cfg, init_discriminator=weights))
    with pytest.raises(UserError, match="needs a multiple of 32"):
        pix2pix_train.build(dataclasses.replace(cfg, init_generator=weights, image_px=40))
    batched = PatchDiscriminator(34, 6, "batch")
    metadata = {"paper": "pix2pix", "discriminator": batched.arguments}
    path = save_weights(tmp_path / "b.safetensors", {"discriminator": batched}, metadata)
    with pytest.raises(UserError, match="wgan-gp cannot be used with"):
        changes = {"gan_mode": "wgan-gp", "discriminator_norm": "instance", "init_discriminator": path}
        pix2pix_train.build(dataclasses.replace(cfg, **changes))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"image_px": 100, "load_px": 0}, "needs a multiple of 32, such as 96 or 128"),
        ({"load_px": 20}, "the crop is larger"),
        ({"gan_mode": "wgan-gp"}, "--discriminator-norm instance"),
        ({"load_px": 0, "image_px": 512}, "cannot cut 512 x 512 px from an image of 256 x 256"),
        ({"patch_px": 286}, "--patch-px 286: this discriminator needs images of 96 px"),
        ({"decay_epochs": 300}, "--decay-epochs 300"),
        ({"levels": 3}, "--levels 3"),
    ],
)
def test_settings_that_cannot_work(streets, tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        pix2pix_train.train(settings(streets, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
