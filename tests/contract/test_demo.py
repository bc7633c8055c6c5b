"""`infer --demo` of every paper; and what `infer` says when something is missing, or given twice."""

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import weights
from common.errors import UserError
from common.imaging.folders import find_images
from common.imaging.io import read_image, write_image
from common.inpainting import demo
from common.inpainting.options import fill_demo
from common.masks.reader import read_mask
from data import EXAMPLES

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
BUNDLED = sorted({about["paper"] for about in weights.read_manifest().values()})
COMPLETING = [paper for paper in BUNDLED if paper != "pix2pix"]
SHORT = {"dcgan_completion": ["--steps", "4", "--restarts", "1", "--every", "2"]}  # its search takes a minute


def infer(paper, *arguments):
    importlib.import_module(f"{paper}.infer").main([*map(str, arguments), "--device", "cpu"])


def fails(capsys, paper, *arguments):
    """The one line that an `infer` command says before it ends with status 2."""
    with pytest.raises(SystemExit) as stop:
        infer(paper, *arguments)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1
    return told


def mask_of(name, folder="masks"):
    return read_mask(EXAMPLES / folder / f"{name}.png", *read_image(EXAMPLES / folder / f"{name}.png").shape[:2])


@pytest.mark.parametrize("paper", COMPLETING)
def test_faces_are_completed_into_a_folder_of_the_papers_name(paper, tmp_path, monkeypatch, capsys):
    """Every face differs in its hole alone; the sheet holds three faces of 178 x 218 px side by side, four times."""
    monkeypatch.chdir(tmp_path)
    infer(paper, "--demo", *SHORT.get(paper, []))
    folder = Path(f"demo_{paper}")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert f"{folder}: 4 results" in capsys.readouterr().out
    sheet = read_image(folder / "side_by_side.png")
    assert sheet.shape == (20 + 4 + 4 * (218 + 4), 4 + 3 * (178 + 4), 3)
    for row, photo in enumerate(find_images(EXAMPLES / "faces")):
        image, done, mask = read_image(photo), read_image(folder / f"{photo.stem}.png"), mask_of(photo.stem)
        assert np.array_equal(done[~mask], image[~mask]) and (done != image).any(-1)[mask].mean() > 0.5
        cells = [
            sheet[24 + row * 222 :, 4 + column * 182 :][:218, :178] for column in range(3)
        ]  # input, ours, truth: 20 px of title, gaps of 4 px
        assert (cells[0][mask] == 255).all() and np.array_equal(cells[0][~mask], image[~mask])
        assert np.array_equal(cells[1], done) and np.array_equal(cells[2], image)
    assert json.loads((folder / "summary.json").read_text())["weights"] == str(weights.bundled(paper)[0])


def test_faces_that_deepfill_completes_are_seen_as_in_training(tmp_path):
    """And a face with lines: they change the hole alone, and are the difference to the same without."""
    from deepfill.infer import complete, load
    from deepfill.sketch import read_sketch

    infer("deepfill", "--demo", "--output", tmp_path / "a", "--disable-cpu-layers")
    infer("deepfill", "--demo", "--output", tmp_path / "b", "--disable-cpu-layers", "--window", "whole")
    network, image, mask = (
        load(weights.find("deepfill_faces")),
        read_image(EXAMPLES / "faces/drawn_1.png"),
        mask_of("drawn_1"),
    )
    for name, window in (("a", "auto"), ("b", "whole")):
        alone = complete(network, image, mask, window=window).astype(int)
        assert np.abs(alone - read_image(tmp_path / name / "drawn_1.png")).max() <= 1, window  # batches round otherwise
    image, mask = read_image(EXAMPLES / "sketch/face.png"), mask_of("mask", "sketch")
    lines = read_sketch(EXAMPLES / "sketch/lines.png", *mask.shape)
    done = read_image(tmp_path / "a/sketch/face.png")
    assert np.array_equal(done[~mask], image[~mask]) and np.array_equal(done, complete(network, image, mask, lines))
    freely = read_image(tmp_path / "a/sketch/side_by_side.png")[24:, 4 + 2 * 196 :][:192, :192]
    assert np.array_equal(freely, complete(network, image, mask)) and (freely != done).any(-1)[mask].mean() > 0.5


@pytest.mark.skipif("pix2pix" not in BUNDLED, reason="no weights of pix2pix are bundled")
def test_streets_are_translated_both_ways(tmp_path, capsys):
    from pix2pix.infer import load, translate

    infer("pix2pix", "--demo", "--output", tmp_path, "--disable-cpu-layers")
    assert capsys.readouterr().out.count("2 results") == 2
    for name, source, target in (("label_to_photo", "labels", "streets"), ("photo_to_label", "streets", "labels")):
        network = load(weights.find(f"pix2pix_{name}"))
        sheet = read_image(tmp_path / name / "side_by_side.png")
        for row in range(2):
            (given,) = (EXAMPLES / source).glob(f"drawn_{row + 1}.*")
            (truth,) = (EXAMPLES / target).glob(f"drawn_{row + 1}.*")
            done = read_image(tmp_path / name / f"drawn_{row + 1}.png")
            assert np.array_equal(done, translate(network, read_image(given)))
            for column, image in enumerate((read_image(given), done, read_image(truth))):
                assert np.array_equal(sheet[24 + row * 260 :, 4 + column * 260 :][:256, :256], image)


