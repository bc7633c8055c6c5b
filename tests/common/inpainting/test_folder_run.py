"""Folders of photos and of results: what is a photo, what is trusted, and how a run ends that is stopped."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.imaging.io import read_image, write_image
from common.inpainting import folder_run, mask_source, photos
from common.inpainting.finished_results import RECORD
from common.runtime.commands import one_line_errors


def photo(path, value=10, height=20, width=30):
    image = np.full((height, width, 3), value, np.uint8)
    image[:, : width // 2] = value + 1
    write_image(path, image)
    return image


def negative(images, masks):
    return [np.where(mask[..., None], 255 - image, image) for image, mask in zip(images, masks, strict=True)]


def run(tmp_path, source="in", output="out", mask="center", complete=negative, invert=False, seed=0, **options):
    source, output = tmp_path / source, tmp_path / output
    find_mask = mask_source.Masks(str(mask), source, output, invert, seed)
    return photos.complete_folder(source, output, find_mask, complete, tmp_path / "weights", **options)


def summary(tmp_path, name="out/summary.json"):
    return json.loads((tmp_path / name).read_text())


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def given(seen):
    """`negative`, which notes how many photos it was given."""
    return lambda images, masks: seen.append(len(images)) or negative(images, masks)


# ---- results that are there


def again(tmp_path, capsys, **options):
    """Runs with --skip-existing; returns how many photos were completed, and what was said of the others."""
    capsys.readouterr()
    seen = []
    assert run(tmp_path, skip_existing=True, complete=given(seen), **options) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "made again" in line]
    return sum(seen), "".join(told).rpartition("made again: ")[2]


def test_whole_results_of_the_same_settings_are_trusted_and_nothing_else(tmp_path, capsys):
    (tmp_path / "weights").write_text("1")
    images = {name: photo(tmp_path / f"in/{name}.png", 40 * n) for n, name in enumerate("abcd")}
    assert again(tmp_path, capsys) == (4, "") and again(tmp_path, capsys) == (0, "")
    assert (summary(tmp_path)["completed"], summary(tmp_path)["skipped"]) == (0, 4)
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "out/b.png").write_bytes((tmp_path / "out/b.png").read_bytes()[:-5])  # half-written
    write_image(tmp_path / "out/c.png", np.zeros((3, 3, 3), np.uint8))  # somebody else's
    assert again(tmp_path, capsys) == (3, "2 not a whole result of this suite")
    for name, image in images.items():
        (done,) = negative([image], [photos.mask_for(tmp_path / "a", image)])
        np.testing.assert_array_equal(read_image(tmp_path / f"out/{name}.png"), done)


@pytest.mark.parametrize("change", ["weights", "photo", "settings", "seed", "place", "invert", "record"])
def test_what_a_result_depends_on(tmp_path, capsys, change):
    (tmp_path / "weights").write_text("1")
    for name in "bc":
        photo(tmp_path / f"in/{name}.png")
    options = {"mask": "random", "settings": {"blend": "paste"}}
    assert again(tmp_path, capsys, **options) == (2, "") and again(tmp_path, capsys, **options) == (0, "")
    expected = (2, "2 made of another photo, mask or settings")
    if change == "weights":
        (tmp_path / "weights").write_text("2")
    elif change == "photo":
        photo(tmp_path / "in/c.png", 11)
        expected = (1, "1 made of another photo, mask or settings")
    elif change == "settings":
        options["settings"] = {"blend": "poisson"}
    elif change == "seed":
        options["seed"] = 1
    elif change == "place":  # a photo more, and the others' sampled masks are other ones
        photo(tmp_path / "in/a.png")
        expected = (3, expected[1])
    elif change == "invert":  # of a sampled hole nothing is inverted
        options["invert"], expected = True, (0, "")
    elif change == "record":  # cut off in its last line
        record = (tmp_path / "out" / RECORD).read_bytes()
        (tmp_path / "out" / RECORD).write_bytes(record[:-20])
        expected = (1, "1 not a whole result of this suite")
    assert again(tmp_path, capsys, **options) == expected
    assert again(tmp_path, capsys, **options) == (0, "")


def test_results_depend_on_their_masks_but_not_on_their_places(tmp_path, capsys):
    for n, name in enumerate("bc"):
        photo(tmp_path / f"in/{name}.png")
        drawn = np.zeros((20, 30), np.uint8)
        drawn[5:10, 5 + n : 15] = 255
        write_image(tmp_path / f"masks/{name}_mask.png", drawn)
    options = {"mask": tmp_path / "masks"}
    assert again(tmp_path, capsys, **options) == (2, "")
    photo(tmp_path / "in/a.png")
    write_image(tmp_path / "masks/a.png", drawn)
    assert again(tmp_path, capsys, **options) == (1, "")
    drawn[12:15, 3:9] = 255
    write_image(tmp_path / "masks/c_mask.png", drawn)
    assert again(tmp_path, capsys, **options) == (1, "1 made of another photo, mask or settings")
    assert again(tmp_path, capsys, **options, invert=True)[0] == 3


# ---- ends


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_stopped_says_how_far_it_came_and_goes_on(tmp_path, capsys, number, status):
    """17 photos are two chunks; the signal comes in the second."""
    for n in range(17):
        photo(tmp_path / f"in/{n:02d}.png", n)
    seen = []

    def stopped(images, masks):
        if seen:
            os.kill(os.getpid(), number)
        return given(seen)(images, masks)

    with pytest.raises(SystemExit) as stop:
        one_line_errors(lambda argv=None: run(tmp_path, complete=stopped))([])
    told = capsys.readouterr()
    assert stop.value.code == status and "Traceback" not in told.err
    assert told.err.splitlines()[-1] == f"stopped by {'Ctrl-C' if number == signal.SIGINT else number.name}"
    assert told.out.splitlines()[-1] == "16 completed, 0 skipped, 0 failed, 1 not done"
    assert summary(tmp_path)["completed"] == 16 and summary(tmp_path)["not_done"] == 1
    assert again(tmp_path, capsys) == (1, "") and len(results(tmp_path / "out")) == 17
    assert "not_done" not in summary(tmp_path)


def test_a_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """The process is stopped when half of the second result is on the disk."""
    photo(tmp_path / "in/a.png")
    photo(tmp_path / "in/b.png")
    flushed, flush = [], os.fsync

    def stop_at_the_third(handle):
        flushed.append(Path(f"/proc/self/fd/{handle}").resolve() if Path("/proc/self/fd").exists() else handle)
        if sum("out" in str(path) and ".png" in str(path) for path in flushed) == 2:
            raise KeyboardInterrupt
        return flush(handle)

    monkeypatch.setattr(os, "fsync", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert results(tmp_path / "out") == ["a.png"]
    assert not [path for path in (tmp_path / "out").iterdir() if ".png" in path.name and path.name != "a.png"]


def test_one_target_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    for name in ("a", "b", "c", "sub/d"):
        photo(tmp_path / f"in/{name}.png")
    (tmp_path / "out/b.png").mkdir(parents=True)  # a folder where a result is to be
    (tmp_path / "out/sub").write_text("a file where a folder is to be")
    assert run(tmp_path) == 2
    failed = summary(tmp_path)["failed"]
    assert list(failed) == [str(tmp_path / "in/b.png"), str(tmp_path / "in/sub/d.png")]
    assert all(text.startswith("cannot write ") and "writing" not in text for text in failed.values())
    assert summary(tmp_path)["completed"] == 2 and (tmp_path / "out/c.png").is_file()
    assert "2 completed, 0 skipped, 2 failed" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_said_and_ends_the_run(tmp_path, capsys):
    """Room for two of five results of 300 kB, and not for the summary."""
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", tmp_path / "out"]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        noise = np.random.default_rng(0).integers(0, 255, (5, 316, 316, 3), dtype=np.uint8)
        for n, image in enumerate(noise):
            write_image(tmp_path / f"in/{n}.png", image)
        with pytest.raises(UserError, match="the disk is full: cannot write .*2.png: No space left"):
            run(tmp_path)
        assert results(tmp_path / "out") == ["0.png", "1.png"] and not list((tmp_path / "out").glob(".[!r]*"))
        assert "2 completed, 0 skipped, 1 failed, 2 not done" in capsys.readouterr().out
        fill = tmp_path / "out/fill"
        subprocess.run(["dd", "if=/dev/zero", f"of={fill}", "bs=1024"], capture_output=True)
        for name in "234":
            (tmp_path / f"in/{name}.png").unlink()
        (tmp_path / "out/summary.json").unlink(missing_ok=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={fill}2", "bs=1024"], capture_output=True)
        assert run(tmp_path, skip_existing=True) == 0
        told = capsys.readouterr().out
        assert "0 completed, 2 skipped, 0 failed" in told and "note: cannot write " in told and "No space" in told
    finally:
        subprocess.run(["umount", tmp_path / "out"], check=True)


def test_the_users_own_summary_stays(tmp_path, capsys):
    photo(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    mine = {"summary.json": '{"mine": 1}', "summary-2.json": "no JSON"}
    for name, text in mine.items():
        (tmp_path / "out" / name).write_text(text)
    for _ in range(2):
        run(tmp_path)
        assert {name: (tmp_path / "out" / name).read_text() for name in mine} == mine
        assert summary(tmp_path, "out/summary-3.json")["completed"] == 1
        assert "summary.json was not written by this suite and stays; the summary is summary-3.json" in (
            capsys.readouterr().out
        )
    assert not (tmp_path / "out/summary-4.json").exists()


@pytest.mark.medium
def test_no_more_photos_are_held_than_five_million_pixels_or_sixteen(tmp_path):
    """Two of 3 million pixels, 20 small ones: no chunk of two large ones."""
    for n in range(2):
        photo(tmp_path / f"in/{n}.png", height=1500, width=2000)
    for n in range(20):
        photo(tmp_path / f"in/s{n:02d}.png")
    seen = []
    assert run(tmp_path, complete=given(seen)) == 0 and seen == [1, 16, 5]


# ---- places


def test_the_folder_of_the_photos_is_no_output(tmp_path):
    before = photo(tmp_path / "in/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for output in ("in", "link", "in/../in"):
        with pytest.raises(UserError, match="folder of the photos, which are never overwritten"):
            run(tmp_path, output=output)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "in/a.png"), before)
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="folder of the masks"):
        folder_run.check_places(tmp_path / "in", tmp_path / "masks", str(tmp_path / "masks"))


def test_an_output_inside_the_input_is_never_read(tmp_path, capsys):
    """Nor after a kill, when no summary says whose it is."""
    photo(tmp_path / "in/a.png")
    for _ in range(2):
        assert run(tmp_path, output="in/done") == 0
        assert results(tmp_path / "in") == ["a.png", "done/a.png"]
        (tmp_path / "in/done/summary.json").unlink()
        (tmp_path / "in/done" / RECORD).unlink()
        told = capsys.readouterr().out
    assert f"1 images are passed over: {tmp_path / 'in/done'} is the output of this command" in told
    assert "1 completed, 0 skipped, 0 failed" in told


def test_masks_inside_the_input_are_no_photos(tmp_path):
    photo(tmp_path / "in/a.png")
    drawn = np.zeros((20, 30), np.uint8)
    drawn[5:10, 5:15] = 255
    write_image(tmp_path / "in/masks/a.png", drawn)
    assert run(tmp_path, mask=tmp_path / "in/masks") == 0 and results(tmp_path / "out") == ["a.png"]


def test_no_result_takes_the_place_of_a_photo_or_a_mask(tmp_path):
    """The input lies in the output, and a result's name is that of a photo."""
    before = photo(tmp_path / "all/in/in/a.png", 10), photo(tmp_path / "all/in/b.png", 70)
    with pytest.raises(UserError, match="would overwrite .*a.png; choose another --output"):
        photo(tmp_path / "all/in/a.png", 50)
        run(tmp_path, source="all/in", output="all")
        run(tmp_path, source="all", output="all/in")
        raise AssertionError
    np.testing.assert_array_equal(read_image(tmp_path / "all/in/in/a.png"), before[0])
    np.testing.assert_array_equal(read_image(tmp_path / "all/in/b.png"), before[1])
    linked = photo(tmp_path / "elsewhere/x.png", 5)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/x.png").symlink_to(tmp_path / "elsewhere/x.png")
    with pytest.raises(UserError, match="would overwrite"):
        run(tmp_path, source="links", output="elsewhere")
    np.testing.assert_array_equal(read_image(tmp_path / "elsewhere/x.png"), linked)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["A.png", "a.png"], ["A.png.png", "a.png-2.png"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg.png", "a.jpg.png.png", "a.png.png"]),
        (["é.png", "e\u0301.png"], ["é.png.png", "e\u0301.png-2.png"]),
        (["Sub/a.png", "sub/a.png"], ["Sub/a.png.png", "sub/a.png-2.png"]),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"]),
    ],
)
def test_no_two_photos_go_to_one_file_on_any_system(names, expected):
    found = folder_run.result_files([Path("in", name) for name in names], Path("in"), Path("out"))
    assert [path.relative_to("out").as_posix() for path in found.values()] == expected


