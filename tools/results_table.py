"""Writes the table of all bundled weights and their scores into docs/weights.md, from weights/manifest.json.

python -m tools.results_table

python -m tools.results_table --check
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common.errors import UserError
from common.evaluation.protocol import best_baselines
from common.runtime.commands import one_line_errors
from weights import FOLDER, read_manifest

ROOT = FOLDER.parent
BEGIN, END = "<!-- results: python -m tools.results_table -->", "<!-- end of results -->"
WORDS = {
    "weights.md": {
        "readme": "README.md",
        "heads": ("paper", "trained on", "steps, time", "MB", "scores on held-out images", "trained by"),
        "hole_psnr_db": "hole PSNR",
        "pixel_accuracy": "pixel accuracy",
        "mean_iou": "mean IoU",
        "minutes": "{:,} steps, {:.0f} min",
    },
    "weights.zh-CN.md": {
        "readme": "README.zh-CN.md",
        "heads": ("论文", "训练数据", "步数与用时", "MB", "未参与训练的图片上的得分", "训练命令"),
        "hole_psnr_db": "缺失区域 PSNR",
        "pixel_accuracy": "像素准确率",
        "mean_iou": "平均 IoU",
        "minutes": "{:,} 步，{:.0f} 分钟",
        "all road": "全部判为道路",
        "real photos": "真实照片",
    },
}
# Beside scores without a list of baselines: of version 0.1's a simple method, of streets the simplest answer, or what
# the judge says of true photos.
BOUNDS = ("Telea", "all road", "real photos")
SHOWN = {"hole_psnr_db": "{:.2f} dB", "pixel_accuracy": "{:.3f}", "mean_iou": "{:.3f}"}


@dataclass(frozen=True)
class Options:
    """Bring the pages up to date with the manifest."""

    check: bool = False
    """write nothing; exit status 1 if a page is out of date"""
    folder: Path = ROOT
    """with docs/weights.md and weights/manifest.json below it"""


def table(manifest: dict[str, dict], page: str) -> str:
    """The manifest as a Markdown table of this page of docs/: a row for each file, by the papers' names."""
    words = WORDS[page]
    heads = words["heads"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, about in sorted(manifest.items(), key=lambda item: (item[1]["paper"], item[0])):
        paper = about["paper"]
        scores = [line for result in about["evaluation"] for line in told_scores(result, words)]
        cells = [
            f"[{paper}](../{paper}/{words['readme']}): `{name}`",
            about["data"],
            words["minutes"].format(about["steps"], about["wall_minutes"]),
            f"{about['bytes'] / 1e6:.1f}",
            "<br>".join(scores),
            f"`{about['command']}`",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def told_scores(result: dict, words: dict) -> list[str]:
    """A line for each set of an evaluation: our scores, and in brackets those of the best baseline, or of BOUNDS."""
    lines = []
    for part in result.get("kinds", {"": result}).values():
        ours = part["rows"]["ours"]
        bounds = (name for name in BOUNDS if name in part["rows"])
        beside = best_baselines(part, ["hole_psnr_db"]).get("hole_psnr_db") or next(bounds, None)
        other = part["rows"].get(beside, {})
        told = []
        for score, form in SHOWN.items():
            if score in ours:
                told.append(f"{words[score]} {_shown(form, ours[score])}")
            if score in ours and score in other:
                told[-1] += f" ({words.get(beside, beside)} {_shown(form, other[score])})"
        masks = f"`{part['masks']}`: " if "masks" in part else ""
        lines.append(masks + ", ".join(told))
    return lines


def _shown(form: str, score: float | list[float | None] | None) -> str:
    """A score as the manifest has it, the mean with its standard error or alone; – for one that is no finite number."""
    mean = score[0] if isinstance(score, list) else score
    return "–" if mean is None else form.format(mean)


def renewed(path: Path, new: str) -> tuple[str, str]:
    """A page's text, and the same with the new table. Raises UserError for one without the two markers in order."""
    text = path.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path} has no place for the table; put in the lines {BEGIN} and {END}")
    return text, f"{head}{begin}\n\n{new}\n\n{end}{tail}"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if --check finds a page out of date."""
    options = tyro.cli(Options, args=argv, prog="python -m tools.results_table", description=__doc__)
    manifest = read_manifest(options.folder / "weights")
    if not manifest:
        raise UserError(f"there is no manifest in {options.folder / 'weights'}")
    late = []
    for name in WORDS:
        path = options.folder / "docs" / name
        if not path.exists():
            continue
        before, after = renewed(path, table(manifest, name))
        if after != before:
            late.append(name)
            if not options.check:
                path.write_text(after, encoding="utf-8")
    if options.check and late:
        print(f"out of date: {', '.join(late)}; run python -m tools.results_table")
        raise SystemExit(1)
    print(f"written: {', '.join(late)}" if late else "the pages are up to date")


if __name__ == "__main__":
    main()
