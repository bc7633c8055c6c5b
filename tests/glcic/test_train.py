"""The three phases: who moves, which gradients flow, and that a run goes on exactly where it stopped."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.state import newest_state
from common.checkpoint.weights import read_weights
from common.errors import UserError
from common.runtime.optim import frozen
from glcic import train as glcic_train
from glcic.config import ARTICLE, PAPER, PRESETS, TINY
from tests import helpers
from tests.helpers import snapshot

import paddle

ROOT = Path(__file__).parents[2]


def settings(faces, folder, **changes):
    return dataclasses.replace(TINY, data_dir=faces, run_dir=folder, device="cpu", **changes)


def one_batch(cfg):
    images = np.random.default_rng(0).integers(0, 255, (4, 218, 178, 3), dtype=np.uint8)
    return glcic_train.to_tensors(helpers.one_batch(glcic_train, cfg, images))


def changed(network, before):
    return [name for name, value in network.state_dict().items() if (value.numpy() != before[name]).any()]


def test_phases_of_algorithm_1():
    phases = [glcic_train.phase(step, PAPER) for step in (0, 89_999, 90_000, 99_999, 100_000, 499_999)]
    assert phases == ["completion"] * 2 + ["discriminator"] * 2 + ["joint"] * 2
    assert glcic_train.phase(ARTICLE.completion_steps, ARTICLE) == "joint"  # the article has no second phase


@pytest.mark.parametrize("now", ["completion", "discriminator", "joint"])
def test_each_phase_moves_only_its_networks(now):
    """Statistics included: in the second phase not even the running means of the completion network move."""
    nets, optimizers = glcic_train.build(TINY)
    before = {name: snapshot(net) for name, net in nets.items()}
    glcic_train.train_step(nets, optimizers, *one_batch(TINY), now, TINY)
    moved = {name for name, net in nets.items() if changed(net, before[name])}
    assert moved == {"completion": {"completion"}, "discriminator": {"discriminator"}, "joint": set(nets)}[now]


def test_completion_network_learns_from_the_discriminators():
    """With no MSE left (weight of the adversarial term huge, gradients compared), the joint phase still moves C."""
    nets, _ = glcic_train.build(TINY)
    image, mask, patch_corners, _ = one_batch(TINY)
    completed = nets["completion"](image, mask)
    fake = glcic_train.model.composite(image, completed, mask)
    with frozen(nets["discriminator"]):
        logits = nets["discriminator"](fake, glcic_train.model.cut_patches(fake, patch_corners, TINY.local_px))
    glcic_train.losses.adversarial_loss(logits).backward()
    for name, parameter in nets["completion"].named_parameters():
        if not parameter.stop_gradient and not name.endswith("conv.bias"):  # a bias under a normalisation has none
            assert float(parameter.grad.abs().max()) > 0, name
    assert all(p.grad is None for p in nets["discriminator"].parameters() if not p.stop_gradient)


@pytest.mark.medium
def test_adversarial_weight_reaches_the_completion_network():
    """One joint step with alpha 4e-4 differs from one with alpha 0, all else equal."""
    ends = []
    for weight in (0.0, 4e-4):
        cfg = dataclasses.replace(TINY, adversarial_weight=weight, optimizer="adadelta", learning_rate=1.0)
        nets, optimizers = glcic_train.build(cfg)
        glcic_train.train_step(nets, optimizers, *one_batch(cfg), "joint", cfg)
        ends.append(snapshot(nets["completion"]))
    assert any((ends[0][name] != ends[1][name]).any() for name in ends[0])


@pytest.mark.medium
def test_one_discriminator_sees_real_and_completed_pictures_with_clean_gradients():
    nets, optimizers = glcic_train.build(TINY)
    discriminator, seen, gradients_before = nets["discriminator"], [], []
    forward_hook = discriminator.register_forward_post_hook(lambda layer, inputs, output: seen.append(id(layer)))
    step = optimizers["discriminator"].step
    batch = one_batch(TINY)
    glcic_train.train_step(nets, optimizers, *batch, "joint", TINY)
    weight = discriminator.fusion.weight

    def recording_step():
        gradients_before.append(weight.grad.numpy().copy())
        step()

    optimizers["discriminator"].step = recording_step
    start = {name: snapshot(net) for name, net in nets.items()}
    glcic_train.train_step(nets, optimizers, *batch, "discriminator", TINY)
    assert len(seen) == 3 + 2 and len(set(seen)) == 1  # real, fake, fake again for C; then real, fake
    forward_hook.remove()
    # The gradient of that step, computed once more from networks that never had another gradient.
    fresh, _ = glcic_train.build(TINY)
    for name, net in fresh.items():
        net.set_state_dict(start[name])
    image, mask, patch_corners, real_corners = batch
    fake = glcic_train.model.composite(image, glcic_train.complete_fixed(fresh["completion"], image, mask), mask)
    cut = glcic_train.model.cut_patches
    real_logits = fresh["discriminator"](image, cut(image, real_corners, TINY.local_px))
    fake_logits = fresh["discriminator"](fake, cut(fake, patch_corners, TINY.local_px))
    sum(glcic_train.losses.discriminator_loss(real_logits, fake_logits)).backward()
    np.testing.assert_allclose(
        gradients_before[0], fresh["discriminator"].fusion.weight.grad.numpy(), rtol=1e-4, atol=1e-7
    )


def test_adadelta_step_by_hand():
    """E[g2] = 0.1 g2; step = sqrt(eps) / sqrt(E[g2] + eps) * g; rho 0.9, eps 1e-6 (Zeiler 2012, Algorithm 1)."""
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.float32([[2.0]]))
    optimizer = glcic_train._optimizer(layer, PAPER)
    (layer(paddle.ones([1, 1])) * 3).sum().backward()
    optimizer.step()
    expected = 2.0 - np.sqrt(1e-6) / np.sqrt(0.1 * 9 + 1e-6) * 3
    assert layer.weight.item() == pytest.approx(expected, rel=1e-6)


def final_state(folder):
    """Every tensor of the newest checkpoint, and the losses that were logged."""
    newest = newest_state(folder / "checkpoints")
    from safetensors.numpy import load_file

    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return load_file(newest / "state.safetensors"), [(line["step"], line.get("completion")) for line in lines]


@pytest.mark.medium
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_exact(accumulate, faces, tmp_path):
    """9 steps = 2 + 3 + 2 + 2 in weights and moments, with another network built first and another worker count.

    The stops lie in each of the three phases: in the first, one optimiser has not stepped yet.
    """
    plan = {"total_steps": 9, "completion_steps": 3, "discriminator_steps": 3, "accumulate": accumulate}
    glcic_train.train(settings(faces, tmp_path / "whole", **plan, decay_steps=0))
    for stop in (2, 5, 7):
        glcic_train.train(settings(faces, tmp_path / "parts", **{**plan, "total_steps": stop}, decay_steps=0))
    paddle.nn.Sequential(paddle.nn.Conv2D(3, 3, 3), paddle.nn.BatchNorm2D(3))  # moves Paddle's generated names on
    glcic_train.train(settings(faces, tmp_path / "parts", **plan, workers=0, decay_steps=0))
    (whole, _), (parts, _) = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert whole.keys() == parts.keys() and any("/moment1" in name for name in whole)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


def test_resume_is_exact_with_an_average(faces, tmp_path):
    """The average goes on where it was, and is what the weights hold, with the training set's mean colour."""
    cfg = settings(faces, tmp_path / "whole", average_decay=0.9, decay_steps=0, reconstruction="l1")
    weights = glcic_train.train(cfg)
    parts = dataclasses.replace(cfg, run_dir=tmp_path / "parts")
    glcic_train.train(dataclasses.replace(parts, total_steps=5))
    glcic_train.train(parts)
    (whole, _), (parts, _) = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    saved, name = read_weights(weights)[0], "conv5.conv.weight"
    np.testing.assert_array_equal(saved[f"completion.{name}"], whole[f"average.{name}"])
    assert (whole[f"average.{name}"] != whole[f"completion.{name}"]).any()
    assert (
        whole[f"average.{name}"] != glcic_train.build(cfg)[0]["average"].state_dict()[name].numpy()
    ).any()  # it moved
    np.testing.assert_array_equal(saved["completion.mean_colour"], whole["completion.mean_colour"])
    assert saved["completion.mean_colour"].any()


