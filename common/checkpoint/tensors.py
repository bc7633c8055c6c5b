"""The tensors of networks by structured name, and networks filled from them, strictly."""

from pathlib import Path

import numpy as np

from common.errors import UserError
from common.runtime.device import paddle


def load_network(network: paddle.nn.Layer, tensors: dict[str, np.ndarray], name: str, source: str | Path = "") -> None:
    """Fills a network from the tensors named `name.…`, strictly.

    Raises:
        UserError: a tensor is missing, left over, of another shape, of whole numbers, or holds a number that is not
            finite; the first few are named.
    """
    given = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}
    wanted = network.state_dict()
    problems = [f"{name}.{key} is missing" for key in wanted if key not in given]
    problems += [f"{name}.{key} is not part of the network" for key in given if key not in wanted]
    for key, tensor in wanted.items():
        if key in given and list(given[key].shape) != list(tensor.shape):
            problems.append(f"{name}.{key} has shape {list(given[key].shape)}, the network {list(tensor.shape)}")
        elif key in given and given[key].dtype.kind in "iub":
            problems.append(f"{name}.{key} is {given[key].dtype}, the network {numpy_dtype(tensor)}")
        elif key in given and not np.isfinite(given[key]).all():
            problems.append(f"{name}.{key} holds NaN or infinity")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{source or 'these weights'} do not fit the network: {'; '.join(problems[:3])}{more}")
    for key, tensor in wanted.items():
        tensor.set_value(given[key].astype(numpy_dtype(tensor)))


def numpy_dtype(tensor: paddle.Tensor) -> str:
    return str(tensor.dtype).rpartition(".")[2]


def named_tensors(networks: dict[str, paddle.nn.Layer]) -> dict[str, paddle.Tensor]:
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
