"""A step by hand, who moves, what the data hold, settings that cannot work, and exact resumption."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint.state import newest_state
from common.checkpoint.weights import read_weights, save_weights
from common.datasets.paired_images import open_photos
from common.errors import UserError
from common.imaging.io import write_image
from deepfill import infer
from deepfill import train as df_train
from deepfill.config import ARTICLE, GUIDED, PLACES2, PRESETS, TINY
from tests import helpers
from tests.helpers import snapshot

import paddle

pytestmark = pytest.mark.medium

PLAIN = dataclasses.replace(TINY, residual=False, decay_steps=0, mask="official", known_weight=1.0)


def settings(faces, folder, **changes):
    return dataclasses.replace(TINY, data_dir=faces, run_dir=folder, device="cpu", **changes)


def one_batch(cfg):
    """Noise, which has lines everywhere: image, mask, and edge or None."""
    images = np.random.default_rng(0).integers(0, 255, (cfg.batch_size, 40, 40, 3), dtype=np.uint8)
    return df_train.to_tensors(helpers.one_batch(df_train, cfg, images), cfg.mask_per_batch)


def build(cfg):
    """Networks of no special case: residual ones, too, add something, and logits lie beyond -1 and 1 and between."""
    nets, optimizers = df_train.build(cfg)
    rng = np.random.default_rng(1)
    for last in (nets["generator"].coarse.conv17, nets["generator"].refine.allconv17):
        last.weight.set_value(rng.normal(0, 0.3, last.weight.shape).astype(np.float32))
    bias = nets["discriminator"].conv6.bias
    bias.set_value(np.linspace(-12, 3, bias.size, dtype=np.float32))  # below zero, the slope leaves a fifth
    return nets, optimizers


# ---- one step


def moved_by_adam(network, before, after, rate, atol):
    """Asserts the first step of Adam, rate * g / (|g| + eps) (Kingma, Ba 2015), from the gradients in `network`."""
    seen = 0
    for name, value in network.named_parameters():
        if not value.stop_gradient:
            gradient = value.grad.numpy()
            large = np.abs(gradient) > 1e-5  # elsewhere rounding decides the sign
            expected = before[name] - rate * gradient / (np.abs(gradient) + 1e-8)
            np.testing.assert_allclose(after[name][large], expected[large], atol=atol, err_msg=name)
            seen += large.any()
    assert seen > 0.9 * sum(not value.stop_gradient for value in network.parameters())


@pytest.mark.parametrize(
    "changes",
    [{}, {"guided": False, "layers": "partial", "known_weight": 1.0}, {"residual": True, "known_weight": 0.0}],
)
def test_one_step_of_both_networks_by_hand(changes):
    """Losses from the networks' outputs in NumPy; weights from gradients and Adam's formula."""
    plan = {"known_weight": 0.25, "adversarial_weight": 0.5, "sketch_drop": 0.0, **changes}
    cfg = dataclasses.replace(PLAIN, **plan)
    (nets, optimizers), (by_hand, _) = build(cfg), build(cfg)
    for name, net in by_hand.items():
        net.set_state_dict(snapshot(nets[name]))
    start = {name: snapshot(net) for name, net in nets.items()}
    image, mask, edge = one_batch(cfg)
    for name, rate in (("generator", 2e-3), ("discriminator", 1e-3)):
        optimizers[name].set_lr(rate)
    done = {
        name: value.mean().item()
        for name, value in df_train.train_step(nets, optimizers, image, mask, edge, False, cfg).items()
    }
    end = {name: snapshot(net) for name, net in nets.items()}

    generator, judge = by_hand["generator"], by_hand["discriminator"]
    coarse, refined = generator(image, mask, edge)
    x, target_mask, made = image.numpy(), mask.numpy(), [coarse.numpy(), refined.numpy()]
    completed = np.where(target_mask > 0, made[1], x)
    twice = [paddle.concat([value, value]) for value in (mask, edge) if value is not None]
    logits = judge(paddle.to_tensor(np.concatenate([x, completed])), *twice)
    real, fake = np.split(logits.numpy(), 2)
    for one in (real, fake):
        assert (one > 1).any() and (one < -1).any() and (np.abs(one) < 1).any()
    hinge = (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2
    assert done["discriminator"] == pytest.approx(hinge, rel=1e-4)
    real, fake = logits.split(2)
    ((paddle.clip(1 - real, min=0).mean() + paddle.clip(1 + fake, min=0).mean()) / 2).backward()
    moved_by_adam(judge, start["discriminator"], end["discriminator"], 1e-3, 2e-6)

    for name, value in judge.named_parameters():  # go on from exactly the same weights
        if not value.stop_gradient:
            value.set_value(end["discriminator"][name])
    opinion = judge(image * (1 - mask) + refined * mask, mask, edge)
    assert done["adversarial"] == pytest.approx(-opinion.numpy().mean(), rel=1e-4)
    weight = np.where(target_mask > 0, 1.0, cfg.known_weight)
    reconstruction = sum((weight * np.abs(x - stage)).mean() for stage in made)
    assert done["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    weight = paddle.to_tensor(weight.astype(np.float32))
    loss = (weight * (image - coarse).abs()).mean() + (weight * (image - refined).abs()).mean()
    (loss - 0.5 * opinion.mean()).backward()
    moved_by_adam(generator, start["generator"], end["generator"], 2e-3, 2e-5)
    for name, value in snapshot(judge).items():  # two calls of D, two steps of its spectral norms
        np.testing.assert_allclose(value, end["discriminator"][name], atol=1e-5, err_msg=name)


def test_plain_steps_leave_the_discriminator_alone():
    nets, optimizers = build(PLAIN)
    before = {name: snapshot(net) for name, net in nets.items()}
    done = df_train.train_step(nets, optimizers, *one_batch(PLAIN), True, PLAIN)
    assert set(done) == {"reconstruction"}
    for name, value in snapshot(nets["discriminator"]).items():  # u and v of the spectral norms as well
        np.testing.assert_array_equal(value, before["discriminator"][name], err_msg=name)
    assert not [v for v in optimizers["discriminator"].state_dict().values() if isinstance(v, paddle.Tensor)]
    still = [name for name, value in snapshot(nets["generator"]).items() if (value == before["generator"][name]).all()]
    assert not still


def test_the_discriminator_moves_once_and_then_the_generator_once():
    """And nothing that the generator's step computes is left on the discriminator."""
    nets, optimizers = build(PLAIN)
    moves, gradients = [], []

    def watch(name, step):
        def watched():
            gradients.append(
                {k: v.grad.numpy().copy() for k, v in nets["discriminator"].named_parameters() if v.grad is not None}
            )
            step()
            moves.append((name, snapshot(nets["generator"]), snapshot(nets["discriminator"])))

        return watched

    for name, optimizer in optimizers.items():
        optimizer.step = watch(name, optimizer.step)
    start = {name: snapshot(net) for name, net in nets.items()}
    df_train.train_step(nets, optimizers, *one_batch(PLAIN), False, PLAIN)
    assert [name for name, *_ in moves] == ["discriminator", "generator"]
    (_, generator, judge), (_, _, judge_at_the_end) = moves
    for name in start["generator"]:
        np.testing.assert_array_equal(start["generator"][name], generator[name], err_msg=name)
    weights = [name for name, value in nets["discriminator"].named_parameters() if not value.stop_gradient]
    assert len(weights) == 12 and gradients[0].keys() == gradients[1].keys() == set(weights)
    for name in weights:
        assert (start["discriminator"][name] != judge[name]).any() and (gradients[0][name] != 0).any(), name
        np.testing.assert_array_equal(judge[name], judge_at_the_end[name], err_msg=name)
        np.testing.assert_array_equal(gradients[0][name], gradients[1][name], err_msg=name)
    assert not any(value.stop_gradient for name, value in nets["discriminator"].named_parameters() if name in weights)


