"""Writes a folder for each weights file that can be published: the file, a model card and a picture of failures.

python -m tools.publish_weights glcic_faces --output published

python -m tools.publish_weights glcic_faces --output published --repo USER/REPOSITORY
"""

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.checkpoint.atomic import replace_whole
from common.checkpoint.weights import read_weights
from common.errors import UserError, first_line
from common.runtime.commands import next_command, one_line_errors
from common.runtime.outputs import check_output
from weights import FOLDER, find, read_manifest

DOCS = FOLDER.parent / "docs"
TOKEN = "AISTUDIO_ACCESS_TOKEN"  # of the environment, as aistudio-sdk reads it
KEPT_TOKEN = ".cache/aistudio/.auth/token"  # in the home folder, where its `aistudio login` keeps it

WORST = "The five held-out images with the lowest PSNR, the worst first, beside the five with the highest."
PICTURES = {  # name of the weights -> picture and what it shows; the others have {paper}_worst_best.jpg
    "pix2pix_photo_to_label": (
        "pix2pix_cityscapes.png",
        "Held-out streets, both directions. Of this direction there is no picture of the worst alone.",
    ),
}
USE = """For studying the paper, for tests and demonstrations of its code, and as a start for training on own images.
The network was trained for {minutes:.0f} minutes on few images: it shows that the code learns, not what the paper
reaches. It knows images like those that it was trained on ({data}), {px} px wide, and no others.
What it paints is invented. It must not be used to recognise or to deceive people, nor against the terms of its data."""
COLUMNS = {  # of scores.json -> heading
    "hole_l1_percent": "hole L1 %",
    "hole_psnr_db": "hole PSNR dB",
    "hole_ssim": "hole SSIM",
    "image_psnr_db": "image PSNR dB",
    "image_ssim": "image SSIM",
    "lpd_lite0": "LPD-Lite0",
    "kid_lite0_x1000": "KID-Lite0 x 1000",
    "swd_x1000": "SWD x 1000",
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
    "mean_iou": "mean IoU",
    "l1_percent": "L1 %",
    "psnr_db": "PSNR dB",
    "ssim": "SSIM",
}


@dataclass(frozen=True)
class Options:
    """Write model cards for bundled weights, and upload one of them to AI Studio."""

    names: tyro.conf.Positional[tuple[str, ...]]
    """Names of the weights, as weights/manifest.json has them."""
    output: Path
    """Folder in which each of the names gets a folder of its own."""
    repo: str = ""
    """Model repository on AI Studio, USER/REPOSITORY, to upload the one folder to. Make it there first, with a licence
    that the terms of the data allow; needs a token and aistudio-sdk (pip install -e ".[publish]")."""
    weights: Path = FOLDER
    """Folder with the weights and their manifest.json."""


def card(name: str, about: dict, metadata: dict, picture: tuple[str, str]) -> str:
    """The model card, in Markdown: use, data and its terms, scores beside those of other methods, failures.

    Args:
        about: the entry of the manifest.
        metadata: what the weights file says of itself.
        picture: a file's name beside the card, and what it shows.
    """
    paper = about["paper"]
    title = (importlib.import_module(paper).__doc__ or paper).splitlines()[0]
    use = USE.format(minutes=about["wall_minutes"], data=about["data"], px=metadata["image_px"])
    mask = [] if paper == "pix2pix" else ["--mask", "MASK"]
    words = ["--weights", about["file"], "--input", "PHOTO", *mask, "--output", "RESULT.png"]
    command = next_command(f"{paper}.infer", *words)
    facts = {
        "parameters": f"{about['numbers']:,}, float16",
        "data": about["data"],
        "command": f"`{about['command']}`",
        "steps": f"{about['steps']:,}, {about['wall_minutes']:.0f} minutes on {about['hardware']}",
        "Paddle": about["paddle"],
        "SHA-256": f"`{about['sha256']}`",
    }
    parts = [
        f"# {name}\n\n{title}",
        f"## Intended use\n\n{use}\n\n```\n{command}\n```",
        f"## Terms of the data\n\n{about['terms']}. The official page of the data has the terms that count.",
        "## Training\n\n" + table(["what", "value"], [[*fact] for fact in facts.items()]),
        "## Scores\n\nMeans over held-out images ± their standard errors. `ours` is this network.",
        *(part for scored in about["evaluation"] for part in score_tables(scored)),
        f"## Failures\n\n{picture[1]}\n\n![failures]({picture[0]})",
    ]
    return "\n\n".join(parts) + "\n"


