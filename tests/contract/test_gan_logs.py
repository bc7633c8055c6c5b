"""What every run with a discriminator writes into stats.jsonl of it."""

import dataclasses
import importlib
import math
from pathlib import Path

import pytest

from common.training.stats import read_stats

ROOT = Path(__file__).parents[2]
TRAINED = {
    path.parent.name: importlib.import_module(f"{path.parent.name}.train") for path in sorted(ROOT.glob("*/infer.py"))
}
GANS = [paper for paper, train in TRAINED.items() if hasattr(train, "gan_log")]
NO_PROBABILITY = {"deepfill": {}, "pix2pix": {"gan_mode": "lsgan"}}


def last_record(paper, folder, **changes):
    train, tiny = TRAINED[paper], importlib.import_module(f"{paper}.config").TINY
    data_dir = train.draw_images(folder / "data", count=20)
    settings = {"data_dir": data_dir, "run_dir": folder / "run", "device": "cpu", **changes}
    train.train(dataclasses.replace(tiny, **settings))
    return [record for record in read_stats(folder / "run") if "discriminator" in record][-1]


def test_every_paper_with_a_discriminator_is_meant():
    assert set(GANS) == {paper for paper in TRAINED if (ROOT / paper / "losses.py").read_text().count("discriminator")}


@pytest.mark.medium
@pytest.mark.parametrize("paper", [paper for paper in GANS if paper != "deepfill"])
def test_probabilities_and_both_losses_are_logged(paper, tmp_path):
    """The mean of -log p is at least -log of the mean of p (Jensen), for D's cross entropies."""
    record = last_record(paper, tmp_path)
    real, fake = record["discriminator_real"], record["discriminator_fake"]
    assert record["discriminator"] == pytest.approx(real + fake, rel=1e-5)
    for loss, probability in ((real, record["real_probability"]), (fake, 1 - record["fake_probability"])):
        halved = 2 if paper == "pix2pix" else 1  # D3
        assert 0 < probability < 1 and loss * halved >= -math.log(probability) - 1e-5


@pytest.mark.medium
@pytest.mark.parametrize("paper", NO_PROBABILITY)
def test_outputs_are_called_outputs_where_they_are_no_probabilities(paper, tmp_path):
    """DeepFill: (1 - D(x)) / 2 <= its hinge loss. pix2pix, least squares: (D(x) - 1)^2 / 2 <= its loss (Jensen)."""
    record = last_record(paper, tmp_path, **NO_PROBABILITY[paper])
    assert not any("probability" in name for name in record)
    real, fake = record["real_output"], record["fake_output"]
    least = ((1 - real) / 2, (1 + fake) / 2) if paper == "deepfill" else ((real - 1) ** 2 / 2, fake**2 / 2)
    assert record["discriminator_real"] >= least[0] - 1e-5 and record["discriminator_fake"] >= least[1] - 1e-5
    assert record["discriminator"] == pytest.approx(record["discriminator_real"] + record["discriminator_fake"])
