"""A step by hand, who moves, settings that cannot work, and that a run goes on exactly where it stopped."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import read_weights
from common.datasets.paired_images import open_photos
from common.errors import UserError
from common.imaging.io import write_image
from context_encoder import train as ce_train
from context_encoder.config import ARTICLE, PAPER_CENTER, PAPER_RANDOM_REGION, TINY
from tests import helpers
from tests.helpers import snapshot

import paddle

pytestmark = pytest.mark.medium


def settings(faces, folder, **changes):
    return dataclasses.replace(TINY, data_dir=faces, run_dir=folder, device="cpu", **changes)


def one_batch(cfg):
    images = np.random.default_rng(0).integers(0, 255, (8, 218, 178, 3), dtype=np.uint8)
    return ce_train.to_tensors(helpers.one_batch(ce_train, cfg, images))


# ---- one step


def adam_by_hand(before, gradient, rate):
    """The first step of Adam: both moments' corrections cancel, so it is rate * g / (|g| + eps) (Kingma, Ba 2015)."""
    return before - rate * gradient / (np.abs(gradient) + 1e-8)


@pytest.mark.parametrize("changes", [{}, {"conditional": True}, {"predicted_region": "whole", "mask": "blocks"}])
def test_one_step_of_both_networks_by_hand(changes):
    """Discriminator and generator after a step, from gradients and Adam's formula computed here."""
    cfg = dataclasses.replace(TINY, decay_steps=0, reconstruction_weight=0.999, **changes)
    nets, optimizers = ce_train.build(cfg)
    by_hand, _ = ce_train.build(cfg)
    for name in nets:
        by_hand[name].set_state_dict(snapshot(nets[name]))
    image, mask = one_batch(cfg)
    optimizers["generator"].set_lr(2e-3)
    done = ce_train.train_step(nets, optimizers, image, mask, cfg)

    generator, judge = by_hand["generator"], by_hand["discriminator"]
    context = [generator.masked(image, mask)] if cfg.conditional else []
    real = image[:, :, 8:24, 8:24] if cfg.predicted_region == "center" else image
    target_mask = mask[:, :, 8:24, 8:24] if cfg.predicted_region == "center" else mask
    made = generator(image, mask)

    def cross_entropy(logits, label):
        p = paddle.clip(paddle.nn.functional.sigmoid(logits), 1e-12, 1 - 1e-7)
        return -(label * paddle.log(p) + (1 - label) * paddle.log(1 - p)).mean()

    loss = cross_entropy(judge(real, *context), 1.0) + cross_entropy(judge(made.detach(), *context), 0.0)
    assert done["discriminator"].item() == pytest.approx(loss.item(), rel=1e-4)
    loss.backward()
    for name, value in judge.named_parameters():
        if not value.stop_gradient:
            after = adam_by_hand(value.numpy(), value.grad.numpy(), 2e-4)
            large = np.abs(value.grad.numpy()) > 1e-5  # elsewhere rounding decides the sign
            found = dict(nets["discriminator"].named_parameters())[name].numpy()
            np.testing.assert_allclose(found[large], after[large], atol=2e-6, err_msg=name)
            value.set_value(found)  # go on from exactly the same discriminator

    weight = np.where(target_mask.numpy() > 0, 1.0, 10.0)
    squares = (paddle.to_tensor(weight.astype(np.float32)) * (made - real) ** 2).mean()
    total = 0.999 * squares + 0.001 * cross_entropy(judge(made, *context), 1.0)
    assert done["reconstruction"].item() == pytest.approx(squares.item(), rel=1e-5)
    total.backward()
    for name, value in generator.named_parameters():
        if not value.stop_gradient:
            after = adam_by_hand(value.numpy(), value.grad.numpy(), 2e-3)
            large = np.abs(value.grad.numpy()) > 1e-5
            found = dict(nets["generator"].named_parameters())[name].numpy()
            np.testing.assert_allclose(found[large], after[large], atol=2e-5, err_msg=name)


