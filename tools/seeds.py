"""Trains a preset with several seeds; the band of their losses goes to reference_curves.json of the paper's folder.

python -m tools.seeds glcic quick --seeds 3
"""

import importlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.config import parse
from common.errors import UserError
from common.runtime.commands import one_line_errors
from common.runtime.strict_json import json_text
from common.training import reference
from common.training.stats import read_stats

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 3600  # of one run
BEGIN, END = "<!-- band: python -m tools.seeds PAPER PRESET -->", "<!-- end of band -->"
WORDS = {  # page of a paper, in each language -> what stands above the table, and the head of its first column
    "docs/{paper}.md": (
        "Runs of `{preset}` on its drawn images that differed in their seed alone lay in these bands (losses are means "
        "of the last ten steps; {seeds} seeds, mean ± {spreads} standard deviations and at least {least:.0%} of the "
        "mean). A run with the preset's own options says at these steps whether it lies inside.",
        "step",
    ),
    "{paper}/README.zh-CN.md": (
        "预设 `{preset}` 在自绘图片上仅种子不同的 {seeds} 次训练落在下列区间内"
        "（损失为最近十步的平均；均值 ± {spreads} 倍标准差，"
        "且不少于均值的 {least:.0%}）。选项与预设相同的训练会在这些步数报告自己是否在区间内。",
        "步数",
    ),
}


@dataclass(frozen=True)
class Options:
    """Measure the band in which a run of a preset should lie."""

    paper: tyro.conf.Positional[str]
    """Folder of the paper."""
    preset_name: tyro.conf.Positional[str]
    """Preset to train, which draws its own images: quick."""
    seeds: int = 3
    """Number of runs, with the seeds 0, 1, 2 …"""
    steps: Annotated[tuple[int, ...], tyro.conf.arg(metavar="STEP …")] = (10, 20)
    """Steps at which the band is noted, multiples of 10; each run ends at the last of them."""
    run_dir: Path | None = None
    """Folder for the runs; none takes a temporary one."""
    output: Path | None = None
    """File to write; none takes reference_curves.json of the paper's folder, and brings its pages up to date."""


def losses_of(run_dir: Path) -> dict[int, dict[str, float]]:
    """Losses by step, each the mean of the last steps up to there, of a run that may still be going on."""
    found: dict[int, dict[str, float]] = {}
    for line in read_stats(run_dir) if (run_dir / "stats.jsonl").is_file() else []:
        values = {name: value for name, value in line.items() if name not in ("step", "time")}
        found.setdefault(line["step"], {}).update(values)
    return found


def train_until(paper: str, preset: str, last: int, run_dir: Path, *flags: str) -> dict[int, dict[str, float]]:
    """Trains in a process of its own until the losses of step `last` are written, and returns the losses by step.

    Raises:
        UserError: the run ends before that, or takes too long.
    """
    words = [sys.executable, "-m", f"{paper}.train", preset, "--run-dir", str(run_dir), "--device", "cpu", *flags]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said) as process:
        try:
            while last not in losses_of(run_dir):
                if process.poll() is not None:
                    said.seek(0)
                    raise UserError(f"the run ended before step {last}: {said.read().strip()[-500:]}")
                if time.monotonic() - started > LONGEST_SECONDS:
                    raise UserError(f"the run did not come to step {last} within {LONGEST_SECONDS} s")
                time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGTERM)  # it saves, and ends
            process.wait()
    return losses_of(run_dir)


def table(made: dict, page: str) -> str:
    """The bands as a page shows them: a line above, and a Markdown table with a row for each loss."""
    text, head = WORDS[page]
    known = {"seeds": len(made["seeds"]), "spreads": reference.SPREADS, "least": reference.LEAST}
    rows = [
        "| " + " | ".join([head, *(f"{step:,}" for step in made["steps"])]) + " |",
        "|---" * (len(made["steps"]) + 1) + "|",
    ]
    for name, curve in made["curves"].items():
        bands = [reference.band(*curve[str(step)]) if str(step) in curve else () for step in made["steps"]]
        rows.append(
            "| " + " | ".join([f"`{name}`", *(" … ".join(f"{end:.3g}" for end in each) for each in bands)]) + " |"
        )
    return text.format(preset=made["preset"], **known) + "\n\n" + "\n".join(rows)


def write_pages(made: dict, root: Path = ROOT) -> None:
    """Puts the table between its marks in the paper's pages. Raises UserError if a page has none."""
    begin = BEGIN.replace("PAPER", made["paper"]).replace("PRESET", made["preset"])
    for page in WORDS:
        path = root / page.format(**made)
        before, mark, rest = path.read_text(encoding="utf-8").partition(begin)
        if not mark or END not in rest:
            raise UserError(f"{path} has no {begin} with {END} below it")
        path.write_text(f"{before}{begin}\n\n{table(made, page)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line: PAPER PRESET [--seeds N]."""
    options = parse(Options, argv, "python -m tools.seeds", __doc__, seeds=2)
    try:
        config = importlib.import_module(f"{options.paper}.config")
        cfg = config.read_train([options.preset_name], "")
    except ModuleNotFoundError:
        raise UserError(f"there is no paper {options.paper}") from None
    steps = sorted(set(options.steps))
    if not steps or steps[0] < 1 or any(step % 10 for step in steps) or steps[-1] > cfg.total_steps:
        raise UserError(f"--steps {steps}: multiples of 10, up to {cfg.total_steps}, are wanted")
    runs = []
    with tempfile.TemporaryDirectory(prefix="seeds-") as temporary:
        for seed in range(options.seeds):
            folder = (options.run_dir or Path(temporary)) / f"{options.paper}_{seed}"
            runs.append(
                train_until(options.paper, options.preset_name, steps[-1], folder.resolve(), "--seed", str(seed))
            )
            print(f"{options.paper} {options.preset_name}, seed {seed}: {runs[-1][steps[-1]]}", flush=True)
    made = {
        "paper": options.paper,
        "preset": options.preset_name,
        "seeds": list(range(options.seeds)),
        "steps": steps,
        "options": reference.options_of(cfg),
        "computed_by": f"cpu, {platform.machine()}",
        "curves": reference.collect(runs, steps),
    }
    output = options.output or ROOT / options.paper / reference.FILE
    output.write_text(json_text(made, indent=1) + "\n")
    if options.output is None:
        write_pages(made)
    print(f"written: {output}")


if __name__ == "__main__":
    main()
