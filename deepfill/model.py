"""The networks of DeepFill v2: the generator with its two stages, and the discriminator SN-PatchGAN (Sec. 3).

The layers and the attention are computed by `fast_layers` and `fast`, equal to the equations here and to `attention`.
"""

from typing import get_args

import numpy as np

from deepfill.attention import Downsample, Normalise
from deepfill.config import Inputs, Layers, Padding
from deepfill.fast import attention_offsets, contextual_attention
from deepfill.fast_layers import (
    convolve,
    convolve_halves,
    convolve_without_bias,
    doubled,
    run_blocks,
    spread_bias,
    spread_matrix,
)

import paddle
from paddle import nn
from paddle.nn import functional

# The release's layers and their names: (name, kernel, dilation, outputs in multiples of base_channels c). Layers
# `_downsample` have stride 2, layers `_upsample` repeat every pixel twice each way before they convolve. Behind each,
# the size of what it returns.
COARSE_ROWS = [
    ("conv1", 5, 1, 1),  # c x H x W
    ("conv2_downsample", 3, 1, 2),  # 2c x H/2 x W/2
    ("conv3", 3, 1, 2),
    ("conv4_downsample", 3, 1, 4),  # 4c x H/4 x W/4
    ("conv5", 3, 1, 4),
    ("conv6", 3, 1, 4),
    ("conv7_atrous", 3, 2, 4),
    ("conv8_atrous", 3, 4, 4),
    ("conv9_atrous", 3, 8, 4),
    ("conv10_atrous", 3, 16, 4),
    ("conv11", 3, 1, 4),
    ("conv12", 3, 1, 4),
    ("conv13_upsample", 3, 1, 2),  # 2c x H/2 x W/2
    ("conv14", 3, 1, 2),
    ("conv15_upsample", 3, 1, 1),  # c x H x W
    ("conv16", 3, 1, 1 / 2),  # c/2 x H x W
]  # then conv17, to RGB
DILATED_ROWS = [
    ("xconv1", 5, 1, 1),  # c x H x W
    ("xconv2_downsample", 3, 1, 1),  # c x H/2 x W/2
    ("xconv3", 3, 1, 2),  # 2c x H/2 x W/2
    ("xconv4_downsample", 3, 1, 2),  # 2c x H/4 x W/4
    ("xconv5", 3, 1, 4),  # 4c x H/4 x W/4
    ("xconv6", 3, 1, 4),
    ("xconv7_atrous", 3, 2, 4),
    ("xconv8_atrous", 3, 4, 4),
    ("xconv9_atrous", 3, 8, 4),
    ("xconv10_atrous", 3, 16, 4),
]
MATCHED_ROWS = [
    ("pmconv1", 5, 1, 1),  # c x H x W
    ("pmconv2_downsample", 3, 1, 1),  # c x H/2 x W/2
    ("pmconv3", 3, 1, 2),  # 2c x H/2 x W/2
    ("pmconv4_downsample", 3, 1, 4),  # 4c x H/4 x W/4
    ("pmconv5", 3, 1, 4),
    ("pmconv6", 3, 1, 4),  # its activation is ReLU, all others' ELU
]  # then the attention
ATTENDED_ROWS = [
    ("pmconv9", 3, 1, 4),  # 4c x H/4 x W/4
    ("pmconv10", 3, 1, 4),
]
MERGED_ROWS = [  # of the dilated and the attended branch together, 8c x H/4 x W/4
    ("allconv11", 3, 1, 4),  # 4c x H/4 x W/4
    ("allconv12", 3, 1, 4),
    ("allconv13_upsample", 3, 1, 2),  # 2c x H/2 x W/2
    ("allconv14", 3, 1, 2),
    ("allconv15_upsample", 3, 1, 1),  # c x H x W
    ("allconv16", 3, 1, 1 / 2),  # c/2 x H x W
]  # then allconv17, to RGB

# Weight initialisation (D13). The moments are means of elu(x)^2 and sigmoid(GATE_DEVIATION x)^2 for x from N(0, 1).
CENTRE_FRACTION, GATE_DEVIATION = 0.9, 0.3
ELU_MOMENT, GATE_MOMENT = 0.644, 0.2555

CONTINUED_LEVELS = 7  # squares of up to 128 px


