"""Two things, never mixed: weights (one `.safetensors`, for inference) and state (a folder, to resume exactly).

Tensors are stored by structured name (`completion.conv1.weight`, `completion.conv1.weight/moment1`). Paddle's own
optimiser state is keyed by generated names, which change with the order of construction. Nothing here unpickles.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from common import __version__
from common.device import paddle
from common.errors import UserError, first_line

KEEP_LAST = 2
HEADER_BYTES = 100_000_000  # of a safetensors file, its own limit
MOST_CHANNELS = 65_536  # and pixels of a side, and layers: of no network is any number larger
SMALL_NETWORK = 10_000_000  # numbers, that any file may ask for: its errors are then told by name


# ---- weights


def save_weights(path: str | Path, networks: dict[str, paddle.nn.Layer], metadata: dict) -> Path:
    """Writes the networks that inference needs, atomically.

    Args:
        path: ends in `.safetensors`.
        networks: name -> network; tensors are named `name.structured.name`.
        metadata: JSON values: the paper, the network's arguments, picture size, step … The code version is added.
    """
    path = Path(path)
    tensors = {key: value.numpy() for key, value in _named_tensors(networks).items()}
    text = {"metadata": json.dumps({**metadata, "code_version": __version__})}
    replace_whole(path, lambda temporary: save_file(tensors, temporary, metadata=text))
    return path


def save_published(
    path: Path, networks: dict[str, paddle.nn.Layer], facts: dict, codebase: str, licence: str, files: list[Path]
) -> None:
    """`save_weights` of converted networks, with where they come from, and prints their sizes.

    Args:
        facts: the metadata of `save_weights`; source, source_sha256 (of all files, one after the other) and licence are
            added.
        codebase, licence: of the published weights.
        files: they were read from.

    Raises:
        UserError: the file cannot be written.
    """
    origin = {
        "source": f"{codebase}, {', '.join(file.name for file in files)}",
        "source_sha256": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),  # cat FILES | …
        "licence": licence,
    }
    try:
        save_weights(path, networks, {**facts, **origin})
    except (OSError, SafetensorError) as problem:
        raise UserError(f"cannot write {path}: {getattr(problem, 'strerror', None) or problem}") from None
    for name, network in networks.items():
        size = sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
        print(f"written: {path}, {name}, {size:,} parameters")


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Reads a `.safetensors` file that `save_weights` wrote.

    Returns:
        (tensors by name, metadata).

    Raises:
        UserError: no such file, not safetensors, or not written by this suite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        tensors = load_file(path)
    except Exception:  # what is none can raise anything
        raise UserError(
            f"{path} is no safetensors file (or a broken one); published .pth, .pdparams and .t7 files are "
            "brought over by the paper's `convert` command"
        ) from None
    try:
        facts = json.loads(header["__metadata__"]["metadata"])
        if not isinstance(facts, dict):
            raise ValueError("no table")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path} was not written by this suite: it carries no description of its network") from None
    if "image_px" in facts and facts["image_px"] not in range(1, MOST_CHANNELS):
        raise UserError(f"{path} claims pictures with a side of {str(facts['image_px'])[:50]} px")
    return tensors, facts


def build_network(
    kind: Callable[..., paddle.nn.Layer], arguments: dict, tensors: dict[str, np.ndarray], source: str | Path
) -> paddle.nn.Layer:
    """kind(**arguments), with Paddle's first weights, as a file describes it.

    It is counted before it is built: a damaged or hostile description could ask for more memory than there is.

    Args:
        tensors: of the file, by name; the network may have as many numbers.
        source: the file, for errors.

    Raises:
        UserError: there is no such network, or it is far larger than what the file holds.
    """
    held = sum(array.size for array in tensors.values())
    try:
        odd = [value for value in arguments.values() if isinstance(value, int) and not 0 <= value <= MOST_CHANNELS]
        if odd:
            raise ValueError(f"{odd[0]} is not from 0 to {MOST_CHANNELS}")
        with paddle.LazyGuard():
            planned = kind(**arguments)
    except Exception as problem:  # Paddle raises many kinds of exception for widths and sizes that make no sense
        raise UserError(f"{source} describes a network that cannot be built: {first_line(problem)}") from None
    numbers = sum(math.prod(parameter.shape) for parameter in planned.parameters())
    if numbers > 4 * held + SMALL_NETWORK:
        raise UserError(f"{source} describes a far larger network than it holds: {numbers:,} weights, {held:,} there")
    return kind(**arguments)


def load_network(network: paddle.nn.Layer, tensors: dict[str, np.ndarray], name: str, source: str | Path = "") -> None:
    """Fills a network from the tensors named `name.…`, strictly.

    Raises:
        UserError: a tensor is missing, left over or of another shape; the first few are named.
    """
    given = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ".")}
    wanted = network.state_dict()
    problems = [f"{name}.{key} is missing" for key in wanted if key not in given]
    problems += [f"{name}.{key} is not part of the network" for key in given if key not in wanted]
    for key, tensor in wanted.items():
        if key in given and list(given[key].shape) != list(tensor.shape):
            problems.append(f"{name}.{key} has shape {list(given[key].shape)}, the network {list(tensor.shape)}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(f"{source or 'these weights'} do not fit the network: {'; '.join(problems[:3])}{more}")
    for key, tensor in wanted.items():
        tensor.set_value(given[key].astype(_numpy_dtype(tensor)))


def _numpy_dtype(tensor: paddle.Tensor) -> str:
    return str(tensor.dtype).rpartition(".")[2]


def _named_tensors(networks: dict[str, paddle.nn.Layer]) -> dict[str, paddle.Tensor]:
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


# ---- state


def save_state(folder: str | Path, networks: dict, optimizers: dict, progress: dict) -> Path:
    """Writes everything that a run needs to go on exactly, as the folder `step_0000200` inside `folder`.

    Chance needs no saving: every random choice of a run is a function of (seed, step).

    Args:
        networks: name -> network.
        optimizers: name -> optimiser of the network of the same name.
        progress: JSON values; `step` is the number of steps done, `score` (optional) ranks checkpoints, larger is
            better.

    Raises:
        OSError: the disk is full or not writable. The checkpoints written before stay whole.
    """
    final = Path(folder) / f"step_{progress['step']:07d}"
    if read_progress(final) is not None:
        return final  # the same step of the same run
    _remove(final)
    tensors = {key: value.numpy() for key, value in _named_tensors(networks).items()}
    for name, optimizer in optimizers.items():
        tensors |= {key: value.numpy() for key, value in _named_moments(name, networks[name], optimizer).items()}

    def write(temporary: Path) -> None:
        temporary.mkdir()
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "progress.json").write_text(json.dumps(progress, indent=1))
        for path in temporary.iterdir():
            _flush(path)

    replace_whole(final, write)
    _prune(Path(folder))
    return final


def load_state(folder: str | Path, networks: dict, optimizers: dict) -> dict:
    """Brings networks and optimisers to the state that `save_state` wrote, and returns its progress.

    Raises:
        UserError: the folder is no whole checkpoint, or it does not fit the networks or optimisers.
    """
    folder = Path(folder)
    progress = read_progress(folder)
    if progress is None:
        raise UserError(f"{folder} is no whole checkpoint")
    try:
        tensors = load_file(folder / "state.safetensors")
    except Exception as problem:  # what is none can raise anything
        raise UserError(f"{folder / 'state.safetensors'} is broken: {first_line(problem)}") from None
    given = {key for key in tensors if "/" in key}
    stepped = {name for name in optimizers if any(key.startswith(name + ".") for key in given)}
    for name in stepped:  # an optimiser that had not stepped yet has no tensors, and gets none
        _create_moments(networks[name], optimizers[name])
    for name in optimizers.keys() - stepped:  # but may have stepped since, if the run goes back to this state
        for key, tensor in _named_moments(name, networks[name], optimizers[name]).items():
            if not key.endswith("pow_acc"):
                tensor.set_value(paddle.zeros_like(tensor))
    for name, network in networks.items():
        load_network(network, {key: value for key, value in tensors.items() if "/" not in key}, name, folder)
    wanted = {}
    for name in stepped:
        wanted |= _named_moments(name, networks[name], optimizers[name])
    if wanted.keys() != given:
        odd = sorted(wanted.keys() ^ given)
        raise UserError(f"{folder} was written by another optimiser: {', '.join(odd[:3])} and {len(odd)} in all differ")
    for key, tensor in wanted.items():
        if tensors[key].size != math.prod(tensor.shape) or tensors[key].dtype != _numpy_dtype(tensor):
            raise UserError(f"{folder}: {key} is {tensors[key].dtype} {list(tensors[key].shape)}, not {tensor.shape}")
        tensor.set_value(tensors[key].reshape(tensor.shape))
    return progress


def newest_state(folder: str | Path) -> Path | None:
    """The newest whole checkpoint below a folder, or None."""
    whole = [path for path in Path(folder).glob("step_*") if read_progress(path) is not None]
    return max(whole, key=lambda path: int(path.name[5:]), default=None)


def read_progress(folder: Path) -> dict | None:
    """What `save_state` noted, or None when the folder is no whole checkpoint."""
    if not re.fullmatch(r"step_\d+", folder.name) or not (folder / "state.safetensors").is_file():
        return None
    try:
        progress = json.loads((folder / "progress.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(progress, dict) and progress.get("step") == int(folder.name[5:])
    return progress if whole and isinstance(progress.get("score", 0), int | float) else None


def _named_moments(
    name: str, network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer
) -> dict[str, paddle.Tensor]:
    """The optimiser's tensors by structured name: `completion.conv1.weight/moment1`."""
    moments = {}
    state = {key: value for key, value in optimizer.state_dict().items() if isinstance(value, paddle.Tensor)}
    for key, parameter in network.named_parameters():
        prefix = parameter.name + "_"
        for generated, tensor in state.items():
            if generated.startswith(prefix):
                kind = re.sub(r"_\d+$", "", generated[len(prefix) :]).strip("_")
                moments[f"{name}.{key}/{kind}"] = tensor
    return moments


def _create_moments(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    """Takes one step along a gradient of zero: Paddle creates an optimiser's tensors only at its first step."""
    optimizer.clear_grad()
    sum((p * 0).sum() for p in network.parameters() if not p.stop_gradient).backward()
    optimizer.step()
    optimizer.clear_grad()


# ---- disk


def replace_whole(final: Path, write) -> None:
    """Calls write(temporary path) beside `final` and renames: `final` is either whole or as it was before."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".writing-{final.name}")
    _remove(temporary)
    try:
        write(temporary)
        if temporary.is_file():
            _flush(temporary)
        temporary.replace(final)
        _flush(final.parent)
    except BaseException:
        _remove(temporary)
        raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Keeps the newest KEEP_LAST checkpoints and the one with the best score."""
    known = {path: read_progress(path) for path in sorted(folder.glob("step_*"))}
    whole = [path for path, progress in known.items() if progress is not None]
    keep = set(whole[-KEEP_LAST:])
    scored = [path for path in whole if "score" in known[path]]
    if scored:
        keep.add(max(scored, key=lambda path: known[path]["score"]))
    for path in known.keys() - keep:
        _remove(path)
