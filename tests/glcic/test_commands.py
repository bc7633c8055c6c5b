"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.checkpoint import newest_state, read_weights, save_weights
from common.images import read_image, write_image
from data.synthetic import write_faces
from glcic import evaluate, export, infer
from glcic import train as glcic_train
from glcic.config import TINY

import paddle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=60)


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return glcic_train.train(cfg)


def fails(capsys, main, *arguments):
    """Runs a command that must end with status 2; returns its one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


# ---- train


def test_train_without_data_says_how_to_get_some(capsys, tmp_path):
    line = fails(capsys, glcic_train.main, "cpu", "--run-dir", tmp_path / "run")
    assert "--data-dir" in line and "quick" in line
    line = fails(capsys, glcic_train.main, "cpu", "--run-dir", tmp_path / "run", "--data-dir", tmp_path / "nowhere")
    assert "nowhere" in line and "data.prepare" in line and "quick" in line
    assert not (tmp_path / "run").exists()


def test_train_on_a_card_that_is_not_there(tmp_path):
    """In a process of its own: Paddle itself would abort it."""
    command = [sys.executable, "-m", "glcic.train", "quick", "--device", "gpu:7", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --device gpu:7") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "66"], "66 is no multiple of 4"),
        (["--hole-px", "8", "70"], "do not fit"),
        (["--resume", "nowhere"], "no such checkpoint folder"),
        (["--device", "tpu"], "unknown device"),
        (["--init-completion", "missing.safetensors"], "no weights file"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    assert told in fails(capsys, glcic_train.main, "quick", "--data-dir", faces, "--run-dir", tmp_path / "run", *flags)


def test_train_into_a_folder_that_cannot_be_written(capsys, faces, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(capsys, glcic_train.main, "quick", "--data-dir", faces, "--run-dir", tmp_path / "file/run")
    assert "cannot write the run folder" in line


def test_broken_pictures_in_the_data_are_skipped_and_named(faces, tmp_path, capsys):
    """One truncated JPEG and one text file among 260 pictures; training goes on without them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = sorted((faces / "img_align_celeba").iterdir())
    for n in range(260):
        (folder / f"{n:03d}.jpg").write_bytes(names[n % 60].read_bytes())
    (folder / "000.jpg").write_bytes(names[0].read_bytes()[:2000])
    (folder / "100.jpg").write_text("this is no picture")
    cfg = dataclasses.replace(
        TINY, data_dir=folder, run_dir=tmp_path / "run", device="cpu", crop="center", total_steps=65, decay_steps=0
    )
    assert glcic_train.train(cfg).exists()
    told = capsys.readouterr().err
    assert told.count("000.jpg") == 1 and told.count("100.jpg") == 1 and "2 broken so far" in told


# ---- weights that are not what they should be


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("name", ["evil.pdparams", "evil.pth", "evil.safetensors"])
def test_malicious_weights_are_refused_unexecuted(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"weight": Malice()}))
    write_image("in.png", np.zeros((40, 40, 3), np.uint8))
    from glcic import convert

    assert name in fails(capsys, infer.main, "--weights", name, "--input", "in.png", "--output", "out.png")
    assert name in fails(capsys, convert.main, name, "out.safetensors")
    assert not Path("executed").exists()