def test_what_the_discriminator_is_given():
    """Real images and composites, which equal them outside the hole, each with its hole and its lines."""
    cfg = dataclasses.replace(PLAIN, sketch_drop=0.0)
    nets, optimizers = build(cfg)
    image, mask, edge = one_batch(cfg)
    refined, given, forward = nets["generator"](image, mask, edge)[1].numpy(), [], nets["discriminator"].forward

    def watched(*inputs):
        given.append([value.numpy() for value in inputs])
        return forward(*inputs)

    nets["discriminator"].forward = watched
    df_train.train_step(nets, optimizers, image, mask, edge, False, cfg)
    x, target_mask, lines = image.numpy(), mask.numpy(), edge.numpy()
    (both, *maps), (composite, *its_maps) = given
    np.testing.assert_array_equal(both[:4], x)
    known = np.broadcast_to(target_mask == 0, x.shape)
    for made in (both[4:], composite):
        np.testing.assert_array_equal(made[known], x[known])
        np.testing.assert_allclose(made[~known], refined[~known], atol=1e-6)
        assert (made != x).any(axis=(1, 2, 3)).all()
    for value, once, twice in zip((target_mask, lines), its_maps, maps, strict=True):
        assert 0 < value.mean() < 1
        np.testing.assert_array_equal(once, value)
        np.testing.assert_array_equal(twice, np.concatenate([value, value]))


