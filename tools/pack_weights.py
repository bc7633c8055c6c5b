"""Packs the networks of a finished run into weights/NAME.safetensors, in float16, and notes in the manifest where
they come from. Packing again updates the entry.

python -m tools.pack_weights runs/glcic/cpu glcic_faces --data celeba --images "4,500 faces" --hardware "1 core"

python -m tools.pack_weights … --scores FOLDER/scores.json --scores-commands "python -m glcic.evaluate …"
"""

import hashlib
import importlib
import json
import shlex
import statistics
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from safetensors.numpy import save_file

from common.checkpoint.atomic import replace_whole
from common.checkpoint.weights import read_weights
from common.config import FREE_FIELDS, to_json
from common.errors import UserError
from common.runtime.commands import one_line_errors
from common.runtime.outputs import check_output
from common.runtime.strict_json import json_text
from common.training.stats import read_stats
from weights import FOLDER, MANIFEST, read_manifest

# Our reading; the terms on the official page are what counts.
TERMS = {
    "celeba": "CelebA: non-commercial research and education only; so are weights trained on it",
    "cityscapes": "Cityscapes: non-commercial research and education only; so are weights trained on it",
    "facades": "CMP Facade Database: collected for research; ask its authors before any other use",
    "drawn": "images drawn by data/synthetic.py: under the licence of this repository",
}
PAUSE_SECONDS, PAUSE_TIMES = 60, 10  # between two lines of the log: at least so long, and so many times the usual


@dataclass(frozen=True)
class Options:
    """Pack the weights of a finished run."""

    run_dir: tyro.conf.Positional[Path]
    """what `train` wrote"""
    name: tyro.conf.Positional[str]
    """of the file"""
    data: Literal[tuple(TERMS)]
    """the data set, whose terms are noted"""
    images: str
    """which of it: how many, and of what kind"""
    hardware: str
    """what the run was computed on: cores, threads"""
    keep: tuple[str, ...] = ()
    """networks to keep; none given: all but discriminators, which few papers need once they are trained"""
    scores: tuple[Path, ...] = ()
    """scores.json of the paper's `evaluate`, of the packed file"""
    scores_commands: tuple[str, ...] = ()
    """the command that wrote each of them"""
    output: Path = FOLDER
    """folder of the file and its manifest"""


def pack(options: Options) -> dict:
    """Writes the file and its entry in the manifest, which is returned.

    Raises:
        UserError: no finished run, no such network, numbers that float16 does not hold, or scores of another run.
    """
    if Path(options.name).name != options.name:
        raise UserError(f"{options.name!r} is no name of a file; --output names the folder")
    check_output(options.output)
    check_output(options.output / f"{options.name}.safetensors", [".safetensors"])
    tensors, metadata = read_weights(options.run_dir / "weights.safetensors")
    settings, stats = read_run(options.run_dir, metadata)
    kept, metadata = choose(tensors, metadata, options.keep)
    path = options.output / f"{options.name}.safetensors"
    write(path, halve(kept), metadata)
    if len(options.scores) != len(options.scores_commands):
        raise UserError("--scores and --scores-commands belong together; give as many of each")
    before, after = commits_around(stats[0]["time"], metadata["paper"])
    entry = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "paper": metadata["paper"],
        "numbers": sum(array.size for array in kept.values()),
        "command": training_command(settings),
        "commit": before,
        "commit_after": after,
        "paddle": settings["paddle"],
        "data": f"{options.data}, {options.images}",
        "terms": TERMS[options.data],
        "steps": metadata["step"],
        "wall_minutes": round(wall_seconds([line["time"] for line in stats]) / 60, 1),
        "hardware": options.hardware,
        "evaluation": [
            scores_of(*each, metadata) for each in zip(options.scores, options.scores_commands, strict=True)
        ],
    }
    known = {**read_manifest(options.output), options.name: entry}
    text = json_text({name: known[name] for name in sorted(known)}, indent=1) + "\n"
    replace_whole(options.output / MANIFEST, lambda temporary: temporary.write_text(text))
    return entry


