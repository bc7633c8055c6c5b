"""State: a folder with everything that a run needs to go on exactly. See `weights` for what inference needs."""

import json
import math
import re
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from common.checkpoint.atomic import flush, remove, replace_whole
from common.checkpoint.tensors import load_network, named_tensors, numpy_dtype
from common.errors import UserError, first_line
from common.runtime.device import paddle
from common.runtime.strict_json import json_text

KEEP_LAST = 2
CHECKSUM_BLOCK = 1 << 18  # stays in a processor's cache
STATE, PROGRESS, CHECKSUMS = "state.safetensors", "progress.json", "checksums.json"


class DamagedError(UserError):
    """A checkpoint is not whole: a file is missing, or is not what was written."""


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
    tensors = {key: value.numpy() for key, value in named_tensors(networks).items()}
    for name, optimizer in optimizers.items():
        tensors |= {key: value.numpy() for key, value in _named_moments(name, networks[name], optimizer).items()}

    def write(temporary: Path) -> None:
        temporary.mkdir()
        save_file(tensors, temporary / STATE)
        (temporary / PROGRESS).write_text(json_text(progress, indent=1))
        with ThreadPoolExecutor(1) as pool:  # while the disk is written to
            sums = pool.submit(lambda: {name: _checksum(temporary / name) for name in (STATE, PROGRESS)})
            flush(temporary / STATE)
            flush(temporary / PROGRESS)
        (temporary / CHECKSUMS).write_text(json_text(sums.result(), indent=1))
        flush(temporary / CHECKSUMS)
        remove(final)  # one of the same step, which another run left

    replace_whole(final, write)
    _prune(Path(folder))
    return final


def load_state(folder: str | Path, networks: dict, optimizers: dict) -> dict:
    """Brings networks and optimisers to the state that `save_state` wrote, and returns its progress.

    Raises:
        DamagedError: the folder is no whole checkpoint.
        UserError: it cannot be read, or does not fit the networks or optimisers.
    """
    folder = Path(folder)
    progress, tensors = _read_state(folder)
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
        if tensors[key].size != math.prod(tensor.shape) or tensors[key].dtype != numpy_dtype(tensor):
            raise UserError(f"{folder}: {key} is {tensors[key].dtype} {list(tensors[key].shape)}, not {tensor.shape}")
        tensor.set_value(tensors[key].reshape(tensor.shape))
    return progress


def all_states(folder: str | Path) -> list[Path]:
    """The checkpoints below a folder, the newest first. Whether one is whole is known when it is loaded."""
    found = [path for path in Path(folder).glob("step_*") if re.fullmatch(r"step_\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_state(folder: str | Path) -> Path | None:
    """The newest checkpoint below a folder whose progress can be read, or None."""
    return next((path for path in all_states(folder) if read_progress(path) is not None), None)


def set_aside(folder: Path, why: str) -> Path:
    """Renames a checkpoint to WHY-step_0000200, where no run finds it."""
    aside = folder.with_name(f"{why}-{folder.name}")
    remove(aside)
    return folder.rename(aside)


def read_progress(folder: Path) -> dict | None:
    """What `save_state` noted, or None when it cannot be read."""
    try:
        return _read_progress(folder)
    except UserError:
        return None


def _read_state(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The progress and tensors of a checkpoint whose checksums hold; one of before there were checksums has none."""
    progress = _read_progress(folder)
    with ThreadPoolExecutor(1) as pool:
        damage = pool.submit(_find_damage, folder)
        loading: Future = Future()
        try:
            loading.set_result(load_file(folder / STATE))
        except Exception as problem:  # what is no safetensors file can raise anything
            loading.set_exception(problem)
    if damage.result():
        raise DamagedError(f"{folder} is damaged: {damage.result()}")
    problem = loading.exception()
    if problem is None or isinstance(problem, MemoryError):
        return progress, loading.result()
    if (
        (folder / CHECKSUMS).exists()
        or isinstance(problem, PermissionError)
        or any(words in str(problem).lower() for words in ("os error", "ioerror"))
    ):
        raise UserError(f"cannot read {folder / STATE}: {first_line(problem)}")
    raise DamagedError(f"{folder} is damaged: {STATE}: {first_line(problem)}")


def _read_progress(folder: Path) -> dict:
    try:
        progress = json.loads((folder / PROGRESS).read_text())
    except FileNotFoundError:
        raise DamagedError(f"{folder} is damaged: {PROGRESS} is missing") from None
    except PermissionError as problem:
        raise UserError(f"cannot read {folder / PROGRESS}: {problem.strerror}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise DamagedError(f"{folder} is damaged: {PROGRESS}: {first_line(problem)}") from None
    problem = _odd_progress(folder, progress)
    if problem:
        raise DamagedError(f"{folder} is damaged: {problem}")
    return progress


def _odd_progress(folder: Path, progress) -> str | None:
    """What cannot be in progress.json, or None."""
    if not isinstance(progress, dict) or type(progress.get("step")) is not int:
        return f"{PROGRESS} is no table with a step"
    if f"step_{progress['step']:07d}" != folder.name:
        return f"{PROGRESS} is that of step {str(progress['step'])[:20]}"
    if not (folder / STATE).is_file():
        return f"{STATE} is missing"
    kinds = {
        "score": int | float | None,
        "skipped": int,
        "computed_by": str,
        "scalers": dict,
        "data": dict,
        "learning_rates": dict,
        "schedule_steps": int,
        "run": str,
    }
    odd = [name for name, kind in kinds.items() if name in progress and not isinstance(progress[name], kind)]
    if odd:
        return f"{odd[0]} in {PROGRESS} is {str(progress[odd[0]])[:50]}"
    return None


def _find_damage(folder: Path) -> str | None:
    """Which file differs from what `save_state` wrote, or None."""
    path = folder / CHECKSUMS
    if not path.exists():  # written before there were checksums
        return None
    try:
        wanted = json.loads(path.read_text())
        if wanted.keys() != {STATE, PROGRESS}:
            raise ValueError("it lists other files")
    except (OSError, ValueError, AttributeError, RecursionError) as problem:
        return f"{CHECKSUMS}: {first_line(problem)}"
    for name, noted in wanted.items():
        try:
            found = _checksum(folder / name)
        except OSError as problem:
            return f"{name}: {problem.strerror or problem}"
        if found != noted:
            sizes = [value.get("bytes") if isinstance(value, dict) else None for value in (found, noted)]
            what = f"it has {sizes[0]} of {sizes[1]} bytes" if sizes[0] != sizes[1] else "its checksum differs"
            return f"{name} is not what was written: {what}"
    return None


def _checksum(path: Path) -> dict[str, int | str]:
    """CRC-32, which finds every damage but one in four billion, several times as fast as SHA-256 on most processors."""
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(CHECKSUM_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return {"bytes": size, "crc32": f"{crc:08x}"}


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


def _prune(folder: Path) -> None:
    """Keeps the newest KEEP_LAST checkpoints and the one with the best score."""
    known = {path: read_progress(path) for path in all_states(folder)}
    whole = [path for path, progress in known.items() if progress is not None]
    keep = set(whole[:KEEP_LAST])
    scored = [path for path in whole if known[path].get("score") is not None]
    if scored:
        keep.add(max(scored, key=lambda path: known[path]["score"]))
    for path in known.keys() - keep:
        remove(path)
