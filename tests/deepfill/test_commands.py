"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import io
import json
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.checkpoint import newest_state, read_weights, save_weights
from common.errors import UserError
from common.images import read_image, write_image
from data.synthetic import write_faces
from deepfill import convert, evaluate, export, infer
from deepfill import train as df_train
from deepfill.config import TINY

import paddle

SMALL = ["--image-px", "32", "--base-channels", "4", "--discriminator-channels", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=60)


def trained(faces, tmp_path_factory, **changes):
    """Four steps, after which the last layers are given weights: a completion shows all that the network sees."""
    folder = tmp_path_factory.mktemp("run") / "run"
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=folder, device="cpu", residual=False, **changes)
    path, rng = df_train.train(cfg), np.random.default_rng(2)
    tensors, facts = read_weights(path)
    network = infer.load(path)
    for last in (network.coarse.conv17, network.refine.allconv17):
        last.weight.set_value(rng.normal(0, 2, last.weight.shape).astype(np.float32))
    discriminator = df_train.load_discriminator(path, network.arguments["guided"])
    return save_weights(path, {"generator": network, "discriminator": discriminator}, facts)


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    """They take a sketch."""
    return trained(faces, tmp_path_factory, guided=True)


@pytest.fixture(scope="module")
def unguided(faces, tmp_path_factory):
    return trained(faces, tmp_path_factory, guided=False)


def fails(capsys, main, *arguments):
    """Runs a command that must end with status 2; returns its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    told = [line for line in capsys.readouterr().err.strip().splitlines() if "it/s" not in line]
    assert told[-1].startswith("error: ") and sum("error" in line for line in told) == 1
    return told[-1]


def photo(folder, height=47, width=33, name="in.png"):
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(folder / name, image)
    return image


def drawn(path, height, width, *boxes, paper=255, ink=0):
    """Writes a picture of paper with boxes of ink, and returns where they are."""
    where = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        where[top:bottom, left:right] = True
    write_image(path, np.where(where, ink, paper).astype(np.uint8))
    return where


# ---- train


def test_train_without_data_says_how_to_get_some(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ("--run-dir", tmp_path / "run", "--total-steps", "1", "--batch-size", "1", *SMALL)
    for preset in ("cpu", "article", "paper-places2", "paper-guided"):
        line = fails(capsys, df_train.main, preset, *run)
        assert "--data-dir" in line and "quick" in line
    line = fails(capsys, df_train.main, "paper-celebahq", *run, "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in line and "data.prepare" in line and "quick" in line
    (tmp_path / "empty").mkdir()
    assert "no picture in" in fails(capsys, df_train.main, "cpu", *run, "--data-dir", tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "36"], "--image-px 36 is no multiple of 8"),
        (["--image-px", "0"], "--image-px 0 is no multiple of 8 from 32 up"),
        (["--base-channels", "5"], "--base-channels 5 is odd"),
        (["--base-channels", "0"], "--base-channels 0"),
        (["--discriminator-channels", "0"], "--discriminator-channels 0"),
        (["--sketch-drop", "1.5"], "--sketch-drop 1.5"),
        (["--sketch-drop", "-0.1"], "--sketch-drop -0.1"),
        (["--no-guided", "--edges-dir", "."], "--edges-dir is for --guided"),
        (["--edges-dir", "no/edges"], "no folder of edges no/edges"),
        (["--adversarial-weight", "-1"], "--adversarial-weight -1.0"),
        (["--known-weight", "-1"], "--known-weight -1.0"),
        (["--decay-steps", "-1"], "--decay-steps -1"),
        (["--plain-steps", "-1"], "--plain-steps -1"),
        (["--device", "tpu"], "unknown device"),
        (["--init-generator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--init-discriminator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--pairs"], "178 x 218"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--preview-steps", "0"], "--preview-steps 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--seed", "-1"], "--seed -1"),
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
    """The pictures without edges are told by name; none has any, so the run ends."""
    (tmp_path / "edges").mkdir()
    flags = [*SMALL, "--data-dir", faces, "--edges-dir", tmp_path / "edges", "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as stop:
        df_train.main(["quick", *(str(flag) for flag in flags)])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(r"error: \d of 54 pictures are broken", told) and "Traceback" not in told
    assert re.search(r"edges has no edge picture of (\d{6}).jpg; call it \1_edge.png or \1.png", told)
    drawn(tmp_path / "edges/000001_edge.png", 50, 40, (3, 3, 9, 9))
    make = df_train.sample_maker(
        df_train.evaluate.open_photos(faces, "train", False), dataclasses.replace(TINY, edges_dir=tmp_path / "edges")
    )
    with pytest.raises(UserError, match="000001_edge.png is 40 x 50 px, but its picture is 178 x 218 px"):
        make(0, np.random.default_rng(0))


def test_train_into_a_folder_that_cannot_be_written(capsys, faces, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(capsys, df_train.main, "quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "file/run")
    assert "cannot write the run folder" in line


def test_a_run_with_other_options_is_not_continued(capsys, faces, weights):
    before = read_weights(weights)[0]
    arguments = ["quick", *SMALL, "--data-dir", faces, "--run-dir", weights.parent, "--known-weight", "3"]
    line = fails(capsys, df_train.main, *arguments)
    assert f"known_weight was {TINY.known_weight}, is 3.0" in line and "--resume never" in line
    after = read_weights(weights)[0]
    assert all((before[name] == after[name]).all() for name in before)


def test_quick_to_the_command_that_it_prints(capsys, faces, tmp_path, monkeypatch):
    """Three steps, the last with the discriminator, the table, and then exactly the last line's command."""
    monkeypatch.chdir(tmp_path)
    flags = [
        "--no-residual",
        "--learning-rate",
        "0.01",
        "--batch-size",
        "1",
        "--total-steps",
        "3",
        "--plain-steps",
        "2",
        "--data-dir",
        str(faces),
    ]
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
    assert read_image(previews[0]).shape[1] > 4 * 32 and (tmp_path / "run/pictures.png").exists()
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "deepfill.infer"]
    infer.main(words[3:])
    original = read_image(words[words.index("--input") + 1])
    completed = read_image(tmp_path / "completed.png")
    changed = (completed != original).any(axis=-1)
    assert completed.shape == original.shape and 0.005 < changed.mean() < 0.5