def test_the_discriminator_moves_the_generator():
    """Equal but for the adversarial loss's share, two steps end in different generators."""
    ends = []
    for fraction in (0.0, 1.0):
        cfg = dataclasses.replace(PLAIN, adversarial_weight=fraction)
        nets, optimizers = build(cfg)
        df_train.train_step(nets, optimizers, *one_batch(cfg), False, cfg)
        ends.append(snapshot(nets["generator"]))
    for name in ("refine.allconv17.weight", "coarse.conv1.conv.weight"):  # stage one through stage two
        assert (ends[0][name] != ends[1][name]).any()


@pytest.mark.parametrize("layers", ["gated", "partial", "vanilla"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_of_one_and_two_train(batch_size, layers):
    cfg = dataclasses.replace(TINY, batch_size=batch_size, layers=layers)
    nets, optimizers = df_train.build(cfg)
    before = {name: snapshot(net) for name, net in nets.items()}
    for plain in (True, False, False):
        done = df_train.train_step(nets, optimizers, *one_batch(cfg), plain, cfg)
    assert done.keys() >= {"reconstruction", "discriminator", "adversarial", "real_output", "fake_output"}
    assert all(np.isfinite(value.mean().item()) for value in done.values())
    for name, net in nets.items():
        still = {key for key, value in snapshot(net).items() if (value == before[name][key]).all()}
        assert still <= {"conv6.bias"}  # in which real and completed images cancel, if all answers have one sign


def test_a_set_that_does_not_divide_into_batches(faces, tmp_path):
    """60 drawn faces, 54 to train: batches of 53 leave one image over, which begins the next batch."""
    cfg = settings(faces, tmp_path / "run", batch_size=53, total_steps=2)
    assert df_train.train(cfg).exists()


# ---- schedule and settings


def test_rates_fall_over_the_last_steps():
    assert [df_train.learning_rate(step, PLACES2) for step in (0, 999_999)] == [1e-4, 1e-4]
    cfg = dataclasses.replace(TINY, total_steps=100, decay_steps=50)
    rates = [df_train.learning_rate(step, cfg) for step in (0, 50, 75, 99)]
    np.testing.assert_allclose(rates, np.array([1, 1, 0.5, 0.02]) * cfg.learning_rate)
    rising = dataclasses.replace(cfg, warmup_steps=10)
    rates = [df_train.learning_rate(step, rising) for step in (0, 4, 9, 10, 99)]
    np.testing.assert_allclose(rates, np.array([0.1, 0.5, 1, 1, 0.02]) * cfg.learning_rate)


def test_what_reaches_the_steps(faces, tmp_path, monkeypatch):
    """Four steps, of which two are plain and the last two fall to a half; each image of a step its own hole."""
    seen, real = [], df_train.train_step

    def spy(nets, optimizers, image, mask_tensor, edge, plain, cfg):
        rates = {name: optimizer.get_lr() for name, optimizer in optimizers.items()}
        seen.append(
            (plain, rates["generator"], rates["discriminator"], mask_tensor.numpy(), nets["generator"].training)
        )
        return real(nets, optimizers, image, mask_tensor, edge, plain, cfg)

    monkeypatch.setattr(df_train, "train_step", spy)
    df_train.train(settings(faces, tmp_path / "run", learning_rate=1e-3))
    plain, generators, judges, masks, training = zip(*seen, strict=True)
    assert plain == (True, True, False, False) and all(training)
    assert generators == judges == pytest.approx([1e-3, 1e-3, 1e-3, 0.5e-3])
    assert all((a != b).any() for mask_tensors in masks for a, b in zip(mask_tensors, mask_tensors[1:], strict=False))
    seen.clear()
    df_train.train(settings(faces, tmp_path / "per-batch", mask_per_batch=True))
    assert len(seen) == 4 and all(
        (mask_tensors == mask_tensors[:1]).all() and mask_tensors.any() for *_, mask_tensors, _ in seen
    )
    assert (seen[0][3] != seen[1][3]).any()


def test_one_hole_for_a_batch():
    masks = np.arange(4)[:, None, None] == np.arange(64).reshape(1, 8, 8) % 4
    image, mask, edge = df_train.to_tensors((np.zeros((4, 8, 8, 3), np.uint8), masks), False)
    np.testing.assert_array_equal(mask.numpy()[:, 0], masks)
    assert edge is None and image.shape == [4, 3, 8, 8] and (image.numpy() == -1).all()
    _, mask, edge = df_train.to_tensors((np.zeros((4, 8, 8, 3), np.uint8), masks, ~masks), True)
    np.testing.assert_array_equal(mask.numpy()[:, 0], masks[[0, 0, 0, 0]])
    np.testing.assert_array_equal(edge.numpy()[:, 0], ~masks)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fit_together(preset):
    """Checked as they are, and one step of their kinds of networks, images and masks in small."""
    cfg = dataclasses.replace(PRESETS[preset][1], preset=preset, data_dir=Path("somewhere"))
    df_train.check(cfg)
    assert cfg.total_steps > cfg.plain_steps and cfg.total_steps >= cfg.warmup_steps + cfg.decay_steps
    small = dataclasses.replace(cfg, image_px=32, base_channels=4, discriminator_channels=4, batch_size=2)
    nets, optimizers = df_train.build(small)
    assert nets["generator"].arguments["guided"] == nets["discriminator"].arguments["guided"] == cfg.guided
    assert nets["generator"].arguments["padding"] == nets["discriminator"].arguments["padding"]
    done = df_train.train_step(nets, optimizers, *one_batch(small), False, small)
    assert all(np.isfinite(value.mean().item()) for value in done.values())


def test_the_releases_numbers():
    """inpaint.yml: 16 at 256 px, Adam 1e-4 (0.5, 0.999), losses 1 : 1; the article: D3, D4, two at a time."""
    for cfg, beta1, slope in ((PLACES2, 0.5, 0.2), (GUIDED, 0.5, 0.2), (ARTICLE, 0.9, 0.01)):
        assert (cfg.image_px, cfg.learning_rate, cfg.beta1, cfg.beta2) == (256, 1e-4, beta1, 0.999)
        assert (cfg.adversarial_weight, cfg.known_weight, cfg.slope, cfg.plain_steps) == (1, 1, slope, 0)
    assert PLACES2.batch_size == 16 and (PLACES2.base_channels, PLACES2.guided, GUIDED.guided) == (24, False, True)
    assert (ARTICLE.base_channels, ARTICLE.inputs, ARTICLE.gate_first, ARTICLE.padding) == (
        48,
        "article",
        True,
        "symmetric",
    )
    assert ARTICLE.batch_size == 2 and ARTICLE.total_steps == 4_950_000
    nets, optimizers = df_train.build(dataclasses.replace(TINY, beta1=0.25, beta2=0.75))
    assert all((each._beta1, each._beta2) == (0.25, 0.75) for each in optimizers.values())


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"image_px": 36}, "--image-px 36 is no multiple of 8"),
        ({"image_px": 24}, "--image-px 24 is no multiple of 8 from 32 up"),
        ({"base_channels": 5}, "--base-channels 5 is odd"),
        ({"base_channels": 0}, "--base-channels 0"),
        ({"sketch_drop": 1.5}, "--sketch-drop 1.5"),
        ({"sketch_drop": float("nan")}, "--sketch-drop nan"),
        ({"known_weight": -1.0}, "--known-weight -1.0"),
        ({"guided": False, "edges_dir": Path("x")}, "--edges-dir is for --guided"),
        ({"edges_dir": Path("nowhere")}, "no folder of edges nowhere"),
        ({"preset": "paper-places2", "data_dir": None}, "give --data-dir"),
    ],
)
def test_settings_that_cannot_work(changes, told):
    with pytest.raises(UserError, match=told):
        df_train.check(dataclasses.replace(TINY, **{"data_dir": Path("somewhere"), **changes}))


