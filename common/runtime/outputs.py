"""Where a command writes, checked before the work."""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from common.errors import UserError


def check_output(path: Path, suffixes: Collection[str] | None = None, sources: Iterable[Path] = ()) -> None:
    """Refuses an output that could not be written at the end of the work. Creates nothing.

    Args:
        path: a file, or, without suffixes, a folder. Neither it nor the folders above it need to exist.
        suffixes: those that the file's name may end in.
        sources: files that the command reads and must not overwrite.

    Raises:
        UserError: the name's suffix is missing or wrong, a folder stands where a file is to be written or the other
            way round, the place is not writable, or it is one of the sources.
    """
    try:
        _check_kind(path, suffixes)
        if any(_same(path, source) for source in sources):
            raise UserError(f"cannot write {path}: it is read by this command, and would be lost; name another file")
        # Files are written under this longer name first; asking for it finds out whether it is too long.
        (path.with_name(f".writing-{path.name}") if suffixes and path.name else path).lstat()
    except (FileNotFoundError, NotADirectoryError):  # told below
        pass
    except (OSError, ValueError) as problem:  # a ValueError is what a name with a NUL gives
        raise UserError(f"cannot write {path}: {getattr(problem, 'strerror', None) or problem}") from None
    above = path if suffixes is None else path.parent
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise UserError(f"cannot write {path}: {above} is no folder")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror or problem} ({above})") from None


def _check_kind(path: Path, suffixes: Collection[str] | None) -> None:
    if suffixes is None:
        if path.exists() and not path.is_dir():
            raise UserError(f"cannot write to {path}: it is a file; name a folder")
        return
    if path.is_dir():
        example = path / f"result{min(suffixes, key=lambda suffix: suffix != '.png')}"
        raise UserError(f"cannot write {path}: it is a folder; name a file in it, such as {example}")
    if path.suffix.lower() not in suffixes:
        if len(suffixes) == 1:
            raise UserError(f"cannot write {path}: name a file that ends in {min(suffixes)}")
        raise UserError(f"cannot write {path}: the name must end in one of {', '.join(sorted(suffixes))}")
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is a pipe or a device; name a file")


def _same(path: Path, other: Path) -> bool:
    """Whether both are the same existing file, through links too."""
    with contextlib.suppress(OSError):
        return path.samefile(other)
    return False
