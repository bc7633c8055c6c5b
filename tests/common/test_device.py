"""Devices are checked before Paddle is asked for them; threads are set before Paddle is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import common
from common import device
from common.errors import UserError

import paddle

ROOT = Path(__file__).parents[2]


def test_cpu_place():
    assert isinstance(device.open_device("cpu"), paddle.CPUPlace)
    assert "CPU" in device.describe(paddle.CPUPlace())


@pytest.mark.parametrize("name", ["tpu", "gpu:x", "cpu:1", "auto:0", ""])
def test_unknown_devices(name):
    with pytest.raises(UserError, match="use auto, cpu, gpu or gpu:N"):
        device.open_device(name)


@pytest.mark.skipif(device.count_cards() > 0, reason="there is a usable card")
def test_no_card_is_a_clear_error_and_auto_falls_to_cpu():
    with pytest.raises(UserError, match="--device gpu"):
        device.open_device("gpu")
    assert isinstance(device.open_device("auto"), paddle.CPUPlace)


def test_a_cuda_build_without_a_card(monkeypatch):
    """The build says CUDA, the driver does not answer: paddle.set_device would kill the process."""
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    assert "(no card answers)" in device.describe(paddle.CPUPlace())
    monkeypatch.setattr(paddle, "set_device", lambda name: name == "cpu" or pytest.fail(name))
    with pytest.raises(UserError, match=r"finds 0 usable card"):
        device.open_device("gpu:1")
    assert isinstance(device.open_device("auto"), paddle.CPUPlace)


def test_a_card_that_answers_is_taken(monkeypatch):
    asked = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle, "set_device", asked.append)
    monkeypatch.setattr(paddle, "CUDAPlace", lambda number: ("CUDAPlace", number))
    assert device.open_device("auto") == ("CUDAPlace", 0)
    assert device.open_device("gpu:1") == ("CUDAPlace", 1)
    assert asked == ["gpu:0", "gpu:1"]
    with pytest.raises(UserError, match=r"finds 2 usable card"):
        device.open_device("gpu:2")


def run_python(code, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )


def test_threads_are_set_before_paddle_and_quietly():
    code = "import os, common.device; print(os.environ['OMP_NUM_THREADS'])"
    done = run_python(code)
    assert done.stdout.split() == [str(common.cpu_count())] and done.stderr == ""
    assert run_python(code, OMP_NUM_THREADS="1").stdout.split() == ["1"]


def test_paddle_missing_says_what_to_install():
    code = "import sys; sys.modules['paddle'] = None; import common.device"
    done = run_python(code)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "ImportError: PaddlePaddle is not installed: pip"
    )


@pytest.mark.gpu
def test_a_real_card():
    if device.count_cards() == 0:
        pytest.skip("Paddle finds no usable card")
    assert isinstance(device.open_device("gpu"), paddle.CUDAPlace)
    assert "gpu" in str(paddle.ones([1]).place)
    device.open_device("cpu")