# ---- data


def drawing(height, width, rng):
    """White strokes on black, and where: less than half of the image."""
    lines = np.zeros((height, width), np.uint8)
    for _ in range(4):
        ends = rng.integers(0, (width, height), (2, 2)).tolist()
        cv2.line(lines, *ends, 255, 2)
    return lines[..., None].repeat(3, 2)


@pytest.mark.parametrize("crop", ["random", "square178", "random160"])
def test_lines_of_a_folder_lie_where_the_picture_has_them(tmp_path, crop):
    """Each image is its own edge map, so that after crop and flip both still show the same."""
    rng = np.random.default_rng(0)
    for n, name in enumerate(("a", "b_edge")):
        strokes = drawing(60 + 20 * n, 90, rng)
        write_image(tmp_path / f"photos/{name.partition('_')[0]}.png", strokes)
        write_image(tmp_path / f"edges/{name}.png", strokes)
    cfg = dataclasses.replace(TINY, crop=crop, edges_dir=tmp_path / "edges", sketch_drop=0.0, guided=True)
    make = df_train.sample_maker(open_photos(tmp_path / "photos", "train", False), cfg)
    shown = set()
    for seed in range(24):
        image, _, lines = make(seed % 2, np.random.default_rng(seed))
        drawn = image[..., 0] > 255 / 4
        assert lines.shape == (32, 32) and lines.dtype == bool and drawn.mean() > 0.02
        assert lines[drawn].all()
        assert not lines[cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5))) == 0].any()  # up to 2 px wider
        shown.add(drawn.tobytes())
    assert len(shown) == (24 if crop != "square178" else 4)  # crops; two images and their mirror images


