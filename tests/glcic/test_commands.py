"""What a user types, and every mistake that one line must answer: exit status 2, nothing executed, nothing lost."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.imaging.io import read_image, write_image
from glcic import evaluate, infer
from glcic import train as glcic_train
from glcic.config import TINY
from tests.helpers import assert_completes_the_same_compiled, fails

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(faces, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=faces, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    return glcic_train.train(cfg)


# ---- train


def test_pairs_are_trained_on_and_scored_by_their_photos(tmp_path, capsys):
    """Photos of grey 50 with labels of grey 250: the mean colour that fills holes is that of the photos."""
    pair = np.repeat(np.array([50, 250], np.uint8), 64)[None, :, None].repeat(64, 0).repeat(3, 2)
    for split, count in (("train", 20), ("Validation", 2)):
        for n in range(count):
            write_image(tmp_path / f"data/{split}/{n}.png", pair)
    cfg = dataclasses.replace(TINY, data_dir=tmp_path / "data", run_dir=tmp_path / "run", device="cpu", pairs=True)
    weights = glcic_train.train(cfg)
    assert "note: train 19 (train/), val 2 (Validation/), test 1 (every 20th of train/)" in capsys.readouterr().out
    colour = infer.load(weights).state_dict()["mean_colour"].numpy().ravel()
    np.testing.assert_allclose(colour, 50 / 127.5 - 1, atol=1e-6)
    result = evaluate.evaluate(evaluate.Options(weights, tmp_path / "data", pairs=True, limit=1))
    assert (result["images"]["truth"] == 50).all() and result["split"] == "test"


def test_train_on_a_card_that_is_not_there(tmp_path):
    """In a process of its own: Paddle itself would abort it."""
    command = [sys.executable, "-m", "glcic.train", "quick", "--device", "gpu:7", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --device gpu:7") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--image-px", "66"], "66 is no multiple of 4"),
        (["--mask-px", "8", "70"], "do not fit"),
        (["--resume", "nowhere"], "no such checkpoint folder"),
    ],
)
def test_train_with_settings_that_cannot_work(capsys, faces, tmp_path, flags, told):
    assert told in fails(capsys, glcic_train.main, "quick", "--data-dir", faces, "--run-dir", tmp_path / "run", *flags)


def test_broken_pictures_in_the_data_are_skipped_and_named(faces, tmp_path, capsys):
    """One truncated JPEG and one text file among 260 images; training goes on without them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = sorted((faces / "img_align_celeba").iterdir())
    for n in range(260):
        (folder / f"{n:03d}.jpg").write_bytes(names[n % 60].read_bytes())
    (folder / "000.jpg").write_bytes(names[0].read_bytes()[:2000])
    (folder / "100.jpg").write_text("this is no image")
    cfg = dataclasses.replace(
        TINY, data_dir=folder, run_dir=tmp_path / "run", device="cpu", crop="center", total_steps=65, decay_steps=0
    )
    assert glcic_train.train(cfg).exists()
    told = capsys.readouterr().err
    assert told.count("000.jpg") == 1 and told.count("100.jpg") == 1 and "2 corrupt so far" in told


# ---- infer


@pytest.mark.parametrize("size", [(257, 301), (33, 47), (64, 64)])
@pytest.mark.parametrize("blend", ["paste", "feather", "poisson", "telea-poisson"])
def test_any_size_keeps_size_and_known_pixels(weights, size, blend):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[: size[0] // 3, : size[1] // 3] = True  # in a corner
    mask[-4:, 10:20] = True  # at an edge
    completed = infer.complete(infer.load(weights), image, mask, blend)
    assert completed.shape == image.shape and completed.dtype == np.uint8
    np.testing.assert_array_equal(completed[~mask], image[~mask])
    assert (completed[mask] != image[mask]).mean() > 0.9


def test_the_papers_blending_is_fast_marching_and_then_poisson(weights):
    image, mask = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8), np.zeros((40, 52), bool)
    mask[9:31, 20:40] = True
    network = infer.load(weights)
    as_published = infer.complete(network, image, mask, "telea-poisson")
    np.testing.assert_array_equal(infer.complete(network, image, mask, "paper"), as_published)
    assert (infer.complete(network, image, mask) != as_published)[mask].any()


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
from benchmarks.worker import peak_megabytes
from glcic import infer
infer.main(sys.argv[1:])
print("peak MB", peak_megabytes())
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


# ---- evaluate


def test_evaluate_scores_what_the_formulas_say(weights, faces):
    """Hole PSNR and L1 of the first image, worked out here from the images that the result holds."""
    result = evaluate.evaluate(evaluate.Options(weights, faces, limit=3))
    assert {"ours", "Telea", "Navier-Stokes", "mean colour", "membrane"} <= set(result["rows"])
    images = result["images"]
    mask, values = images["masks"], []
    for n in range(3):
        difference = images["truth"][n][mask[n]].astype(float) - images["ours"][n][mask[n]]
        values.append(10 * np.log10(255**2 / np.mean(difference**2)))
        assert (images["truth"][n][~mask[n]] == images["ours"][n][~mask[n]]).all()
    mean, error = result["rows"]["ours"]["hole_psnr_db"]
    assert mean == pytest.approx(np.mean(values)) and error == pytest.approx(np.std(values, ddof=1) / 3**0.5)


# ---- compiled


def test_compiled_it_completes_the_same(weights, faces, tmp_path, capsys, eager_for_a_moment):
    scored = ("plain", "compiled", "exported")
    assert_completes_the_same_compiled(
        "glcic", "completion", weights, faces, tmp_path, capsys, eager_for_a_moment, scored
    )
