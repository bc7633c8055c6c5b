"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import json
import re
import shlex

import numpy as np
import pytest

from common.checkpoint.weights import read_weights, save_weights
from common.datasets.paired_images import open_photos
from common.errors import UserError
from common.imaging.io import read_image, write_image
from deepfill import export, infer
from deepfill import train as df_train
from deepfill.config import TINY
from tests.helpers import assert_completes_the_same_compiled, fails, photo

import paddle

pytestmark = pytest.mark.medium

SMALL = ["--image-px", "32", "--base-channels", "4", "--discriminator-channels", "4", "--device", "cpu"]


def trained(faces, tmp_path_factory, **changes):
    """Four steps, after which the last layers are given weights: a completion shows all that the network sees."""
    folder = tmp_path_factory.mktemp("run") / "run"
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=folder, device="cpu", residual=False, **changes)
    path, rng = df_train.train(cfg), np.random.default_rng(2)
    tensors, metadata = read_weights(path)
    network = infer.load(path)
    for last in (network.coarse.conv17, network.refine.allconv17):
        last.weight.set_value(rng.normal(0, 2, last.weight.shape).astype(np.float32))
    discriminator = df_train.infer.load_discriminator(path, network.arguments["guided"])
    return save_weights(path, {"generator": network, "discriminator": discriminator}, metadata)


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    """They take a sketch."""
    return trained(faces, tmp_path_factory, guided=True)


@pytest.fixture(scope="module")
def unguided(faces, tmp_path_factory):
    return trained(faces, tmp_path_factory, guided=False)


def drawn(path, height, width, *boxes, paper=255, ink=0):
    """Writes an image of paper with boxes of ink, and returns where they are."""
    where = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        where[top:bottom, left:right] = True
    write_image(path, np.where(where, ink, paper).astype(np.uint8))
    return where


