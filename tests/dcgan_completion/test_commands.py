"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import functools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.checkpoint.weights import save_weights
from common.imaging.io import read_image, write_image
from common.imaging.transforms import from_network, to_network
from common.inpainting.finished_results import RECORD
from data.synthetic import write_faces
from dcgan_completion import evaluate, export, infer
from dcgan_completion import train as dcgan_train
from dcgan_completion.config import TINY
from dcgan_completion.masks import KINDS, sample_mask
from dcgan_completion.search import image_rng, search
from dcgan_completion.search_settings import PRESETS
from tests.helpers import fails, photo

import paddle

pytestmark = pytest.mark.medium

PX = 32
SMALL = ["--image-px", "32", "--base-channels", "8", "--z-channels", "12", "--device", "cpu"]
FEW = ["--steps", "3", "--restarts", "2"]
EYES = (70, 112, 108, 110)  # in a photo of 178 x 218 px


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=40)


@pytest.fixture(scope="module", autouse=True)
def quick_gate():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "GATE", dataclasses.replace(evaluate.GATE, steps=5))
        yield


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return dcgan_train.train(cfg)


def draw(path, height, width, *boxes):
    """Writes a hole, white on black; returns it."""
    missing = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        missing[top:bottom, left:right] = True
    write_image(path, missing.astype(np.uint8) * 255)
    return missing


# ---- train


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "96"], "--image-px 96 is no power of two"),
        (["--image-px", "4"], "--image-px 4 is no power of two from 8"),
        (["--image-px", "0"], "--image-px 0 is no power of two"),
        (["--image-px", "-64"], "--image-px -64 is no power of two"),
        (["--average-decay", "1"], "--average-decay 1.0"),
        (["--average-decay", "-0.1"], "--average-decay -0.1"),
        (["--z-channels", "0"], "--z-channels 0"),
        (["--generator-steps", "0"], "--generator-steps 0"),
        (["--decay-steps", "-1"], "--decay-steps -1"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    arguments = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run", "--total-steps", "2", *flags]
    assert told in fails(capsys, dcgan_train.main, *arguments)
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_do_not_fit(capsys, faces, weights, tmp_path):
    start = ["quick", *SMALL, "--data-dir", faces, "--run-dir", tmp_path / "run", "--init-generator"]
    assert "makes images of 32 px; set --image-px" in fails(
        capsys, dcgan_train.main, *start, weights, "--image-px", "64"
    )
    assert "holds no discriminator of dcgan_completion" in fails(
        capsys, dcgan_train.main, *start, alone(weights, tmp_path)
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [[], ["--variant", "4x4", "--crop", "square178", "--average-decay", "0"]])
def test_quick_with_batches_of_one_to_the_command_that_it_prints(capsys, faces, tmp_path, monkeypatch, curves, flags):
    """Three steps, the gate and the table, and then exactly the last line's command, searched in three steps."""
    monkeypatch.chdir(tmp_path)
    quick_search = dataclasses.replace(PRESETS["suite"], steps=3)
    monkeypatch.setattr(evaluate, "Options", functools.partial(evaluate.Options, search=quick_search))
    arguments = ["quick", *SMALL, "--batch-size", "1", "--total-steps", "3", "--data-dir", str(faces), *flags]
    path = dcgan_train.main([*arguments, "--run-dir", "run"])
    told = capsys.readouterr().out
    gate = infer.load(path).metadata["gate"]
    assert f"comes within {gate['psnr_db']:.1f} dB of 2 held-out faces; the mean face: " in told
    assert "hole_psnr_db" in told and "Yeh et al. 2017 19.4 dB" in told
    losses = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert losses and all(np.isfinite(value) for row in losses for value in row.values() if isinstance(value, float))
    for name in ("images.png", "scores.json", "curves.png", "previews/step_0000001.png"):
        assert (tmp_path / "run" / name).is_file()
    words = shlex.split(told.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "dcgan_completion.infer"]
    infer.main([*words[3:], *FEW, "--every", "0"])
    original = read_image(words[words.index("--input") + 1])
    completed = read_image(tmp_path / "completed.png")
    missing = np.zeros(original.shape[:2], bool)  # the middle half of the square that training cuts
    top, left, side = (82, 62, 54) if not flags else (64, 44, 90)  # of 108 px from 55, 35; of 178 px from 20, 0
    missing[top : top + side, left : left + side] = True
    changed = (completed != original).any(-1)
    assert not changed[:top].any() and not changed[:, :left].any() and changed[missing].mean() > 0.9
    assert not changed[top + side :].any() and not changed[:, left + side :].any()


def test_a_run_out_of_time_ends_without_a_table(capsys, faces, tmp_path):
    arguments = ["quick", *SMALL, "--total-steps", "500", "--data-dir", str(faces), "--run-dir", str(tmp_path / "run")]
    path = dcgan_train.main([*arguments, "--max-minutes", "0.002"])
    told = capsys.readouterr().out
    assert path.exists() and "the same command goes on from here" in told and "hole_psnr_db" not in told


# ---- weights that are not what they should be


def alone(weights, folder):
    """The same weights without the discriminator."""
    nets = infer.load(weights)
    metadata = {key: value for key, value in nets.metadata.items() if key != "discriminator"}
    return save_weights(folder / "alone.safetensors", {"generator": nets.generator}, metadata)


def test_weights_without_a_discriminator(weights, faces, tmp_path, capsys):
    """Completed and scored with the contextual loss alone, and told."""
    path = alone(weights, tmp_path)
    image = photo(tmp_path, 40, 40)
    done = complete(path, tmp_path, "center")
    note = f"note: {path} has no discriminator; completing with the contextual loss alone"
    assert note in capsys.readouterr().out
    assert (done != image).any(-1).mean() == pytest.approx(0.25, abs=0.01)
    evaluate.main(["--weights", str(path), "--data-dir", str(faces), "--mask", "half", *FEW])
    told = capsys.readouterr().out
    assert note in told and "| half, 50 % | ours |" in told


# ---- infer


def complete(weights, folder, mask, *flags, name="in.png", output="out.png"):
    infer.main(
        [*("--weights", str(weights), "--input", str(folder / name), "--output", str(folder / output)),
         *("--mask", str(mask), "--device", "cpu", *FEW, "--every", "0", *map(str, flags))]
    )  # fmt: skip
    return read_image(folder / output)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("full", "lowres")])
