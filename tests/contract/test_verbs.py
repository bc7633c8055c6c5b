"""What every verb of every paper does alike: a mistake is one line and status 2, nothing is executed, nothing lost.

Folders are found by their infer.py; one paper is named, for the flags that keep its search short.
"""

import dataclasses
import importlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from common.checkpoint.state import newest_state
from common.checkpoint.weights import read_weights
from common.imaging.io import read_image, write_image
from tests import helpers

import paddle

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
SEARCHES = {"dcgan_completion": ["--steps", "2", "--restarts", "1", "--every", "0"]}


def module(paper, verb):
    return importlib.import_module(f"{paper}.{verb}")


COMPLETING = [paper for paper in PAPERS if hasattr(module(paper, "infer"), "complete")]
ANYWHERE = [paper for paper in COMPLETING if paper not in SEARCHES]  # wherever the mask lies


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """paper -> drawn images of the kind that it learns from, drawn when they are asked for first."""
    made, folder = {}, tmp_path_factory.mktemp("sets")

    def draw(paper):
        maker = module(paper, "train").draw_images
        if maker not in made:
            made[maker] = maker(folder / maker.__name__, count=40)
        return made[maker]

    return draw


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory):
    """paper -> the weights of its TINY run."""
    made = {}

    def train(paper):
        if paper not in made:
            made[paper] = module(paper, "train").train(
                dataclasses.replace(
                    module(paper, "config").TINY,
                    data_dir=sets(paper),
                    run_dir=tmp_path_factory.mktemp("runs") / paper,
                    device="cpu",
                )
            )
        return made[paper]

    return train


def call(paper, verb, *arguments):
    more = SEARCHES.get(paper, []) if verb == "infer" else []
    return module(paper, verb).main([*map(str, arguments), *more])


def fails(capsys, paper, verb, *arguments):
    """Runs a command that must end with status 2; returns its one line."""
    return helpers.fails(capsys, lambda words: call(paper, verb, *words), *arguments)


def noise(path, height=47, width=33):
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(path, image)
    return image


def box(path, height, width, *boxes, inside=255):
    """Writes an image with boxes of one value on the other; returns where they are."""
    where = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        where[top:bottom, left:right] = True
    write_image(path, np.where(where, inside, 255 - inside).astype(np.uint8))
    return where


# ---- train