def test_a_single_result_is_refused_before_the_work(tmp_path):
    before = photo(tmp_path / "in.png")
    write_image(tmp_path / "mask.png", np.zeros((20, 30), np.uint8))
    for output in ("in.png", "mask.png", ".", "out", "out.gif"):
        with pytest.raises(UserError, match="cannot write"):
            folder_run.check_places(tmp_path / "in.png", tmp_path / output, str(tmp_path / "mask.png"))
    with pytest.raises(UserError, match="it is read by this command"):  # a mask of a folder
        find_mask = mask_source.Masks(str(tmp_path), tmp_path / "sub/mask.jpg")
        photos.complete_file(tmp_path / "sub/mask.jpg", tmp_path / "mask.png", find_mask, negative, None)
    np.testing.assert_array_equal(read_image(tmp_path / "in.png"), before)


def test_a_picture_of_a_doubtful_hole_never_takes_the_place_of_the_mask(tmp_path):
    photo(tmp_path / "in.png")
    write_image(tmp_path / "out-hole.png", np.zeros((20, 30), np.uint8))
    find_mask = mask_source.Masks(str(tmp_path / "out-hole.png"), tmp_path / "in.png")
    with pytest.raises(UserError, match="0.00%.*out-hole-shown.png"):
        photos.complete_file(tmp_path / "in.png", tmp_path / "out.png", find_mask, negative, None)
    assert not np.asarray(Image.open(tmp_path / "out-hole.png")).any()


def test_settings_are_told_by_the_content_of_files(tmp_path):
    from deepfill.infer import Options

    (tmp_path / "lines.png").write_text("1")
    first = photos.settings_of(Options(sketch=tmp_path / "lines.png", seed=3))
    assert photos.settings_of(Options(sketch=tmp_path / "lines.png", seed=3, device="cpu", batch_size=9)) == first
    assert photos.settings_of(Options(sketch=tmp_path / "lines.png", seed=4)) != first
    (tmp_path / "lines.png").write_text("2")
    assert photos.settings_of(Options(sketch=tmp_path / "lines.png", seed=3)) != first


def test_a_zip_given_as_photos_is_said(tmp_path):
    (tmp_path / "my photos.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"is a zip.*data.prepare images '.*/my photos.zip' --output"):
        folder_run.check_places(tmp_path / "my photos.zip", tmp_path / "out")