def test_weights_of_another_paper_or_width(capsys, weights, tmp_path):
    network = infer.load(weights)
    other = save_weights(tmp_path / "other.safetensors", {"completion": network}, {**network.facts, "paper": "tenth"})
    arguments = {**network.facts["completion"], "base_channels": 16}
    wide = save_weights(
        tmp_path / "wide.safetensors", {"completion": network}, {**network.facts, "completion": arguments}
    )
    write_image(tmp_path / "in.png", np.zeros((40, 40, 3), np.uint8))
    rest = ("--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    assert "tenth" in fails(capsys, infer.main, "--weights", other, *rest)
    assert "completion.conv1.conv.weight has shape" in fails(capsys, infer.main, "--weights", wide, *rest)
    assert not (tmp_path / "out.png").exists()


# ---- infer


def photo(tmp_path, height=47, width=33, name="in.png"):
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(tmp_path / name, image)
    return image


@pytest.mark.parametrize("size", [(257, 301), (33, 47), (64, 64)])
@pytest.mark.parametrize("blend", ["paste", "feather", "poisson", "telea-poisson"])
def test_any_size_keeps_size_and_known_pixels(weights, size, blend):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    hole = np.zeros(size, bool)
    hole[: size[0] // 3, : size[1] // 3] = True  # in a corner
    hole[-4:, 10:20] = True  # at an edge
    completed = infer.complete(infer.load(weights), image, hole, blend)
    assert completed.shape == image.shape and completed.dtype == np.uint8
    np.testing.assert_array_equal(completed[~hole], image[~hole])
    assert (completed[hole] != image[hole]).mean() > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("height, width", [(1500, 2000), (3000, 4000)])
def test_large_photos_in_bounded_memory(weights, tmp_path, height, width):
    """Three small holes; the whole process, Paddle included, stays under 3 GB."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    mask = np.zeros((height, width), np.uint8)
    for top, left in ((0, 0), (height // 2, width // 2), (height - 60, width - 90)):
        mask[top : top + 60, left : left + 90] = 255
    write_image(tmp_path / "in.png", image)
    write_image(tmp_path / "mask.png", mask)
    code = """
import sys
from pathlib import Path
from glcic import infer
infer.main(sys.argv[1:])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print("peak MB", int(peak.split()[1]) / 1024)
"""
    flags = ["--weights", weights, "--input", "in.png", "--mask", "mask.png", "--output", "out.png", "--device", "cpu"]
    flags[1:] = [str(tmp_path / flag) if str(flag).endswith("png") else str(flag) for flag in flags[1:]]
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = float(done.stdout.split()[-1])
    told = float(done.stdout.split("about ")[1].split(" MB")[0].replace(",", ""))
    assert peak < 3000 and 0.5 * told < peak < 1.5 * told
    completed = read_image(tmp_path / "out.png")
    np.testing.assert_array_equal(completed[mask == 0], image[mask == 0])


def test_masks_in_the_ways_people_draw_them(weights, tmp_path):
    """Each of these files means the same hole, so each gives the same picture."""
    photo(tmp_path, 64, 64)
    hole = np.zeros((64, 64), np.uint8)
    hole[20:40, 10:30] = 1
    white = hole * 255
    Image.fromarray(white).save(tmp_path / "white.png")
    Image.fromarray(255 - white).save(tmp_path / "inverted.png")
    Image.fromarray(hole).save(tmp_path / "ones.png")
    Image.fromarray(np.dstack([np.full((64, 64, 3), 255, np.uint8), white])).save(tmp_path / "alpha.png")
    palette = Image.fromarray(hole, "P")
    palette.putpalette([0, 0, 0, 200, 30, 30])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(white).save(tmp_path / "noise.jpg", quality=60)
    results = []
    for name in ("white.png", "inverted.png", "ones.png", "alpha.png", "palette.png", "noise.jpg"):
        out = tmp_path / f"out-{name}.png"
        flags = ["--invert-mask"] if name == "inverted.png" else []
        infer.main(
            [*("--weights", str(weights), "--input", str(tmp_path / "in.png"), "--output", str(out)),
             *("--mask", str(tmp_path / name), "--blend", "paste", *flags)]
        )  # fmt: skip
        results.append(read_image(out))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_input_mistakes(capsys, weights, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    rest = ("--weights", weights, "--output", tmp_path / "out.png")
    assert "text.jpg" in fails(capsys, infer.main, *rest, "--input", tmp_path / "text.jpg")
    assert "nowhere" in fails(capsys, infer.main, *rest, "--input", tmp_path / "nowhere.jpg")
    photo(tmp_path)
    line = fails(capsys, infer.main, *rest[:2], "--input", tmp_path / "in.png", "--output", tmp_path / "out.docx")
    assert "out.docx" in line


def test_a_folder_with_a_broken_file(weights, tmp_path, capsys):
    """The others are done, the summary names it, the status is 1; --skip-existing then leaves them alone."""
    photos = tmp_path / "photos"
    images = {name: photo(photos, 40 + n, 50, name) for n, name in enumerate(("a.png", "b.png", "sub/c.png"))}
    data = io.BytesIO()
    Image.fromarray(images["a.png"]).save(data, "JPEG")
    (photos / "broken.jpg").write_bytes(data.getvalue()[:500])
    command = ["--weights", str(weights), "--input", str(photos), "--output", str(tmp_path / "out"), "--mask", "random"]
    with pytest.raises(SystemExit) as stop:
        infer.main(command)
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 3 and list(summary["failed"]) == [str(photos / "broken.jpg")]
    for name, image in images.items():
        assert read_image(tmp_path / "out" / name).shape == image.shape
    with pytest.raises(SystemExit):
        infer.main([*command, "--skip-existing"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 0 and summary["skipped"] == 3


# ---- evaluate


def test_evaluate_is_repeatable_and_says_which_holes(weights, faces, tmp_path, capsys):
    results = []
    for name in ("one", "two"):
        evaluate.main(["--weights", str(weights), "--data-dir", str(faces), "--output", str(tmp_path / name)])
        results.append(json.loads((tmp_path / name / "scores.json").read_text()))
    assert results[0] == results[1]
    assert set(results[0]["rows"]) == {"ours", "Telea", "Navier-Stokes", "mean colour"}
    assert len(results[0]["holes_sha256"]) == 64
    assert "not comparable" in capsys.readouterr().out


def test_evaluate_scores_what_the_formulas_say(weights, faces):
    """Hole PSNR and L1 of the first picture, worked out here from the pictures that the result holds."""
    result = evaluate.evaluate(evaluate.Options(weights, faces, limit=3))
    pictures = result["pictures"]
    hole, values = pictures["holes"], []
    for n in range(3):
        difference = pictures["truth"][n][hole[n]].astype(float) - pictures["ours"][n][hole[n]]
        values.append(10 * np.log10(255**2 / np.mean(difference**2)))
        assert (pictures["truth"][n][~hole[n]] == pictures["ours"][n][~hole[n]]).all()
    mean, error = result["rows"]["ours"]["hole_psnr_db"]
    assert mean == pytest.approx(np.mean(values)) and error == pytest.approx(np.std(values, ddof=1) / 3**0.5)


@pytest.mark.parametrize(
    "flags, told",
    [(("--masks", "stars"), "stars"), (("--data-dir", "nowhere"), "nowhere"), (("--limit", "0"), "--limit 0")],
)
def test_evaluate_mistakes(capsys, weights, faces, flags, told):
    assert told in fails(capsys, evaluate.main, "--weights", weights, "--data-dir", faces, *flags)


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
    assert "completion.onnx; largest difference" in capsys.readouterr().out
    session = runtime.InferenceSession(str(tmp_path / "completion.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, 3, 40, 64)).astype(np.float32)
    mask = (rng.random((3, 1, 40, 64)) < 0.4).astype(np.float32)
    with paddle.no_grad():
        expected = infer.load(weights)(paddle.to_tensor(image), paddle.to_tensor(mask)).numpy()
    inputs = [image, mask]
    given = dict(zip([each.name for each in session.get_inputs()], inputs, strict=True))
    np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-4)
