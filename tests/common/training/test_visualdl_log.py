"""--visualdl: what VisualDL's own reader finds in the log of a run, whole, resumed, killed and rolled back."""

import dataclasses
import io
import sys

import numpy as np
import pytest
from PIL import Image

from common.config import RunSettings
from common.errors import UserError
from common.imaging.io import read_image
from common.runtime.commands import one_line_errors
from common.training import preparation, visualdl_log
from common.training.stats import read_stats
from tests.common.training.test_run import new_run, numbers

import paddle


def read_log(folder):
    """{(kind, name): {step: value}}; a step that is there twice fails."""
    reader = pytest.importorskip("visualdl").LogReader(file_path=str(visualdl_log.log_path(folder)))
    found = {}
    for kind in ("scalar", "image", "histogram"):
        for name in reader.get_tags().get(kind, []):
            entries = reader.get_data(kind, name)
            found[kind, name] = {entry.id: entry for entry in entries}
            assert len(found[kind, name]) == len(entries), f"{name} has a step twice"
    return found


def work(folder, stop=None, loss=float, **changes):
    """Step n (from 0) logs the loss n and D(x) of two images, n and n + 1; `stop` ends the process's work as a kill."""
    pytest.importorskip("visualdl")
    run = new_run(folder, visualdl=True, preview_steps=20, **changes)
    with run:
        for step, _ in run.steps(numbers):
            run.record({"loss": paddle.to_tensor(loss(step)), "real_output": paddle.to_tensor([[step], [step + 1.0]])})
            if run.preview_due():
                run.write_preview(np.full((4, 6, 3), 8 * step, np.uint8))
                run.note_score({"psnr_db": np.inf if step == 0 else 20.0 + step}, "psnr_db")
            if step == stop:
                run.files.close_stats()
                raise KeyboardInterrupt  # nothing is saved
    return run


def test_scalars_previews_and_histograms_are_those_of_the_run(tmp_path):
    work(tmp_path)
    log = read_log(tmp_path)
    for name in ("loss", "real_output"):
        of_stats = {line["step"]: line[name] for line in read_stats(tmp_path) if name in line}
        assert {step: entry.value for step, entry in log["scalar", name].items()} == of_stats
        assert of_stats.keys() == {10, 20, 30}
    assert {step: entry.value for step, entry in log["scalar", "psnr_db"].items()} == {20: 39.0, 30: 49.0}  # no inf
    for step, entry in log["image", "preview"].items():
        image = np.asarray(Image.open(io.BytesIO(entry.image.encoded_image_string)))
        np.testing.assert_array_equal(image, read_image(tmp_path / f"previews/step_{step:07d}.png"))
    assert log["image", "preview"].keys() == {1, 20, 30}
    histogram = log["histogram", "real_output_histogram"][20].histogram  # of 10, 11, 11, 12, 12 … 19, 19, 20
    assert (min(histogram.bin_edges), max(histogram.bin_edges), sum(histogram.hist)) == (10, 20, 20)
    assert list(histogram.hist)[0] == list(histogram.hist)[-1] == 1


def test_a_killed_run_that_is_resumed_has_the_log_of_a_whole_one(tmp_path):
    """Saved at step 11, killed at step 25 in the middle of a record, and done again from 11."""
    work(tmp_path / "whole")
    work(tmp_path / "parts", total_steps=11)
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "parts", stop=24, save_minutes=60)
    before = read_log(tmp_path / "parts")
    assert 20 in before["scalar", "loss"]  # what will be done again
    with visualdl_log.log_path(tmp_path / "parts").open("ab") as file:
        file.write((1000).to_bytes(8, "little") + b"cut short")
    work(tmp_path / "parts")
    whole, parts = read_log(tmp_path / "whole"), read_log(tmp_path / "parts")
    assert whole["scalar", "loss"].keys() < parts["scalar", "loss"].keys() == {10, 11, 20, 30}
    for kind, name in whole:
        for step in whole[kind, name].keys() - ({20} if kind != "image" else set()):  # step 20 has the mean from 12 on
            one, other = whole[kind, name][step], parts[kind, name][step]
            assert (one.value, one.image, one.histogram) == (other.value, other.image, other.histogram)


def test_a_run_that_goes_back_logs_no_step_twice(tmp_path):
    """Loss 26 is no number the first time: back from step 30 to the checkpoint at 10."""
    seen = []

    def loss(step):
        seen.append(step)
        return np.nan if step == 26 and seen.count(26) == 1 else float(step)

    work(tmp_path, total_steps=10)
    work(tmp_path, loss=loss, on_nan="rollback", save_minutes=60)
    assert seen.count(26) == 2
    log = read_log(tmp_path)
    assert log["scalar", "loss"].keys() == {10, 20, 30} and log["scalar", "rollback"].keys() == {10}


def test_a_run_that_starts_anew_has_a_new_log(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "run", stop=15, save_minutes=60)  # before its first checkpoint
    work(tmp_path / "run", total_steps=10)
    assert read_log(tmp_path / "run")["scalar", "loss"].keys() == {10}
    work(tmp_path / "run", total_steps=20, resume="never")
    assert read_log(tmp_path / "run")["scalar", "loss"].keys() == {10, 20}


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (ImportError("No module named 'visualdl'"), r"--visualdl needs VisualDL: pip install -e \"\.\[log\]\""),
        (TypeError("Descriptors cannot be created directly.\nmore"), r"broken \(.*Descriptors cannot be created"),
    ],
)
def test_without_visualdl_one_line_says_so_before_anything_is_done(problem, words, tmp_path, monkeypatch, capsys):
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "visualdl":
                raise problem

    monkeypatch.delitem(sys.modules, "visualdl", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    cfg = dataclasses.replace(RunSettings(), visualdl=True, device="cpu")

    @one_line_errors
    def command(argv):
        preparation.begin(cfg, lambda path: pytest.fail("images were drawn"), tmp_path)

    with pytest.raises(SystemExit) as stop:
        command([])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    with pytest.raises(UserError, match=words):
        visualdl_log.require()
