"""--accumulate: a batch in several micro-batches is the whole batch, wherever no statistics are of a batch."""

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import named_tensors
from common.errors import UserError
from common.training.stats import read_stats

import paddle

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
STEPS = 6  # each phase of GLCIC has two of them, DeepFill's plain steps and adversarial ones have three

# Means over up to n = 4 x 32 x 32 values, added in another order: about sqrt(n) units of float32 for each step,
# relative to how far the network moved (what moves a single bias may be a difference of large sums); and the rounding
# of the weights themselves at each step. pix2pix has its L1 loss at a weight of 1: at 100 such steps are no descent.
UNIT = float(np.finfo(np.float32).eps)
MOVED, ROUNDED = STEPS * 64 * UNIT, STEPS * UNIT


def after_training(paper, folder, monkeypatch, frozen=False, **changes):
    """(values of all networks before, after, records) of a run by gradient descent.

    Adam would turn a gradient that is nothing but rounding into a whole step. Frozen networks stay in evaluation mode:
    batch norm uses its running statistics, spectral norm does not iterate, nothing is dropped.
    """
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    build, seen = train.build, {}

    def built(cfg):
        nets, _ = build(cfg)
        seen.update(nets=nets, start={name: value.numpy() for name, value in named_tensors(nets).items()})
        if frozen:
            for net in nets.values():
                net.eval()
                net.train = lambda: None
        trained = {name: net for name, net in nets.items() if name != "average"}
        return nets, {name: paddle.optimizer.SGD(0.1, parameters=net.parameters()) for name, net in trained.items()}

    phases = {"glcic": {"completion_steps": 2, "discriminator_steps": 2}, "deepfill": {"plain_steps": 3}}
    phases |= {"pix2pix": {"l1_weight": 1.0}}
    changes = phases.get(paper, {}) | changes
    settings = {"total_steps": STEPS, "batch_size": 4, "learning_rate": 0.1, "device": "cpu", "workers": 0}
    settings |= {"data_dir": train.draw_images(folder.parent / "data", count=20), "run_dir": folder}
    with monkeypatch.context() as patch:
        patch.setattr(train, "build", built)
        train.train(dataclasses.replace(tiny.TINY, **settings, **changes))
    end = {name: value.numpy() for name, value in named_tensors(seen["nets"]).items()}
    return seen["start"], end, read_stats(folder)


def assert_same(whole, parts):
    (start, whole, losses), (_, parts, part_losses) = whole, parts
    moved = {name: np.linalg.norm(value - start[name]) for name, value in whole.items()}
    for name, value in whole.items():
        network = max(far for other, far in moved.items() if other.split(".")[0] == name.split(".")[0])
        error = np.linalg.norm(value - parts[name])
        assert error <= MOVED * network + ROUNDED * np.linalg.norm(value), (name, error, network)
    assert max(moved.values()) > 0
    trained = {"time", "hole_psnr_db", "hole_l1", "psnr_db", "l1"}
    for one, other in zip(losses, part_losses, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - trained:
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name


@pytest.mark.medium
@pytest.mark.parametrize("paper", PAPERS)
def test_micro_batches_are_the_batch_where_normalisations_are_frozen(paper, tmp_path, monkeypatch):
    """Losses, weights and averages of a whole run, with every kind of step of each paper."""
    steps = {"generator_steps": 2} if paper == "dcgan_completion" else {}
    runs = [
        after_training(paper, tmp_path / str(count), monkeypatch, frozen=True, accumulate=count, **steps)
        for count in (1, 2)
    ]
    assert_same(*runs)


NO_BATCH_NORM = {
    "pix2pix": {"generator_norm": "instance", "discriminator_norm": "instance", "dropout": "none"},
    "deepfill": {"plain_steps": STEPS},  # the discriminator's spectral norm iterates once for each micro-batch
}


@pytest.mark.medium
@pytest.mark.parametrize("paper", NO_BATCH_NORM)
def test_micro_batches_are_the_batch_without_batch_norm(paper, tmp_path, monkeypatch):
    changes = NO_BATCH_NORM[paper]
    runs = [after_training(paper, tmp_path / str(count), monkeypatch, accumulate=count, **changes) for count in (1, 4)]
    assert_same(*runs)


@pytest.mark.parametrize("paper", PAPERS)
def test_batches_that_cannot_be_divided_are_refused(paper, tmp_path):
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    cfg = dataclasses.replace(
        tiny.TINY, batch_size=4, accumulate=3, data_dir=tmp_path / "data", run_dir=tmp_path / "run"
    )
    train.draw_images(tmp_path / "data", count=20)
    with pytest.raises(UserError, match="--batch-size 4 cannot be divided evenly into 3 micro-batches; choose"):
        train.train(dataclasses.replace(cfg, device="cpu"))
    assert not (tmp_path / "run").exists()
