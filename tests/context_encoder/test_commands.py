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
from common.images import read_image, write_image
from context_encoder import convert, evaluate, export, features, infer
from context_encoder import train as ce_train
from context_encoder.config import TINY
from data.synthetic import write_faces

SMALL = ["--image-px", "32", "--overlap-px", "2", "--base-channels", "8", "--bottleneck", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=60)


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return ce_train.train(cfg)


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return ce_train.train(dataclasses.replace(cfg, output="whole", holes="regions", overlap_px=0))


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


# ---- train


def test_train_without_data_says_how_to_get_some(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ("--run-dir", tmp_path / "run", "--total-steps", "1", "--batch-size", "1", *SMALL)
    line = fails(capsys, ce_train.main, "cpu", *run)
    assert "--data-dir" in line and "quick" in line
    line = fails(capsys, ce_train.main, "paper-random-region", *run, "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in line and "data.prepare" in line and "quick" in line
    (tmp_path / "empty").mkdir()
    assert "no picture in" in fails(capsys, ce_train.main, "cpu", *run, "--data-dir", tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "96"], "--image-px 96 is no power of two"),
        (["--image-px", "0"], "--image-px 0 is no power of two"),
        (["--overlap-px", "32"], "--overlap-px 32 leaves no hole; choose 0 to 31"),
        (["--overlap-px", "-1"], "--overlap-px -1"),
        (["--holes", "blocks"], "--holes blocks needs --output whole"),
        (["--output", "whole", "--conditional"], "--conditional is for the centre"),
        (["--load-px", "100"], "--load-px 100 is less than --image-px 128"),
        (["--reconstruction-weight", "1.5"], "--reconstruction-weight 1.5"),
        (["--shapes-dir", "somewhere"], "--shapes-dir is for --holes regions, not center"),
        (["--output", "whole", "--holes", "regions", "--shapes-dir", "no/voc"], "no/voc is no folder"),
        (["--device", "tpu"], "unknown device"),
        (["--init-generator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--init-discriminator", "missing.safetensors"], "no weights file missing.safetensors"),
        (["--pairs"], "178 x 218"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--base-channels", "0"], "--base-channels 0"),
        (["--bottleneck", "0"], "--bottleneck 0"),
        (["--noise-channels", "-1"], "--noise-channels -1"),
        (["--preview-steps", "0"], "--preview-steps 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--seed", "-1"], "--seed -1"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    small = [] if {"--overlap-px", "--load-px"} & set(flags) else SMALL  # these two are told for the preset's own size
    arguments = ["quick", *small, "--data-dir", faces, "--run-dir", tmp_path / "run", "--total-steps", "2", *flags]
    assert told in fails(capsys, ce_train.main, *arguments)
    assert not (tmp_path / "run").exists()


def test_a_voc_folder_without_class_maps(capsys, faces, weights, whole, tmp_path):
    """The pictures alone, as JPEG; and a PNG among the class maps that is none."""
    write_image(tmp_path / "voc/JPEGImages/1.jpg", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "voc/SegmentationClass").mkdir()
    flags = ["--data-dir", faces, "--shapes-dir", tmp_path / "voc"]
    train = ["quick", *SMALL, "--output", "whole", "--holes", "regions", "--run-dir", tmp_path / "run", *flags]
    score = ["--weights", whole, *flags]
    for main, arguments in ((ce_train.main, train), (evaluate.main, score)):
        line = fails(capsys, main, *arguments)
        assert "SegmentationClass/*.png" in line and "data.prepare voc" in line and str(tmp_path / "voc") in line
    write_image(tmp_path / "voc/SegmentationClass/2.png", np.full((40, 40, 3), 90, np.uint8))
    for main, arguments in ((ce_train.main, train), (evaluate.main, score)):
        line = fails(capsys, main, *arguments)
        assert "2.png is no class map" in line
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_do_not_fit(capsys, faces, weights, whole, tmp_path):
    start = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run"]
    assert "--output whole" in fails(capsys, ce_train.main, *start, "--init-generator", whole)
    line = fails(capsys, ce_train.main, *start, "--init-discriminator", whole)
    assert "side_px 32, the settings ask 16" in line
    line = fails(capsys, ce_train.main, *start, "--conditional", "--init-discriminator", weights)
    assert "context_px 0, the settings ask 32" in line
    assert not (tmp_path / "run").exists()


def test_train_into_a_folder_that_cannot_be_written(capsys, faces, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(capsys, ce_train.main, "quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "file/run")
    assert "cannot write the run folder" in line


def test_a_run_with_other_options_is_not_continued(capsys, faces, weights):
    before = read_weights(weights)[0]
    arguments = ["quick", *SMALL, "--data-dir", faces, "--run-dir", weights.parent, "--known-weight", "3"]
    line = fails(capsys, ce_train.main, *arguments)
    assert "known_weight was 10.0, is 3.0" in line and "--resume never" in line
    after = read_weights(weights)[0]
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize("flags", [[], ["--output", "whole", "--holes", "noise"]])
def test_quick_with_batches_of_one_to_the_command_that_it_prints(capsys, faces, tmp_path, monkeypatch, flags):
    """Three steps, the table, and then exactly the last line's command."""
    monkeypatch.chdir(tmp_path)
    arguments = ["quick", *SMALL, "--batch-size", "1", "--total-steps", "3", "--data-dir", str(faces), *flags]
    path = ce_train.main([*arguments, "--run-dir", "run"])
    told = capsys.readouterr().out
    assert path.exists() and "hole_psnr_db" in told and "18.58 dB" in told
    losses = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert losses and all(np.isfinite(value) for row in losses for value in row.values() if isinstance(value, float))
    gain = float(re.search(r"above the mean colour: ([+-]\d+\.\d+) dB", told)[1])
    rows = json.loads((tmp_path / "run/scores.json").read_text())["rows"]
    assert gain == pytest.approx(rows["ours"]["hole_psnr_db"][0] - rows["mean colour"]["hole_psnr_db"][0], abs=0.0051)
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "context_encoder.infer"]
    infer.main(words[3:])
    original = read_image(words[words.index("--input") + 1])
    completed = read_image(tmp_path / "completed.png")
    hole = np.zeros(original.shape[:2], bool)  # half of each side of 218 x 178
    hole[54:163, 44:133] = True
    assert (completed[~hole] == original[~hole]).all() and (completed[hole] != original[hole]).any(-1).mean() > 0.9


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
    assert ce_train.train(dataclasses.replace(cfg, total_steps=65)).exists()
    told = capsys.readouterr().err
    assert told.count("000.jpg") == 1 and told.count("100.jpg") == 1 and "2 broken so far" in told


# ---- weights that are not what they should be


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("name", ["evil.pdparams", "evil.pth", "evil.t7", "evil.safetensors"])
def test_malicious_weights_are_refused_unexecuted(capsys, faces, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"weight": Malice()}))
    photo(tmp_path)
    weights = ("--weights", name)
    assert name in fails(capsys, infer.main, *weights, "--input", "in.png", "--output", "out.png")
    assert name in fails(capsys, evaluate.main, *weights, "--data-dir", faces)
    assert name in fails(capsys, features.main, *weights, "--input", tmp_path, "--output", "f.npz")
    assert name in fails(capsys, export.main, *weights, "--output", "exported")
    assert name in fails(capsys, convert.main, name, "out.safetensors")
    start = ("quick", *SMALL, "--data-dir", faces, "--run-dir", "run")
    assert name in fails(capsys, ce_train.main, *start, "--init-generator", name)
    assert name in fails(capsys, ce_train.main, *start, "--init-discriminator", name)
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
    assert "generator.encoder.0.conv.weight has shape" in fails(capsys, infer.main, "--weights", wide, *rest)
    assert "bare.safetensors" in fails(capsys, infer.main, "--weights", bare, *rest)
    assert "tenth" in fails(capsys, evaluate.main, "--weights", other, "--data-dir", faces)
    assert "tenth" in fails(capsys, features.main, "--weights", other, "--input", faces, "--output", tmp_path / "f.npz")
    assert "tenth" in fails(capsys, export.main, "--weights", other, "--output", tmp_path / "exported")
    start = ("quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run")
    assert "tenth" in fails(capsys, ce_train.main, *start, "--init-generator", other)
    assert "no discriminator" in fails(capsys, ce_train.main, *start, "--init-discriminator", other)
    assert "no discriminator" in fails(capsys, ce_train.main, *start, "--init-discriminator", bare)
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "run").exists()


