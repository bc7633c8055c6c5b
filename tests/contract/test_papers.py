"""The contract of a paper's folder. Names no paper: folders are found by their infer.py."""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoint.state import newest_state
from common.imaging.io import read_image, write_image
from common.training.stats import read_stats

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
FILES = ["__init__", "config", "options", "model", "losses", "train", "infer", "evaluate", "convert", "export"]
VERBS = ["train", "infer", "evaluate", "convert", "export"]
# Those that README.md lists have a README in Chinese too; a folder that has just been begun need not.
LISTED = [paper for paper in PAPERS if f"]({paper}/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")]


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


def readme_table(paper, heading, readme="README.md"):
    """Rows of the table below a heading of the folder's README."""
    text = (ROOT / paper / readme).read_text(encoding="utf-8")
    match = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"{paper}/{readme} has no section {heading}"
    return rows_of(match[1])[2:]


def rows_of(text):
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


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


def two_readmes(paper):
    """The text of a paper's README in English, with the page of details behind it, and in Chinese."""
    english, details, chinese = f"{paper}/README.md", f"docs/{paper}.md", f"{paper}/README.zh-CN.md"
    read = [(ROOT / name).read_text(encoding="utf-8") for name in (english, details, chinese)]
    return read[0] + read[1], read[2]


def anchor(heading):
    """The name that a heading has in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("readme", [f"{folder}/README.md" for folder in [*LISTED, "data"]])
def test_a_readme_is_short_and_has_a_table_of_contents(readme):
    """Under 2,000 words (`wc -w`); the contents, above the first heading, list every section in order."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert len(text.split()) < 2000, f"{readme} has {len(text.split())} words: move details to docs/"
    contents = re.findall(r"\[([^\]]+)\]\(#([\w-]+)\)", text.split("\n## ")[0])
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    listed = [place for _, place in contents if place in {anchor(heading) for heading in headings}]
    assert list(dict.fromkeys(listed)) == [anchor(heading) for heading in headings]


@pytest.mark.parametrize("paper", LISTED)
def test_links_between_a_readme_and_its_details_lead_somewhere(paper):
    """Files exist, and a heading stands behind every #name of a page in English."""
    pages = [f"{paper}/README.md", f"{paper}/README.zh-CN.md", f"docs/{paper}.md"]
    assert f"](../docs/{paper}.md" in (ROOT / pages[0]).read_text(encoding="utf-8")
    for page in pages:
        for file, place in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", (ROOT / page).read_text(encoding="utf-8")):
            target = (ROOT / page).parent / file if file else ROOT / page
            assert target.exists(), f"{page} links to {file}"
            if place:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert place in map(anchor, headings), f"{page} links to {file}#{place}"


@pytest.mark.parametrize("paper", LISTED)
def test_the_package_links_to_its_paper(paper):
    """The docstring holds the link of the README's title."""
    title = (ROOT / paper / "README.md").read_text(encoding="utf-8").splitlines()[0]
    (link,) = re.findall(r"\]\((https://(?:arxiv\.org/abs|doi\.org)/[^)]+)\)", title)
    assert link in importlib.import_module(paper).__doc__


def test_zh_readmes_are_linked():
    """From each paper's README and back, and from the tables of the suite's README in Chinese."""
    assert LISTED
    front = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for paper in LISTED:
        english, chinese = (text.split("\n## ")[0] for text in two_readmes(paper))
        assert "](README.zh-CN.md)" in english and "](README.md)" in chinese, paper
        assert f"| [{paper}]({paper}/README.zh-CN.md) |" in front, paper
        assert f"]({paper}/README.md" not in front, f"README.zh-CN.md links to {paper}'s README in English"
        links = [re.search(r"\]\((https://[^)]+)\)", text.splitlines()[0]) for text in (english, chinese)]
        assert all(links) and links[0][1] == links[1][1], f"{paper}: the titles do not link to one paper"


@pytest.mark.parametrize("paper", LISTED)
def test_zh_readme_maps_and_lists_the_same(paper):
    """The code of every row of the map, and of every deviation, in the same order."""
    for english, chinese, cells in (("Map", "对照表", [-1]), ("Deviations", "与论文不同之处", [0, -1])):
        tables = readme_table(paper, english), readme_table(paper, chinese, "README.zh-CN.md")
        ours, theirs = ([[row[cell] for cell in cells] for row in rows] for rows in tables)
        assert theirs == ours


def code(text):
    """Lines of fenced blocks, and what stands between backticks."""
    for n, part in enumerate(text.split("```")):
        yield from part.splitlines() if n % 2 else (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", part))


def numbers(text):
    return re.findall(r"\d+(?:[.,]\d+)*", text)


@pytest.mark.parametrize("paper", LISTED)
def test_zh_readme_has_no_command_and_no_number_of_its_own(paper):
    """What changes in the original, such as a flag or a score, changes in the translation."""
    english, chinese = two_readmes(paper)
    assert f"python -m {paper}.train quick" in code(chinese)
    assert set(code(chinese)) <= set(code(english))
    assert len(numbers(chinese)) > 50 and set(numbers(chinese)) <= set(numbers(english))
    tables = rows_of(english), readme_table(paper, "结果", "README.zh-CN.md")
    english, chinese = ([numbers("|".join(row)) for row in rows] for rows in tables)
    assert len(chinese) > 3 and all(row in english for row in chinese)


@pytest.mark.parametrize("paper", [*PAPERS, "common"])
def test_every_setting_says_where_its_value_comes_from(paper):
    tree = ast.parse((ROOT / paper / "config.py").read_text())
    name = "RunSettings" if paper == "common" else "Config"
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for field, text in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr) and re.search(r"\[.+\]$", text.value.value, re.DOTALL), ast.unparse(field)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_learning_rate_stays_as_it_is_after_its_schedule(paper):
    """Where a run is longer than was planned: neither zero, nor below, nor a jump."""
    train, config = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    for _, cfg in config.PRESETS.values() if hasattr(train, "learning_rate") else ():
        steps = cfg.total_steps or 1000
        rates = []
        for step in (steps - 1, steps, 2 * steps):
            arguments = {"step": step, "total_steps": steps, "cfg": cfg}
            wanted = inspect.signature(train.learning_rate).parameters
            rates.append(train.learning_rate(**{name: arguments[name] for name in wanted}))
        assert rates[0] > 0 and rates == [rates[0]] * 3


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("verb", VERBS)
def test_help_works(paper, verb, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"{paper}.{verb}").main(["--help"])
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out.lower()


