"""Winograd's algorithm (Lavin and Gray 2016) for convolutions: windows of 3 to 5, strided, dilated or transposed."""

import functools
from typing import NamedTuple

import numpy as np

from common.runtime.device import paddle

# What Winograd's algorithm costs, counted in multiplications: fitted to the times of 53 layers, true to 17 %.
PER_NUMBER = 60  # of the transformed maps, to be moved around
PER_WEIGHT = 100  # of the transformed kernel
PER_TRANSFORM = 0.4  # for each multiplication of maps by constant matrices
PER_IMAGE = 36  # of the convolution that it replaces, for each weight: to read that once more
WORTHWHILE = 0.8  # fraction of the convolution's time
LARGEST_SIDE = 128  # of a map that is considered: the constant matrices are dense

POINTS = (0, 1, -1, 2, -2)  # where its polynomials are evaluated, besides infinity; more would cost precision


class Axis(NamedTuple):
    """One direction of a convolution as y = back (kernel w * into x), where * multiplies component by component.

    The map is cut into tiles, each of which has `points` components. A convolution of stride s is the sum of s such of
    stride 1, over every s-th place each; a transposed one lays s of them between one another: the phases.
    """

    into: list  # for each phase of the input a tensor [points x tiles, inputs]
    kernel: np.ndarray  # [phases of the output, points, phases of the input, window]
    back: paddle.Tensor  # [outputs, phases of the output x points x tiles]
    length: int  # places at which the convolution lays its window


def find_axes(layer: paddle.nn.Layer, x, make_axis, sides: list[int]) -> tuple[Axis, Axis] | None:
    """Rows and columns for `winograd`, or None where the stock convolution is as fast."""
    (window, across), (stride, along), (dilation, aside) = layer._kernel_size, layer._stride, layer._dilation
    if (window, stride, dilation) != (across, along, aside) or window not in (3, 4, 5) or 1 not in (stride, dilation):
        return None
    if x.dtype not in (paddle.float32, paddle.float64) or max(x.shape[2:]) > LARGEST_SIDE:
        return None
    if min(x.shape[2] + sum(sides[:2]), x.shape[3] + sum(sides[2:])) <= dilation * (window - 1):
        return None
    kind = str(x.dtype).split(".")[-1]
    reflect = layer._padding_mode == "reflect"
    rows = make_axis(x.shape[2], window, stride, dilation, *sides[:2], kind, reflect)
    columns = make_axis(x.shape[3], window, stride, dilation, *sides[2:], kind, reflect)
    if _cost(x, layer._out_channels, rows, columns) < WORTHWHILE:
        return (rows, columns)
    return None


def _cost(x, outputs: int, rows: Axis, columns: Axis) -> float:
    """What `winograd` is expected to take, as a fraction of the stock convolution."""
    count, inputs, height, width = x.shape
    into = [len(axis.into) * axis.into[0].shape[0] for axis in (rows, columns)]
    (high, back_rows), (wide, back_columns) = rows.back.shape, columns.back.shape
    weights = inputs * outputs * rows.kernel[..., 0].size * columns.kernel[..., 0].size
    tiles = count * into[0] * into[1] / (rows.kernel[0, ..., 0].size * columns.kernel[0, ..., 0].size)
    numbers = count * (inputs * into[0] * into[1] + outputs * back_rows * back_columns)
    transforms = inputs * into[0] * width * (height + into[1]) + outputs * back_rows * wide * (back_columns + high)
    stock = inputs * outputs * rows.kernel.shape[3] ** 2 * count * (rows.length * columns.length + PER_IMAGE)
    ours = weights * (tiles + PER_WEIGHT) + numbers * PER_NUMBER + count * transforms * PER_TRANSFORM
    return ours / stock


def winograd(x, kernel, rows: Axis, columns: Axis):
    """[N, C, H, W] and a kernel [window^2, C, O] -> [N, O, H', W'].

    Matrices meet rows, then columns, of all images and channels at once: these come last, so that each change of
    order moves whole lines of numbers.
    """
    count, inputs, height, width = x.shape
    points, outputs, phases = (rows.kernel.shape[1], columns.kernel.shape[1]), kernel.shape[2], len(rows.kernel)
    tiles = rows.into[0].shape[0] // points[0]  # from top to bottom
    x = x.reshape([count * inputs, height * width]).transpose([1, 0]).reshape([height, width * count * inputs])
    parts = []  # one for each phase of the input, [components, tiles, C]
    for into_rows in rows.into:
        lines = paddle.matmul(into_rows, x).reshape([-1, width, count * inputs])
        for into_columns in columns.into:
            part = _swap(paddle.matmul(into_columns, lines), points[0], tiles, points[1])
            parts.append(part.reshape([points[0] * points[1], -1, inputs]))
    x = parts[0] if len(parts) == 1 else paddle.concat(parts, axis=2)

    # Phases of the output f and g, points a and b, phases of the input i and j, places in the window k and l.
    transform = np.einsum("faik,gbjl->fgabijkl", rows.kernel, columns.kernel).reshape([-1, kernel.shape[0]])
    kernel = paddle.matmul(paddle.to_tensor(transform, x.dtype), kernel.reshape([kernel.shape[0], -1]))
    kernels = [kernel] if phases == 1 else kernel.split(phases**2)
    kernels = [part.reshape([points[0] * points[1], -1, outputs]) for part in kernels]

    parts = [_swap(paddle.matmul(x, part), *points, tiles) for part in kernels]
    parts = [part.reshape([points[0] * tiles, -1, count * outputs]) for part in parts]
    if phases > 1:
        parts = [paddle.concat(parts[n * phases : (n + 1) * phases], axis=1) for n in range(phases)]
    y = parts[0] if phases == 1 else paddle.concat(parts, axis=0)
    y = paddle.matmul(columns.back, y).reshape([rows.back.shape[1], -1])
    y = paddle.matmul(rows.back, y).reshape([-1, count * outputs]).transpose([1, 0])
    return y.reshape([count, outputs, rows.back.shape[0], columns.back.shape[0]])


