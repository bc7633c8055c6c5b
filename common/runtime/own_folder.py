"""A folder for the temporary files of one process: removed when it ends and, if it was killed, by the next one."""

import atexit
import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # another system than Unix: what was left behind cannot be told from what is in use, and stays
    fcntl = None

LOCK = ".in-use-by-its-process"  # held as long as the process lives; holds the folder's name, so that no copy is one
_locks = []


def own_folder(parent: str | None, prefix: str) -> Path:
    """A new folder in parent, or where temporary files are; those of earlier processes that have ended are removed."""
    parent = Path(parent or tempfile.gettempdir()).resolve()
    parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.suppress(OSError, AttributeError):  # a file system without locks
        _locks.append((folder / f"{LOCK}.new").open("w"))
        fcntl.flock(_locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locks[-1].write(folder.name)
        _locks[-1].flush()
        (folder / f"{LOCK}.new").rename(folder / LOCK)  # nobody finds it without its lock
    return folder


def remove_left_behind(parent: Path, prefix: str) -> None:
    """Removes folders that `own_folder` made for processes of this user which have ended."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, ValueError):  # no lock in it, or one that is held
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if lock.read() == folder.name:
                    shutil.rmtree(folder, ignore_errors=True)


def remove_old(folder: Path, seconds: float, kept: set[Path]) -> None:
    """Removes files below a folder, but for some, that were last written or moved so long ago; and empty folders."""
    kept, before = {*kept, folder / LOCK}, time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        with contextlib.suppress(OSError):  # the folder is not empty
            if path.is_dir() and path.stat().st_mtime < before:
                path.rmdir()
            elif path not in kept and not path.is_dir() and path.lstat().st_ctime < before:
                path.unlink()
