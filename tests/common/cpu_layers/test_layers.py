"""Layers for CPU: equal to Paddle's in outputs and all gradients, and everything about the network stays as it was."""

import numpy as np
import pytest

from common.checkpoint.tensors import load_network
from common.checkpoint.weights import read_weights, save_weights
from common.cpu_layers import layers, winograd
from common.deploy import engine
from common.deploy import export as exported

import paddle
from paddle import nn

SAME = [1, 2, 1, 2]
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}

CONVOLUTIONS = {
    "3x3": (nn.Conv2D, (8, 7, 3), {"padding": 1}),
    "3x3, no padding": (nn.Conv2D, (8, 7, 3), {}),
    "dilated 2": (nn.Conv2D, (8, 7, 3), {"padding": 2, "dilation": 2}),
    "dilated 8": (nn.Conv2D, (8, 7, 3), {"padding": 8, "dilation": 8}),
    "stride 2": (nn.Conv2D, (8, 7, 3), {"stride": 2, "padding": 1}),
    "stride 3": (nn.Conv2D, (8, 7, 5), {"stride": 3, "padding": 1}),
    "4x4": (nn.Conv2D, (8, 7, 4), {"padding": 1}),
    "4x4, stride 2": (nn.Conv2D, (8, 7, 4), {"stride": 2, "padding": 1, "bias_attr": False}),
    "5x5": (nn.Conv2D, (8, 7, 5), {"padding": 2}),
    "5x5, stride 2": (nn.Conv2D, (8, 7, 5), {"stride": 2, "padding": [2, 2]}),
    "5x5, stride 2, SAME": (nn.Conv2D, (8, 7, 5), {"stride": 2, "padding": SAME}),
    "reflected": (nn.Conv2D, (8, 7, 3), {"padding": 1, "padding_mode": "reflect"}),
    "reflected, stride 2": (nn.Conv2D, (8, 7, 5), {"padding": 3, "padding_mode": "reflect", "stride": 2}),
    "reflected, dilated": (nn.Conv2D, (8, 7, 3), {"padding": 3, "padding_mode": "reflect", "dilation": 3}),
    "reflected, 1x1": (nn.Conv2D, (8, 7, 1), {"padding": 2, "padding_mode": "reflect"}),
    "few outputs, reflected": (nn.Conv2D, (8, 3, 7), {"padding": 3, "padding_mode": "reflect"}),
    "transposed 3x3": (nn.Conv2DTranspose, (8, 7, 3), {"stride": 2, "padding": 1}),
    "transposed 3x3, one more": (nn.Conv2DTranspose, (8, 7, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "transposed 4x4": (nn.Conv2DTranspose, (8, 7, 4), {"stride": 2, "padding": 1}),
    "transposed 4x4, stride 1": (nn.Conv2DTranspose, (8, 7, 4), {"bias_attr": False}),
    "transposed 5x5, SAME": (nn.Conv2DTranspose, (8, 7, 5), {"stride": 2, "padding": SAME}),
    "few outputs": (nn.Conv2D, (8, 3, 3), {"padding": 1}),
    "few outputs, 7x7": (nn.Conv2D, (8, 4, 7), {"padding": 2, "bias_attr": False}),
    "few outputs, 3x5": (nn.Conv2D, (8, 1, [3, 5]), {"padding": [1, 0]}),
    "few outputs, lopsided": (nn.Conv2D, (8, 2, 4), {"padding": SAME}),
    "instance norm": (nn.InstanceNorm2D, (8,), {}),
    "instance norm, bare": (nn.InstanceNorm2D, (8,), {"weight_attr": False, "bias_attr": False, "epsilon": 1e-3}),
}


@pytest.fixture(autouse=True)
def process():
    """The flag and the kind of new parameters are the process's: other tests get them back as they were."""
    flag = paddle.get_flags("FLAGS_use_stride_kernel")
    yield
    paddle.set_flags(flag)
    paddle.set_default_dtype("float32")


@pytest.fixture
def always(monkeypatch):
    """Winograd's algorithm at every size."""
    monkeypatch.setattr(winograd, "WORTHWHILE", float("inf"))


def results(network, x, weights):
    """The output, and the gradients of its sum weighted by chance, with respect to the input and each parameter."""
    x = paddle.to_tensor(x, stop_gradient=False)
    network.clear_gradients()
    y = network(x)
    (y * paddle.to_tensor(weights(y.shape).astype(x.numpy().dtype))).sum().backward()
    return [y.numpy(), x.grad.numpy(), *(parameter.grad.numpy() for parameter in network.parameters())]


def by_chance(shape):
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 8, 9, 13), (1, 8, 16, 16), (3, 8, 7, 8)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_equal_in_outputs_and_gradients(name, shape, kind, always):
    paddle.set_default_dtype(kind)
    paddle.seed(0)
    layer, sizes, options = CONVOLUTIONS[name]
    network = nn.Sequential(layer(*sizes, **options))
    for parameter in network.parameters():  # the norms' too, whose scales are 1 and shifts 0 at first
        parameter.set_value(paddle.randn(parameter.shape))
    x = np.random.default_rng(0).standard_normal(shape).astype(kind)
    stock = results(network, x, by_chance)
    layers.accelerate(network)
    assert type(network[0]) is not layer
    for ours, theirs in zip(results(network, x, by_chance), stock, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert np.abs(ours - theirs).max() <= TOLERANCE[kind] * np.abs(theirs).max()


@pytest.mark.parametrize("bias", [None, False])
@pytest.mark.parametrize("count", [1, 3])
def test_between_a_map_and_a_point(count, bias):
    paddle.seed(0)
    down, up = nn.Conv2D(8, 20, [4, 3], bias_attr=bias), nn.Conv2DTranspose(20, 6, [4, 3], bias_attr=bias)
    network = nn.Sequential(down, nn.Tanh(), up)
    x = np.random.default_rng(0).standard_normal((count, 8, 4, 3)).astype("float32")
    stock = results(network, x, by_chance)
    layers.accelerate(network)
    for ours, theirs in zip(results(network, x, by_chance), stock, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("channels", [(256, 256, 3), (130, 100, 5)])
def test_precise_enough_when_wide(channels, always):
    paddle.seed(0)
    network = nn.Sequential(nn.Conv2D(*channels, padding=1))
    x = np.random.default_rng(0).standard_normal((1, channels[0], 29, 30)).astype("float32")
    stock = results(network, x, by_chance)
    layers.accelerate(network)
    for ours, theirs in zip(results(network, x, by_chance), stock, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("size", [4, 9, 16])
@pytest.mark.parametrize("window", [3, 4, 5])
def test_axes_by_the_definition_of_a_convolution(window, size):
    """y = back (kernel w * into x) against sums written out."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(size), rng.standard_normal(window)

    axis = winograd.convolution_axis(size, window, 2, 1, 1, 2, "float64")
    products = sum(
        (axis.kernel[0, :, phase] @ w)[:, None] * (into.numpy() @ x).reshape([axis.kernel.shape[1], -1])
        for phase, into in enumerate(axis.into)
    )
    padded = np.pad(x, (1, 2))
    expected = [padded[n : n + window] @ w for n in range(0, size + 3 - window + 1, 2)]
    np.testing.assert_allclose(axis.back.numpy() @ products.ravel(), expected, atol=1e-12)

    axis = winograd.transposed_axis(size, window, 2, 1, 1, 0, "float64")
    components = (axis.into[0].numpy() @ x).reshape([axis.kernel.shape[1], -1])
    products = np.stack([(kernel[:, 0] @ w)[:, None] * components for kernel in axis.kernel])
    expected = np.zeros(2 * (size - 1) + window)
    for n in range(size):
        expected[2 * n : 2 * n + window] += x[n] * w
    np.testing.assert_allclose(axis.back.numpy() @ products.ravel(), expected[1:], atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "count", "side", "pays"),
    [
        ((nn.Conv2D, 256, 256, 3, 1, 1), 1, 56, True),  # measured: 0.56 of the stock layer's time
        ((nn.Conv2D, 256, 256, 3, 1, 1), 8, 32, True),  # 0.46
        ((nn.Conv2D, 128, 256, 5, 2, 2), 64, 16, True),  # 0.43
        ((nn.Conv2DTranspose, 256, 128, 4, 2, 1), 64, 8, True),  # 0.51
        ((nn.Conv2D, 512, 512, 4, 2, 1), 1, 16, False),  # 4.8: all the time goes into the kernel
        ((nn.Conv2D, 128, 256, 3, 2, 1), 1, 112, False),  # 1.6: hardly a multiplication is saved
        ((nn.Conv2D, 48, 96, 3, 1, 1), 2, 128, False),  # 0.96
        ((nn.Conv2DTranspose, 128, 64, 4, 2, 1), 8, 64, False),  # 1.7
    ],
)
def test_winograd_where_it_was_measured_to_pay(layer, count, side, pays):
    kind, inputs, outputs, window, stride, padding = layer
    network = nn.Sequential(kind(inputs, outputs, window, stride=stride, padding=padding))
    make_axis = winograd.convolution_axis if kind is nn.Conv2D else winograd.transposed_axis
    x = paddle.empty([count, inputs, side, side])
    assert (winograd.find_axes(network[0], x, make_axis, [padding] * 4) is not None) is pays


def test_no_matrices_for_photographs():
    """They would be as large as the photograph, and made for each of its sizes."""
    layer = nn.Conv2D(256, 256, 3, padding=1)
    made = []
    winograd.find_axes(layer, paddle.empty([1, 256, 8, 500]), lambda *_: made.append(_), [1, 1, 1, 1])
    assert made == []


def tiny_network():
    """Every kind of layer that is swapped, one inside another, and some that are not."""
    return nn.Sequential(
        ("first", nn.Sequential(nn.Conv2D(3, 8, 5, stride=2, padding=2), nn.BatchNorm2D(8), nn.LeakyReLU(0.2))),
        ("blocks", nn.LayerList([nn.Conv2D(8, 8, 3, padding=2, dilation=2), nn.Conv2D(8, 8, 3, padding=1)])),
        ("norm", nn.InstanceNorm2D(8)),
        ("grouped", nn.Conv2D(8, 8, 3, padding=1, groups=2)),
        ("up", nn.Conv2DTranspose(8, 8, 4, stride=2, padding=1)),
        ("spectral", nn.utils.spectral_norm(nn.Conv2D(8, 8, 3, padding=1))),
        ("last", nn.Conv2D(8, 3, 3, padding=1)),
    )


class Tiny(nn.Layer):
    """A network whose forward reads like a model's."""

    def __init__(self):
        super().__init__()
        self.net = tiny_network()

    def forward(self, x):
        net = self.net
        x = net.first(x)
        for block in net.blocks:
            x = nn.functional.elu(block(x))
        return nn.functional.tanh(net.last(net.spectral(net.up(net.grouped(net.norm(x))))))


def test_nothing_else_changes(always):
    paddle.seed(0)
    network = Tiny()
    network.eval()
    before = {
        "parameters": {name: id(value) for name, value in network.named_parameters()},
        "names": {name: value.name for name, value in network.named_parameters()},
        "state": list(network.state_dict()),
        "layers": [name for name, _ in network.named_sublayers()],
    }
    rng = paddle.get_rng_state()
    for _ in range(2):  # the second time there is nothing left to swap
        layers.accelerate(network)
        assert before == {
            "parameters": {name: id(value) for name, value in network.named_parameters()},
            "names": {name: value.name for name, value in network.named_parameters()},
            "state": list(network.state_dict()),
            "layers": [name for name, _ in network.named_sublayers()],
        }
        kinds = {name: type(layer).__name__ for name, layer in network.net.named_children()}
        assert kinds == {
            "first": "Sequential", "blocks": "LayerList", "norm": "InstanceNorm", "grouped": "Conv2D",
            "up": "TransposedConvolution", "spectral": "Convolution", "last": "FewOutputs",
        }  # fmt: skip
        assert isinstance(network.net.first[0], layers.Convolution) and isinstance(network.net.first[0], nn.Conv2D)
    after = paddle.uniform([4]).numpy()
    paddle.set_rng_state(rng)
    np.testing.assert_array_equal(paddle.uniform([4]).numpy(), after)  # no weight was drawn on the way
    assert not any(layer.training for layer in network.sublayers())
    network.train()
    assert all(layer.training for layer in network.sublayers())


def test_layers_that_compute_otherwise_stay():
    class Doubled(nn.Conv2D):
        def forward(self, x):
            return 2 * super().forward(x)

    class Named(nn.Conv2D):
        """As models build theirs: a name for a geometry."""

        def __init__(self):
            super().__init__(4, 4, 3, padding=1)

    stay = [
        Doubled(4, 4, 3),
        nn.Conv2D(4, 4, 3, padding="SAME"),
        nn.Conv2D(4, 4, 3, padding=1, padding_mode="replicate"),
        nn.Conv2D(4, 4, 3, data_format="NHWC"),
        nn.Conv2DTranspose(4, 4, 3, groups=2),
        nn.Conv2DTranspose(4, 4, 3, dilation=2),
        nn.InstanceNorm2D(4, data_format="NHWC"),
        nn.InstanceNorm1D(4),
        nn.Conv1D(4, 4, 3),
    ]
    network = nn.LayerList([*stay, Named()])
    layers.accelerate(network)
    assert [*network][:-1] == stay and type(network[-1]) is layers.Convolution


def test_a_spectral_norm_goes_on(always):
    """Its hook puts the weight into whatever layer it is called with, and counts its steps in train mode alone."""
    x = paddle.randn([2, 8, 9, 9])
    outputs = []
    for swapped in (False, True):
        paddle.seed(0)
        network = nn.Sequential(nn.utils.spectral_norm(nn.Conv2D(8, 8, 3, padding=1)))
        if swapped:
            layers.accelerate(network)
        y = [network(x).numpy() for _ in range(3)]
        network.eval()
        outputs.append([*y, network(x).numpy(), network(x).numpy()])
    assert np.abs(outputs[0][0] - outputs[0][2]).max() > 1e-3  # the estimate is better each time
    np.testing.assert_array_equal(outputs[1][3], outputs[1][4])
    np.testing.assert_allclose(*outputs, atol=1e-4)


def test_saved_and_loaded_both_ways(tmp_path, always):
    """A file is the same to the byte whichever network wrote it, and either reads it."""
    paddle.seed(0)
    plain, swapped = Tiny(), Tiny()
    layers.accelerate(swapped)
    x = paddle.randn([2, 3, 16, 16])
    for source, target in ((plain, swapped), (swapped, plain)):
        source(x)  # moves the running statistics
        path = save_weights(tmp_path / "weights.safetensors", {"net": source}, {"paper": "none"})
        load_network(target, read_weights(path)[0], "net")
        again = save_weights(tmp_path / "again.safetensors", {"net": target}, {"paper": "none"})
        assert path.read_bytes() == again.read_bytes()
        source.eval(), target.eval()
        np.testing.assert_allclose(source(x).numpy(), target(x).numpy(), atol=1e-5)
        source.train(), target.train()


def losses(accelerated: bool) -> list[float]:
    """Of 20 steps towards an image turned upside down."""
    paddle.seed(0)
    network = Tiny()
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    if accelerated:  # afterwards: the optimiser holds the parameters
        layers.accelerate(network)
    rng, done = np.random.default_rng(0), []
    for _ in range(20):
        x = paddle.to_tensor(rng.uniform(-1, 1, [4, 3, 16, 16]).astype("float32"))
        loss = (network(x) - x.flip([2])).abs().mean()
        optimizer.clear_grad()
        loss.backward()
        optimizer.step()
        done.append(float(loss))
    return done


@pytest.mark.medium
def test_training_goes_the_same_way(always):
    plain, swapped = losses(False), losses(True)
    assert plain[-1] < plain[0]
    np.testing.assert_allclose(swapped, plain, atol=1e-3)
    assert swapped != plain  # it is another computation


class Traced(nn.Sequential):
    """A network that can be exported at any size; a spectral norm cannot."""

    def __init__(self):
        few, up = nn.Conv2D(8, 3, 3, padding=1), nn.Conv2DTranspose(8, 8, 4, stride=2, padding=1)
        super().__init__(nn.Conv2D(3, 8, 4, stride=2, padding=1), nn.InstanceNorm2D(8), up, few)


@pytest.mark.medium
def test_traced_as_the_stock_layers(tmp_path, always):
    """For export: with Paddle's own operators, so that sizes stay free."""
    network = Traced()
    layers.accelerate(network)
    network.eval()
    paddle.jit.save(network, str(tmp_path / "net"), [paddle.static.InputSpec([None, 3, None, None], "float32")])
    loaded = paddle.jit.load(str(tmp_path / "net"))
    for side in (16, 24):
        x = paddle.randn([2, 3, side, side])
        np.testing.assert_allclose(loaded(x).numpy(), network(x).numpy(), atol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize(("name", "batch"), [(name, n % 2 or None) for n, name in enumerate(CONVOLUTIONS)])
def test_compiled_between_a_convolution_and_a_relu(name, batch, tmp_path):
    """With what Paddle may fuse them with, at two sizes, twice: the first answer may be the only right one."""
    kind, sizes, settings = CONVOLUTIONS[name]
    paddle.seed(0)
    network = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1), kind(*sizes, **settings), nn.ReLU())
    for parameter in network.parameters():
        parameter.set_value(paddle.uniform(parameter.shape, min=-1.0))
    network.eval()
    exported.trace(network, tmp_path, [[batch, 3, None, None]])
    run = engine.open_program(tmp_path)
    for height, width in ((16, 20), (24, 9)):
        x = paddle.uniform([batch or 2, 3, height, width], min=-1.0)
        expected = network(x).numpy()
        for _ in range(2):
            np.testing.assert_allclose(run([x.numpy()])[0], expected, atol=1e-4)
