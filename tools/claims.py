"""Tests what the papers claim: trains and scores each claim's arms, and writes the ledger docs/claims.md.

python -m tools.claims glcic-discriminators --data-dir DIR --seeds 0 1

python -m tools.claims
"""

import json
import math
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.errors import UserError
from common.runtime.commands import one_line_errors
from common.runtime.strict_json import json_text

ROOT = Path(__file__).resolve().parents[1]
SIGMAS = 2  # standard errors that a difference must exceed to count
# Scores: words in the table's head, digits, whether higher is better
SCORES = {
    "hole_psnr_db": ("mask PSNR dB", 2, True),
    "kid_lite0_x1000": ("KID-Lite0 x 1000", 1, False),
    "lpd_lite0": ("LPD-Lite0", 3, False),
    "pixel_accuracy": ("per-pixel", 3, True),
    "mean_iou": ("class IoU", 3, True),
    "psnr_db": ("PSNR dB", 2, True),
}


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, and how it is tested.

    Args:
        paper: folder.
        says: the claim, and where it stands.
        train: flags of `python -m PAPER.train` that all arms share; DATA stands for the folder of `--data-dir`.
        arms: name -> the flags that differ.
        evaluate: flags of `python -m PAPER.evaluate`.
        better: (score, arm, arm): the first arm has to be better by that score for the claim to hold.
        shown: scores of the table.
        published: the paper's own figure.
    """

    paper: str
    says: str
    train: str
    arms: dict[str, str]
    evaluate: str
    better: tuple[tuple[str, str, str], ...]
    shown: tuple[str, ...]
    published: str


GLCIC_64 = (
    "cpu --data-dir DATA/celeba --image-px 64 --mask-px 19 38 --local-px 40 --base-channels 16 --batch-size 4 "
    "--reconstruction l1 --total-steps 2000 --decay-steps 600 --preview-steps 100000"
)
GLCIC_JOINT = "--completion-steps 700 --discriminator-steps 100 --adversarial-weight 4e-3"
PIX2PIX_64 = (
    "cpu --data-dir DATA/cityscapes --direction label-to-photo --image-px 64 --load-px 71 --levels 6 "
    "--total-steps 4000 --decay-epochs 2 --preview-steps 100000"
)
DEEPFILL_64 = (
    "cpu --data-dir DATA/celeba --image-px 64 --total-steps 700 --warmup-steps 200 --beta2 0.99 --decay-steps 420 "
    "--plain-steps 660 --no-guided --preview-steps 100000"
)
CLAIMS = {
    "glcic-discriminators": Claim(
        "glcic",
        "A global and a local discriminator together make completions realistic; without them they are blurred, and "
        "with one of them they are not consistent (Sec. 3.3 and the ablation of the discriminators)",
        GLCIC_64,
        {
            "reconstruction alone": "--completion-steps 2000 --discriminator-steps 0",
            "global": f"{GLCIC_JOINT} --discriminators global",
            "local": f"{GLCIC_JOINT} --discriminators local",
            "both": f"{GLCIC_JOINT} --discriminators both",
        },
        "--data-dir DATA/celeba --mask center --limit 250 --baselines none --perceptual",
        (
            ("kid_lite0_x1000", "both", "reconstruction alone"),
            ("kid_lite0_x1000", "both", "global"),
            ("kid_lite0_x1000", "both", "local"),
        ),
        ("hole_psnr_db", "kid_lite0_x1000", "lpd_lite0"),
        "images alone, no figures",
    ),
    "pix2pix-objectives": Claim(
        "pix2pix",
        "L1 alone blurs; the conditional GAN with L1 is better than each of its parts, and better than an "
        "unconditional GAN with L1 (Sec. 4.1, Table 1)",
        PIX2PIX_64,
        {each: f"--objective {each}" for each in ("l1", "gan", "cgan", "l1+gan", "l1+cgan")},
        "--data-dir DATA/cityscapes --segment-with weights/pix2pix_photo_to_label.safetensors --perceptual",
        (
            ("kid_lite0_x1000", "l1+cgan", "l1"),
            ("kid_lite0_x1000", "l1+cgan", "cgan"),
            ("kid_lite0_x1000", "l1+cgan", "l1+gan"),
        ),
        ("pixel_accuracy", "mean_iou", "psnr_db", "kid_lite0_x1000"),
        "FCN per-pixel accuracy: L1 0.42, GAN 0.22, cGAN 0.57, L1 + GAN 0.64, L1 + cGAN 0.66",
    ),
    "deepfill-convolutions": Claim(
        "deepfill",
        "Gated convolution completes free-form masks better than partial and vanilla convolution (Sec. 3.1, Table 1)",
        DEEPFILL_64,
        {each: f"--layers {each}" for each in ("gated", "partial", "vanilla")},
        "--data-dir DATA/celeba --limit 250 --baselines none --perceptual",
        (("hole_psnr_db", "gated", "partial"), ("hole_psnr_db", "gated", "vanilla")),
        ("hole_psnr_db", "kid_lite0_x1000", "lpd_lite0"),
        "l1 of free-form masks on Places2: gated 9.1 %, partial 10.4 %",
    ),
}


@dataclass(frozen=True)
class Options:
    """Train and score the arms of claims, or, without a name, only write the page."""

    claims: tyro.conf.Positional[tuple[str, ...]] = ()
    """Claims to test: glcic-discriminators, pix2pix-objectives or deepfill-convolutions."""
    data_dir: Path | None = None
    """Folder in which the data sets lie as celeba and cityscapes."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED …")] = (0, 1, 2)
    """Seeds of the trainings of each arm."""
    run_dir: Path = Path("runs/claims")
    """Folder for the runs, which go on where they were stopped."""
    ledger: Path = ROOT / "docs/claims.json"
    """File with the figures; the page stands beside it."""


