"""Processes that the suite starts run its own code, whatever lies in the folder that the command stands in."""

import json

import pytest

from common.deploy import engine
from common.runtime.child import ROOT, run_python

STRANGERS = ("common/__init__.py", "common/deploy.py", "numpy.py", "onnx.py", "pip.py", "json.py")


@pytest.fixture
def strangers_folder(tmp_path, monkeypatch):
    """The current folder, full of modules that end whoever imports them."""
    for name in STRANGERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('a stranger was imported')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.medium
@pytest.mark.parametrize("inherited", ["", ".", ":"])
def test_nothing_is_imported_from_the_current_folder(strangers_folder, monkeypatch, inherited):
    monkeypatch.setenv("PYTHONPATH", inherited)
    code = "import json, numpy, sys, common.errors; print(json.dumps([common.__file__, json.__file__, numpy.__file__]))"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == str(ROOT / "common/__init__.py")
    assert str(strangers_folder) not in done.stdout
    assert run_python("-m", "pip", "--version").stdout.startswith("pip ")


@pytest.mark.medium
def test_the_check_of_a_compiled_network_is_our_own(strangers_folder):
    """It gets as far as the samples, which are not there."""
    with pytest.raises(RuntimeError, match="compiling failed: FileNotFoundError"):
        engine.check_elsewhere(strangers_folder)
