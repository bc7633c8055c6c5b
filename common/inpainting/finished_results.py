"""Which results in a folder are whole and what they were made of, so that a run that was stopped can be trusted.

A folder of results holds a hidden file with one line of JSON for each: its name, the SHA-256 of its content, and a key
of all that it depends on. A result that is not as its line says was not finished, or is somebody else's.
"""

import functools
import hashlib
import json
from pathlib import Path

from common.errors import UserError
from common.imaging.folders import RECORD


def digest(path: Path) -> str:
    """The SHA-256 of a file's content. Raises UserError if it cannot be read."""
    try:
        about = path.stat()
        return _digest(path, about.st_mtime_ns, about.st_size)
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror or problem}") from None


@functools.lru_cache(maxsize=16)  # a mask for all photos is asked for with each
def _digest(path: Path, _changed: int, _size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def key(*depends) -> str:
    """One short text for JSON values that a result depends on."""
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:32]


def read_record(folder: Path) -> dict[str, dict]:
    """The lines of a folder by the results' names, the last of each. A line that is none is dropped."""
    found = {}
    try:
        lines = (folder / RECORD).read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["result"]] = {"key": entry["key"], "sha256": entry["sha256"]}
        except (ValueError, KeyError, TypeError):  # cut off by a full disk or a kill
            continue
    return found


def note(folder: Path, result: Path, made_of: str) -> None:
    """Adds a result that was just written. Raises OSError."""
    name = result.relative_to(folder).as_posix()
    entry = json.dumps({"result": name, "key": made_of, "sha256": digest(result)})
    with (folder / RECORD).open("ab") as file:
        file.write(f"\n{entry}\n".encode())  # the line before may have been cut off


def why_not(folder: Path, result: Path, made_of: str, record: dict[str, dict]) -> str:
    """Why a result that is there has to be made again; empty if it is whole and of the same key."""
    entry = record.get(result.relative_to(folder).as_posix())
    try:
        if entry is None or digest(result) != entry["sha256"]:
            return "not a whole result of this suite"
    except UserError:
        return "not a whole result of this suite"
    if entry["key"] == made_of:
        return ""
    return "made of another photo, mask or settings"
