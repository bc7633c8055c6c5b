"""The contract of a paper's folder. Names no paper: folders are found by their infer.py."""

import ast
import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint import newest_state
from common.device import count_cards, open_device
from common.images import read_image, write_image
from common.runlog import read_stats

ROOT = Path(__file__).parents[1]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
FILES = ["__init__", "config", "model", "losses", "train", "infer", "evaluate", "convert", "export"]
VERBS = ["train", "infer", "evaluate", "convert", "export"]


def test_papers_are_found():
    assert PAPERS


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path):
    """Top-level names of the modules a file imports, and the full dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path):
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("paper", PAPERS)
def test_files_and_entry_points(paper):
    missing = [name for name in FILES if not (ROOT / paper / f"{name}.py").is_file()]
    assert not missing and (ROOT / paper / "README.md").is_file()
    for verb in VERBS:
        assert callable(importlib.import_module(f"{paper}.{verb}").main)
    config = importlib.import_module(f"{paper}.config")
    assert {"quick", "cpu"} <= config.PRESETS.keys()
    assert all(any(name.startswith(kind) for name in config.PRESETS) for kind in ("article", "paper"))
    assert callable(importlib.import_module(f"{paper}.infer").load)
    assert callable(importlib.import_module(f"{paper}.train").train)


@pytest.mark.parametrize("paper", PAPERS)
def test_no_paper_imports_another_and_inference_does_not_import_training(paper):
    for path in sources(paper):
        assert not packages(path) & (set(PAPERS) - {paper}), path
    for name in ("infer", "model", "losses", "config"):
        assert f"{paper}.train" not in set(imported(ROOT / paper / f"{name}.py"))
    assert packages(ROOT / paper / "model.py") <= {"paddle", "typing", "numpy", "math", "collections", paper}


def test_common_and_data_import_no_paper_and_common_names_none():
    for path in sources("common") + sources("data"):
        assert not packages(path) & set(PAPERS), path
    for path in sources("common"):
        assert not packages(path) & {"data", "tests", "torch"}, path
        found = [paper for paper in PAPERS if re.search(rf"\b{paper}\b", path.read_text(), re.IGNORECASE)]
        assert not found, f"{path} names {found}"


def readme_table(paper, heading):
    """Rows of the table below a heading of the folder's README."""
    text = (ROOT / paper / "README.md").read_text()
    match = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"{paper}/README.md has no section {heading}"
    rows = [line.strip("|").split("|") for line in match[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_of_the_map_leads_to_code(paper):
    rows = readme_table(paper, "Map")
    assert len(rows) >= 8
    for row in rows:
        symbols = re.findall(r"`([\w.]+)`", row[-1])
        assert symbols, f"{row} names no symbol"
        for symbol in symbols:
            try:
                find(paper, symbol)
            except ImportError:
                pytest.fail(f"{paper}/README.md, Map: {symbol} leads to no code")


def find(paper, symbol):
    """What a name of the map stands for. Raises ImportError if there is no such thing."""
    module, _, rest = symbol.partition(".")
    thing = importlib.import_module(f"{paper}.{module}" if (ROOT / paper / f"{module}.py").exists() else module)
    for part in rest.split("."):
        if isinstance(thing, type) and dataclasses.is_dataclass(thing) and part in thing.__dataclass_fields__:
            break
        thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(f"{module}.{part}")


@pytest.mark.parametrize("paper", PAPERS)
def test_deviations_in_the_readme_and_in_the_code_are_the_same(paper):
    listed = [row[0] for row in readme_table(paper, "Deviations")]
    assert listed == [f"D{n}" for n in range(1, len(listed) + 1)]
    in_code = {number for path in sources(paper) for number in re.findall(r"\bD\d+\b", path.read_text())}
    assert in_code == set(listed)


@pytest.mark.parametrize("paper", [*PAPERS, "common"])
def test_every_setting_says_where_its_value_comes_from(paper):
    tree = ast.parse((ROOT / paper / "config.py").read_text())
    name = "RunSettings" if paper == "common" else "Config"
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for field, text in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr) and re.search(r"\[.+\]$", text.value.value), ast.unparse(field)


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("verb", VERBS)
def test_help_works(paper, verb, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"{paper}.{verb}").main(["--help"])
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("command", ["-m {}.train", "{}/train.py"])
def test_train_is_a_module_and_a_script_and_starts_quietly(paper, command):
    command = [sys.executable, *command.format(paper).split(), "quick", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--data-dir" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("paper", PAPERS)
def test_train_infer_evaluate_export(paper, tmp_path):
    """The whole way, on drawn pictures of 32 px."""
    tiny = importlib.import_module(f"{paper}.config").TINY
    train = importlib.import_module(f"{paper}.train")
    data = train.draw_pictures(tmp_path / "data", count=60)
    cfg = dataclasses.replace(tiny, data_dir=data, run_dir=tmp_path / "run", device="cpu")
    weights = train.train(cfg)
    image = np.random.default_rng(0).integers(0, 255, (47, 33, 3), dtype=np.uint8)
    write_image(tmp_path / "in.png", image)
    common = ["--weights", str(weights), "--device", "cpu"]
    importlib.import_module(f"{paper}.infer").main(
        [*common, "--input", str(tmp_path / "in.png"), "--output", str(tmp_path / "out.png")]
    )
    assert read_image(tmp_path / "out.png").shape == image.shape
    evaluate = importlib.import_module(f"{paper}.evaluate")
    evaluate.main([*common, "--data-dir", str(data), "--output", str(tmp_path / "scores")])
    assert (tmp_path / "scores/scores.json").exists() and (tmp_path / "scores/pictures.png").exists()
    importlib.import_module(f"{paper}.export").main([*common, "--output", str(tmp_path / "exported")])
    assert list((tmp_path / "exported").glob("*.pdiparams"))


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_static_graphs_learn_the_same(paper, tmp_path):
    """--to-static: weights, statistics and moments after the whole of a tiny run."""
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    data_dir, states = train.draw_pictures(tmp_path / "data", count=20), []
    for static in (False, True):
        folder = tmp_path / f"run{static}"
        how = {"data_dir": data_dir, "run_dir": folder, "device": "cpu", "plain": True, "to_static": static}
        cfg = dataclasses.replace(tiny.TINY, **how)
        train.train(cfg)
        states.append(load_file(newest_state(folder / "checkpoints") / "state.safetensors"))
    plain, static = states
    assert plain.keys() == static.keys()
    for name in plain:
        np.testing.assert_allclose(static[name], plain[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(count_cards() == 0, reason="Paddle finds no usable card")
@pytest.mark.parametrize("paper", PAPERS)
def test_channels_last_learns_the_same(paper, tmp_path):
    """On a card with tensor cores: the losses of a tiny run in float16, to 2 %, and previews of the same size."""
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    data_dir, losses, previews = train.draw_pictures(tmp_path / "data", count=20), [], []
    for last in (False, True):
        folder = tmp_path / f"run{last}"
        how = {"data_dir": data_dir, "run_dir": folder, "device": "gpu", "amp": "float16", "channels_last": last}
        train.train(dataclasses.replace(tiny.TINY, **how))
        losses.append(read_stats(folder)[0])
        previews.append(read_image(folder / "previews/step_0000001.png").astype(int))
    open_device("cpu")
    for name in losses[0].keys() - {"time"}:
        assert losses[1][name] == pytest.approx(losses[0][name], rel=0.02, abs=1e-3), name
    assert np.abs(previews[0] - previews[1]).mean() < 2
