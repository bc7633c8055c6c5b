"""The page without the Gradio that it needs: one line, exit status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("version", "found"), [("4.26.0", "Gradio 4.26.0"), ("5.49.1", "Gradio 5.49.1"), (None, "no Gradio")]
)
def test_another_gradio_is_refused_in_one_line_before_it_is_imported(version, found, tmp_path):
    """Also one that does not import, as 4.26 beside a newer huggingface_hub."""
    if version:
        (tmp_path / f"gradio-{version}.dist-info").mkdir()
        (tmp_path / f"gradio-{version}.dist-info/METADATA").write_text(f"Name: gradio\nVersion: {version}\n")
        (tmp_path / "gradio.py").write_text("from huggingface_hub import HfFolder_that_is_gone\n")
    else:  # hides the one that may be installed
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.metadata as metadata\n"
            "def version(name):\n    raise metadata.PackageNotFoundError(name)\n"
            "metadata.version = version\n"
        )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, ROOT / "main.gradio.py"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f'error: the page needs Gradio 6, and here is {found}: pip install "gradio>=6,<7"\n'
