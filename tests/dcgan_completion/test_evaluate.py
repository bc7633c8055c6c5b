"""The paper's table: which masks and faces it is about, and that its figures are those of the images, worked out
here. And the gate: what a generator must do better than."""

import dataclasses
import hashlib
import json
import zlib

import numpy as np
import pytest

from common.checkpoint.weights import save_weights
from common.datasets.paired_images import open_photos
from common.evaluation import protocol
from common.imaging.io import read_image, write_image
from common.imaging.transforms import crop_square, from_network, to_network
from dcgan_completion import evaluate, infer
from dcgan_completion import train as dcgan_train
from dcgan_completion.config import TINY
from dcgan_completion.masks import sample_mask
from dcgan_completion.search import image_rng, search
from dcgan_completion.search_settings import PRESETS, Settings

import paddle

pytestmark = pytest.mark.medium

PX = 32
FEW = Settings(optimizer="adam", learning_rate=0.05, steps=3, restarts=2, statistics="running")
METHODS = ["ours", "overlay", "Telea", "Navier-Stokes", "mean colour", "membrane"]  # with --baselines fast
KINDS = ["center", "pattern", "random80", "half"]


def soft(count, height, width, seed=0):
    """Images of two colours that fade into each other, with a little noise."""
    rng = np.random.default_rng(seed)
    ramps = np.linspace(0, 1, height)[None, :, None, None] * rng.uniform(-99, 99, (count, 1, 1, 3))
    noise = rng.normal(0, 9, (count, height, width, 3))
    return np.clip(rng.uniform(60, 190, (count, 1, 1, 3)) + ramps + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six photos of the shape of aligned CelebA, which are all splits at once."""
    folder = tmp_path_factory.mktemp("images")
    for n, image in enumerate(soft(6, 218, 178)):
        write_image(folder / f"{n}.png", image)
    return folder


@pytest.fixture(scope="module")
def faces():
    """What is to be scored of them: the square of 108 px in the middle, at 32 px."""
    cut = soft(6, 218, 178)[:, 55:163, 35:143]
    return np.stack([crop_square(image, "center", PX, np.random.default_rng(0)) for image in cut])


@pytest.fixture(scope="module")
def weights(folder, tmp_path_factory):
    cfg = dataclasses.replace(TINY, data_dir=folder, run_dir=tmp_path_factory.mktemp("run") / "run", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "GATE", dataclasses.replace(evaluate.GATE, steps=5))
        return dcgan_train.train(cfg)


def scored(weights, folder, **changes):
    return evaluate.evaluate(evaluate.Options(weights, folder, search=FEW, baselines="fast", **changes))


def test_pairs_are_scored_by_their_photos(weights, tmp_path, monkeypatch):
    """Photos of grey 50 with labels of grey 250, in evaluation and in training's own gate."""
    pair = np.repeat(np.array([50, 250], np.uint8), 64)[None, :, None].repeat(64, 0).repeat(3, 2)
    for split in ("train", "test"):
        for n in range(20):
            write_image(tmp_path / f"data/{split}/{n}.png", pair)
    result = scored(weights, tmp_path / "data", pairs=True, mask=("center",), limit=2)
    assert (result["kinds"]["center"]["images"]["truth"] == 50).all() and result["split"] == "test"
    seen = []
    monkeypatch.setattr(evaluate, "gate", lambda generator, *sets: seen.extend(sets) or {})
    cfg = dataclasses.replace(TINY, data_dir=tmp_path / "data", run_dir=tmp_path / "run", device="cpu", pairs=True)
    dcgan_train.train(dataclasses.replace(cfg, total_steps=1))
    assert [len(images) for images in seen] == [1, 19] and all((images == 50).all() for images in seen)


@pytest.fixture(scope="module")
def result(weights, folder):
    return scored(weights, folder)


def sha256(masks):
    return hashlib.sha256(b"".join(np.packbits(one).tobytes() for one in masks)).hexdigest()


def psnr(truth, made):
    return 10 * np.log10(255**2 / ((truth.astype(np.float64) - made) ** 2).mean())


# ---- masks and faces


def test_a_hole_set_depends_on_kind_seed_and_place_alone():
    """However many are asked for; from no chain of chance that another kind has."""
    whole = {kind: evaluate.fixed_masks(kind, 5, PX, 3) for kind in (*KINDS, "freeform", "random20")}
    for kind, masks in whole.items():
        np.testing.assert_array_equal(evaluate.fixed_masks(kind, 2, PX, 3), masks[:2])
        assert masks.shape == (5, PX, PX) and masks.dtype == bool and masks.any((1, 2)).all()
        other = evaluate.fixed_masks(kind, 5, PX, 4)
        assert (other != masks).any() == (kind != "center")
    assert not (whole["random80"][0] == whole["random80"][1]).all()
    # random80 and random20 cut the same numbers at .8 and .2 if they come from one chain of chance
    assert (whole["random20"] & ~whole["random80"]).any()


def test_a_hole_set_is_the_same_in_every_process():
    """The words of its chain of chance: CRC-32 of the kind's name (which Python's own hash would not do), seed, place,
    side."""
    for kind in ("half", "random80"):
        rng = np.random.default_rng((zlib.crc32(kind.encode()), 3, 4, PX))
        np.testing.assert_array_equal(evaluate.fixed_masks(kind, 5, PX, 3)[4], sample_mask(kind, PX, rng))


def test_shares_of_the_papers_holes():
    """25 % in the centre and about that in the pattern, 80 % and half of the image."""
    fraction = {kind: evaluate.fixed_masks(kind, 20, 64, 0).mean() for kind in KINDS}
    assert fraction["center"] == 0.25 and fraction["half"] == 0.5
    assert fraction["random80"] == pytest.approx(0.8, abs=0.01) and fraction["pattern"] == pytest.approx(0.25, abs=0.03)
    halves = {one.tobytes() for one in evaluate.fixed_masks("half", 40, 64, 0)}
    assert len(halves) == 4  # left, top, right and bottom


def test_the_set_is_named(result):
    assert list(result["kinds"]) == KINDS
    for kind, of_kind in result["kinds"].items():
        masks = evaluate.fixed_masks(kind, 6, PX, 0)
        np.testing.assert_array_equal(of_kind["images"]["masks"], masks)
        assert of_kind["masks"] == kind and of_kind["masks_seed"] == 0 and of_kind["masks_sha256"] == sha256(masks)
        assert of_kind["mask_fraction_percent"] == round(100 * masks.mean(), 2) and of_kind["image_px"] == PX


def test_faces_are_cut_as_in_training(result, faces, folder, tmp_path, capsys):
    np.testing.assert_array_equal(result["kinds"]["half"]["images"]["truth"], faces)
    (tmp_path / "0.png").write_bytes((folder / "0.png").read_bytes()[:500])
    for n in (1, 2):
        (tmp_path / f"{n}.png").write_bytes((folder / f"{n}.png").read_bytes())
    images = open_photos(tmp_path, "test", pairs=False)
    cut = protocol.cut_images(images, PX, "center108", 5)
    np.testing.assert_array_equal(cut, faces[1:3])
    assert "skipped: " in capsys.readouterr().out
    cut = protocol.cut_images(images, PX, "random160", 1)  # without its chance
    square = soft(6, 218, 178)[1, 20:198]
    np.testing.assert_array_equal(cut[0], crop_square(square, "squash", PX, np.random.default_rng(0)))


# ---- figures


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_the_pictures(result, faces, kind):
    """PSNR in dB and L1 in percent, of the hole and of the whole image: means and standard errors over six."""
    of_kind = result["kinds"][kind]
    masks = of_kind["images"]["masks"]
    assert list(of_kind["rows"]) == METHODS and of_kind["images_scored"] == 6
    for name, row in of_kind["rows"].items():
        made = of_kind["images"][name]
        np.testing.assert_array_equal(made[~masks], faces[~masks])  # what is known stays
        assert (made[masks] != faces[masks]).any(-1).mean() > 0.5
        each = {
            "hole_psnr_db": [psnr(faces[n][masks[n]], made[n][masks[n]]) for n in range(6)],
            "image_psnr_db": [psnr(faces[n], made[n]) for n in range(6)],
            "hole_l1_percent": [np.abs(faces[n].astype(float) - made[n])[masks[n]].mean() / 2.55 for n in range(6)],
        }
        for score, values in each.items():
            assert row[score] == pytest.approx((np.mean(values), np.std(values, ddof=1) / 6**0.5), rel=1e-9), name


@pytest.mark.parametrize("kind", ["center", "random80"])
def test_the_overlay_is_what_the_search_finds(weights, result, faces, kind):
    """G(z) of the search called here for one face at a time, with that face's own chance."""
    nets, images = infer.load(weights), result["kinds"][kind]["images"]
    for n in (0, 4):
        image, missing = faces[n : n + 1], images["masks"][n]
        mask = missing[None, None].astype(np.float32)
        found = search(nets.generator, nets.discriminator, to_network(image), mask, FEW, [image_rng(0, n)])
        made = from_network(found.generated)[0]
        assert np.abs(images["G(z)"][n].astype(int) - made).max() <= 1  # batches sum in another order
        expected = np.where(missing[..., None], images["G(z)"][n], image[0])
        np.testing.assert_array_equal(images["overlay"][n], expected)


def test_ours_is_blended_and_the_overlay_is_not(weights, folder, result):
    pasted = scored(weights, folder, mask=("center",), blend="paste")["kinds"]["center"]["images"]
    np.testing.assert_array_equal(pasted["ours"], pasted["overlay"])
    images = result["kinds"]["center"]["images"]
    np.testing.assert_array_equal(images["overlay"], pasted["overlay"])
    assert (images["ours"] != images["overlay"]).any()


def test_the_truth_in_the_hole_is_not_looked_at(weights, faces):
    nets, masks = infer.load(weights), evaluate.fixed_masks("half", 6, PX, 0)
    other = np.where(masks[..., None], 255 - faces, faces)
    first, second = (evaluate.search_images(nets, images, masks, FEW, 0, "half").generated for images in (faces, other))
    np.testing.assert_array_equal(first, second)


# ---- the gate


class StandIn(paddle.nn.Layer):
    """A generator of z itself: the first numbers of z are the levels of the three channels."""

    def __init__(self):
        super().__init__()
        self.arguments = {"image_px": PX, "z_channels": 3}

    def forward(self, z):
        return (z.unsqueeze([2, 3]) * 1.0).expand([len(z), 3, PX, PX])


@pytest.mark.parametrize("shift, better", [(0, True), (90, False)])
def test_the_gate_compares_with_the_mean_face(shift, better):
    """Flat faces, which z can draw: it comes within a level or two of them; the mean of noise does not.

    With faces of which every second pixel is 90 levels brighter and the training set the very same, the mean wins.
    """
    rng = np.random.default_rng(0)
    flat = np.broadcast_to(rng.integers(40, 120, (5, 1, 1, 3)), (5, PX, PX, 3)).astype(np.uint8)
    held_out = flat.copy()
    held_out[:, ::2, ::2] += np.uint8(shift)
    training = held_out[1:] if shift else rng.integers(0, 256, (7, PX, PX, 3), dtype=np.uint8)
    gate = evaluate.gate(StandIn(), held_out, training)
    mean_face = np.rint(training.astype(np.float64).sum(0) / len(training))
    assert gate["mean_face_psnr_db"] == pytest.approx(np.mean([psnr(face, mean_face) for face in held_out]))
    assert (gate["psnr_db"] > gate["mean_face_psnr_db"]) == better
    assert gate["pictures"] == 5 and gate["steps"] == evaluate.GATE.steps and gate["restarts"] == 2
    if better:
        assert gate["psnr_db"] > 30 and gate["levels"] < 3
        assert gate["psnr_db"] <= 10 * np.log10(255**2 / gate["levels"] ** 2)  # the mean square is no less
    else:  # L1 is least at the median, the darker three quarters of the pixels: a quarter is 90 off
        assert gate["levels"] == pytest.approx(90 / 4, abs=1.5)
        assert gate["psnr_db"] == pytest.approx(10 * np.log10(255**2 / (90**2 / 4)), abs=0.5)


def test_training_keeps_the_gate_of_faces_it_has_not_seen(weights, faces):
    """In a folder this small the splits are one; its numbers are worked out from all six."""
    gate = infer.load(weights).metadata["gate"]
    mean_face = np.rint(faces.astype(np.float64).mean(0))
    assert gate["pictures"] == 6
    assert gate["mean_face_psnr_db"] == pytest.approx(np.mean([psnr(face, mean_face) for face in faces]))


# ---- what is told and written


def test_the_table_and_the_papers(result):
    lines = evaluate.table(result).splitlines()
    assert lines[0].startswith(
        "6 unsplit images of 32 px; each searched with the preset suite: adam, 3 steps, 2 restarts"
    )
    assert "lambda 0.1, seed 0" in lines[0]
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert rows[0] == ["masks", "method", "hole_psnr_db", "image_psnr_db", "hole_l1_percent"]
    assert [row[:2] for row in rows[1:7]] == [["center, 25 %", name] for name in METHODS]
    assert len(rows) == 1 + 4 * (len(METHODS) + 2)  # and ours and the overlay minus the best baseline
    mean, error = result["kinds"]["half"]["rows"]["Telea"]["image_psnr_db"]
    assert rows[27][:2] == ["half, 50 %", "Telea"] and rows[27][3].strip("*") == f"{mean:.2f} ± {error:.2f}"
    papers = {"center": (19.4, 21.3), "pattern": (17.4, 19.2), "random80": (22.8, 20.6), "half": (13.7, 15.5)}
    for kind, (ours, encoder) in papers.items():  # Table 1, CelebA
        assert f"  {kind}: Yeh et al. 2017 {ours} dB, their Context Encoder {encoder} dB" in lines
        assert f"masks {kind}: SHA-256 {result['kinds'][kind]['masks_sha256'][:16]}" in lines
    assert any("not comparable" in line for line in lines)


def test_scores_and_pictures_are_written_and_repeatable(weights, folder, tmp_path, capsys):
    results = []
    for name in ("one", "two"):
        command = ["--weights", str(weights), "--data-dir", str(folder), "--mask", "half", "freeform", "--limit", "4"]
        flags = ["--preset", "bamos", "--steps", "3", "--seed", "7", "--device", "cpu"]
        flags += ["--baselines", "fast"]
        evaluate.main([*command, *flags, "--output", str(tmp_path / name)])
        results.append((tmp_path / name / "scores.json").read_text())
    told = capsys.readouterr().out
    assert results[0] == results[1] and "images.png" in told
    scores = json.loads(results[0])
    assert scores["split"] == "unsplit" and "only 6 to train on" in scores["data_notes"][0]
    assert "note: only 6 to train on" in told
    assert scores["steps"] == 4 and scores["gate"]["pictures"] == 6
    settings = dataclasses.replace(PRESETS["bamos"], steps=3)
    assert scores["search"] == {"preset": "bamos", **dataclasses.asdict(settings), "seed": 7}
    assert list(scores["kinds"]) == ["half", "freeform"]
    for kind, of_kind in scores["kinds"].items():
        assert "images" not in of_kind and of_kind["images_scored"] == 4 and of_kind["masks_seed"] == 7
        assert of_kind["masks_sha256"] == sha256(evaluate.fixed_masks(kind, 4, PX, 7))
    sheet = read_image(tmp_path / "one/images.png")
    assert sheet.shape[:2] == (20 + 4 * (96 + 4) + 4, 6 * (96 + 4) + 4)  # input, Telea, G(z), overlay, ours, truth


def test_without_baselines_the_sheet_has_a_column_less(weights, folder, tmp_path):
    command = ["--weights", str(weights), "--data-dir", str(folder), "--mask", "center", "half", "--limit", "2"]
    flags = ["--steps", "3", "--device", "cpu", "--baselines", "none", "--output", str(tmp_path), "--html"]
    evaluate.main([*command, *flags])
    assert read_image(tmp_path / "images.png").shape[:2] == (20 + 2 * (96 + 4) + 4, 5 * (96 + 4) + 4)
    assert {path.parent.name for path in tmp_path.glob("*/scores.html")} == {"center", "half"}


def test_the_sheet_shows_the_kinds_in_turn(result, faces):
    sheet = evaluate.sheet(result, count=4)
    for row, n in enumerate((0, 1, 3, 5)):  # spread evenly over the six
        kind = KINDS[row]
        images = result["kinds"][kind]["images"]
        top = 20 + 4 + row * 100
        cells = [sheet[top : top + 96 : 3, 4 + c * 100 : 100 + c * 100 : 3] for c in range(6)]
        np.testing.assert_array_equal(cells[5], faces[n])
        np.testing.assert_array_equal(cells[4], images["ours"][n])
        np.testing.assert_array_equal(cells[2], images["G(z)"][n])
        np.testing.assert_array_equal(cells[0], np.where(images["masks"][n][..., None], 255, faces[n]))


def test_a_weak_dcgan_is_told_with_numbers(weights, folder, tmp_path, capsys):
    nets = infer.load(weights)
    gate = {**nets.metadata["gate"], "psnr_db": 12.34, "mean_face_psnr_db": 15.67}
    both = {"generator": nets.generator, "discriminator": nets.discriminator}
    path = save_weights(tmp_path / "weak.safetensors", both, {**nets.metadata, "gate": gate})
    capsys.readouterr()
    scored(path, folder, mask=("center",), limit=1)
    told = capsys.readouterr().out
    assert "not good enough" in told and "12.3 dB" in told and "15.7 dB" in told
