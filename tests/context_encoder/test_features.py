"""Features: what the file holds, beside the layers applied one by one; whose neighbour is whose; what is told."""

import re

import numpy as np
import pytest

from common.checkpoint.weights import save_weights
from common.imaging.io import read_image, write_image
from common.imaging.transforms import crop_square
from context_encoder import features
from context_encoder.masks import center
from context_encoder.model import ContextEncoder

import paddle

pytestmark = pytest.mark.medium

NAMES = ["a.png", "b.png", "c.png", "d.png", "sub/e.png", "sub/f.png", "z.png"]
UNITS = 16


def build(noise_channels=0, output="center"):
    """A network whose bottleneck is normalised by numbers that are not 0 and 1."""
    paddle.seed(1)
    network = ContextEncoder(32, output, 8, UNITS, noise_channels, 2)
    norm, rng = network.bottleneck_norm, np.random.default_rng(0)
    norm._mean.set_value(rng.normal(0, 0.02, UNITS + noise_channels).astype(np.float32))
    norm._variance.set_value(rng.uniform(1e-4, 1e-3, UNITS + noise_channels).astype(np.float32))
    norm.bias.set_value(rng.normal(0, 0.5, UNITS + noise_channels).astype(np.float32))
    network.eval()
    return network


@pytest.fixture(scope="module")
def networks():
    return {"center": build(), "noise": build(noise_channels=5), "whole": build(output="whole")}


@pytest.fixture(scope="module")
def weights(networks, tmp_path_factory):
    paths = {}
    for name, network in networks.items():
        metadata = {"paper": "context_encoder", "preset": "tiny", "step": 0, "generator": network.arguments}
        metadata |= {"image_px": 32, "crop": "center", "holes": "center"}
        paths[name] = save_weights(tmp_path_factory.mktemp(name) / "w.safetensors", {"generator": network}, metadata)
    return paths


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (len(NAMES), 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, image in zip(NAMES, images, strict=True):
        write_image(folder / name, image)
    return folder


def run(weights, folder, output, *flags):
    command = ["--weights", weights, "--input", folder, "--output", output, "--device", "cpu", *flags]
    features.main([str(argument) for argument in command])
    with np.load(output) as found:
        assert set(found.files) == {"features", "names"}
        return found["features"], found["names"].tolist()


def fails(capsys, weights, folder, output, *flags):
    with pytest.raises(SystemExit) as stop:
        run(weights, folder, output, *flags)
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def by_layers(network, images, mask):
    """The bottleneck's units of Sec. 3.1: convolutions, then normalisation and leaky ReLU written out."""
    pixels = np.where(mask[..., None], np.array([117.0, 104.0, 123.0]), images) / 127.5 - 1
    x = network.encoder(paddle.to_tensor(pixels.transpose(0, 3, 1, 2).astype(np.float32)))
    x = network.bottleneck(x).numpy().reshape(len(images), UNITS).astype(np.float64)
    norm = network.bottleneck_norm
    mean, variance, gamma, beta = (
        value.numpy()[:UNITS] for value in (norm._mean, norm._variance, norm.weight, norm.bias)
    )
    x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    return np.where(x > 0, x, 0.2 * x)


def naive_neighbours(features, query):
    """All other images, by falling cosine, worked out pair by pair."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5

    rows = features.astype(np.float64).tolist()
    others = [n for n in range(len(rows)) if n != query]
    return sorted(others, key=lambda n: -cosine(rows[query], rows[n]))


# ---- the file


@pytest.mark.parametrize("name", ["center", "noise", "whole"])
@pytest.mark.parametrize("mask", ["center", "none"])
def test_the_file_holds_the_bottleneck_of_every_picture(networks, weights, folder, images, tmp_path, name, mask):
    """Without the part that a network's noise has of it."""
    found, names = run(weights[name], folder, tmp_path / "deep/features.npz", "--mask", mask)
    assert names == NAMES and found.shape == (len(NAMES), UNITS) and found.dtype == np.float32
    hidden = center(32, 2) if mask == "center" else np.zeros((32, 32), bool)
    expected = by_layers(networks[name], images, hidden)
    assert (expected < 0).any() and np.abs(expected).mean() > 0.3
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_hidden_middle_is_hidden(weights, folder, images, tmp_path):
    other = np.where(center(32, 2)[None, ..., None], 255 - images, images)
    for name, image in zip(NAMES, other, strict=True):
        write_image(tmp_path / "other" / name, image)
    for mask, alike in (("center", True), ("none", False)):
        first, _ = run(weights["center"], folder, tmp_path / "one.npz", "--mask", mask)
        second, _ = run(weights["center"], tmp_path / "other", tmp_path / "two.npz", "--mask", mask)
        assert (first == second).all() == alike
        assert (np.abs(first - second).max(axis=1) > 0.01).all() != alike


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_nothing(weights, folder, tmp_path, batch_size):
    all_at_once, _ = run(weights["noise"], folder, tmp_path / "one.npz")
    found, _ = run(weights["noise"], folder, tmp_path / "two.npz", "--batch-size", batch_size)
    np.testing.assert_allclose(found, all_at_once, atol=1e-4)


def test_pictures_are_cut_as_in_training_unless_told(networks, weights, tmp_path):
    wide = np.random.default_rng(2).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    for n, image in enumerate(wide):
        write_image(tmp_path / f"images/{n}.png", image)
    shown = np.zeros((32, 32), bool)
    for flags, crop in (((), "center"), (("--crop", "squash"), "squash")):
        found, _ = run(weights["center"], tmp_path / "images", tmp_path / "f.npz", "--mask", "none", *flags)
        squares = np.stack([crop_square(image, crop, 32, np.random.default_rng(0)) for image in wide])
        np.testing.assert_allclose(found, by_layers(networks["center"], squares, shown), atol=2e-4)
    assert squares[0, 0, 0].tolist() == np.rint(wide[0, :2, :3].mean((0, 1))).tolist()  # squashed: 2 x 3 px to one


# ---- neighbours


def test_nearest_beside_a_loop_over_pairs():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 7)).astype(np.float32)
    vectors[5] = 3 * vectors[9] + rng.normal(0, 0.05, 7)  # nearly the same direction, so first, however long
    found = features.nearest(vectors, list(range(40)), 39)
    for query in range(40):
        assert found[query].tolist() == naive_neighbours(vectors, query)
        assert sorted([query, *found[query].tolist()]) == list(range(40))
    assert found[5, 0] == 9 and found[9, 0] == 5
    np.testing.assert_array_equal(features.nearest(vectors, [7, 30], 3), found[[7, 30], :3])


