"""Sizes, parameter counts and receptive fields of every network against the published tables."""

import numpy as np
import pytest

from pix2pix.model import STRIDED_CONVS, PatchDiscriminator, ResnetGenerator, UnetGenerator, build_generator, initialise

import paddle


def parameters(network):
    return sum(int(np.prod(weight.shape)) for weight in network.parameters() if not weight.stop_gradient)


def image(side, channels=3, batch=1):
    return paddle.uniform([batch, channels, side, side], min=-1.0, max=1.0)


@pytest.mark.medium
@pytest.mark.parametrize(
    "make, arguments, count",
    [
        (ResnetGenerator, {}, 9_022_083),  # the article's
        (ResnetGenerator, {"blocks": 6, "upsample": "output-padding"}, 7_841_411),
        (ResnetGenerator, {"blocks": 9, "upsample": "output-padding"}, 11_383_427),
        (ResnetGenerator, {"blocks": 6, "norm": "instance"}, 7_837_699),
        (ResnetGenerator, {"blocks": 7, "norm": "instance"}, 9_017_859),
        (ResnetGenerator, {"blocks": 9, "norm": "instance"}, 11_378_179),
        (UnetGenerator, {"levels": 8}, 54_413_955),
        (UnetGenerator, {"levels": 8, "norm": "instance"}, 54_409_603),
        (UnetGenerator, {"levels": 7}, 41_828_995),
        (UnetGenerator, {"levels": 7, "norm": "instance"}, 41_825_667),
        (PatchDiscriminator, {"norm": "instance-affine", "first_norm": True}, 2_768_833),  # the article's
    ],
)
def test_parameter_counts(make, arguments, count):
    assert parameters(make(**arguments)) == count


@pytest.mark.medium
def test_encoder_decoder_loses_exactly_the_weights_of_its_skips():
    """Each of the seven transposed convolutions after the first reads half as many channels."""
    skips = 4 * 4 * sum(a * b for a, b in [(512, 512)] * 3 + [(512, 256), (256, 128), (128, 64), (64, 3)])
    network = UnetGenerator(skips=False)
    assert parameters(network) == 54_413_955 - skips
    assert [block.deconv.weight.shape[0] for block in network.up] == [512, 512, 512, 512, 512, 256, 128, 64]


@pytest.mark.medium
@pytest.mark.parametrize(
    "patch_px, side, batch_norm, instance_norm",
    [
        (1, 256, 9_024, 8_897),
        (16, 126, 139_585, 139_457),
        (34, 62, 666_433, 666_049),
        (70, 30, 2_768_705, 2_767_809),
        (142, 14, 6_964_033, 6_962_625),
        (286, 6, 11_159_361, 11_157_441),
    ],
)
def test_patch_discriminators_counts_and_maps(patch_px, side, batch_norm, instance_norm):
    network = PatchDiscriminator(patch_px)
    assert parameters(network) == batch_norm
    assert parameters(PatchDiscriminator(patch_px, norm="instance")) == instance_norm
    with paddle.no_grad():
        assert network(image(256), image(256)).shape == [1, 1, side, side]