def test_edges_of_the_pictures_in_a_zip_go_by_name(faces, tmp_path):
    (tmp_path / "edges").mkdir()

    class Zipped:
        def __getitem__(self, index):
            return np.zeros((50, 40, 3), np.uint8)

        def path(self, index):
            return None

        def name(self, index):
            return f"{index:06d}.jpg"

    make = df_train.sample_maker(Zipped(), dataclasses.replace(TINY, edges_dir=tmp_path / "edges", sketch_drop=0.0))
    write_image(tmp_path / "edges/000007_edge.png", drawing(50, 40, np.random.default_rng(0)))
    assert make(7, np.random.default_rng(0))[2].any()
    with pytest.raises(UserError, match="has no edge image of 000008.jpg"):
        make(8, np.random.default_rng(0))


def test_cannys_lines_are_mirrored_with_the_picture():
    """A bright left half: its edge stays beside it."""
    given = np.full((178, 178, 3), 40, np.uint8)
    given[:, :60] = 220  # up to column 10.8 of 32
    make = df_train.sample_maker([given], dataclasses.replace(TINY, sketch_drop=0.0))
    sides = []
    for seed in range(60):
        image, _, lines = make(0, np.random.default_rng(seed))
        bright = np.flatnonzero((image[:, :, 0] > 130).all(axis=0))
        sides.append(bright[0] == 0)
        edge = bright[-1] if sides[-1] else bright[0]
        assert lines.any() and np.abs(np.flatnonzero(lines.any(axis=0)) - edge).max() <= 3
    assert 15 < sum(sides) < 45  # of 60, half of them mirrored
    make = df_train.sample_maker([given], dataclasses.replace(TINY, flip=False))
    assert all(make(0, np.random.default_rng(seed))[0][0, 0, 0] == 220 for seed in range(20))


