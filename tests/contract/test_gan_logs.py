"""What every run with a discriminator writes into stats.jsonl of it."""

import dataclasses
import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

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
    return [record for record in read_stats(settings["run_dir"]) if "discriminator" in record][-1]


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


@pytest.mark.medium
@pytest.mark.parametrize("paper", TRAINED)
def test_every_paper_logs_for_visualdl_and_trains_the_same(paper, tmp_path, monkeypatch):
    """Values of stats.jsonl, previews, histograms whose means are those of D(x) and D(G(z)); weights bit for bit."""
    pytest.importorskip("visualdl")
    from tests.common.training.test_visualdl_log import read_log

    monkeypatch.chdir(tmp_path)
    last_record(paper, tmp_path, run_dir=tmp_path / "plain")
    last_record(paper, tmp_path, visualdl=True, preview_steps=2)
    plain, logged = (load_file(tmp_path / name / "weights.safetensors") for name in ("plain", "run"))
    assert plain.keys() == logged.keys() and all((plain[name] == logged[name]).all() for name in plain)
    log = read_log(tmp_path / "run")
    told = {}
    for record in read_stats(tmp_path / "run"):
        told |= {(name, record["step"]): value for name, value in record.items() if name not in ("step", "time")}
    scalars = {name: entries for (kind, name), entries in log.items() if kind == "scalar"}
    assert {(name, step): entry.value for name, entries in scalars.items() for step, entry in entries.items()} == (
        pytest.approx(told, rel=1e-6)
    )
    previews = {int(path.stem[5:]) for path in (tmp_path / "run/previews").iterdir()}
    assert log["image", "preview"].keys() == previews and len(previews) >= 2
    histograms = [name for kind, name in log if kind == "histogram"]
    assert len(histograms) == 2 and {name.split("_")[0] for name in histograms} == {"real", "fake"}
    for name in histograms:
        for step, entry in log["histogram", name].items():
            edges, counts = np.array(entry.histogram.bin_edges), np.array(entry.histogram.hist)
            mean = ((edges[1:] + edges[:-1]) / 2 * counts).sum() / counts.sum()
            width = edges[1] - edges[0]
            assert abs(mean - told[name.removesuffix("_histogram"), step]) <= width / 2 + 1e-6
