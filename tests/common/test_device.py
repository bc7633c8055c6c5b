"""Devices are checked before Paddle is asked for them; threads are set before Paddle is imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
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


@pytest.mark.parametrize(
    "how, environment, wanted",
    [
        ({"name": "cpu"}, {}, (True, False, common.mkl_kernels())),
        ({"name": "cpu"}, {"MKL_DEBUG_CPU_TYPE": "4"}, (True, False, "4")),
        ({"name": "cpu", "plain": True}, {}, (False, True, None)),
        ({"name": "cpu", "plain": True}, {"MKL_DEBUG_CPU_TYPE": "4"}, (False, True, "4")),
        ({"name": "cpu", "plain": True}, {"FLAGS_use_stride_kernel": "0"}, (False, False, None)),
    ],
)
def test_what_a_process_computes_by(how, environment, wanted):
    """Memory kept, transposes copied, MKL told its kernels; `plain` leaves all as Paddle and the user have it."""
    code = f"""
from common import device
before = device.settings()
device.open_device(**{how})
transposed = device.paddle.ones([2, 3]).transpose([1, 0])
print(before, device.settings(), transposed.is_contiguous(), sep="; ")
"""
    done = run_python(code, OMP_NUM_THREADS="2", **environment)
    views_before = "FLAGS_use_stride_kernel" not in environment
    kept, views, kernels = wanted
    kept = kept and sys.platform.startswith("linux")
    before, after, contiguous = done.stdout.strip().splitlines()[-1].split("; ")
    named = "{{'threads': 2, 'freed_memory_kept': {}, 'transposes_are_views': {}, 'mkl_debug_cpu_type': {!r}}}"
    assert before == named.format(False, views_before, environment.get("MKL_DEBUG_CPU_TYPE", common.mkl_kernels()))
    assert after == named.format(kept, views, kernels)
    assert contiguous == str(not views)


AVX512 = "avx2 fma avx512f avx512cd avx512bw avx512dq avx512vl"


@pytest.mark.parametrize(
    "vendor, flags, kernels",
    [
        ("GenuineIntel", AVX512, None),
        ("AuthenticAMD", f"sse {AVX512} avx512_vnni", "7"),
        ("AuthenticAMD", "sse avx2 fma", "5"),
        ("HygonGenuine", "avx2 fma avx512f", "5"),
        *(("AuthenticAMD", AVX512.replace(f"avx512{part}", ""), "5") for part in ("f", "cd", "bw", "dq", "vl")),
        ("AuthenticAMD", "sse avx fma", None),  # Piledriver: no AVX2
    ],
)
def test_kernels_of_the_matrix_library(tmp_path, vendor, flags, kernels):
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: X: Y\nflags\t\t: {flags}\n\n"
    (tmp_path / "cpuinfo").write_text(core * 2)
    assert common.mkl_kernels(str(tmp_path / "cpuinfo")) == kernels


def test_kernels_are_left_alone_where_nothing_is_known(tmp_path):
    assert common.mkl_kernels(str(tmp_path / "nothing")) is None
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n\n")
    assert common.mkl_kernels(str(tmp_path / "arm")) is None


def test_on_a_card_transposes_are_as_paddle_has_them(monkeypatch):
    device.open_device("cpu")
    assert not device.settings()["transposes_are_views"]
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paddle, "set_device", lambda name: None)
    monkeypatch.setattr(paddle, "CUDAPlace", lambda number: ("CUDAPlace", number))
    try:
        device.open_device("gpu")
        assert device.settings()["transposes_are_views"]
    finally:
        monkeypatch.undo()
        device.open_device("cpu")


def test_an_uploaded_array_is_a_copy():
    device.open_device("cpu")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = device.upload(array)
    array[:] = 0
    assert tensor.numpy().tolist() == [[0, 1, 2], [3, 4, 5]] and tensor.dtype == paddle.float32


def test_to_a_card_by_page_locked_memory_and_without_waiting(monkeypatch):
    """Paddle's calls, in a build that has no card to ask."""
    asked = []

    class Locked:
        def cuda(self, blocking=True):
            asked.append(blocking)
            return "on the card"

    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "page-locked")
    monkeypatch.setattr(paddle, "to_tensor", lambda array, place: asked.append(place) or Locked())
    assert device.upload(np.ones(2)) == "on the card" and asked == ["page-locked", False]


@pytest.mark.gpu
@pytest.mark.skipif(device.count_cards() == 0, reason="Paddle finds no usable card")
def test_uploads_behind_long_work_arrive_whole():
    """While a card multiplies matrices 200 arrays are uploaded, and all of their page-locked memory let go."""
    device.open_device("gpu")
    try:
        work = paddle.rand([4096, 4096])
        for _ in range(50):
            work = paddle.matmul(work, work) / 4096
        arrived = [device.upload(np.full([256, 1024], n, np.float32)) for n in range(200)]
        for n, tensor in enumerate(arrived):
            assert tensor.place.is_gpu_place() and (tensor.numpy() == n).all()
    finally:
        device.open_device("cpu")
