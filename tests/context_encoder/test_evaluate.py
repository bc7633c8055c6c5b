"""The paper's table: which pixels each figure is of, worked out here, and which masks and images it is about."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from common.checkpoint.weights import save_weights
from common.imaging.io import read_image, write_image
from common.imaging.transforms import from_network, to_network
from common.masks import benchmark_sets
from context_encoder import evaluate, infer
from context_encoder.masks import center
from context_encoder.model import ContextEncoder

import paddle

pytestmark = pytest.mark.medium

FAST = ("--baselines", "fast")
METHODS = {"ours", "Telea", "Navier-Stokes", "mean colour", "membrane"}  # with --baselines fast


def lively(output="center", overlap_px=2, noise_channels=0):
    """An untrained network whose answer depends visibly on all it sees: larger weights than it would start with."""
    paddle.seed(1)
    network = ContextEncoder(32, output, 8, 16, noise_channels, overlap_px)
    for value in network.parameters():
        if value.ndim == 4:
            value.set_value(value * 4)
    network.eval()
    return network


def save(folder, network, masks="center"):
    metadata = {"paper": "context_encoder", "preset": "tiny", "step": 6, "generator": network.arguments}
    metadata |= {"image_px": 32, "crop": "center", "holes": masks}
    return save_weights(folder / "weights.safetensors", {"generator": network}, metadata)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return {
        name: save(tmp_path_factory.mktemp(name), lively(*arguments), masks)
        for name, arguments, masks in (
            ("center", ("center",), "center"),
            ("no-overlap", ("center", 0), "center"),
            ("whole", ("whole", 0), "regions"),
        )
    }


@pytest.fixture(scope="module")
def images():
    """Six images of the network's size: soft colours with a little noise."""
    rng = np.random.default_rng(0)
    ramps = np.linspace(0, 1, 32)[None, :, None, None] * rng.uniform(-99, 99, (6, 1, 1, 3))
    return np.clip(rng.uniform(60, 190, (6, 1, 1, 3)) + ramps + rng.normal(0, 9, (6, 32, 32, 3)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for n, image in enumerate(images):
        write_image(folder / f"{n}.png", image)
    return folder


def answers(weights, images, mask):
    """What the network returns for images of its size, by calling it: uint8 [N, 16 or 32, same, 3]."""
    mask = np.broadcast_to(mask, (len(images), 1, 32, 32)).astype(np.float32)
    with paddle.no_grad():
        return from_network(infer.load(weights)(paddle.to_tensor(to_network(images)), paddle.to_tensor(mask)).numpy())


def figures(truth, made):
    """L1 and L2 in percent and PSNR in dB of each image's pixels [N, n, 3], mean and standard error of each."""
    difference = (truth.astype(np.float64) - made.astype(np.float64)).reshape(len(truth), -1) / 255
    l1, l2 = np.abs(difference).mean(1) * 100, (difference**2).mean(1) * 100
    each = {"l1_percent": l1, "l2_percent": l2, "psnr_db": -10 * np.log10(l2 / 100)}
    return {name: (values.mean(), values.std(ddof=1) / len(values) ** 0.5) for name, values in each.items()}


def check(row, part, expected):
    for name, (mean, error) in expected.items():
        assert row[f"{part}_{name}"][0] == pytest.approx(mean, rel=1e-9), (part, name)
        assert row[f"{part}_{name}"][1] == pytest.approx(error, rel=1e-9), (part, name)


def sha256(masks):
    return hashlib.sha256(b"".join(np.packbits(mask).tobytes() for mask in masks)).hexdigest()


# ---- the paper's three regions


def test_hole_patch_and_image_of_a_centre_network(weights, folder, images):
    """At 32 px the square is 16 px and 12 px of it are hidden: the paper's 64 and 56 of 128."""
    result = evaluate.evaluate(evaluate.Options(weights["center"], folder))
    row, made = result["rows"]["ours"], answers(weights["center"], images, center(32, 2))
    hidden, patch, filled = np.s_[:, 10:22, 10:22], np.s_[:, 8:24, 8:24], images.copy()
    filled[hidden] = made[:, 2:14, 2:14]
    check(row, "hole", figures(images[hidden], made[:, 2:14, 2:14]))
    check(row, "patch", figures(images[patch], made))  # the network's own ring
    check(row, "image", figures(images, filled))
    np.testing.assert_array_equal(result["images"]["ours"], filled)
    np.testing.assert_array_equal(result["images"]["truth"], images)


def test_the_classical_methods_have_the_photos_own_ring(weights, folder):
    """Their errors in the square of 256 px are those in the hole of 144 px, as are those in the image of 1024 px."""
    result = evaluate.evaluate(evaluate.Options(weights["center"], folder, baselines="fast"))
    assert set(result["rows"]) == METHODS
    for name in METHODS - {"ours"}:
        row = result["rows"][name]
        for part, pixels in (("patch", 256), ("image", 1024)):
            for score in ("l1_percent", "l2_percent"):
                for n in (0, 1):  # mean and standard error
                    assert row[f"{part}_{score}"][n] == pytest.approx(row[f"hole_{score}"][n] * 144 / pixels)
            gain = 10 * np.log10(pixels / 144)
            assert row[f"{part}_psnr_db"][0] == pytest.approx(row["hole_psnr_db"][0] + gain)
            assert row[f"{part}_psnr_db"][1] == pytest.approx(row["hole_psnr_db"][1])
    mean = result["images"]["mean colour"][0, 15, 15]
    known = result["images"]["truth"][0][~center(32, 2)].astype(float)
    np.testing.assert_array_equal(mean, np.rint(known.mean(0)))


@pytest.mark.parametrize("name, first", [("whole", 9), ("no-overlap", 9), ("center", 10)])
def test_the_centre_of_each_kind_of_network(weights, folder, images, name, first):
    """4 px of 128 are 1 px of 32 where the network was trained without a ring: a hole of 14 px. The square is 16 px."""
    result = evaluate.evaluate(evaluate.Options(weights[name], folder, mask="center"))
    mask = np.zeros((6, 32, 32), bool)
    mask[:, first : 32 - first, first : 32 - first] = True
    np.testing.assert_array_equal(result["images"]["masks"], mask)
    assert result["masks_sha256"] == sha256(mask) and result["masks"] == "center"
    assert result["mask_fraction_percent"] == round(100 * (32 - 2 * first) ** 2 / 1024, 2)
    hidden = center(32, 0) if name == "no-overlap" else mask[0]  # this network always hides its whole square
    made, inner = answers(weights[name], images, hidden), np.s_[:, first : 32 - first, first : 32 - first]
    if name == "whole":
        made = made[:, 8:24, 8:24]
    check(result["rows"]["ours"], "patch", figures(images[:, 8:24, 8:24], made))
    start = first - 8
    check(result["rows"]["ours"], "hole", figures(images[inner], made[:, start : 16 - start, start : 16 - start]))


def test_the_table_names_hole_patch_and_image_and_the_papers_row(weights, folder, capsys):
    evaluate.main(["--weights", str(weights["center"]), "--data-dir", str(folder), "--baselines", "fast"])
    told = capsys.readouterr().out
    head = next(line for line in told.splitlines() if line.startswith("| method"))
    names = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert names == [
        f"{part}_{s}" for part in ("hole", "patch", "image") for s in ("l1_percent", "l2_percent", "psnr_db")
    ]
    (papers,) = [line for line in told.splitlines() if "the paper:" in line]
    for figure in ("not comparable", "9.37 %", "1.96 %", "18.58 dB", "hole-64", "100 images of Paris StreetView"):
        assert figure in papers
    assert sum(line.startswith("| ") for line in told.splitlines()) == 1 + len(METHODS) + 1  # ours - best baseline
    assert f"SHA-256 {sha256(np.repeat(center(32, 2)[None], 6, axis=0))[:16]}" in told and "6 unsplit images" in told


# ---- other masks


@pytest.mark.parametrize("kind", ["blocks", "regions", "noise", "random", "freeform", "area-20-30"])
@pytest.mark.parametrize("name", ["center", "whole"])
def test_every_kind_of_holes(weights, folder, images, name, kind):
    options = evaluate.Options(weights[name], folder, mask=kind, limit=4, seed=7)
    result = evaluate.evaluate(options)
    masks = benchmark_sets.evaluation_masks(kind, 4, 32, 32, seed=7)[0]
    np.testing.assert_array_equal(result["images"]["masks"], masks)
    assert result["masks"] == kind and result["masks_sha256"] == sha256(masks) and result["images_scored"] == 4
    for row in result["rows"].values():
        assert not any(score.startswith("patch") for score in row)
    assert "patch" not in evaluate.table(result) and "hole_psnr_db" in evaluate.table(result)
    ours = result["images"]["ours"]
    np.testing.assert_array_equal(ours[~masks], images[:4][~masks])
    pixels = [(images[n][masks[n]], ours[n][masks[n]]) for n in range(4)]
    l1 = [np.abs(truth.astype(float) - made).mean() / 2.55 for truth, made in pixels]
    assert result["rows"]["ours"]["hole_l1_percent"][0] == pytest.approx(np.mean(l1))


def test_own_holes_are_those_of_the_training(weights, folder):
    assert evaluate.evaluate(evaluate.Options(weights["whole"], folder, limit=2))["masks"] == "regions"
    assert evaluate.evaluate(evaluate.Options(weights["center"], folder, limit=2))["masks"] == "center"


def without_gaps(mask):
    """Every row and column of the hole is one run of pixels."""
    return all((np.diff(np.flatnonzero(line)) == 1).all() for lines in (mask, mask.T) for line in lines)


def test_shapes_of_a_folder_make_the_regions(weights, folder, tmp_path):
    """Class maps that hold one rectangle each: turned and stretched it stays convex, as the drawn figures are not."""
    (tmp_path / "SegmentationClass").mkdir()
    for n, (rows, columns) in enumerate([(20, 30), (30, 12)]):
        ids = np.zeros((40, 50), np.uint8)
        ids[5 : 5 + rows, 9 : 9 + columns] = 15
        image = Image.fromarray(ids)
        image.putpalette([0, 0, 0, *range(3 * 20)])
        image.save(tmp_path / f"SegmentationClass/{n}.png")
        assert Image.open(tmp_path / f"SegmentationClass/{n}.png").mode == "P"
    options = evaluate.Options(weights["whole"], folder, mask="regions", shapes_dir=tmp_path)
    masks = evaluate.evaluate(options)["images"]["masks"]
    assert all(without_gaps(mask) and 0.05 <= mask.mean() <= 0.25 for mask in masks)
    drawn = evaluate.evaluate(evaluate.Options(weights["whole"], folder, mask="regions"))["images"]["masks"]
    assert not all(without_gaps(mask) for mask in drawn)


# ---- predictions of many images


@pytest.mark.parametrize("name", ["center", "whole"])
def test_one_window_or_slide_is_the_same(weights, name):
    """Batches of images of the network's size, a last one of 4, beside `slide` on each."""
    network, rng = infer.load(weights[name]), np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    masks = np.repeat(center(32, 2)[None], 20, axis=0)
    if name == "whole":
        masks = benchmark_sets.evaluation_masks("freeform", 20, 32, 32)[0]
    pixels = to_network(images)
    slid = np.stack([infer.slide(network, *one, 16, rng) for one in zip(pixels, masks, strict=True)])
    made = evaluate.predict_all(network, images, masks)
    if name == "whole":  # slide leaves pixels alone that no window predicts; here there is one window, the image
        assert (made != images).any(axis=-1).mean() > 0.9
    else:
        np.testing.assert_array_equal(made[:, center(32, 0) < 1], images[:, center(32, 0) < 1])
    np.testing.assert_array_equal(made, from_network(slid))


@pytest.mark.parametrize("name", ["center", "whole"])
@pytest.mark.parametrize("kind", ["center", "blocks", "freeform", "area-50-60"])
def test_the_truth_in_the_hole_is_not_looked_at(weights, images, name, kind):
    network = infer.load(weights[name])
    masks = benchmark_sets.evaluation_masks(kind, 6, 32, 32)[0]
    other = np.where(masks[..., None], 255 - images, images)
    made = evaluate.complete_all(network, images, masks)
    np.testing.assert_array_equal(made, evaluate.complete_all(network, other, masks))
    np.testing.assert_array_equal(made[~masks], images[~masks])
    assert (made[masks] != images[masks]).any(axis=-1).mean() > 0.95


def test_a_network_in_training_is_evaluated_and_trains_on(images):
    network = lively()
    network.train()
    masks = np.repeat(center(32, 2)[None], 6, axis=0)
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    made = evaluate.predict_all(network, images, masks)
    assert network.training and network.bottleneck_norm.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    network.eval()
    np.testing.assert_array_equal(made, evaluate.predict_all(network, images, masks))
    assert not network.training


def test_a_network_with_noise_is_scored_alike_each_time(images):
    network, masks = lively(noise_channels=3), benchmark_sets.evaluation_masks("blocks", 6, 32, 32)[0]
    first = evaluate.predict_all(network, images, masks)
    np.testing.assert_array_equal(first, evaluate.predict_all(network, images, masks))


# ---- the command


def test_scores_and_pictures_are_written_and_repeatable(weights, folder, tmp_path, capsys):
    results = []
    for name in ("one", "two"):
        output = tmp_path / name
        command = ["--weights", str(weights["center"]), "--data-dir", str(folder), "--mask", "blocks", *FAST]
        evaluate.main([*command, "--output", str(output), "--device", "cpu"])
        results.append((output / "scores.json").read_text())
    assert results[0] == results[1] and "images.png" in capsys.readouterr().out
    scores = json.loads(results[0])
    assert (scores["split"], scores["preset"], scores["steps"], scores["image_px"]) == ("unsplit", "tiny", 6, 32)
    assert set(scores["rows"]) == METHODS and "images" not in scores
    sheet = read_image(tmp_path / "one/images.png")
    assert sheet.shape[0] > 6 * 32 and sheet.shape[1] > 5 * 32
