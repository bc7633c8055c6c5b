"""Says what this machine can do, what keeps it from training, and the next command.

python -m common.doctor [--data-dir DIR] [--device gpu]

Exit status 1 when training cannot work; each line marked FAIL says why and what to do. It is for corrupt installations,
so whatever can be corrupt is imported where it is needed, and Paddle, which may take its process along, in a child.
"""

from __future__ import annotations  # an older Python must get as far as the line that says so

import importlib
import json
import platform
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.doctor.hardware import look_at_disk, why_no_gpu
from common.doctor.libraries import REQUIRED
from common.errors import first_line
from common.runtime.child import run_python
from common.runtime.commands import next_command, one_line_errors
from common.runtime.paddle_build import FOR_PADDLE_2, paddle_builds, why_no_import

OLDEST = (3, 10)  # Python that the suite runs on
PACKAGES = {module: re.match(r"[\w-]+", wanted)[0] for module, wanted in REQUIRED.items()}  # -> what pip calls it


class Line(NamedTuple):
    """One check: `ok`, `note` (training works, but look) or `FAIL`; what was checked; its value, and what to do."""

    state: str
    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.state:<6}{self.what:<15}{self.value}"


@dataclass(frozen=True)
class Options:
    """Says what this machine can do, what keeps it from training, and the next command."""

    data_dir: Path | None = None
    """folder or zip with the images to train on; without it, data/ and AI Studio's mounts are looked through"""
    run_dir: Path | None = None
    """folder for what runs write; without it, runs/"""
    device: str = "auto"
    """Device that training is meant for: auto, cpu, gpu, gpu:N, or another type that Paddle lists (xpu, npu, mlu)."""


def package_lines(builds: dict[str, str]) -> Iterator[Line]:
    """What is wrong with PACKAGES and with the installed builds of Paddle, even where it imports."""
    old, versions = any(version.startswith("2.") for version in builds.values()), {}
    for module, package in PACKAGES.items():
        try:
            versions[package] = importlib.import_module(module).__version__
        except Exception as problem:  # a corrupt package raises whatever it likes
            install = old and FOR_PADDLE_2.get(package) or package
            said = f"{package} does not import ({first_line(problem)})"
            yield Line("FAIL", "packages", f"{said}: pip install {install}")
    if len(versions) == len(PACKAGES):
        yield Line("ok", "packages", ", ".join(f"{name} {version}" for name, version in versions.items()))
    if len(builds) > 1:
        names = " and ".join(f"{name} {version}" for name, version in builds.items())
        todo = f"pip uninstall -y {' '.join(builds)}, then install one (README.md, GPU)"
        yield Line("FAIL", "Paddle", f"{names} are installed, each over files of the other: {todo}")
    if old and not versions.get("numpy", "1.").startswith(("0.", "1.")):
        text = f"Paddle 2 is for numpy 1, with numpy {versions['numpy']} conversions fail or go wrong"
        yield Line("FAIL", "Paddle", f"{text}: pip install {' '.join(FOR_PADDLE_2.values())}")


def in_child(code: str) -> tuple[list[dict], str]:
    """The JSON objects that code prints in a process of its own, which Paddle may end; and why it failed, or ""."""
    done = run_python("-c", code)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]  # not a library's words
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line) or "Mismatched GPU" in line]
    why = first_line((telling or lines or ["it said nothing"])[-1]) if done.returncode else ""
    return said, why if done.returncode >= 0 else f"{why} (killed by {signal.Signals(-done.returncode).name})"


def probe(device: str) -> None:
    """Prints what Paddle says of itself and of `device`, as JSON objects."""
    from common.runtime.device import count_gpus, describe, name_of, open_device, paddle

    cuda = paddle.is_compiled_with_cuda()
    build = f"for CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}" if cuda else "for CPU"
    report = {"Paddle": f"{paddle.__version__}, built {build}", "cuda": cuda, "gpus": count_gpus()}
    print(json.dumps(report), flush=True)  # before the device is opened, which may be the end
    place = open_device(device)
    print(json.dumps({"place": name_of(place), "device": describe(place)}))


