"""Sizes, counts and what each network looks at, against the tables of the paper's release."""

import numpy as np
import pytest

from context_encoder.masks import center
from context_encoder.model import ContextEncoder, Discriminator, widths

import paddle


def trained_numbers(network):
    return sum(int(p.size) for p in network.parameters() if not p.stop_gradient)


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({}, 71_124_544),  # centre, 128 px
        ({"conv_bias": True, "bottleneck_relu": True}, 71_130_531),  # the article, mended
        ({"output": "whole"}, 71_190_208),
        ({"output": "whole", "conv_bias": True}, 71_196_259),
        ({"output": "whole", "image_px": 64}, 71_058_880),
        ({"output": "whole", "image_px": 64, "conv_bias": True}, 71_064_803),
        # noiseGen: a 1x1 convolution of 100, a normalisation and a decoder with 100 more inputs
        ({"noise_channels": 100}, 71_124_544 + 100 * 100 + 2 * 100 + 100 * 512 * 16),
    ],
)
def test_parameters_of_the_generators(arguments, count):
    assert trained_numbers(ContextEncoder(**arguments)) == count


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({}, 2_765_568),
        ({"conv_bias": True}, 2_766_529),
        ({"side_px": 128}, 2_831_232),
        ({"side_px": 128, "conv_bias": True}, 2_832_257),
        # conditionAdv: two 5x5 convolutions 3 -> 64 and one 4x4 128 -> 64 with its normalisation, for the first 3 -> 64
        ({"context_px": 128}, 2_765_568 + 2 * 64 * 3 * 25 + 128 * 64 * 16 + 2 * 64 - 3 * 64 * 16),
    ],
)
def test_parameters_of_the_discriminators(arguments, count):
    assert trained_numbers(Discriminator(**arguments)) == count


def test_the_articles_network_cannot_run_because_a_layer_is_missing():
    """D1: 38,360,995 numbers as printed; the layer 4000 -> 512 has the rest."""
    mended = ContextEncoder(conv_bias=True, bottleneck_relu=True)
    back_to_4x4 = mended.decoder[0]
    assert list(back_to_4x4.conv.weight.shape) == [4000, 512, 4, 4]
    assert trained_numbers(mended) - trained_numbers(back_to_4x4) == 38_360_995


def test_widths_of_the_tables():
    assert widths(128) == [64, 64, 128, 256, 512] and widths(64) == [64, 128, 256, 512]
    assert widths(32) == [128, 256, 512] and widths(256, 32) == [32, 32, 32, 64, 128, 256]


@pytest.mark.parametrize("image_px", [32, 64, 128, 256])
@pytest.mark.parametrize("output", ["center", "whole"])
def test_sizes_on_the_way(image_px, output):
    network = ContextEncoder(image_px, output, base_channels=8, bottleneck=24, noise_channels=3)
    network.eval()
    image, mask = paddle.randn([2, 3, image_px, image_px]), paddle.zeros([2, 1, image_px, image_px])
    noise = paddle.randn([2, 3])
    assert network.encoder(image).shape == [2, 64, 4, 4]
    assert network.encode(image, mask, noise).shape == [2, 27, 1, 1]
    side = image_px // 2 if output == "center" else image_px
    made = network(image, mask, noise)
    assert made.shape == [2, 3, side, side] and float(made.abs().max()) <= 1
    assert network.target(image).shape == made.shape
    for context_px in (0, image_px) if output == "center" else (0,):
        judge = Discriminator(side, base_channels=8, context_px=context_px)
        assert judge(made, image if context_px else None).shape == [2, 1]


def test_the_hole_gets_the_mean_colour_and_its_content_is_not_seen():
    """Sec. 2 of the release: R 117, G 104, B 123 in [-1, 1] are -0.08235, -0.18431, -0.03529."""
    network = ContextEncoder(32, base_channels=8, bottleneck=16)
    mask = center(32, 2)
    mask_tensor = paddle.to_tensor(mask[None, None].astype(np.float32))
    image = paddle.randn([1, 3, 32, 32])
    seen = network.masked(image, mask_tensor).numpy()[0]
    np.testing.assert_allclose(seen[:, mask].mean(1), [-0.08235, -0.18431, -0.03529], atol=1e-5)
    np.testing.assert_array_equal(seen[:, ~mask], image.numpy()[0][:, ~mask])
    network.eval()
    other = image + mask_tensor * 5
    np.testing.assert_array_equal(network(image, mask_tensor).numpy(), network(other, mask_tensor).numpy())
    right_order = ContextEncoder(32, base_channels=8, bottleneck=16, mean_colour=(123, 117, 104))
    seen = right_order.masked(image, mask_tensor).numpy()[0]
    np.testing.assert_allclose((seen[:, mask].mean(1) + 1) * 127.5, [123, 117, 104], atol=1e-4)


