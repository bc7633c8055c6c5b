"""What a machine has for training: GPUs, processor, memory, disk; one `Line` for each."""

from __future__ import annotations  # an older Python must get as far as the line that says so

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from common.runtime.environment import cpu_count

CAPABILITIES = ((6, 1), (8, 6))  # of the machine code in Paddle 2's wheels, which hold nothing to translate for others
CGROUP_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
CGROUP_2 = "memory.max", "memory.current", "inactive_file"
LOW_RESOURCE_GB = 2  # of memory, of a GPU's memory, of disk


class Line(NamedTuple):
    """One check: `ok`, `note` (training works, but look) or `FAIL`; what was checked; its value, and what to do."""

    state: str
    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.state:<6}{self.what:<15}{self.value}"


# ---- GPUs


def nvidia_gpus() -> list[str] | None:
    """Driver, name, free and total MiB of each GPU that the driver knows; None: no driver answers."""
    query = "--query-gpu=driver_version,name,memory.free,memory.total"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line for line in done.stdout.splitlines() if line.count(",") == 3]


def gpu_lines(report: dict, driven: list[str] | None) -> Iterator[Line]:
    """The GPUs, as the driver and as Paddle (`probe`) know them, and whether they fit this build of Paddle."""
    for driver, name, free, total in (map(str.strip, gpu.split(",")) for gpu in driven or ()):
        text = f"{driver}, {name}"
        if free.isdigit() and total.isdigit():  # some virtual GPUs answer [N/A]
            text += f", {_size(int(free) << 20)} of {_size(int(total) << 20)} free"
            if int(free) < LOW_RESOURCE_GB * 1024:
                yield Line("note", "driver", f"{text}: nvidia-smi names the programs that hold the rest")
                continue
        yield Line("ok", "driver", text)
    for number, gpu in enumerate(report.get("gpus", ())):
        yield _gpu_line(number, gpu, report)
    why = _why_no_gpu(report["cuda"], driven) if report.get("gpus") == [] else ""
    if why:
        yield Line("note", "GPU", why)


def _gpu_line(number: int, gpu: dict, report: dict) -> Line:
    capability = tuple(gpu["capability"])
    text = f"gpu:{number} {gpu['name']}, {_size(gpu['bytes'])}, compute capability {capability[0]}.{capability[1]}"
    low, high = CAPABILITIES
    # A wheel of Paddle 3 serves what its CUDA does: the training step tells.
    if not report["version"].startswith("2.") or low <= capability <= high:
        return Line("ok", "GPU", text)
    text += f"; Paddle {report['version']} has code for {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    if capability > high and capability[0] == high[0]:  # GPUs run code of their own generation's lower numbers
        return Line("note", "GPU", f"{text}, which this GPU can run; the training step below tells")
    state = "FAIL" if report.get("place") == f"gpu:{number}" else "note"
    return Line(state, "GPU", f"{text}: install Paddle 3 (README.md, GPU) or use --device cpu")


def _why_no_gpu(cuda: bool, driven: list[str] | None) -> str:
    """Why Paddle finds no GPU, and what to do; "" where there is none to find."""
    if not cuda:
        return "this build of Paddle does not use it; paddlepaddle-gpu does (README.md, GPU)" if driven else ""
    why = "none: no NVIDIA driver answers (nvidia-smi)"
    if driven:
        why = f"none that Paddle can use; driver {driven[0].split(',')[0]} may be too old for it: install a newer one"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not re.match(r"\s*\d|GPU-|MIG-", hidden):
        why = f"CUDA_VISIBLE_DEVICES={hidden} hides them: unset it"
    return f"{why}; --device auto trains on the processor"


# ---- processor, memory, disk


def host_lines(run_dir: Path | None, gpus: int) -> Iterator[Line]:
    """Processor, memory and disk of this machine."""
    yield processor_line()
    yield memory_line()
    yield from shared_memory_lines(gpus)
    yield disk_line(run_dir)


def processor_line() -> Line:
    cores = cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", str(cores))
    if threads == str(cores):
        return Line("ok", "processor", f"{cores} cores, {threads} threads")
    return Line("note", "processor", f"{cores} cores, but OMP_NUM_THREADS is {threads}: unset it to use them all")


def memory_line(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Line:
    try:
        rows = [line.split() for line in (proc / "meminfo").read_text().splitlines()]
        info = {row[0]: 1024 * int(row[1]) for row in rows if len(row) > 1}
        total, free = info["MemTotal:"], info["MemAvailable:"]
    except (OSError, ValueError, KeyError):
        return Line("note", "memory", "unknown on this system")
    whose = ""
    for limit, used in _memory_limits(proc, cgroup):
        if limit < total:
            total, whose = limit, ", the limit of this container,"
        free = min(free, max(0, limit - used))
    text = f"{_size(free)} of {_size(total)}{whose} free"
    if free >= LOW_RESOURCE_GB << 30:
        return Line("ok", "memory", text)
    return Line("note", "memory", f"{text}, which is little: close other programs, or lower --batch-size")


def _memory_limits(proc: Path, cgroup: Path) -> Iterator[tuple[int, int]]:
    """(limit, used without the cache that can be dropped), bytes, of this process's group and of those around it."""
    try:
        groups = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroup / "memory" if controllers else cgroup
        limit, used, cache = CGROUP_1 if controllers else CGROUP_2
        group = top / path.lstrip("/")  # a container sees its own group at the top, and nothing there
        for level in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # no such group, or no limit: "max"
                stat = (level / "memory.stat").read_text()
                droppable = re.search(rf"^{cache} (\d+)$", stat, re.MULTILINE)
                taken = int((level / used).read_text()) - int(droppable[1] if droppable else 0)
                yield int((level / limit).read_text()), taken
            if level == top:
                break


def shared_memory_lines(gpus: int, folder: Path = Path("/dev/shm")) -> Iterator[Line]:
    """Only of several GPUs whose NCCL would find too little; threads, which need none, read the images."""
    size = shutil.disk_usage(folder).total if folder.is_dir() else 0
    if gpus > 1 and size < 1 << 30:
        text = f"{_size(size)} in {folder} is little for training on several GPUs: docker run --shm-size=1g"
        yield Line("note", "shared memory", text)


def disk_line(run_dir: Path | None) -> Line:
    folder = (run_dir or Path("runs")).absolute()
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(1 << 20))
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as problem:
        return Line("FAIL", "disk", f"cannot write {folder}: {problem.strerror or problem}; name another --run-dir")
    if free < LOW_RESOURCE_GB << 30:
        return Line("note", "disk", f"{_size(free)} free for {folder}: make room, checkpoints may not fit")
    return Line("ok", "disk", f"{_size(free)} free for {folder}")


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GB" if count >= 1 << 30 else f"{count / 2**20:.0f} MB"
