"""What a user types, and every mistake that one line must answer: exit status 2, nothing lost."""

import dataclasses
import json

import numpy as np
import pytest

from common.datasets.paired_images import PALETTE, classify, colourise, open_pairs
from common.evaluation import distribution_metrics
from common.evaluation.perceptual_metrics import MetricOptions, PerceptualMetrics
from common.imaging.io import read_image, write_image
from data.synthetic import write_faces, write_streets
from pix2pix import evaluate, export, infer
from pix2pix import train as pix2pix_train
from pix2pix.config import TINY
from tests.helpers import fails

import paddle

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return write_streets(tmp_path_factory.mktemp("streets") / "drawn", count=30)


def trained(folder, data, **changes):
    return pix2pix_train.train(dataclasses.replace(TINY, data_dir=data, run_dir=folder, device="cpu", **changes))


@pytest.fixture(scope="module")
def weights(streets, tmp_path_factory):
    """photo-to-label."""
    return trained(tmp_path_factory.mktemp("run") / "run", streets)


@pytest.fixture(scope="module")
def photo_weights(streets, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run") / "photo", streets, direction="label-to-photo")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- train


def test_single_photos_where_pairs_are_wanted(capsys, tmp_path):
    faces = write_faces(tmp_path / "faces", count=20) / "img_align_celeba"
    line = fails(capsys, pix2pix_train.main, "quick", "--data-dir", faces, "--run-dir", tmp_path / "run")
    assert "178 x 218" in line and "image folder" in line and "grey-to-colour" in line


def test_grey_to_colour_makes_its_pairs_from_photos(tmp_path):
    faces = write_faces(tmp_path / "faces", count=20) / "img_align_celeba"
    done = trained(tmp_path / "run", faces, direction="grey-to-colour")
    write_image(tmp_path / "grey.png", noise(50, 40))
    infer.main(["--weights", str(done), "--input", str(tmp_path / "grey.png"), "--output", str(tmp_path / "out.png")])
    assert read_image(tmp_path / "out.png").shape == (50, 40, 3)
    result = evaluate.evaluate(evaluate.Options((done,), faces))
    assert result["rows"].keys() == {"ours"} and "mean_iou" not in result["rows"]["ours"]


def test_edges_have_their_photo_on_the_right(tmp_path):
    """Sources are the left half when the right one is the photo and photos are to be made."""
    for split in ("train", "val"):
        for n in range(3):
            pair = np.concatenate([np.full((40, 40, 3), 255, np.uint8), np.full((40, 40, 3), 10 * n, np.uint8)], 1)
            write_image(tmp_path / f"edges/{split}/{n}.png", pair)
    cfg = dataclasses.replace(TINY, direction="label-to-photo", photo_side="right")
    data = evaluate.open_data(tmp_path / "edges", "train", cfg.direction, cfg.photo_side)
    source, target = pix2pix_train.sample_maker(data, cfg)(1, np.random.default_rng(0))
    assert source.min() == 255 and target.max() <= 20
    done = trained(tmp_path / "run", tmp_path / "edges", direction="label-to-photo", photo_side="right")
    assert "--half left" in pix2pix_train.example(done, tmp_path / "edges", cfg)


# ---- infer


@pytest.mark.parametrize("size", ["trained", "full"])
@pytest.mark.parametrize("norm", ["paper", "running"])
@pytest.mark.parametrize("height, width", [(33, 61), (32, 32), (7, 5), (1, 9), (140, 97)])
def test_any_size_comes_back_at_that_size(weights, size, norm, height, width):
    image = noise(height, width)
    done = infer.translate(infer.load(weights), image, norm, size)
    assert done.shape == image.shape and done.dtype == np.uint8


def test_same_seed_same_picture_and_another_seed_another(weights):
    network, image = infer.load(weights), noise(32, 32)
    first, again = infer.translate(network, image, seed=1), infer.translate(network, image, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (first != infer.translate(network, image, seed=2)).any()
    running = [infer.translate(network, image, "running", seed=seed) for seed in (1, 2)]
    np.testing.assert_array_equal(*running)  # no dropout there
    assert (running[0] != first).any()


def test_paper_statistics_are_the_pictures_own():
    """With its own statistics an image of twice the contrast gives the same output; with averages it does not."""
    from pix2pix.model import ResnetGenerator

    network = ResnetGenerator(1, 4)
    network.metadata = {"image_px": 32, "direction": "photo-to-label"}
    base = np.random.default_rng(0).integers(60, 120, (32, 32, 3))
    images = [base.astype(np.uint8), (base * 2 - 80).astype(np.uint8)]
    paper = [infer.translate(network, image, "paper").astype(int) for image in images]
    running = [infer.translate(network, image, "running").astype(int) for image in images]
    assert np.abs(paper[0] - paper[1]).max() <= 2 < np.ptp(paper[0])
    assert np.abs(running[0] - running[1]).max() > 0 or np.ptp(running[0]) == 0


def test_translating_leaves_the_network_and_chance_as_they_were(weights):
    network = infer.load(weights)
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    paddle.seed(7)
    expected = paddle.rand([3]).numpy()
    paddle.seed(7)
    infer.translate(network, noise(32, 32))
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected)
    assert not any(layer.training for layer in network.sublayers(include_self=True))
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def test_half_of_a_pair(weights, streets, tmp_path):
    pair = streets / "val/1.jpg"
    write_image(tmp_path / "photo.png", read_image(pair)[:, :256])
    common = ["--weights", str(weights), "--output"]
    infer.main([*common, str(tmp_path / "a.png"), "--input", str(pair), "--half", "left"])
    infer.main([*common, str(tmp_path / "b.png"), "--input", str(tmp_path / "photo.png")])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_a_folder_is_done_past_its_broken_pictures(weights, tmp_path, capsys):
    for name in ("a.png", "b.jpg", "sub/c.png"):
        write_image(tmp_path / "in" / name, noise(40, 50))
    (tmp_path / "in/corrupt.jpg").write_text("no image")
    command = ["--weights", weights, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    with pytest.raises(SystemExit) as stop:
        infer.main([str(word) for word in command])
    assert stop.value.code == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["translated"] == 3 and list(summary["failed"]) == [str(tmp_path / "in/corrupt.jpg")]
    assert read_image(tmp_path / "out/sub/c.png").shape == (40, 50, 3)
    alone = infer.translate(infer.load(weights), read_image(tmp_path / "in/b.jpg"))
    np.testing.assert_array_equal(read_image(tmp_path / "out/b.png"), alone)  # the place in a folder changes nothing
    (tmp_path / "in/corrupt.jpg").unlink()
    infer.main([*map(str, command), "--skip-existing"])
    assert json.loads((tmp_path / "out/summary.json").read_text())["skipped"] == 3


# ---- evaluate


def test_scores_of_the_truth_and_of_one_class(weights, streets):
    """The truth scores 1; all road scores the fraction of road, and 1/19 of a class."""
    result = evaluate.evaluate(evaluate.Options((weights,), streets))
    rows, data = result["rows"], open_pairs(streets, "val")
    assert result["pairs_scored"] == len(data) == 3
    assert rows["truth itself"]["pixel_accuracy"] == 1
    truth = np.stack([classify(data[n][1], void=True) for n in range(3)])
    fractions = np.bincount(truth[truth != 255], minlength=19) / (truth != 255).sum()
    assert rows["all road"]["pixel_accuracy"] == pytest.approx(fractions[0]) and fractions[0] == fractions.max()
    assert rows["all road"]["class_accuracy"] == pytest.approx(1 / 19)
    assert rows["truth at 32 px"]["pixel_accuracy"] > 0.8
    assert "the paper, L1 + cGAN | 0.83" in evaluate.table(result)


def test_a_judge_of_your_own_sees_photos_and_is_scored(photo_weights, streets):
    """A judge who recognises true photos, and answers road for all others."""
    data = open_pairs(streets, "val")
    known = {photo.tobytes(): classify(label, void=False) for photo, label in (data[n] for n in range(len(data)))}

    def judge(photo):
        assert photo.shape == (256, 256, 3) and photo.dtype == np.uint8
        return known.get(photo.tobytes(), np.zeros(photo.shape[:2], np.uint8))

    rows = evaluate.evaluate(evaluate.Options((photo_weights,), streets), segment=judge)["rows"]
    assert rows["real photos"]["pixel_accuracy"] == 1
    assert rows["ours"]["class_accuracy"] == pytest.approx(1 / 19)


def test_segment_with_a_network_of_ours(weights, photo_weights, streets, tmp_path, capsys):
    options = evaluate.Options((photo_weights,), streets, segment_with=weights)
    table = evaluate.table(evaluate.evaluate(options))
    assert "real photos" in table and "not the paper's FCN-score" in table and "0.66" in table
    usual = ["--data-dir", streets, "--weights"]
    told = fails(capsys, evaluate.main, *usual, photo_weights, "--segment-with", photo_weights)
    assert "wants photo-to-label weights" in told
    assert "label" in fails(capsys, evaluate.main, *usual, weights, "--segment-with", weights)
    assert "--limit 0" in fails(capsys, evaluate.main, *usual, weights, "--limit", "0")
    assert "at least one file" in fails(capsys, evaluate.main, "--data-dir", streets, "--weights")
    assert "different directions" in fails(capsys, evaluate.main, *usual, weights, photo_weights)


def test_several_weights_stand_side_by_side(weights, streets, tmp_path):
    other = trained(tmp_path / "l1", streets, objective="l1")
    folder = tmp_path / "scores"
    evaluate.main(["--weights", str(weights), str(other), "--data-dir", str(streets), "--output", str(folder)])
    rows = json.loads((folder / "scores.json").read_text())["rows"]
    assert {"l1", "l1+cgan"} <= rows.keys()
    assert read_image(folder / "images.png").shape[1] == 4 * (256 + 4) + 4
    assert read_image(folder / "worst_best.jpg").shape[1] == 4 + 6 * 84  # source, ours, truth, twice


def test_class_colours_are_recognised_and_others_are_not():
    assert evaluate.has_class_colours(colourise(np.random.default_rng(0).integers(0, 19, (40, 40)).astype(np.uint8)))
    assert not evaluate.has_class_colours(noise(40, 40))
    assert len(PALETTE) == 19


# ---- export


@pytest.mark.parametrize("norm", ["paper", "running"])
def test_export_equals_translating_without_dropout(weights, tmp_path, norm):
    export.main(["--weights", str(weights), "--output", str(tmp_path / "exported"), "--statistics", norm])
    exported = paddle.jit.load(str(tmp_path / "exported/generator"))
    exported.eval()
    network = infer.load(weights)
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    image = noise(32, 32)
    expected = infer.translate(network, image, norm)
    from common.imaging.transforms import from_network, to_network

    found = from_network(exported(paddle.to_tensor(to_network(image[None]))).numpy())[0]
    assert np.abs(found.astype(int) - expected).max() <= 1


# ---- compiled


def test_compiled_it_translates_the_same(streets, tmp_path, eager_for_a_moment):
    weights = trained(tmp_path / "run", streets, dropout="none")
    for count, norm in enumerate(("paper", "running"), 1):
        network, image = infer.load(weights), noise(50, 40)
        before = {name: value.numpy() for name, value in network.state_dict().items()}
        expected = infer.translate(network, image, norm).astype(int)
        fast = infer.faster(network, norm)
        for size in ((50, 40), (40, 30), (50, 40)):
            found = infer.translate(fast, noise(*size), norm)
            assert found.shape == (*size, 3)
        assert len(fast.programs) == len(eager_for_a_moment()) - count + 1 == 1
        assert np.abs(found - expected).max() <= 1
        for name, value in network.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), before[name])