def commands(claim: Claim, arm: str, seed: int, run: Path) -> tuple[list[str], list[str]]:
    """The command that trains an arm, and the one that scores it; DATA stands for the folder of the data sets."""
    train = ["python", "-m", f"{claim.paper}.train", *shlex.split(f"{claim.train} {claim.arms[arm]}")]
    score = ["python", "-m", f"{claim.paper}.evaluate", *shlex.split(claim.evaluate)]
    train += ["--seed", str(seed), "--run-dir", str(run)]
    return train, [*score, "--weights", str(run / "weights.safetensors"), "--output", str(run)]


def test_arm(claim: Claim, arm: str, seed: int, options: Options, name: str) -> dict:
    """Trains and scores one arm, or goes on with it. Returns its scores, each [value, standard error or None].

    Raises:
        UserError: one of the two commands fails.
    """
    run = options.run_dir / name / f"{arm.replace(' ', '_')}-{seed}"
    for command in commands(claim, arm, seed, run):
        words = [sys.executable, *(word.replace("DATA", str(options.data_dir.resolve())) for word in command[1:])]
        print("+", shlex.join(command), flush=True)
        if subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            raise UserError(f"{shlex.join(command)} failed, see above")
    found = json.loads((run / "scores.json").read_text())
    row = found["rows"]["ours"]
    pairs = {score: row[score] if isinstance(row[score], list) else [row[score], None] for score in claim.shown}
    return {"scores": pairs, "steps": found["steps"]}


# ---- the verdict


def difference(better: dict, worse: dict, score: str) -> tuple[float, float]:
    """By how much the first arm is better, and its standard error, from the seeds that both arms have.

    The error holds the spread between the seeds and that of the images; the images are the same in both arms, so that
    it is rather too large.
    """
    sign = 1 if SCORES[score][2] else -1
    pairs = [(better[seed]["scores"][score], worse[seed]["scores"][score]) for seed in sorted(better.keys() & worse)]
    gains = [sign * (a[0] - b[0]) for a, b in pairs]
    of_images = statistics.mean((a[1] or 0) ** 2 + (b[1] or 0) ** 2 for a, b in pairs) / len(pairs)
    of_seeds = statistics.variance(gains) / len(gains) if len(gains) > 1 else 0.0
    return statistics.mean(gains), math.sqrt(of_images + of_seeds)


