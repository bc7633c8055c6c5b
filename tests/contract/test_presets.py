"""Every preset of every paper starts, saves and goes on, by its command line and with its own settings.

Changed are `--batch-size`, `--max-minutes`, which ends a session after its first step, and, where one step of the full
size takes half a minute on one core, the sides of the images; never the steps. Names no preset: a new one is found.
"""

import importlib
import re
import shutil
from pathlib import Path

import pytest

from common.checkpoint.weights import read_weights
from common.runtime import device

ROOT = Path(__file__).parents[2]
MODULES = {path.parent.name: importlib.import_module(f"{path.parent.name}.train") for path in ROOT.glob("*/infer.py")}
CONFIGS = {paper: importlib.import_module(f"{paper}.config") for paper in MODULES}
ALL = [(paper, preset) for paper in sorted(MODULES) for preset in CONFIGS[paper].PRESETS]


def first_of_its_kind(paper: str, preset: str) -> bool:
    """Whether no earlier preset of the paper begins with the same word: quick, cpu, article, paper."""
    return preset == next(name for name in CONFIGS[paper].PRESETS if name.split("-")[0] == preset.split("-")[0])


def same_as(paper: str, preset: str) -> str:
    """The first preset that has all settings of this one."""
    presets = CONFIGS[paper].PRESETS
    return next(name for name, (_, config) in presets.items() if config == presets[preset][1])


GLCIC, DEEPFILL = ["--image-px", "64", "--local-px", "32", "--mask-px", "12", "24"], ["--image-px", "64"]
SMALLER = {
    ("deepfill", "article"): DEEPFILL,
    ("deepfill", "paper"): DEEPFILL,
    ("glcic", "article"): GLCIC,
    ("glcic", "paper"): GLCIC,
    ("pix2pix", "article"): ["--image-px", "64"],  # the U-Nets of its paper presets need all of their 256
}


class Reached(Exception):  # noqa: N818
    """The command came as far as opening the device."""


@pytest.mark.parametrize(("paper", "preset"), ALL)
def test_a_preset_passes_its_own_checks(paper, preset, tmp_path, monkeypatch):
    """`train PRESET --data-dir DIR`, nothing else: what the command refuses before it computes is found in no time."""

    def reach(*_):
        raise Reached

    monkeypatch.setattr(device, "open_device", reach)
    with pytest.raises(Reached):
        MODULES[paper].main([preset, "--data-dir", str(tmp_path)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """For each paper the smallest set of its kind, drawn by its own `draw_images`."""
    folder = tmp_path_factory.mktemp("data")
    return {paper: module.draw_images(folder / paper, count=3) for paper, module in MODULES.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("paper", "preset"), [each for each in ALL if each[1] == same_as(*each)])
def test_a_preset_starts_saves_and_goes_on(paper, preset, data, tmp_path, capsys):
    """The same command twice, each a step and all that follows it; the length of the run is the preset's own.

    Presets of one kind go on alike, so that of each kind the first does.
    """
    words = [preset, "--data-dir", str(data[paper]), "--run-dir", str(tmp_path), "--device", "cpu"]
    words += ["--batch-size", "1", "--max-minutes", "0.0001"]
    words += SMALLER.get((paper, preset.partition("-")[0]), [])
    config = CONFIGS[paper].PRESETS[preset][1]
    for step in (1, 2) if first_of_its_kind(paper, preset) else (1,):
        assert read_weights(MODULES[paper].main(words))[1]["step"] == step
        said = capsys.readouterr().out
        assert ("resumed from" in said) == (step == 2)
        images = int(re.search(r"^(\d+) training (?:images|pairs)", said, re.MULTILINE)[1])
        total = config.total_steps or config.epochs * images
        assert f"stopped after {step} of {total} steps" in said
    shutil.rmtree(tmp_path)  # up to 2 GB