def test_the_discriminator_collects_nothing_from_the_generators_step():
    cfg = dataclasses.replace(TINY, reconstruction_weight=0.5)
    nets, optimizers = ce_train.build(cfg)
    seen = []
    step = optimizers["generator"].step

    def recording_step():
        seen.append(nets["discriminator"].score.weight.grad.numpy().copy())
        step()

    optimizers["generator"].step = recording_step
    gradient_of_d = []
    step_of_d = optimizers["discriminator"].step

    def recording_step_of_d():
        gradient_of_d.append(nets["discriminator"].score.weight.grad.numpy().copy())
        step_of_d()

    optimizers["discriminator"].step = recording_step_of_d
    ce_train.train_step(nets, optimizers, *one_batch(cfg), cfg)
    np.testing.assert_array_equal(seen[0], gradient_of_d[0])


def test_the_discriminator_moves_the_generator():
    """Equal but for the adversarial loss's share, two steps end in different generators."""
    ends = []
    for fraction in (1.0, 0.999):
        cfg = dataclasses.replace(TINY, reconstruction_weight=fraction)
        nets, optimizers = ce_train.build(cfg)
        ce_train.train_step(nets, optimizers, *one_batch(cfg), cfg)
        ends.append(snapshot(nets["generator"]))
    assert any((ends[0][name] != ends[1][name]).any() for name in ends[0])


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"predicted_region": "whole", "mask": "regions"}, {"noise_channels": 5}])
def test_batches_of_one_and_two_train(batch_size, changes):
    cfg = dataclasses.replace(TINY, batch_size=batch_size, **changes)
    nets, optimizers = ce_train.build(cfg)
    before = snapshot(nets["generator"])
    for _ in range(2):
        done = ce_train.train_step(nets, optimizers, *one_batch(cfg), cfg)
    assert all(np.isfinite(value.mean().item()) for value in done.values())
    moved = [name for name, value in nets["generator"].state_dict().items() if (value.numpy() != before[name]).any()]
    assert "bottleneck.weight" in moved and "decoder.0.conv.weight" in moved and "encoder.0.conv.weight" in moved


def test_a_set_that_does_not_divide_into_batches(faces, tmp_path):
    """60 drawn faces, 48 to train: batches of 47 leave one image over, which begins the next batch."""
    assert ce_train.train(settings(faces, tmp_path / "run", batch_size=47, total_steps=3)).exists()


# ---- schedule and settings


def test_rates_of_the_two_networks():
    """Ten times the discriminator's for the generator in the paper, the same in the article (D5)."""
    assert PAPER_CENTER.learning_rate == 2e-4 and PAPER_CENTER.generator_rate_factor == 10
    assert ARTICLE.learning_rate == 2e-4 and ARTICLE.generator_rate_factor == 1
    rates = [ce_train.learning_rate(step, PAPER_CENTER) for step in (0, 100_000)]
    assert rates == [2e-4, 2e-4]
    cfg = dataclasses.replace(TINY, total_steps=100, decay_steps=50)
    rates = [ce_train.learning_rate(step, cfg) for step in (0, 50, 75, 99)]
    np.testing.assert_allclose(rates, np.array([1, 1, 0.5, 0.02]) * 2e-4)


def test_the_rates_reach_the_optimisers(faces, tmp_path, monkeypatch):
    rates = []
    real = ce_train.train_step

    def spy(nets, optimizers, *rest):
        rates.append({name: optimizer.get_lr() for name, optimizer in optimizers.items()})
        return real(nets, optimizers, *rest)

    monkeypatch.setattr(ce_train, "train_step", spy)
    ce_train.train(settings(faces, tmp_path / "run", total_steps=4, decay_steps=0))
    assert [rate["discriminator"] for rate in rates] == pytest.approx([2e-4] * 4)
    assert [rate["generator"] for rate in rates] == pytest.approx([2e-3] * 4)


