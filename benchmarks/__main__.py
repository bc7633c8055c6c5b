"""How fast we are, each row beside a peer in the same run: A B A B …, same threads, same allocator settings.

    python -m benchmarks --json FILE --markdown FILE

    python -m benchmarks glcic pix2pix-infer --rounds 7

A row's name, or its beginning up to a hyphen, chooses rows; growth-batch and its kin are curves, drawn as plots. For
most rows the peer is PyTorch (pip install -e ".[bench]"): the same network with the same weights, or the same step of
training, compared with ours before anything is timed.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import report
from benchmarks.pairs import ROOT, Row, measure
from benchmarks.rows import Curve, all_curves, all_rows
from common.config import at_least
from common.errors import UserError
from common.runtime.commands import one_line_errors

CURVE_ROUNDS = 3  # at most, for each point of a curve


@dataclass(frozen=True)
class Options:
    """Measure rows and curves."""

    rows: tyro.conf.Positional[tuple[str, ...]] = ()
    """rows, curves, or beginnings of their names such as glcic or growth; none: all"""
    rounds: int = 7
    """paired measurements of each row"""
    threads: int = 2
    """of each side"""
    json: Path | None = None
    """file for the result, written anew after each row"""
    markdown: Path | None = None
    """file for the result as a page with a table"""
    plots_dir: Path = ROOT / "docs"
    """folder for the curves' images"""
    data_dir: Path | None = None
    """images for the readers: CelebA or any folder; none: some are drawn"""
    device: Literal["cpu", "gpu"] = "cpu"
    """of both sides"""
    alone: bool = False
    """without the peer"""
    peer_python: Path = Path(sys.executable)
    """interpreter that has PyTorch, where it cannot live beside Paddle"""

    @property
    def peer(self) -> Path | None:
        """The peer's interpreter; None if there is to be no peer."""
        return None if self.alone else self.peer_python


def choose(wanted: tuple[str, ...], rows: list[Row], curves: list[Curve]) -> tuple[list[Row], list[Curve]]:
    """The rows and curves of these names, or whose names begin with them and a hyphen.

    Raises:
        UserError: a name that fits nothing.
    """
    names = [row.name for row in rows] + [curve.row.name for curve in curves]
    for word in wanted:
        if not any(_fits(name, word) for name in names):
            raise UserError(f"there is no row {word!r}; choose from {', '.join(names)}")

    def chosen(name: str) -> bool:
        return not wanted or any(_fits(name, word) for word in wanted)

    return [row for row in rows if chosen(row.name)], [curve for curve in curves if chosen(curve.row.name)]


def _fits(name: str, word: str) -> bool:
    return name == word or name.startswith(word + "-")


def need_torch(python: Path) -> None:
    """Raises UserError when an interpreter has no PyTorch."""
    try:
        done = subprocess.run([str(python), "-c", "import numpy, torch"], capture_output=True)
    except OSError as problem:
        raise UserError(f"cannot start --peer-python {python}: {problem.strerror}") from None
    if done.returncode:
        raise UserError(
            f'the peer is PyTorch, which {python} does not have: pip install -e ".[bench]", or name with --peer-python '
            "an interpreter that has it"
        )


def draw(curve: Curve, options: Options, failures: list[str]) -> dict:
    """Measures all points of a curve. A point that cannot be measured (as for want of memory) is told and left out."""
    points = []
    for value in curve.values:
        row = replace(curve.row, settings={**curve.row.settings, curve.setting: value})
        try:
            found = measure(row, min(options.rounds, CURVE_ROUNDS), options.threads, options.peer, options.device)
        except UserError as problem:
            failures.append(f"{row.name} at {value:,}: {problem}")
            print(f"not measured: {failures[-1]}", file=sys.stderr)
            continue
        points.append({"at": value, **found})
        print(f"{row.name} at {value:,}: {report.table_row(found)}", flush=True)
    return {"name": curve.row.name, "note": curve.row.note, "setting": curve.setting, "points": points}


def run(options: Options) -> dict:
    """Measures everything that was chosen; see the module for what comes out."""
    data_dir = str(options.data_dir.resolve()) if options.data_dir else None
    rows, curves = choose(options.rows, all_rows(data_dir, options.threads), all_curves())
    if options.alone and curves:
        raise UserError("curves are drawn beside a peer; name rows, or leave out --alone")
    if not options.alone and any(row.torch for row in [*rows, *(curve.row for curve in curves)]):
        need_torch(options.peer_python)
    result = {"machine": report.machine(options.threads), "rows": [], "curves": [], "failures": []}
    versions, plots = result["machine"]["versions"], {}

    def keep() -> None:
        for one in (*result["rows"], *(point for curve in result["curves"] for point in curve["points"])):
            versions.update(one.pop("versions", {}))
        if options.json:
            report.write_json(options.json, result)

    if rows:
        print(report.HEAD, flush=True)
    for row in rows:
        try:
            result["rows"].append(measure(row, options.rounds, options.threads, options.peer, options.device))
            print(report.table_row(result["rows"][-1]), flush=True)
        except UserError as problem:
            result["failures"].append(f"{row.name}: {problem}")
            print(f"not measured: {result['failures'][-1]}", file=sys.stderr)
        keep()
    for curve in curves:
        result["curves"].append(draw(curve, options, result["failures"]))
        if result["curves"][-1]["points"]:
            path = options.plots_dir / f"{curve.row.name.replace('-', '_')}.png"
            plots[curve.row.name] = report.plot(curve, result["curves"][-1]["points"], path)
            print(f"written: {path}")
        keep()
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(report.markdown(result, plots, options.markdown), encoding="utf-8")
    return result


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any row could not be measured."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks", description=__doc__)
    at_least(options, rounds=1, threads=1)
    if run(options)["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