def test_sketches_are_left_out_at_their_rate():
    """Everything else of a sample stays the same; an unguided network is given none at all."""
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    samples = {}
    for rate in (0.0, 0.7, 1.0):
        make = df_train.sample_maker([image], dataclasses.replace(TINY, sketch_drop=rate))
        samples[rate] = [make(0, np.random.default_rng(seed)) for seed in range(300)]
    kept = {rate: np.mean([lines.any() for _, _, lines in found]) for rate, found in samples.items()}
    assert kept[0.0] == 1 and kept[1.0] == 0 and abs(kept[0.7] - 0.3) < 0.11  # four standard deviations
    for always, sometimes in zip(samples[0.0], samples[0.7], strict=True):
        np.testing.assert_array_equal(always[0], sometimes[0])
        np.testing.assert_array_equal(always[1], sometimes[1])
        assert not sometimes[2].any() or (sometimes[2] == always[2]).all()
    unguided = dataclasses.replace(TINY, guided=False, sketch_drop=0.0)
    sample = df_train.sample_maker([image], unguided)(0, np.random.default_rng(0))
    assert len(sample) == 2
    np.testing.assert_array_equal(sample[0], samples[0.0][0][0])


@pytest.mark.parametrize("kind", ["official", "rectangle", "bands"])
def test_holes_are_of_the_kind_asked_for(kind):
    cfg = dataclasses.replace(TINY, mask=kind)
    make = df_train.sample_maker([np.zeros((40, 40, 3), np.uint8)], cfg)
    masks = np.stack([make(0, np.random.default_rng(seed))[1] for seed in range(200)])
    boxes = [mask[np.ix_(mask.any(axis=1), mask.any(axis=0))].all() for mask in masks]
    mean = {"official": 0.309, "rectangle": 0.192, "bands": 0.3}[kind]
    assert masks.mean() == pytest.approx(mean, abs=0.05) and all(boxes) == (kind == "rectangle")


def test_photos_of_pairs_are_the_left_halves(tmp_path):
    for split in ("train", "val"):
        for n in range(3):
            pair = np.zeros((64, 128, 3), np.uint8)
            pair[:, :64], pair[:, 64:] = (10 * n + 7, 20, 30), 200
            write_image(tmp_path / split / f"{n + 1}.png", pair)
    photos = open_photos(tmp_path, "train", pairs=True)
    assert len(photos) == 3 and photos[1].shape == (64, 64, 3) and (photos[1] == [17, 20, 30]).all()


# ---- resume, and other weights to start from