def _swap(x, first: int, second: int, third: int):
    """The numbers of [first, second, third, …] in the order [first, third, second, …]."""
    return x.reshape([first, second, third, -1]).transpose([0, 2, 1, 3])


@functools.lru_cache(maxsize=512)
def convolution_axis(
    size: int, window: int, stride: int, dilation: int, before: int, after: int, kind: str, reflect: bool = False
) -> Axis:
    """Of a convolution. With dilation d every d-th place makes a map of its own, with tiles of its own.

    Args:
        size: places of the map. before, after: its padding, of zeros or reflected.
    """
    length = (size + before + after - dilation * (window - 1) - 1) // stride + 1
    taps = -(-window // stride)
    step, evaluate, weights, interpolate = _tile(-(-length // dilation), taps)
    points, tiles = len(weights), dilation * -(-length // (dilation * step))
    into, back = np.zeros([stride, points, tiles, size]), np.zeros([length, points, tiles])
    kernel = np.zeros([1, points, stride, window])
    for tap in range(window):
        kernel[0, :, tap % stride, tap] = weights[:, tap // stride]
    for tile in range(tiles):
        first = tile % dilation + tile // dilation * dilation * step
        for n in range(points):
            for phase in range(stride):
                place = stride * (first + dilation * n) + dilation * phase - before
                if reflect and -before <= place < size + after:
                    place = size - 1 - abs(size - 1 - abs(place))
                if 0 <= place < size:
                    into[phase, :, tile, place] += interpolate[:, n]
        for n, place in enumerate(range(first, min(length, first + dilation * step), dilation)):
            back[place, :, tile] = evaluate[n]
    return _axis(into, kernel, back, length, kind)


@functools.lru_cache(maxsize=512)
def transposed_axis(
    size: int, window: int, stride: int, _: int, before: int, after: int, kind: str, __: bool = False
) -> Axis:
    """Of a transposed convolution: place s t + f - before, of phase f, sums w[f + s n] x[t - n] over n."""
    length = (size - 1) * stride + window - before - after
    taps, start = -(-window // stride), before // stride  # the first t that has a place in the output
    count = (length - 1 + before) // stride - start + 1
    step, evaluate, weights, interpolate = _tile(count, taps)
    points, tiles = len(weights), -(-count // step)
    into, back = np.zeros([1, points, tiles, size]), np.zeros([length, stride, points, tiles])
    kernel = np.zeros([stride, points, 1, window])
    for tap in range(window):
        kernel[tap % stride, :, 0, tap] = weights[:, taps - 1 - tap // stride]
    for tile in range(tiles):
        first = start + tile * step
        for n in range(points):
            if 0 <= first + n - taps + 1 < size:
                into[0, :, tile, first + n - taps + 1] = interpolate[:, n]
        for n in range(step):
            for phase in range(stride):
                place = stride * (first + n) + phase - before
                if 0 <= place < length:
                    back[place, phase, :, tile] = evaluate[n]
    return _axis(into, kernel, back, size, kind)


def _axis(into: np.ndarray, kernel: np.ndarray, back: np.ndarray, length: int, kind: str) -> Axis:
    into = [paddle.to_tensor(phase.reshape([-1, into.shape[3]]), kind) for phase in into]
    return Axis(into, kernel, paddle.to_tensor(back.reshape([len(back), -1]), kind), length)


def _tile(length: int, taps: int) -> tuple:
    """Toom and Cook's matrices for the tiles with which a line of `length` outputs needs fewest multiplications.

    Returns:
        Outputs of a tile; and, one column or row for each point, [outputs, points], [points, taps], [points, points].
    """
    step = min(range(2, len(POINTS) + 3 - taps), key=lambda step: -(-length // step) * (step + taps - 1))
    points = POINTS[: step + taps - 2]
    evaluate, weights = np.zeros([step, len(points) + 1]), np.zeros([len(points) + 1, taps])
    interpolate = np.zeros([len(points) + 1] * 2)
    for n, point in enumerate(points):
        others = [other for other in points if other != point]
        evaluate[:, n] = np.power(float(point), np.arange(step))
        weights[n] = np.power(float(point), np.arange(taps)) / np.prod([point - other for other in others])
        interpolate[n, :-1] = np.poly(others)[::-1]
    evaluate[-1, -1] = weights[-1, -1] = 1  # the point at infinity
    interpolate[-1] = np.poly(points)[::-1]
    return step, evaluate, weights, interpolate
