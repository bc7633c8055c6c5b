"""Files and folders that are either whole or absent."""

import os
import shutil
from pathlib import Path


def replace_whole(final: Path, write) -> None:
    """Calls write(temporary path) beside `final` and renames: `final` is either whole or as it was before."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".writing-{final.name}")
    remove(temporary)
    try:
        write(temporary)
        if temporary.is_file():
            flush(temporary)
        temporary.replace(final)
        flush(final.parent)
    except BaseException:
        remove(temporary)
        raise


def remove_unfinished(*folders: Path) -> None:
    """Removes what `replace_whole` was writing when its process was killed. Nobody else may write there now."""
    for folder in folders:
        for path in folder.glob(".writing-*"):
            remove(path)


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
