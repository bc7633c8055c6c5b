"""Faults that are really injected into the training of every paper, and the table of what they did.

python tests/faults/harness.py --kills 20 --output docs/reliability.md

runs.py starts the processes (child.py) and compares, faults.py injects; test_faults.py runs a quick part of the same.
"""

import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from faults import EXACT, NEED_MOUNT, OTHER_END, can_mount, killed_at_random
from folders import interrupt_folder, keep_kinds, kinds_kept
from runs import PAPERS, Row, Training, measured_with


def random_kills(paper: str, folder: Path, kills: int, steps: int, undisturbed: tuple, rows: dict) -> None:
    """Runs that are killed until `kills` kills have been injected; most of the time one run is long enough."""
    rng, number, left = random.Random(f"{paper} {kills}"), 0, kills
    while left:
        number += 1
        training = Training(paper, make(folder / f"kills-{number}"), steps, rows)
        while left and killed_at_random(training, rng, undisturbed[1], left):
            left -= 1
        training.complete(undisturbed[0])


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def every_fault(paper: str, folder: Path, options: "Options", rows: dict[str, Row]) -> list[str]:
    """All faults into runs of one paper; returns what went wrong."""
    problems = []
    undisturbed = Training(paper, make(folder / "undisturbed"), options.steps)
    first = undisturbed.complete()

    def attempt(work: Callable, *arguments) -> None:
        problems.extend(tried(work, *arguments))

    attempt(random_kills, paper, folder, options.kills, options.steps, (undisturbed, first), rows)
    together = Training(paper, make(folder / "exact"), options.steps, rows)
    for fault in EXACT:
        if fault not in NEED_MOUNT or can_mount():
            attempt(fault, together)
    attempt(together.complete, undisturbed)
    for fault in OTHER_END:
        alone = Training(paper, make(folder / fault.__name__), options.steps, rows)
        attempt(fault, alone)
    return problems


def tried(work: Callable, *arguments) -> list[str]:
    """What went wrong, for the end of the document; the other faults are still injected."""
    try:
        work(*arguments)
    except Exception as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
        return [f"{type(problem).__name__}: {problem}"]
    return []


@dataclass(frozen=True)
class Options:
    """Inject every fault into every paper's training, and write the table of what happened."""

    output: Path
    """Markdown file to write"""
    kills: int = 20
    """at random moments, per paper"""
    folder_kills: int = 3
    """of a folder of photos, per paper and signal"""
    steps: int = 150
    """of each run"""
    papers: tuple[str, ...] = tuple(PAPERS)
    """folders"""


def main() -> None:
    options = tyro.cli(Options)
    rows: dict[str, Row] = {}
    problems, started = [], time.time()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for paper in options.papers:
            problems += every_fault(paper, Path(folder, paper), options, rows)
            print(f"{paper}: {len(problems)} problems so far, {time.time() - started:.0f} s", flush=True)
        kept, folder_rows = {}, {}
        for paper in (paper for paper in options.papers if paper in kinds_kept().PAPERS):
            problems += tried(interrupt_folder, paper, Path(folder, paper, "photos"), options.folder_kills, folder_rows)
            kept[paper] = keep_kinds(paper, Path(folder, paper, "kinds"))
            problems += [f"{paper}: {kind} {said}" for kind, said in kept[paper].items() if said != "yes"]
        options.output.write_text(document(options, rows, folder_rows, kept, problems, time.time() - started))
    raise SystemExit("\n".join(problems) if problems else 0)


def document(options: Options, rows: dict, folder_rows: dict, kept: dict, problems: list[str], seconds: float) -> str:
    """docs/reliability.md."""
    command = f"python tests/faults/harness.py --kills {options.kills} --output docs/reliability.md"
    lines = [
        "# What training survives",
        "",
        f"Written by the fault harness, not by hand:\n\n    {command}",
        "",
        f"Every fault is injected into a process that runs a paper's real `train` command on its smallest preset "
        f"({options.steps} steps): {', '.join(options.papers)}. The same command then goes on. "
        "A run counts as completed when it ends with the weights, moments, log and files of an undisturbed run, the "
        "tensors equal bit for bit; in the last four rows images were passed over, so that it is a whole run, but "
        "another one. Lost: a checkpoint that had been reported as written, or a file of the run, that is gone or "
        "corrupt after the fault. Time to resume: from the command to its first step, median and longest, most of it "
        "the import of Paddle.",
        "",
        "| fault | injected | runs completed | checkpoints lost | files lost | time to resume |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {fault} | {describe(row)} |" for fault, row in rows.items()]
    lines += [
        "",
        "A folder of photos, interrupted at random moments and started again with `infer --skip-existing` until it is "
        "done: results that differ from an undisturbed run's in a single byte, or are missing at the end, are lost.",
        "",
        "| signal | injected | folders completed | results lost |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {row.injected} | {row.completed} of {row.runs} | {row.files_lost} |"
            for name, row in folder_rows.items()
        ),
        "",
        *kinds_table(kept),
    ]
    lines += ["", "What a long training holds, memory and open files, `python tests/faults/soak.py` tells."]
    lines += ["", measured_with(seconds), ""]
    lines += ["What went wrong:", "", *(f"* {problem.splitlines()[0]}" for problem in problems), ""] if problems else []
    return "\n".join(lines)


def kinds_table(kept: dict[str, dict[str, str]]) -> list[str]:
    """Kinds of files, and whether each paper's `infer` keeps their known pixels."""
    kinds = list(next(iter(kept.values()), {}))
    return [
        "Kinds of files whose known pixels come back bit for bit, with their depth, greyness and alpha, in the PNG "
        "that `infer` writes (for JPEG and GIF, as they decode):",
        "",
        f"| photo | {' | '.join(kept)} |",
        "| --- |" + " --- |" * len(kept),
        *(f"| {kind} | {' | '.join(each[kind] for each in kept.values())} |" for kind in kinds),
    ]


def describe(row: Row) -> str:
    times = [value for value in row.resume_seconds if math.isfinite(value)]
    resume = f"{statistics.median(times):.1f} s, {max(times):.1f} s" if times else "–"
    return f"{row.injected} | {row.completed} of {row.runs} | {row.checkpoints_lost} | {row.files_lost} | {resume}"


if __name__ == "__main__":
    main()
