"""A run folder whose files are damaged at random is resumed, or refused in one line: never a crash.

The same 1,500 examples every time; SUITE_FUZZ=20 takes twenty times as many.
"""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest

from common.config import RunSettings
from common.errors import UserError
from common.runtime.terminal import escaped_output
from common.training.run import Run
from common.training.stats import read_stats

import paddle

pytestmark = pytest.mark.slow

EXAMPLES = 1500 * int(os.environ.get("SUITE_FUZZ", "1"))
CHECKPOINT = "checkpoints/step_0000002"
JSON_FILES = ("options.json", f"{CHECKPOINT}/progress.json", f"{CHECKPOINT}/checksums.json", "run.lock")
FILES = (*JSON_FILES, "stats.jsonl", f"{CHECKPOINT}/state.safetensors")
ODD = (
    *(
        None,
        True,
        -1,
        0,
        2,
        1e308,
        10**400,
        float("nan"),
        float("inf"),
        "",
        "x",
        "step_0000002",
        "\x1b[2J\nerror: forged",
    ),
    *([], [1], {}, {"step": 2}, {"n": {"scale": "x"}}, [[[[]]]], "../../x", "/", "\ud800", 2**63, "0" * 5000),
)


def a_run(folder, steps):
    cfg = RunSettings(run_dir=folder, total_steps=steps, save_minutes=0.0, preset="test")
    network = paddle.nn.Linear(2, 2)
    return Run(cfg, "paper", {"n": network}, {"n": paddle.optimizer.Adam(parameters=network.parameters())})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two steps, and the lock that a killed process leaves."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = a_run(folder, 2)
    with run:
        for _ in run.steps(lambda first: (() for n in range(2))):
            run.record({"loss": run.networks["n"](paddle.ones([1, 2])).sum().detach()})
        owner = json.loads((folder / "run.lock").read_text())
    (folder / "run.lock").write_text(json.dumps(owner | {"pid": 2**22 + 1}))  # no system numbers processes so high
    return folder


def damaged_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut off, put in, or all of them others."""
    kind, at = rng.integers(5), int(rng.integers(len(data) + 1))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.bytes(int(rng.integers(1, 20))) + data[at:]
    if kind == 2:
        return rng.bytes(int(rng.integers(0, 200)))
    changed = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 6))):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def damaged_json(text: str, rng: np.random.Generator) -> str:
    """One value, or the whole, replaced by an odd one; a key removed, or given twice."""
    odd = ODD[rng.integers(len(ODD))]
    try:
        table = json.loads(text)
    except ValueError:
        return text
    kind = rng.integers(8)
    if kind == 0 or not isinstance(table, dict) or not table:
        return json.dumps(odd)
    key = list(table)[rng.integers(len(table))]
    if kind == 1:
        del table[key]
    elif kind == 2:
        table["unknown"] = odd
    else:
        table[key] = odd
    return json.dumps(table)


def damage(folder, rng: np.random.Generator) -> str:
    """Damages a file or two of a run folder; says which."""
    names = [FILES[n] for n in rng.choice(len(FILES), size=1 + int(rng.integers(4) == 0), replace=False)]
    for name in names:
        path, kind = folder / name, rng.integers(10)
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.unlink()
            path.mkdir()
        elif name in JSON_FILES and kind < 7:
            path.write_text(damaged_json(path.read_text(), rng))
        elif name == "stats.jsonl" and kind < 7:
            lines = path.read_text().splitlines() or ["{}"]
            lines.insert(int(rng.integers(len(lines) + 1)), damaged_json('{"step": 1, "time": 1.0, "loss": 0.5}', rng))
            path.write_text("\n".join(lines))
        else:
            path.write_bytes(damaged_bytes(path.read_bytes(), rng))
    return ", ".join(names)


def test_it_is_resumed_or_refused_in_one_line(whole, tmp_path, capsys):
    outcomes = {"resumed": 0, "begun anew": 0, "refused": 0}
    for seed in range(EXAMPLES):
        folder, rng = tmp_path / "run", np.random.default_rng(seed)
        shutil.copytree(whole, folder)
        what = damage(folder, rng)
        try:
            with escaped_output(), contextlib.closing(a_run(folder, 3).files):
                read_stats(folder)
            outcomes["resumed" if (folder / CHECKPOINT).is_dir() else "begun anew"] += 1
        except UserError as problem:
            assert str(problem) and "\n" not in str(problem), (seed, what)
            outcomes["refused"] += 1
        except Exception as problem:
            raise AssertionError(f"example {seed}, {what}: {type(problem).__name__}: {problem}") from problem
        shutil.rmtree(folder)
        capsys.readouterr()
    assert sum(outcomes.values()) == EXAMPLES and outcomes["resumed"] > 100 and outcomes["refused"] > 100, outcomes
