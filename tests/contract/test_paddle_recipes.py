"""The Python blocks and the command of docs/paddle.md, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
PAGE = (ROOT / "docs/paddle.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)

import paddle  # noqa: E402

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The modules and weights of the repository, and what the page's commands write."""
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "weights", folder / "weights")
    for module in ("hubconf.py", "common", "data", *PAPERS):
        (folder / module).symlink_to(ROOT / module)
    for command in re.findall(r"^python -m .*", PAGE, re.M):
        run([sys.executable, *command.split()[1:]], folder)
    return folder


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_recipes():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_recipe_runs(folder, block):
    if "safetensors=True" in block and paddle.__version__.startswith("2."):
        pytest.skip("paddle.load of Paddle 2 knows no safetensors")
    run([sys.executable, "-W", "ignore", "-c", block], folder)


@pytest.mark.skipif(paddle.__version__.startswith("2."), reason="paddle.load of Paddle 2 knows no safetensors")
@pytest.mark.parametrize("file", sorted((ROOT / "weights").glob("*.safetensors")), ids=lambda file: file.stem)
def test_paddle_opens_bundled_weights_as_we_do(file, tmp_path):
    """In a process in which nothing but Paddle was imported before, as the page says."""
    code = f"""
import paddle
state = paddle.load({str(file)!r}, safetensors=True)
from common.checkpoint.weights import read_weights
tensors, _ = read_weights({str(file)!r})
assert state.keys() == tensors.keys()
assert all((state[name].numpy() == tensors[name]).all() for name in tensors)
"""
    run([sys.executable, "-W", "ignore", "-c", code], tmp_path)
