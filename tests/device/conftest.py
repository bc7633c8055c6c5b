"""What the tests on the make-believe GPU share: `SUITE_DEVICE=fake_gpu pytest -m gpu`."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from tests.device import build

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fake_gpu(gpu):
    """The name of the make-believe GPU; skips where the tests marked gpu run on another device."""
    if gpu != build.NAME:
        pytest.skip(f"counts and faults are those of SUITE_DEVICE={build.NAME}")
    return gpu


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """paper -> a folder of its kind of images, drawn once."""
    made = {}

    def draw(paper: str) -> Path:
        if paper not in made:
            module = importlib.import_module(f"{paper}.train")
            made[paper] = module.draw_images(tmp_path_factory.mktemp(paper) / "data", count=20)
        return made[paper]

    return draw


def train_words(paper: str, **changes) -> list[str]:
    """The command line of a run with the settings of the preset TINY, and these changes."""
    config = importlib.import_module(f"{paper}.config")
    cfg = dataclasses.replace(config.TINY, **changes)
    quick = config.PRESETS["quick"][1]
    words = ["quick"]
    for name, value in dataclasses.asdict(cfg).items():
        if value != getattr(quick, name) and name != "preset":
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                words += [flag, *map(str, value if isinstance(value, tuple | list) else [value])]
    return words