def test_the_norm_of_the_completion_loss_reaches_the_step():
    """Two steps from the same start, MSE and L1, log their own loss of the same completion."""
    logged = {}
    for norm in ("mse", "l1"):
        cfg = dataclasses.replace(TINY, reconstruction=norm)
        nets, optimizers = glcic_train.build(cfg)
        image, mask, *corners = one_batch(cfg)
        with paddle.no_grad():
            error = ((nets["completion"](image, mask) - image) * mask / 2).numpy()
        logged[norm] = float(
            glcic_train.train_step(nets, optimizers, image, mask, *corners, "completion", cfg)["completion"]
        )
        expected = np.abs(error).mean() if norm == "l1" else np.square(error).mean()
        assert logged[norm] == pytest.approx(float(expected), rel=1e-4)


def test_an_average_that_never_moves_is_refused(faces, tmp_path):
    with pytest.raises(UserError, match="--average-decay 1.0"):
        glcic_train.train(settings(faces, tmp_path / "run", average_decay=1.0))


@pytest.mark.slow
def test_resume_is_exact_across_a_kill(faces, tmp_path):
    """SIGTERM in mid-run, then the same command again: equal to an undisturbed run, bit for bit."""
    flags = ["quick", "--data-dir", str(faces), "--device", "cpu", "--total-steps", "30", "--completion-steps", "10"]
    flags += ["--discriminator-steps", "5", "--image-px", "32", "--local-px", "16", "--mask-px", "8", "16"]
    flags += ["--base-channels", "8", "--batch-size", "4"]

    def command(folder):
        return [sys.executable, "-m", "glcic.train", *flags, "--run-dir", str(folder)]

    quiet = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    assert subprocess.run(command(tmp_path / "whole"), **quiet).returncode == 0
    process = subprocess.Popen(command(tmp_path / "parts"), **quiet)
    stats = tmp_path / "parts" / "stats.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (stats.exists() and '"step": 10' in stats.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "the same command goes on from here" in out
    assert newest_state(tmp_path / "parts/checkpoints").name < "step_0000030"
    finished = subprocess.run(command(tmp_path / "parts"), **quiet)
    assert finished.returncode == 0 and "resumed from" in finished.stdout, finished.stderr
    (whole, _), (parts, _) = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


