"""What `pip` would install for the extras, without installing it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="paddlepaddle-gpu 2.6.2 is built for Python 3.12 at most")
@pytest.mark.skipif(sys.platform != "linux", reason="the wheels of other systems differ")
def test_the_gpu_extra_resolves_to_packages_that_fit_together(tmp_path):
    """Paddle 2.6.2 was built against numpy 1 without saying so, and OpenCV 4.12 wants numpy 2."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", str(tmp_path / "report.json"), f"{ROOT}[gpu]"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index is too slow")
    if done.returncode and "ResolutionImpossible" not in done.stderr:
        pytest.skip("the package index does not answer")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    assert "paddlepaddle-gpu" in found and "paddlepaddle" not in found
    if found["paddlepaddle-gpu"].startswith("2."):
        assert found["numpy"].startswith("1.") and found["opencv-python-headless"].startswith("4.11")
