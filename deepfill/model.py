"""The networks of DeepFill v2: the generator with its two stages, and the discriminator SN-PatchGAN (Sec. 3)."""

from typing import Literal

import numpy as np

from deepfill.attention import END, attention_offsets, contextual_attention

import paddle
from paddle import nn
from paddle.nn import functional

Layers = Literal["gated", "partial", "vanilla"]
Inputs = Literal["official", "article"]
Padding = Literal["same", "symmetric"]

CONTINUED_LEVELS = 7  # squares of up to 128 px
WINDOWS_AT_ONCE = 2**26  # numbers in the windows of one layer's inputs: 256 MB

# The release's layers and their names: (name, kernel, dilation, outputs in multiples of base_channels). Layers
# `_downsample` have stride 2, layers `_upsample` enlarge twofold before they convolve.
COARSE_ROWS = [
    ("conv1", 5, 1, 1),
    ("conv2_downsample", 3, 1, 2),
    ("conv3", 3, 1, 2),
    ("conv4_downsample", 3, 1, 4),
    ("conv5", 3, 1, 4),
    ("conv6", 3, 1, 4),
    ("conv7_atrous", 3, 2, 4),
    ("conv8_atrous", 3, 4, 4),
    ("conv9_atrous", 3, 8, 4),
    ("conv10_atrous", 3, 16, 4),
    ("conv11", 3, 1, 4),
    ("conv12", 3, 1, 4),
    ("conv13_upsample", 3, 1, 2),
    ("conv14", 3, 1, 2),
    ("conv15_upsample", 3, 1, 1),
    ("conv16", 3, 1, 1 / 2),
]  # then conv17, to RGB
DILATED_ROWS = [
    ("xconv1", 5, 1, 1),
    ("xconv2_downsample", 3, 1, 1),
    ("xconv3", 3, 1, 2),
    ("xconv4_downsample", 3, 1, 2),
    ("xconv5", 3, 1, 4),
    ("xconv6", 3, 1, 4),
    ("xconv7_atrous", 3, 2, 4),
    ("xconv8_atrous", 3, 4, 4),
    ("xconv9_atrous", 3, 8, 4),
    ("xconv10_atrous", 3, 16, 4),
]
MATCHED_ROWS = [
    ("pmconv1", 5, 1, 1),
    ("pmconv2_downsample", 3, 1, 1),
    ("pmconv3", 3, 1, 2),
    ("pmconv4_downsample", 3, 1, 4),
    ("pmconv5", 3, 1, 4),
    ("pmconv6", 3, 1, 4),
]  # then the attention
ATTENDED_ROWS = [
    ("pmconv9", 3, 1, 4),
    ("pmconv10", 3, 1, 4),
]
MERGED_ROWS = [
    ("allconv11", 3, 1, 4),
    ("allconv12", 3, 1, 4),
    ("allconv13_upsample", 3, 1, 2),
    ("allconv14", 3, 1, 2),
    ("allconv15_upsample", 3, 1, 1),
    ("allconv16", 3, 1, 1 / 2),
]  # then allconv17, to RGB

# Of first weights (D13). The moments are means of elu(x)^2 and sigmoid(GATE_DEVIATION x)^2 for x from N(0, 1).
CENTRE_SHARE, GATE_DEVIATION = 0.9, 0.3
ELU_MOMENT, GATE_MOMENT = 0.644, 0.2555

# The kernel of a transposed convolution of stride 2 that does what a 3x3 one does to a picture of doubled pixels: its
# four places along an axis hold sums of the three weights.
SPREAD = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])


def convolution(inputs: int, outputs: int, kernel: int, **geometry) -> nn.Conv2D:
    """A convolution with the release's first weights: Glorot's uniform ones, and biases of zero."""
    return nn.Conv2D(
        inputs, outputs, kernel, **geometry,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.XavierUniform()),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0)),
    )  # fmt: skip