def convolution(inputs: int, outputs: int, kernel: int, **geometry) -> nn.Conv2D:
    """A convolution with the release's initialisation: Glorot's uniform weights, and biases of zero."""
    return nn.Conv2D(
        inputs, outputs, kernel, **geometry,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.XavierUniform()),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0)),
    )  # fmt: skip


def geometry(kernel: int, stride: int, dilation: int, padding: Padding) -> dict:
    """Stride, dilation and padding of a convolution.

    At stride 1 the padding is the same on all sides. At stride 2 TensorFlow's SAME has, on even sides, one pixel less
    above and to the left; with the symmetric padding of the article all such layers are shifted half a pixel.
    Paddle's own "SAME" would set the dilation to 1.
    """
    around = dilation * (kernel - 1) // 2
    same = stride == 2 and padding == "same"
    if same:
        around = [around - 1, around, around - 1, around]  # above, below, left, right
    return {"stride": stride, "padding": around, "dilation": dilation}


class ConvBlock(nn.Layer):
    """Base of the three layers: a row of a table as a convolution, W and b of the equations, and its activation phi.

    Args:
        inputs: channels of the input.
        row: of a table above.
        base_channels: c of the tables.
        padding: see `geometry`.
        parts: how many times the row's outputs the convolution computes.
    """

    def __init__(self, inputs: int, row: tuple, base_channels: int, padding: Padding = "same", parts: int = 1):
        super().__init__()
        name, kernel, dilation, times = row
        self.geometry = geometry(kernel, 2 if name.endswith("_downsample") else 1, dilation, padding)
        self.conv = convolution(inputs, parts * int(times * base_channels), kernel, **self.geometry)
        self.activation = functional.relu if name == "pmconv6" else functional.elu
        self.upsamples = name.endswith("_upsample")
        if self.upsamples:
            self.register_buffer("spread", spread_matrix(), persistable=False)


class VanillaConv2D(ConvBlock):
    """Vanilla convolution (Sec. 3.1): every place of the input counts, known or missing.

    O = phi(W * I + b)
    """

    def forward(self, x, known=None):
        """[N, inputs, H, W] -> [N, outputs, H', W']; known is passed on as it is."""
        return self.activation(convolve(self, x)), known


class PartialConv2D(ConvBlock):
    """Partial convolution (Sec. 3.1; Liu et al. 2018, Eq. 1 and 2): only known places are summed up.

    O = phi(W * (I . M) sum(1)/sum(M) + b) where sum(M) > 0, else 0
    M' = 1 where sum(M) > 0, else 0

    M is 1 where I is known, and sum(M) its sum over the window of each output. Places beyond the image's edge are
    unknown, as in the authors' code.
    """

    def forward(self, x, known):
        """[N, inputs, H, W] and M, [N, 1, H, W] -> [N, outputs, H', W'] and M', [N, 1, H', W']."""
        window = self.conv.weight.shape[2:]
        counted = doubled(known, "nearest") if self.upsamples else known
        counted = functional.conv2d(counted, paddle.ones([1, 1, *window]), **self.geometry)  # sum(M)
        reached = (counted > 0.5).astype(x.dtype)  # M'
        ratio = reached * (window[0] * window[1]) / counted.clip(min=1)
        x = convolve_without_bias(self, x * known) * ratio + spread_bias(self.conv.bias, reached)
        return self.activation(x), reached


class GatedConv2D(ConvBlock):
    """Gated convolution (Sec. 3.1): the network learns how much each channel counts at each place.

    Gating = W_g * I + b_g
    Feature = W_f * I + b_f
    O = phi(Feature) . sigmoid(Gating)

    One convolution computes both, each in a half of its channels. The article hands over phi's class, which fails (D5).

    Args:
        gate_first: whether the first half is the gating: the article's code; else the second (D2).
        others: see `ConvBlock`.
    """

    def __init__(
        self, inputs: int, row: tuple, base_channels: int, padding: Padding = "same", gate_first: bool = False
    ):
        super().__init__(inputs, row, base_channels, padding, parts=2)
        self.gate_first = gate_first

    def forward(self, x, known=None):
        """[N, inputs, H, W] -> [N, outputs, H', W']; known is passed on as it is."""
        first, second = convolve_halves(self, x)
        feature, gating = (second, first) if self.gate_first else (first, second)
        return self.activation(feature) * functional.sigmoid(gating), known