@pytest.mark.parametrize("size, window", [((47, 33), (7, 0, 33)), ((218, 178), (55, 35, 108)), ((32, 32), (0, 0, 32))])
def test_holes_by_name(weights, tmp_path, kind, size, window):
    """What changed lies in the window, as much of it as the kind hides of 32 x 32; the seed chooses the drawn ones."""
    image, (top, left, side) = photo(tmp_path, *size), window
    done = complete(weights, tmp_path, kind, "--seed", "1", "--blend", "paste")
    drawn = sample_mask(kind, PX, np.random.default_rng((1, 0)))
    changed = (done != image).any(-1)
    inside = np.zeros(size, bool)
    inside[top : top + side, left : left + side] = True
    assert not changed[~inside].any() and changed[inside].mean() == pytest.approx(drawn.mean(), abs=0.03)
    if size == (32, 32):
        np.testing.assert_array_equal(changed, drawn)
    row, column = ((np.arange(side) + 0.5) * PX / side for _ in range(2))
    drawn = drawn[np.int_(row)[:, None], np.int_(column)]
    assert (changed[inside].reshape(side, side) == drawn).mean() > 0.93  # but for rounding at the pixels' edges


@pytest.mark.parametrize("kind", ["full", "lowres", "random20"])
def test_a_picture_of_the_networks_size_is_what_the_search_finds(weights, tmp_path, kind):
    """`full` and `lowres` write G(z); here called directly, with nothing missing and with block means alone."""
    image, nets = photo(tmp_path, PX, PX), infer.load(weights)
    settings = dataclasses.replace(PRESETS["bamos"], steps=3, restarts=2)
    done = complete(weights, tmp_path, kind, "--seed", "3", "--blend", "paste", "--preset", "bamos")
    drawn = sample_mask(kind, PX, np.random.default_rng((3, 0)))
    mask_tensor = drawn[None, None].astype(np.float32)
    found = search(
        nets.generator,
        nets.discriminator,
        to_network(image[None]),
        mask_tensor,
        settings,
        [image_rng(3, 0)],
        lowres=kind == "lowres",
    )
    made = from_network(found.generated)[0]
    np.testing.assert_array_equal(done, made if kind != "random20" else np.where(drawn[..., None], made, image))


@pytest.mark.parametrize("kind", ["full", "lowres"])
@pytest.mark.parametrize("size, window", [((47, 33), (7, 0, 33)), ((218, 178), (55, 35, 108))])
def test_full_and_lowres_fill_the_window(weights, tmp_path, kind, size, window):
    image, (top, left, side) = photo(tmp_path, *size), window
    for blend in ("paste", "poisson"):
        changed = (complete(weights, tmp_path, kind, "--blend", blend) != image).any(-1)
        inside = np.zeros(size, bool)
        inside[top : top + side, left : left + side] = True
        assert not changed[~inside].any() and changed[inside].mean() > 0.97