def test_a_vector_of_zeros_has_neighbours_too():
    vectors = np.eye(4, dtype=np.float32)
    vectors[2] = 0
    found = features.nearest(vectors, [2, 0], 3)
    assert found[0].tolist() == [0, 1, 3] and found[1].tolist() == [1, 2, 3]  # all as far: in the folder's order


def test_the_sheet_shows_queries_and_their_neighbours(weights, folder, images, tmp_path):
    """4 px between images of 32 px, 20 px of titles; queries 0, 3 and 6 of seven; the hidden middle is outlined."""
    found, _ = run(weights["center"], folder, tmp_path / "f.npz", "--queries", 3, "--neighbours", 4)
    sheet = read_image(tmp_path / "f-neighbours.png")
    assert sheet.shape == (20 + 4 + 3 * 36, 4 + 5 * 36, 3)
    outline = center(32, 2)
    outline[11:21, 11:21] = False
    for row, query in enumerate((0, 3, 6)):
        for column, n in enumerate([query, *naive_neighbours(found, query)[:4]]):
            cell = sheet[24 + 36 * row : 56 + 36 * row, 4 + 36 * column : 36 + 36 * column]
            np.testing.assert_array_equal(cell, np.where(outline[..., None], 255, images[n]))
    run(weights["center"], folder, tmp_path / "g.npz", "--queries", 99, "--neighbours", 99, "--mask", "none")
    sheet = read_image(tmp_path / "g-neighbours.png")
    assert sheet.shape == (24 + 7 * 36, 4 + 7 * 36, 3)  # seven of seven, each with the six others
    np.testing.assert_array_equal(sheet[24:56, 4:36], images[0])


def test_how_well_neighbours_fill_the_middle(weights, folder, images, tmp_path, capsys):
    """The mean of 10 log10(255^2 / mse) over the hidden pixels; as a measure, the same with the image before."""
    found, _ = run(weights["center"], folder, tmp_path / "f.npz")
    told = [float(number) for number in re.findall(r"(\d+\.\d+) dB", capsys.readouterr().out)]
    expected = []
    for choose in (lambda n: naive_neighbours(found, n)[0], lambda n: (n - 1) % len(NAMES)):
        errors = [(images[n, 10:22, 10:22].astype(float) - images[choose(n), 10:22, 10:22]) ** 2 for n in range(7)]
        expected.append(np.mean([10 * np.log10(255**2 / error.mean()) for error in errors]))
    assert told == pytest.approx(expected, abs=0.0051)
    run(weights["center"], folder, tmp_path / "f.npz", "--mask", "none")
    assert "dB" not in capsys.readouterr().out


# ---- mistakes


def test_a_broken_picture_is_skipped_and_named(weights, images, tmp_path, capsys):
    for n in range(3):
        write_image(tmp_path / f"images/{n}.png", images[n])
    (tmp_path / "images/1.png").write_bytes((tmp_path / "images/1.png").read_bytes()[:500])
    (tmp_path / "images/notes.txt").write_text("no image")
    found, names = run(weights["center"], tmp_path / "images", tmp_path / "f.npz")
    assert names == ["0.png", "2.png"] and len(found) == 2
    told = capsys.readouterr()
    assert "1.png" in told.out + told.err and "skipped" in told.out + told.err


def test_mistakes(weights, folder, images, tmp_path, capsys):
    center = weights["center"]
    write_image(tmp_path / "one/a.png", images[0])
    (tmp_path / "none").mkdir()
    assert "1 readable image" in fails(capsys, center, tmp_path / "one", tmp_path / "f.npz")
    assert "0 readable image" in fails(capsys, center, tmp_path / "none", tmp_path / "f.npz")
    assert "nowhere" in fails(capsys, center, tmp_path / "nowhere", tmp_path / "f.npz")
    assert "features: name a file that ends in .npz" in fails(capsys, center, folder, tmp_path / "features")
    assert "1 or more" in fails(capsys, center, folder, tmp_path / "f.npz", "--queries", 0)
    assert "1 or more" in fails(capsys, center, folder, tmp_path / "f.npz", "--neighbours", 0)
    assert "1 or more" in fails(capsys, center, folder, tmp_path / "f.npz", "--batch-size", 0)
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capsys, center, folder, tmp_path / "file/f.npz")
    assert "no weights file" in fails(capsys, tmp_path / "missing.safetensors", folder, tmp_path / "f.npz")
    assert not list(tmp_path.glob("f*.npz")) and not list(tmp_path.glob("*neighbours*"))
