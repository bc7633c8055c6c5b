"""Where a run computes: picks CPUPlace or CUDAPlace, settles what a process can, and brings arrays to the device."""

import contextlib
import functools
import io
import os
import sys
import tempfile
import warnings
import zlib  # noqa: F401  before Paddle 2.6, whose own copy would otherwise take the place of Python's and crash

import numpy as np

from common.errors import UserError, first_line
from common.runtime import device_faults, environment, peers
from common.runtime.paddle_build import paddle_builds, why_no_import


@contextlib.contextmanager
def writable_home():
    """Gives Paddle, which writes to ~/.cache/paddle when it is imported and when it traces, a home where it can."""
    before, home = os.environ.get("HOME"), os.path.expanduser("~")  # noqa: PTH111  unlike Path's it never raises
    cache = os.path.join(home, ".cache", "paddle")  # noqa: PTH118
    try:
        if os.path.isdir(home) and home != "~":  # noqa: PTH112
            os.makedirs(cache, exist_ok=True)  # noqa: PTH103
        usable = os.access(cache, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["HOME"] = _temporary_home().name
    try:
        yield
    finally:
        os.environ.pop("HOME", None)
        if before is not None:
            os.environ["HOME"] = before


@functools.cache
def _temporary_home() -> tempfile.TemporaryDirectory:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="home-")