def score_tables(scored: dict) -> list[str]:
    """The command of an evaluation, and a table of each of its kinds of masks."""
    command = scored["command"].replace("--masks ", "--mask ")  # of scores that version 0.1 wrote
    parts = [f"```\n{command}\n```"]
    for kind in scored.get("kinds", {"": scored}).values():
        columns = [name for name in COLUMNS if any(name in row for row in kind["rows"].values())]
        rows = [[name, *(shown(row.get(column)) for column in columns)] for name, row in kind["rows"].items()]
        first = f"`{kind['masks']}` masks" if "masks" in kind else "labels"
        parts.append(table([first, *(COLUMNS[name] for name in columns)], rows))
    return parts


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def shown(score: float | list[float | None] | None) -> str:
    """A score as the manifest has it: a mean and its standard error, or one number; empty for what was not scored."""
    numbers = [number for number in (score if isinstance(score, list) else [score]) if number is not None]
    return " ± ".join(f"{number:.4g}" for number in numbers)


def write(name: str, options: Options) -> Path:
    """Writes the folder of these weights and returns it.

    Raises:
        UserError: there are no such weights, or the file is not the one of the manifest.
    """
    path, about = find(name, options.weights), read_manifest(options.weights)[name]
    picture = PICTURES.get(name, (f"{about['paper']}_worst_best.jpg", WORST))
    text = card(name, about, read_weights(path)[1], picture)
    folder = options.output / name
    folder.mkdir(parents=True, exist_ok=True)
    for source in (path, DOCS / picture[0]):
        replace_whole(folder / source.name, lambda temporary, source=source: shutil.copyfile(source, temporary))
    replace_whole(folder / "README.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return folder


# ---- AI Studio


def open_hub():
    """The module of aistudio-sdk that uploads. Raises UserError if it, or a token, is missing."""
    try:
        from aistudio_sdk import hub  # noqa: PLC0415
    except ImportError:
        raise UserError('--repo needs aistudio-sdk: pip install -e ".[publish]"') from None
    if not os.environ.get(TOKEN) and not (Path.home() / KEPT_TOKEN).is_file():
        raise UserError(f"--repo needs your AI Studio token: set {TOKEN}, or `aistudio login`")
    return hub


def upload(hub, folder: Path, repo: str) -> None:
    """Uploads the files of a folder. Raises UserError with the first line of what AI Studio, or the network, says."""
    try:
        hub.upload_folder(
            repo_id=repo, folder_path=str(folder), commit_message=f"{folder.name}: weights and model card"
        )
    except Exception as problem:
        raise UserError(f"AI Studio did not take {folder} for {repo}: {first_line(problem)}") from None


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m tools.publish_weights", description=__doc__)
    check_output(options.output)
    hub = None
    if options.repo:
        if len(options.names) != 1 or options.repo.count("/") != 1 or not all(options.repo.split("/")):
            raise UserError(f"--repo {options.repo}: it is USER/REPOSITORY, and takes the weights of one name")
        hub = open_hub()
    for name in options.names:
        folder = write(name, options)
        print(f"written: {folder}")
        if hub:
            upload(hub, folder, options.repo)
            print(f"uploaded to {options.repo}")


if __name__ == "__main__":
    main()
