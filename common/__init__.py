"""Nouns shared by the papers: images, holes, checkpoints, metrics. Names no paper."""

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


# Paddle sets this to 1 when it is imported and nobody has set it before; convolutions then run on one core.
os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))