def geometry(kernel: int, stride: int, dilation: int, padding: Padding) -> dict:
    """Stride, dilation and padding of a convolution.

    At stride 1 the padding is the same on all sides. At stride 2 TensorFlow's SAME has, on even sides, one pixel less
    above and to the left; with the symmetric padding of the article all such layers look half a pixel further up.
    Paddle's own "SAME" would set the dilation to 1.
    """
    around = dilation * (kernel - 1) // 2
    same = stride == 2 and padding == "same"
    around = [around - 1, around, around - 1, around] if same else around  # above, below, left, right
    return {"stride": stride, "padding": around, "dilation": dilation}


class Block(nn.Layer):
    """One layer of the generator: gated convolution (Sec. 3.1, Eq. 4), or what it is compared with.

    gated: one convolution makes features and gates; activation(features) * sigmoid(gates). The activation is a
    function; the article hands over its class, which fails (D5).
    partial: Liu et al. 2018; only known places are summed up, and the sum is scaled by how many there are.
    vanilla: a convolution and its activation.
    """

    def __init__(self, inputs: int, row: tuple, base_channels: int, layers: Layers, gate_first: bool, padding: Padding):
        super().__init__()
        name, kernel, dilation, times = row
        self.layers, self.gate_first = layers, gate_first
        self.activation = functional.relu if name == "pmconv6" else functional.elu
        self.geometry = geometry(kernel, 2 if name.endswith("_downsample") else 1, dilation, padding)
        outputs = int(times * base_channels) * (2 if layers == "gated" else 1)
        self.conv = convolution(inputs, outputs, kernel, **self.geometry)
        self.enlarges = name.endswith("_upsample")
        self.reach = dilation * (kernel - 1) // 2  # places between an output and the furthest that it looks at
        if self.enlarges:
            self.register_buffer("spread", paddle.to_tensor(np.kron(SPREAD, SPREAD), "float32"), persistable=False)

    def forward(self, x, known):
        """Features for the next layer.

        Args:
            x: float32 [N, inputs, H, W].
            known: for partial layers float32 [N, 1, H, W], 1 where x is known; else None.

        Returns:
            x and known in the same form, with the sides that the layer makes.
        """
        if self.layers == "partial":
            x, known = self.partial(x, known)
            return self.activation(x), known
        if self.layers == "vanilla":
            return self.activation(self.convolve_and_add(x)), known
        if paddle.in_dynamic_mode():
            first, second = self.convolve_and_add(x).chunk(2, axis=1)
        else:  # exported, as two convolutions, which compilers join with their activations
            first, second = self.convolve_by_halves(x)
        features, gates = (second, first) if self.gate_first else (first, second)
        return self.activation(features) * functional.sigmoid(gates), known

    def convolve_and_add(self, x):
        """The convolution with its bias."""
        if not self.enlarges:
            return self.conv(x)
        x = self.convolve(x)
        return x + spread_bias(self.conv.bias, paddle.ones([x.shape[0], 1, *x.shape[2:]]))

    def convolve_by_halves(self, x) -> tuple:
        """The two halves of that. By slices: with split weights a compiled network is right once, and then no more."""
        outputs, halves = self.conv.weight.shape[0] // 2, []
        for first, last in ((0, outputs), (outputs, 2 * outputs)):
            weight, bias = (paddle.slice(each, [0], [first], [last]) for each in (self.conv.weight, self.conv.bias))
            halves.append(self.convolve(x, weight) + bias.reshape([1, -1, 1, 1]))
        return tuple(halves)

    def convolve(self, x, weight=None):
        """The convolution without its bias, by its weight or some outputs of that.

        In layers `_upsample` it is of x with every pixel repeated twice each way.
        There a transposed convolution whose kernel sums up the weights that meet at one pixel does the same with fewer
        than half of the multiplications.
        """
        weight = self.conv.weight if weight is None else weight
        if not self.enlarges:
            return functional.conv2d(x, weight, **self.geometry)
        outputs, inputs = weight.shape[:2]
        kernel = paddle.matmul(weight.reshape([outputs, inputs, 9]), self.spread)
        kernel = kernel.reshape([outputs, inputs, 4, 4]).transpose([1, 0, 2, 3])
        return functional.conv2d_transpose(x, kernel, stride=2, padding=1)

    def count(self, known):
        """How many places in the window of each output are known, float32 [N, 1, H', W']."""
        if self.enlarges:
            known = doubled(known, "nearest")
        return functional.conv2d(known, paddle.ones([1, 1, *self.conv.weight.shape[2:]]), **self.geometry)

    def partial(self, x, known):
        """Liu et al. 2018, Eq. 1 and 2: W (x * known) * (places in the window / known places in it) + b.

        Places beyond the picture's edge are unknown, as in the authors' code.

        Returns:
            float32 [N, outputs, H', W'], 0 where the window holds nothing known; and [N, 1, H', W'], 1 elsewhere.
        """
        counted = self.count(known)
        reached = (counted > 0.5).astype(x.dtype)
        kernel = self.conv.weight.shape[2:]
        ratio = reached * (kernel[0] * kernel[1]) / counted.clip(min=1)
        return self.convolve(x * known) * ratio + spread_bias(self.conv.bias, reached), reached


