"""Long runs that save all the time, for memory and open files that grow: the table of what each paper's run held.

python tests/faults/soak.py --output docs/soak.md
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from runs import PAPERS, Training, expect, measured_with

WATCH = 100  # steps between two readings
MOST_GROWTH = 1.05


@dataclass(frozen=True)
class Options:
    """Train each paper's smallest preset for long, saving all the time, and write what it held."""

    output: Path
    """Markdown file to write, anew after each paper"""
    steps: int = 1000
    """of each run"""
    first: int = 200
    """step that the end is compared with, a multiple of 100"""
    save_seconds: float = 20.0
    """between checkpoints"""
    papers: tuple[str, ...] = tuple(PAPERS)
    """folders"""


def soak(paper: str, folder: Path, options: Options) -> dict[str, list[int]]:
    """Memory (bytes) and open files, every WATCH steps from step `first` to the end, and the number of checkpoints."""
    training = Training(paper, folder, options.steps)
    with training.process(options.save_seconds, watch=WATCH) as leg:
        pass
    expect(leg.status == 0, paper, "did not end well:", leg.err[-2000:])
    seen = {word: [int(value) for _, value in leg.events()[word]] for word in ("memory", "files")}
    start = options.first // WATCH - 1
    return {word: values[start:] for word, values in seen.items()} | {"saved": [len(leg.events()["saved"])]}


def leaks(held: dict[str, dict[str, list[int]]]) -> list[str]:
    """A line for each paper whose memory grew by a twentieth, or whose open files grew in the second half.

    The first checkpoint draws curves, for which Matplotlib opens fonts and keeps them.
    """
    problems = []
    for paper, seen in held.items():
        memory, files = seen["memory"], seen["files"][len(seen["files"]) // 2 :]
        if memory[-1] > MOST_GROWTH * memory[0]:
            problems.append(f"{paper}: memory grew from {memory[0]:,} to {memory[-1]:,} bytes")
        if files[-1] > files[0]:
            problems.append(f"{paper}: open files {files}")
    return problems


def document(options: Options, held: dict[str, dict], seconds: float) -> str:
    """docs/soak.md."""
    lines = [
        "# What a long training holds",
        "",
        "Written by `python tests/faults/soak.py --output docs/soak.md`, not by hand: "
        f"{options.steps:,} steps of each paper's real `train` command on its smallest preset, a checkpoint every "
        f"{options.save_seconds:g} seconds; after every {WATCH} steps the memory of the process and its open files are "
        "read.",
        "",
        f"| paper | checkpoints | memory at step {options.first} | at the end | change | open files |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for paper, seen in held.items():
        before, after = seen["memory"][0], seen["memory"][-1]
        files = " to ".join(str(count) for count in sorted({min(seen["files"]), max(seen["files"])}))
        cells = [paper, *seen["saved"], f"{before / 2**20:.0f} MB", f"{after / 2**20:.0f} MB"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{after / before - 1:+.1%}", files])) + " |")
    problems = leaks(held)
    lines += ["", measured_with(seconds)]
    lines += ["", "What went wrong:", "", *(f"* {problem}" for problem in problems)] if problems else []
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line. Exit status 1 and a line for each leak if there are any."""
    options = tyro.cli(Options)
    held, started = {}, time.time()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for paper in options.papers:
            place = Path(folder, paper)
            place.mkdir()
            held[paper] = soak(paper, place, options)
            options.output.write_text(document(options, held, time.time() - started))
            print(f"{paper}: {time.time() - started:.0f} s", flush=True)
    sys.exit("\n".join(leaks(held)) or 0)


if __name__ == "__main__":
    main()
