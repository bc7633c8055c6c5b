"""Parameters and multiply-accumulate operations (MACs) of a network, counted layer by layer in one pass.

`paddle.flops` fails with numpy 2.4; this counts by forward hooks.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

from common.runtime.device import paddle

from paddle import nn


class Cost(NamedTuple):
    """Of one network."""

    parameters: int
    macs: int


def network_cost(network: nn.Layer, inputs: list, blocks: tuple = ()) -> Cost:
    """Trainable parameters, and MACs of convolutions, transposed convolutions and linear layers for these inputs.

    Args:
        network: is run once in evaluation mode, and left in the mode that it was in.
        inputs: its arguments, tensors [N, …]; MACs are of the whole batch.
        blocks: see `counted_macs`.
    """
    training = network.training
    network.eval()
    try:
        with counted_macs(network, blocks) as macs, paddle.no_grad():
            network(*inputs)
    finally:
        if training:
            network.train()
    sizes = [math.prod(parameter.shape) for parameter in network.parameters() if not parameter.stop_gradient]
    return Cost(sum(sizes), sum(macs))


@contextlib.contextmanager
def counted_macs(network: nn.Layer, blocks: tuple = ()) -> Iterator[list[int]]:
    """Yields a list that grows by the MACs of each layer that is called inside the block.

    Bias, normalisation, activation and what has no layer (attention's products, blending, gradients) are not counted. A
    layer that is called twice counts twice; dilation costs nothing.

    Args:
        blocks: types of layers that use the kernel of their `conv` without calling that, and return a tuple with their
            map first, such as those that compute the same with fewer operations: the paper's are counted.
    """
    macs = []

    def count(layer, given, result):
        macs.append(layer_macs(layer, given[0], result))

    def count_block(block, given, result):
        macs.append(layer_macs(block.conv, given[0], result[0]))

    kinds = (nn.Conv2D, nn.Conv2DTranspose, nn.Linear)
    within = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, blocks)]
    counted = {id(block.conv) for block in within}
    layers = [x for x in network.sublayers(include_self=True) if isinstance(x, kinds) and id(x) not in counted]
    hooks = [layer.register_forward_post_hook(count) for layer in layers]
    hooks += [block.register_forward_post_hook(count_block) for block in within]
    try:
        yield macs
    finally:
        for hook in hooks:
            hook.remove()


def layer_macs(layer: nn.Layer, given: paddle.Tensor, result: paddle.Tensor) -> int:
    """MACs of one call of a layer: each weight is used once for each position of the map on its strided side.

    A convolution's weight [out, in / groups, k, k] meets every output position, a transposed one's [in, out / groups,
    k, k] every input position, a linear one's [in, out] every row.
    """
    uses = given if isinstance(layer, nn.Conv2DTranspose) else result
    if isinstance(layer, nn.Linear):
        return math.prod(layer.weight.shape) * math.prod(result.shape[:-1])
    return math.prod(layer.weight.shape) * uses.shape[0] * math.prod(uses.shape[2:])
