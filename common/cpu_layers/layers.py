"""Equal layers that are faster on a CPU, swapped into a built network for training.

Paddle's eager convolutions on CPU copy every window of an image into a matrix, image by image, and multiply that;
its instance normalisation and its sums with a bias run on one core. The layers here compute the same from the same
parameters by other operators; where the sizes they meet do not pay they are the stock layers. "n times faster": forward
and backward, two threads, Paddle 3.3.1. Traced for export they are the stock layers, but for what oneDNN does badly.
"""

from common.cpu_layers.winograd import convolution_axis, find_axes, transposed_axis, winograd
from common.runtime.device import paddle

from paddle import nn
from paddle.nn import functional


def accelerate(network: nn.Layer) -> None:
    """Swaps layers inside a network, in place, for equal ones that are faster on a CPU.

    Parameters stay the same objects under the same names, and so do buffers and hooks: optimisers go on with them, and
    a file saved from the network loads in one as it was built. The network itself, if it is a bare convolution, stays
    as it is. On a GPU nothing is swapped.

    What differs is rounding in float32. Measured on seven of the papers' networks at their width (64 to 128 px, random
    weights and images, training mode): outputs differ from the stock layers' by 1e-6 to 7e-5 of their largest value.
    Gradients differ by less than 2e-5 of the network's largest in four of them, and by 8e-3 to 4e-2 in three, where
    rounding carries the input of a ReLU over zero: with a smooth function in its place these differ by 2e-6 to 1e-4.
    The stock layers themselves are 5e-3 to 1e-2 from float64 there; either may be the nearer one.

    Not for networks under a gradient penalty: Paddle has no second derivative of the transposed convolutions that
    `FewOutputs` are. The transforms here pay where transposes are copies, as `open_device` has them on a CPU; on views
    they would be slower than what they replace.
    """
    if paddle.get_device() != "cpu":
        return
    for parent in network.sublayers(include_self=True):
        for name, layer in list(parent.named_children()):
            instead = equal_layer(layer)
            if instead is not None:
                parent.add_sublayer(name, instead)


def equal_layer(layer: nn.Layer) -> nn.Layer | None:
    """The layer of this file that takes a layer's place; None if none does."""
    kinds = [kind for kind in (FewOutputs, Convolution, TransposedConvolution, InstanceNorm) if kind.fits(layer)]
    return kinds[0](layer) if kinds else None


def _computes_as(layer: nn.Layer, kind: type) -> bool:
    """Whether a layer is of that class, or of one of its own that does not compute otherwise."""
    otherwise = type(layer).forward is not kind.forward or "forward" in vars(layer)
    return isinstance(layer, kind) and not otherwise and layer._data_format == "NCHW"


def _is_plain(layer: nn.Layer, kind: type) -> bool:
    """Whether it is such a convolution, without groups, its padding given in numbers, of zeros or reflected."""
    known = _computes_as(layer, kind) and layer._groups == 1 and layer._padding_mode in ("zeros", "reflect")
    return known and bool(_sides(layer))


def _sides(layer: nn.Layer) -> list[int]:
    """Padding above, below, left and right; empty if it is not given in numbers."""
    padding = [layer._padding] * 2 if isinstance(layer._padding, int) else list(layer._padding)
    if not all(isinstance(side, int) for side in padding):
        return []
    if len(padding) == 4:
        return padding
    return [side for side in padding for _ in range(2)]


def _add_bias(x, bias):
    """[N, C, H, W] plus [C] or None, for several images by a 1x1 convolution of ones, 2.5 times faster."""
    if bias is None:
        return x
    if x.shape[0] == 1 or not paddle.in_dynamic_mode():
        return x + bias.reshape([1, -1, 1, 1])
    return x + functional.conv2d(paddle.ones([x.shape[0], 1, *x.shape[2:]], x.dtype), bias.reshape([-1, 1, 1, 1]))


def _pad(layer: nn.Layer, x) -> tuple:
    """The map with what its layer reflects, and the zeros that are left to be padded."""
    above, below, left, right = sides = _sides(layer)
    if layer._padding_mode == "zeros":
        return x, sides
    return functional.pad(x, [left, right, above, below], mode="reflect"), [0, 0, 0, 0]


def _is(x, sides: list[int]) -> bool:
    """Whether a map has those sides; of one that is traced they may be unknown."""
    return all(isinstance(side, int) for side in x.shape[2:]) and list(x.shape[2:]) == list(sides)


def _is_one(x) -> bool:
    """Whether a map that is traced is one image's; there may be any number of them."""
    return isinstance(x.shape[0], int) and x.shape[0] == 1