def verdict(claim: Claim, arms: dict[str, dict]) -> tuple[str, list[str]]:
    """What the figures say, and the comparisons behind it; one seed alone decides nothing."""
    lines, ratios = [], []
    for score, better, worse in claim.better:
        common = arms.get(better, {}).keys() & arms.get(worse, {}).keys()
        if len(common) < 2:
            return "not tested yet" if not arms else "undecided: fewer than two seeds", lines
        gain, error = difference(arms[better], arms[worse], score)
        words, digits, higher = SCORES[score]
        lines.append(f"{better} against {worse}: {words} {gain if higher else -gain:+.{digits}f} ± {error:.{digits}f}")
        ratios.append(gain / error if error else math.copysign(math.inf, gain))
    if all(ratio > SIGMAS for ratio in ratios):
        return "holds here", lines
    return "does not hold here" if min(ratios) < -SIGMAS else "undecided at this scale", lines


# ---- the page


def page(results: dict[str, dict]) -> str:
    """The ledger as Markdown."""
    lines = [
        "# The papers' claims, tested here",
        "",
        "Written by `python -m tools.claims` from the figures in [claims.json](claims.json). Each arm of a claim is a "
        "training of its own with",
        "the same data, steps and seeds; the tests are small and short, on one CPU core, and say what holds at that "
        "scale. A claim holds here if the arm that it favours is better by more",
        f"than {SIGMAS} standard errors (of seeds and images) in every comparison, and does not if it is worse by as "
        "much in one. DATA stands for the folder with the data sets.",
        "",
        "| paper | claim | verdict |",
        "|---|---|---|",
    ]
    verdicts = {name: verdict(claim, results.get(name, {})) for name, claim in CLAIMS.items()}
    lines += [f"| {CLAIMS[name].paper} | [{name}](#{name}) | {said} |" for name, (said, _) in verdicts.items()]
    for name, claim in CLAIMS.items():
        lines += ["", f"## {name}", "", f"{claim.says}.", "", "```"]
        train, score = commands(claim, next(iter(claim.arms)), 0, Path("runs/claims", name, "ARM-0"))
        lines += [shlex.join(train), shlex.join(score), "```", ""]
        lines += [f"* `{arm}`: `{flags}`" for arm, flags in claim.arms.items()]
        lines += ["", *_table(claim, results.get(name, {})), "", f"**{verdicts[name][0].capitalize()}.**"]
        lines += [f"{'; '.join(verdicts[name][1])}." if verdicts[name][1] else "", f"The paper: {claim.published}."]
    return "\n".join(lines) + "\n"


def _table(claim: Claim, arms: dict[str, dict]) -> list[str]:
    heads = [SCORES[score][0] for score in claim.shown]
    lines = ["| arm | seeds | " + " | ".join(heads) + " |", "|" + "---|" * (2 + len(heads))]
    for arm in (arm for arm in claim.arms if arms.get(arm)):
        cells = [_cell([run["scores"][score] for run in arms[arm].values()], SCORES[score][1]) for score in claim.shown]
        lines.append(f"| {arm} | {len(arms[arm])} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def _cell(values: list[list], digits: int) -> str:
    """The mean over the seeds, and their standard deviation; of one seed, the value and its own error."""
    numbers = [value for value, _ in values]
    spread = statistics.stdev(numbers) if len(numbers) > 1 else values[0][1]
    return f"{statistics.mean(numbers):.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line; see the top of the file."""
    options = tyro.cli(Options, args=argv, prog="python -m tools.claims", description=__doc__)
    if unknown := [name for name in options.claims if name not in CLAIMS]:
        raise UserError(f"no claim {unknown[0]!r}; choose from {', '.join(CLAIMS)}")
    if options.claims and options.data_dir is None:
        raise UserError("testing a claim needs --data-dir, the folder in which celeba and cityscapes lie")
    results = json.loads(options.ledger.read_text()) if options.ledger.exists() else {}
    for seed in options.seeds:
        for name in options.claims:
            for arm in CLAIMS[name].arms:
                runs = results.setdefault(name, {}).setdefault(arm, {})
                if str(seed) not in runs:
                    runs[str(seed)] = test_arm(CLAIMS[name], arm, seed, options, name)
                    options.ledger.write_text(json_text(results, indent=1) + "\n")
    options.ledger.with_suffix(".md").write_text(page(results))
    print(f"written: {options.ledger.with_suffix('.md')}")


if __name__ == "__main__":
    main()
