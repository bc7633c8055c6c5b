"""An exponential moving average (EMA) of a network's parameters, which is what inference uses.

The average is a second network of the same kind that is never trained itself. It is one of a run's networks, so that
checkpoints hold it and a run resumes it exactly.
"""

from collections.abc import Iterable

import paddle


def average_of(network: paddle.nn.Layer) -> paddle.nn.Layer:
    """Build the average of a network: of its kind and arguments, equal to it at the start, in evaluation mode."""
    average = type(network)(**network.arguments)
    average.set_state_dict(network.state_dict())
    average.eval()
    return average


def update_average(average: paddle.nn.Layer, network: paddle.nn.Layer, decay: float) -> None:
    """Move the average's parameters towards the network's: a <- decay a + (1 - decay) w. Buffers stay as they are."""
    with paddle.no_grad():
        for mean, now in zip(average.parameters(), network.parameters(), strict=True):
            if not now.stop_gradient:
                paddle.assign(decay * mean + (1 - decay) * now, mean)  # set_value of Paddle 2.6 goes by the host


def recompute_batch_norm_stats(network: paddle.nn.Layer, batches: Iterable[tuple]) -> None:
    """Re-estimate batch norm's running statistics as plain means over some batches; ends in evaluation mode.

    The features of averaged parameters have other means and variances than the network's had at any step: with those
    statistics an averaged DCGAN makes grey images.

    Args:
        batches: tuples of the network's inputs.
    """
    norms = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momenta = [norm._momentum for norm in norms]
    network.train()
    paddle.jit.enable_to_static(False)  # a compiled network keeps the momentum of its first call
    try:
        with paddle.no_grad():
            for count, inputs in enumerate(batches):
                for norm in norms:
                    norm._momentum = count / (count + 1)  # a plain mean over the batches
                network(*inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm._momentum = momentum
        paddle.jit.enable_to_static(True)
        network.eval()