def _reflected(x, sides: list[int]):
    """A map that is traced, of whatever sides, with its reflection by rows and columns: oneDNN's runs on one core."""
    for axis, before, after in ((2, *sides[:2]), (3, *sides[2:])):
        if not before and not after:
            continue
        lines = [paddle.slice(x, [axis], [n], [n + 1]) for n in range(before, 0, -1)]
        lines.append(x)
        lines += [paddle.slice(x, [axis], [-n - 1], [-n]) for n in range(1, after + 1)]
        x = paddle.concat(lines, axis)
    return x


def _traced(layer: nn.Conv2D, x, weight, bias, sides: list[int]):
    """The layer's convolution in what oneDNN does well, with that kernel and padding."""
    if layer._padding_mode == "reflect":
        x, sides = _reflected(x, sides), [0, 0, 0, 0]
    return functional.conv2d(x, weight, bias, layer._stride, sides, layer._dilation)


class Adopting:
    """A layer that takes the place of another: it has the same parameters, buffers, hooks, modes and geometry."""

    def __init__(self, layer: nn.Layer):
        self.__dict__.update(layer.__dict__)

    # Below, the stock layer is called by its name: Paddle's tracer does not understand super().


class FewOutputs(Adopting, nn.Conv2D):
    """A stride-1 convolution to at most half as many channels, as a transposed one by the kernel turned round.

    What is copied is then windows of the outputs, not of the inputs. 10 times faster for 7x7 64 -> 3, 8 times for 4x4
    512 -> 1, 3 to 5 times for 3x3 32 -> 3, twice for 3x3 64 -> 32.

    oneDNN makes outputs by sixteens, most of them for nothing. When traced each column of the kernel has outputs of its
    own, which a second convolution adds up: 1.2 to 1.5 times faster for 3x3 32 -> 3, twice for 7x7 or 5x5 64 -> 3.
    """

    @staticmethod
    def fits(layer: nn.Layer) -> bool:
        if not _is_plain(layer, nn.Conv2D) or layer._stride != [1, 1] or layer._dilation != [1, 1]:
            return False
        inside = min(_turned(_sides(layer), layer)) >= 0
        return inside and max(layer._kernel_size) > 1 and 2 * layer._out_channels <= layer._in_channels

    def forward(self, x):
        if not paddle.in_dynamic_mode():
            pays = self._out_channels * self._kernel_size[1] <= 32
            return self._by_columns(x) if pays else Convolution.forward(self, x)
        turned = self.weight.flip([2, 3]).transpose([1, 0, 2, 3])
        x, sides = _pad(self, x)
        return _add_bias(functional.conv2d_transpose(x, turned, padding=_turned(sides, self)), self.bias)

    def _by_columns(self, x):
        outputs, inputs, height, width = self.weight.shape
        above, below, left, right = _sides(self)
        columns = self.weight.transpose([0, 3, 1, 2]).reshape([outputs * width, inputs, height, 1])
        adds = paddle.eye(outputs * width).reshape([outputs, width, -1]).transpose([0, 2, 1]).unsqueeze(2)
        x = _traced(self, x, columns, None, [above, below, 0, 0])  # [N, outputs x width, H, W + left + right]
        return _traced(self, x, adds, self.bias, [0, 0, left, right])


def _turned(sides: list[int], layer: nn.Conv2D) -> list[int]:
    """The padding of the transposed convolution that stands for a convolution with that padding."""
    height, width = layer._kernel_size
    return [side - 1 - padding for side, padding in zip([height, height, width, width], sides, strict=True)]


class Convolution(Adopting, nn.Conv2D):
    """Any other convolution: by `winograd` where that pays, its bias by `_add_bias`; of a whole map as one product.

    3x3 256 -> 256 is twice as fast, dilated or not, 128 -> 128 1.7 times; 5x5 of stride 2 2.4 times (128 -> 256 at
    16 px, 256 -> 512 at 8 px, batch 64), 4x4 of stride 2 as much there and 1.7 times with batch 16. From 4x4 512 to a
    point 4000 it is 11 times as fast.
    """

    @staticmethod
    def fits(layer: nn.Layer) -> bool:
        return _is_plain(layer, nn.Conv2D)

    def forward(self, x):
        if _is(x, self._kernel_size) and not any(_sides(self)):
            y = paddle.matmul(x.flatten(1), self.weight.flatten(1), transpose_y=True)
            if self.bias is not None:
                y = y + self.bias
            return y.reshape([-1, self.weight.shape[0], 1, 1])
        if not paddle.in_dynamic_mode():
            return _traced(self, x, self.weight, self.bias, _sides(self))
        sides = _sides(self)
        axes = find_axes(self, x, convolution_axis, sides)
        if axes is None:
            x, sides = _pad(self, x)
            y = functional.conv2d(x, self.weight, None, self._stride, sides, self._dilation)
        else:
            outputs, inputs, window, _ = self.weight.shape
            kernel = self.weight.reshape([outputs, -1]).transpose([1, 0]).reshape([inputs, window**2, outputs])
            y = winograd(x, kernel.transpose([1, 0, 2]), *axes)
        return _add_bias(y, self.bias)