def test_a_hole_from_a_file_a_folder_and_drawn_in_black(weights, tmp_path):
    image = photo(tmp_path, 218, 178)
    missing = draw(tmp_path / "hole.png", 218, 178, (90, 60, 140, 120))
    draw(tmp_path / "masks/other.png", 218, 178, (60, 40, 70, 50))
    draw(tmp_path / "masks/in.png", 218, 178, (90, 60, 140, 120))
    write_image(tmp_path / "black.png", np.where(missing, 0, 255).astype(np.uint8))
    done = complete(weights, tmp_path, tmp_path / "hole.png")
    np.testing.assert_array_equal(done[~missing], image[~missing])
    assert (done != image).any(-1)[missing].mean() > 0.9
    np.testing.assert_array_equal(done, complete(weights, tmp_path, tmp_path / "masks"))
    np.testing.assert_array_equal(done, complete(weights, tmp_path, tmp_path / "black.png", "--invert-mask"))
    write_image(tmp_path / "in.png", np.where(missing[..., None], 255 - image, image))
    again = complete(weights, tmp_path, tmp_path / "hole.png")  # whatever lies under the hole
    np.testing.assert_array_equal(done, again)


def test_the_face_by_eyes_by_a_list_and_by_hand(weights, tmp_path, capsys):
    """Eyes as aligned CelebA has them are its square; turned ones are told with their angle."""
    image = photo(tmp_path, 230, 200)
    draw(tmp_path / "hole.png", 230, 200, (90, 60, 130, 120))
    shifted = complete(weights, tmp_path, tmp_path / "hole.png", "--eyes", 80, 120, 118, 120)
    told = capsys.readouterr().out  # from (69.5, 111.5) to (80, 120), and so from (35, 55)
    assert "face window 108 x 108 px at (46, 64); loss" in told and "as in training" not in told
    by_hand = complete(weights, tmp_path, tmp_path / "hole.png", "--face", 45, 63, 108)
    assert "face window 108 x 108 px at (45, 63); loss" in capsys.readouterr().out
    assert (shifted != image).any() and (by_hand != shifted).any()
    (tmp_path / "landmarks.txt").write_text(
        "1\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y\nin.png 80 120 118 120 77 142\n"
    )
    listed = complete(weights, tmp_path, tmp_path / "hole.png", "--eyes-file", tmp_path / "landmarks.txt")
    np.testing.assert_array_equal(listed, shifted)
    complete(weights, tmp_path, tmp_path / "hole.png", "--eyes", 80, 120, 118, 125)
    assert "turned by 7.5 degrees" in capsys.readouterr().out  # atan(5 / 38)


def test_photos_of_other_shapes_get_a_note(weights, tmp_path, capsys):
    for size, notes in (((218, 178), 0), ((109, 89), 0), ((60, 60), 0), ((47, 33), 1), ((60, 90), 1)):
        photo(tmp_path, *size)
        complete(weights, tmp_path, "center")
        told = capsys.readouterr().out
        assert told.count("taken for an upright face that fills the square in the middle") == notes, size
        if notes:
            complete(weights, tmp_path, "center", "--face", 0, 0, 30)
            assert "taken for" not in capsys.readouterr().out


def test_a_hole_that_hides_everything_is_told(weights, tmp_path, capsys):
    photo(tmp_path, 60, 60)
    draw(tmp_path / "hole.png", 60, 60, (0, 0, 60, 60))
    assert complete(weights, tmp_path, tmp_path / "hole.png").shape == (60, 60, 3)
    told = capsys.readouterr().out
    assert "nothing constrains the result" in told and "no pixel known" in told and "levels off" not in told
    photo(tmp_path, 218, 178)
    draw(tmp_path / "hole.png", 218, 178, (55, 35, 163, 143))  # the whole face window
    complete(weights, tmp_path, tmp_path / "hole.png")
    assert "nothing constrains the result" in capsys.readouterr().out
    draw(tmp_path / "hole.png", 218, 178, (55, 35, 163, 130))
    complete(weights, tmp_path, tmp_path / "hole.png")
    assert "constrains" not in capsys.readouterr().out