def add_blocks(
    network: nn.Layer, inputs: int, rows: list, base_channels: int, layer: type[ConvBlock], **options
) -> int:
    """Gives a network the layers of a table, under their names. Returns the channels of the last one."""
    for row in rows:
        setattr(network, row[0], layer(inputs, row, base_channels, **options))
        inputs = int(row[3] * base_channels)
    return inputs


class Coarse(nn.Layer):
    """Stage one: a first guess at the whole image."""

    def __init__(self, inputs: int, base_channels: int, layer: type, **options):
        super().__init__()
        channels = add_blocks(self, inputs, COARSE_ROWS, base_channels, layer, **options)
        self.conv17 = convolution(channels, 3, 3, padding=1)

    def forward(self, x, known):
        """float32 [N, inputs, H, W] (and what is known of it, for partial layers) -> [N, 3, H, W] in [-1, 1]."""
        x, _ = run_blocks(self, COARSE_ROWS, x, known)  # c/2 x H x W
        return functional.tanh(self.conv17(x))


class Refine(nn.Layer):
    """Stage two: one branch of dilated convolutions, one with contextual attention, and what joins them."""

    def __init__(self, base_channels: int, layer: type, **options):
        super().__init__()
        dilated = add_blocks(self, 3, DILATED_ROWS, base_channels, layer, **options)
        matched = add_blocks(self, 3, MATCHED_ROWS, base_channels, layer, **options)
        attended = add_blocks(self, matched, ATTENDED_ROWS, base_channels, layer, **options)
        channels = add_blocks(self, dilated + attended, MERGED_ROWS, base_channels, layer, **options)
        self.allconv17 = convolution(channels, 3, 3, padding=1)

    def forward(self, image, mask, known, attention: dict):
        """float32 [N, 3, H, W] in [-1, 1], filled by stage one where the mask is 1, and the mask -> such an image."""
        x, valid = run_blocks(self, DILATED_ROWS, image, known)  # 4c x H/4 x W/4
        y = contextual_attention(self.features(image, known), mask, **attention)  # the same
        y, _ = run_blocks(self, ATTENDED_ROWS, y, valid)
        x, _ = run_blocks(self, MERGED_ROWS, paddle.concat([x, y], axis=1), valid)  # c/2 x H x W
        return functional.tanh(self.allconv17(x))

    def features(self, image, known):
        """What the attention matches, float32 [N, 4c, H/4, W/4]."""
        return run_blocks(self, MATCHED_ROWS, image, known)[0]


