"""Outputs that cannot be written are refused before the work, and nothing is created by asking."""

import os
import subprocess
from pathlib import Path

import pytest

from common.errors import UserError
from common.runtime.outputs import check_output

IMAGES = (".png", ".jpg")


def refused(*args, **options):
    with pytest.raises(UserError) as mistake:
        check_output(*args, **options)
    assert "\n" not in str(mistake.value)
    return str(mistake.value)


@pytest.mark.parametrize("name", ["out.png", "out.JPG", "new/deep/out.png", "there.png"])
def test_a_file_that_can_be_written(tmp_path, name):
    (tmp_path / "there.png").write_text("an older result")
    check_output(tmp_path / name, IMAGES)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


@pytest.mark.parametrize("name", ["out", "new/deep", "out.png", "."])
def test_a_folder_that_can_be_written(tmp_path, name):
    check_output(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_relative_name_needs_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output(Path("out.png"), IMAGES)
    check_output(Path("out"))
    (tmp_path / "x").write_text("")
    assert "x is no folder" in refused(Path("x/out.png"), IMAGES)


def test_the_wrong_kind_of_place(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe.png")
    told = refused(tmp_path / "results", IMAGES)
    assert "it is a folder; name a file in it" in told and told.endswith("results/result.png")
    (tmp_path / "folder.png").mkdir()
    assert "it is a folder" in refused(tmp_path / "folder.png", IMAGES)
    assert "it is a file; name a folder" in refused(tmp_path / "file")
    assert "a pipe" in refused(tmp_path / "pipe.png", IMAGES)
    for below in (tmp_path / "file/x.png", tmp_path / "file/deep/x.png"):
        assert f"{tmp_path / 'file'} is no folder" in refused(below, IMAGES)
        assert f"{tmp_path / 'file'} is no folder" in refused(below)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "link is no folder" in refused(tmp_path / "link/x.png", IMAGES)


@pytest.mark.parametrize("name", ["out", "out.gif", "out.png.", ".png"])
def test_the_suffix_is_missing_or_wrong(tmp_path, name):
    assert refused(tmp_path / name, IMAGES).endswith(f"{name}: the name must end in one of .jpg, .png")


def test_names_that_no_file_can_have(tmp_path):
    assert "too long" in refused(tmp_path / ("x" * 250 + ".png"), IMAGES)  # with the name it is written under first
    check_output(tmp_path / ("x" * 240 + ".png"), IMAGES)
    assert "too long" in refused(tmp_path / ("x" * 300))
    assert "null" in refused(tmp_path / "a\0b.png", IMAGES)


def test_what_the_command_reads_is_never_its_output(tmp_path):
    (tmp_path / "photo.png").write_text("a photo")
    (tmp_path / "link.png").symlink_to(tmp_path / "photo.png")
    for name in ("photo.png", "link.png", "../" + tmp_path.name + "/photo.png"):
        assert "it is read by this command" in refused(tmp_path / name, IMAGES, [tmp_path / "photo.png"])
    check_output(tmp_path / "other.png", IMAGES, [tmp_path / "photo.png", tmp_path / "nowhere"])


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_place_that_is_not_writable(tmp_path):
    """Asked by another user, because everything is writable to root."""
    (tmp_path / "locked").mkdir(mode=0o555)
    paths = [tmp_path / "locked/x.png", tmp_path / "locked/new/x.png", tmp_path / "locked"]
    if os.getuid() == 0:
        proc = Path("/proc/self")  # where nobody can write
        paths = [proc / "x.png", proc / "new/x.png", proc]
    for path in paths:
        told = refused(path, IMAGES if path.suffix else None)
        assert f"cannot write {path}: " in told and str(paths[2]) in told


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_read_only_file_system(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        assert "Read-only" in refused(tmp_path / "out.png", IMAGES)
        assert "Read-only" in refused(tmp_path / "new/out")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
