"""What the PyTorch peers share: our weights in their networks, Adam, and the two kinds of work."""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.exchange import DEVICE, Side, losses_of_steps

device = torch.device("cuda" if os.environ.get(DEVICE) == "gpu" else "cpu")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# In the peer's favour: the softmax of contextual attention leaves numbers below 1e-38, with which its products would
# take three times as long. Paddle's softmax has no exponents below -64.
torch.set_flush_denormal(True)

NAMES = {"_mean": "running_mean", "_variance": "running_var", "scale": "weight"}  # ours -> PyTorch's


def fill(network: nn.Module, tensors: dict[str, np.ndarray], name: str) -> nn.Module:
    """Gives a network our weights, those named `name.…`. Raises ValueError where one is missing or left over."""
    state = {}
    for key, value in tensors.items():
        if key.startswith(name + "."):
            module, _, last = key[len(name) + 1 :].rpartition(".")
            last = NAMES.get(last, last)
            linear = value.ndim == 2  # ours are [inputs, outputs]
            state[f"{module}.{last}" if module else last] = torch.from_numpy(value.T.copy() if linear else value)
    missing, extra = network.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or extra:
        raise ValueError(f"{name}: missing {missing}, left over {extra}")
    return network.to(device)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def adam(network: nn.Module, settings: dict) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), **settings)


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def training(step: Callable[[], dict], plan: dict) -> Side:
    """A training step, which returns its losses by name, as work."""
    return Side(lambda: [loss.item() for loss in step().values()], losses_of_steps(step, plan["after_updates"]))


def inference(network: nn.Module, tensors: dict[str, np.ndarray]) -> Side:
    """A network's pass from arrays to arrays as work, in whatever mode it is."""
    inputs = [tensors[name] for name in sorted(tensors) if name.startswith("input")]

    def work() -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = network(*(torch.from_numpy(array).to(device) for array in inputs))
        return [output.cpu().numpy() for output in (outputs if isinstance(outputs, tuple) else [outputs])]

    return Side(work, {f"output{number}": output for number, output in enumerate(work())})
