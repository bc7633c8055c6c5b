"""Every paper's band of losses: measured with the options that its preset has now, and one short run is held to it."""

import importlib
import json
from pathlib import Path

import pytest

from common.training import reference
from tools import seeds

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob(f"*/{reference.FILE}"))
OTHER_SEED = 11  # none of those of the band
# A learning rate with which a run must leave the band. DeepFill v2 starts from colours that reach into the hole, and so
# slowly that fifty steps of no learning at all look alike: its band tells damage alone.
WRONG = {"deepfill": "1"}


def read(paper):
    return json.loads((ROOT / paper / reference.FILE).read_text())


def test_the_papers_have_bands():
    listed = {path.parent.name for path in ROOT.glob("*/infer.py")}
    assert set(PAPERS) == listed


@pytest.mark.parametrize("paper", PAPERS)
def test_a_band_is_of_the_preset_as_it_is(paper):
    """Who changes a preset measures its band anew: python -m tools.seeds PAPER quick."""
    known = read(paper)
    cfg = importlib.import_module(f"{paper}.config").read_train([known["preset"]], "")
    assert known["options"] == reference.options_of(cfg)
    assert len(known["seeds"]) >= 3 and known["curves"]
    for name, curve in known["curves"].items():
        assert set(curve) <= set(map(str, known["steps"])), name


@pytest.mark.parametrize("paper", PAPERS)
def test_the_pages_show_the_band(paper):
    known = read(paper)
    for page in seeds.WORDS:
        text = (ROOT / page.format(paper=paper)).read_text(encoding="utf-8")
        assert seeds.table(known, page) in text, f"{page}: python -m tools.seeds {paper} {known['preset']}"


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_a_short_run_lies_inside_and_one_that_does_not_learn_or_diverges_outside(paper, tmp_path):
    known = read(paper)
    last = known["steps"][-1]

    def strays(name, *flags):
        run = tmp_path / name
        losses = seeds.train_until(paper, known["preset"], last, run, "--seed", str(OTHER_SEED), *flags)
        return [text for step in known["steps"] for text in reference.outside(known["curves"], step, losses[step])]

    assert strays("learns") == []
    assert strays("goes_wrong", "--learning-rate", WRONG.get(paper, "0"))
