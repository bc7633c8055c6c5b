"""Small trained weights, one file for each paper (two for pix2pix); manifest.json says where each comes from."""

import hashlib
import json
from pathlib import Path

from common.errors import UserError
from common.runtime.commands import next_command

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"


def read_manifest(folder: Path = FOLDER) -> dict[str, dict]:
    """What is known of each file, by the file's name without its suffix; empty where nothing has been packed.

    Raises:
        UserError: the manifest is corrupt.
    """
    try:
        return json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise UserError(f"cannot read {folder / MANIFEST}: {problem}; fetch it anew (git checkout weights)") from None


def find(name: str, folder: Path = FOLDER) -> Path:
    """The file of these weights, after a look at its checksum.

    Raises:
        UserError: there are no weights of that name, or the file is not the one that was packed.
    """
    known = read_manifest(folder)
    if name not in known:
        raise UserError(f"there are no weights {name} in {folder}; choose from {', '.join(known) or 'none'}")
    path = folder / known[name]["file"]
    if not path.is_file():
        raise UserError(f"{path} is missing; fetch it anew (git checkout weights)")
    if hashlib.sha256(path.read_bytes()).hexdigest() != known[name]["sha256"]:
        raise UserError(f"{path} is not the file of the manifest (SHA-256); fetch it anew (git checkout weights)")
    return path


def of_paper(paper: str, folder: Path = FOLDER) -> list[str]:
    """The names of a paper's weights, the folder's name being the paper's."""
    return [name for name, about in read_manifest(folder).items() if about["paper"] == paper]


def bundled(paper: str, folder: Path = FOLDER) -> list[Path]:
    """The files of a paper's weights, each after a look at its checksum.

    Raises:
        UserError: there are none (yet), or one of them is not the file that was packed.
    """
    names = of_paper(paper, folder)
    if not names:
        raise UserError(
            f"there are no weights of {paper} in {folder} yet; give --weights FILE, such as "
            f"`{next_command(f'{paper}.train', 'quick')}` writes"
        )
    return [find(name, folder) for name in names]
