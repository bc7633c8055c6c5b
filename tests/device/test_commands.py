"""Every paper's verbs on the make-believe GPU, through their command lines: the same numbers as on the CPU."""

import importlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint.state import newest_state
from common.imaging.io import read_image, write_image
from common.training.stats import read_stats
from tests.device import build
from tests.device.conftest import ROOT, train_words

pytestmark = pytest.mark.gpu

PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))


def main_of(paper: str, verb: str):
    return importlib.import_module(f"{paper}.{verb}").main


@pytest.mark.parametrize("paper", PAPERS)
def test_a_run_is_stopped_resumed_scored_and_used(paper, tmp_path, drawn, gpu, capsys):
    """On a make-believe GPU the numbers are the CPU's, and the first of its two devices is not touched."""
    fake = gpu == build.NAME
    device, before = (f"{gpu}:1", build.counts()) if fake else (gpu, None)
    states = {}
    for name, used in (("cpu", "cpu"), ("whole", device), ("resumed", device)):
        words = train_words(paper, data_dir=drawn(paper), run_dir=tmp_path / name, device=used, disable_cpu_layers=True)
        if name == "resumed":
            main_of(paper, "train")([*words, "--max-minutes", "1e-9"])
        main_of(paper, "train")(words)
        states[name] = load_file(newest_state(tmp_path / name / "checkpoints") / "state.safetensors")
    said = capsys.readouterr().out
    assert "resumed from" in said and (f"{device}, paddlepaddle" in said or not fake)
    for name, array in states["whole"].items():
        if fake:
            np.testing.assert_array_equal(states["resumed"][name], array, err_msg=name)
            np.testing.assert_allclose(states["cpu"][name], array, rtol=1e-4, atol=1e-6, err_msg=name)
        assert np.isfinite(array).all(), name
    assert read_stats(tmp_path / "whole")[-1].keys() == read_stats(tmp_path / "cpu")[-1].keys()
    use(paper, device, tmp_path, drawn(paper))
    if fake:
        after = build.counts().since(before)
        assert min(after.uploads, after.downloads, after.operator_copies) > 0 and after.held[0] <= before.held[0]


def use(paper: str, device: str, tmp_path, data_dir) -> None:
    """Completes or translates an image, and scores some, by the CPU and by the device: the same to two levels."""
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    mask = np.zeros_like(image)
    mask[14:24, 16:28] = 255
    write_image(tmp_path / "image.png", image)
    write_image(tmp_path / "mask.png", mask)
    masked = [] if paper == "pix2pix" else ["--mask", str(tmp_path / "mask.png")]
    few = ["--steps", "3", "--restarts", "1"] if paper == "dcgan_completion" else []
    made = []
    for used in ("cpu", device):
        shared = ["--weights", str(tmp_path / "whole/weights.safetensors"), "--device", used, "--disable-cpu-layers"]
        output = tmp_path / f"{used.replace(':', '_')}.png"
        main_of(paper, "infer")(
            [*shared, *few, "--input", str(tmp_path / "image.png"), "--output", str(output), *masked]
        )
        main_of(paper, "evaluate")(
            [*shared, *few, "--data-dir", str(data_dir), "--limit", "4", "--output", str(output.with_suffix(""))]
        )
        assert (output.with_suffix("") / "scores.json").is_file()
        made.append(read_image(output).astype(int))
    random = paper == "pix2pix" and not device.startswith(build.NAME)  # dropout at test time, drawn by each in its way
    assert (made[1] != image).any() and (random or np.abs(made[0] - made[1]).max() <= 2)
    assert paper == "pix2pix" or (made[1] == image)[mask == 0].all()