class TransposedConvolution(Adopting, nn.Conv2DTranspose):
    """A transposed convolution, likewise: 5x5 and 4x4 of stride 2 are 1.9 times as fast at 4 and 8 px, batch 64.

    From a point 4000 to 4x4 512 it is 12 times as fast.
    """

    @staticmethod
    def fits(layer: nn.Layer) -> bool:
        return _is_plain(layer, nn.Conv2DTranspose) and layer._dilation == [1, 1] and layer.output_padding in (0, 1)

    def forward(self, x, output_size=None):
        if _is(x, [1, 1]) and not any(_sides(self)) and self.output_padding == 0 and output_size is None:
            y = paddle.matmul(x.flatten(1), self.weight.flatten(1)).reshape([-1, *self.weight.shape[1:]])
            return _add_bias(y, self.bias)
        if not paddle.in_dynamic_mode() or output_size is not None:
            return nn.Conv2DTranspose.forward(self, x, output_size)
        (above, below, left, right), extra = _sides(self), self.output_padding
        axes = find_axes(self, x, transposed_axis, [above, below - extra, left, right - extra])
        if axes is None:
            y = functional.conv2d_transpose(x, self.weight, None, self._stride, [above, below, left, right], extra)
        else:
            inputs, outputs, window, _ = self.weight.shape
            kernel = self.weight.reshape([-1, window**2]).transpose([1, 0]).reshape([window**2, inputs, outputs])
            y = winograd(x, kernel, *axes)
        return _add_bias(y, self.bias)


class InstanceNorm(Adopting, nn.InstanceNorm2D):
    """Instance normalisation as the batch normalisation of one image of N x C channels: 1.6 to 2 times faster.

    When traced it is written out in what oneDNN does well; an instance normalisation it leaves to Paddle. For one
    image alone oneDNN has a batch normalisation by the batch's own statistics, which is 1.2 to 1.5 times faster than
    that, with Paddle 2.6 twice.
    """

    @staticmethod
    def fits(layer: nn.Layer) -> bool:
        return _computes_as(layer, nn.InstanceNorm2D)

    def forward(self, x):
        if not paddle.in_dynamic_mode():
            if _is_one(x):
                return self._of_one_image(x)
            apart = x - functional.adaptive_avg_pool2d(x, 1)
            scale = paddle.rsqrt(functional.adaptive_avg_pool2d(apart * apart, 1) + self._epsilon)
            if self.scale is not None:
                scale = scale * self.scale.reshape([1, -1, 1, 1])
            y = apart * scale
            if self.bias is not None:
                y = y + self.bias.reshape([1, -1, 1, 1])
            return y
        if x.shape[2] * x.shape[3] == 1:  # a single number would pass unchanged
            return nn.InstanceNorm2D.forward(self, x)
        one = paddle.ones([x.shape[0] * x.shape[1]], x.dtype)
        scale = one if self.scale is None else self.scale.tile([x.shape[0]])
        shift = paddle.zeros_like(one) if self.bias is None else self.bias.tile([x.shape[0]])
        statistics = paddle.zeros_like(one), paddle.ones_like(one)  # running ones: written, never read
        y = x.reshape([1, -1, *x.shape[2:]])
        y = functional.batch_norm(y, *statistics, scale, shift, training=True, epsilon=self._epsilon)
        return y.reshape(x.shape)

    def _of_one_image(self, x):
        # The running averages are not read. One is made from x, so that x has two readers: for one alone Paddle 3.3
        # folds the normalisation into the convolution before it, as if it went by those averages.
        average = paddle.slice(x, [2, 3], [0, 0], [1, 1]).sum([0, 2, 3])
        scale = paddle.ones(average.shape) if self.scale is None else self.scale
        shift = paddle.zeros(average.shape) if self.bias is None else self.bias
        own = {"training": False, "use_global_stats": False, "epsilon": self._epsilon}
        return functional.batch_norm(x, average, paddle.ones(average.shape), scale, shift, **own)
