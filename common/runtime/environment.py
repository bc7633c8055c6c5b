"""Settings of the whole process: threads, memory allocator, matrix library, Paddle's flags. Nothing is set at import.

A command makes one call, `device.open_device`, which calls `tune` here. The exception is the number of threads. Paddle
reads OMP_NUM_THREADS while it is imported, and writes 1 into it if it is not set; convolutions then run on one core.
So `device` calls `set_threads` just before its own `import paddle`, and a paper's `__init__` calls it as well. Where
Paddle was imported before that, it keeps the threads it has, and `device.describe` says so.
"""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import ctypes
import functools
import os
import sys
import warnings

STRIDE, MKL, THREADS = "FLAGS_use_stride_kernel", "MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS"

_memory_is_kept = False
_mkl_is_told = False


def cpu_count() -> int:
    """Processor cores this process may use: its affinity, and a container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:  # noqa: PTH123
            quota, period = file.read().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


@functools.cache
def set_threads() -> bool:
    """Gives Paddle, which is about to be imported, every core, unless the user chose. Returns whether it came first."""
    came_first = "paddle" in sys.modules
    if not came_first:
        os.environ.setdefault(THREADS, str(cpu_count()))
    return came_first


def tune(on_cpu: bool, plain: bool) -> None:
    """Settles what makes the whole process faster on a CPU; call it before anything is computed.

    glibc keeps freed memory, the matrix library is told the processor's instructions, and Paddle's transposes are
    copies, not views, which the layers of common/cpu_layers would have to copy again and again.

    Args:
        plain: leave all that as Paddle and the user's environment have it.
    """
    import paddle  # not above: to import this module must not import it

    global _mkl_is_told
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    tuned = on_cpu and not plain
    paddle.set_flags({STRIDE: _views_of_paddle() and not tuned})
    if tuned:
        _keep_freed_memory()
    kernels = mkl_kernels()
    if tuned and kernels and MKL not in os.environ:
        os.environ[MKL], _mkl_is_told = kernels, True
    elif plain and _mkl_is_told:
        os.environ.pop(MKL, None)
        _mkl_is_told = False


def settings() -> dict[str, int | bool | str | None]:
    """What this process computes by, besides its device: for options.json."""
    import paddle

    return {
        "threads": int(os.environ[THREADS]),
        "freed_memory_kept": _memory_is_kept,
        "transposes_are_views": bool(paddle.get_flags(STRIDE)[STRIDE]),
        "mkl_debug_cpu_type": os.environ.get(MKL),
    }


@functools.cache
def _views_of_paddle() -> bool:
    """Whether transposes are views as Paddle has it, or the user's environment; first asked before that is changed."""
    import paddle

    return bool(paddle.get_flags(STRIDE)[STRIDE])


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


def mkl_kernels(cpuinfo: str = "/proc/cpuinfo") -> str | None:
    """The MKL_DEBUG_CPU_TYPE that has Paddle's matrix library use what this processor can; None: it does so itself.

    That library is MKL of 2019, which looks for Intel's name. On another maker's processor it does without AVX: 3 to 5
    times slower for a product of large matrices, 10 times for a step of training. It reads the variable at the first
    product; newer ones do not read it.
    """
    try:
        with open(cpuinfo) as file:  # noqa: PTH123
            lines = [line.partition(":") for line in file]
    except OSError:  # another system
        return None
    metadata = {key.strip(): value.split() for key, _, value in lines}
    flags = set(metadata.get("flags", []))
    if metadata.get("vendor_id") in (None, ["GenuineIntel"]):
        return None
    if flags >= {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}:
        return "7"  # as for Skylake's servers
    return "5" if flags >= {"avx2", "fma"} else None  # as for Haswell
