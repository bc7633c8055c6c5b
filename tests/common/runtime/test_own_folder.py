"""A process's own folder goes with it, or with the next one; nobody else's is touched."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.runtime.own_folder import LOCK, own_folder, remove_left_behind, remove_old

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(os.name != "posix", reason="without locks nothing of others is removed"),
]

ROOT = Path(__file__).parents[3]
PROCESS = """
import sys
from common.runtime.own_folder import own_folder
folder = own_folder(sys.argv[1], "page-")
(folder / "upload").touch()
print(folder, flush=True)
sys.stdin.read()
"""


def start(parent):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", PROCESS, parent], cwd=ROOT, **pipes)
    return process, Path(process.stdout.readline().strip())


def test_only_what_ended_processes_made_is_removed(tmp_path):
    (killed, left), (running, used) = start(tmp_path), start(tmp_path)
    killed.kill()
    killed.wait()
    shutil.copytree(left, tmp_path / "page-copy")  # by the user, so that it is the user's
    for name in ("page-mine/x", "results/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "page-link").symlink_to(left)
    (tmp_path / "page-file").touch()
    assert (left / "upload").exists()
    remove_left_behind(tmp_path, "page-")
    here = {path.name for path in tmp_path.iterdir()}
    assert here == {"page-copy", "page-mine", "results", "page-link", "page-file", used.name}
    assert (used / "upload").exists()
    running.communicate()
    assert running.returncode == 0 and not used.exists()


def test_a_start_removes_what_is_left(tmp_path):
    killed, left = start(tmp_path)
    killed.kill()
    killed.wait()
    folder = own_folder(str(tmp_path), "page-")
    assert list(tmp_path.iterdir()) == [folder] and folder != left
    remove_left_behind(tmp_path, "page-")
    assert (folder / LOCK).exists()  # also not by itself


def test_old_files_go_and_what_is_kept_stays(tmp_path):
    for name in ("old/x", "kept/x", LOCK, "loose", "empty/folder/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_old(tmp_path, 100, set())
    assert (tmp_path / "old/x").exists() and (tmp_path / "loose").exists()
    time.sleep(0.1)
    remove_old(tmp_path, 0.05, {tmp_path / "kept/x"})
    time.sleep(0.1)
    remove_old(tmp_path, 0.05, {tmp_path / "kept/x"})  # folders that the first time emptied
    remove_old(tmp_path, 0.05, {tmp_path / "kept/x"})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left >= {"kept", "kept/x", LOCK} and not left & {"old/x", "loose", "empty/folder/x", "old"}