def continued(incomplete, known):
    """The known colours continued under the hole: there, means of the smallest squares around that hold some.

    The squares' sides are 2, 4, … pixels; their means are enlarged bilinearly, level by level. Grey if the largest
    square holds nothing known.

    Args:
        incomplete: float32 [N, 3, H, W] in [-1, 1], 0 in the hole.
        known: float32 [N, 1, H, W], 0 in the hole and 1 elsewhere.

    Returns:
        float32 [N, 3, H, W], equal to incomplete where that is known.
    """
    levels = [(incomplete, known)]  # sums of known colours and counts of known pixels, by any common factor
    for _ in range(CONTINUED_LEVELS):
        levels.append(tuple(functional.avg_pool2d(x, 2, 2, ceil_mode=True) for x in levels[-1]))
    sums, counts = levels.pop()
    colours = sums / counts.clip(min=1e-6)
    for sums, counts in levels[::-1]:
        colours = doubled(colours, "bilinear")
        colours = colours[:, :, : sums.shape[2], : sums.shape[3]]
        colours = paddle.where(counts > 0, sums / counts.clip(min=1e-6), colours)
    return colours


def doubled(x, mode: Literal["nearest", "bilinear"]):
    """[N, C, H, W] -> [N, C, 2H, 2W]: every pixel twice each way, or bilinear between the centres of pixels.

    Exported it is written out, because oneDNN knows no scale.
    """
    if paddle.in_dynamic_mode():
        return functional.interpolate(x, scale_factor=2, mode=mode)
    for axis in (2, 3):
        near = far = x
        if mode == "bilinear":
            padded = functional.pad(x, [1, 1, 0, 0] if axis == 3 else [0, 0, 1, 1], mode="replicate")
            before, after = paddle.slice(padded, [axis], [0], [-2]), paddle.slice(padded, [axis], [2], [END])
            near, far = 0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after
        x = paddle.stack([near, far], axis + 1).flatten(axis, axis + 1)
    return x


def spread_bias(bias, where):
    """[C] and [N, 1, H, W] -> [N, C, H, W]: the bias where `where` is 1, as a 1x1 convolution of that.

    A sum of [N, C, H, W] and [1, C, 1, 1] is slow on a CPU, and its gradient slower: a sixth of a step of training.
    """
    return functional.conv2d(where, bias.reshape([-1, 1, 1, 1]))


def add_blocks(network: nn.Layer, inputs: int, rows: list, base_channels: int, **kind) -> int:
    """Gives a network the layers of a table, under their names. Returns the channels of the last one."""
    for row in rows:
        setattr(network, row[0], Block(inputs, row, base_channels, **kind))
        inputs = int(row[3] * base_channels)
    return inputs