def test_broken_pictures_in_the_data_are_skipped_and_named(faces, tmp_path, capsys):
    """One truncated JPEG and one text file among 260 pictures; training goes on without them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = sorted((faces / "img_align_celeba").iterdir())
    for n in range(260):
        (folder / f"{n:03d}.jpg").write_bytes(names[n % 60].read_bytes())
    (folder / "000.jpg").write_bytes(names[0].read_bytes()[:2000])
    (folder / "100.jpg").write_text("this is no picture")
    cfg = dataclasses.replace(TINY, data_dir=folder, run_dir=tmp_path / "run", device="cpu", crop="center")
    assert df_train.train(dataclasses.replace(cfg, total_steps=8, batch_size=32)).exists()
    told = capsys.readouterr().err
    assert told.count("000.jpg") == 1 and told.count("100.jpg") == 1 and "2 broken so far" in told


# ---- weights that are not what they should be


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("name", ["evil.pdparams", "evil.pth", "evil.index", "evil.safetensors"])
def test_malicious_weights_are_refused_unexecuted(capsys, faces, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"weight": Malice()}))
    photo(tmp_path)
    weights = ("--weights", name)
    assert name in fails(capsys, infer.main, *weights, "--input", "in.png", "--output", "out.png")
    assert name in fails(capsys, evaluate.main, *weights, "--data-dir", faces)
    assert name in fails(capsys, export.main, *weights, "--output", "exported")
    assert "evil" in fails(capsys, convert.main, name, "out.safetensors")
    start = ("quick", *SMALL, "--data-dir", faces, "--run-dir", "run")
    assert name in fails(capsys, df_train.main, *start, "--init-generator", name)
    assert name in fails(capsys, df_train.main, *start, "--init-discriminator", name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "in.png"])


def test_weights_of_another_paper_or_width(capsys, faces, weights, tmp_path):
    network = infer.load(weights)
    nets = {"generator": network}
    other = save_weights(tmp_path / "other.safetensors", nets, {**network.facts, "paper": "tenth"})
    arguments = {**network.facts["generator"], "base_channels": 16}
    wide = save_weights(tmp_path / "wide.safetensors", nets, {**network.facts, "generator": arguments})
    facts = {key: value for key, value in network.facts.items() if key not in ("generator", "discriminator")}
    bare = save_weights(tmp_path / "bare.safetensors", nets, facts)
    photo(tmp_path)
    rest = ("--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    assert "tenth" in fails(capsys, infer.main, "--weights", other, *rest)
    assert "generator.coarse.conv1.conv.weight has shape" in fails(capsys, infer.main, "--weights", wide, *rest)
    assert "bare.safetensors" in fails(capsys, infer.main, "--weights", bare, *rest)
    assert "tenth" in fails(capsys, evaluate.main, "--weights", other, "--data-dir", faces)
    assert "tenth" in fails(capsys, export.main, "--weights", other, "--output", tmp_path / "exported")
    start = ("quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run")
    assert "tenth" in fails(capsys, df_train.main, *start, "--init-generator", other)
    assert "no discriminator" in fails(capsys, df_train.main, *start, "--init-discriminator", other)
    assert "no discriminator" in fails(capsys, df_train.main, *start, "--init-discriminator", bare)
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "run").exists()


# ---- infer


def complete(weights, folder, mask, *flags, output="out.png"):
    infer.main(
        [*("--weights", str(weights), "--input", str(folder / "in.png"), "--output", str(folder / output)),
         *("--mask", str(mask), "--device", "cpu", *map(str, flags))]
    )  # fmt: skip
    return read_image(folder / output)


@pytest.mark.parametrize("name", ["weights", "unguided"])
@pytest.mark.parametrize(
    "size, box",
    [
        ((20, 24), (5, 6, 15, 20)),  # a picture smaller than the network's 32 px
        ((90, 120), (10, 15, 80, 100)),  # a hole larger than its window
        ((300, 33), (20, 0, 290, 33)),  # most of a long picture
        ((33, 47), (0, 0, 33, 20)),  # a whole edge
    ],
)
def test_any_picture_and_hole_completes(request, tmp_path, capsys, name, size, box):
    image = photo(tmp_path, *size)
    hole = drawn(tmp_path / "hole.png", *size, box, paper=0, ink=255)
    done = complete(request.getfixturevalue(name), tmp_path, tmp_path / "hole.png")
    told = capsys.readouterr().out
    assert f"{size[1]} x {size[0]} px, hole {hole.mean():.2%}" in told and "window" in told
    assert ("note: these weights take a sketch" in told) == (name == "weights")
    assert done.shape == image.shape
    np.testing.assert_array_equal(done[~hole], image[~hole])
    assert (done[hole] != image[hole]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("kind", ["center", "random", "freeform", "blocks", "regions", "noise"])
def test_holes_by_name(unguided, tmp_path, kind):
    """What changed lies in a hole of 3 % or more; the seed chooses the hole of the kinds that are drawn."""
    image = photo(tmp_path, 64, 64)
    first = complete(unguided, tmp_path, kind, "--seed", "1")
    changed = (first != image).any(axis=-1)
    assert 0.03 < changed.mean() < 0.9
    np.testing.assert_array_equal(first, complete(unguided, tmp_path, kind, "--seed", "1"))
    other = (complete(unguided, tmp_path, kind, "--seed", "2") != image).any(axis=-1)
    assert (changed == other).mean() > 0.99 if kind == "center" else (changed != other).any()


def test_a_mask_drawn_in_black_and_ways_to_blend_and_to_look(unguided, tmp_path):
    photo(tmp_path, 200, 180)
    box = (20, 10, 40, 30)
    hole = drawn(tmp_path / "white.png", 200, 180, box, paper=0, ink=255)
    drawn(tmp_path / "black.png", 200, 180, box)
    white = complete(unguided, tmp_path, tmp_path / "white.png")
    np.testing.assert_array_equal(white, complete(unguided, tmp_path, tmp_path / "black.png", "--invert-mask"))
    for flags in (["--blend", "poisson"], ["--blend", "feather"], ["--window", "whole"]):
        other = complete(unguided, tmp_path, tmp_path / "white.png", *flags)
        np.testing.assert_array_equal(other[~hole], white[~hole])
        assert (other[hole] != white[hole]).any(axis=-1).mean() > 0.2, flags
    np.testing.assert_array_equal(white, complete(unguided, tmp_path, tmp_path / "white.png", "--window", "hole"))


def test_a_jpeg_is_written_with_a_note(unguided, tmp_path, capsys):
    photo(tmp_path, 64, 64)
    complete(unguided, tmp_path, "center")
    assert "known pixels" not in capsys.readouterr().out
    complete(unguided, tmp_path, "center", output="out.jpg")
    told = capsys.readouterr().out
    assert "written: " + str(tmp_path / "out.jpg") in told and "changes known pixels a little; write a .png" in told


def test_input_mistakes(capsys, unguided, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    photo(tmp_path)
    drawn(tmp_path / "small.png", 20, 20)
    drawn(tmp_path / "black.png", 47, 33, paper=0)
    (tmp_path / "empty").mkdir()
    start = ("--weights", unguided, "--output", tmp_path / "out.png")
    given = (*start, "--input", tmp_path / "in.png")
    assert "text.jpg" in fails(capsys, infer.main, *start, "--input", tmp_path / "text.jpg")
    assert "nowhere" in fails(capsys, infer.main, *start, "--input", tmp_path / "nowhere.jpg")
    assert "no picture in" in fails(capsys, infer.main, *start, "--input", tmp_path / "empty")
    assert "there is no mask stars" in fails(capsys, infer.main, *given, "--mask", "stars")
    line = fails(capsys, infer.main, *given, "--mask", tmp_path / "small.png")
    assert "20 x 20 px, but its picture is 33 x 47 px" in line
    assert "covers 0.00%" in fails(capsys, infer.main, *given, "--mask", tmp_path / "black.png")
    assert "out.docx" in fails(capsys, infer.main, *given, "--output", tmp_path / "out.docx")
    assert "unknown device 'gpu:x'" in fails(capsys, infer.main, *given, "--device", "gpu:x")
    for flag, value in (("--batch-size", "0"), ("--batch-size", "-1"), ("--seed", "-1")):
        assert f"{flag} {value}" in fails(capsys, infer.main, *given, flag, value)
    line = fails(capsys, infer.main, *start, "--input", tmp_path, "--offsets", tmp_path / "flow.png")
    assert "--offsets is for one photo" in line
    assert not (tmp_path / "out.png").exists()


# ---- sketches


def test_a_sketch_changes_the_hole_alone(weights, tmp_path, capsys):
    """Dark on light, or light on dark; lines beside the hole, or no lines at all, are as no sketch."""
    photo(tmp_path, 60, 50)
    hole = drawn(tmp_path / "hole.png", 60, 50, (10, 10, 40, 40), paper=0, ink=255)
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
        np.testing.assert_array_equal(done[name][~hole], without[~hole])
        assert "note: these weights take" not in capsys.readouterr().out
    assert (done["lines"][hole] != without[hole]).any(axis=-1).mean() > 0.3
    for one, other in (("light", done["lines"]), ("inside", done["lines"]), ("beside", without), ("empty", without)):
        np.testing.assert_array_equal(done[one], other, err_msg=one)


def test_sketch_mistakes(capsys, weights, unguided, tmp_path):
    photo(tmp_path)
    drawn(tmp_path / "lines.png", 47, 33, (3, 3, 30, 5))
    drawn(tmp_path / "small.png", 20, 20, (3, 3, 9, 9))
    (tmp_path / "text.png").write_text("no picture")
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
    assert "small.png is 20 x 20 px, but its picture is 33 x 47 px" in line
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
        drawn(tmp_path / f"holes/{name}.png", 40 + 9 * n, 50, (5, 5, 35, 45), paper=0, ink=255)
    flags = ["--weights", weights, "--input", tmp_path / "photos", "--output", tmp_path / "out"]
    flags += ["--mask", tmp_path / "holes", "--sketch", tmp_path / "lines", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        infer.main([str(flag) for flag in flags])
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 2 and list(summary["failed"]) == [str(tmp_path / "photos/c.png")]
    assert "no edge picture of c.png; call it c_edge.png or c.png" in capsys.readouterr().out
    for name, line in (("a", "a"), ("b", "b_edge")):
        write_image(tmp_path / "in.png", images[name])
        hole = tmp_path / f"holes/{name}.png"
        alone = complete(weights, tmp_path, hole, "--sketch", tmp_path / f"lines/{line}.png").astype(int)
        done = read_image(tmp_path / f"out/{name}.png")
        assert np.abs(alone - done).max() <= 1
        assert np.abs(complete(weights, tmp_path, hole).astype(int) - done).max() > 1


def test_a_folder_with_a_broken_file(unguided, tmp_path, capsys):
    """The others are done, the summary names it, the status is 1; --skip-existing then leaves them alone."""
    photos = tmp_path / "photos"
    images = {name: photo(photos, 40 + n, 50, name) for n, name in enumerate(("a.png", "b.png", "sub/c.png"))}
    data = io.BytesIO()
    Image.fromarray(images["a.png"]).save(data, "JPEG")
    (photos / "broken.jpg").write_bytes(data.getvalue()[:500])
    command = ["--weights", str(unguided), "--input", str(photos), "--output", str(tmp_path / "out")]
    command += ["--mask", "regions"]
    with pytest.raises(SystemExit) as stop:
        infer.main(command)
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 3 and list(summary["failed"]) == [str(photos / "broken.jpg")]
    assert "broken.jpg" in capsys.readouterr().out
    for name, image in images.items():
        done = read_image(tmp_path / "out" / name)
        share = (done != image).any(axis=-1).mean()
        assert done.shape == image.shape and 0.03 < share < 0.26
    with pytest.raises(SystemExit):
        infer.main([*command, "--skip-existing"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 0 and summary["skipped"] == 3


def test_offsets_are_painted(weights, tmp_path, capsys, monkeypatch):
    """For the photo and the hole that are completed, with the sketch if there is one."""
    image = photo(tmp_path, 61, 47)
    hole = drawn(tmp_path / "hole.png", 61, 47, (8, 8, 40, 30), paper=0, ink=255)
    lines = drawn(tmp_path / "lines.png", 61, 47, (10, 10, 30, 14), (20, 4, 24, 40), (33, 12, 38, 28))
    seen, offsets = [], infer.Generator.offsets

    def watched(network, image, mask, edge=None):
        seen.append(0 if edge is None else edge.sum().item())
        return offsets(network, image, mask, edge)

    monkeypatch.setattr(infer.Generator, "offsets", watched)
    for given, flags in ((None, []), (lines, ["--sketch", tmp_path / "lines.png"])):
        complete(weights, tmp_path, tmp_path / "hole.png", "--offsets", tmp_path / "flow.png", *flags)
        assert f"written: {tmp_path / 'flow.png'}" in capsys.readouterr().out
        shown = read_image(tmp_path / "flow.png")
        np.testing.assert_array_equal(shown, infer.show_offsets(infer.load(weights), image, hole, given))
        assert shown.shape == image.shape and np.unique(shown.reshape(-1, 3), axis=0).shape[0] > 5
    assert seen[:2] == [0, 0] and seen[2] == seen[3] > 20


# ---- evaluate


def test_evaluate_mistakes(capsys, weights, faces, tmp_path):
    start = ("--weights", weights, "--data-dir", faces)
    assert "stars" in fails(capsys, evaluate.main, *start, "--masks", "stars")
    assert "--limit 0" in fails(capsys, evaluate.main, *start, "--limit", "0")
    assert "--seed -1" in fails(capsys, evaluate.main, *start, "--seed", "-1")
    line = fails(capsys, evaluate.main, "--weights", weights, "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in line and "data.prepare" in line
    assert "178 x 218" in fails(capsys, evaluate.main, *start, "--pairs")
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, evaluate.main, *start, "--output", tmp_path / "file/scores")
    assert "nope" in fails(capsys, evaluate.main, *start, "--split", "nope")


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
        maps = [(rng.random((batch, 1, height, width)) < share).astype(np.float32) for share in (0.4, 0.2)]
        maps = maps if network.arguments["guided"] else maps[:1]
        with paddle.no_grad():
            made = compiled(*(paddle.to_tensor(value) for value in (image, *maps))).numpy()
        np.testing.assert_allclose(made, infer.predict(network, image, *maps)[1], atol=1e-4)
        assert made.std() > 0.05


def test_export_into_a_folder_that_cannot_be_written(capsys, weights, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(capsys, export.main, "--weights", weights, "--output", tmp_path / "file/exported")
    assert "cannot write" in line


def test_the_newest_checkpoint_is_whole_after_training(weights):
    assert newest_state(weights.parent / "checkpoints").name == "step_0000004"
    assert read_weights(weights)[1]["step"] == 4


# ---- compiled


def test_compiled_it_completes_the_same(weights, faces, tmp_path, capsys, eager_for_a_moment):
    (tmp_path / "in").mkdir()
    for n in range(3):
        image = np.random.default_rng(n).integers(0, 255, (64, 48, 3), dtype=np.uint8)
        write_image(tmp_path / f"in/{n}.png", image)
    start = ["--weights", str(weights), "--device", "cpu"]
    made, scores = {}, {}
    for name, flags in (("plain", ["--plain"]), ("compiled", [])):
        assert not eager_for_a_moment()
        folder = tmp_path / name
        infer.main([*start, *flags, "--input", str(tmp_path / "in"), "--output", str(folder), "--batch-size", "1"])
        made[name] = [read_image(folder / f"{n}.png").astype(int) for n in range(3)]
        evaluate.main([*start, *flags, "--data-dir", str(faces), "--output", str(folder), "--limit", "24"])
        scores[name] = json.loads((folder / "scores.json").read_text())["rows"]["ours"]
    assert len(eager_for_a_moment()) == 3 and "uncompiled" not in capsys.readouterr().out
    assert np.abs(np.subtract(*made.values())).max() <= 1
    for key, value in scores["plain"].items():
        np.testing.assert_allclose(scores["compiled"][key], value, rtol=1e-3, atol=1e-3)


def test_as_onnx_it_completes_the_same(weights, tmp_path, capsys):
    pytest.importorskip("paddle2onnx")
    runtime = pytest.importorskip("onnxruntime")
    if paddle.__version__.startswith("2."):
        pytest.skip("paddle2onnx 1 does not know all of its operators")
    export.main(["--weights", str(weights), "--output", str(tmp_path), "--format", "onnx", "--device", "cpu"])
    assert "generator.onnx; largest difference" in capsys.readouterr().out
    session = runtime.InferenceSession(str(tmp_path / "generator.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, 3, 40, 64)).astype(np.float32)
    mask = (rng.random((3, 1, 40, 64)) < 0.4).astype(np.float32)
    edge = (rng.random(mask.shape) < 0.1).astype(np.float32)
    expected = infer.predict(infer.load(weights), image, mask, edge)[1]
    inputs = [image, mask, edge]
    given = dict(zip([each.name for each in session.get_inputs()], inputs, strict=True))
    np.testing.assert_allclose(session.run(None, given)[0], expected, atol=5e-4)
