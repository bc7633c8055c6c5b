"""One run folder, one process: a lock file in it that dies with its process, or is silent when its machine is gone.

The operating system's `flock` decides between processes of one machine. Machines that share a folder may not see each
other's flock, and some file systems have none: there the text of the file (process, machine) and its time decide.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from common.errors import UserError

try:
    import fcntl
except ImportError:  # another system than Unix
    fcntl = None

NAME = "run.lock"
HEARTBEAT_SECONDS = 15
SILENT_SECONDS = 120  # network file systems may show a file's time a minute late
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class RunLock:
    """The lock of a run folder, which is created if need be.

    Raises:
        UserError: another process holds it; the text names it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / NAME
        self._owner: dict | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._file, flocked = _open(self.path)
        try:
            self._refuse_owner(flocked)
            self._owner = {**_this_process(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "token": uuid.uuid4().hex}
            self._write()
            if not flocked:  # two may have come this far together: the one that wrote last has it
                time.sleep(1)
                self._refuse_owner(flocked)
            self._directory = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
        except BaseException:
            self._file.close()
            raise
        self._over = threading.Event()

    def _refuse_owner(self, flocked: bool) -> None:
        owner = read_owner(self.path)
        if owner is None or owner == self._owner:
            return
        here = _this_process()
        if owner["machine"] == here["machine"]:
            if flocked or not (owner["host"] == here["host"] and _is_running(owner)):
                return
            raise _in_use(self.folder, owner)
        silent = self._silence()
        if silent < SILENT_SECONDS:
            raise UserError(
                f"{self.folder} is in use by another run, process {owner['pid']} on {owner['host']}, heard from "
                f"{max(0, silent):.0f} s ago; if that has ended, wait {SILENT_SECONDS} s or delete {self.path}"
            )
        print(
            f"note: the lock of process {owner['pid']} on {owner['host']} was taken over: it has not been heard from "
            f"for {silent / 60:,.0f} min"
        )

    def _silence(self) -> float:
        """Seconds since the lock was last touched, by the clock of the machine that has the disk."""
        probe = self.folder / f".writing-{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime - self.path.stat().st_mtime
        finally:
            probe.unlink()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(self._owner) + "\n")
        self._file.flush()

    def beat(self) -> None:
        """Touches the lock from now on until it is released, so that other machines see that this process lives."""

        def touch() -> None:
            while not self._over.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):
                    os.utime(self.path)

        threading.Thread(target=touch, name="run lock", daemon=True).start()

    def where(self) -> tuple[Path | None, str]:
        """Where the run's folder is now, and what happened to it: nothing if that is where it was.

        None for a folder that was deleted, replaced by another one, or taken over by another process.
        """
        owner = read_owner(self.path)
        if owner == self._owner:
            return self.folder, ""
        if owner is not None and self._is_same_folder():
            return None, f"was taken over by process {owner['pid']} on {owner['host']}"
        with contextlib.suppress(OSError):  # Linux knows the name of an open folder
            moved = Path(f"/proc/self/fd/{self._directory}").readlink()
            if read_owner(moved / NAME) == self._owner:
                return moved, f"was renamed to {moved}"
        if self._is_same_folder():  # the lock alone was deleted
            self._file.close()
            self._file, flocked = _open(self.path)
            self._refuse_owner(flocked)
            self._write()
            return self.folder, ""
        return None, "was replaced by another one" if self.folder.exists() else "was deleted or moved away"

    def _is_same_folder(self) -> bool:
        try:
            return self._directory is None or os.path.samestat(self.folder.stat(), os.fstat(self._directory))
        except OSError:
            return False

    def release(self) -> None:
        """Deletes the lock file, if it is still this process's."""
        if self._over.is_set():
            return
        self._over.set()
        if read_owner(self.path) == self._owner:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()
        if self._directory is not None:
            os.close(self._directory)


def read_owner(path: Path) -> dict | None:
    """Who wrote a lock file; None where there is none, or it is empty or damaged."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"pid": int, "host": str, "machine": str, "start": str}
    whole = isinstance(owner, dict) and all(isinstance(owner.get(key), kind) for key, kind in kinds.items())
    return owner if whole else None


def _open(path: Path):
    """The lock file, open, and whether the operating system's lock on it is ours; False where there is no such thing.

    Raises UserError when another process has it.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            if fcntl is None:
                return file, False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
        except FileNotFoundError:  # its owner deleted it between two of these lines
            pass
        except OSError as problem:
            if problem.errno in NO_FLOCK:
                return file, False
            file.close()
            if problem.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise _in_use(path.parent, read_owner(path)) from None
        file.close()


def _in_use(folder: Path, owner: dict | None) -> UserError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "process unknown"
    since = f", since {owner['since']}" if owner and isinstance(owner.get("since"), str) else ""
    return UserError(
        f"{folder} is in use by another run, {who}{since}; wait for its end, stop it, or choose another --run-dir"
    )


def _this_process() -> dict:
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # the same in all of its containers
    except OSError:
        machine = socket.gethostname()
    return {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine, "start": _start_time(os.getpid())}


def _start_time(pid: int) -> str:
    """When a process of this machine was started, in the kernel's ticks; "" where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_running(owner: dict) -> bool:
    """Whether the owner lives; a process of the same number that was started at another time is another one."""
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return _start_time(owner["pid"]) == owner["start"]