_paddle_came_first = environment.set_threads()
_said = io.StringIO()  # it warns about every OMP_NUM_THREADS that is not 1
try:
    with writable_home(), contextlib.redirect_stderr(_said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    paddle.get_flags("FLAGS_use_stride_kernel")  # what is no whole Paddle has no such thing
except Exception as problem:  # a corrupt installation raises whatever it likes
    print(_said.getvalue(), end="", file=sys.stderr)
    reason = f"{type(problem).__name__}: {first_line(problem)}"
    raise ImportError(why_no_import(reason, paddle_builds())) from None


def open_device(name: str = "auto", plain: bool = False):
    """Makes a device the one that Paddle computes on, and connects the processes of a run that has several.

    It also makes the settings of the whole process, see `environment.tune`.

    Args:
        name: `auto` (the first GPU, or other device, that answers, else the CPU), `cpu`, `gpu`, `gpu:N`, or another
            type that Paddle lists (`xpu`, `npu`, `mlu` …), with or without a number. Of several processes each takes
            its own device, and then a number is no choice.
        plain: leave these settings as Paddle has them, if nothing was computed yet.

    Returns:
        Paddle's place.

    Raises:
        UserError: a device was asked for and cannot be used, or computes wrongly. Its number is checked before Paddle
            is asked for it, which would abort the process.
    """
    kind, _, number = name.partition(":")
    others = other_types()
    if kind not in ("auto", "cpu", "gpu", *others) or (number and (kind in ("auto", "cpu") or not number.isdigit())):
        listed = f"; of other types Paddle lists {', '.join(others)}" if others else ""
        raise UserError(f"unknown device {name!r}; use auto, cpu, gpu or gpu:N{listed}")
    if kind == "auto":
        kind = next((each for each in ("gpu", *others) if count_devices(each)), "cpu")
    environment.tune(kind == "cpu", plain)
    if kind == "cpu":
        paddle.set_device("cpu")
        _connect()
        return paddle.CPUPlace()
    place = _set_device(kind, _device_number(name, kind, number))
    device_faults.check_answers(describe(place))
    _connect()
    return place


def _device_number(name: str, kind: str, number: str) -> int:
    """Which device of its type this process takes. Raises UserError if there is none such."""
    if kind == "gpu" and not paddle.is_compiled_with_cuda():
        raise UserError(
            f"--device {name}: this is the CPU build of PaddlePaddle {paddle.__version__}; put paddlepaddle-gpu in "
            "its place (README.md, GPU) or use --device cpu"
        )
    process = paddle.distributed.ParallelEnv()
    if process.world_size > 1:
        if number:
            raise UserError(
                f"--device {name}: each of {process.world_size} processes has a device of its own; use {kind}"
            )
        number = process.device_id
    count = count_devices(kind)
    if int(number or 0) >= count:
        what = "GPU(s)" if kind == "gpu" else f"{kind} device(s)"
        raise UserError(f"--device {name}: Paddle finds {count} usable {what} on this machine; use --device cpu")
    return int(number or 0)


def _set_device(kind: str, number: int):
    try:
        paddle.set_device(f"{kind}:{number}")
    except Exception as problem:  # of a driver or a plugin, in C++
        raise UserError(f"--device {kind}:{number} cannot be opened: {first_line(problem)}") from None
    if kind == "gpu":
        return paddle.CUDAPlace(number)
    if kind == "xpu":
        return paddle.XPUPlace(number)
    return paddle.CustomPlace(kind, number)


def _connect() -> None:
    if paddle.distributed.ParallelEnv().world_size > 1 and not paddle.distributed.is_initialized():
        paddle.distributed.init_parallel_env()
        peers.open_watch()


def other_types() -> list[str]:
    """The types of device, besides CPU and GPU, that this build of Paddle and its plugins list."""
    built = ["xpu"] if paddle.is_compiled_with_xpu() else []
    return [*built, *(each for each in paddle.device.get_all_custom_device_type() if each not in built)]


def count_devices(kind: str) -> int:
    """Usable devices of a type; 0 where the build, the driver or the plugin has none."""
    if kind == "gpu":
        return count_gpus()
    try:
        if kind == "xpu":
            return paddle.device.core.get_xpu_device_count()
        return sum(each.partition(":")[0] == kind for each in paddle.device.get_available_custom_device())
    except Exception:  # as for GPUs
        return 0


def count_gpus() -> int:
    """GPUs that this build of Paddle can use; 0 for a CPU build and where no driver answers."""
    if not paddle.is_compiled_with_cuda():
        return 0
    try:
        return paddle.device.cuda.device_count()
    except Exception:  # a missing or too old driver raises various errors from C++; no GPU answers either way
        return 0


def current_type() -> str:
    """The type of the device that Paddle computes on: `cpu`, `gpu`, `xpu`, or a plugin's."""
    return paddle.get_device().partition(":")[0]


def computes_in(dtype: str) -> bool:
    """Whether the current device computes in `float16` or `bfloat16`."""
    try:
        return getattr(paddle.amp, f"is_{dtype}_supported")()
    except TypeError:  # Paddle 2.6 knows CPUs and GPUs only
        return current_type() != "cpu"


def name_of(place) -> str:
    """A place of Paddle's as --device names it."""
    if isinstance(place, paddle.CPUPlace):
        return "cpu"
    if isinstance(place, paddle.CustomPlace):
        return f"{place.get_device_type()}:{place.get_device_id()}"
    return f"{'xpu' if isinstance(place, paddle.XPUPlace) else 'gpu'}:{place.get_device_id()}"


def describe(place) -> str:
    """One line for the log: device, threads, Paddle version."""
    where = name_of(place)
    if where == "cpu":
        threads, cores = os.environ[environment.THREADS], environment.cpu_count()
        where = f"CPU, {threads} threads"
        if _paddle_came_first and threads != str(cores):
            where += f" of {cores} (Paddle was imported before the suite; OMP_NUM_THREADS={cores} gives it all)"
        if paddle.is_compiled_with_cuda() and not count_gpus():
            where += " (no GPU answers)"
    elif where.startswith("gpu"):
        number = place.get_device_id()
        capability = ".".join(map(str, paddle.device.cuda.get_device_capability(number)))
        where = f"{paddle.device.cuda.get_device_name(number)} ({where}, compute capability {capability})"
    return f"{where}, paddlepaddle {paddle.__version__}"


def upload(array: np.ndarray) -> paddle.Tensor:
    """An array as a tensor on the device.

    To a GPU it goes from page-locked memory, behind what the GPU is computing, and nobody waits for it: the loop is
    on its way to the next batch. Paddle keeps that memory until the copy is done.
    """
    if current_type() != "gpu":
        return paddle.to_tensor(array)
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()).cuda(blocking=False)
