"""Where a run computes: picks CPUPlace or CUDAPlace, settles what a process can, and brings arrays to the device."""

import contextlib
import ctypes
import io
import os
import sys
import warnings
import zlib  # noqa: F401  before Paddle 2.6, whose own copy would otherwise take the place of Python's and crash

import numpy as np

from common import mkl_kernels
from common.errors import UserError

warnings.filterwarnings("ignore", message="No ccache found")
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
try:
    with contextlib.redirect_stderr(io.StringIO()):  # it warns about every OMP_NUM_THREADS that is not 1
        import paddle
except ImportError:
    raise ImportError(
        'PaddlePaddle is not installed: pip install -e ".[cpu]", or for a graphics card see "GPU" in README.md'
    ) from None

STRIDE, MKL = "FLAGS_use_stride_kernel", "MKL_DEBUG_CPU_TYPE"
VIEWS = paddle.get_flags(STRIDE)[STRIDE]  # as Paddle has it, or the user's environment
_memory_is_kept = False


def open_device(name: str = "auto", plain: bool = False) -> paddle.CPUPlace | paddle.CUDAPlace:
    """Makes a device the one that Paddle computes on, and connects the processes of a run that has several.

    On a processor it also settles what makes the whole process faster: glibc keeps freed memory, and Paddle's
    transposes are copies, not views, which the layers of common/cpu.py would have to copy again and again.

    Args:
        name: `auto` (the first card that answers, else the processor), `cpu`, `gpu` or `gpu:N`. Of several processes
            each takes its own card, and then `gpu:N` is no choice.
        plain: leave all that as Paddle has it, and `common.mkl_kernels`, if nothing was computed yet.

    Raises:
        UserError: a card was asked for and cannot be used. Asked before Paddle is, which would abort the process.
    """
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (number and (kind != "gpu" or not number.isdigit())):
        raise UserError(f"unknown device {name!r}; use auto, cpu, gpu or gpu:N")
    cards = count_cards()
    on_cpu = kind == "cpu" or (kind == "auto" and cards == 0)
    paddle.set_flags({STRIDE: VIEWS and (plain or not on_cpu)})
    if on_cpu:
        if not plain:
            _keep_freed_memory()
        elif os.environ.get(MKL) == mkl_kernels():
            os.environ.pop(MKL, None)
        paddle.set_device("cpu")
        _connect()
        return paddle.CPUPlace()
    if not paddle.is_compiled_with_cuda():
        raise UserError(
            f"--device {name}: this is the CPU build of PaddlePaddle {paddle.__version__}; install paddlepaddle-gpu "
            "(README.md, GPU) or use --device cpu"
        )
    process = paddle.distributed.ParallelEnv()
    if process.world_size > 1:
        if number:
            raise UserError(f"--device {name}: each of {process.world_size} processes has a card of its own; use gpu")
        number = process.device_id
    if int(number or 0) >= cards:
        raise UserError(f"--device {name}: Paddle finds {cards} usable card(s) on this machine; use --device cpu")
    paddle.set_device(f"gpu:{number or 0}")
    _connect()
    return paddle.CUDAPlace(int(number or 0))


def _connect() -> None:
    if paddle.distributed.ParallelEnv().world_size > 1 and not paddle.distributed.is_initialized():
        paddle.distributed.init_parallel_env()


def count_cards() -> int:
    """Graphics cards that this build of Paddle can use; 0 for a CPU build and where no driver answers."""
    if not paddle.is_compiled_with_cuda():
        return 0
    try:
        return paddle.device.cuda.device_count()
    except Exception:  # a missing or too old driver raises various errors from C++; no card answers either way
        return 0


def describe(place: paddle.CPUPlace | paddle.CUDAPlace) -> str:
    """One line for the log: device, threads, Paddle version."""
    if isinstance(place, paddle.CUDAPlace):
        where = f"{paddle.device.cuda.get_device_name(place.get_device_id())} ({place})"
    else:
        where = f"CPU, {os.environ['OMP_NUM_THREADS']} threads"
        if paddle.is_compiled_with_cuda() and not count_cards():
            where += " (no card answers)"
    return f"{where}, paddlepaddle {paddle.__version__}"


def settings() -> dict[str, int | bool | str | None]:
    """What this process computes by, besides its device: for options.json."""
    return {
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "freed_memory_kept": _memory_is_kept,
        "transposes_are_views": bool(paddle.get_flags(STRIDE)[STRIDE]),
        "mkl_debug_cpu_type": os.environ.get(MKL),
    }


def upload(array: np.ndarray) -> paddle.Tensor:
    """An array as a tensor on the device.

    To a card it goes from page-locked memory, behind what the card is computing, and nobody waits for it: the loop is
    on its way to the next batch. Paddle keeps that memory until the copy is done.
    """
    if paddle.get_device() == "cpu":
        return paddle.to_tensor(array)
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()).cuda(blocking=False)


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory: otherwise every step maps and clears its feature maps anew (10 % of a step)."""
    global _memory_is_kept
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        done = [libc.mallopt(m_mmap_threshold, 1 << 30), libc.mallopt(m_trim_threshold, (1 << 31) - 1)]
        _memory_is_kept = all(done)
    except (OSError, AttributeError):  # another C library: nothing to tune
        pass
