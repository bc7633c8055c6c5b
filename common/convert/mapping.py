"""What every `convert` command does around a paper's key map: opens the file, places its tensors strictly, writes.

A paper keeps what only it can know: how its published networks are recognised, and which tensor is which of ours.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.checkpoint.tensors import load_network
from common.checkpoint.weights import plan_network, save_published
from common.convert.options import ConvertSettings
from common.convert.tensorflow_checkpoints import checkpoint_files, checkpoint_in, is_checkpoint, read_checkpoint
from common.convert.torch_files import read_published, weights_file_in
from common.errors import UserError
from common.runtime.commands import next_command
from common.runtime.outputs import check_output

Tensors = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Parts of PyTorch's layers -> ours.
CONV = {"weight": "weight", "bias": "bias"}
NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
TORCH7_PARTS = {*NORM, "running_std"}  # what else Torch7 saves of a layer are gradients and buffers


@dataclass(frozen=True)
class Source:
    """What is known of a codebase beside its tensors."""

    codebase: str
    licence: str


# ---- reading


def published_file(options: ConvertSettings, others: str = "", beside: Iterable[Path] = ()) -> Path:
    """The weights file that the options name, or that their folder holds; checks the output too.

    Args:
        others: see `weights_file_in`.
        beside: other files that are read, and so may not be the output.

    Raises:
        UserError: the folder holds no such file or several, or the output cannot be written or is what is read.
    """
    path = weights_file_in(checkpoint_in(options.published), others)
    check_output(options.output, [".safetensors"], [path, options.published, *beside])
    return path


def read_tensors(path: Path) -> Tensors:
    """Every tensor of a published file of any known kind, by name. Raises UserError if it cannot be read."""
    return read_checkpoint(path) if is_checkpoint(path) else read_published(path)


def print_recognised(source: Source, count: int) -> None:
    print(f"recognised: {source.codebase}, {count} tensors; licence: {source.licence}")


def listing(names: Iterable[str], most: int = 4) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def inside(tensors: Tensors, prefix: str) -> Tensors:
    """Those below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def last_part(name: str) -> str:
    """`weight` of `conv1.weight` or `conv1/weight`."""
    return re.split(r"[./]", name)[-1]


# ---- placing


def shapes_of(kind: Callable, arguments: dict, path: Path) -> Shapes:
    """Shapes of our network's tensors in the order of its layers, without memory for them: a corrupt file may describe
    gigabytes. Raises UserError if there is no such network."""
    return {name: tuple(value.shape) for name, value in plan_network(kind, arguments, path).state_dict().items()}


def shape_of(given: Tensors, name: str, dimensions: int, path: Path) -> tuple[int, ...]:
    """The shape of a published tensor. Raises UserError if it is missing, empty or has other dimensions."""
    if name not in given:
        raise UserError(f"{path} lacks the tensor {name}")
    shape = given[name].shape
    if len(shape) != dimensions or min(shape) < 1:
        raise UserError(f"{path}: {name} has shape {list(shape)}, its place asks {dimensions} dimensions")
    return shape


def take(given: Tensors, name: str, path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Removes a published tensor from `given`, so that in the end nothing may be left.

    Raises:
        UserError: it is missing, is not of the shape wanted, or holds no floats.
    """
    if name not in given:
        raise UserError(f"{path} lacks the tensor {name}")
    array = given.pop(name)
    if shape is not None and array.shape != shape:
        raise UserError(f"{path}: {name} has shape {list(array.shape)}, its place asks {list(shape)}")
    if array.dtype.kind != "f":
        raise UserError(f"{path}: {name} holds {array.dtype} numbers, which no weights are")
    return array


def take_layer(given: Tensors, published: str, ours: str, parts: dict[str, str], path: Path) -> Tensors:
    """`take` for the parts of a layer, which get our names."""
    return {f"{ours}.{new}": take(given, f"{published}.{old}", path) for old, new in parts.items()}


def fill(network, name: str, tensors: Tensors, path: Path):
    """The network with these tensors, and no other. Raises UserError where names or shapes do not fit."""
    load_network(network, {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}, name, path)
    return network


def print_arguments(kind: str, arguments: dict) -> None:
    print(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in arguments.items()))


def finish(given: Tensors, count: int, left_out: Iterable[str], path: Path) -> None:
    """Refuses tensors that found no place, and prints how many did.

    Args:
        given: what `take` left.
        left_out: names of tensors that are known to serve training only.
    """
    refuse_strays(given, path)
    print(f"mapped: {count} tensors; left out: {listing(sorted(set(map(last_part, left_out))), 8) or 'none'}")


def refuse_strays(names: Iterable[str], path: Path) -> None:
    """Raises UserError if there are tensors that belong to no layer."""
    if names:
        raise UserError(f"{path} holds tensors that belong to no layer: {listing(names)}")


# ---- writing


def write(
    output: Path, paper: str, networks: dict, metadata: dict, source: Source, path: Path, beside: Iterable[Path] = ()
) -> Path:
    """Writes networks with their arguments, where they come from, and what `infer` must know of them besides.

    Args:
        path, beside: the published file, and others that were read; the step is told by the first one's name.
    """
    files = [*(checkpoint_files(path) if is_checkpoint(path) else [path]), *beside]
    step = re.search(r"-(\d{1,12})(\.index|\.meta|\.data-.*)?$", path.name)
    about = {"paper": paper, "preset": "published", "step": int(step[1]) if step else 0}
    about |= {kind: network.arguments for kind, network in networks.items()}
    save_published(output, networks, about | metadata, source.codebase, source.licence, files)
    return output


def print_infer(paper: str, weights: Path) -> None:
    """Prints the command that completes a photo with what was written."""
    files = "--input", "PHOTO", "--mask", "MASK", "--output", "OUT.png"
    print("next: " + next_command(f"{paper}.infer", "--weights", weights, *files))
