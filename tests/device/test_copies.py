"""What a training step copies between host and GPU: its batch, up, and nothing down, so that the GPU never waits."""

import importlib
from functools import partial

import pytest

from common.training.run import Run
from tests.device import build
from tests.device.conftest import train_words

import paddle

pytestmark = pytest.mark.gpu

# (uploads, downloads) of one step. The batch as it comes from the readers goes up, and nothing else.
COPIES = {
    "glcic": (2, 0),  # image and mask
    "pix2pix": (2, 0),  # source and target
    "deepfill": (3, 0),  # image, mask and sketch
    "context_encoder": (2, 0),  # image and mask
    "dcgan_completion": (2, 0),  # image and z
}
if paddle.__version__.startswith("2."):
    COPIES["deepfill"] = (27, 0)  # Paddle 2.6 uploads the scalars of some operators, one by one
STEPS = 5  # fewer than RECORD_STEPS: the losses are fetched once, after the last


def copies_per_step(paper, tmp_path, data_dir, device, monkeypatch, **changes) -> list[tuple[int, int]]:
    """(uploads, downloads) from each `run.record` to the next, but for steps that draw a preview."""
    seen, record = [], Run.record

    def counted(run, losses):
        seen.append(build.counts())
        record(run, losses)

    monkeypatch.setattr(Run, "record", counted)
    words = train_words(paper, data_dir=data_dir, run_dir=tmp_path / "run", device=device, total_steps=STEPS, **changes)
    module = importlib.import_module(f"{paper}.train")
    module.train(module.read_train(words, ""))
    steps = [after.since(before)[:2] for before, after in zip(seen, seen[1:], strict=False)]
    return steps[1:]  # the first step is followed by a preview


@pytest.mark.parametrize(("paper", "accumulate"), [*((paper, 1) for paper in COPIES), ("glcic", 2), ("pix2pix", 2)])
def test_a_training_step_uploads_its_batch_and_downloads_nothing(
    paper, accumulate, tmp_path, drawn, fake_gpu, monkeypatch
):
    """Micro-batches are cut from it on the device."""
    phases = {"completion_steps": 3, "discriminator_steps": 1} if paper == "glcic" else {}
    steps = copies_per_step(paper, tmp_path, drawn(paper), fake_gpu, monkeypatch, accumulate=accumulate, **phases)
    assert len(steps) == STEPS - 2 and set(steps) == {COPIES[paper]}


@pytest.mark.parametrize(
    ("fault", "copies"), [("loss.numpy() in the loop", (2, 1)), ("a mask left on the host", (1, 0))]
)
def test_a_planted_copy_is_counted(fault, copies, tmp_path, drawn, fake_gpu, monkeypatch):
    module = importlib.import_module("glcic.train")
    backward, upload = module.optim._backward, module.device.upload
    if "numpy" in fault:
        monkeypatch.setattr(module.optim, "_backward", lambda *given: (given[-1].numpy(), backward(*given)))
    else:
        on_host = partial(module.paddle.to_tensor, place="cpu")
        monkeypatch.setattr(module.device, "upload", lambda array: (upload if array.shape[1] == 3 else on_host)(array))
    steps = copies_per_step("glcic", tmp_path, drawn("glcic"), fake_gpu, monkeypatch, completion_steps=STEPS)
    assert set(steps) == {copies}