# ---- infer


def complete(weights, folder, mask, *flags, output="out.png"):
    infer.main(
        [*("--weights", str(weights), "--input", str(folder / "in.png"), "--output", str(folder / output)),
         *("--mask", str(mask), "--device", "cpu", *flags)]
    )  # fmt: skip
    return read_image(folder / output)


@pytest.mark.parametrize("name", ["weights", "whole"])
@pytest.mark.parametrize(
    "size, box",
    [
        ((20, 24), (5, 6, 15, 20)),  # a picture smaller than the network's 32 px
        ((90, 120), (10, 15, 80, 100)),  # a hole larger than its window
        ((300, 33), (20, 0, 290, 33)),  # most of a long picture
        ((32, 32), (10, 10, 22, 22)),  # its own hole
    ],
)
def test_any_picture_and_hole_completes(request, tmp_path, capsys, name, size, box):
    image, hole = photo(tmp_path, *size), np.zeros(size, np.uint8)
    hole[box[0] : box[2], box[1] : box[3]] = 255
    write_image(tmp_path / "hole.png", hole)
    done = complete(request.getfixturevalue(name), tmp_path, tmp_path / "hole.png")
    told = capsys.readouterr().out
    assert f"{size[1]} x {size[0]} px, hole {(hole > 0).mean():.2%}" in told and "window" in told
    assert done.shape == image.shape
    np.testing.assert_array_equal(done[hole == 0], image[hole == 0])
    assert (done[hole > 0] != image[hole > 0]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("kind", ["center", "random", "freeform", "blocks", "regions", "noise"])
def test_holes_by_name(weights, tmp_path, kind):
    """What changed lies in a hole of 3 % or more; the seed chooses the hole of the kinds that are drawn."""
    image = photo(tmp_path, 64, 64)
    first = complete(weights, tmp_path, kind, "--blend", "paste", "--seed", "1")
    changed = (first != image).any(axis=-1)
    assert 0.03 < changed.mean() < 0.9
    np.testing.assert_array_equal(first, complete(weights, tmp_path, kind, "--blend", "paste", "--seed", "1"))
    other = (complete(weights, tmp_path, kind, "--blend", "paste", "--seed", "2") != image).any(axis=-1)
    assert (changed == other).mean() > 0.99 if kind == "center" else (changed != other).any()


def test_a_mask_drawn_in_black(weights, tmp_path):
    photo(tmp_path, 64, 64)
    hole = np.zeros((64, 64), np.uint8)
    hole[20:40, 10:30] = 255
    write_image(tmp_path / "white.png", hole)
    write_image(tmp_path / "black.png", 255 - hole)
    white = complete(weights, tmp_path, tmp_path / "white.png")
    np.testing.assert_array_equal(white, complete(weights, tmp_path, tmp_path / "black.png", "--invert-mask"))


def test_a_jpeg_is_written_with_a_note(weights, tmp_path, capsys):
    photo(tmp_path, 64, 64)
    complete(weights, tmp_path, "center")
    assert "known pixels" not in capsys.readouterr().out
    complete(weights, tmp_path, "center", output="out.jpg")
    told = capsys.readouterr().out
    assert "written: " + str(tmp_path / "out.jpg") in told and "changes known pixels a little; write a .png" in told


def test_input_mistakes(capsys, weights, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    photo(tmp_path)
    write_image(tmp_path / "small.png", np.full((20, 20), 255, np.uint8))
    write_image(tmp_path / "black.png", np.zeros((47, 33), np.uint8))
    (tmp_path / "empty").mkdir()
    start = ("--weights", weights, "--output", tmp_path / "out.png")
    given = (*start, "--input", tmp_path / "in.png")
    assert "text.jpg" in fails(capsys, infer.main, *start, "--input", tmp_path / "text.jpg")
    assert "nowhere" in fails(capsys, infer.main, *start, "--input", tmp_path / "nowhere.jpg")
    assert "no picture in" in fails(capsys, infer.main, *start, "--input", tmp_path / "empty")
    assert "there is no mask stars" in fails(capsys, infer.main, *given, "--mask", "stars")
    assert "20 x 20 px, but its picture is 33 x 47 px" in fails(
        capsys, infer.main, *given, "--mask", tmp_path / "small.png"
    )
    assert "covers 0.00%" in fails(capsys, infer.main, *given, "--mask", tmp_path / "black.png")
    assert "out.docx" in fails(capsys, infer.main, *given, "--output", tmp_path / "out.docx")
    assert "unknown device 'gpu:x'" in fails(capsys, infer.main, *given, "--device", "gpu:x")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("flag, value", [("--batch-size", "0"), ("--batch-size", "-1"), ("--seed", "-1")])
def test_numbers_that_cannot_be(capsys, weights, faces, tmp_path, flag, value):
    """A batch of -1 windows would complete nothing, and write it."""
    photo(tmp_path)
    start = ("--weights", weights, "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    assert f"{flag} {value}" in fails(capsys, infer.main, *start, flag, value)
    assert not (tmp_path / "out.png").exists()
    if flag == "--seed":
        assert f"{flag} {value}" in fails(capsys, evaluate.main, "--weights", weights, "--data-dir", faces, flag, value)


def test_a_folder_with_a_broken_file(weights, tmp_path, capsys):
    """The others are done, the summary names it, the status is 1; --skip-existing then leaves them alone."""
    photos = tmp_path / "photos"
    images = {name: photo(photos, 40 + n, 50, name) for n, name in enumerate(("a.png", "b.png", "sub/c.png"))}
    data = io.BytesIO()
    Image.fromarray(images["a.png"]).save(data, "JPEG")
    (photos / "broken.jpg").write_bytes(data.getvalue()[:500])
    command = [
        "--weights",
        str(weights),
        "--input",
        str(photos),
        "--output",
        str(tmp_path / "out"),
        "--mask",
        "regions",
    ]
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


# ---- evaluate


def test_evaluate_mistakes(capsys, weights, faces, tmp_path):
    start = ("--weights", weights, "--data-dir", faces)
    assert "stars" in fails(capsys, evaluate.main, *start, "--masks", "stars")
    assert "--limit 0" in fails(capsys, evaluate.main, *start, "--limit", "0")
    line = fails(capsys, evaluate.main, "--weights", weights, "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in line and "data.prepare" in line
    assert "178 x 218" in fails(capsys, evaluate.main, *start, "--pairs")
    assert "no/voc" in fails(capsys, evaluate.main, *start, "--masks", "regions", "--shapes-dir", "no/voc")
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, evaluate.main, *start, "--output", tmp_path / "file/scores")
    assert "nope" in fails(capsys, evaluate.main, *start, "--split", "nope")


def test_every_kind_of_network_goes_all_the_way(faces, tmp_path):
    """A network with noise and one with a conditional discriminator: trained, scored, featured, exported."""
    for changes in ({"noise_channels": 3}, {"conditional": True, "conv_bias": True, "bottleneck_relu": True}):
        folder = tmp_path / next(iter(changes))
        cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=folder / "run", device="cpu", total_steps=2, **changes)
        weights = ce_train.train(cfg)
        photo(folder, 64, 64)
        assert complete(weights, folder, "random").shape == (64, 64, 3)
        evaluate.main(["--weights", str(weights), "--data-dir", str(faces), "--output", str(folder / "scores")])
        assert (folder / "scores/scores.json").exists()
        pictures = str(faces / "img_align_celeba")
        features.main(["--weights", str(weights), "--input", pictures, "--output", str(folder / "f.npz")])
        with np.load(folder / "f.npz") as found:
            assert found["features"].shape == (60, 16)
        export.main(["--weights", str(weights), "--output", str(folder / "exported"), "--device", "cpu"])
        assert list((folder / "exported").glob("generator.pdiparams"))


def test_the_newest_checkpoint_is_whole_after_training(weights):
    assert newest_state(weights.parent / "checkpoints").name == "step_0000006"
    assert read_weights(weights)[1]["step"] == 6


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
        evaluate.main([*start, *flags, "--data-dir", str(faces), "--output", str(folder), "--limit", "40"])
        scores[name] = json.loads((folder / "scores.json").read_text())["rows"]["ours"]
    assert len(eager_for_a_moment()) == 1 and "uncompiled" not in capsys.readouterr().out
    assert np.abs(np.subtract(*made.values())).max() <= 1
    for key, value in scores["plain"].items():
        np.testing.assert_allclose(scores["compiled"][key], value, rtol=1e-3, atol=1e-3)


def test_as_onnx_it_completes_the_same(weights, tmp_path, capsys):
    pytest.importorskip("paddle2onnx")
    runtime = pytest.importorskip("onnxruntime")
    export.main(["--weights", str(weights), "--output", str(tmp_path), "--format", "onnx", "--device", "cpu"])
    assert "generator.onnx; largest difference" in capsys.readouterr().out
    session = runtime.InferenceSession(str(tmp_path / "generator.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    mask = (rng.random((3, 1, 32, 32)) < 0.4).astype(np.float32)
    expected = infer.predict(infer.load(weights), image, mask[:, 0], rng)
    inputs = [image, mask]
    given = dict(zip([each.name for each in session.get_inputs()], inputs, strict=True))
    np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-4)
