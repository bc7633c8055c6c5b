"""The steps of networks that learn from one another: gradients that go where they should and nowhere else."""

import contextlib

from common import processes

import paddle


def update(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, loss) -> None:
    """One step of a network's optimiser, from clean gradients; they are the means over all processes of the run."""
    optimizer.clear_grad()
    loss.backward()
    processes.average_gradients(network)
    optimizer.step()


@contextlib.contextmanager
def frozen(network: paddle.nn.Layer):
    """Lets gradients pass through a network without collecting any on its own weights."""
    weights = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
    for weight in weights:
        weight.stop_gradient = True
    try:
        yield
    finally:
        for weight in weights:
            weight.stop_gradient = False
