"""Devices are checked before Paddle is asked for them; threads are set before Paddle is imported."""

import os
import pwd
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.runtime import device, device_faults, environment, memory, paddle_build

import paddle

ROOT = Path(__file__).parents[3]


def test_cpu_place():
    assert isinstance(device.open_device("cpu"), paddle.CPUPlace)
    assert "CPU" in device.describe(paddle.CPUPlace())


@pytest.mark.parametrize("name", ["tpu", "gpu:x", "cpu:1", "auto:0", ""])
def test_unknown_devices(name):
    with pytest.raises(UserError, match="use auto, cpu, gpu or gpu:N"):
        device.open_device(name)


@pytest.mark.skipif(device.count_gpus() > 0, reason="there is a usable GPU")
def test_no_card_is_a_clear_error_and_auto_falls_to_cpu():
    with pytest.raises(UserError, match="--device gpu"):
        device.open_device("gpu")
    assert isinstance(device.open_device("auto"), paddle.CPUPlace)


def test_a_cuda_build_without_a_card(monkeypatch):
    """The build says CUDA, the driver does not answer: paddle.set_device would kill the process."""
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    assert "(no GPU answers)" in device.describe(paddle.CPUPlace())
    monkeypatch.setattr(paddle, "set_device", lambda name: name == "cpu" or pytest.fail(name))
    with pytest.raises(UserError, match=r"finds 0 usable GPU"):
        device.open_device("gpu:1")
    assert isinstance(device.open_device("auto"), paddle.CPUPlace)


@pytest.fixture
def two_gpus(monkeypatch):
    """Makes this Paddle say that it is built for CUDA and finds two GPUs, which compute on the CPU; what is opened."""
    opened = []
    gpu = namedtuple("Properties", "name major minor")("Tesla T4", 7, 5)
    place = type("CUDAPlace", (int,), {"get_device_id": int.__int__})
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle.device.cuda, "get_device_properties", lambda number: gpu)
    monkeypatch.setattr(paddle, "set_device", opened.append)
    monkeypatch.setattr(paddle, "CUDAPlace", place)
    yield opened
    monkeypatch.undo()
    device.open_device("cpu")


def test_a_gpu_that_answers_is_taken(two_gpus):
    assert device.name_of(device.open_device("auto")) == "gpu:0"
    place = device.open_device("gpu:1")
    assert device.name_of(place) == "gpu:1" and two_gpus == ["gpu:0", "gpu:1"]
    assert device.describe(place) == f"Tesla T4 (gpu:1, compute capability 7.5), paddlepaddle {paddle.__version__}"
    with pytest.raises(UserError, match=r"finds 2 usable GPU"):
        device.open_device("gpu:2")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("zeros", "computes wrongly: a product is wrong by 37 and a convolution is wrong by 50; this wheel of Paddle"),
        ("no kernel image is available for execution on the device", "this wheel of PaddlePaddle"),
        ("CUDA error(2), out of memory.", "nvidia-smi"),
        ("CUDA error(999), unknown error.", "look at its driver"),
    ],
)
def test_a_gpu_that_computes_wrongly_is_not_taken(two_gpus, monkeypatch, fault, told):
    """Named with its capability, the wheel and where to get the right one, before anything is trained."""

    def product(x, y):
        if fault == "zeros":
            return paddle.zeros_like(x)
        raise OSError(f"(External) {fault} (at /paddle/file.cc:1)")

    monkeypatch.setattr(paddle, "matmul", product)
    if fault == "zeros":
        monkeypatch.setattr(paddle.nn.functional, "conv2d", lambda x, kernel: paddle.zeros([1, 1, 6, 6]))
    with pytest.raises(UserError, match="Tesla T4 .gpu:0, compute capability 7.5., paddlepaddle .* comput") as caught:
        device.open_device("gpu")
    text = str(caught.value)
    assert told in text and "\n" not in text
    assert ("built for CUDA" in text and "README.md, GPU" in text) == ("wheel" in told)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("(External) CUDA error(719), unspecified launch failure. (at /paddle/gpu_info.cc:1)", True),
        ("ExternalError: CUDNN error(8), CUDNN_STATUS_EXECUTION_FAILED.", True),
        ("ExternalError: CUBLAS error(13).", True),
        ("(External)  CustomDevice error, the error code is : 3.", True),
        ("(External) CUDA error(2), out of memory.", False),
        ("ExternalError: CUDNN error(2), CUDNN_STATUS_ALLOC_FAILED.", False),
        ("[Errno 28] No space left on device", False),
        ("(InvalidArgument) The input of conv2d has 3 channels", False),
    ],
)
def test_a_lost_gpu_is_told_from_other_errors(text, lost):
    assert device_faults.is_lost(OSError(text)) == lost
    assert memory.is_out_of_memory(OSError(text)) == ("emory" in text or "ALLOC" in text)


def run_python(code, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )


@pytest.mark.medium
def test_threads_are_set_before_paddle_and_quietly():
    code = "import os, common.runtime.device; print(os.environ['OMP_NUM_THREADS'])"
    done = run_python(code)
    assert done.stdout.split() == [str(environment.cpu_count())] and done.stderr == ""
    assert run_python(code, OMP_NUM_THREADS="1").stdout.split() == ["1"]


def test_paddle_missing_says_what_to_install():
    code = """
import importlib.metadata, sys
class NoPaddle:
    def find_spec(name, *_):
        if name == "paddle": raise ModuleNotFoundError("No module named 'paddle'", name=name)
sys.meta_path.insert(0, NoPaddle)
importlib.metadata.distributions = lambda: []
import common.runtime.device
"""
    done = run_python(code)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == (
        'ImportError: PaddlePaddle is not installed: pip install -e ".[cpu]", or for a GPU see README.md, GPU'
    )


