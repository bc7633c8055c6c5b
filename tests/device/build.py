"""Builds the make-believe GPU of fake_gpu.cc for the installed Paddle, which must not have been imported yet."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

NAME = "fake_gpu"  # as --device names it
SOURCE = Path(__file__).with_name("fake_gpu.cc")


def build(folder: Path) -> str:
    """Compiles it into a folder and has this process, and those it starts, load it. Returns why not, or ""."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "c++", "clang++")), None)
    paddle = importlib.util.find_spec("paddle")
    if compiler is None or paddle is None:
        return "there is no C++ compiler" if paddle else "Paddle is not installed"
    include = Path(paddle.submodule_search_locations[0], "include")
    command = [compiler, "-O1", "-std=c++17", "-shared", "-fPIC", "-w", f"-I{include}", str(SOURCE)]
    done = subprocess.run([*command, "-o", str(library(folder))], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or [f"status {done.returncode}"]
        return f"{compiler} cannot compile it for this Paddle: {errors[0]}"
    os.environ |= {
        "CUSTOM_DEVICE_ROOT": str(folder),
        "FLAGS_free_idle_chunk": "1",  # else Paddle keeps what is freed, and no limit is reached
        "FLAGS_use_stride_kernel": "0",  # views would need kernels of the device's own
        "GLOG_minloglevel": "2",  # Paddle tells of every plugin that it loads
    }
    return ""


def library(folder: str | Path) -> Path:
    return Path(folder, f"lib{NAME}.so")


class Counts(NamedTuple):
    """What the device has done until now in this process."""

    uploads: int
    """Copies to a device that Python asked for."""
    downloads: int
    """Copies from a device that Python asked for, each of which waits for the device."""
    operator_copies: int
    """Copies that bring the inputs of an operator to the CPU, and its outputs back: a real GPU has none."""
    held: tuple[int, int]
    """Bytes allocated now on each device."""

    def since(self, before: "Counts") -> "Counts":
        return Counts(*(now - then for now, then in zip(self[:3], before[:3], strict=True)), self.held)


def counts() -> Counts:
    numbers = (ctypes.c_size_t * 5)()
    ctypes.CDLL(str(library(os.environ["CUSTOM_DEVICE_ROOT"]))).fake_gpu_counts(numbers)
    return Counts(*numbers[:3], tuple(numbers[3:]))
