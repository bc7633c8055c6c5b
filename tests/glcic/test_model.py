"""The networks against the paper's tables: sizes, counts, dilations, ranges."""

import numpy as np
import pytest

from glcic.model import COMPLETION_ROWS, CompletionNetwork, Discriminator, composite, cut_patches

import paddle


def trainable(network):
    return sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({}, 6_072_131),
        ({"conv_bias": False}, 6_069_155),
        ({"mask_channel": False}, 6_070_531),
    ],
)
def test_completion_parameter_count(arguments, count):
    assert trainable(CompletionNetwork(**arguments)) == count


@pytest.mark.medium
@pytest.mark.parametrize(
    "global_px, local_px, global_convs, conv_bias, count",
    [
        (256, 128, 6, True, 45_063_681),
        (256, 128, 6, False, 45_060_225),
        (160, 96, 5, True, 39_557_121),
        (128, 64, 6, True, 32_480_769),
    ],
)
def test_discriminator_parameter_count(global_px, local_px, global_convs, conv_bias, count):
    assert trainable(Discriminator(global_px, local_px, global_convs, conv_bias=conv_bias)) == count


@pytest.mark.parametrize("name, kernel, dilation", [(row[0], row[1], row[2]) for row in COMPLETION_ROWS[:12]])
def test_every_layer_spans_what_its_dilation_says(name, kernel, dilation):
    """One output reads inputs over dilation * (kernel - 1) + 1 pixels: 2d + 1 for the dilated layers (D1)."""
    conv = getattr(CompletionNetwork(base_channels=8), name).conv
    conv.weight.set_value(paddle.ones_like(conv.weight))
    side = 80
    x = paddle.zeros([1, conv.weight.shape[1], side, side])
    x.stop_gradient = False
    out = conv(x)
    out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    touched = np.flatnonzero(np.abs(x.grad.numpy()[0, 0]).sum(1))
    assert touched[-1] - touched[0] + 1 == dilation * (kernel - 1) + 1
    assert len(touched) == kernel


@pytest.mark.medium
def test_receptive_field_of_the_bottleneck():
    """287 px at the quarter-size features with dilation (79 without): read off the gradient of one feature."""
    network = CompletionNetwork(base_channels=8)
    network.eval()
    x = paddle.rand([1, 4, 320, 320])
    x.stop_gradient = False
    features = x
    for name in network.names[:12]:  # linear, so that no ReLU hides a path
        features = getattr(network, name).conv(features)
    features[:, :, 40, 40].sum().backward()
    touched = np.flatnonzero(np.abs(x.grad.numpy()[0]).sum((0, 1)))
    assert touched[-1] - touched[0] + 1 == 287


def test_layer_sizes_follow_table_1():
    network = CompletionNetwork(base_channels=8)
    x, sides, widths = paddle.rand([1, 4, 64, 48]), [], []
    for name in network.names:
        x = getattr(network, name)(x)
        sides.append(x.shape[2:])
        widths.append(x.shape[1])
    assert sides == [[64, 48]] + 2 * [[32, 24]] + 9 * [[16, 12]] + 2 * [[32, 24]] + 3 * [[64, 48]]
    assert widths == [8, 16, 16] + 9 * [32] + [16, 16, 8, 4, 3]


def test_normalisation_is_over_channels():
    network = CompletionNetwork(base_channels=8)
    assert [getattr(network, name).norm.weight.shape[0] for name in network.names[:-1]] == [
        getattr(network, name).conv.bias.shape[0] for name in network.names[:-1]
    ]


@pytest.mark.parametrize("output", ["sigmoid", "tanh", "clamp"])
@pytest.mark.parametrize("subtract_mean", [True, False])
def test_what_lies_under_the_hole_is_not_looked_at(output, subtract_mean):
    network = CompletionNetwork(base_channels=8, output=output, subtract_mean=subtract_mean)
    network.mean_colour.set_value(np.float32([0.1, -0.2, 0.3]).reshape(1, 3, 1, 1))
    network.eval()
    image = paddle.uniform([1, 3, 32, 32], min=-1.0, max=1.0)
    mask = paddle.zeros([1, 1, 32, 32])
    mask[:, :, 8:20, 4:16] = 1
    other = composite(image, paddle.ones_like(image), mask)
    one, two = network(image, mask), network(other, mask)
    np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert float(one.abs().max()) <= 1


