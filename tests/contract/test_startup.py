"""Help and mistakes in the flags are answered before Paddle, whose import takes seconds, is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
VERBS = ("train", "infer", "evaluate", "convert", "export")
HEAVY = ("paddle", "cv2", "scipy", "matplotlib")

# Runs commands as `python -m` does, one after another in a process, and tells their status and what they imported.
PROBE = """
import contextlib, io, json, runpy, sys
for module, *words in json.loads(sys.argv[1]):
    sys.argv, said = [module, *words], io.StringIO()
    status = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    heavy = [name for name in HEAVY if name in sys.modules]
    print(json.dumps([module, words, status, said.getvalue(), heavy]))
"""


def probe(commands):
    """[(command line, exit status, what was printed, what heavy modules were imported by then)]"""
    code = PROBE.replace("HEAVY", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_probe_sees_what_a_module_imports():
    """An import of Paddle at the top of a command's module would be found."""
    assert probe([["common.runtime.device"]])[0][4]
    assert probe([["common.config"]])[0][4] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_help_and_mistakes_of_every_verb_need_no_paddle(paper):
    helps = [[f"{paper}.{verb}", *(["quick"] if verb == "train" else []), "--help"] for verb in VERBS]
    mistakes = [
        [f"{paper}.train", "no-such-preset"],
        [f"{paper}.train", "cpu"],  # without data
        [f"{paper}.train", "cpu", "--data-dir", "nowhere"],
        [f"{paper}.train", "quick", "--batch-size", "0"],
        [f"{paper}.infer"],
        [f"{paper}.infer", "--weights", "nowhere.safetensors", "--input", "a.png", "--output", "b.png"],
        [f"{paper}.infer", "--weights", "README.md", "--input", "nowhere.png", "--output", "b.png"],
        [f"{paper}.evaluate", "--weights", "nowhere.safetensors", "--data-dir", "data"],
        [f"{paper}.evaluate", "--weights", "README.md", "--data-dir", "nowhere"],
        [f"{paper}.convert", "nowhere.pth", "out.safetensors"],
        [f"{paper}.export", "--weights", "nowhere.safetensors", "--output", "out"],
    ]
    for module, words, status, said, heavy in probe(helps + mistakes):
        assert not heavy, (module, words, heavy)
        assert status == (0 if "--help" in words else 2) and said, (module, words, status, said)


def test_help_of_the_comparisons_and_the_doctor_needs_no_paddle():
    commands = [["compare", "--help"], ["compare", "no-such-verb"], ["compare", "photo", "--help"]]
    commands += [["compare", "table", "--help"], ["common.doctor", "--help"]]
    for module, words, status, said, heavy in probe(commands):
        assert not heavy, (module, words, heavy)
        assert status == (2 if "no-such-verb" in words else 0) and said, (module, words, status, said)


def test_a_command_without_paddle_ends_in_one_line(tmp_path):
    """Behind correct flags, with a module named paddle that fails, as a corrupt installation does."""
    (tmp_path / "paddle.py").write_text("raise ImportError('libcudnn.so.8: cannot open shared object file')")
    done = subprocess.run(
        [sys.executable, "-m", "glcic.train", "quick", "--run-dir", str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2 and done.stdout == "" and not (tmp_path / "run").exists()
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ") and "libcudnn.so.8" in done.stderr