def test_the_target_is_the_square_in_the_middle():
    image = paddle.arange(128 * 128, dtype="float32").reshape([1, 1, 128, 128])
    target = ContextEncoder(base_channels=4, bottleneck=8).target(image).numpy()[0, 0]
    np.testing.assert_array_equal(target, np.arange(128 * 128).reshape(128, 128)[32:96, 32:96])


def test_activations_after_the_bottleneck():
    """D2: leaky in the release, so negative features reach the decoder; a ReLU in the article."""
    for relu in (False, True):
        paddle.seed(1)
        network = ContextEncoder(32, base_channels=8, bottleneck=64, bottleneck_relu=relu)
        features = network.encode(paddle.randn([8, 3, 32, 32]), paddle.zeros([8, 1, 32, 32])).numpy()
        assert (features.min() >= 0) == relu
        if not relu:  # normalised to deviation 1, then a fifth of the negative half
            assert -1.2 < features.min() < -0.2


def test_one_picture_in_training_mode_uses_the_running_statistics_at_the_bottleneck():
    """One value per channel has no variance; batch statistics would be zero divided by epsilon."""
    paddle.seed(0)
    network = ContextEncoder(32, base_channels=8, bottleneck=16)
    norm = network.bottleneck_norm
    norm._mean.set_value(np.linspace(-0.1, 0.1, 16).astype(np.float32))
    norm._variance.set_value(np.linspace(0.5, 2, 16).astype(np.float32))
    seen = []
    norm.register_forward_post_hook(lambda layer, inputs, output: seen.append((inputs[0].numpy(), output.numpy())))
    network(paddle.randn([1, 3, 32, 32]), paddle.zeros([1, 1, 32, 32])).mean().backward()
    (before, after) = (array.ravel() for array in seen[0])
    mean, variance, gamma = np.linspace(-0.1, 0.1, 16), np.linspace(0.5, 2, 16), norm.weight.numpy()
    np.testing.assert_allclose(after, (before - mean) / np.sqrt(variance + 1e-5) * gamma, atol=1e-5)
    assert norm.training and float(network.bottleneck.weight.grad.abs().max()) > 0
    network(paddle.randn([2, 3, 32, 32]), paddle.zeros([2, 1, 32, 32]))
    assert abs(seen[1][1].mean()) < 1e-4  # two images: batch statistics


def test_initial_weights():
    """N(0, 0.02) for convolutions, N(1, 0.02) for normalisations, zero for both kinds of bias."""
    paddle.seed(0)
    network = ContextEncoder(base_channels=32, bottleneck=512, conv_bias=True)
    for name, value in network.named_parameters():
        if value.stop_gradient:
            continue
        if name.endswith("bias"):
            assert not value.numpy().any(), name
        elif value.size > 10_000:
            assert abs(float(value.mean())) < 1e-3 and abs(float(value.std()) - 0.02) < 1e-3, name
        elif value.ndim == 1:
            assert abs(float(value.mean()) - 1) < 0.02 and 0.01 < float(value.std()) < 0.03, name


def test_the_conditional_discriminator_lays_the_patch_over_its_place():
    """A patch pixel and the context pixel of the same place fall into the same cell of the first maps."""
    judge = Discriminator(64, base_channels=4, context_px=128)
    assert judge.patch._padding == 34 or list(np.ravel(judge.patch._padding)) == [34, 34]
    for row, column in ((0, 0), (10, 50), (63, 63)):
        patch, context = np.zeros((1, 3, 64, 64), np.float32), np.zeros((1, 3, 128, 128), np.float32)
        patch[:, :, row, column] = context[:, :, 32 + row, 32 + column] = 1
        maps = [layer(paddle.to_tensor(x)).numpy() for layer, x in ((judge.patch, patch), (judge.context, context))]
        reached = [np.abs(m).sum((0, 1)) > 0 for m in maps]
        assert maps[0].shape == maps[1].shape == (1, 4, 64, 64) and (reached[0] == reached[1]).all()
