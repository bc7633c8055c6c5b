"""Says what this machine can do, what keeps it from training, and the next command.

python -m common.doctor

python -m common.doctor --data-dir DIR --device gpu

Exit status 1 when training cannot work; each line marked FAIL says why and what to do. It is for corrupt installations,
so whatever can be corrupt is imported where it is needed, and Paddle, which may take its process along, in a child.
"""

from __future__ import annotations  # an older Python must get as far as the line that says so

import contextlib
import importlib
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.doctor import hardware
from common.doctor.find_datasets import DataSet, find_data
from common.doctor.hardware import Line
from common.errors import UserError, first_line
from common.runtime.commands import next_command, one_line_errors
from common.runtime.paddle_build import FOR_PADDLE_2, paddle_builds, why_no_import

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ((3, 10), (3, 13))  # the oldest that the suite runs on, the newest that Paddle has wheels for
PACKAGES = {  # module -> what pip calls it
    **{name: name for name in ("numpy", "scipy", "matplotlib", "tqdm", "tyro", "safetensors", "simplejpeg")},
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
}
CHILD_SECONDS = 900
TOLERANCE = 1e-3  # relative, of a loss between two devices


@dataclass(frozen=True)
class Options:
    """Says what this machine can do, what keeps it from training, and the next command."""

    data_dir: Path | None = None
    """folder or zip with the images to train on; without it, data/ and AI Studio's mounts are looked through"""
    run_dir: Path | None = None
    """folder for what runs write; without it, runs/"""
    device: str = "auto"
    """Device that training is meant for: auto, cpu, gpu, gpu:N, or another type that Paddle lists (xpu, npu, mlu)."""


# ---- Python and its packages


def python_line() -> Line:
    version = platform.python_version()
    oldest, newest = (".".join(map(str, pair)) for pair in PYTHONS)
    if sys.version_info[:2] < PYTHONS[0]:
        return Line("FAIL", "Python", f"{version} is too old: make a virtual environment of {oldest} to {newest}")
    if sys.version_info[:2] > PYTHONS[1]:
        return Line("note", "Python", f"{version}; Paddle is known to have wheels up to {newest}")
    return Line("ok", "Python", f"{version}, {platform.system()} {platform.machine()}, {sys.executable}")


def package_lines(builds: dict[str, str]) -> Iterator[Line]:
    """What each of PACKAGES is, or how to install it."""
    versions, missing = [], []
    wanted = FOR_PADDLE_2 if any(version.startswith("2.") for version in builds.values()) else {}
    for module, package in PACKAGES.items():
        try:
            versions.append(f"{package} {importlib.import_module(module).__version__}")
        except Exception as problem:  # a corrupt package raises whatever it likes
            install = wanted.get(package, package)
            if isinstance(problem, ModuleNotFoundError) and problem.name == module:
                missing.append(install)
                continue
            said = f"{package} does not import ({first_line(problem)})"
            yield Line("FAIL", "packages", f"{said}: pip install {install}")
    if missing:
        yield Line("FAIL", "packages", f"not installed: pip install {' '.join(missing)}")
    if len(versions) == len(PACKAGES):
        yield Line("ok", "packages", ", ".join(versions))


def build_lines(builds: dict[str, str], numpy_version: str) -> Iterator[Line]:
    """What is wrong with the installed builds, even where Paddle imports."""
    if len(builds) > 1:
        names = " and ".join(f"{name} {version}" for name, version in builds.items())
        todo = f"pip uninstall -y {' '.join(builds)}, then install one (README.md, GPU)"
        yield Line("FAIL", "Paddle", f"{names} are installed, each over files of the other: {todo}")
    for name, version in builds.items():
        if version.startswith("2.") and not numpy_version.startswith(("0.", "1.")):
            text = f"{name} {version} is for numpy 1, with numpy {numpy_version} conversions fail or go wrong"
            yield Line("FAIL", "Paddle", f"{text}: pip install {' '.join(FOR_PADDLE_2.values())}")


# ---- Paddle, in a child


