"""Our side of the rows: each paper's own training step and network, as its `train` and `infer` run them.

Chance is fixed, so that the peer can begin with the same weights and inputs.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side
from common.cpu_layers.layers import accelerate
from common.deploy.engine import Compiled
from common.runtime.device import open_device, paddle

SEED = 0

open_device(os.environ.get(exchange.DEVICE, "cpu"))


class Pictures:
    """An endless set of smooth images by chance, uint8 [height, width, 3]; the size is aligned CelebA's."""

    def __init__(self, height: int = 218, width: int = 178):
        self.height, self.width = height, width

    def __getitem__(self, index: int) -> np.ndarray:
        coarse = np.random.default_rng((SEED, index)).integers(0, 256, (9, 7, 3), np.uint8)
        return cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC)


def batch(make: Callable, count: int) -> tuple[np.ndarray, ...]:
    """A batch as the readers give it to training: samples of `make` (index, rng), stacked."""
    samples = [make(index, np.random.default_rng((SEED, 1, index))) for index in range(count)]
    return tuple(np.stack(column) for column in zip(*samples, strict=True))


def training(
    folder: str | Path,
    nets: dict,
    optimizers: dict,
    step: Callable[[], dict],
    inputs: dict[str, np.ndarray],
    plan: dict,
    after_updates: Sequence[str] = (),
) -> Side:
    """A training step as work, with the layers that `train` swaps in. Its first losses are the check.

    Args:
        nets, optimizers: by name, as the paper's `build` makes them.
        step: one step of both networks, returns the losses by name.
        inputs: of the step, which the peer gets too.
        plan: what the peer needs to build the same: layer tables and arguments. The optimisers' settings are added.
        after_updates: losses that a step computes after updates of networks that they come from.
    """
    adam = {name: adam_settings(optimizer) for name, optimizer in optimizers.items()}
    exchange.write(folder, {**plan, "adam": adam, "after_updates": after_updates}, {**weights(nets), **inputs})
    for network in nets.values():
        accelerate(network)
    check = exchange.losses_of_steps(step, after_updates)
    return Side(lambda: [loss.item() for loss in step().values()], check)


def inference(
    folder: str | Path,
    network: paddle.nn.Layer,
    plan: dict,
    inputs: list[np.ndarray],
    compiled: Callable,
    set_up: Callable = contextlib.nullcontext,
) -> Side:
    """A network's pass from arrays to arrays as work, compiled as `infer` does. Its outputs are the check.

    Args:
        plan: what the peer needs to build the same.
        compiled: the network after its paper's `infer.faster`.
        set_up: a context for each pass.

    Raises:
        RuntimeError: it does not compile.
    """
    network.eval()
    arrays = {f"input{number}": array for number, array in enumerate(inputs)}
    exchange.write(folder, plan, {**weights({"network": network}), **arrays})

    with paddle.no_grad(), set_up():
        if isinstance(compiled, Compiled):  # on a GPU it is the network itself
            compiled.compile_now(*map(paddle.to_tensor, inputs))

    def work() -> list[np.ndarray]:
        with paddle.no_grad(), set_up():
            outputs = compiled(*(paddle.to_tensor(array) for array in inputs))
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple | list) else [outputs])]

    return Side(work, {f"output{number}": output for number, output in enumerate(work())})


def weights(nets: dict) -> dict[str, np.ndarray]:
    """All tensors of networks, `name.structured.name`."""
    return {f"{name}.{key}": value.numpy() for name, net in nets.items() for key, value in net.state_dict().items()}


def adam_settings(optimizer: paddle.optimizer.Adam) -> dict:
    """What torch.optim.Adam takes."""
    return {"lr": optimizer.get_lr(), "betas": [optimizer._beta1, optimizer._beta2], "eps": optimizer._epsilon}
