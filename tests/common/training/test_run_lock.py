"""One run folder, one process: on one machine by flock, elsewhere by what the lock file says."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import UserError
from common.training import run_lock
from common.training.run_lock import RunLock

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from common.training.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
"""


def hold(folder, then="print('held', flush=True); time.sleep(60)"):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD + then, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def write_owner(folder, age=0.0, **changes):
    folder.mkdir(exist_ok=True)
    path = folder / run_lock.NAME
    path.write_text(json.dumps({**run_lock._this_process(), "since": "a while", **changes}))
    os.utime(path, (time.time() - age,) * 2)


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: None)


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    other = hold(tmp_path / "run")
    try:
        with pytest.raises(UserError, match=rf"in use by another run, process {other.pid} on .*--run-dir"):
            RunLock(tmp_path / "run")
    finally:
        other.kill()
        other.wait()
    assert (tmp_path / "run/run.lock").exists()  # it had no time to delete it
    lock = RunLock(tmp_path / "run")
    assert run_lock.read_owner(lock.path)["pid"] == os.getpid()
    lock.release()
    assert list((tmp_path / "run").iterdir()) == []


def test_two_in_one_process(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path)
    lock.release()
    RunLock(tmp_path).release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "7"}', "\x00" * 40])
def test_a_damaged_lock_file_that_nobody_holds(tmp_path, text):
    (tmp_path / "run.lock").write_text(text)
    RunLock(tmp_path).release()


def test_another_machine_is_judged_by_its_heartbeat(tmp_path, capsys):
    """Its flock cannot be seen here: on some network file systems each machine has its own."""
    write_owner(tmp_path, age=30, machine="another", host="far", pid=77)
    with pytest.raises(UserError, match=r"process 77 on far, heard from 3\d s ago.*delete .*run.lock"):
        RunLock(tmp_path)
    write_owner(tmp_path, age=600, machine="another", host="far", pid=77)
    RunLock(tmp_path).release()
    assert "process 77 on far was taken over" in capsys.readouterr().out


def test_without_flock_a_living_process_is_told_from_one_that_is_gone(tmp_path, no_flock):
    write_owner(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path)
    write_owner(tmp_path, start="1")  # its number belongs to another process now
    RunLock(tmp_path).release()
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_owner(tmp_path, pid=gone.pid, start="")
    RunLock(tmp_path).release()


def test_without_flock_the_last_of_two_that_come_together_has_it(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: write_owner(tmp_path, machine="another", host="far", pid=78))
    with pytest.raises(UserError, match="process 78 on far"):
        RunLock(tmp_path)


def test_the_heartbeat_touches_the_lock_until_it_is_released(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.01)
    lock = RunLock(tmp_path)
    os.utime(lock.path, (1, 1))
    lock.beat()
    deadline = time.monotonic() + 20
    while lock.path.stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert time.time() - lock.path.stat().st_mtime < 30
    assert run_lock.SILENT_SECONDS >= 4 * 15
    lock.release()


def test_a_folder_that_is_renamed_deleted_replaced_or_taken(tmp_path):
    lock = RunLock(tmp_path / "a")
    assert lock.where() == (tmp_path / "a", "")
    lock.path.unlink()  # as one is told to do with the lock of a machine that is gone
    assert lock.where() == (tmp_path / "a", "") and run_lock.read_owner(lock.path)["pid"] == os.getpid()
    (tmp_path / "a").rename(tmp_path / "b")
    assert lock.where() == (tmp_path / "b", f"was renamed to {tmp_path / 'b'}")
    (tmp_path / "a").mkdir()
    assert lock.where()[0] == tmp_path / "b"
    write_owner(tmp_path / "b", pid=5)
    assert lock.where() == (None, "was replaced by another one")
    (tmp_path / "a").rmdir()
    assert lock.where() == (None, "was deleted or moved away")
    lock = RunLock(tmp_path / "c")
    write_owner(tmp_path / "c", pid=6, host="far")
    assert lock.where() == (None, "was taken over by process 6 on far")


def test_a_file_system_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        RunLock(tmp_path / "file/run")


def test_a_process_that_ends_well_leaves_no_lock(tmp_path):
    other = hold(tmp_path, "lock.release(); print('held', flush=True)")
    assert other.wait() == 0 and list(tmp_path.iterdir()) == []
    other = hold(tmp_path)
    os.kill(other.pid, signal.SIGSTOP)  # a process that is held up still has its folder
    with pytest.raises(UserError, match="in use"):
        RunLock(tmp_path)
    other.kill()
    other.wait()