# ---- train


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "36"], "--image-px 36 is no multiple of 8"),
        (["--image-px", "0"], "--image-px 0 is no multiple of 8 from 32 up"),
        (["--base-channels", "5"], "--base-channels 5 is odd"),
        (["--discriminator-channels", "0"], "--discriminator-channels 0"),
        (["--sketch-drop", "1.5"], "--sketch-drop 1.5"),
        (["--sketch-drop", "-0.1"], "--sketch-drop -0.1"),
        (["--no-guided", "--edges-dir", "."], "--edges-dir is for --guided"),
        (["--edges-dir", "no/edges"], "no folder of edges no/edges"),
        (["--adversarial-weight", "-1"], "--adversarial-weight -1.0"),
        (["--known-weight", "-1"], "--known-weight -1.0"),
        (["--decay-steps", "-1"], "--decay-steps -1"),
        (["--plain-steps", "-1"], "--plain-steps -1"),
        (["--init-discriminator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--pairs"], "178 x 218"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    arguments = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run", "--total-steps", "2", *flags]
    assert told in fails(capsys, df_train.main, *arguments)
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_do_not_fit(capsys, faces, weights, unguided, tmp_path):
    start = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run"]
    assert "set --no-guided" in fails(capsys, df_train.main, *start, "--init-generator", unguided)
    assert "set --guided" in fails(capsys, df_train.main, *start, "--no-guided", "--init-generator", weights)
    line = fails(capsys, df_train.main, *start, "--init-discriminator", unguided)
    assert "discriminator" in line and "takes no sketch" in line
    assert not (tmp_path / "run").exists()


def test_edges_that_are_missing_or_of_another_size(capsys, faces, tmp_path):
    """The images without edges are told by name; none has any, so the run ends."""
    (tmp_path / "edges").mkdir()
    flags = [*SMALL, "--data-dir", faces, "--edges-dir", tmp_path / "edges", "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as stop:
        df_train.main(["quick", *(str(flag) for flag in flags)])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(r"error: \d of 54 images are corrupt", told) and "Traceback" not in told
    assert re.search(r"edges has no edge image of (\d{6}).jpg; call it \1_edge.png or \1.png", told)
    drawn(tmp_path / "edges/000001_edge.png", 50, 40, (3, 3, 9, 9))
    make = df_train.sample_maker(
        open_photos(faces, "train", False), dataclasses.replace(TINY, edges_dir=tmp_path / "edges")
    )
    with pytest.raises(UserError, match="000001_edge.png is 40 x 50 px, but its image is 178 x 218 px"):
        make(0, np.random.default_rng(0))


def test_quick_to_the_command_that_it_prints(capsys, faces, tmp_path, monkeypatch):
    """Three steps, the last with the discriminator, the table, and then exactly the last line's command."""
    monkeypatch.chdir(tmp_path)
    flags = ["--no-residual", "--learning-rate", "0.01", "--batch-size", "1"]
    flags += ["--total-steps", "3", "--plain-steps", "2", "--data-dir", str(faces)]
    path = df_train.main(["quick", *SMALL, *flags, "--run-dir", "run"])
    told = capsys.readouterr().out
    assert path.exists() and "hole_psnr_db" in told and "l1 9.1 %" in told
    losses = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert {"reconstruction", "discriminator", "adversarial", "hole_psnr_db"} <= set().union(*losses)
    assert all(np.isfinite(value) for row in losses for value in row.values() if isinstance(value, float))
    gain = float(re.search(r"above Telea: ([+-]\d+\.\d+) dB", told)[1])
    rows = json.loads((tmp_path / "run/scores.json").read_text())["rows"]
    assert gain == pytest.approx(rows["ours"]["hole_psnr_db"][0] - rows["Telea"]["hole_psnr_db"][0], abs=0.0051)
    previews = sorted((tmp_path / "run/previews").iterdir())
    assert [name.name for name in previews] == ["step_0000001.png", "step_0000003.png"]
    assert read_image(previews[0]).shape[1] > 4 * 32 and (tmp_path / "run/images.png").exists()
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "deepfill.infer"]
    infer.main(words[3:])
    original = read_image(words[words.index("--input") + 1])
    completed = read_image(tmp_path / "completed.png")
    changed = (completed != original).any(axis=-1)
    assert completed.shape == original.shape and 0.005 < changed.mean() < 0.5


# ---- infer


def complete(weights, folder, mask, *flags, output="out.png"):
    infer.main(
        [*("--weights", str(weights), "--input", str(folder / "in.png"), "--output", str(folder / output)),
         *("--mask", str(mask), "--device", "cpu", *map(str, flags))]
    )  # fmt: skip
    return read_image(folder / output)


def test_a_mask_drawn_in_black_and_ways_to_blend_and_to_look(unguided, tmp_path):
    photo(tmp_path, 200, 180)
    box = (20, 10, 40, 30)
    mask = drawn(tmp_path / "white.png", 200, 180, box, paper=0, ink=255)
    drawn(tmp_path / "black.png", 200, 180, box)
    white = complete(unguided, tmp_path, tmp_path / "white.png")
    np.testing.assert_array_equal(white, complete(unguided, tmp_path, tmp_path / "black.png", "--invert-mask"))
    for flags in (["--blend", "paper"], ["--blend", "feather"], ["--window", "whole"]):
        other = complete(unguided, tmp_path, tmp_path / "white.png", *flags)
        np.testing.assert_array_equal(other[~mask], white[~mask])
        assert (other[mask] != white[mask]).any(axis=-1).mean() > 0.2, flags
    np.testing.assert_array_equal(white, complete(unguided, tmp_path, tmp_path / "white.png", "--window", "mask"))
    pasted = complete(unguided, tmp_path, tmp_path / "white.png", "--blend", "paste")  # as the release does
    np.testing.assert_array_equal(pasted, complete(unguided, tmp_path, tmp_path / "white.png", "--blend", "paper"))


# ---- sketches


def test_a_sketch_changes_the_hole_alone(weights, tmp_path, capsys):
    """Dark on light, or light on dark; lines beside the hole, or no lines at all, are as no sketch."""
    photo(tmp_path, 60, 50)
    mask = drawn(tmp_path / "hole.png", 60, 50, (10, 10, 40, 40), paper=0, ink=255)
    drawn(tmp_path / "lines.png", 60, 50, (0, 20, 60, 24), (20, 0, 22, 50))
    drawn(tmp_path / "light.png", 60, 50, (0, 20, 60, 24), (20, 0, 22, 50), paper=0, ink=255)
    drawn(tmp_path / "inside.png", 60, 50, (10, 20, 40, 24), (20, 10, 22, 40))
    drawn(tmp_path / "beside.png", 60, 50, (0, 0, 60, 4), (50, 0, 58, 50))
    drawn(tmp_path / "empty.png", 60, 50)
    without = complete(weights, tmp_path, tmp_path / "hole.png")
    assert "note: these weights take a sketch (--sketch)" in capsys.readouterr().out
    done = {}
    for name in ("lines", "light", "inside", "beside", "empty"):
        done[name] = complete(weights, tmp_path, tmp_path / "hole.png", "--sketch", tmp_path / f"{name}.png")
        np.testing.assert_array_equal(done[name][~mask], without[~mask])
        assert "note: these weights take" not in capsys.readouterr().out
    assert (done["lines"][mask] != without[mask]).any(axis=-1).mean() > 0.3
    for one, other in (("light", done["lines"]), ("inside", done["lines"]), ("beside", without), ("empty", without)):
        np.testing.assert_array_equal(done[one], other, err_msg=one)


def test_sketch_mistakes(capsys, weights, unguided, tmp_path):
    photo(tmp_path)
    drawn(tmp_path / "lines.png", 47, 33, (3, 3, 30, 5))
    drawn(tmp_path / "small.png", 20, 20, (3, 3, 9, 9))
    (tmp_path / "text.png").write_text("no image")
    photo(tmp_path / "photos", name="a.png")
    (tmp_path / "sketches").mkdir()
    one = ("--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    many = ("--input", tmp_path / "photos", "--output", tmp_path / "out")

    def told(weights, *arguments):
        return fails(capsys, infer.main, "--weights", weights, *arguments)

    line = told(unguided, *one, "--sketch", tmp_path / "lines.png")
    assert str(unguided) in line and "takes no sketch; train with --guided" in line
    assert "takes no sketch" in told(unguided, *many, "--sketch", tmp_path / "sketches")
    line = told(weights, *one, "--sketch", tmp_path / "small.png")
    assert "small.png is 20 x 20 px, but its image is 33 x 47 px" in line
    assert "no sketch" in told(weights, *one, "--sketch", tmp_path / "nowhere.png")
    assert "cannot read the sketch" in told(weights, *one, "--sketch", tmp_path / "text.png")
    assert "is a folder, the input one photo" in told(weights, *one, "--sketch", tmp_path / "sketches")
    assert "is one file, the input a folder" in told(weights, *many, "--sketch", tmp_path / "lines.png")
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "out").exists()


def test_a_folder_with_sketches(weights, tmp_path, capsys):
    """Each photo has its own, by its name; the one without is left out and named. Together as one by one."""
    images = {name: photo(tmp_path / "photos", 40 + 9 * n, 50, f"{name}.png") for n, name in enumerate("abc")}
    for n, name in enumerate(("a", "b_edge")):
        drawn(tmp_path / f"lines/{name}.png", 40 + 9 * n, 50, (0, 12 + 9 * n, 60, 15 + 9 * n))
    for n, name in enumerate("abc"):
        drawn(tmp_path / f"masks/{name}.png", 40 + 9 * n, 50, (5, 5, 35, 45), paper=0, ink=255)
    flags = ["--weights", weights, "--input", tmp_path / "photos", "--output", tmp_path / "out"]
    flags += ["--mask", tmp_path / "masks", "--sketch", tmp_path / "lines", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        infer.main([str(flag) for flag in flags])
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 2 and list(summary["failed"]) == [str(tmp_path / "photos/c.png")]
    assert "no edge image of c.png; call it c_edge.png or c.png" in capsys.readouterr().out
    for name, line in (("a", "a"), ("b", "b_edge")):
        write_image(tmp_path / "in.png", images[name])
        mask = tmp_path / f"masks/{name}.png"
        alone = complete(weights, tmp_path, mask, "--sketch", tmp_path / f"lines/{line}.png").astype(int)
        done = read_image(tmp_path / f"out/{name}.png")
        assert np.abs(alone - done).max() <= 1
        assert np.abs(complete(weights, tmp_path, mask).astype(int) - done).max() > 1


def test_offsets_are_painted(weights, tmp_path, capsys, monkeypatch):
    """For the photo and the hole that are completed, with the sketch if there is one."""
    image = photo(tmp_path, 61, 47)
    mask = drawn(tmp_path / "hole.png", 61, 47, (8, 8, 40, 30), paper=0, ink=255)
    lines = drawn(tmp_path / "lines.png", 61, 47, (10, 10, 30, 14), (20, 4, 24, 40), (33, 12, 38, 28))
    seen, offsets = [], infer.Generator.offsets

    def watched(network, image, mask_tensor, edge=None):
        seen.append(0 if edge is None else edge.sum().item())
        return offsets(network, image, mask_tensor, edge)

    monkeypatch.setattr(infer.Generator, "offsets", watched)
    for given, flags in ((None, []), (lines, ["--sketch", tmp_path / "lines.png"])):
        complete(weights, tmp_path, tmp_path / "hole.png", "--offsets", tmp_path / "flow.png", *flags)
        assert f"written: {tmp_path / 'flow.png'}" in capsys.readouterr().out
        shown = read_image(tmp_path / "flow.png")
        np.testing.assert_array_equal(shown, infer.show_offsets(infer.load(weights), image, mask, given))
        assert shown.shape == image.shape and np.unique(shown.reshape(-1, 3), axis=0).shape[0] > 5
    assert seen[:2] == [0, 0] and seen[2] == seen[3] > 20


# ---- export


@pytest.mark.parametrize("name", ["weights", "unguided"])
def test_an_exported_network_answers_as_the_original_at_any_size(request, tmp_path, capsys, name):
    weights = request.getfixturevalue(name)
    export.main(["--weights", str(weights), "--output", str(tmp_path / "exported"), "--device", "cpu"])
    assert "largest difference" in capsys.readouterr().out
    assert list((tmp_path / "exported").glob("generator.pdiparams"))
    network, compiled = infer.load(weights), paddle.jit.load(str(tmp_path / "exported/generator"))
    compiled.eval()
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 32, 32), (3, 40, 64)):
        image = rng.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
        maps = [(rng.random((batch, 1, height, width)) < fraction).astype(np.float32) for fraction in (0.4, 0.2)]
        maps = maps if network.arguments["guided"] else maps[:1]
        with paddle.no_grad():
            made = compiled(*(paddle.to_tensor(value) for value in (image, *maps))).numpy()
        np.testing.assert_allclose(made, infer.predict(network, image, *maps)[1], atol=1e-4)
        assert made.std() > 0.05


# ---- compiled


def test_compiled_it_completes_the_same(weights, faces, tmp_path, capsys, eager_for_a_moment):
    scored = ("plain", "compiled")  # evaluate wants both stages
    assert_completes_the_same_compiled(
        "deepfill", "generator", weights, faces, tmp_path, capsys, eager_for_a_moment, scored
    )