def paddle_lines(report: dict, why: str, builds: dict[str, str]) -> Iterator[Line]:
    """The verdict on what `probe` printed, and on how it ended."""
    if "Paddle" not in report:  # what `common.runtime.device` raises has its advice with it
        yield Line("FAIL", "Paddle", why.partition("ImportError: ")[2] or why_no_import(why, builds))
        return
    yield Line("ok", "Paddle", report["Paddle"])
    missing = report["gpus"] == 0 and why_no_gpu(report["cuda"])
    if missing:
        yield Line("note", "GPU", missing)
    problem = Line("FAIL", "device", why.removeprefix("common.errors.UserError: "))
    yield Line("ok", "device", report["device"]) if "place" in report else problem


def training_lines(tried: list[dict], why: str, place: str) -> Iterator[Line]:
    """The verdict on what `try_papers` printed, and on how it ended."""
    for each in tried:
        state, said = ("FAIL", each["problem"]) if "problem" in each else ("ok", "a tiny training ends well")
        yield Line(state, "training", f"{each['paper']} on {place}: {said}")
    if why:
        yield Line("FAIL", "training", f"on {place} it took Paddle down: {why}")


def data_lines(sets: list, given: Path | None) -> Iterator[Line]:
    usable = any(not each.problem for each in sets)
    for each in sets:
        trouble = each.problem or each.note
        bad = "FAIL" if given and not usable else "note"
        yield Line(bad if trouble else "ok", "data", "; ".join(filter(None, [f"{each.place}: {each.title}", trouble])))
    if given and not sets:
        there = "holds no image and no archive" if given.exists() else "is not there"
        yield Line("FAIL", "data", f"{given} {there}: --data-dir takes a folder of images (data/README.md)")
    elif not sets:
        yield Line("note", "data", "none in data/; the preset quick draws its own, data/README.md has sources")


def next_lines(papers: list[dict], sets: list, place: str, options: Options) -> Iterator[Line]:
    """The command that trains each paper, on the data found; papers with data come first."""
    usable = sorted((each for each in sets if not each.problem), key=lambda each: not each.title.startswith("CelebA"))
    commands = []
    for each in papers:
        data = next((found for found in usable if found.pairs == each["pairs"]), None)
        kinds = {"cpu": ("cpu",)}.get(place, ("paper", "article"))
        preset = next(name for name in each["presets"] if name.startswith(kinds if data else "quick"))
        folder, device = options.run_dir and options.run_dir / each["paper"], options.device.replace("auto", "")
        flags = {"--data-dir": data and data.place, "--run-dir": folder, "--device": device}
        words = [word for flag in flags.items() if flag[1] for word in flag]
        commands.append((data is None, next_command(f"{each['paper']}.train", preset, *words)))
    for _, command in sorted(commands):
        yield Line("next", "", command)


def checks(options: Options) -> Iterator[Line]:
    """Every line after Python's; those of the next commands come last."""
    builds, sets = paddle_builds(), []
    yield from package_lines(builds)
    said, why = in_child(f"from common.doctor.__main__ import probe; probe({options.device!r})")
    report = {key: value for each in said for key, value in each.items()}
    yield from paddle_lines(report, why, builds)
    yield Line(*look_at_disk(options.run_dir))
    try:
        from common.doctor.find_datasets import find_data

        sets = find_data(options.data_dir)
        yield from data_lines(sets, options.data_dir)
    except (ImportError, OSError) as problem:  # a package is missing, as told above; a folder must not be read
        yield Line("note", "data", f"not looked at: {first_line(problem)}")
    if "place" in report:
        tried, why = in_child(f"from common.doctor.smoke_step import try_papers; try_papers({options.device!r})")
        yield from training_lines(tried, why, report["place"])
        yield from next_lines([each for each in tried if "pairs" in each], sets, report["place"], options)


def read_options(argv: Sequence[str] | None) -> Options:
    try:
        import tyro
    except ImportError:  # told in the line of the packages
        return Options()
    return tyro.cli(Options, args=argv, prog="python -m common.doctor")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    version, failed = platform.python_version(), False
    if sys.version_info[:2] < OLDEST:
        print(Line("FAIL", "Python", f"{version} is too old: make a virtual environment of 3.10 or newer"))
        raise SystemExit(1)
    options = read_options(argv)
    print(Line("ok", "Python", f"{version}, {platform.system()} {platform.machine()}, {sys.executable}"), flush=True)
    for line in checks(options):
        failed = failed or line.state == "FAIL"
        if line.state != "next" or not failed:
            print(line, flush=True)
    if failed:
        print(Line("next", "", f"put right what is marked FAIL, then: {next_command('common.doctor', *argv)}"))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
