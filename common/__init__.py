"""Nouns shared by the papers: images, holes, checkpoints, metrics. Names no paper."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import os

__version__ = "0.1.0"


def cpu_count() -> int:
    """Processor cores this process may use: its affinity, and a container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:  # noqa: PTH123
            quota, period = file.read().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def mkl_kernels(cpuinfo: str = "/proc/cpuinfo") -> str | None:
    """The MKL_DEBUG_CPU_TYPE that has Paddle's matrix library use what this processor can; None: it does so itself.

    That library is MKL of 2019, which looks for Intel's name. On another maker's processor it does without AVX: 3 to 5
    times slower for a product of large matrices, 10 times for a step of training. Newer ones do not read the variable.
    """
    try:
        with open(cpuinfo) as file:  # noqa: PTH123
            lines = [line.partition(":") for line in file]
    except OSError:  # another system
        return None
    facts = {key.strip(): value.split() for key, _, value in lines}
    flags = set(facts.get("flags", []))
    if facts.get("vendor_id") in (None, ["GenuineIntel"]):
        return None
    if flags >= {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}:
        return "7"  # as for Skylake's servers
    return "5" if flags >= {"avx2", "fma"} else None  # as for Haswell


# Paddle sets this to 1 when it is imported and nobody has set it before; convolutions then run on one core.
os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))

# The library reads this at the first product. `device.open_device` takes it back for plain runs.
_kernels = mkl_kernels()
if _kernels:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", _kernels)