def test_files_of_the_search(weights, tmp_path, capsys):
    """A frame every so many steps, before the first and after the last: 4 / 2 + 1."""
    photo(tmp_path, 40, 40)
    complete(weights, tmp_path, "center", "--steps", 4, "--every", 2, output="a/out.jpg")
    told = capsys.readouterr().out
    names = {f"out-{end}" for end in ("evolution.png", "evolution.gif", "curves.png")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"out.jpg"} | names
    assert all(str(tmp_path / "a" / name) in told for name in names)
    with Image.open(tmp_path / "a/out-evolution.gif") as animation:
        assert animation.n_frames == 3
    sheet = read_image(tmp_path / "a/out-evolution.png")
    assert sheet.shape[1] == (1 + 3 + 1) * (96 + 4) + 4  # input, frames, blended
    assert "written: " + str(tmp_path / "a/out.jpg") in told and "changes known pixels a little; write a .png" in told


def test_a_folder_without_files_of_the_search(weights, tmp_path, capsys):
    photo(tmp_path, 40, 40)
    complete(weights, tmp_path, "center", output="a/out.png")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out.png"]
    assert "known pixels a little" not in capsys.readouterr().out


def test_a_folder_with_a_broken_picture(weights, tmp_path, capsys):
    """The others are done, each with its eyes and its own hole; the summary names it, the status is 1."""
    photos, sizes = tmp_path / "photos", {"a.png": (218, 178), "b.png": (60, 60), "sub/c.png": (230, 200)}
    images = {name: photo(photos, *size, name) for name, size in sizes.items()}
    (photos / "corrupt.png").write_bytes((photos / "a.png").read_bytes()[:500])
    (tmp_path / "eyes.txt").write_text("c.png 80 120 118 120\nelsewhere.png 1 2 3 4\n")
    command = ["--weights", weights, "--input", photos, "--output", tmp_path / "out", "--mask", "random80", *FEW]
    command = [str(word) for word in [*command, "--eyes-file", tmp_path / "eyes.txt", "--every", "2", "--seed", "5"]]
    with pytest.raises(SystemExit) as stop:
        infer.main(command)
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 3 and list(summary["failed"]) == [str(photos / "corrupt.png")]
    told = capsys.readouterr().out
    assert "corrupt.png" in told and "sub/c.png: face window 108 x 108 px at (46, 64); loss" in told
    windows = {"a.png": (55, 35, 108, 0), "b.png": (0, 0, 60, 1), "sub/c.png": (64, 46, 107, 3)}  # and their places
    for name, (top, left, side, index) in windows.items():
        changed = (read_image(tmp_path / "out" / name) != images[name]).any(-1)
        drawn = sample_mask("random80", PX, np.random.default_rng((5, index)))
        places = np.int_((np.arange(side) + 0.5) * PX / side)
        agree = changed[top : top + side, left : left + side] == drawn[places[:, None], places]
        assert agree.mean() > 0.9 and changed.sum() < 0.85 * (side + 1) ** 2
    names = {"search-evolution.png", "search-evolution.gif", "search-curves.png", "summary.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"a.png", "b.png", "sub", RECORD}
    with Image.open(tmp_path / "out/search-evolution.gif") as animation:
        assert animation.n_frames == 3  # after 0, 2 and 3 steps
    with pytest.raises(SystemExit):
        infer.main([*command, "--skip-existing"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["completed"] == 0 and summary["skipped"] == 3


def test_a_folder_of_masks_by_name(weights, tmp_path):
    drawn = {}
    for name, box in (("a", (70, 60, 90, 120)), ("b", (120, 60, 140, 100))):
        photo(tmp_path / "photos", 218, 178, f"{name}.png")
        drawn[name] = draw(tmp_path / f"masks/{name}.jpg", 218, 178, box)
    flags = ("--weights", weights, "--mask", tmp_path / "masks", *FEW, "--every", 0)
    infer.main([str(word) for word in (*flags, "--input", tmp_path / "photos", "--output", tmp_path / "out")])
    for name, missing in drawn.items():
        changed = read_image(tmp_path / f"photos/{name}.png") != read_image(tmp_path / f"out/{name}.png")
        assert not changed[~missing].any() and changed[missing].any(-1).mean() > 0.9


def test_input_mistakes(capsys, weights, tmp_path):
    photo(tmp_path)
    photo(tmp_path, 15, 40, "low.png")
    draw(tmp_path / "black.png", 47, 33)
    draw(tmp_path / "far.png", 47, 33, (0, 5, 45, 9))
    draw(tmp_path / "masks/else.png", 47, 33, (20, 5, 30, 9))
    start = ("--weights", weights, "--output", tmp_path / "out.png", "--device", "cpu", *FEW)
    given = (*start, "--input", tmp_path / "in.png")
    line = fails(capsys, infer.main, *start, "--input", tmp_path / "low.png")
    assert "low.png is 40 x 15 px and has no window for a face" in line and "needs 16" in line
    for mask, told in (
        (
            "stars",
            "there is no mask stars; give an image, a folder, or one of center, random, random20, random80, left",
        ),
        (tmp_path / "black.png", "no hole in"),
        (tmp_path / "far.png", "48 px beyond the face window, 33 x 33 px at (0, 12)"),  # 12 of its 45 rows, 4 px wide
        (tmp_path / "masks", "no mask named in"),
    ):
        assert told in fails(capsys, infer.main, *given, "--mask", mask)
    assert "--center-scale 0.5 leaves no hole" in fails(capsys, infer.main, *given, "--center-scale", "0.5")
    assert "more than 0" in fails(capsys, infer.main, *given, "--center-scale", "0")
    assert "no preset 'best'" in fails(capsys, infer.main, *given, "--preset", "best")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--eyes", "10", "20", "20", "20", "--face", "0", "0", "30"], "not by both"),
        (["--eyes-file", "eyes.txt", "--face", "0", "0", "30"], "not by both"),
        (["--eyes", "20", "20", "10", "20"], "left first"),
        (["--eyes", "10", "20", "13", "20"], "no window for a face"),  # 3 px apart: the square of a face of 9 px
        (["--face", "25", "0", "30"], "mostly outside"),
        (["--eyes-file", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--eyes-file", "eyes.txt"], "no line for in.png"),
        (["--eyes-file", "in.png"], "it is no text"),
    ],
)
def test_faces_that_cannot_be(capsys, weights, tmp_path, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path)
    Path("eyes.txt").write_text("other.png 1 2 3 4\n")
    assert told in fails(
        capsys, infer.main, "--weights", weights, "--input", "in.png", "--output", "out.png", *FEW, *flags
    )
    if "--eyes-file" not in flags:
        line = fails(capsys, infer.main, "--weights", weights, "--input", tmp_path, "--output", "out", *flags)
        assert "--eyes-file" in line or "not by both" in line
    assert not Path("out.png").exists() and not Path("out").exists()


@pytest.mark.parametrize(
    "flag, value",
    [("--seed", "-1"), ("--every", "-1"), ("--steps", "0"), ("--restarts", "0"), ("--learning-rate", "0"),
     ("--weight-window", "6"), ("--momentum", "1"), ("--perceptual-weight", "-1")],
)  # fmt: skip
def test_numbers_that_cannot_be(capsys, weights, faces, tmp_path, flag, value):
    photo(tmp_path)
    start = ("--weights", weights, "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    name = flag[2:].replace("-", "_")
    line = fails(capsys, infer.main, *start, flag, value)
    assert (name in line or flag in line) and value in line
    assert not (tmp_path / "out.png").exists()
    if flag != "--every":
        line = fails(capsys, evaluate.main, "--weights", weights, "--data-dir", faces, flag, value)
        assert (name in line or flag in line) and value in line


# ---- evaluate, export


def test_evaluate_mistakes(capsys, weights, faces, tmp_path):
    start = ("--weights", weights, "--data-dir", faces, *FEW)
    for kind in ("stars", "full", "lowres"):
        line = fails(capsys, evaluate.main, *start, "--mask", "half", kind)
        assert f"no masks of the kind '{kind}'" in line and line.endswith("grid, pattern, freeform, or name a folder")
    assert "no masks of the kind ''" in fails(capsys, evaluate.main, *start, "--mask")
    assert "no preset 'best'" in fails(capsys, evaluate.main, *start, "--preset", "best")


def test_the_exported_generator_draws_what_the_network_draws(weights, tmp_path, capsys):
    export.main(["--weights", str(weights), "--output", str(tmp_path / "exported"), "--device", "cpu"])
    told = capsys.readouterr().out
    assert "largest difference from the network" in told
    z = paddle.to_tensor(np.random.default_rng(0).uniform(-1, 1, (3, 12)).astype(np.float32))
    exported = paddle.jit.load(str(tmp_path / "exported/generator"))
    exported.eval()
    with paddle.no_grad():
        expected = infer.load(weights).generator(z).numpy()
    np.testing.assert_allclose(exported(z).numpy(), expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
