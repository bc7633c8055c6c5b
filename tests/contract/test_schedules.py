"""Each paper's `learning_rate` is what Paddle's own schedulers compute, to the last bits of a float64.

The schedulers are stepped as a training loop does it; ours is asked for any step.
"""

import dataclasses
import importlib

import pytest

import paddle
from paddle.optimizer import lr

STEPS = 60
UNITS = 4 * 2.0**-53  # roundings of a product of three factors, relative


def rates_of(scheduler, count):
    """The rates that an optimiser with this scheduler steps with, and those in its `state_dict`."""
    optimizer = paddle.optimizer.SGD(scheduler, parameters=[paddle.create_parameter([1], "float32")])
    rates = []
    for _ in range(count):
        rates.append(optimizer.get_lr())
        scheduler.step()
    return rates


def rate_of(paper, cfg):
    """step -> the paper's learning rate."""
    train = importlib.import_module(f"{paper}.train")
    counts = (cfg.total_steps,) if paper == "pix2pix" else ()
    return lambda step: train.learning_rate(step, *counts, cfg)


def ours(paper, cfg):
    return list(map(rate_of(paper, cfg), range(cfg.total_steps)))


def settings(paper, **changes):
    return dataclasses.replace(importlib.import_module(f"{paper}.config").TINY, total_steps=STEPS, **changes)


@pytest.mark.parametrize("paper", ["glcic", "context_encoder", "dcgan_completion", "deepfill"])
@pytest.mark.parametrize("decay_steps", [0, 24, STEPS])
def test_the_constant_rate_that_falls_in_the_end_is_polynomial_decay(paper, decay_steps):
    """Of degree 1, over the last steps. Paddle has no scheduler that waits: LinearWarmup refuses to stay at a rate."""
    cfg = settings(paper, decay_steps=decay_steps, **({"warmup_steps": 0} if paper == "deepfill" else {}))
    rate = cfg.learning_rate
    expected = [rate] * (STEPS - decay_steps)
    if decay_steps:
        expected += rates_of(lr.PolynomialDecay(rate, decay_steps, end_lr=0.0, power=1.0), decay_steps)
    assert ours(paper, cfg) == pytest.approx(expected, rel=UNITS * STEPS, abs=0)
    assert ours(paper, cfg)[-1] == pytest.approx(rate / max(1, decay_steps), rel=UNITS)


def test_the_warm_up_of_deepfill_is_linear_warmup():
    """Ours begins with a tenth of the rate, not with 0, which would be a step that does nothing."""
    cfg = settings("deepfill", warmup_steps=10, decay_steps=0)
    rate = cfg.learning_rate
    scheduler = lr.LinearWarmup(rate, 9, rate / 10, rate)
    assert ours("deepfill", cfg) == pytest.approx(rates_of(scheduler, STEPS), rel=UNITS * 10)


def test_the_official_schedule_of_pix2pix_is_lambda_decay_by_the_epoch():
    """networks.get_scheduler of the official port, which counts from `epoch_count` 1 and steps once an epoch."""
    cfg = settings("pix2pix", epochs=6, decay_epochs=3)
    per_epoch = STEPS // cfg.epochs
    official = lr.LambdaDecay(cfg.learning_rate, lambda epoch: 1.0 - max(0, epoch + 1 - 3) / float(3 + 1))
    by_epoch = rates_of(official, cfg.epochs)
    assert ours("pix2pix", cfg) == [pytest.approx(by_epoch[step // per_epoch], rel=UNITS) for step in range(STEPS)]


@pytest.mark.parametrize("paper", ["glcic", "pix2pix", "deepfill", "context_encoder", "dcgan_completion"])
def test_an_optimiser_takes_the_function_as_a_scheduler_that_resumes(paper):
    """docs/paddle.md: `LambdaDecay(1.0, …)`, equal bit for bit, also after set_state_dict in the middle."""
    cfg = settings(paper, **({"epochs": 6, "decay_epochs": 3} if paper == "pix2pix" else {"decay_steps": 24}))
    first, second = (lr.LambdaDecay(1.0, rate_of(paper, cfg)) for _ in range(2))
    rates = rates_of(first, 45)
    second.set_state_dict(first.state_dict())
    assert rates + rates_of(second, STEPS - 45) == ours(paper, cfg)
