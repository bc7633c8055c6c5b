"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import json
import re
import shlex

import numpy as np
import pytest

from common.imaging.io import read_image, write_image
from context_encoder import evaluate, export, features, infer
from context_encoder import train as ce_train
from context_encoder.config import TINY
from tests.helpers import assert_completes_the_same_compiled, fails, photo

pytestmark = pytest.mark.medium

SMALL = ["--image-px", "32", "--overlap-px", "2", "--base-channels", "8", "--bottleneck", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return ce_train.train(cfg)


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return ce_train.train(dataclasses.replace(cfg, predicted_region="whole", mask="regions", overlap_px=0))


# ---- train


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "96"], "--image-px 96 is no power of two"),
        (["--image-px", "0"], "--image-px 0 is no power of two"),
        (["--overlap-px", "32"], "--overlap-px 32 leaves no hole; choose 0 to 31"),
        (["--overlap-px", "-1"], "--overlap-px -1"),
        (["--mask", "blocks"], "--mask blocks needs --predicted-region whole"),
        (["--predicted-region", "whole", "--conditional"], "--conditional is for the centre"),
        (["--load-px", "100"], "--load-px 100 is less than --image-px 128"),
        (["--reconstruction-weight", "1.5"], "--reconstruction-weight 1.5"),
        (["--shapes-dir", "somewhere"], "--shapes-dir is for --mask regions, not center"),
        (["--predicted-region", "whole", "--mask", "regions", "--shapes-dir", "no/voc"], "no/voc is no folder"),
        (["--init-discriminator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--pairs"], "178 x 218"),
        (["--bottleneck", "0"], "--bottleneck 0"),
        (["--noise-channels", "-1"], "--noise-channels -1"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    small = [] if {"--overlap-px", "--load-px"} & set(flags) else SMALL  # these two are told for the preset's own size
    arguments = ["quick", *small, "--data-dir", faces, "--run-dir", tmp_path / "run", "--total-steps", "2", *flags]
    assert told in fails(capsys, ce_train.main, *arguments)
    assert not (tmp_path / "run").exists()


def test_a_voc_folder_without_class_maps(capsys, faces, weights, whole, tmp_path):
    """The images alone, as JPEG; and a PNG among the class maps that is none."""
    write_image(tmp_path / "voc/JPEGImages/1.jpg", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "voc/SegmentationClass").mkdir()
    flags = ["--data-dir", faces, "--shapes-dir", tmp_path / "voc"]
    train = ["quick", *SMALL, "--predicted-region", "whole", "--mask", "regions", "--run-dir", tmp_path / "run", *flags]
    score = ["--weights", whole, *flags]
    for main, arguments in ((ce_train.main, train), (evaluate.main, score)):
        line = fails(capsys, main, *arguments)
        assert "SegmentationClass/*.png" in line and "data.prepare voc" in line and str(tmp_path / "voc") in line
    write_image(tmp_path / "voc/SegmentationClass/2.png", np.full((40, 40, 3), 90, np.uint8))
    for main, arguments in ((ce_train.main, train), (evaluate.main, score)):
        line = fails(capsys, main, *arguments)
        assert "2.png is no class map" in line
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_do_not_fit(capsys, faces, weights, whole, tmp_path):
    start = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run"]
    assert "--predicted-region whole" in fails(capsys, ce_train.main, *start, "--init-generator", whole)
    line = fails(capsys, ce_train.main, *start, "--init-discriminator", whole)
    assert "side_px 32, the settings ask 16" in line
    line = fails(capsys, ce_train.main, *start, "--conditional", "--init-discriminator", weights)
    assert "context_px 0, the settings ask 32" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [[], ["--predicted-region", "whole", "--mask", "noise"]])
def test_quick_with_batches_of_one_to_the_command_that_it_prints(capsys, faces, tmp_path, monkeypatch, flags):
    """Three steps, the table, and then exactly the last line's command."""
    monkeypatch.chdir(tmp_path)
    arguments = ["quick", *SMALL, "--batch-size", "1", "--total-steps", "3", "--data-dir", str(faces), *flags]
    path = ce_train.main([*arguments, "--run-dir", "run"])
    told = capsys.readouterr().out
    assert path.exists() and "hole_psnr_db" in told and "18.58 dB" in told
    losses = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert losses and all(np.isfinite(value) for row in losses for value in row.values() if isinstance(value, float))
    gain = float(re.search(r"above the mean colour: ([+-]\d+\.\d+) dB", told)[1])
    rows = json.loads((tmp_path / "run/scores.json").read_text())["rows"]
    assert gain == pytest.approx(rows["ours"]["hole_psnr_db"][0] - rows["mean colour"]["hole_psnr_db"][0], abs=0.0051)
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "context_encoder.infer"]
    infer.main(words[3:])
    original = read_image(words[words.index("--input") + 1])
    completed = read_image(tmp_path / "completed.png")
    mask = np.zeros(original.shape[:2], bool)  # half of each side of 218 x 178
    mask[54:163, 44:133] = True
    assert (completed[~mask] == original[~mask]).all() and (completed[mask] != original[mask]).any(-1).mean() > 0.9


# ---- infer


def complete(weights, folder, mask, *flags, output="out.png"):
    infer.main(
        [*("--weights", str(weights), "--input", str(folder / "in.png"), "--output", str(folder / output)),
         *("--mask", str(mask), "--device", "cpu", *flags)]
    )  # fmt: skip
    return read_image(folder / output)


# ---- evaluate


def test_every_kind_of_network_goes_all_the_way(faces, tmp_path):
    """A network with noise and one with a conditional discriminator: trained, scored, featured, exported."""
    for changes in ({"noise_channels": 3}, {"conditional": True, "conv_bias": True, "bottleneck_relu": True}):
        folder = tmp_path / next(iter(changes))
        cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=folder / "run", device="cpu", total_steps=2, **changes)
        weights = ce_train.train(cfg)
        photo(folder, 64, 64)
        assert complete(weights, folder, "random").shape == (64, 64, 3)
        evaluate.main(["--weights", str(weights), "--data-dir", str(faces), "--output", str(folder / "scores")])
        assert (folder / "scores/scores.json").exists()
        images = str(faces / "img_align_celeba")
        features.main(["--weights", str(weights), "--input", images, "--output", str(folder / "f.npz")])
        with np.load(folder / "f.npz") as found:
            assert found["features"].shape == (60, 16)
        export.main(["--weights", str(weights), "--output", str(folder / "exported"), "--device", "cpu"])
        assert list((folder / "exported").glob("generator.pdiparams"))


# ---- compiled


def test_compiled_it_completes_the_same(weights, faces, tmp_path, capsys, eager_for_a_moment):
    scored = ("plain", "compiled", "exported")
    assert_completes_the_same_compiled(
        "context_encoder", "generator", weights, faces, tmp_path, capsys, eager_for_a_moment, scored
    )
