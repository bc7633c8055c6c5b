"""Faults of a GPU: memory runs out, answers are zeros, the device is lost. One line, exit status 2, nothing lost."""

import gc
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint import state as checkpoint_state
from common.checkpoint.state import newest_state
from common.checkpoint.tensors import named_tensors
from common.imaging.io import write_image
from common.runtime.device import open_device, paddle
from glcic import evaluate, infer
from glcic import train as glcic_train
from glcic.config import TINY
from tests.device import build
from tests.device.conftest import train_words

pytestmark = pytest.mark.gpu

BUNDLED = Path(__file__).parents[2] / "weights" / "glcic_faces.safetensors"


@pytest.fixture(autouse=True)
def no_fault_left(monkeypatch):
    """The switches are read at each call: whatever a test leaves on is off again afterwards."""
    for name in ("BYTES", "ZEROS", "LOST"):
        monkeypatch.setenv(f"FAKE_GPU_{name}", "")


def fails(capsys, main, words) -> str:
    """The last line of a command that ends with status 2, having printed no trace."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in said
    return said.strip().splitlines()[-1]


def break_at(monkeypatch, step: int, name: str, value) -> None:
    """Switches a fault on within one training step of GLCIC (from 0): when its first loss is computed."""
    train_step, done = glcic_train.train_step, []

    def broken(*given):
        done.append(given)
        if len(done) == step + 1:
            monkeypatch.setenv(name, str(value() if callable(value) else value))
        return train_step(*given)

    monkeypatch.setattr(glcic_train, "train_step", broken)


PHASES = {"completion": 1, "discriminator": 3, "joint": 5}  # steps of TINY


@pytest.mark.parametrize("phase", PHASES)
def test_memory_that_runs_out_in_training(phase, tmp_path, drawn, fake_gpu, monkeypatch, capsys):
    """The line names batch and size, and the same run goes on from its last checkpoint."""
    step = PHASES[phase]
    assert glcic_train.phase(step, TINY) == phase
    words = train_words("glcic", data_dir=drawn("glcic"), run_dir=tmp_path / "run", device=fake_gpu, save_minutes=0.0)
    with monkeypatch.context() as fault:
        break_at(fault, step, "FAKE_GPU_BYTES", lambda: build.counts().held[0] + 4096)
        line = fails(capsys, glcic_train.main, words)
    saved = newest_state(tmp_path / "run/checkpoints")
    assert saved.name == f"step_{step:07d}" and f"--resume {saved}" in line
    assert f"ran out at step {step + 1} of glcic with --batch-size 4 and --image-px 32 (" in line
    assert "MB more were asked for on fake_gpu:0); lower one of them or raise --accumulate or add --amp float16" in line
    glcic_train.main([*words, "--batch-size", "2", "--resume", str(saved)])
    assert f"resumed from {saved}, {step} steps done" in capsys.readouterr().out


def test_a_device_that_is_lost_in_training(tmp_path, drawn, fake_gpu, monkeypatch, capsys):
    words = train_words("glcic", data_dir=drawn("glcic"), run_dir=tmp_path / "run", device=fake_gpu, save_minutes=0.0)
    with monkeypatch.context() as fault:
        break_at(fault, 3, "FAKE_GPU_LOST", 1)
        line = fails(capsys, glcic_train.main, words)
    saved = newest_state(tmp_path / "run/checkpoints")
    assert line.startswith("error: fake_gpu:0 failed at step 4 of glcic: ") and "CustomDevice error" in line
    assert saved.name == "step_0000003" and f"the same command goes on from {saved}" in line
    glcic_train.main(words)
    assert "3 steps done" in capsys.readouterr().out


def test_a_device_that_is_lost_while_saving_is_no_full_disk(tmp_path, drawn, fake_gpu, monkeypatch, capsys):
    """Paddle raises an OSError for it too."""
    words = train_words("glcic", data_dir=drawn("glcic"), run_dir=tmp_path / "run", device=fake_gpu)
    save = checkpoint_state.save_state

    def lost(*given):
        monkeypatch.setenv("FAKE_GPU_LOST", "1")
        return save(*given)

    monkeypatch.setattr(checkpoint_state, "save_state", lost)
    line = fails(capsys, glcic_train.main, words)
    assert "fake_gpu:0 failed at step" in line and "cannot save" not in line


@pytest.mark.parametrize("module", [glcic_train, infer, evaluate])
def test_answers_that_are_zeros_are_found_before_anything_is_computed(
    module, tmp_path, drawn, fake_gpu, monkeypatch, capsys
):
    monkeypatch.setenv("FAKE_GPU_ZEROS", "1")
    if module is glcic_train:
        words = train_words("glcic", data_dir=drawn("glcic"), run_dir=tmp_path / "run", device=fake_gpu)
    else:
        words = ["--demo", "--output", tmp_path / "demo"] if module is infer else ["--data-dir", drawn("glcic")]
        words += ["--device", fake_gpu, "--weights", BUNDLED]
    line = fails(capsys, module.main, words)
    assert "computes wrongly: a product is wrong by 37 and a convolution is wrong by 50" in line
    assert "README.md, GPU" in line and not (tmp_path / "run").exists()


# ---- memory in infer and evaluate


@pytest.fixture(scope="module")
def weights(tmp_path_factory, drawn):
    """Of GLCIC at 32 px, after six steps on the CPU."""
    folder = tmp_path_factory.mktemp("weights")
    glcic_train.main(train_words("glcic", data_dir=drawn("glcic"), run_dir=folder, device="cpu"))
    return folder / "weights.safetensors"


def bytes_needed(work, monkeypatch) -> int:
    """What some work holds at most on the first device, beyond what is there: seen after each of its convolutions."""
    gc.collect()
    before, held, run = build.counts().held[0], [], paddle.nn.Conv2D.forward

    def watched(*given):
        made = run(*given)
        held.append(build.counts().held[0])
        return made

    with monkeypatch.context() as watch:
        watch.setattr(paddle.nn.Conv2D, "forward", watched)
        work()
    return max(held) - before


def limit_to(monkeypatch, more: int) -> None:
    monkeypatch.setenv("FAKE_GPU_BYTES", str(build.counts().held[0] + more))


def test_infer_goes_on_with_fewer_windows_and_then_smaller_ones(weights, fake_gpu, monkeypatch, capsys):
    open_device(fake_gpu)
    network = infer.load(weights)
    image = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[20:28, 20:28] = mask[60:68, 120:128] = mask[20:28, 200:208] = mask[100:108, 220:228] = True

    def complete():
        return infer.complete_batch(network, [image], [mask], blend="paste", window="mask")[0]

    whole = complete()
    needed = bytes_needed(complete, monkeypatch)
    limit_to(monkeypatch, int(needed * 0.75))
    np.testing.assert_array_equal(complete(), whole)  # fewer at once: the same windows
    said = capsys.readouterr().err
    assert "memory ran out in a batch of 4 windows of 32 x 32 px (" in said and "going on with 2 at once" in said
    limit_to(monkeypatch, int(needed * 0.15))
    smaller = complete()
    said = capsys.readouterr().err
    assert "a batch of 1 windows of 32 x 32 px" in said and "at half its scale" in said
    assert (smaller[mask] != whole[mask]).any()
    np.testing.assert_array_equal(smaller[~mask], image[~mask])


def test_evaluate_goes_on_with_fewer_images(weights, fake_gpu, monkeypatch, capsys):
    open_device(fake_gpu)
    network = infer.load(weights)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros(images.shape[:3], bool)
    masks[:, 8:20, 8:20] = True
    whole = evaluate.complete_all(network, images, masks)
    needed = bytes_needed(lambda: evaluate.complete_all(network, images, masks), monkeypatch)
    limit_to(monkeypatch, needed * 3 // 4)
    np.testing.assert_array_equal(evaluate.complete_all(network, images, masks), whole)
    said = capsys.readouterr().err
    assert "memory ran out in computing 8 images of 32 x 32 px (" in said and "on fake_gpu:0); going on with 4" in said


@pytest.mark.parametrize("module", [infer, evaluate])
def test_a_command_for_which_no_size_is_small_enough(module, tmp_path, drawn, weights, fake_gpu, monkeypatch, capsys):
    open_device(fake_gpu)
    gc.collect()
    before = build.counts().held[0]
    network = infer.load(weights)
    size = build.counts().held[0] - before
    del network
    limit_to(monkeypatch, size + 20_000)
    shared = ["--weights", weights, "--device", fake_gpu, "--disable-cpu-layers"]
    if module is infer:
        image = tmp_path / "image.png"
        write_image(image, np.zeros((32, 32, 3), np.uint8))
        words = ["--input", image, "--output", tmp_path / "out.png", "--mask", "center"]
    else:
        words = ["--data-dir", drawn("glcic"), "--split", "train", "--limit", "4"]
    line = fails(capsys, module.main, [*shared, *words])
    what = "a batch of 1 windows of 16 x 16 px" if module is infer else "computing 1 images of 32 x 32 px"
    assert line.startswith(f"error: memory ran out in {what} (") and "on fake_gpu:0); take smaller images" in line
    assert not (tmp_path / "out.png").exists()


# ---- where things lie


def test_networks_and_moments_lie_on_the_device_that_was_asked_for(tmp_path, fake_gpu):
    """Also after resuming, with the first device chosen in between."""
    open_device(f"{fake_gpu}:1")
    batch = np.random.default_rng(0)
    images = batch.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    masks = (batch.random((2, 1, 32, 32)) < 0.2).astype(np.float32)
    corners = np.zeros((2, 2), int)
    nets, optimizers = glcic_train.build(TINY)
    glcic_train.train_step(
        nets, optimizers, paddle.to_tensor(images), paddle.to_tensor(masks), corners, corners, "joint", TINY
    )
    saved = checkpoint_state.save_state(tmp_path, nets, optimizers, {"step": 1})
    open_device(fake_gpu)
    open_device(f"{fake_gpu}:1")
    nets, optimizers = glcic_train.build(TINY)
    checkpoint_state.load_state(saved, nets, optimizers)
    tensors = named_tensors(nets)
    for name, optimizer in optimizers.items():
        moments = {key: value for key, value in optimizer.state_dict().items() if isinstance(value, paddle.Tensor)}
        assert moments
        tensors |= {f"{name}/{key}": value for key, value in moments.items()}
    assert {str(tensor.place) for tensor in tensors.values()} == {f"Place({fake_gpu}:1)"}