def run_blocks(network: nn.Layer, rows: list, x, known):
    """Passes features, and what is known of them, through the layers of a table."""
    for row in rows:
        x, known = by_rows(getattr(network, row[0]), x, known)
    return x, known


def by_rows(block: Block, x, known):
    """A layer's outputs: of large maps, in evaluation on a CPU, some rows at a time.

    There Paddle copies all windows of a picture into one matrix: of 24 channels at 2048 x 2048 px, 3.6 GB. Rows above
    and below are given too, and what comes of them is left out.
    """
    if not paddle.in_dynamic_mode() or paddle.is_grad_enabled() or paddle.get_device() != "cpu":
        return block(x, known)
    height, width = x.shape[2:]
    outputs, inputs, *window = block.conv.weight.shape
    numbers = 16 * outputs if block.enlarges else inputs * int(np.prod(window))  # for each place of x
    beside = block.reach + block.reach % 2  # even, as layers of stride 2 want it
    rows = max(WINDOWS_AT_ONCE // (numbers * width) // 2 * 2, 2 * beside)
    if rows >= height:
        return block(x, known)
    parts = []
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = max(0, top - beside), min(height, bottom + beside)
        made = block(*(each if each is None else each[:, :, first:last] for each in (x, known)))
        begin, end = (made[0].shape[2] * (row - first) // (last - first) for row in (top, bottom))
        parts.append([each if each is None else each[:, :, begin:end] for each in made])
    xs, knowns = zip(*parts, strict=True)
    return paddle.concat(xs, axis=2), known if known is None else paddle.concat(knowns, axis=2)


def initialise(generator: "Generator") -> None:
    """Draws weights with which a deep stack learns from the first step on (D13).

    The layers keep the second moment of what passes through: for x from N(0, 1) features are too. Glorot's weights,
    which the release begins with, leave 0.3 of the amplitude at each gated layer, and nothing of it after a dozen. Most
    of the features' variance comes from an orthogonal matrix in the window's centre (after Xiao et al. 2018), and the
    gates begin nearly half open: what the places of a picture have in common is not lost on the way.

    Residual stages begin with adding nothing.
    """
    for layer in generator.sublayers():
        if isinstance(layer, Block):
            layer.conv.weight.set_value(first_weights(layer))
    if generator.residual:
        for last in (generator.coarse.conv17, generator.refine.allconv17):
            last.weight.set_value(paddle.zeros_like(last.weight))


def first_weights(layer: Block) -> np.ndarray:
    """float32 [outputs, inputs, kernel, kernel], see `initialise`."""
    outputs, inputs, *window = layer.conv.weight.shape
    weights = paddle.randn(layer.conv.weight.shape).numpy() / np.sqrt(inputs * np.prod(window))
    gates, features = weights[:0], weights
    if layer.layers == "gated":
        gates, features = np.split(weights, 2) if layer.gate_first else np.split(weights, 2)[::-1]
    matrix = paddle.create_parameter(
        [len(features), inputs], "float32", default_initializer=nn.initializer.Orthogonal()
    ).numpy()
    features *= np.sqrt(1 - CENTRE_SHARE)
    centre = features[:, :, window[0] // 2, window[1] // 2]
    centre += matrix * np.sqrt(CENTRE_SHARE * max(1, len(features) / inputs))
    features *= (ELU_MOMENT * (GATE_MOMENT if layer.layers == "gated" else 1)) ** -0.5
    gates *= GATE_DEVIATION
    return weights.astype(np.float32)


class Coarse(nn.Layer):
    """Stage one: a first guess at the whole picture."""

    def __init__(self, inputs: int, base_channels: int, **kind):
        super().__init__()
        channels = add_blocks(self, inputs, COARSE_ROWS, base_channels, **kind)
        self.conv17 = convolution(channels, 3, 3, padding=1)

    def forward(self, x, known):
        """float32 [N, inputs, H, W] (and what is known of it, for partial layers) -> [N, 3, H, W] in [-1, 1]."""
        x, _ = run_blocks(self, COARSE_ROWS, x, known)  # 4c x H/4 x W/4 in the middle, c/2 x H x W at the end
        return functional.tanh(self.conv17(x))


class Refine(nn.Layer):
    """Stage two: one branch of dilated convolutions, one with contextual attention, and what joins them."""

    def __init__(self, base_channels: int, **kind):
        super().__init__()
        dilated = add_blocks(self, 3, DILATED_ROWS, base_channels, **kind)
        matched = add_blocks(self, 3, MATCHED_ROWS, base_channels, **kind)
        attended = add_blocks(self, matched, ATTENDED_ROWS, base_channels, **kind)
        channels = add_blocks(self, dilated + attended, MERGED_ROWS, base_channels, **kind)
        self.allconv17 = convolution(channels, 3, 3, padding=1)

    def forward(self, picture, mask, known, chunk: int):
        """float32 [N, 3, H, W] in [-1, 1], its hole filled by stage one, and the hole's mask -> such a picture."""
        x, valid = run_blocks(self, DILATED_ROWS, picture, known)  # 4c x H/4 x W/4
        y = contextual_attention(self.features(picture, known), mask, chunk=chunk)
        y, _ = run_blocks(self, ATTENDED_ROWS, y, valid)
        x, _ = run_blocks(self, MERGED_ROWS, paddle.concat([x, y], axis=1), valid)  # c/2 x H x W
        return functional.tanh(self.allconv17(x))

    def features(self, picture, known):
        """What the attention matches, float32 [N, 4c, H/4, W/4]."""
        return run_blocks(self, MATCHED_ROWS, picture, known)[0]


class Generator(nn.Layer):
    """Fills holes of any shape. Fully convolutional: any sides that are multiples of 8.

    Args:
        base_channels: channels after the first layer's gates, even: 24 in the release (4,052,478 numbers, the paper's
            4.1 million), 48 in the article's code (D1).
        layers: see `Block`. All widths stay the same. Of stage one, partial layers know what is outside the hole; of
            stage two, which is given a picture without a hole, everything.
        inputs: official: picture, edges if guided, ones, mask; article: picture, mask, edges (zeros if not guided).
        guided: whether a sketch is looked at. Partial layers take it for missing, where it matters: in the hole.
        gate_first: the first half of a gated convolution's channels is the gate: article's code; else the second (D2).
        padding: see `geometry`.
        residual: each stage adds to what it is given: stage one to the known colours `continued` under the hole, stage
            two to the picture from stage one. It learns faster, and is not the paper's (D12).
        attention_chunk: see `contextual_attention`.
    """

    def __init__(
        self,
        base_channels: int = 24,
        layers: Layers = "gated",
        inputs: Inputs = "official",
        guided: bool = False,
        gate_first: bool = False,
        padding: Padding = "same",
        residual: bool = False,
        attention_chunk: int = 0,
    ):
        super().__init__()
        self.arguments = {
            "base_channels": base_channels,
            "layers": layers,
            "inputs": inputs,
            "guided": guided,
            "gate_first": gate_first,
            "padding": padding,
            "residual": residual,
            "attention_chunk": attention_chunk,
        }  # saved with the weights
        self.residual = residual
        self.layers, self.inputs, self.guided, self.attention_chunk = layers, inputs, guided, attention_chunk
        kind = {"layers": layers, "gate_first": gate_first, "padding": padding}
        self.coarse = Coarse(6 if guided and inputs == "official" else 5, base_channels, **kind)
        self.refine = Refine(base_channels, **kind)

    def forward(self, image, mask, edge=None):
        """Predicts the whole picture, twice; the colours under the hole are not looked at.

        Args:
            image: float32 [N, 3, H, W] in [-1, 1], H and W multiples of 8.
            mask: float32 [N, 1, H, W], 1 in the hole and 0 elsewhere.
            edge: float32 [N, 1, H, W], 1 on the lines of a sketch; only looked at if guided, and inside the hole. None
                is no line.

        Returns:
            What stage one and stage two made, float32 [N, 3, H, W] in [-1, 1] (if residual, nearly so), not composited
            with the known pixels.
        """
        coarse, picture, known = self._first(image, mask, edge)
        refined = self.refine(picture, mask, known, self.attention_chunk)
        return coarse, picture + refined if self.residual else refined

    def offsets(self, image, mask, edge=None):
        """From where the attention takes what it puts; see `attention_offsets`: int64 [N, H/8, W/8, 2]."""
        _, picture, known = self._first(image, mask, edge)
        return attention_offsets(self.refine.features(picture, known), mask, chunk=self.attention_chunk)

    def _first(self, image, mask, edge):
        """Stage one's picture, the same composited with the known pixels, and what partial layers know of that."""
        incomplete = image * (1 - mask)
        seen = continued(incomplete, 1 - mask) if self.residual else incomplete
        lines = paddle.zeros_like(mask) if edge is None or not self.guided else edge * mask
        if self.inputs == "article":
            x = [seen, mask, lines]
        else:
            x = [seen, *([lines] if self.guided else []), paddle.ones_like(mask), mask]
        partial = self.layers == "partial"
        coarse = self.coarse(paddle.concat(x, axis=1), 1 - mask if partial else None)
        if self.residual:
            coarse = seen + coarse
        return coarse, incomplete + coarse * mask, paddle.ones_like(mask) if partial else None


class Discriminator(nn.Layer):
    """SN-PatchGAN (Sec. 3.3): every output judges the patch it sees, the whole picture for sides up to 253 px.

    Six convolutions of stride 2, each spectrally normalised and leaky, the last too.

    Args:
        base_channels: outputs of the first layer, 64; then 2, 4, 4, 4, 4 times as many.
        guided: it is given the sketch as well.
        slope: of the leaky ReLUs: 0.2 in the release, 0.01 in the article's code (D3).
        padding: see `geometry`.
    """

    def __init__(self, base_channels: int = 64, guided: bool = False, slope: float = 0.2, padding: Padding = "same"):
        super().__init__()
        self.arguments = {"base_channels": base_channels, "guided": guided, "slope": slope, "padding": padding}
        self.guided, self.slope, self.padding = guided, slope, padding
        channels = 5 if guided else 4
        for n, times in enumerate([1, 2, 4, 4, 4, 4], 1):
            conv = convolution(channels, times * base_channels, 5, **geometry(5, 2, 1, padding))
            conv = nn.utils.spectral_norm(conv, n_power_iterations=1, eps=1e-12, dim=0)
            setattr(self, f"conv{n}", conv)
            channels = times * base_channels

    def forward(self, image, mask, edge=None):
        """Judges pictures.

        Args:
            image: float32 [N, 3, H, W] in [-1, 1], whole.
            mask: float32 [N, 1, H, W], 1 where it was completed or might have been.
            edge: float32 [N, 1, H, W], as for the generator.

        Returns:
            float32 [N, outputs], logits; 4096 for 256 x 256 px.
        """
        x = [image, mask]
        if self.guided:
            x.append(paddle.zeros_like(mask) if edge is None else edge * mask)
        x = paddle.concat(x, axis=1)
        for n in range(1, 7):
            x = functional.leaky_relu(getattr(self, f"conv{n}")(self._even(x)), self.slope)
        return x.flatten(1)  # 256 x 4 x 4

    def _even(self, x):
        """Adds a row above and a column to the left of odd sides: TensorFlow's SAME pads those by 2 all around."""
        odd = [side % 2 for side in x.shape[2:]]
        return functional.pad(x, [odd[1], 0, odd[0], 0]) if self.padding == "same" and any(odd) else x