def in_child(code: str, **environment: str) -> tuple[list[dict], str]:
    """Runs Python code in a process of its own, which a crash of Paddle ends.

    Returns:
        (the JSON objects that it printed, one a line; why it failed, or "").
    """
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, env=environment, timeout=CHILD_SECONDS, capture_output=True, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer in {CHILD_SECONDS} s"
    said = []
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):  # a library's own words
            said += [json.loads(line)] if line.startswith("{") else []
    return said, _why(done.returncode, done.stderr)


def _why(returncode: int, stderr: str) -> str:
    """The telling line of a process that failed; "" of one that did not."""
    if returncode == 0:
        return ""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line) or "Mismatched GPU" in line]
    text = first_line((telling or lines or ["it said nothing"])[-1])
    return text if returncode > 0 else f"{text} (killed by {signal.Signals(-returncode).name})"


def probe(device: str) -> None:
    """Prints what Paddle says of itself, of its GPUs and of `device`, as JSON objects."""
    from common.runtime.device import count_gpus, open_device, paddle

    cuda = paddle.is_compiled_with_cuda()
    gpus = [paddle.device.cuda.get_device_properties(number) for number in range(count_gpus())]
    report = {
        "version": paddle.__version__,
        "build": f"for CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}" if cuda else "for CPU",
        "cuda": cuda,
        "gpus": [{"name": c.name, "capability": [c.major, c.minor], "bytes": c.total_memory} for c in gpus],
    }
    print(json.dumps(report), flush=True)  # before the device is opened, which may be the end
    try:
        place = open_device(device)
        name = "cpu" if isinstance(place, paddle.CPUPlace) else f"gpu:{place.get_device_id()}"
        print(json.dumps({"place": name}))
    except UserError as mistake:
        print(json.dumps({"problem": str(mistake)}))


def ask_paddle(device: str) -> dict:
    """The report of `probe`; its "import_error" is why Paddle does not import, "problem" why `device` is unusable."""
    said, why = in_child(f"from common.doctor.__main__ import probe; probe({device!r})")
    report = {key: value for each in said for key, value in each.items()}
    if "version" not in report:
        # Of Paddle itself, not of common.runtime.device: that this child ran out of time or was killed is a reason too.
        report["import_error"] = in_child("import paddle")[1] or why
    elif "place" not in report:
        report.setdefault("problem", why)
    return report


def paddle_line(builds: dict[str, str], report: dict) -> Line:
    if "import_error" not in report:
        return Line("ok", "Paddle", f"{report['version']}, built {report['build']}")
    return Line("FAIL", "Paddle", why_no_import(report["import_error"], builds))


# ---- data, and a step of every paper


def data_lines(sets: list[DataSet], given: Path | None) -> Iterator[Line]:
    usable = any(not each.problem for each in sets)
    for each in sets:
        trouble = each.problem or each.note
        state = "note" if trouble else "ok"
        state = "FAIL" if given and not usable else state
        yield Line(state, "data", "; ".join(filter(None, [f"{each.place}: {each.title}", trouble])))
    if given and not sets:
        there = "holds no image and no archive" if given.exists() else "is not there"
        yield Line("FAIL", "data", f"{given} {there}: --data-dir takes a folder of images (data/README.md)")
    elif not sets:
        yield Line(
            "note", "data", "none in data/; the preset quick draws its own, data/README.md says where to get some"
        )


def training_lines(tried: list[dict], why: str, places: Sequence[str]) -> Iterator[Line]:
    """The verdict on what `try_papers` printed of these places (one, or two to compare), and on how it ended."""
    devices = " and ".join(places)
    for each in tried:
        problem = each.get("problem") or "; ".join(differences(each["losses"], places))
        if problem:
            todo = "; --device cpu does without the GPU" if len(places) > 1 else ""
            yield Line("FAIL", "training", f"a step of {each['paper']} on {devices}: {problem}{todo}")
        else:
            first, last = each["losses"][0], each["losses"][-1]
            worst = 100 * max(_apart(first[name], last[name]) for name in first)
            verdict = f"the losses agree to {worst:.1g} %" if len(places) > 1 else "the losses are finite"
            yield Line("ok", "training", f"a step of {each['paper']} on {devices}: {verdict}")
    if why:
        yield Line("FAIL", "training", f"a step on {devices} took Paddle down: {why}")


