"""What the layers of DeepFill v2 compute, in less time and memory on a CPU, and exported so that compilers join it.

The specification of all of it is a layer's own convolution, `layer.conv`, in layers `_upsample` of the map with every
pixel repeated twice each way.
"""

from typing import Literal

import numpy as np

from deepfill.fast import END

import paddle
from paddle import nn
from paddle.nn import functional

WINDOWS_AT_ONCE = 2**26  # numbers in the windows of one layer's inputs: 256 MB

# The kernel of a transposed convolution of stride 2 that does what a 3x3 one does to a map of doubled pixels: its four
# places along an axis hold sums of the three weights.
SPREAD = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])


def run_blocks(network: nn.Layer, rows: list, x, known):
    """Passes features, and what is known of them, through the layers of a table, each `layer(x, known)`."""
    for row in rows:
        x, known = by_rows(getattr(network, row[0]), x, known)
    return x, known


def by_rows(block: nn.Layer, x, known):
    """A layer's outputs: of large maps, in evaluation on a CPU, some rows at a time.

    There Paddle copies all windows of an image into one matrix: of 24 channels at 2048 x 2048 px, 3.6 GB. Rows above
    and below are given too, and what comes of them is left out.
    """
    if not paddle.in_dynamic_mode() or paddle.is_grad_enabled() or paddle.get_device() != "cpu":
        return block(x, known)
    height, width = x.shape[2:]
    outputs, inputs, *window = block.conv.weight.shape
    numbers = 16 * outputs if block.upsamples else inputs * int(np.prod(window))  # for each place of x
    reach = block.geometry["dilation"] * (window[0] - 1) // 2  # from an output to the furthest that it looks at
    beside = reach + reach % 2  # even, as layers of stride 2 want it
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


def spread_matrix():
    """What turns the 9 weights of a 3x3 kernel into the 16 of `SPREAD`, float32 [9, 16]: a buffer of a layer."""
    return paddle.to_tensor(np.kron(SPREAD, SPREAD), "float32")


def convolve(layer, x):
    """W * x + b."""
    if not layer.upsamples:
        return layer.conv(x)
    x = convolve_without_bias(layer, x)
    return x + spread_bias(layer.conv.bias, paddle.ones([x.shape[0], 1, *x.shape[2:]]))


def convolve_halves(layer, x) -> tuple:
    """The two halves of its channels. Exported, as two convolutions, which compilers join with their activations.

    By slices: with split weights a compiled network is right once, and then no more.
    """
    if paddle.in_dynamic_mode():
        return tuple(convolve(layer, x).chunk(2, axis=1))
    outputs, halves = layer.conv.weight.shape[0] // 2, []
    for first, last in ((0, outputs), (outputs, 2 * outputs)):
        weight, bias = (paddle.slice(each, [0], [first], [last]) for each in (layer.conv.weight, layer.conv.bias))
        halves.append(convolve_without_bias(layer, x, weight) + bias.reshape([1, -1, 1, 1]))
    return tuple(halves)


def convolve_without_bias(layer, x, weight=None):
    """W * x, by the layer's weight or some outputs of that.

    In layers `_upsample` a transposed convolution whose kernel sums up the weights that meet at one pixel does the same
    as a convolution of repeated pixels, with fewer than half of the multiplications.
    """
    if weight is None:
        weight = layer.conv.weight
    if not layer.upsamples:
        return functional.conv2d(x, weight, **layer.geometry)
    outputs, inputs = weight.shape[:2]
    kernel = paddle.matmul(weight.reshape([outputs, inputs, 9]), layer.spread)
    kernel = kernel.reshape([outputs, inputs, 4, 4]).transpose([1, 0, 2, 3])
    return functional.conv2d_transpose(x, kernel, stride=2, padding=1)


def spread_bias(bias, where):
    """[C] and [N, 1, H, W] -> [N, C, H, W]: the bias where `where` is 1, as a 1x1 convolution of that.

    A sum of [N, C, H, W] and [1, C, 1, 1] is slow on a CPU, and its gradient slower: a sixth of a step of training.
    """
    return functional.conv2d(where, bias.reshape([-1, 1, 1, 1]))


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
