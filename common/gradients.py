"""The steps of networks that learn from one another: gradients that go where they should and nowhere else."""

import contextlib

import paddle


def update(optimizer: paddle.optimizer.Optimizer, loss) -> None:
    """One step of an optimiser, from clean gradients."""
    optimizer.clear_grad()
    loss.backward()
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