def test_lengths_of_the_presets():
    """500 epochs of 14,900 images in batches of 64 (release), 100 (article)."""
    assert PAPER_CENTER.total_steps == 116_406 == PAPER_RANDOM_REGION.total_steps and ARTICLE.total_steps == 23_281
    assert PAPER_CENTER.batch_size == 64 and PAPER_CENTER.bottleneck == 4000 and PAPER_CENTER.load_px == 350


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"image_px": 96}, "96 is no power of two"),
        ({"image_px": 16}, "16 is no power of two"),
        ({"mask": "regions"}, "needs --predicted-region whole"),
        ({"overlap_px": 8}, "leaves no hole"),
        ({"load_px": 20}, "less than --image-px"),
        ({"reconstruction_weight": 0.0}, "reconstruction-weight"),
        ({"predicted_region": "whole", "conditional": True}, "for the centre"),
        ({"shapes_dir": Path("x")}, "--shapes-dir is for --mask regions"),
    ],
)
def test_settings_that_cannot_work(changes, told):
    with pytest.raises(UserError, match=told):
        ce_train.check(dataclasses.replace(TINY, data_dir=Path("somewhere"), **changes))


# ---- data


def test_the_releases_crop_is_anywhere_at_a_shorter_side_of_350():
    """A ramp from left to right tells where a crop came from and at which scale."""
    cfg = dataclasses.replace(PAPER_CENTER, image_px=128)
    ramp = np.linspace(0, 255, 700)[None, :, None].repeat(350, 0).repeat(3, 2).astype(np.uint8)
    lefts = []
    for seed in range(200):
        square = ce_train.cut(ramp, cfg, np.random.default_rng(seed))
        assert square.shape == (128, 128, 3)
        slope = (float(square[0, -1, 0]) - float(square[0, 0, 0])) / 127
        assert slope == pytest.approx(255 / 699, rel=0.05)
        lefts.append(square[0, 0, 0] / 255 * 699)
    assert min(lefts) < 20 and max(lefts) > 550 and np.std(lefts) == pytest.approx(572 / 12**0.5, rel=0.15)
    small = np.zeros((100, 60, 3), np.uint8)
    assert ce_train.cut(small, cfg, np.random.default_rng(0)).shape == (128, 128, 3)


def test_half_of_the_pictures_are_mirrored():
    ramp = np.linspace(0, 255, 178)[None, :, None].repeat(178, 0).repeat(3, 2).astype(np.uint8)
    make = ce_train.sample_maker([ramp], TINY)
    mirrored = [make(0, np.random.default_rng(n))[0][0, 0, 0] > 128 for n in range(200)]
    assert 70 < sum(mirrored) < 130


def test_photos_of_pairs_are_the_left_halves(tmp_path):
    for split in ("train", "val"):
        for n in range(3):
            pair = np.zeros((64, 128, 3), np.uint8)
            pair[:, :64], pair[:, 64:] = (10 * n + 7, 20, 30), 200
            write_image(tmp_path / split / f"{n + 1}.png", pair)
    for split in ("train", "val", "test"):
        photos = open_photos(tmp_path, split, pairs=True)
        assert len(photos) == 3 and photos[1].shape == (64, 64, 3) and (photos[1] == [17, 20, 30]).all()


# ---- resume


def test_fine_tuning_starts_from_the_given_weights(faces, tmp_path):
    weights = ce_train.train(settings(faces, tmp_path / "first"))
    cfg = settings(faces, tmp_path / "second", init_generator=weights, init_discriminator=weights, bottleneck=99)
    nets, _ = ce_train.build(cfg)
    tensors, metadata = read_weights(weights)
    np.testing.assert_array_equal(nets["generator"].bottleneck.weight.numpy(), tensors["generator.bottleneck.weight"])
    np.testing.assert_array_equal(nets["discriminator"].score.weight.numpy(), tensors["discriminator.score.weight"])
    assert metadata["paper"] == "context_encoder" and metadata["image_px"] == 32 and metadata["holes"] == "center"
    with pytest.raises(UserError, match="set --image-px 32 --predicted-region center"):
        ce_train.build(settings(faces, tmp_path / "third", init_generator=weights, image_px=64))
    with pytest.raises(UserError, match="side_px 16, the settings ask 64"):
        ce_train.build(
            settings(
                faces,
                tmp_path / "third",
                init_discriminator=weights,
                image_px=64,
                predicted_region="whole",
                overlap_px=0,
            )
        )