def differences(losses: list[dict[str, float]], places: Sequence[str]) -> list[str]:
    """The losses that are no finite number, or that differ from the first place's by more than TOLERANCE."""
    found = []
    for place, each in zip(places, losses, strict=True):
        for name in sorted(losses[0].keys() | each.keys()):
            first, here = losses[0].get(name, math.nan), each.get(name, math.nan)
            if not math.isfinite(here):
                found.append(f"the loss {name} is {here} on {place}")
            elif not _apart(first, here) <= TOLERANCE:
                found.append(f"the loss {name} is {first:.6g} on {places[0]}, {here:.6g} on {place}")
    return found


def _apart(one: float, other: float) -> float:
    """The relative difference of a loss; of losses near zero, of 1e-3."""
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


# ---- what to do next


def next_lines(papers: list[dict], sets: list[DataSet], place: str, options: Options) -> Iterator[Line]:
    """The command that trains each paper, on the data found; papers with data come first."""
    usable = sorted((each for each in sets if not each.problem), key=lambda each: not each.title.startswith("CelebA"))
    commands = []
    for each in papers:
        data = next((found for found in usable if found.pairs == each["pairs"]), None)
        kinds = ("cpu",) if place == "cpu" else ("paper", "article")
        kinds = kinds if data else ("quick",)
        words = [next(name for name in each["presets"] if name.startswith(kinds))]
        words += ["--data-dir", data.place] if data else []
        words += ["--run-dir", options.run_dir / each["paper"]] if options.run_dir else []
        words += ["--device", options.device] if options.device != "auto" else []
        commands.append((data is None, next_command(f"{each['paper']}.train", *words)))
    for _, command in sorted(commands):
        yield Line("next", "", command)


def checks(options: Options) -> Iterator[Line]:
    """Every line after Python's; those of the next commands come last."""
    builds = paddle_builds()
    yield from package_lines(builds)
    yield from build_lines(builds, getattr(sys.modules.get("numpy"), "__version__", "1."))
    report = ask_paddle(options.device)
    yield paddle_line(builds, report)
    yield from hardware.gpu_lines(report, hardware.nvidia_gpus())
    if "problem" in report:
        yield Line("FAIL", "device", report["problem"])
    yield from hardware.host_lines(options.run_dir, len(report.get("gpus", ())))
    sets = []
    try:
        sets = find_data(options.data_dir)
        yield from data_lines(sets, options.data_dir)
    except (ImportError, OSError) as problem:  # a package is missing, as told above; a folder must not be read
        yield Line("note", "data", f"not looked at: {first_line(problem)}")
    if "place" in report:
        places = list(dict.fromkeys(["cpu", report["place"]]))
        code = f"from common.doctor.smoke_step import try_papers; try_papers({places!r})"
        tried, why = in_child(code, NVIDIA_TF32_OVERRIDE="0")  # else GPUs round to 10 bits, more than is tolerated
        yield from training_lines(tried, why, places)
        yield from next_lines([each for each in tried if "losses" in each], sets, report["place"], options)


def read_options(argv: Sequence[str] | None) -> Options:
    try:
        import tyro
    except ImportError:  # told in the line of the packages
        return Options()
    return tyro.cli(Options, args=argv, prog="python -m common.doctor")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    first, failed = python_line(), False
    options = read_options(argv) if first.state != "FAIL" else None
    print(first, flush=True)
    if options is None:
        raise SystemExit(1)
    for line in checks(options):
        failed = failed or line.state == "FAIL"
        if line.state != "next" or not failed:
            print(line, flush=True)
    if failed:
        again = next_command("common.doctor", *(sys.argv[1:] if argv is None else argv))
        print(Line("next", "", f"put right what is marked FAIL, then: {again}"))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