def test_dropout_at_test_time_is_not_compiled(streets, tmp_path, eager_for_a_moment):
    network = infer.load(trained(tmp_path / "run", streets, dropout="paper", generator="unet"))
    assert infer.faster(network, "paper") is network


def test_photos_are_measured_beside_real_ones(photo_weights, weights, streets, monkeypatch, capsys):
    """By a stand-in for the feature network, the mean colour: real photos of the training are nearer than ours."""
    measured = PerceptualMetrics(MetricOptions())
    measured.networks = {"inception": lambda images: np.stack([each.mean((0, 1)) / 255 for each in images])}
    monkeypatch.setattr(evaluate, "PerceptualMetrics", lambda options: measured)
    monkeypatch.setattr(distribution_metrics, "KID_MIN_IMAGES", 3)
    result = evaluate.evaluate(evaluate.Options((photo_weights,), streets, limit=3))
    rows, text = result["rows"], evaluate.table(result)
    assert rows["real photos"]["kid_x1000"][0] < rows["ours"]["kid_x1000"][0]
    assert "real photos: the first 3 photos of train" in text and "| photos | kid_x1000 |" in text
    assert "photo-to-label" in fails(capsys, evaluate.main, "--weights", weights, "--data-dir", streets, "--perceptual")


def test_infer_and_evaluate_compile_but_not_plain(weights, streets, tmp_path, eager_for_a_moment):
    (tmp_path / "in").mkdir()
    for n in range(3):
        write_image(tmp_path / f"in/{n}.png", noise(50, 40, n))
    exported = tmp_path / "exported"
    export.main(["--weights", str(weights), "--output", str(exported), "--device", "cpu", "--statistics", "running"])
    made, scores, built = {}, {}, {}
    for name, given, flags in (
        ("plain", weights, ["--disable-cpu-layers"]),
        ("compiled", weights, []),
        ("exported", exported, []),
    ):
        start = ["--weights", str(given), "--device", "cpu", "--statistics", "running"]
        infer.main([*start, *flags, "--input", str(tmp_path / "in"), "--output", str(tmp_path / name)])
        made[name] = [read_image(tmp_path / name / f"{n}.png").astype(int) for n in range(3)]
        evaluate.main([*start, *flags, "--data-dir", str(streets), "--output", str(tmp_path / name)])
        scores[name] = json.loads((tmp_path / name / "scores.json").read_text())["rows"]["ours"]
        built[name] = list(eager_for_a_moment())
        eager_for_a_moment().clear()
    assert built["plain"] == [] and len(built["compiled"]) == 2
    assert built["exported"] == [str(exported / "generator.pdiparams")] * 2
    for fast in ("compiled", "exported"):
        assert np.abs(np.subtract(made[fast], made["plain"])).max() <= 1
        for key, value in scores["plain"].items():
            np.testing.assert_allclose(scores[fast][key], value, rtol=1e-2, atol=1e-3)
