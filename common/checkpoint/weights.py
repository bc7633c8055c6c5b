"""Two things, never mixed: weights (one `.safetensors`, for inference) and state (a folder, to resume exactly).

Tensors are stored by structured name (`completion.conv1.weight`, `completion.conv1.weight/moment1`). Paddle's own
optimiser state is keyed by generated names, which change with the order of construction. Nothing here unpickles.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from common import __version__
from common.checkpoint.atomic import replace_whole
from common.checkpoint.paddle_files import NOTE, SUFFIX, noted_file, read_paddle_files
from common.checkpoint.safetensors_files import read_safetensors, texts_in
from common.checkpoint.state import newest_state
from common.checkpoint.tensors import load_network, named_tensors
from common.errors import UserError, first_line
from common.runtime.commands import next_command
from common.runtime.device import paddle
from common.runtime.strict_json import json_text
from common.runtime.terminal import escaped

MAX_DIMENSION = 65_536  # and pixels of a side, and layers: of no network is any number larger
SMALL_NETWORK = 10_000_000  # numbers, that any file may ask for: its errors are then told by name
OWN_TEXTS = {".json", ".jsonl"}  # suffixes of what a run notes
EXPORTED = {".pdmodel", ".pdiparams", ".onnx"}  # suffixes of what `export` writes


# ---- weights


def save_weights(path: str | Path, networks: dict[str, paddle.nn.Layer], metadata: dict) -> Path:
    """Writes the networks that inference needs, atomically.

    Args:
        path: ends in `.safetensors`.
        networks: name -> network; tensors are named `name.structured.name`.
        metadata: JSON values: the paper, the network's arguments, image size, step … The code version is added.
    """
    return save_tensors(path, {key: value.numpy() for key, value in named_tensors(networks).items()}, metadata)


def save_tensors(path: str | Path, tensors: dict[str, np.ndarray], metadata: dict) -> Path:
    """`save_weights` of arrays that are named already, such as `read_weights` returns."""
    text = {"metadata": json_text({**metadata, "code_version": __version__})}
    replace_whole(Path(path), lambda temporary: save_file(tensors, temporary, metadata=text))
    return Path(path)


def save_published(
    path: Path, networks: dict[str, paddle.nn.Layer], metadata: dict, codebase: str, licence: str, files: list[Path]
) -> None:
    """`save_weights` of converted networks, with where they come from, and prints their sizes.

    Args:
        metadata: that of `save_weights`; source, source_sha256 (of all files, one after the other) and licence are
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
        save_weights(path, networks, {**metadata, **origin})
    except (OSError, SafetensorError) as problem:
        raise UserError(f"cannot write {path}: {getattr(problem, 'strerror', None) or problem}") from None
    for name, network in networks.items():
        size = sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
        print(f"written: {path}, {name}, {size:,} parameters")


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Reads a `.safetensors` or `.pdparams` that this suite wrote, or the one in the folder of a run or of an export.

    Returns (tensors by name, metadata); of the folder of an export `exported` there is the .pdiparams of its program.

    Raises:
        UserError: no such file, of no kind of ours, or not written by this suite; of what people give instead (a
            checkpoint, an exported or a published network) it says what to do.
    """
    given, path = Path(path), weights_file(path)
    compiled = path != given and path.with_suffix(".pdiparams").is_file()
    if compiled:
        print(f"note: {given} is an exported network; its {path.name} is taken, and its program for long work")
    elif path != given:
        print(f"note: {given} is a folder; its {path.name} is taken")
    tensors, metadata = read_paddle_files(path) if path.suffix.lower() == SUFFIX else _read_safetensors(path)
    if "image_px" in metadata and metadata["image_px"] not in range(1, MAX_DIMENSION):
        raise UserError(f"{path} claims images with a side of {str(metadata['image_px'])[:50]} px")
    metadata.pop("exported", None)
    if compiled:
        metadata["exported"] = str(path.with_suffix(".pdiparams"))
    return tensors, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    try:
        tensors, described = read_safetensors(path)
    except Exception:  # what is none can raise anything
        raise UserError(_no_safetensors(path)) from None
    try:
        metadata = json.loads(described["metadata"])
        if not isinstance(metadata, dict):
            raise ValueError("no table")
    except (KeyError, TypeError, ValueError, RecursionError):
        if any("/" in key for key in tensors):  # an optimiser's
            raise UserError(_is_a_checkpoint(path, path.parent)) from None
        raise UserError(f"{path} was not written by this suite: it carries no description of its network") from None
    if any("\n" in text or escaped(text) != text for text in texts_in(metadata)):
        raise UserError(f"{path} describes its network with control characters: it is not of this suite")
    return tensors, metadata


def weights_file(path: str | Path) -> Path:
    """The weights file that is meant by a path: itself, or the one in the folder of a run or of an export.

    Raises:
        UserError: there is none; see `read_weights`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = _weights_in(path)
        if not path.is_file():
            raise UserError(f"there is no weights file {path}")
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror or problem}") from None
    return path