@pytest.mark.medium
def test_a_finished_run_is_left_alone_and_can_be_lengthened(faces, tmp_path, capsys):
    glcic_train.train(settings(faces, tmp_path / "run"))
    before = (tmp_path / "run/checkpoints/step_0000006/state.safetensors").stat().st_mtime_ns
    glcic_train.train(settings(faces, tmp_path / "run"))
    assert (tmp_path / "run/checkpoints/step_0000006/state.safetensors").stat().st_mtime_ns == before
    glcic_train.train(settings(faces, tmp_path / "run", total_steps=8))
    assert read_weights(tmp_path / "run/weights.safetensors")[1]["step"] == 8


@pytest.mark.medium
def test_other_options_are_refused_and_never_moves_the_old_run_aside(faces, tmp_path):
    glcic_train.train(settings(faces, tmp_path / "run"))
    with pytest.raises(UserError, match="batch_size was 4, is 2"):
        glcic_train.train(settings(faces, tmp_path / "run", batch_size=2))
    glcic_train.train(settings(faces, tmp_path / "run", batch_size=2, resume="never"))
    assert (tmp_path / "run-1/weights.safetensors").exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_and_fit_together(preset):
    cfg = dataclasses.replace(PRESETS[preset][1], preset=preset, data_dir=Path("somewhere"))
    glcic_train.check(cfg)
    assert cfg.completion_steps + cfg.discriminator_steps < cfg.total_steps


@pytest.mark.medium
def test_mean_colour_and_its_place_in_the_weights(faces, tmp_path):
    weights = glcic_train.train(settings(faces, tmp_path / "run"))
    tensors, metadata = read_weights(weights)
    images = glcic_train.paired_images.open_photos(faces, "train", pairs=False)
    expected = np.mean([images[n].reshape(-1, 3).mean(0) for n in range(len(images))], 0) / 127.5 - 1
    np.testing.assert_allclose(tensors["completion.mean_colour"].ravel(), expected, atol=1e-5)
    assert metadata["image_px"] == 32 and metadata["largest_hole"] == 0.5 and metadata["paper"] == "glcic"


@pytest.mark.medium
def test_fine_tuning_starts_from_the_given_weights(faces, tmp_path):
    weights = glcic_train.train(settings(faces, tmp_path / "first"))
    cfg = settings(faces, tmp_path / "second", init_generator=weights, base_channels=16)
    nets, _ = glcic_train.build(cfg)
    tensors, _ = read_weights(weights)
    np.testing.assert_array_equal(nets["completion"].conv5.conv.weight.numpy(), tensors["completion.conv5.conv.weight"])
    assert nets["completion"].training