class Generator(nn.Layer):
    """Inpaints masks of any shape. Fully convolutional: sides may be any multiples of 8.

    Args:
        base_channels: channels after the first layer's gates, even: 24 in the release (4,052,478 parameters, the
            paper's 4.1 million), 48 in the article's code (D1).
        layers: gated, or a layer that it is compared with, of the same widths. In stage one partial layers treat as
            known what is outside the mask; in stage two, whose input is whole, everything.
        inputs: official: image, edges if guided, ones, mask; article: image, mask, edges (zeros if not guided).
        guided: whether a sketch is an input. Partial layers treat it as missing, where it matters: under the mask.
        gate_first: the first half of a gated convolution's channels is the gate: article's code; else the second (D2).
        padding: see `geometry`.
        residual: each stage adds to its input: stage one to the known colours `continued` under the mask, stage two to
            the image from stage one. It learns faster, and is not the paper's (D12).
        attention_chunk, normalise, fuse, downsample: see `contextual_attention`.
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
        normalise: Normalise = "patch",
        fuse: bool = True,
        downsample: Downsample = "two-step",
    ):
        super().__init__()
        for value, known in ((normalise, Normalise), (downsample, Downsample)):
            if value not in get_args(known):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(known))}")
        self.arguments = {
            "base_channels": base_channels,
            "layers": layers,
            "inputs": inputs,
            "guided": guided,
            "gate_first": gate_first,
            "padding": padding,
            "residual": residual,
            "attention_chunk": attention_chunk,
            "normalise": normalise,
            "fuse": fuse,
            "downsample": downsample,
        }  # saved with the weights
        self.residual = residual
        self.layers, self.inputs, self.guided = layers, inputs, guided
        self.attention = {"fuse": fuse, "chunk": attention_chunk, "normalise": normalise, "downsample": downsample}
        layer = {"gated": GatedConv2D, "partial": PartialConv2D, "vanilla": VanillaConv2D}[layers]
        options = {"padding": padding} | ({"gate_first": gate_first} if layers == "gated" else {})
        self.coarse = Coarse(6 if guided and inputs == "official" else 5, base_channels, layer, **options)
        self.refine = Refine(base_channels, layer, **options)

    def forward(self, image, mask, edge=None):
        """Predicts the whole image, twice; colours under the mask are ignored.

        Args:
            image: float32 [N, 3, H, W] in [-1, 1], H and W multiples of 8.
            mask: float32 [N, 1, H, W], 1 where the image is missing.
            edge: float32 [N, 1, H, W], 1 on the lines of a sketch; used only if guided, and under the mask. None is
                no line.

        Returns:
            Outputs of stage one and stage two, float32 [N, 3, H, W] in [-1, 1] (if residual, nearly so), not composited
            with the known pixels.
        """
        coarse, completed, known = self._first(image, mask, edge)
        refined = self.refine(completed, mask, known, self.attention)
        return coarse, completed + refined if self.residual else refined

    def offsets(self, image, mask, edge=None):
        """Where the attention copies from; see `attention_offsets`: int64 [N, H/8, W/8, 2]."""
        _, completed, known = self._first(image, mask, edge)
        return attention_offsets(self.refine.features(completed, known), mask, **self.attention)

    def _first(self, image, mask, edge):
        """Stage one's image, its composite with the known pixels, and the known mask of that for partial layers."""
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
    """SN-PatchGAN (Sec. 3.3): every output judges the patch it sees, the whole image for sides up to 253 px.

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
        """Judges images.

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


def initialise(generator: "Generator") -> None:
    """Initialises the weights so that a deep stack learns from the first step on (D13).

    The layers keep the second moment of their input: for x from N(0, 1) features are too. Glorot's initialisation, the
    release's, leaves 0.3 of the amplitude at each gated layer, and nothing of it after a dozen. Most
    of the features' variance comes from an orthogonal matrix in the window's centre (after Xiao et al. 2018), and the
    gates begin nearly half open: what the places of an image have in common is not lost on the way.

    Residual stages begin with adding nothing.
    """
    for layer in generator.sublayers():
        if isinstance(layer, ConvBlock):
            layer.conv.weight.set_value(initial_weights(layer))
    if generator.residual:
        for last in (generator.coarse.conv17, generator.refine.allconv17):
            last.weight.set_value(paddle.zeros_like(last.weight))


def initial_weights(layer: ConvBlock) -> np.ndarray:
    """Initial weights of a layer, float32 [outputs, inputs, kernel, kernel]; see `initialise`."""
    outputs, inputs, *window = layer.conv.weight.shape
    weights = paddle.randn(layer.conv.weight.shape).numpy() / np.sqrt(inputs * np.prod(window))
    gates, features = weights[:0], weights
    if isinstance(layer, GatedConv2D):
        gates, features = np.split(weights, 2) if layer.gate_first else np.split(weights, 2)[::-1]
    matrix = paddle.create_parameter(
        [len(features), inputs], "float32", default_initializer=nn.initializer.Orthogonal()
    ).numpy()
    features *= np.sqrt(1 - CENTRE_FRACTION)
    centre = features[:, :, window[0] // 2, window[1] // 2]
    centre += matrix * np.sqrt(CENTRE_FRACTION * max(1, len(features) / inputs))
    features *= (ELU_MOMENT * (GATE_MOMENT if isinstance(layer, GatedConv2D) else 1)) ** -0.5
    gates *= GATE_DEVIATION
    return weights.astype(np.float32)


def continued(incomplete, known):
    """The known colours continued under the mask: there, means of the smallest squares around that hold some.

    The squares' sides are 2, 4, … pixels; their means are upsampled bilinearly, level by level. Grey if the largest
    square holds nothing known.

    Args:
        incomplete: float32 [N, 3, H, W] in [-1, 1], 0 under the mask.
        known: float32 [N, 1, H, W], 0 under the mask and 1 elsewhere.

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