@pytest.mark.parametrize("patch_px", [1, 16, 34, 70, 142, 286])
def test_receptive_fields_are_their_names(patch_px):
    """The pixels that move one output in the middle of the map, found by its gradient, form a square of that side."""
    network = PatchDiscriminator(patch_px, base_channels=2, norm="none")
    seen = image(2 * patch_px + 64 & ~31, channels=6)
    seen.stop_gradient = False
    logits = network.judge(seen)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = np.nonzero(np.abs(seen.grad.numpy()[0]).sum(0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == patch_px


@pytest.mark.parametrize("patch_px", [16, 34, 70, 142, 286])
def test_smallest_pictures_that_a_discriminator_takes(patch_px):
    """Three pixels after its halvings are one logit: the bound that `train.check` tells."""
    network, side = PatchDiscriminator(patch_px, base_channels=2), 3 * 2 ** STRIDED_CONVS[patch_px]
    with paddle.no_grad():
        assert network(image(side), image(side)).shape == [1, 1, 1, 1]


def test_articles_networks_at_its_size():
    with paddle.no_grad():
        logits = PatchDiscriminator(norm="instance-affine", first_norm=True)(image(224), image(224))
        assert logits.shape == [1, 1, 26, 26]
        assert ResnetGenerator(base_channels=8)(image(224)).shape == [1, 3, 224, 224]


@pytest.mark.parametrize("upsample", ["zero-pad", "output-padding"])
@pytest.mark.parametrize("height, width", [(32, 32), (36, 44)])
def test_resnet_keeps_sizes(upsample, height, width):
    network = ResnetGenerator(2, 4, upsample=upsample)
    with paddle.no_grad():
        assert network(paddle.zeros([1, 3, height, width])).shape == [1, 3, height, width]


def test_zero_pad_and_output_padding_are_two_functions():
    """With the same weights they agree away from the right and lower border, and differ there."""
    zero, computed = (ResnetGenerator(1, 4, upsample=upsample) for upsample in ("zero-pad", "output-padding"))
    for weight in zero.parameters():
        weight.set_value(paddle.randn(weight.shape) * 0.3 if len(weight.shape) == 4 else weight)
    computed.set_state_dict(zero.state_dict())
    seen = image(64)
    outputs = []
    for network in (zero, computed):
        network.eval()
        with paddle.no_grad():
            outputs.append(network(seen).numpy())
    difference = np.abs(outputs[0] - outputs[1]).max((0, 1))
    assert difference[:40, :40].max() < 1e-6
    assert difference[-1].max() > 0.01 and difference[:, -1].max() > 0.01


def test_unet_skips_carry_every_level():
    """Each encoder level reaches the output past the bottleneck: its gradient survives a blocked bottleneck."""
    for skips in (True, False):
        network = UnetGenerator(5, 4, skips=skips, norm="none", dropout="none")
        seen = image(32)
        seen.stop_gradient = False
        network.up[0].deconv.weight.set_value(paddle.zeros_like(network.up[0].deconv.weight))
        network(seen).sum().backward()
        for level in range(4):
            reached = float(paddle.abs(network.down[level].conv.weight.grad).max()) > 0
            assert reached == skips, level


@pytest.mark.parametrize(
    "levels, dropout, dropped", [(8, "paper", 3), (7, "paper", 3), (8, "pytorch", 3), (7, "pytorch", 2), (8, "none", 0)]
)
def test_dropout_sits_where_the_two_codebases_have_it(levels, dropout, dropped):
    places = [n for n, block in enumerate(UnetGenerator(levels, 1, dropout=dropout).up) if hasattr(block, "dropout")]
    first = 1 if dropout == "pytorch" else 0  # the port has none after the innermost
    assert places == list(range(first, first + dropped))


def test_levels_without_normalisation():
    """The first of the encoder, the bottleneck and the last of the decoder."""
    network = UnetGenerator(8, 1)

    def normalised(blocks):
        return [isinstance(block.norm, paddle.nn.BatchNorm2D) for block in blocks]

    assert normalised(network.down) == [False] + [True] * 6 + [False]
    assert normalised(network.up) == [True] * 7 + [False]


def test_normalised_bottleneck_hides_the_picture():
    """The paper's erratum (App. 6.3): of one image, 1x1 numbers per channel, the decoder then learns nothing."""
    network = UnetGenerator(5, 4, skips=False, dropout="none", bare_bias=True, bottleneck_norm=True)
    assert [level for level, block in enumerate(network.down) if block.conv.bias is not None] == [0]
    shift = paddle.arange(32, dtype="float32") - 10  # 4 x 8 channels
    network.down[4].norm.bias.set_value(shift)
    seen = image(32, batch=2)
    seen.stop_gradient = False
    innermost = network.down[4](paddle.randn([1, 32, 2, 2]))
    np.testing.assert_array_equal(innermost.numpy().ravel(), shift.numpy())
    one, other = (network(seen[n : n + 1]) for n in range(2))
    np.testing.assert_array_equal(one.numpy(), other.numpy())
    one.sum().backward()
    assert (seen.grad.numpy() == 0).all() and float(paddle.abs(network.down[4].norm.bias.grad).max()) > 0
    both = network(seen)  # two numbers per channel: the images tell apart
    assert float(paddle.abs(both[0] - both[1]).max()) > 1e-3
    network.eval()
    assert float(paddle.abs(network(seen[:1]) - network(seen[1:])).max()) > 1e-6
    bare = UnetGenerator(5, 4, bare_bias=True)
    assert [level for level, block in enumerate(bare.down) if block.conv.bias is not None] == [0, 4]
    bare = UnetGenerator(5, 4, norm="none", bare_bias=True)
    assert all(layer.bias is not None for layer in bare.sublayers() if hasattr(layer, "bias"))


def test_unconditional_discriminator_sees_three_channels():
    network = PatchDiscriminator(16, 4, norm="none", conditional=False)
    assert network.convs[0].conv.weight.shape[1] == 3
    seen = image(32)
    with paddle.no_grad():
        np.testing.assert_array_equal(network(image(32), seen).numpy(), network(image(32), seen).numpy())
        both = PatchDiscriminator(16, 4, norm="none")
        assert both.convs[0].conv.weight.shape[1] == 6
        assert (both(image(32), seen).numpy() != both(image(32), seen).numpy()).any()


@pytest.mark.medium
def test_initial_weights():
    """N(0, 0.02) and N(1, 0.02): over 512 x 512 x 16 weights the deviation is known to a thousandth."""
    paddle.seed(1)
    network = UnetGenerator(8, 64)
    initialise(network)
    weight = network.down[4].conv.weight.numpy()
    assert weight.std() == pytest.approx(0.02, rel=5e-3) and abs(weight.mean()) < 1e-4
    scale = network.down[4].norm.weight.numpy()
    assert scale.std() == pytest.approx(0.02, rel=0.15) and scale.mean() == pytest.approx(1, abs=0.004)
    assert (network.up[-1].deconv.bias.numpy() == 0).all()
    initialise(network, norm_deviation=0.0)
    assert (network.down[4].norm.weight.numpy() == 1).all()


def test_arguments_rebuild_a_generator():
    for network in (ResnetGenerator(2, 4, dropout="paper"), UnetGenerator(5, 4, skips=False, target_channels=2)):
        twin = build_generator(**network.arguments)
        assert {name: list(value.shape) for name, value in twin.state_dict().items()} == {
            name: list(value.shape) for name, value in network.state_dict().items()
        }