def test_paddle_that_does_not_import_tells_its_own_cause(tmp_path):
    """The cause in the last line, and what Paddle wrote about it above."""
    cause = "libcublas.so.12: cannot open shared object file: No such file or directory"
    (tmp_path / "paddle.py").write_text(
        f"import sys; sys.stderr.write('Can not import paddle core\\n'); raise ImportError({cause!r})"
    )
    done = run_python("import common.runtime.device", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and cause in last and "LD_LIBRARY_PATH" in last and "not installed" not in last
    assert "Can not import paddle core" in done.stderr.splitlines()


GPU_BUILD = {"paddlepaddle-gpu": "2.6.2"}


@pytest.mark.parametrize(
    ("reason", "builds", "todo"),
    [
        ("ModuleNotFoundError: No module named 'paddle'", {}, 'pip install -e ".[cpu]"'),
        ("ModuleNotFoundError: No module named 'paddle'", GPU_BUILD, "install the same build, paddlepaddle-gpu, anew"),
        ("ModuleNotFoundError: No module named 'paddle.base'", GPU_BUILD, "the same build, paddlepaddle-gpu"),
        ("ModuleNotFoundError: No module named 'setuptools'", GPU_BUILD, "pip install setuptools"),
        ("ModuleNotFoundError: No module named 'google.protobuf'", GPU_BUILD, "pip install protobuf"),
        ("ModuleNotFoundError: No module named 'dual'", {}, "rename it or uninstall it"),  # PyPI's other `paddle`
        ("ImportError: libcudnn.so.8: cannot open shared object file: No such file", GPU_BUILD, "LD_LIBRARY_PATH"),
        ("OSError: libnccl.so.2: cannot open shared object file: No such file", GPU_BUILD, "LD_LIBRARY_PATH"),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such file", GPU_BUILD, "driver"),
        ("ImportError: libgomp.so.1: cannot open shared object file: No such file", GPU_BUILD, "system's package"),
        ("ImportError: numpy.core.multiarray failed to import", GPU_BUILD, 'pip install "numpy<2"'),
        ("AttributeError: module 'paddle' has no attribute 'get_flags'", {}, "rename it or uninstall it"),
        ("TypeError: Descriptors cannot be created directly.", GPU_BUILD, "the same build, paddlepaddle-gpu"),
        ("ImportError: x", {"paddlepaddle": "3.3.1", **GPU_BUILD}, "pip uninstall -y paddlepaddle paddlepaddle-gpu"),
    ],
)
def test_why_paddle_does_not_import(reason, builds, todo):
    """Each cause is told with what helps; what helps a GPU build is never the CPU build."""
    text = paddle_build.why_no_import(reason, builds)
    assert todo in text and ("[cpu]" in text) == (todo == 'pip install -e ".[cpu]"')
    assert all(name in text for name in builds)
    assert reason in text or "not installed" in text


@pytest.mark.gpu
def test_a_gpu_is_opened_and_computed_on(gpu):
    place = device.open_device(gpu)
    name = device.name_of(place)
    assert name.partition(":")[0] == device.current_type() == gpu.partition(":")[0] and name in device.describe(place)
    assert str(paddle.ones([1]).place) == str(place) == f"Place({name})"


def test_on_a_gpu_transposes_are_as_paddle_has_them(two_gpus):
    device.open_device("cpu")
    assert not environment.settings()["transposes_are_views"]
    device.open_device("gpu")
    assert environment.settings()["transposes_are_views"]


def test_an_uploaded_array_is_a_copy():
    device.open_device("cpu")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = device.upload(array)
    array[:] = 0
    assert tensor.numpy().tolist() == [[0, 1, 2], [3, 4, 5]] and tensor.dtype == paddle.float32


def test_to_a_card_by_page_locked_memory_and_without_waiting(monkeypatch):
    """Paddle's calls, in a build that has no GPU to ask."""
    asked = []

    class Locked:
        def cuda(self, blocking=True):
            asked.append(blocking)
            return "on the GPU"

    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "page-locked")
    monkeypatch.setattr(paddle, "to_tensor", lambda array, place: asked.append(place) or Locked())
    assert device.upload(np.ones(2)) == "on the GPU" and asked == ["page-locked", False]


@pytest.mark.gpu(real="only CUDA copies while it computes, from page-locked memory")
def test_uploads_behind_long_work_arrive_whole(gpu):
    """While a GPU multiplies matrices 200 arrays are uploaded, and all of their page-locked memory let go."""
    device.open_device(gpu)
    work = paddle.rand([4096, 4096])
    for _ in range(50):
        work = paddle.matmul(work, work) / 4096
    arrived = [device.upload(np.full([256, 1024], n, np.float32)) for n in range(200)]
    for n, tensor in enumerate(arrived):
        assert tensor.place.is_gpu_place() and (tensor.numpy() == n).all()


@pytest.mark.parametrize("home", ["a_file", "missing", None])
def test_paddle_gets_a_home_that_can_be_written_where_there_is_none(monkeypatch, tmp_path, home):
    """Its import, and its tracing of networks, make folders in ~/.cache, and end with a trace where they cannot."""
    (tmp_path / "a_file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError: the user is not listed
    monkeypatch.setenv("HOME", str(tmp_path / home)) if home else monkeypatch.delenv("HOME")
    with device.writable_home():
        inside = Path.home()
        assert inside.is_dir() and os.access(inside, os.W_OK) and tmp_path not in inside.parents
    assert os.environ.get("HOME") == (str(tmp_path / home) if home else None)
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


def test_a_home_that_can_be_written_stays_paddles(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with device.writable_home():
        assert Path.home() == tmp_path