def not_installed():
    """The environment of a fresh clone: nothing but a script itself says where the suite lies."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.mark.medium
@pytest.mark.parametrize("paper", PAPERS)
def test_train_is_a_module_and_starts_quietly(paper):
    command = [sys.executable, "-m", f"{paper}.train", "quick", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=not_installed(), capture_output=True, text=True)
    assert done.returncode == 0 and "--data-dir" in done.stdout and done.stderr == ""


# Each verb as `python FILE --help` would start it, one after the other in a process that has Paddle loaded. The empty
# entry of sys.path is this folder too, as a PYTHONPATH with an empty part would have it.
AS_FILES = """
import runpy, sys
from pathlib import Path
folder, path = Path.cwd(), list(sys.path)
for verb in sys.argv[1:]:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder.parent)):
            del sys.modules[name]
    sys.path[:] = [str(folder), *path]
    sys.argv = [str(folder / verb) + ".py", "--help"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 0
    assert str(folder) not in [str(Path(entry).resolve()) for entry in sys.path], verb
    shadows = {file.stem for file in folder.glob("*.py")} & sys.modules.keys()
    assert not shadows - {"__init__"}, shadows
"""


@pytest.mark.medium
@pytest.mark.parametrize("paper", PAPERS)
def test_every_verb_runs_as_a_file(paper):
    """In a clone that is not installed, from inside the paper's folder, whose modules take no library's place."""
    command = [sys.executable, "-c", AS_FILES, *VERBS]
    done = subprocess.run(command, cwd=ROOT / paper, env=not_installed(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert [f"{paper}.{verb}" in done.stdout for verb in VERBS] == [True] * len(VERBS)


def test_every_verb_of_every_paper_begins_alike():
    """The lines that find the repository's root, and those that answer --help before Paddle is imported; in the papers
    and in the template of the sixth."""
    files = [ROOT / paper / f"{verb}.py" for paper in PAPERS for verb in VERBS]
    files += [ROOT / f"tests/sixth_paper/{verb}.py.txt" for verb in VERBS]
    heads = {path: [ast.unparse(node) for node in ast.parse(path.read_text()).body[1:3]] for path in files}
    assert all(head == heads[files[0]] for head in heads.values()) and "__package__" in heads[files[0]][1], heads
    for path in files:
        first = next(node for node in ast.parse(path.read_text()).body[3:] if not isinstance(node, ast.ImportFrom))
        verb = path.name.partition(".")[0]
        wanted = f"answer_first(read_{verb}, __doc__)"
        assert isinstance(first, ast.If) and ast.unparse(first.body[0]).endswith(wanted), path


@pytest.mark.medium
@pytest.mark.parametrize("paper", PAPERS)
def test_train_infer_evaluate_export(paper, tmp_path, curves):
    """The whole way, on drawn images of 32 px."""
    tiny = importlib.import_module(f"{paper}.config").TINY
    train = importlib.import_module(f"{paper}.train")
    data = train.draw_images(tmp_path / "data", count=60)
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
    assert (tmp_path / "scores/scores.json").exists() and (tmp_path / "scores/images.png").exists()
    importlib.import_module(f"{paper}.export").main([*common, "--output", str(tmp_path / "exported")])
    assert list((tmp_path / "exported").glob("*.pdiparams"))


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_static_graphs_learn_the_same(paper, tmp_path):
    """--to-static: weights, statistics and moments after the whole of a tiny run."""
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    data_dir, states = train.draw_images(tmp_path / "data", count=20), []
    for static in (False, True):
        folder = tmp_path / f"run{static}"
        how = {"run_dir": folder, "device": "cpu", "disable_cpu_layers": True, "to_static": static}
        cfg = dataclasses.replace(tiny.TINY, data_dir=data_dir, **how)
        train.train(cfg)
        states.append(load_file(newest_state(folder / "checkpoints") / "state.safetensors"))
    plain, static = states
    assert plain.keys() == static.keys()
    for name in plain:
        np.testing.assert_allclose(static[name], plain[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.gpu(real="a CPU has no float16 convolution, and no channels-last one")
@pytest.mark.parametrize("paper", PAPERS)
def test_channels_last_learns_the_same(paper, tmp_path, gpu):
    """On a GPU with tensor cores: the losses of a tiny run in float16, to 2 %, and previews of the same size."""
    train, tiny = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
    data_dir, losses, previews = train.draw_images(tmp_path / "data", count=20), [], []
    for last in (False, True):
        folder = tmp_path / f"run{last}"
        how = {"data_dir": data_dir, "run_dir": folder, "device": gpu, "amp": "float16", "channels_last": last}
        train.train(dataclasses.replace(tiny.TINY, **how))
        losses.append(read_stats(folder)[0])
        previews.append(read_image(folder / "previews/step_0000001.png").astype(int))
    for name in losses[0].keys() - {"time"}:
        assert losses[1][name] == pytest.approx(losses[0][name], rel=0.02, abs=1e-3), name
    assert np.abs(previews[0] - previews[1]).mean() < 2
