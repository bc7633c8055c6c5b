"""A sixth folder, begun as CONTRIBUTING.md says, passes the contract with nothing else touched; a spoilt one does not.

All of it happens in a copy of the repository. Names no paper.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER = min(path.parent.name for path in ROOT.glob("*/infer.py"))
NAME = "my_paper"
LEFT_OUT = re.compile(r"docs/.*\.(png|jpg)|.*\.(safetensors|ipynb)")  # heavy, and no part of the contract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what git tracks (and would track), less figures, weights and notebooks."""
    target = tmp_path_factory.mktemp("copy")
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository, so that nobody knows what belongs to it")
    for name in names:
        if (ROOT / name).is_file() and not LEFT_OUT.fullmatch(name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture
def sixth(copy):
    """The folder, made anew by the command of CONTRIBUTING.md."""
    shutil.rmtree(copy / NAME, ignore_errors=True)
    command = "python tests/sixth_paper/start.py NAME"
    assert command in (ROOT / "CONTRIBUTING.md").read_text()
    done = run(copy, *command.replace("NAME", NAME).split()[1:])
    assert done.returncode == 0, done.stderr
    return copy / NAME


def run(folder, *arguments):
    """Python in the copy, which sees the copy's modules alone."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def contract(copy, *chosen):
    return run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *chosen)


def test_it_passes_the_contract(copy, sixth):
    """Every test of test_papers.py and test_demo.py that is of this folder, and those of no paper."""
    before = {path: path.read_bytes() for path in copy.rglob("*.py")}
    chosen = f"{NAME} or test_papers_are_found or import_no_paper"
    done = contract(copy, "tests/contract/test_papers.py", "tests/contract/test_demo.py", "-k", chosen, "-m", "not gpu")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    # files, imports, map, deviations, settings, learning rate, 5 verbs' help, 2 ways to start, the whole way, static
    # graphs; 2 of no paper; 3 of --demo
    assert "20 passed" in done.stdout and "skipped" not in done.stdout.splitlines()[-1]
    assert before == {path: path.read_bytes() for path in copy.rglob("*.py")}


def leave_out_a_file(folder):
    (folder / "evaluate.py").unlink()


def break_the_map(folder):
    readme = folder / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace("`losses.reconstruction_loss`", "`losses.no_such_loss`", 1))
    assert readme.read_text() != text


def import_another_paper(folder):
    with (folder / "losses.py").open("a") as file:
        file.write(f"\n\nfrom {OTHER} import losses  # noqa\n")


def forget_a_deviation(folder):
    with (folder / "model.py").open("a") as file:
        file.write("\n# D4: not in the README\n")


@pytest.mark.parametrize(
    ("spoil", "test", "told"),
    [
        (leave_out_a_file, "test_files_and_entry_points", "['evaluate']"),
        (break_the_map, "test_every_row_of_the_map_leads_to_code", "no_such_loss"),
        (import_another_paper, "test_no_paper_imports_another_and_inference_does_not_import_training", "losses.py"),
        (forget_a_deviation, "test_deviations_in_the_readme_and_in_the_code_are_the_same", "D4"),
    ],
)
def test_the_contract_names_what_is_wrong(copy, sixth, spoil, test, told):
    spoil(sixth)
    done = contract(copy, f"tests/contract/test_papers.py::{test}[{NAME}]")
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout + done.stderr
    assert told in done.stdout and NAME in done.stdout


CONVERT = f"""
import sys
import numpy as np, paddle
from safetensors.numpy import save_file
from {NAME} import convert, infer
from {NAME}.model import ROWS, CompletionNetwork

paddle.seed(1)
network = CompletionNetwork(8)
network(paddle.randn([2, 3, 16, 16]), paddle.ones([2, 1, 16, 16]))  # moves the running statistics
network.eval()
theirs = {{"last." + name: value.numpy() for name, value in network.to_image.state_dict().items()}}
for n, (name, *_) in enumerate(ROWS):
    block = getattr(network.blocks, name)
    theirs[f"layers.{{n}}.0.weight"] = block.conv.weight.numpy()
    norm = {{"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}}
    theirs |= {{f"layers.{{n}}.1.{{their}}": getattr(block.norm, our).numpy() for their, our in norm.items()}}
    theirs[f"layers.{{n}}.1.num_batches_tracked"] = np.array(1)
save_file(theirs, "theirs.safetensors")
convert.main(["theirs.safetensors", "ours.safetensors", "--image-px", "16"])
image, mask = paddle.randn([1, 3, 24, 16]), paddle.zeros([1, 1, 24, 16])
mask[:, :, 4:9, 5:11] = 1
with paddle.no_grad():
    assert np.array_equal(infer.load("ours.safetensors")(image, mask).numpy(), network(image, mask).numpy())
theirs["layers.9.0.weight"] = np.zeros(1, np.float32)
save_file(theirs, "theirs.safetensors")
convert.main(["theirs.safetensors", "ours.safetensors"])
"""


def test_its_convert_brings_every_tensor_over(copy, sixth):
    """To the same answers, bit for bit; a tensor that belongs nowhere is refused by name."""
    done = run(copy, "-c", CONVERT)
    assert done.returncode == 2 and "layers.9.0.weight" in done.stderr.splitlines()[-1], done.stderr


def test_start_overwrites_nothing(copy, sixth):
    for name in (NAME, "7th"):
        done = run(copy, "tests/sixth_paper/start.py", name)
        assert done.returncode == 1 and repr(name) in done.stderr