@pytest.mark.parametrize("paper", PAPERS)
def test_train_without_data_says_how_to_get_some(paper, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for preset in module(paper, "config").PRESETS.keys() - {"quick"}:
        line = fails(capsys, paper, "train", preset)
        assert "--data-dir" in line and "quick" in line
    line = fails(capsys, paper, "train", "cpu", "--data-dir", "nowhere")
    assert "nowhere" in line and "data.prepare" in line and "quick" in line
    Path("empty").mkdir()
    assert "empty" in fails(capsys, paper, "train", "cpu", "--data-dir", "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("paper", PAPERS)
def test_train_with_settings_that_cannot_work(paper, capsys, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for flag, value, told in (
        ("--device", "tpu", "unknown device"),
        ("--init-generator", "missing.safetensors", "no weights file missing.safetensors"),
        ("--run-dir", "file/run", "cannot write the run folder"),
        *((flag, "0", f"{flag} 0") for flag in ("--batch-size", "--preview-steps", "--base-channels")),
        *((flag, "-1", f"{flag} -1") for flag in ("--workers", "--seed")),
    ):
        line = fails(capsys, paper, "train", "quick", "--data-dir", sets(paper), flag, value)
        assert told in line and [path.name for path in tmp_path.iterdir()] == ["file"], flag


@pytest.mark.parametrize("paper", PAPERS)
def test_a_run_with_other_options_is_not_continued(paper, capsys, sets, trained):
    weights = trained(paper)
    before = weights.read_bytes()
    line = fails(capsys, paper, "train", "quick", "--data-dir", sets(paper), "--run-dir", weights.parent, "--seed", "5")
    assert "seed was 0, is 5" in line and "--resume never" in line
    assert weights.read_bytes() == before


@pytest.mark.parametrize("paper", PAPERS)
def test_resume_is_exact(paper, sets, trained, tmp_path):
    """A step, another, and the rest are the whole run, bit for bit, with other networks built in between."""
    cfg = dataclasses.replace(module(paper, "config").TINY, data_dir=sets(paper), device="cpu", workers=0)
    for minutes in (1e-9, 1e-9, 0.0):
        module(paper, "train").train(dataclasses.replace(cfg, run_dir=tmp_path / "run", max_minutes=minutes))
        paddle.nn.Sequential(paddle.nn.Conv2D(3, 3, 3), paddle.nn.BatchNorm2D(3))  # moves Paddle's generated names on
    whole, parts = (
        load_file(newest_state(folder / "checkpoints") / "state.safetensors")
        for folder in (trained(paper).parent, tmp_path / "run")
    )
    assert whole.keys() == parts.keys() and any("/" in name for name in whole)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_newest_checkpoint_is_whole_after_training(paper, trained):
    steps = module(paper, "config").TINY.total_steps
    assert newest_state(trained(paper).parent / "checkpoints").name == f"step_{steps:07d}"
    assert read_weights(trained(paper))[1]["step"] == steps


# ---- weights that are not what they should be


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def refused_everywhere(capsys, paper, name, told, data):
    """Each verb that reads weights ends with a line that says `told`, and leaves nothing."""
    before = sorted(Path().rglob("*"))
    assert told in fails(capsys, paper, "infer", "--weights", name, "--input", "in.png", "--output", "out.png")
    assert told in fails(capsys, paper, "evaluate", "--weights", name, "--data-dir", data)
    assert told in fails(capsys, paper, "export", "--weights", name, "--output", "exported")
    start = ("quick", "--data-dir", data, "--run-dir", "run", "--device", "cpu")
    assert name in fails(capsys, paper, "train", *start, "--init-generator", name)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("paper", PAPERS)
def test_malicious_weights_are_refused_unexecuted(paper, capsys, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "in.png")
    for name in ("evil.pdparams", "evil.safetensors"):
        Path(name).write_bytes(pickle.dumps({"weight": Malice()}))
        refused_everywhere(capsys, paper, name, name, sets(paper))


@pytest.mark.parametrize("paper", PAPERS)
def test_weights_of_another_paper_or_width(paper, capsys, sets, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "in.png")
    tensors, metadata = read_weights(trained(paper))
    save_file(tensors, "other.safetensors", {"metadata": json.dumps({**metadata, "paper": "tenth"})})
    refused_everywhere(capsys, paper, "other.safetensors", "tenth", sets(paper))
    network = next(name for name in ("completion", "generator") if name in metadata)
    wide = {**metadata, network: {**metadata[network], "base_channels": 16}}
    save_file(tensors, "wide.safetensors", {"metadata": json.dumps(wide)})
    refused_everywhere(capsys, paper, "wide.safetensors", "has shape", sets(paper))


# ---- infer


@pytest.mark.parametrize("paper", ANYWHERE)
@pytest.mark.parametrize(
    "size, where",
    [
        ((20, 24), (5, 6, 15, 20)),  # an image smaller than the network's 32 px
        ((90, 120), (10, 15, 80, 100)),  # a mask larger than its window
        ((300, 33), (20, 0, 290, 33)),  # most of a long image
        ((33, 47), (0, 0, 33, 20)),  # a whole edge
    ],
)
def test_any_image_and_mask_completes(paper, trained, capsys, tmp_path, size, where):
    image, mask = noise(tmp_path / "in.png", *size), box(tmp_path / "mask.png", *size, where)
    box(tmp_path / "black.png", *size, where, inside=0)
    start = ("--weights", trained(paper), "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    call(paper, "infer", *start, "--mask", tmp_path / "mask.png")
    told, done = capsys.readouterr().out, read_image(tmp_path / "out.png")
    assert f"{size[1]} x {size[0]} px" in told and f"{mask.mean():.2%}" in told and "window" in told
    np.testing.assert_array_equal(done[~mask], image[~mask])
    assert (done[mask] != image[mask]).any(axis=-1).mean() > 0.9
    call(paper, "infer", *start, "--mask", tmp_path / "black.png", "--invert-mask")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), done)


@pytest.mark.parametrize("paper", COMPLETING)
def test_masks_by_name_and_seed(paper, trained, tmp_path):
    """The same seed draws the same mask again, another seed another; the middle is the middle."""
    image = noise(tmp_path / "in.png", 64, 64)

    def changed(kind, seed):
        start = ("--weights", trained(paper), "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
        call(paper, "infer", *start, "--mask", kind, "--seed", seed, "--blend", "paste")
        return (read_image(tmp_path / "out.png") != image).any(axis=-1)

    for kind in ("center", "freeform"):
        first = changed(kind, 1)
        assert 0.03 < first.mean() < 0.9
        assert (changed(kind, 1) == first).mean() > 0.99
        assert ((changed(kind, 2) == first).mean() > 0.99) == (kind == "center")


@pytest.mark.parametrize("paper", COMPLETING)
def test_a_jpeg_is_written_with_a_note(paper, trained, tmp_path, capsys):
    noise(tmp_path / "in.png", 64, 64)
    start = ("--weights", trained(paper), "--input", tmp_path / "in.png", "--mask", "center", "--output")
    call(paper, "infer", *start, tmp_path / "out.png")
    assert "changes known pixels" not in capsys.readouterr().out
    call(paper, "infer", *start, tmp_path / "out.jpg")
    told = capsys.readouterr().out
    assert f"written: {tmp_path / 'out.jpg'}" in told and "changes known pixels a little; write a .png" in told


@pytest.mark.parametrize("paper", COMPLETING)
def test_input_mistakes(paper, capsys, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("no image")
    Path("empty").mkdir()
    noise(tmp_path / "in.png")
    box(tmp_path / "small.png", 20, 20, (2, 2, 18, 18))
    before = sorted(Path().rglob("*"))
    usual = {"--weights": trained(paper), "--input": "in.png", "--output": "out.png"}
    for flag, value, told in (
        ("--weights", "missing.safetensors", "no weights file"),
        ("--input", "text.jpg", "text.jpg"),
        ("--input", "nowhere.jpg", "nowhere.jpg"),
        ("--input", "empty", "no image in"),
        ("--mask", "stars", "there is no mask stars"),
        ("--mask", "small.png", "20 x 20 px, but its image is 33 x 47 px"),
        ("--output", "out.docx", "out.docx"),
        ("--device", "gpu:x", "unknown device 'gpu:x'"),
        ("--seed", "-1", "--seed -1"),
        *((("--batch-size", value, f"--batch-size {value}") for value in ("0", "-1")) if paper in ANYWHERE else ()),
    ):
        line = fails(capsys, paper, "infer", *(word for pair in {**usual, flag: value}.items() for word in pair))
        assert told in line, (flag, line)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("paper", COMPLETING)
def test_a_folder_with_a_corrupt_file(paper, trained, tmp_path, capsys):
    """The others are done, the summary names it, the status is 1; --skip-existing then leaves them alone."""
    photos = tmp_path / "photos"
    images = {name: noise(photos / name, 40 + n, 50) for n, name in enumerate(("a.png", "b.png", "sub/c.png"))}
    data = io.BytesIO()
    Image.fromarray(images["a.png"]).save(data, "JPEG")
    (photos / "corrupt.jpg").write_bytes(data.getvalue()[:500])
    command = ["--weights", trained(paper), "--input", photos, "--output", tmp_path / "out", "--mask", "center"]
    for more, completed, skipped in (([], 3, 0), (["--skip-existing"], 0, 3)):
        with pytest.raises(SystemExit) as stop:
            call(paper, "infer", *command, *more)
        summary = json.loads((tmp_path / "out/summary.json").read_text())
        assert stop.value.code == 1 and (summary["completed"], summary["skipped"]) == (completed, skipped)
        assert list(summary["failed"]) == [str(photos / "corrupt.jpg")] and "corrupt.jpg" in capsys.readouterr().out
    for name, image in images.items():
        done = read_image(tmp_path / "out" / name)
        assert done.shape == image.shape and 0.03 < (done != image).any(axis=-1).mean() < 0.26


# ---- evaluate, export


@pytest.mark.parametrize("paper", PAPERS)
def test_evaluate_mistakes(paper, capsys, trained, sets, tmp_path):
    (tmp_path / "file").touch()
    usual = {"--weights": trained(paper), "--data-dir": sets(paper)}
    for flag, value, told in (
        *([("--mask", "stars", "stars")] if paper in COMPLETING else ()),
        ("--limit", "0", "--limit 0"),
        ("--seed", "-1", "--seed -1"),
        ("--data-dir", tmp_path / "nowhere", "data.prepare"),
        ("--output", tmp_path / "file/scores", "cannot write"),
        ("--split", "nope", "nope"),
    ):
        assert told in fails(
            capsys, paper, "evaluate", *(word for pair in {**usual, flag: value}.items() for word in pair)
        ), flag


@pytest.mark.parametrize("paper", PAPERS)
def test_evaluate_is_repeatable(paper, trained, sets, tmp_path):
    results = []
    for name in ("one", "two"):
        few = [word for word in SEARCHES.get(paper, []) if word not in ("--every", "0")]
        flags = ("--weights", trained(paper), "--data-dir", sets(paper), "--output", tmp_path / name, "--limit", "2")
        call(paper, "evaluate", *flags, *few)
        results.append(json.loads((tmp_path / name / "scores.json").read_text()))
    assert results[0] == results[1] and len(results[0]) > 3


@pytest.mark.parametrize("paper", PAPERS)
def test_export_mistakes_and_onnx(paper, capsys, trained, tmp_path):
    """What is exported as ONNX is compared by the command itself, at sizes of its own; deploy/ tests the comparison."""
    (tmp_path / "file").touch()
    flags = ("--weights", trained(paper), "--device", "cpu", "--output")
    assert "cannot write" in fails(capsys, paper, "export", *flags, tmp_path / "file/exported")
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    if paddle.__version__.startswith("2."):
        pytest.skip("paddle2onnx 1 does not know all operators")
    call(paper, "export", *flags, tmp_path / "exported", "--format", "onnx")
    assert ".onnx; largest difference" in capsys.readouterr().out


@pytest.mark.parametrize("paper", PAPERS)
def test_parameters_for_plain_paddle_and_back(paper, capsys, trained, tmp_path):
    """`set_state_dict` of Paddle's own takes them; evaluate's network and convert's file have the same numbers."""
    out = tmp_path / "exported"
    call(paper, "export", "--weights", trained(paper), "--device", "cpu", "--output", out, "--format", "pdparams")
    assert "read again without a difference" in capsys.readouterr().out
    tensors, metadata = read_weights(trained(paper))
    net = module(paper, "infer").load(trained(paper))
    name = next(name for name in ("completion", "generator") if name in metadata)
    net = getattr(net, "generator", net) if paper in SEARCHES else net
    state = paddle.load(str(out / f"{name}.pdparams"))
    assert net.set_state_dict(state) == ([], []) and {str(x.dtype) for x in state.values()} == {"paddle.float32"}
    again = module(paper, "infer").load(out / f"{name}.pdparams")
    for given in (out, out / f"{name}.pdparams"):
        call(paper, "convert", given, tmp_path / "back.safetensors")
        back, same = read_weights(tmp_path / "back.safetensors")
        assert same == metadata == again.metadata and back.keys() == tensors.keys()
        assert all((back[key] == tensors[key]).all() for key in tensors)
    (out / "weights.json").unlink()
    line = fails(capsys, paper, "export", "--weights", out / f"{name}.pdparams", "--output", tmp_path / "other")
    assert "weights.json" in line and name in line


# ---- convert


@pytest.mark.parametrize("paper", PAPERS)
def test_convert_writes_elsewhere_or_nothing(paper, capsys, trained, tmp_path):
    """Onto the file itself, as another kind of file, into a folder that is a file; and what is not there to be read."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(trained(paper).read_bytes())
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    for source, target, told in (
        (path, path, "another file"),
        (path, tmp_path / "a.pdparams", "ends in .safetensors"),
        (path, tmp_path / "file/a.safetensors", "cannot write"),
        (tmp_path / "nothing.pth", tmp_path / "b.safetensors", "cannot read"),
        (tmp_path / "empty", tmp_path / "b.safetensors", "no weights file in the folder"),
        (path, tmp_path / "b.safetensors", "none of the published"),  # they are ours
    ):
        assert told in fails(capsys, paper, "convert", source, target), told
    assert before == {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
