"""The networks against the tables, TensorFlow's geometry against loops, and whole networks against numpy."""

import math

import numpy as np
import pytest

from dcgan_completion.model import Discriminator, Generator, SameConv2D, SameConv2DTranspose, doublings, initialise

import paddle

VARIANTS = ["article", "wide", "4x4"]


def trainable(network):
    return sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)


# ---- loops that know nothing of Paddle


def pad_before(side, kernel):
    """TensorFlow's rule for SAME at stride 2: the smaller half of what is missing comes before."""
    outputs = -(-side // 2)
    return max(0, (outputs - 1) * 2 + kernel - side) // 2


def conv(x, weight, bias, before):
    """Stride-2 convolution to half the sides, by its definition. weight: [out, in, k, k]."""
    batch, _, height, width = x.shape
    out = np.zeros((batch, len(weight), height // 2, width // 2)) + bias.reshape(1, -1, 1, 1)
    for i, j, a, b in np.ndindex(height // 2, width // 2, *weight.shape[2:]):
        row, column = 2 * i + a - before, 2 * j + b - before
        if 0 <= row < height and 0 <= column < width:
            out[:, :, i, j] += x[:, :, row, column] @ weight[:, :, a, b].T
    return out


def deconv(x, weight, bias, before):
    """What `conv` maps an image of twice the sides from, transposed. weight: [in, out, k, k]."""
    batch, _, height, width = x.shape
    out = np.zeros((batch, weight.shape[1], 2 * height, 2 * width)) + bias.reshape(1, -1, 1, 1)
    for i, j, a, b in np.ndindex(height, width, *weight.shape[2:]):
        row, column = 2 * i + a - before, 2 * j + b - before
        if 0 <= row < 2 * height and 0 <= column < 2 * width:
            out[:, :, row, column] += x[:, :, i, j] @ weight[:, :, a, b]
    return out


def randomise(layer, rng, scale=0.3):
    """Weights that show every mistake: biases, shifts and averages that are not 0, scales that are not 1."""
    for name, value in layer.state_dict().items():
        noise = rng.normal(0, scale, value.shape)
        value.set_value(np.float32(1 + np.abs(noise) if name.endswith("_variance") else noise))


# ---- sizes


@pytest.mark.parametrize(
    "variant, generator, discriminator",
    [("article", 5_135_363, 4_316_545), ("wide", 11_490_307, 4_316_545), ("4x4", 3_576_704, 2_765_568)],
)
def test_parameter_counts(variant, generator, discriminator):
    """Spec, sections 1 and 5: counted in the published checkpoint and codes."""
    assert trainable(Generator(variant)) == generator
    assert trainable(Discriminator(variant)) == discriminator


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("px", [8, 32, 64, 128])
def test_shapes_and_one_logit_for_each_picture(variant, px):
    """At 128 px the article's code would give four logits an image."""
    generator, discriminator = Generator(variant, px, 8, 20), Discriminator(variant, px, 8)
    with paddle.no_grad():
        images = generator(paddle.uniform([3, 20], min=-1.0, max=1.0))
        assert images.shape == [3, 3, px, px] and float(images.abs().max()) <= 1
        assert discriminator(images).shape == [3, 1]


@pytest.mark.parametrize("variant, widths", [("article", [64, 32, 16, 8]), ("wide", [64, 64, 32, 16])])
def test_maps_of_the_generator(variant, widths):
    """Spec, section 1: 512 x 4 x 4, 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, here with an eighth of the channels."""
    network, seen = Generator(variant, 64, 8), []
    for level in range(4):
        getattr(network, f"norm{level}").register_forward_pre_hook(lambda layer, x: seen.append(x[0].shape[1:]))
    network(paddle.zeros([1, 100]))
    assert [list(shape) for shape in seen] == [[w, s, s] for w, s in zip(widths, (4, 8, 16, 32), strict=True)]


@pytest.mark.parametrize("px, widths", [(64, [8, 16, 32, 64]), (128, [8, 16, 32, 64, 64])])
def test_maps_of_the_discriminator(px, widths):
    """The last map is 512 x 4 x 4 = 8192 numbers at full width, at 128 px too."""
    network, seen = Discriminator("article", px, 8), []
    for level in range(len(widths)):
        getattr(network, f"conv{level}").register_forward_post_hook(lambda layer, x, y: seen.append(y.shape[1:]))
    network(paddle.zeros([1, 3, px, px]))
    assert [list(shape) for shape in seen] == [[w, px >> n + 1, px >> n + 1] for n, w in enumerate(widths)]
    assert network.linear.weight.shape[0] == 8192 // 8


@pytest.mark.parametrize("px", [4, 48, 100, 0])
def test_sides_that_cannot_be_doubled_to(px):
    with pytest.raises(ValueError, match=f"not {px}"):
        Generator(image_px=px)


def test_doublings():
    assert [doublings(px) for px in (8, 16, 32, 64, 128, 256)] == [1, 2, 3, 4, 5, 6]


# ---- geometry


@pytest.mark.parametrize("height, width", [(8, 6), (4, 10)])
def test_same_convolution_equals_a_loop(height, width):
    rng, layer = np.random.default_rng(0), SameConv2D(2, 3)
    randomise(layer, rng)
    x = rng.normal(size=(2, 2, height, width))
    expected = conv(x, layer.weight.numpy(), layer.bias.numpy(), pad_before(height, 5))
    assert pad_before(height, 5) == pad_before(width, 5) == 1
    np.testing.assert_allclose(layer(paddle.to_tensor(np.float32(x))).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("height, width", [(4, 3), (2, 5)])
def test_same_transposed_convolution_equals_a_loop(height, width):
    rng, layer = np.random.default_rng(1), SameConv2DTranspose(3, 2)
    randomise(layer, rng)
    x = rng.normal(size=(2, 3, height, width))
    expected = deconv(x, layer.weight.numpy(), layer.bias.numpy(), pad_before(2 * height, 5))
    np.testing.assert_allclose(layer(paddle.to_tensor(np.float32(x))).numpy(), expected, atol=1e-5)


def test_transposed_convolution_is_padding_1_without_the_last_row_and_column():
    """Spec, section 5: the recipe by which the published weights were checked."""
    layer, x = SameConv2DTranspose(3, 2), paddle.randn([2, 3, 6, 4])
    whole = paddle.nn.functional.conv2d_transpose(x, layer.weight, layer.bias, stride=2, padding=1)
    np.testing.assert_allclose(layer(x).numpy(), whole.numpy()[:, :, :-1, :-1], atol=1e-6)


# ---- whole networks, by the tables


def batch_norm(x, norm):
    """By the averages, epsilon 1e-5."""
    weight, bias, mean, variance = (
        value.numpy().reshape(1, -1, 1, 1) for value in (norm.weight, norm.bias, norm._mean, norm._variance)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


@pytest.mark.parametrize("variant", VARIANTS)
def test_generator_equals_the_table_read_in_numpy(variant):
    rng, network = np.random.default_rng(2), Generator(variant, 16, 2, 5)
    randomise(network, rng)
    network.eval()
    w = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
    z = rng.uniform(-1, 1, (3, 5))
    if variant == "4x4":
        x = np.einsum("nz,zcij->ncij", z, w["deconv0.weight"])
    else:
        x = (z @ w["linear.weight"] + w["linear.bias"]).reshape(3, 16, 4, 4)
    for level in (1, 2):
        x = np.maximum(0, batch_norm(x, getattr(network, f"norm{level - 1}")))
        bias = w.get(f"deconv{level}.bias", np.zeros(w[f"deconv{level}.weight"].shape[1]))
        x = deconv(x, w[f"deconv{level}.weight"], bias, 1)
    np.testing.assert_allclose(network(paddle.to_tensor(np.float32(z))).numpy(), np.tanh(x), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_discriminator_equals_the_table_read_in_numpy(variant):
    rng, network = np.random.default_rng(3), Discriminator(variant, 16, 2)
    randomise(network, rng)
    network.eval()
    w = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
    image = rng.uniform(-1, 1, (3, 3, 16, 16))
    x = image
    for level in (0, 1):
        bias = w.get(f"conv{level}.bias", np.zeros(len(w[f"conv{level}.weight"])))
        x = conv(x, w[f"conv{level}.weight"], bias, 1)
        x = batch_norm(x, network.norm1) if level else x
        x = np.where(x > 0, x, 0.2 * x)
    if variant == "4x4":
        logits = x.reshape(3, -1) @ w["conv2.weight"].reshape(1, -1).T
    else:
        logits = x.reshape(3, -1) @ w["linear.weight"] + w["linear.bias"]
    np.testing.assert_allclose(network(paddle.to_tensor(np.float32(image))).numpy(), logits, atol=1e-4)


@pytest.mark.parametrize("network", [Generator("article", 16, 2, 5), Discriminator("article", 32, 2)])
def test_averages_keep_nine_tenths(network):
    norm, x = network.norm1, paddle.randn([4, network.norm1.weight.shape[0], 3, 3]) + 2
    network.train()
    norm(x)
    np.testing.assert_allclose(norm._mean.numpy(), 0.1 * x.numpy().mean((0, 2, 3)), rtol=1e-5)


def test_names_are_plain_and_arguments_rebuild_the_network():
    generator, discriminator = Generator("4x4", 16, 3, 7), Discriminator("wide", 32, 3)
    assert {"deconv0.weight", "norm0._mean", "deconv1.weight", "norm1.bias", "deconv2.weight"} <= set(
        generator.state_dict()
    )
    assert {"conv0.bias", "conv1.weight", "norm1.weight", "conv2.weight", "norm2.weight", "linear.bias"} <= set(
        discriminator.state_dict()
    )
    for network in (generator, discriminator):
        again = type(network)(**network.arguments)
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        assert {name: list(value.shape) for name, value in again.state_dict().items()} == shapes


# ---- initial weights


def test_initial_weights_of_the_articles_networks():
    """Convolutions: N(0, 0.02) within two deviations, which has deviation 0.02 sqrt(1 - 4 phi(2) / erf(sqrt 2))."""
    paddle.seed(5)
    generator, discriminator = Generator(), Discriminator()
    initialise(generator)
    initialise(discriminator)
    cut = 0.02 * math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    assert cut == pytest.approx(0.01759, abs=1e-5)
    for layer, deviation, most in [
        (discriminator.conv2, cut, 0.04),
        (discriminator.conv3, cut, 0.04),
        (generator.deconv1, 0.02, 1),
        (generator.linear, 0.02, 1),
    ]:
        weight = layer.weight.numpy()
        assert abs(weight).max() <= most and weight.std() == pytest.approx(deviation, rel=0.01)
        assert abs(weight.mean()) < 5 * deviation / math.sqrt(weight.size)
        assert not layer.bias.numpy().any()
    assert abs(generator.deconv1.weight.numpy()).max() > 0.06  # not cut
    assert discriminator.linear.weight.numpy().std() == pytest.approx(0.02, rel=0.05)
    for norm in (generator.norm0, discriminator.norm3):
        assert (norm.weight.numpy() == 1).all() and not norm.bias.numpy().any()


def test_initial_weights_of_the_4x4_networks():
    paddle.seed(6)
    generator, discriminator = Generator("4x4"), Discriminator("4x4")
    initialise(generator)
    initialise(discriminator)
    weight, scale = discriminator.conv3.weight.numpy(), generator.norm0.weight.numpy()
    assert weight.std() == pytest.approx(0.02, rel=0.01) and abs(weight).max() > 0.06
    assert scale.std() == pytest.approx(0.02, rel=0.2) and scale.mean() == pytest.approx(1, abs=0.005)
    assert not generator.norm0.bias.numpy().any()
