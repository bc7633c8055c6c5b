"""The band of runs that differ in their seed: its arithmetic, and that a run is held to it only where it applies."""

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common.config import RunSettings
from common.training import reference
from common.training.run import Run

import paddle

RUNS = [{10: {"loss": value, "d": 2.0}, 20: {"loss": value / 2}} for value in (1.0, 2.0, 3.0)]


def test_mean_and_spread_by_arithmetic():
    """Of 1, 2, 3: mean 2, standard deviation 1 (over n - 1). A loss that not all runs have at a step is left out."""
    assert reference.collect(RUNS, (10, 20)) == {"loss": {"10": [2.0, 1.0], "20": [1.0, 0.5]}, "d": {"10": [2.0, 0.0]}}
    assert reference.collect([*RUNS, {10: {"loss": 2.0}, 20: {}}], (20,)) == {}


def test_a_band_is_never_narrower_than_a_part_of_its_mean():
    assert reference.band(2.0, 1.0) == (2 - reference.SPREADS, 2 + reference.SPREADS)
    assert reference.band(-2.0, 0.0) == (-2 - 2 * reference.LEAST, -2 + 2 * reference.LEAST)


def test_what_lies_outside_is_named_in_both_directions():
    curves = reference.collect(RUNS, (10, 20))
    assert reference.outside(curves, 10, {"loss": 2.0, "d": 2.0, "unknown": 99.0}) == []
    for value in (-4.1, 8.1, float("nan")):
        (text,) = reference.outside(curves, 10, {"loss": value, "d": 2.0})
        assert text.startswith(f"loss {value:.4g}, not -4 to 8")
    assert reference.outside(curves, 15, {"loss": 99.0}) == []


def test_a_training_is_told_at_the_steps_alone():
    known = {"steps": [10, 20], "seeds": [0, 1, 2], "curves": reference.collect(RUNS, (10, 20))}
    assert reference.report(known, 10, {"loss": 2.0}) == "step 10: inside the band of 3 seeds"
    assert "outside the band of 3 seeds: loss 9" in reference.report(known, 20, {"loss": 9.0})
    assert reference.report(known, 30, {"loss": 9.0}) == ""


@dataclass(frozen=True)
class Settings(RunSettings):
    rate: float = 0.1
    """learning rate [ours]"""


CFG = Settings(total_steps=20, preset="quick")


def train(cfg, loss):
    net = paddle.nn.Linear(1, 1)
    with Run(cfg, "paper", {"n": net}, {"n": paddle.optimizer.Adam(parameters=net.parameters())}) as run:
        for _ in run.steps(lambda first: ((np.float32(n),) for n in itertools.count(first))):
            run.record({"loss": paddle.to_tensor(loss)})


@pytest.mark.parametrize(
    ("changes", "loss", "told"),
    [
        ({}, 2.0, ["step 10: inside the band of 3 seeds"]),
        ({"seed": 7, "workers": 0}, 2.0, ["step 10: inside the band of 3 seeds"]),
        ({}, 9.0, ["step 10: outside the band of 3 seeds: loss 9, not -4 to 8"]),
        ({"rate": 0.2}, 9.0, []),  # other options: nothing to compare with
        ({"total_steps": 30}, 9.0, []),
        ({"data_dir": Path("elsewhere")}, 9.0, []),
    ],
)
def test_a_run_says_whether_it_is_inside(changes, loss, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    known = {"steps": [10], "seeds": [0, 1, 2], "options": reference.options_of(CFG)}
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / reference.FILE).write_text(json.dumps({**known, "curves": reference.collect(RUNS, (10,))}))
    train(dataclasses.replace(CFG, run_dir=tmp_path / "run", **changes), loss)
    assert [line for line in capsys.readouterr().out.splitlines() if "band" in line] == told
