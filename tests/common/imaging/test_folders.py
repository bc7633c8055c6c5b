"""Folders as they are: what is an image, what is passed over and named, links, litter, and the suite's own files."""

import json
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image, features

from common.errors import UserError
from common.imaging.folders import find_images, same_name, survey, why_no_image
from common.imaging.io import read_image

GREY = np.full((6, 8, 3), 90, np.uint8)


def put(folder, *names):
    """Writes an image (or, for other suffixes, two bytes) under each name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"jpe": "JPEG", "jfif": "JPEG", "pgm": "PPM"}.get(path.suffix[1:].lower())
        if path.suffix.lower() in (".png", ".jpg", ".gif", ".jp2", ".jpe", ".jfif", ".pgm", ".avif", ".webp"):
            image = Image.fromarray(GREY)
            image = image.convert("L") if kind == "PPM" else image
            image.save(path, kind)
        else:
            path.write_bytes(b"ab")
    return folder


def found(folder):
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


def test_every_kind_that_is_listed_is_read(tmp_path):
    names = ["a.png", "b.JPG", "c.jpe", "d.jfif", "e.gif", "f.pgm", "g.webp"]
    names += ["h.avif"] * features.check("avif") + ["i.jp2"] * features.check("jpg_2000")
    assert found(put(tmp_path, *names)) == sorted(names)
    for path in find_images(tmp_path):
        assert np.abs(read_image(path).astype(int) - 90).max() <= 3, path


def test_what_is_passed_over_is_counted_by_kind(tmp_path):
    put(tmp_path, "a.png", "b.gif", "1.heic", "2.HEIC", "in/3.cr2", "noname", ".hidden.cr2", "Thumbs.db")
    seen = survey(tmp_path)
    assert dict(seen.passed_over) == {".heic": 2, ".cr2": 1, "": 1}
    line = seen.note()
    assert "2 images (1 .png, 1 .gif)" in line and "2 .heic (`pip install pillow-heif`" in line
    assert "1 .cr2" in line and "1 without a suffix" in line and "of 1 .gif the first" in line and "\n" not in line
    assert survey(put(tmp_path / "clean", "a.png")).note() == ""


def test_litter_of_other_systems_is_left_out(tmp_path):
    litter = ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/b.png", "$RECYCLE.BIN/S-1-5/c.png", "__MACOSX/._a.png")
    litter += (
        "System Volume Information/d.png",
        ".ipynb_checkpoints/a.png",
        "._a.png",
        "desktop.ini",
        "__macosx/e.png",
    )
    seen = survey(put(tmp_path, "a.png", "in/b.png", *litter))
    assert found(tmp_path) == ["a.png", "in/b.png"] and not seen.passed_over and seen.note() == ""


def test_links_to_folders_are_followed_once(tmp_path):
    data = put(tmp_path / "data", "z/a.png", "b.png")
    put(tmp_path, "outside.png")  # in a folder that holds the data: a link there would be a loop
    put(tmp_path / "disk", "c.png", "deep/d.png")
    (data / "a-link").symlink_to(data / "z")  # the folder itself wins, though the link sorts before it
    (data / "disk").symlink_to(tmp_path / "disk")
    (data / "again").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(data)
    (data / "up").symlink_to(tmp_path)
    (data / "self").symlink_to(data / "self")
    names = found(data)
    assert names == ["again/c.png", "again/deep/d.png", "b.png", "z/a.png"]


def test_runs_and_results_inside_a_folder_are_no_data(tmp_path):
    put(
        tmp_path,
        "a.png",
        "a-hole.png",
        "only-hole.png",
        "runs/glcic/cpu/previews/step_1.png",
        "runs/glcic/cpu/curves.png",
    )
    put(
        tmp_path, "runs/glcic/cpu/options.json", "runs/glcic/cpu/stats.jsonl", "out/a.png", "out/sub/b.png", "own/c.png"
    )
    (tmp_path / "out/summary.json").write_text(json.dumps({"completed": 2, "skipped": 0, "failed": {}, "weights": "w"}))
    (tmp_path / "own/summary.json").write_text(json.dumps({"title": "my holidays"}))  # the user's own
    put(tmp_path, "scores/scores.json", "scores/images.png", "images.png")
    assert found(tmp_path) == ["a.png", "images.png", "only-hole.png", "own/c.png"]
    line = survey(tmp_path).note()
    assert "runs/glcic/cpu (written by this suite)" in line and "out (written" in line and "more such" in line


def test_a_run_folder_given_by_name_gives_what_else_lies_in_it(tmp_path):
    """`--run-dir . --data-dir .`, and a folder of previews or results that is asked for."""
    put(tmp_path, "a.png", "options.json", "stats.jsonl", "curves.png", "previews/step_1.png", "in/b.png")
    assert found(tmp_path) == ["a.png", "in/b.png"]
    assert found(tmp_path / "previews") == ["step_1.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    put(tmp_path, "a.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    try:
        assert "locked (no permission" in survey(tmp_path).note()
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_names_are_compared_composed():
    assert same_name(unicodedata.normalize("NFD", "Müller_café")) == unicodedata.normalize("NFC", "Müller_café")
    assert same_name("plain_1") == "plain_1"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"%PDF-1.7", "a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(300), "nothing but zero bytes"),
        (b"", "an empty file"),
    ],
)
def test_the_error_says_what_a_file_is(tmp_path, data, words):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UserError, match=words) as problem:
        read_image(tmp_path / "a.jpg")
    assert "not an image" in str(problem.value) and "\n" not in str(problem.value)


def test_avif_that_pillow_lacks_is_named():
    assert "Pillow 11.3" in why_no_image(b"\0\0\0\x1cftypavif\0\0\0\0")


@pytest.mark.parametrize("name", ["/abs/{}.png", "../up/{}.png", "C:\\x\\{}.png"])
def test_names_that_lead_out_of_a_zip_are_names_in_it(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for n in range(2):
            packed.writestr(zipfile.ZipInfo(name.format(n)), b"")
    seen = survey(tmp_path / "a.zip")
    assert [path.name for path in seen.images] == ["0.png", "1.png"]
    assert all(path.is_relative_to(tmp_path / "a.zip") and ".." not in path.parts for path in seen.images)
    assert list(seen.members.values()) == [name.format(n) for n in range(2)]


def test_no_image_of_a_zip_takes_the_place_of_another(tmp_path):
    names = ["x/a.png", "x\\a.png"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in names:
            packed.writestr(zipfile.ZipInfo(name), b"")
    assert sorted(survey(tmp_path / "a.zip").members.values()) == names


def test_a_run_without_options_and_results_without_a_summary_are_no_data(tmp_path):
    put(
        tmp_path,
        "a.png",
        "run/previews/step_0000001.png",
        "run/checkpoints/step_0000001/state.safetensors",
        "out/b.png",
    )
    (tmp_path / "out/.results.jsonl").write_text("")  # what a killed `infer` leaves
    assert found(tmp_path) == ["a.png"]
    assert "out (written by this suite), run (written by this suite)" in survey(tmp_path).note()