def _weights_in(folder: Path) -> Path:
    if (folder / "weights.safetensors").is_file():
        return folder / "weights.safetensors"
    if (folder / "progress.json").is_file():
        raise UserError(_is_a_checkpoint(folder, folder))
    if newest_state(folder):
        raise UserError(_is_a_checkpoint(folder, newest_state(folder)))
    if (folder / "options.json").is_file():
        raise UserError(
            f"{folder} is the folder of a run that has not written its weights yet: they come at its end; the command "
            "that trained it goes on from its newest checkpoint"
        )
    exported = [path for path in folder.glob("*.safetensors") if path.with_suffix(".pdiparams").is_file()]
    if len(exported) == 1:
        return exported[0]
    if not exported and (folder / NOTE).is_file():
        return noted_file(folder)
    if not exported and any(path.suffix in EXPORTED for path in folder.glob("*")):
        raise UserError(_is_exported(folder))
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*/weights.safetensors")])
    hint = "the .safetensors file that `train` or `convert` wrote"
    hint = f"one of the files in it, such as {files[0]}" if files else hint
    raise UserError(f"{folder} is a folder without weights.safetensors; give {hint}")


def _no_safetensors(path: Path) -> str:
    """What a file is that cannot be read as weights, by its name, and what to do."""
    if path.suffix.lower() in EXPORTED or path.with_suffix(".pdiparams").is_file():
        return _is_exported(path)
    said = f"{path} is no safetensors file (or a corrupt one); "
    if path.suffix.lower() == ".safetensors":
        return said + "train, convert or download it again"
    if path.suffix.lower() in OWN_TEXTS:
        return f"{path} holds no weights; give the .safetensors file that `train` or `convert` wrote"
    command = next_command("PAPER.convert", path, "OUT.safetensors")
    return f"{said}published .pth, .pdparams and .t7 files become one by `{command}`, PAPER being the paper's folder"


def _is_exported(path: Path) -> str:
    if path.is_file() and path.with_suffix(".safetensors").is_file():
        return f"{path} is a file of an exported network; give its folder, {path.parent}"
    return f"{path} is an exported network, for other programs; give the .safetensors file that it was made from"


def _is_a_checkpoint(given: Path, step: Path) -> str:
    """What to do with a checkpoint in place of weights; `step` is its own folder, RUN/checkpoints/step_0000200."""
    weights = step.absolute().parent.parent / "weights.safetensors"
    if step.absolute().parent.name != "checkpoints":
        todo = "give the weights.safetensors of its run"
    elif weights.is_file():
        todo = f"give {weights}"
    else:
        todo = f"the run writes {weights} at its end"
    return f"{given} is a checkpoint, which `train --resume` takes; for inference {todo}"


def build_network(
    kind: Callable[..., paddle.nn.Layer], arguments: dict, tensors: dict[str, np.ndarray], source: str | Path
) -> paddle.nn.Layer:
    """kind(**arguments), with Paddle's initial weights, as a file describes it.

    It is counted before it is built: a damaged or hostile description could ask for more memory than there is.

    Args:
        tensors: of the file, by name; the network may have as many numbers.
        source: the file, for errors.

    Raises:
        UserError: there is no such network, or it is far larger than what the file holds.
    """
    held = sum(array.size for array in tensors.values())
    planned = plan_network(kind, arguments, source)
    numbers = sum(math.prod(parameter.shape) for parameter in planned.parameters())
    if numbers > 4 * held + SMALL_NETWORK:
        raise UserError(f"{source} describes a far larger network than it holds: {numbers:,} weights, {held:,} there")
    return kind(**arguments)


def plan_network(kind: Callable[..., paddle.nn.Layer], arguments: dict, source: str | Path) -> paddle.nn.Layer:
    """kind(**arguments) without memory for its parameters. Raises UserError if there is no such network."""
    try:
        odd = [value for value in arguments.values() if isinstance(value, int) and not 0 <= value <= MAX_DIMENSION]
        if odd:
            raise ValueError(f"{odd[0]} is not from 0 to {MAX_DIMENSION}")
        with paddle.LazyGuard():
            return kind(**arguments)
    except Exception as problem:  # Paddle raises many kinds of exception for widths and sizes that make no sense
        raise UserError(f"{source} describes a network that cannot be built: {first_line(problem)}") from None


def load_trained(
    kind: Callable[..., paddle.nn.Layer],
    path: str | Path,
    paper: str,
    name: str,
    what: str,
    content: tuple | None = None,
) -> paddle.nn.Layer:
    """One of the networks of a weights file, in evaluation mode; its `metadata` say what it was trained on.

    Args:
        kind: is called with the arguments that the file has under `name`.
        what: the network in words, for errors.
        content: what `read_weights` returned, for several networks of one file.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, metadata = content or read_weights(path)
    if metadata.get("paper") != paper or not isinstance(metadata.get(name), dict):
        raise UserError(f"{path} holds no {what} but weights of {metadata.get('paper', 'unknown')}")
    network = build_network(kind, metadata[name], tensors, path)
    load_network(network, tensors, name, path)
    network.eval()
    network.metadata = metadata
    return network