@pytest.mark.parametrize("changes", [{"plain_steps": 4}, {"plain_steps": 2, "layers": "partial", "sketch_drop": 0.3}])
def test_resume_is_exact(faces, tmp_path, changes):
    """6 steps = 3 + 3 in weights, spectral norms and moments, before and after the discriminator's first step.

    With another network built in between, and another number of threads.
    """
    plan = {"decay_steps": 0, **changes}
    df_train.train(settings(faces, tmp_path / "whole", total_steps=6, **plan))
    df_train.train(settings(faces, tmp_path / "parts", total_steps=3, **plan))
    paddle.nn.Sequential(paddle.nn.Conv2D(3, 3, 3), paddle.nn.BatchNorm2D(3))  # moves Paddle's generated names on
    df_train.train(settings(faces, tmp_path / "parts", total_steps=6, workers=0, **plan))
    whole, parts = (
        load_file(newest_state(tmp_path / name / "checkpoints") / "state.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and "discriminator.conv6.weight_orig/moment1" in whole
    assert "discriminator.conv6.weight_u" in whole
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/stats.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_fine_tuning_starts_from_the_given_weights(faces, tmp_path):
    weights = df_train.train(settings(faces, tmp_path / "first"))
    again = settings(faces, tmp_path / "second", init_generator=weights, init_discriminator=weights, base_channels=8)
    nets, _ = df_train.build(again)
    tensors, metadata = read_weights(weights)
    assert nets["generator"].training and nets["generator"].arguments["base_channels"] == 4  # the file's own
    for name, net in nets.items():
        for key, value in snapshot(net).items():
            np.testing.assert_array_equal(value, tensors[f"{name}.{key}"])
    assert {name: metadata[name] for name in ("paper", "image_px", "holes", "crop", "colours", "step")} == {
        **{"paper": "deepfill", "image_px": 32, "holes": TINY.mask, "crop": TINY.crop, "colours": "RGB", "step": 4}
    }
    with pytest.raises(UserError, match="takes a sketch; set --guided"):
        df_train.build(dataclasses.replace(again, guided=False))
    with pytest.raises(UserError, match="discriminator in .* takes a sketch"):
        df_train.build(dataclasses.replace(again, guided=False, init_generator=None))


def test_networks_of_different_padding_do_not_train_together(tmp_path):
    """Whichever of them comes from a file: the flag that mends it is named, or both files are."""
    paths = {}
    for padding in ("same", "symmetric"):
        nets, _ = build(dataclasses.replace(TINY, padding=padding))
        metadata = {"paper": "deepfill", "image_px": 32, "colours": "RGB"} | {key: nets[key].arguments for key in nets}
        paths[padding] = save_weights(tmp_path / f"{padding}.safetensors", nets, metadata)
    first, second = paths.values()
    start = lambda **changes: df_train.build(dataclasses.replace(TINY, **changes))  # noqa: E731
    for name in ("generator", "discriminator"):
        with pytest.raises(UserError, match=f"network in {second} is padded symmetric; set --padding symmetric"):
            start(**{f"init_{name}": second})
        start(**{f"init_{name}": second}, padding="symmetric")
    with pytest.raises(UserError, match=f"{first} is padded same, the discriminator in {second} symmetric"):
        start(init_generator=first, init_discriminator=second)
    nets, _ = start(init_generator=second, init_discriminator=second)  # the setting is of neither
    assert {net.arguments["padding"] for net in nets.values()} == {"symmetric"}


def test_fine_tuning_weights_that_take_blue_first(tmp_path):
    """The release's: trained on, they judge and make the same images, and are saved as what they then are."""
    cfg = dataclasses.replace(TINY, guided=False, slope=0.3)
    nets, _ = build(cfg)
    metadata = {"paper": "deepfill", "image_px": 32, "colours": "BGR"}
    metadata |= {name: net.arguments for name, net in nets.items()}
    path = save_weights(tmp_path / "bgr.safetensors", nets, metadata)
    started, _ = df_train.build(dataclasses.replace(cfg, init_generator=path, init_discriminator=path))
    image, mask, _ = one_batch(cfg)
    for net in (*nets.values(), *started.values()):
        net.eval()
    blue_first = image.flip([1])
    for ours, theirs in zip(started["generator"](image, mask), nets["generator"](blue_first, mask), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.flip([1]).numpy(), atol=1e-5)
    expected = nets["discriminator"](blue_first, mask).numpy()
    judged = started["discriminator"](image, mask).numpy()
    np.testing.assert_allclose(judged, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    assert started["discriminator"].arguments["slope"] == 0.3 and df_train.metadata(started, cfg)["colours"] == "RGB"
    assert infer.load(path).metadata["colours"] == "RGB"
