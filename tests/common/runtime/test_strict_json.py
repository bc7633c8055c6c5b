"""Every file of ours is JSON to a reader that takes nothing else."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np

from common.runtime.strict_json import json_text

ROOT = Path(__file__).parents[3]


def strictly(text):
    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_lacks_are_null_with_place_and_reason():
    values = {"a": {"b": [1.5, math.nan], "c": (math.inf, np.float64(-math.inf))}, "d": 2, "e": np.float64(0.25)}
    assert strictly(json_text(values, reasons={"nan": "one image"})) == {
        "a": {"b": [1.5, None], "c": [None, None]}, "d": 2, "e": 0.25,
        "null_because": {"a.b.1": "one image", "a.c.0": "infinite", "a.c.1": "infinite, below zero"},
    }  # fmt: skip
    assert math.isnan(values["a"]["b"][1])  # the caller's own values are as they were


def test_finite_values_are_written_as_json_dumps_does():
    values = {"a": [1, 2.5, "x", None, True], "b": {"c": {}}}
    assert json_text(values, indent=1) == json.dumps(values, indent=1)


def test_names_that_are_no_text_survive():
    name = os.fsdecode(b"caf\xe9 \xff.png")
    text = json_text({"failed": {name: "broken", "\u56fe": ""}})
    assert text.isascii() and strictly(text) == {"failed": {name: "broken", "\u56fe": ""}}


def test_no_file_is_written_by_pythons_own():
    """json.dumps is for pipes between our own processes."""
    sources = [path for path in ROOT.rglob("*.py") if "tests" not in path.relative_to(ROOT).parts]
    pattern = re.compile(
        r"(write_text|_write|_stats\.write|metadata\W+)\([^\n]*json\.dump|json\.dump\(|metadata.*json\.dumps"
    )
    found = [
        f"{path}: {line}" for path in sources for line in path.read_text("utf-8").splitlines() if pattern.search(line)
    ]
    assert len(sources) > 80
    assert [line for line in found if "benchmarks/exchange.py" not in line] == []
