"""Folders of photos whose completion is interrupted, and every kind of image file through `infer`."""

import contextlib
import importlib
import importlib.util
import io
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data.faces import draw_face

from runs import ROOT, Row, expect

PHOTOS = 8
RESULTS = "[0-9].png"  # not what DCGAN completion draws of the search, which is of the photos of one command
SIGNALS = {"SIGKILL": signal.SIGKILL, "Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}


def kinds_kept():
    """The module tests/contract/test_kinds_kept.py: files of every kind and the pixels that their results must have."""
    spec = importlib.util.spec_from_file_location("kinds", ROOT / "tests/contract/test_kinds_kept.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interrupt_folder(paper: str, folder: Path, kills: int, rows: dict[str, Row]) -> None:
    """A folder run that is interrupted at random moments and started again with --skip-existing until it is done.

    After each interruption every result under its own name must be the undisturbed run's, byte for byte.
    """
    photos, rng = folder / "photos", random.Random(paper)
    photos.mkdir(parents=True)
    for number in range(PHOTOS):
        Image.fromarray(draw_face(np.random.default_rng(number))).save(photos / f"{number}.png")
    undisturbed = _start(paper, photos, folder / "undisturbed")
    _, told = undisturbed.communicate()
    expect(undisturbed.returncode == 0, paper, "did not complete the folder:", told[-2000:])
    wanted = {path.name: path.read_bytes() for path in (folder / "undisturbed").glob(RESULTS)}
    for name, number in SIGNALS.items():
        row = rows.setdefault(name, Row())
        row.runs += 1
        output, left = folder / name, kills
        while True:
            process = _start(paper, photos, output)
            if left and _wait_for_a_result(process, output, rng):
                left -= 1
                row.injected += 1
                process.send_signal(number)
            process.communicate()
            found = {path.name: path.read_bytes() for path in output.glob(RESULTS)}
            torn = [each for each, data in found.items() if wanted[each] != data]
            row.files_lost += len(torn)
            expect(not torn, paper, name, "left results that are not whole:", torn)
            if process.returncode == 0:
                break
        expect(found.keys() == wanted.keys(), paper, name, "lost results", wanted.keys() - found.keys())
        row.completed += 1


def _start(paper: str, photos: Path, output: Path) -> subprocess.Popen:
    kinds = kinds_kept()
    weights = ROOT / "weights" / f"{kinds.BUNDLED[paper]}.safetensors"
    command = [sys.executable, "-m", f"{paper}.infer", "--weights", weights, "--disable-cpu-layers", "--device", "cpu"]
    command += ["--input", photos, "--output", output, "--skip-existing", *kinds.PAPERS[paper]]
    command = [str(word) for word in command]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait_for_a_result(process: subprocess.Popen, output: Path, rng: random.Random) -> bool:
    """Waits until one more photo is done, and a moment longer; False if the run ended before."""
    before = len(list(output.glob(RESULTS)))
    while process.poll() is None:
        if len(list(output.glob(RESULTS))) > before:
            time.sleep(rng.uniform(0, 0.3))
            return process.poll() is None
        time.sleep(0.01)
    return False


def keep_kinds(paper: str, folder: Path) -> dict[str, str]:
    """Kind of file -> yes, or what became of its known pixels."""
    kinds = kinds_kept()
    (folder / "photos").mkdir(parents=True)
    for name, (data, _) in kinds.KINDS.items():
        (folder / "photos" / name).write_bytes(data)
    Image.fromarray(kinds.MASK).save(folder / "mask.png")
    with contextlib.redirect_stdout(io.StringIO()):
        kinds.infer(paper, "--input", folder / "photos", "--mask", folder / "mask.png", "--output", folder / "out")
    verdicts = {}
    for name in kinds.KINDS:
        both = [folder / "out" / f"{name}.png", folder / "out" / f"{Path(name).stem}.png"]
        try:
            kinds.check(folder / "photos" / name, next(path for path in both if path.exists()))
            verdicts[name] = "yes"
        except (AssertionError, StopIteration) as problem:
            verdicts[name] = f"no: {type(problem).__name__}"
    return verdicts
