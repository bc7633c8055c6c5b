"""Sizes, counts and the layers of DeepFill v2: against the release's tables, and against loops over pixels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepfill import fast_layers, model
from deepfill.fast_layers import by_rows
from deepfill.model import (
    ATTENDED_ROWS,
    COARSE_ROWS,
    DILATED_ROWS,
    MATCHED_ROWS,
    MERGED_ROWS,
    Discriminator,
    GatedConv2D,
    Generator,
    PartialConv2D,
    VanillaConv2D,
    continued,
    initial_weights,
)

import paddle
from paddle.nn import functional

RNG = np.random.default_rng
KINDS = {"gated": GatedConv2D, "partial": PartialConv2D, "vanilla": VanillaConv2D}
ROOT = Path(__file__).parents[2]


def trained_numbers(network):
    return sum(int(p.size) for p in network.parameters() if not p.stop_gradient)


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({}, 4_052_478),  # the paper's 4.1 million
        ({"guided": True}, 4_053_678),
        ({"inputs": "article"}, 4_052_478),
        ({"inputs": "article", "guided": True}, 4_052_478),
        ({"base_channels": 48, "inputs": "article"}, 16_171_254),
        ({"gate_first": True, "padding": "symmetric"}, 4_052_478),
    ],
)
def test_parameters_of_the_generators(arguments, count):
    assert trained_numbers(Generator(**arguments)) == count


def test_parameters_of_the_parts():
    generator = Generator()
    assert trained_numbers(generator.coarse) == 1_631_151 and trained_numbers(generator.refine) == 2_421_327
    rows = COARSE_ROWS + DILATED_ROWS + MATCHED_ROWS + ATTENDED_ROWS + MERGED_ROWS
    numbers = {"conv1": 6_048, "conv2_downsample": 20_832, "conv10_atrous": 166_080, "conv13_upsample": 83_040}
    numbers |= {"conv16": 5_208, "xconv3": 20_832, "pmconv4_downsample": 83_136, "allconv11": 331_968}
    stages = {name: generator.coarse if name.startswith("conv") else generator.refine for name, *_ in rows}
    for name, count in numbers.items():
        assert trained_numbers(getattr(stages[name], name)) == count, name
    assert trained_numbers(generator.coarse.conv17) == 327 and len(rows) == 16 + 10 + 6 + 2 + 6


@pytest.mark.parametrize("layers", ["partial", "vanilla"])
def test_other_layers_have_the_same_widths_without_gates(layers):
    """Half the outputs: half of every layer but the two to RGB, which have no gates."""
    rgb = 2 * (12 * 3 * 9 + 3)
    assert trained_numbers(Generator(layers=layers)) == (4_052_478 - rgb) // 2 + rgb


@pytest.mark.parametrize("guided, count", [(False, 5_946_816), (True, 5_948_416)])
def test_parameters_of_the_discriminators(guided, count):
    assert trained_numbers(Discriminator(guided=guided)) == count


def test_names_of_the_weights():
    names = Generator(4).state_dict().keys()
    assert {"coarse.conv1.conv.weight", "coarse.conv13_upsample.conv.bias", "coarse.conv17.weight"} <= names
    assert {"refine.xconv10_atrous.conv.weight", "refine.pmconv9.conv.bias", "refine.allconv17.bias"} <= names
    assert len(names) == 2 * (17 + 10 + 8 + 7)
    names = Discriminator(4).state_dict().keys()
    assert names == {f"conv{n}.{kind}" for n in range(1, 7) for kind in ("weight_orig", "weight_u", "weight_v", "bias")}


# ---- one layer


def naive(x, weight, bias, stride, dilation, pads):
    """A convolution by its definition: [C, H, W] padded above, below, left and right -> [outputs, H', W']."""
    outputs, _, kernel, _ = weight.shape
    x = np.pad(x, ((0, 0), pads[:2], pads[2:]))
    reach = dilation * (kernel - 1) + 1
    rows, columns = ((side - reach) // stride + 1 for side in x.shape[1:])
    made = np.zeros((outputs, rows, columns))
    for r in range(rows):
        for c in range(columns):
            top, left = r * stride, c * stride
            window = x[:, top : top + reach : dilation, left : left + reach : dilation]
            made[:, r, c] = (weight * window).sum((1, 2, 3)) + bias
    return made


def same(side, kernel, stride, dilation):
    """TensorFlow's SAME: outputs ceil(side / stride), and what is missing before (less) and after (more)."""
    total = max(0, (-(-side // stride) - 1) * stride + dilation * (kernel - 1) + 1 - side)
    return total // 2, total - total // 2


def block(row, inputs=3, width=2, layers="vanilla", **options):
    """A layer with drawn biases too, its weight and its bias as arrays."""
    paddle.seed(5)
    layer = KINDS[layers](inputs, row, width, **options)
    layer.conv.bias.set_value(paddle.randn(layer.conv.bias.shape) * 0.3)
    return layer, layer.conv.weight.numpy().astype(np.float64), layer.conv.bias.numpy().astype(np.float64)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(layer, x, known=None):
    known = known if known is None else paddle.to_tensor(known.astype(np.float32))
    x, known = layer(paddle.to_tensor(x.astype(np.float32)), known)
    return x.numpy(), known if known is None else known.numpy()


ROWS = [
    ("conv1", 5, 1, 1),
    ("conv3", 3, 1, 2),
    ("conv2_downsample", 3, 1, 2),
    ("conv2_downsample", 5, 1, 2),
    ("conv7_atrous", 3, 2, 1),
    ("conv8_atrous", 3, 4, 1),
    ("conv13_upsample", 3, 1, 2),
    ("pmconv6", 3, 1, 1),
]
KIND_OPTIONS = [
    {"layers": "vanilla"},
    {"layers": "partial"},
    {"layers": "gated", "gate_first": False},
    {"layers": "gated", "gate_first": True},
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
@pytest.mark.parametrize("layers", ["gated", "vanilla"])
def test_layers_are_what_tensorflow_does(row, layers):
    name, kernel, dilation, times = row
    layer, weight, bias = block(row, layers=layers)
    x = RNG(1).normal(size=(3, 8, 10))
    seen = x.repeat(2, 1).repeat(2, 2) if name.endswith("_upsample") else x
    stride = 2 if name.endswith("_downsample") else 1
    pads = [same(side, kernel, stride, dilation) for side in seen.shape[1:]]
    wanted = naive(seen, weight, bias, stride, dilation, pads[0] + pads[1])
    activation = (lambda x: np.maximum(x, 0)) if name == "pmconv6" else elu
    if layers == "gated":
        features, gates = np.split(wanted, 2)
        wanted = activation(features) * sigmoid(gates)
    else:
        wanted = activation(wanted)
    assert wanted.shape[0] == 2 * times
    for mode in (layer.train, layer.eval):
        mode()
        made, known = run(layer, x[None])
        np.testing.assert_allclose(made[0], wanted, atol=2e-6)
        assert known is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
@pytest.mark.parametrize("layers", ["gated", "partial", "vanilla"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_rows_at_a_time_are_the_whole(row, layers, padding, monkeypatch):
    """Without gradients a large map is convolved in pieces; 40 rows of 10 in at least three."""
    layer, *_ = block(row, layers=layers, padding=padding)
    x, known = (
        RNG(1).normal(size=(2, 3, 40, 10)),
        RNG(2).integers(0, 2, (2, 1, 40, 10)) if layers == "partial" else None,
    )
    whole, whole_known = run(layer, x, known)
    monkeypatch.setattr(fast_layers, "WINDOWS_AT_ONCE", 1)
    tensors = [each if each is None else paddle.to_tensor(each.astype(np.float32)) for each in (x, known)]
    pieces = []
    layer.register_forward_pre_hook(lambda _, inputs: pieces.append(inputs[0].shape[2]))
    assert by_rows(layer, *tensors)[0].numpy().tobytes() == whole.tobytes() and pieces == [40]  # with gradients
    pieces.clear()
    with paddle.no_grad():
        made, made_known = by_rows(layer, *tensors)
    assert len(pieces) >= 3 and max(pieces) < 40
    np.testing.assert_allclose(made, whole, atol=2e-6)
    assert made_known is None if known is None else (made_known.numpy() == whole_known).all()


def test_a_large_map_is_convolved_within_less_than_its_windows():
    """24 channels of 1024 x 1024 px have windows of 9 x 24 x 2^20 numbers: 906 MB, never there at once.

    With them there, beside the map and what is made of it, it would be 11 maps and more; the peak is 7.5 maps, and on a
    busy machine, whose freed memory goes back later, up to 9.1.
    """
    code = """
from benchmarks.worker import peak_megabytes
from common.runtime.device import open_device, paddle
from deepfill.fast_layers import by_rows
from deepfill.model import GatedConv2D
open_device("cpu")
layer = GatedConv2D(24, ("conv16", 3, 1, 1), 24)
with paddle.no_grad():
    by_rows(layer, paddle.ones([1, 24, 64, 64]), None)
    before = peak_megabytes()
    by_rows(layer, paddle.ones([1, 24, 1024, 1024]), None)
print((peak_megabytes() - before) * 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 2 <= float(done.stdout) / (24 * 2**20 * 4) < 10  # maps: at least the map and what is made of it


def plain(layer, row, x, known, padding):
    """A layer's equation, its convolution written out: pixels repeated, a stride, nothing joined."""
    name, kernel, dilation = row[:3]
    if name.endswith("_upsample"):
        x, known = (paddle.repeat_interleave(paddle.repeat_interleave(each, 2, 2), 2, 3) for each in (x, known))
    stride = 2 if name.endswith("_downsample") else 1
    around = dilation * (kernel - 1) // 2
    before = around - 1 if stride == 2 and padding == "same" else around

    def convolve(x, weight):
        x = functional.pad(x, [before, around, before, around])
        return functional.conv2d(x, weight, stride=stride, dilation=dilation)

    phi, bias = functional.relu if name == "pmconv6" else functional.elu, layer.conv.bias.reshape([1, -1, 1, 1])
    if isinstance(layer, PartialConv2D):
        counts = convolve(known, paddle.ones([1, 1, kernel, kernel]))
        sums = convolve(x * known, layer.conv.weight)
        reached = (counts > 0).astype("float32")
        return phi((sums * kernel**2 / counts.clip(min=1) + bias) * reached), reached
    if isinstance(layer, VanillaConv2D):
        return phi(convolve(x, layer.conv.weight) + bias), None
    (one, other), (b, c) = layer.conv.weight.chunk(2), bias.chunk(2, axis=1)
    one, other = convolve(x, one) + b, convolve(x, other) + c
    feature, gating = (other, one) if layer.gate_first else (one, other)
    return phi(feature) / (1 + paddle.exp(-gating)), None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("kind", KIND_OPTIONS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_fast_layers_are_the_plain_ones(row, padding, kind):
    """Outputs, and the gradients of the input, the weight and the bias."""
    layer, *_ = block(row, padding=padding, **kind)
    arrays = RNG(1).normal(size=(2, 3, 12, 14)).astype(np.float32)
    known = paddle.to_tensor((RNG(2).random((2, 1, 12, 14)) < 0.3).astype(np.float32))
    known[0, :, 2:, 3:] = 0
    seen = {}
    for name in ("fast", "plain"):
        x = paddle.to_tensor(arrays, stop_gradient=False)
        if name == "fast":
            made, reached = layer(x, known if kind["layers"] == "partial" else None)
        else:
            made, reached = plain(layer, row, x, known, padding)
        slope = paddle.to_tensor(RNG(3).normal(size=made.shape).astype(np.float32))
        seen[name] = [made, *paddle.grad((made * slope).sum(), [x, layer.conv.weight, layer.conv.bias])]
        seen[name] += [reached] if kind["layers"] == "partial" else []
    assert len(seen["fast"]) == len(seen["plain"])
    for fast, wanted in zip(seen["fast"], seen["plain"], strict=True):
        assert fast.shape == wanted.shape and float(wanted.abs().max()) > 0.1
        np.testing.assert_allclose(fast, wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("row", [("conv3", 3, 1, 2), ("conv2_downsample", 3, 1, 2), ("conv13_upsample", 3, 1, 2)])
def test_traced_halves_are_the_eager_ones(row):
    """As gated layers are exported: two convolutions by slices of the weight."""
    layer, *_ = block(row, layers="gated", padding="same")
    traced = paddle.jit.to_static(
        layer.forward, input_spec=[paddle.static.InputSpec([None, 3, None, None], "float32")], full_graph=True
    )
    x = paddle.to_tensor(RNG(1).normal(size=(2, 3, 12, 14)).astype(np.float32))
    eager = block(row, layers="gated")[0](x)[0].numpy()
    made = traced(x)
    np.testing.assert_allclose((made[0] if isinstance(made, (list, tuple)) else made).numpy(), eager, atol=2e-6)


@pytest.mark.parametrize("kernel, around", [(3, 1), (5, 2)])
def test_the_two_paddings_differ_by_a_pixel_of_the_input(kernel, around):
    row = ("conv2_downsample", kernel, 1, 2)
    x = RNG(1).normal(size=(3, 8, 10))
    layer, weight, bias = block(row, padding="symmetric")
    made, _ = run(layer, x[None])
    np.testing.assert_allclose(made[0], elu(naive(x, weight, bias, 2, 1, (around,) * 4)), atol=2e-6)
    # TensorFlow's windows lie one pixel further down and to the right: cut that pixel off, and they are the same.
    shifted, _ = run(block(row)[0], x[None, :, 1:7, 1:9])
    first = around - 1  # the first output whose window is inside
    np.testing.assert_allclose(shifted[0, :, first:2, first:3], made[0, :, first + 1 : 3, first + 1 : 4], atol=2e-6)


@pytest.mark.parametrize("dilation", [2, 4, 8, 16])
def test_dilated_layers_span_twice_their_dilation_and_one(dilation):
    """Paddle's padding "SAME" would set the dilation to 1, silently."""
    for stage in (Generator(4).coarse, Generator(4).refine):
        prefix = "conv" if hasattr(stage, "conv1") else "xconv"
        number = 7 + [2, 4, 8, 16].index(dilation)
        conv = getattr(stage, f"{prefix}{number}_atrous").conv
        conv.weight.set_value(paddle.ones_like(conv.weight))
        impulse = np.zeros((1, conv.weight.shape[1], 40, 40), np.float32)
        impulse[:, :, 20, 19] = 1
        response = conv(paddle.to_tensor(impulse)).numpy()[0, 0] > 0.5
        rows, columns = np.flatnonzero(response.any(1)), np.flatnonzero(response.any(0))
        assert rows.tolist() == [20 - dilation, 20, 20 + dilation]
        assert columns.tolist() == [19 - dilation, 19, 19 + dilation]
        assert rows[-1] - rows[0] + 1 == 2 * dilation + 1


def test_the_order_of_the_gates_is_that_of_the_halves():
    """A network with its gates first, and the same with the halves of every gated convolution swapped: in float64.

    With weights that keep signals at size 1: of Glorot's nothing is left after a dozen layers but rounding.
    """
    paddle.seed(1)
    first, second = Generator(4, gate_first=True), Generator(4)
    model.initialise(first)
    weights = first.state_dict()
    for name, value in weights.items():
        if ".conv." in name:  # not those to RGB
            value = paddle.concat(value.chunk(2)[::-1])
        second.state_dict()[name].set_value(value)
    image, mask = (x.astype("float64") for x in scene(1, 32, 40))
    paddle.set_default_dtype("float64")
    try:
        first.to(dtype="float64")
        second.to(dtype="float64")
        made, same = first(image, mask), second(image, mask)
        second.set_state_dict(first.state_dict())  # halves not swapped
        other = second(image, mask)
    finally:
        paddle.set_default_dtype("float32")
    for mine, theirs, wrong in zip(made, same, other, strict=True):
        size = np.abs(mine.numpy()).max()
        assert size > 0.01
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=0, atol=1e-10 * size)
        assert np.abs(mine.numpy() - wrong.numpy()).max() > 0.1 * size


@pytest.mark.parametrize("kind", [{"layers": "vanilla"}, {"layers": "gated"}, {"layers": "gated", "gate_first": True}])
def test_initial_weights_keep_the_second_moment(kind):
    paddle.seed(0)
    layer = KINDS[kind["layers"]](64, ("conv5", 3, 1, 1), 64, **{k: v for k, v in kind.items() if k != "layers"})
    layer.conv.weight.set_value(initial_weights(layer))
    made, _ = layer(paddle.randn([4, 64, 24, 24]))
    assert not layer.conv.bias.numpy().any()
    kept = float(made[:, :, 1:-1, 1:-1].square().mean())
    assert 0.8 < kept < 1.2  # Glorot's weights keep 0.64 and 0.13
    # Of the features' variance the centre has nine tenths and its ninth of the rest; gates are Gaussian, 0.3 as wide.
    weight = layer.conv.weight.numpy().astype(float)
    gates, features = weight[:0], weight
    if kind["layers"] == "gated":
        gates, features = (weight[:64], weight[64:]) if kind.get("gate_first") else (weight[64:], weight[:64])
    centre = features[:, :, 1, 1]
    assert (centre**2).sum() / (features**2).sum() == pytest.approx(0.9 + 0.1 / 9, abs=0.01)
    assert not len(gates) or gates.std() == pytest.approx(0.3 / 24, rel=0.03)
    singular = np.linalg.svd(centre, compute_uv=False) / np.linalg.norm(centre) * 8
    assert singular.min() > 0.6 and singular.max() < 1.4  # a Gaussian matrix: 0.01 and 2


# ---- partial convolution


@pytest.mark.parametrize("row", ROWS[:-1], ids=lambda row: f"{row[0]}-{row[1]}")
def test_partial_convolution_is_its_definition(row):
    """Liu et al. 2018, Eq. 1 and 2, place by place; each image with its own hole."""
    name, kernel, dilation, _ = row
    layer, weight, bias = block(row, layers="partial")
    x, known = RNG(1).normal(size=(2, 3, 12, 14)), np.ones((2, 1, 12, 14))
    known[0, :, 2:, 3:] = 0
    known[1] = RNG(2).random((1, 12, 14)) < 0.3
    made, reached = run(layer, x, known)
    stride = 2 if name.endswith("_downsample") else 1
    empty = 0
    for n in range(2):
        seen, there = x[n] * known[n], known[n]
        if name.endswith("_upsample"):
            seen, there = seen.repeat(2, 1).repeat(2, 2), there.repeat(2, 1).repeat(2, 2)
        pads = [same(side, kernel, stride, dilation) for side in seen.shape[1:]]
        pads = pads[0] + pads[1]
        sums = naive(seen, weight, 0, stride, dilation, pads)
        counts = naive(there, np.ones((1, 1, kernel, kernel)), 0, stride, dilation, pads)[0]
        for r, c in np.ndindex(*counts.shape):
            wanted = elu(sums[:, r, c] * kernel**2 / counts[r, c] + bias) if counts[r, c] else 0
            np.testing.assert_allclose(made[n, :, r, c], wanted, atol=1e-5)
            assert reached[n, 0, r, c] == (counts[r, c] > 0)
        empty += (counts == 0).sum()
    assert empty > 0


def test_partial_convolution_of_a_whole_picture_is_a_plain_one():
    """Away from the border, beyond which nothing counts as known."""
    row = ("conv3", 3, 1, 2)
    x = RNG(1).normal(size=(2, 3, 9, 11))
    partial, known = run(block(row, layers="partial")[0], x, np.ones((2, 1, 9, 11)))
    plain, _ = run(block(row)[0], x)
    np.testing.assert_allclose(partial[:, :, 1:-1, 1:-1], plain[:, :, 1:-1, 1:-1], atol=2e-6)
    assert np.abs(partial[:, :, 0] - plain[:, :, 0]).max() > 0.05 and known.min() == 1


def test_gradients_of_a_partial_convolution():
    layer, _, _ = block(("conv3", 3, 1, 2), layers="partial")
    x = paddle.to_tensor(RNG(1).normal(size=(1, 3, 8, 8)).astype(np.float32), stop_gradient=False)
    known = np.ones((1, 1, 8, 8), np.float32)
    known[:, :, 2:7, 2:7] = 0
    made, _ = layer(x, paddle.to_tensor(known))
    made.sum().backward()
    assert not x.grad.numpy()[:, :, 2:7, 2:7].any() and x.grad.numpy()[:, :, :2].all()
    assert layer.conv.bias.grad.numpy().all() and np.isfinite(layer.conv.weight.grad.numpy()).all()


# ---- the whole generator


def scene(count, height, width):
    rng = RNG(0)
    image = rng.uniform(-1, 1, (count, 3, height, width)).astype(np.float32)
    mask = np.zeros((count, 1, height, width), np.float32)
    mask[:, :, height // 4 : height // 2, 3 : width // 2] = 1
    return paddle.to_tensor(image), paddle.to_tensor(mask)


def lively(generator):
    """Weights so large that what is fed in arrives at the other end, and biases."""
    for name, value in generator.state_dict().items():
        fan_in = float(np.prod(value.shape[1:]))
        value.set_value(paddle.randn(value.shape) * (2 / fan_in**0.5 if name.endswith("weight") else 0.1))
    generator.eval()
    return generator


@pytest.mark.parametrize("layers", ["gated", "partial", "vanilla"])
@pytest.mark.parametrize("residual", [False, True])
def test_outputs_and_what_lies_under_the_hole(layers, residual):
    generator = lively(Generator(4, layers=layers, guided=True, residual=residual))
    for height, width in ((8, 8), (16, 40), (32, 24)):
        image, mask = scene(2, height, width)
        edge = paddle.to_tensor((RNG(3).random((2, 1, height, width)) < 0.3).astype(np.float32))
        made = generator(image, mask, edge)
        other = generator(image * (1 - mask) + 5 * mask, mask, edge * mask + (1 - mask))
        for mine, theirs in zip(made, other, strict=True):
            assert mine.shape == image.shape and np.isfinite(mine.numpy()).all()
            assert residual or float(mine.abs().max()) <= 1
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
        assert generator.offsets(image, mask, edge).shape == [2, height // 8, width // 8, 2]
        lines_matter = bool((generator(image, mask)[0] != generator(image, mask, edge)[0]).any())
        assert lines_matter == (layers != "partial")


def test_what_the_stages_are_given():
    """Channels in the order of the release and of the article; stage two gets the known pixels as they are."""
    image, mask = scene(1, 16, 24)
    edge = paddle.to_tensor((RNG(3).random((1, 1, 16, 24)) < 0.3).astype(np.float32))
    incomplete, lines, ones = image * (1 - mask), edge * mask, paddle.ones_like(mask)
    for arguments, parts in (
        ({}, [incomplete, ones, mask]),
        ({"guided": True}, [incomplete, lines, ones, mask]),
        ({"inputs": "article"}, [incomplete, mask, ones * 0]),
        ({"inputs": "article", "guided": True}, [incomplete, mask, lines]),
    ):
        generator = lively(Generator(4, **arguments))
        given = []
        for stage in (generator.coarse, generator.refine):
            stage.register_forward_pre_hook(lambda _, inputs, given=given: given.append(inputs[0].numpy()))
        coarse, _ = generator(image, mask, edge)
        np.testing.assert_array_equal(given[0], paddle.concat(parts, axis=1).numpy())
        composite = np.where(mask.numpy() == 1, coarse.numpy(), image.numpy())
        np.testing.assert_allclose(given[1], composite, atol=1e-7)


def test_the_branches_are_joined_in_the_releases_order():
    """First the dilated one, then the one with the attention."""
    generator, seen = lively(Generator(4)), {}
    for name in ("xconv10_atrous", "pmconv10", "allconv11"):
        layer = getattr(generator.refine, name)
        layer.register_forward_post_hook(lambda _, inputs, outputs, name=name: seen.update({name: (inputs, outputs)}))
    generator(*scene(1, 16, 24))
    dilated, attended, joined = seen["xconv10_atrous"][1][0], seen["pmconv10"][1][0], seen["allconv11"][0][0]
    np.testing.assert_array_equal(joined.numpy(), paddle.concat([dilated, attended], axis=1).numpy())


def test_the_chunk_of_the_attention_changes_nothing():
    paddle.seed(0)
    whole, parts = lively(Generator(4)), Generator(4, attention_chunk=1)
    parts.set_state_dict(whole.state_dict())
    image, mask = scene(2, 32, 40)
    for mine, other in zip(whole(image, mask), parts(image, mask), strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-5)


def test_every_weight_gets_a_gradient():
    for layers in ("gated", "partial", "vanilla"):
        generator = lively(Generator(4, layers=layers))
        image, mask = scene(2, 32, 32)
        sum(made.square().mean() for made in generator(image, mask)).backward()
        for name, value in generator.named_parameters():
            assert np.isfinite(value.grad.numpy()).all() and value.grad.numpy().any(), (layers, name)


def test_colours_continued_under_the_hole():
    image, mask = scene(1, 40, 72)
    known = 1 - mask
    incomplete = (image * 0.1 + 0.5) * known
    made = continued(incomplete, known).numpy()
    inside, outside = mask.numpy()[0, 0] == 1, mask.numpy()[0, 0] == 0
    np.testing.assert_array_equal(made[..., outside], incomplete.numpy()[..., outside])
    assert made[..., inside].min() > 0.4 and made[..., inside].max() < 0.6
    np.testing.assert_allclose(continued(0.3 * known, known).numpy(), 0.3, atol=1e-6)
    assert not continued(0 * image, 0 * mask).numpy().any()


# ---- the discriminator


def test_outputs_of_the_discriminator():
    """256 px: 4 x 4 x 256 = 4096 logits; a sixteenth of them for 64 px."""
    with paddle.no_grad():
        assert Discriminator()(paddle.zeros([1, 3, 64, 64]), paddle.zeros([1, 1, 64, 64])).shape == [1, 256]
        narrow = Discriminator(4, guided=True)
        assert narrow(*map(paddle.zeros, ([2, 3, 256, 256], [2, 1, 256, 256]))).shape == [2, 4096 * 4 // 64]
        for side in (8, 32, 40, 72):  # with odd sides on the way
            outputs = 16 * (-(-side // 64)) ** 2
            assert (
                Discriminator(4)(paddle.zeros([1, 3, side, side]), paddle.zeros([1, 1, side, side])).shape[1] == outputs
            )


@pytest.mark.parametrize("side", [12, 9])
def test_layers_of_the_discriminator(side):
    """Six convolutions with TensorFlow's SAME on even and odd sides, leaky, the last too."""
    paddle.seed(3)
    network = Discriminator(2)
    network.eval()
    image, mask = RNG(1).normal(size=(1, 3, side, side)), RNG(2).random((1, 1, side, side))
    logits = network(*(paddle.to_tensor(x.astype(np.float32)) for x in (image, mask))).numpy()
    x = np.concatenate([image, mask], 1)[0]
    for n in range(1, 7):
        conv = getattr(network, f"conv{n}")
        weight, u, v = (getattr(conv, f"weight_{part}").numpy().astype(np.float64) for part in ("orig", "u", "v"))
        sigma = u @ weight.reshape(len(weight), -1) @ v
        x = naive(x, weight / sigma, conv.bias.numpy(), 2, 1, same(x.shape[1], 5, 2, 1) + same(x.shape[2], 5, 2, 1))
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(logits[0], x.ravel(), rtol=1e-3, atol=1e-5 * np.abs(x).max())


def test_spectral_norms_become_one():
    """One power iteration at each pass in training mode, none in evaluation mode."""
    paddle.seed(3)
    network = Discriminator(4)
    inputs = paddle.zeros([1, 3, 16, 16]), paddle.zeros([1, 1, 16, 16])
    with paddle.no_grad():
        for _ in range(300):
            network(*inputs)
        for n in range(1, 7):
            conv = getattr(network, f"conv{n}")
            weight = conv.weight.numpy().reshape(conv.weight.shape[0], -1)
            assert np.linalg.svd(weight, compute_uv=False)[0] == pytest.approx(1, abs=1e-3)
        network.eval()
        before = network.conv3.weight_u.numpy()
        network.conv3.weight_orig.set_value(network.conv3.weight_orig * 2 + 0.1)
        network(*inputs)
        np.testing.assert_array_equal(network.conv3.weight_u.numpy(), before)