def test_own_weights_choose_their_direction(tmp_path):
    infer("pix2pix", "--demo", "--weights", weights.find("pix2pix_photo_to_label"), "--output", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo_to_label"]


# ---- mistakes


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_missing_is_named(paper, capsys, tmp_path):
    assert "--weights, --input and --output must be given; or try --demo" in fails(capsys, paper)
    assert "error: --weights must be given" in fails(capsys, paper, "--input", "a.png", "--output", "b.png")
    (tmp_path / "w.safetensors").write_text("")
    assert "error: --input and --output must" in fails(capsys, paper, "--weights", tmp_path / "w.safetensors")


@pytest.mark.parametrize("paper", PAPERS)
def test_what_the_demo_brings_is_not_given(paper, capsys, tmp_path):
    assert "--demo or --input, not both" in fails(capsys, paper, "--demo", "--input", EXAMPLES / "faces")
    assert "name a folder" in fails(capsys, paper, "--demo", "--output", tmp_path / "out.png")
    (tmp_path / "file").write_text("")
    assert "name a folder" in fails(capsys, paper, "--demo", "--output", tmp_path / "file")
    assert "no weights file" in fails(capsys, paper, "--demo", "--weights", "w.safetensors", "--output", tmp_path / "o")


@pytest.mark.parametrize(
    ("paper", "flag"),
    [
        ("glcic", ["--mask", "random"]),
        ("context_encoder", ["--invert-mask"]),
        ("deepfill", ["--sketch", "lines.png"]),
        ("dcgan_completion", ["--eyes", "1", "2", "3", "4"]),
        ("pix2pix", ["--half", "left"]),
    ],
)
def test_holes_lines_and_eyes_are_brought_too(paper, flag, capsys):
    assert f"--demo or {flag[0]}, not both" in fails(capsys, paper, "--demo", *flag)


@pytest.mark.parametrize("paper", [paper for paper in PAPERS if paper not in BUNDLED])
def test_papers_without_bundled_weights_say_so(paper, capsys):
    assert f"no weights of {paper} " in fails(capsys, paper, "--demo")


def test_bundled_weights_are_found_by_the_paper(tmp_path):
    with pytest.raises(UserError, match="no weights of nobody .* yet; .*--weights FILE"):
        weights.bundled("nobody")
    assert weights.bundled("pix2pix") == [weights.find(name) for name in weights.of_paper("pix2pix")]


def test_own_pictures_still_need_no_demo(tmp_path):
    """What is complete is returned as it is."""

    @dataclasses.dataclass(frozen=True)
    class Options:
        weights: Path | None = Path("w")
        input: Path | None = Path("i")
        output: Path | None = Path("o.png")
        demo: bool = False

    options = Options()
    assert fill_demo(options, "p", lambda paper: 1 / 0, input=Path("other")) is options


# ---- weights that come later


def test_weights_that_are_packed_later_are_taken(tmp_path):
    """Context Encoder's, in a copy of the suite: a tiny network, packed there, is all that its demo needs."""
    paper = "context_encoder"
    for folder in ("common", paper, "data", "tools", "weights"):
        leave = shutil.ignore_patterns("__pycache__", "*.safetensors", "manifest.json")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=leave)
    config, train = (importlib.import_module(f"{paper}.{name}") for name in ("config", "train"))
    drawn = train.draw_images(tmp_path / "drawn", count=60)
    tiny = dataclasses.replace(config.TINY, preset="quick", data_dir=drawn, run_dir=tmp_path / "run", device="cpu")
    train.train(tiny)

    def run(*command):
        clean = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", *map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True
        )

    missing = run(f"{paper}.infer", "--demo", "--device", "cpu")
    assert missing.returncode == 2 and "no weights of context_encoder" in missing.stderr
    about = ["--data", "drawn", "--images", "60 faces", "--hardware", "one core"]
    packed = run("tools.pack_weights", tmp_path / "run", "tiny", *about)
    assert packed.returncode == 0, packed.stderr
    done = run(f"{paper}.infer", "--demo", "--device", "cpu")
    assert done.returncode == 0 and f"demo_{paper}: 4 results" in done.stdout, done.stderr
    for photo in find_images(EXAMPLES / "faces"):
        image, mask = read_image(photo), mask_of(photo.stem)
        assert np.array_equal(read_image(tmp_path / f"demo_{paper}" / f"{photo.stem}.png")[~mask], image[~mask])


def test_a_sheet_leaves_out_what_has_no_result(tmp_path, capsys):
    """And nothing is written where nothing came of any."""
    photo = np.full((218, 178, 3), 90, np.uint8)
    write_image(tmp_path / "results/drawn_2.png", photo)
    demo.show_completed(EXAMPLES / "faces", EXAMPLES / "masks", tmp_path / "results")
    assert read_image(tmp_path / "results/side_by_side.png").shape == (20 + 4 + 222, 4 + 3 * 182, 3)
    assert "1 result;" in capsys.readouterr().out
    demo.show_completed(EXAMPLES / "faces", EXAMPLES / "masks", tmp_path / "none")
    assert not (tmp_path / "none").exists()
