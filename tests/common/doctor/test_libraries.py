"""What a notebook's first cell installs: missing packages, by the real pip, from a wheel made here."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.doctor import libraries
from common.errors import UserError

ROOT = Path(__file__).parents[3]


def test_what_is_required_is_what_setup_asks_for():
    (call,) = [
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    ]
    (asked,) = [ast.literal_eval(word.value) for word in call.keywords if word.arg == "install_requires"]
    assert list(libraries.REQUIRED.values()) and sorted(libraries.REQUIRED.values()) == sorted(asked)


def test_nothing_is_done_where_nothing_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(libraries, "run_python", lambda *_, **__: pytest.fail("pip was started"))
    assert libraries.install_missing(tmp_path / "external-libraries") == []
    assert capsys.readouterr().out == "" and not (tmp_path / "external-libraries").exists()


def wheel(folder, name, text, requires=()):
    """A wheel of one module, made by hand."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        + "".join(f"Requires-Dist: {each}\n" for each in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """pip sees the wheels of a folder alone; sys.path and the modules are put back."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "wheels")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(libraries.importlib.metadata, "version", no_numpy)
    yield tmp_path / "wheels"
    for name in ("needed_here", "needed_too"):
        sys.modules.pop(name, None)


def no_numpy(_):
    raise libraries.importlib.metadata.PackageNotFoundError


@pytest.mark.medium
def test_what_is_missing_is_installed_behind_what_is_there(offline, tmp_path, capsys):
    """With what it needs itself; a module that the environment has is not overridden by the folder's."""
    wheel(offline, "needed_here", "import needed_too; value = needed_too.value", requires=["needed_too"])
    wheel(offline, "needed_too", "value = 'the folder'")
    folder, required = tmp_path / "external-libraries", {"numpy": "numpy", "needed_here": "needed_here>=1"}
    assert libraries.install_missing(folder, required) == ["needed_here>=1"]
    assert capsys.readouterr().out == "installing needed_here>=1 into external-libraries/\n"
    assert sys.path[-1] == str(folder) and (folder / "needed_here.py").is_file()
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment/needed_too.py").write_text("value = 'the environment'")
    sys.path.insert(0, str(tmp_path / "environment"))
    import needed_here

    assert needed_here.value == "the environment"
    assert libraries.install_missing(folder, required) == []  # the second time there is nothing to do


@pytest.mark.medium
def test_what_pip_cannot_install_is_told_in_one_line(offline, tmp_path):
    offline.mkdir()
    with pytest.raises(UserError, match=r"pip cannot install needed_here>=1 \(ERROR: .*needed_here") as problem:
        libraries.install_missing(tmp_path / "external-libraries", {"needed_here": "needed_here>=1"})
    assert "\n" not in str(problem.value)


def test_every_command_finds_what_was_installed_and_prefers_the_environment(tmp_path):
    """Of the folder beside common/, which is put last. Two modules are there; one is in the environment too."""
    (tmp_path / "common").mkdir()
    shutil.copy(ROOT / "common/__init__.py", tmp_path / "common")
    (tmp_path / "external-libraries").mkdir()
    (tmp_path / "external-libraries/needed_here.py").write_text("")
    (tmp_path / "external-libraries/json.py").write_text("raise ImportError")
    script = "import common, sys, needed_here, json; print(needed_here.__file__, sys.path[-1])"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    external = tmp_path / "external-libraries"
    assert done.stdout.split() == [str(external / "needed_here.py"), str(external)], done.stderr
