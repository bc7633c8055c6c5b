"""The committed notebooks, read and not run: CI runs them (see README.md). Names no paper."""

import ast
import base64
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path for path in ROOT.glob("*/*.ipynb") if path.stem == path.parent.name)
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
OURS = {"common", "data", *PAPERS}
MOST_BYTES = 400_000
IMAGES = ("image/png", "image/jpeg")
# What betrays the machine that a notebook was run on, or a package index.
PRIVATE = re.compile(r"(?<![\w.~])/(?:work|tmp|root|home|opt|usr|mnt|var|Users)/|[A-Z]:\\\\|https?://(?!www\.paddle)")
NOISE = ("Traceback", "Warning", "WARNING", "\x1b[", "ccache", "Deprecat")
SECTIONS = ("Environment", "Data", "Loss", "Evaluation", "Your Own Image", "What the Article Got Wrong", "Exercises")

books = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text())


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def text(value):
    return value if isinstance(value, str) else "".join(value)


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def output_texts(path):
    """All that an output says in words: streams, and every representation that is no image."""
    for output in outputs(path):
        if output["output_type"] == "stream":
            yield text(output["text"])
        for kind, value in output.get("data", {}).items():
            if kind not in IMAGES:
                yield value if isinstance(value, dict) else text(value)


def test_every_paper_has_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == PAPERS


@books
def test_it_is_a_notebook_of_version_4_5_with_names_for_its_cells(path):
    book = read(path)
    assert (book["nbformat"], book["nbformat_minor"]) >= (4, 5)
    names = [cell["id"] for cell in book["cells"]]
    assert len(set(names)) == len(names)
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    nbformat = pytest.importorskip("nbformat")  # comes with nbmake
    nbformat.validate(nbformat.read(path, as_version=4))


@books
def test_headings_are_english_and_the_text_is_chinese(path):
    prose = [text(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    headings = [line for part in prose for line in re.sub(r"```.*?```", "", part, flags=re.S).splitlines()]
    headings = [line for line in headings if line.startswith("#")]
    assert headings and headings[0].startswith("# ") and all(line.isascii() for line in headings)
    for section in SECTIONS:
        assert any(section in line for line in headings), section
    assert len(re.findall(r"[\u4e00-\u9fff]", "".join(prose))) > 1500


@books
def test_it_is_small_and_says_nothing_of_the_machine(path):
    assert path.stat().st_size < MOST_BYTES
    sources = [text(cell["source"]) for cell in read(path)["cells"]]
    for part in [*sources, *map(str, output_texts(path))]:
        found = PRIVATE.search(part)
        assert not found, part[max(0, found.start() - 60) : found.end() + 60]


@books
def test_it_was_run_from_top_to_bottom_without_errors_or_noise(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    for part in map(str, output_texts(path)):
        assert not any(noise in part for noise in NOISE), part[:300]
        assert part.count("\n") < 250 and part.count("%|") <= 2, part[:300]  # a progress bar is one line


@books
def test_pictures_are_there_and_not_of_one_colour(path):
    images = [
        Image.open(io.BytesIO(base64.b64decode(text(value)))).convert("RGB")
        for output in outputs(path)
        for kind, value in output.get("data", {}).items()
        if kind in IMAGES
    ]
    assert len(images) >= 6
    for image in images:
        assert max(image.size) <= 1200
        assert any(high - low > 60 for low, high in image.getextrema())


@books
def test_every_code_cell_parses_and_names_of_the_suite_exist(path):
    for cell in code_cells(path):
        source = text(cell["source"])
        for node in ast.walk(ast.parse(source)):  # so a magic command stands in a comment
            if isinstance(node, ast.Import):
                for name in [alias.name for alias in node.names]:
                    if name.split(".")[0] in OURS:
                        importlib.import_module(name)
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
                assert node.module.split(".")[0] in {"common", "data", path.stem}, "another paper's code"
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@books
def test_the_first_cell_finds_the_suite_and_does_nothing_slow_where_all_is_installed(path, tmp_path):
    """Started in the paper's folder, and, as on AI Studio, two folders above the suite; without Paddle or output."""
    cell = text(code_cells(path)[0]["source"])
    told = "\nassert not {'paddle', 'pip', 'cv2'} & set(sys.modules); print(Path.cwd(), sys.path[0])"
    (tmp_path / "home/files").mkdir(parents=True)
    (tmp_path / "home/files/suite").symlink_to(ROOT)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for folder in (path.parent, tmp_path / "home"):
        command = [sys.executable, "-c", cell + told]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        where, first = done.stdout.split() or [done.stderr, ""]
        assert Path(where).resolve() == Path(first).resolve() == ROOT


@books
def test_code_that_it_shows_is_the_code_that_runs(path):
    """Every listing in the outputs stands, line for line, in the file that it names."""
    shown = [part for part in output_texts(path) if isinstance(part, str) and "```python\n" in part]
    assert len(shown) >= 8
    for part in shown:
        name = re.match(r"`([\w/]+\.py)`", part)[1]
        listing = part.split("```python\n")[1].removesuffix("```")
        assert listing in (ROOT / name).read_text(), f"{name} has changed since {path.name} was run"


@books
def test_settings_and_numbers_that_the_text_names_are_those_of_the_code(path):
    """`name=value` of a setting in the text is a field of Config; D-numbers are the README's."""
    paper = path.stem
    prose = "\n".join(text(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    readme = (path.parent / "README.md").read_text()
    for number in re.findall(r"\bD\d+\b", prose):
        assert re.search(rf"^\| {number} \|", readme, re.M), number
    presets = importlib.import_module(f"{paper}.config").PRESETS
    for command, preset in re.findall(r"python -m (\S+)\.train (\S+)", prose):
        assert command == paper and preset in presets
    for cell in code_cells(path):
        for call in ast.walk(ast.parse(text(cell["source"]))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "exercise":
                fields = {word.arg for word in call.keywords} - {None, "go", "masks"}
                assert fields <= set(presets["quick"][1].__dataclass_fields__)
