"""Settings of the process are made by one call, and by no import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.runtime import environment

ROOT = Path(__file__).parents[3]


def run_python(code, **variables):
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


# What a process is set to: its environment, warnings, handlers of signals and, where Paddle is there, all its flags.
STATE = """
import os, pkgutil, signal, sys, warnings
def state():
    paddle = sys.modules.get("paddle")
    registry = paddle.base.core.globals() if paddle else None
    flags = {key: registry.get(key) for key in registry.keys()} if paddle else {}
    handlers = [signal.getsignal(each) for each in sorted(signal.valid_signals())]
    return {"environment": dict(os.environ), "warnings": list(warnings.filters), "signals": handlers, "flags": flags}
"""


def test_import_of_common_sets_nothing_and_imports_no_paddle():
    code = f"""{STATE}
before = state()
import common, common.config, common.errors, common.runtime.environment
assert state() == before and not sys.modules.keys() & {{"paddle", "numpy", "cv2"}}
"""
    run_python(code)


def test_import_of_every_module_changes_nothing_where_paddle_was_imported_first():
    """Neither variables nor flags nor signals; and since Paddle has taken one thread by then, that is said."""
    code = f"""{STATE}
import importlib, zlib, paddle  # zlib before Paddle 2.6, as in runtime/device.py
before = state()
import common
for module in pkgutil.walk_packages(common.__path__, "common."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = state()
del before["warnings"], after["warnings"]  # SciPy and others add to them
assert after == before and before["flags"], [key for key in after if after[key] != before[key]]
from common.runtime.device import describe
print(describe(paddle.CPUPlace()))
"""
    described = run_python(code).stdout
    assert (f"OMP_NUM_THREADS={environment.cpu_count()} " in described) == (environment.cpu_count() > 1), described


def test_a_network_computes_where_paddle_was_imported_first():
    """In the order of everybody's scripts: `import paddle` above, the suite below."""
    code = """
import paddle
from common.runtime.device import open_device
open_device("cpu")
print(paddle.nn.Conv2D(1, 1, 3, weight_attr=paddle.nn.initializer.Constant(1.0))(paddle.ones([1, 1, 3, 3])).item())
"""
    assert run_python(code).stdout.split() == ["9.0"]


@pytest.mark.parametrize(
    "how, variables, wanted",
    [
        ({"name": "cpu"}, {}, (True, False, environment.mkl_kernels())),
        ({"name": "cpu"}, {"MKL_DEBUG_CPU_TYPE": "4"}, (True, False, "4")),
        ({"name": "cpu", "plain": True}, {}, (False, True, None)),
        ({"name": "cpu", "plain": True}, {"MKL_DEBUG_CPU_TYPE": "4"}, (False, True, "4")),
        ({"name": "cpu", "plain": True}, {"FLAGS_use_stride_kernel": "0"}, (False, False, None)),
    ],
)
def test_what_a_process_computes_by(how, variables, wanted):
    """Memory kept, transposes copied, MKL told its kernels; `plain` leaves all as Paddle and the user have it."""
    code = f"""
from common.runtime import device, environment
before = environment.settings()
device.open_device(**{how})
transposed = device.paddle.ones([2, 3]).transpose([1, 0])
print(before, environment.settings(), transposed.is_contiguous(), sep="; ")
"""
    done = run_python(code, OMP_NUM_THREADS="2", **variables)
    views_before = "FLAGS_use_stride_kernel" not in variables
    kept, views, kernels = wanted
    kept = kept and sys.platform.startswith("linux")
    before, after, contiguous = done.stdout.strip().splitlines()[-1].split("; ")
    named = "{{'threads': 2, 'freed_memory_kept': {}, 'transposes_are_views': {}, 'mkl_debug_cpu_type': {!r}}}"
    assert before == named.format(False, views_before, variables.get("MKL_DEBUG_CPU_TYPE"))
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
    assert environment.mkl_kernels(str(tmp_path / "cpuinfo")) == kernels


def test_kernels_are_left_alone_where_nothing_is_known(tmp_path):
    assert environment.mkl_kernels(str(tmp_path / "nothing")) is None
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n\n")
    assert environment.mkl_kernels(str(tmp_path / "arm")) is None