def first_layer_input(network, image, mask):
    """What reaches conv1."""
    seen = []
    handle = network.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    network(image, mask)
    handle.remove()
    return seen[0]


def test_input_encodings():
    """Spec: the paper subtracts the mean in [0, 1] and zeroes the hole; otenim puts the mean into the hole; MMagic and
    the article work in [-1, 1] with 0 in the hole. The mask is the fourth channel, 1 in the hole."""
    image, mask = paddle.full([1, 3, 32, 32], 0.5), paddle.zeros([1, 1, 32, 32])  # 0.75 in [0, 1]
    mask[:, :, :16] = 1
    mean = np.float32([0.0, 0.2, -0.4]).reshape(1, 3, 1, 1)  # 0.5, 0.6, 0.3 in [0, 1]
    expected = {
        ("sigmoid", True): ([0, 0, 0, 1], [0.25, 0.15, 0.45, 0]),
        ("sigmoid", False): ([0.5, 0.6, 0.3, 1], [0.75, 0.75, 0.75, 0]),
        ("clamp", True): ([0, 0, 0, 1], [0.5, 0.3, 0.9, 0]),
        ("tanh", False): ([0, 0.2, -0.4, 1], [0.5, 0.5, 0.5, 0]),
    }
    for (output, subtract_mean), (inside, outside) in expected.items():
        network = CompletionNetwork(base_channels=8, output=output, subtract_mean=subtract_mean)
        network.mean_colour.set_value(mean)
        seen = first_layer_input(network, image, mask)[0]
        np.testing.assert_allclose(seen[:, 0, 0], inside, atol=1e-6)
        np.testing.assert_allclose(seen[:, -1, 0], outside, atol=1e-6)


@pytest.mark.parametrize("norm_first", [True, False])
def test_order_of_normalisation_and_relu(norm_first):
    """After a ReLU nothing is negative; after a normalisation the mean of a batch is zero."""
    block = CompletionNetwork(base_channels=8, norm_first=norm_first).conv1
    out = block(paddle.randn([4, 4, 16, 16])).numpy()
    assert (out.min() >= 0) == norm_first
    assert (abs(out.mean((0, 2, 3))).max() < 1e-4) == (not norm_first)


def test_discriminator_shapes_and_feature_relu():
    image, patch = paddle.rand([2, 3, 64, 64]), paddle.rand([2, 3, 32, 32])
    assert Discriminator(64, 32, base_channels=8)(image, patch).shape == [2, 1]
    tower = Discriminator(64, 32, base_channels=8, feature_relu=True).global_tower
    assert float(tower(image).min()) >= 0
    assert tower(image).shape == [2, 128]  # 1024 at full width


@pytest.mark.parametrize("part", ["global", "local"])
def test_one_discriminator_alone_sees_its_own_input_alone(part):
    alone = Discriminator(64, 32, base_channels=8, parts=part)
    features = trainable(getattr(Discriminator(64, 32, base_channels=8), f"{part}_tower"))
    assert trainable(alone) == features + 16 * 8 + 1
    image, patch = paddle.rand([2, 3, 64, 64]), paddle.rand([2, 3, 32, 32])
    other = {"global": (image, patch * 0), "local": (image * 0, patch)}[part]
    np.testing.assert_array_equal(alone(image, patch).numpy(), alone(*other).numpy())
    both = {name.split("_tower")[0] for name in Discriminator(64, 32, base_channels=8).state_dict()}
    assert {name.split("_tower")[0] for name in alone.state_dict()} == both - ({"global", "local"} - {part})


def test_cut_patches():
    image = paddle.arange(2 * 3 * 8 * 8, dtype="float32").reshape([2, 3, 8, 8])
    cut = cut_patches(image, np.array([[0, 5], [4, 1]]), 3).numpy()
    np.testing.assert_array_equal(cut[0], image.numpy()[0, :, 0:3, 5:8])
    np.testing.assert_array_equal(cut[1], image.numpy()[1, :, 4:7, 1:4])
