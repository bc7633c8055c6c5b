"""A `.pdparams` as plain `paddle.load` and `set_state_dict` take it: one network, float32, names without a prefix.

What such a file cannot carry, the arguments of the network and the size of its images, lies beside it in `weights.json`
with the names of the files. Reading unpickles nothing.
"""

import json
from pathlib import Path

import numpy as np

from common.checkpoint.atomic import replace_whole
from common.checkpoint.pickled_tensors import PickledArray, read_pickles
from common.errors import UserError
from common.runtime.commands import next_command
from common.runtime.device import paddle
from common.runtime.strict_json import json_text

SUFFIX = ".pdparams"
NOTE = "weights.json"
PADDLES_OWN = "StructuredToParameterName@@"  # what paddle.save of Paddle 2 puts beside the tensors


def write_paddle_files(folder: Path, tensors: dict[str, np.ndarray], metadata: dict) -> list[Path]:
    """Writes NETWORK.pdparams for each network, and the metadata to `weights.json`, each atomically.

    Args:
        tensors, metadata: what `read_weights` returns; tensors are named `network.structured.name`.

    Returns:
        The files written.
    """
    networks = dict.fromkeys(name.partition(".")[0] for name in tensors)
    for network in networks:
        own = {name.removeprefix(f"{network}."): x for name, x in tensors.items() if name.startswith(f"{network}.")}
        content = {name: paddle.to_tensor(array.astype("float32"), place="cpu") for name, array in own.items()}
        replace_whole(folder / f"{network}{SUFFIX}", lambda path, content=content: paddle.save(content, str(path)))
    files = {network: f"{network}{SUFFIX}" for network in networks}
    note = json_text({"files": files, "metadata": metadata}, indent=1)
    replace_whole(folder / NOTE, lambda temporary: temporary.write_text(note + "\n"))
    return [*(folder / name for name in files.values()), folder / NOTE]


def read_paddle_files(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Tensors and metadata of a `.pdparams` with `weights.json` beside it, and of the other files that this names.

    Raises:
        UserError: there is no `weights.json`, it does not name the file, or a file is corrupt or holds something else.
    """
    files, metadata = _read_note(path)
    tensors = {}
    for network, name in files.items():
        tensors |= {f"{network}.{key}": array for key, array in _read_state_dict(path.with_name(name)).items()}
    return tensors, metadata


def noted_file(folder: Path) -> Path:
    """The first `.pdparams` that the folder's `weights.json` names; reading it reads them all."""
    return folder / next(iter(_read_note(folder / NOTE)[0].values()))


def _read_note(path: Path) -> tuple[dict[str, str], dict]:
    """Which file is which network, and the metadata, from the note beside a file, or from a note itself."""
    note = path.with_name(NOTE)
    if not note.is_file():
        raise UserError(
            f"{path} does not say which network it belongs to, and there is no {NOTE} beside it, which "
            "`export --format pdparams` writes (one of the same settings can be copied there); what others published "
            f"becomes a weights file by `{next_command('PAPER.convert', path, 'OUT.safetensors')}`"
        )
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        files, metadata = dict(content["files"]), dict(content["metadata"])
        if not files or not all(Path(name).name == name for name in files.values()):
            raise ValueError("a file elsewhere")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{note} is corrupt or was not written by `export --format pdparams`") from None
    if path != note and path.name not in files.values():
        raise UserError(
            f"{note} is about {', '.join(files.values())}, not {path.name}; rename the file, or edit that one"
        )
    return files, metadata


def _read_state_dict(path: Path) -> dict[str, np.ndarray]:
    try:
        content = read_pickles(path)
        content = {key: value for key, value in content.items() if key != PADDLES_OWN}
        arrays = {key: value[1] if isinstance(value, tuple) else value for key, value in content.items()}
        if not all(isinstance(key, str) and isinstance(value, PickledArray) for key, value in arrays.items()):
            raise ValueError("something else than tensors in it")
        arrays = {key: value.array for key, value in arrays.items()}
        if any(array is None or array.dtype.kind != "f" for array in arrays.values()):
            raise ValueError("something else than floats in it")
    except UserError:
        raise
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror or problem}") from None
    except Exception as problem:  # a corrupt file can raise anything, down to a MemoryError
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise UserError(f"{path} is no state_dict that paddle.save wrote ({reason})") from None
    return arrays