def read_run(folder: Path, metadata: dict) -> tuple[dict, list[dict]]:
    """Settings and log of a run. Raises UserError if they are missing, or are not those of the weights."""
    try:
        settings = json.loads((folder / "options.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{folder} is no run: it has no options.json that can be read") from None
    stats = read_stats(folder)
    if not stats:
        raise UserError(f"{folder} has no stats.jsonl, so that nobody knows when it ran")
    if (settings["paper"], settings["total_steps"]) != (metadata.get("paper"), metadata.get("step")):
        raise UserError(
            f"{folder}: the run is {settings['paper']} of {settings['total_steps']} steps, its weights "
            f"{metadata.get('paper')} of {metadata.get('step')}; pack a finished run"
        )
    return settings, stats


# ---- tensors


def choose(tensors: dict[str, np.ndarray], metadata: dict, keep: tuple[str, ...] = ()) -> tuple[dict, dict]:
    """The tensors of the networks to keep, and the description without the others.

    Raises:
        UserError: there is no network of that name, or none is left.
    """
    networks = sorted({name.split(".")[0] for name in tensors})
    keep = keep or tuple(name for name in networks if "discriminator" not in name)
    missing = [name for name in keep if name not in networks]
    if missing or not keep:
        raise UserError(f"there is no network {', '.join(missing)} in the weights; choose from {', '.join(networks)}")
    kept = {name: value for name, value in tensors.items() if name.split(".")[0] in keep}
    return kept, {name: value for name, value in metadata.items() if name not in networks or name in keep}


def halve(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float32 -> float16; whole numbers stay.

    Raises:
        UserError: a number is not finite, or is none in float16 (65,504 is its largest).
    """
    halved = {}
    for name, value in tensors.items():
        halved[name] = value
        if np.issubdtype(value.dtype, np.floating):
            with np.errstate(over="ignore"):
                halved[name] = value.astype(np.float16)
            if not np.isfinite(halved[name]).all():
                largest = float(np.abs(value).max())
                raise UserError(f"{name} does not fit into float16: its largest number is {largest:g}; train it anew")
    return halved


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict) -> None:
    """Writes the file, and reads it with the paper's own `load` before it is there."""

    def save(temporary: Path) -> None:
        save_file(tensors, temporary, metadata={"metadata": json_text(metadata)})
        importlib.import_module(f"{metadata['paper']}.infer").load(temporary)

    replace_whole(path, save)


# ---- where they come from


def training_command(settings: dict) -> str:
    """The command of a run: what differs from its preset, and files and folders by their last names alone."""
    preset = importlib.import_module(f"{settings['paper']}.config").PRESETS[settings["preset"]][1]
    usual, paths = to_json(preset), {field.name for field in fields(preset) if "Path" in str(field.type)}
    words = ["python", "-m", f"{settings['paper']}.train", settings["preset"]]
    if settings["data_dir"]:
        words += ["--data-dir", Path(settings["data_dir"]).name]
    free = FREE_FIELDS - {"total_steps"}
    for name, value in settings.items():
        if name in free or name not in usual or usual[name] == value:
            continue
        flag = name.replace("_", "-")
        if name in paths and value:
            words += [f"--{flag}", Path(value).name]
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def wall_seconds(times: list[float]) -> float:
    """Seconds between the first and the last line of a log, without the pauses between a run's sessions."""
    gaps = np.diff(times).tolist()
    limit = max(PAUSE_SECONDS, PAUSE_TIMES * statistics.median(gaps or [0]))
    return sum(gap for gap in gaps if gap <= limit)


def commits_around(started: float, paper: str) -> tuple[str, str]:
    """The last commit before a run began, and the first after that which touched its code.

    What ran was the work between the two. Empty where there is none, or no repository.
    """
    ours = ["git", "-C", str(Path(__file__).parents[1]), "log", "--format=%at %h"]

    def log(*folders: str) -> list[list[str]]:
        try:
            done = subprocess.run([*ours, "--", *folders], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return []
        return sorted((line.split() for line in done.stdout.splitlines()), key=lambda words: int(words[0]))

    before = [commit for time, commit in log() if int(time) <= started]
    after = [commit for time, commit in log(paper, "common") if int(time) > started]
    return (before or [""])[-1], (after or [""])[0]


def scores_of(path: Path, command: str, metadata: dict) -> dict:
    """A scores.json for the manifest: with its command, rounded, and without the paths of the machine.

    Raises:
        UserError: it cannot be read, or is of other weights.
    """
    try:
        scores = json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"there are no scores in {path}; `evaluate --output FOLDER` writes them") from None
    if scores.get("steps") != metadata["step"]:
        raise UserError(f"{path} scores weights of {scores.get('steps')} steps, these have {metadata['step']}")
    return {"command": command, **_rounded({k: v for k, v in scores.items() if k not in ("weights", "data")})}


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m tools.pack_weights", description=__doc__)
    entry = pack(options)
    folder = options.output
    total = sum(about["bytes"] for about in read_manifest(folder).values())
    print(f"written: {folder / entry['file']}, {entry['numbers']:,} numbers, {entry['bytes'] / 1e6:.1f} MB")
    print(f"{folder / MANIFEST}: {total / 1e6:.1f} MB in all")


if __name__ == "__main__":
    main()
