"""Networks run through paddle.inference with oneDNN, which eager Paddle never uses on a CPU: 1.2 to 3 times faster.

Compiling costs some seconds, once for a network and its sizes. So a network works eagerly until that has cost as much
time as compiling would: a single picture is never slower for it, and a long work never takes twice as long as it could.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from common.device import open_device, paddle
from common.errors import first_line
from common.exported import trace, traced_files

Free = Literal["size", "sides", "batch", "nothing"]
LOOK_SECONDS = 1.0  # of eager work, after which the cache is looked through
BUILD_SECONDS = 10.0  # of eager work, after which a network is compiled; about what that takes
CHECK_SECONDS = 600.0  # after which the process that checks it has failed
TOLERANCE = 5e-4  # largest difference from the eager answer, in [-1, 1]: a sixteenth of a grey level of 8 bits
CACHE_BYTES = 2 * 2**30
ABANDONED_SECONDS = 86_400.0  # after which a folder that was being written belongs to a process that was killed
OF_NO_CONSEQUENCE = {"_full_name", "_name", "_built", "_device", "_original_funcs", "facts"}  # attributes of layers
NOTE, SAMPLES = "note.json", "samples.npz"


def compile_network(
    network: paddle.nn.Layer, free: Free = "size", stands_for: paddle.nn.Layer | None = None, training: bool = False
):
    """A network to be called in place of the given one, with the same arguments and attributes, for inference on a CPU.

    It answers eagerly at first, and then by paddle.inference: from a cache in the user's folder, or exported to it and
    compared with the eager answer (`TOLERANCE`). Where that fails, whatever the reason, one line is printed and it
    stays eager. On a card the network itself is returned.

    Args:
        network: its weights do not change from now on; called with float32 tensors and, at the end, None.
        free: what may differ from call to call without compiling anew: `size` (batch, height and width), `sides`
            (height and width), `batch`, or nothing, for networks whose program depends on all sizes.
        stands_for: a network to be exported in its place, which must answer the same; both are compared.
        training: the mode that `network` is called in; in the other one it stays eager.
    """
    if paddle.get_device() != "cpu":
        return network
    return Compiled(network, free, stands_for or network, training)


class Compiled:
    """See `compile_network`. Attributes are those of the network."""

    def __init__(self, network: paddle.nn.Layer, free: Free, exported: paddle.nn.Layer, training: bool):
        self.network, self.exported, self.free, self.training_mode = network, exported, free, training
        self.on = True
        self.programs: dict[tuple, Callable] = {}  # by shapes
        self.spent: dict[tuple, float] = {}  # seconds of eager work
        self.prices: dict[tuple, float] = {}  # seconds of eager work after which each is compiled, or loaded

    def __getattr__(self, name: str):
        return getattr(self.network, name)

    def compile_now(self, *inputs) -> None:
        """Compiles for inputs such as these, whether or not that pays. Raises RuntimeError if it stays eager."""
        shapes = self._shapes(inputs)
        self.spent[shapes] = float("inf")
        self(*inputs)
        if shapes not in self.programs:
            raise RuntimeError("the network works uncompiled")

    def _shapes(self, inputs: tuple) -> tuple:
        return tuple(free_shape(x.shape, self.free) for x in inputs if x is not None)

    def __call__(self, *inputs):
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if not self.on or self.network.training != self.training_mode:
            return self.network(*inputs)
        shapes = self._shapes(inputs)
        if shapes in self.programs:
            answers = [paddle.to_tensor(each) for each in self.programs[shapes]([x.numpy() for x in inputs])]
            return answers[0] if len(answers) == 1 else tuple(answers)
        start = time.perf_counter()
        answer = self.network(*inputs)
        self.spent[shapes] = self.spent.get(shapes, 0.0) + time.perf_counter() - start
        if self.spent[shapes] >= self.prices.get(shapes, LOOK_SECONDS):
            try:
                self._compile(shapes, inputs, answer)
            except Exception as problem:  # of files, processes, or raised by Paddle: the network works without
                self.on = False
                tqdm.write(f"note: the network works uncompiled: {first_line(problem)}")
        return answer

    def _compile(self, shapes: tuple, inputs: tuple, answer) -> None:
        """Loads the network from the cache, or compiles it, if its price has been spent; else learns the price."""
        entry = cache_folder() / fingerprint(self.exported, shapes)
        note = read_note(entry)
        self.prices[shapes] = price = BUILD_SECONDS if note is None else note["load_seconds"]
        if self.spent[shapes] < price:
            return
        if note is None:
            checks = [(inputs, answer)]
            if self.free != "nothing":
                other = [_other(x, self.free) for x in inputs]
                with paddle.no_grad():
                    checks.append((other, self.network(*other)))
            build(self.exported, entry, shapes, checks)
        os.utime(entry / NOTE)  # what was not used for the longest time is removed first
        self.programs[shapes] = open_program(entry)


def free_shape(shape: list[int], free: Free) -> tuple:
    """A tensor's shape with None for what may differ."""
    shape = tuple(shape)
    if free == "nothing":
        return shape
    batch = shape[0] if free == "sides" else None
    return (batch, *shape[1:]) if free == "batch" else (batch, shape[1], *[None] * (len(shape) - 2))


def _other(x, free: Free):
    """An input of another size: a program may have frozen what should be free."""
    if free in ("size", "sides") and len(x.shape) > 2:
        one = x[:1] if free == "size" else x
        return paddle.concat([one, one], axis=2)
    return x[:1] if x.shape[0] > 1 else paddle.concat([x, x])


def open_program(folder: Path) -> Callable:
    """A traced network as a function: list of arrays -> list of arrays. Raises whatever Paddle raises."""
    program, parameters = traced_files(folder)
    config = paddle.inference.Config(str(program), str(parameters))
    config.disable_gpu()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config.disable_glog_info()
    config.delete_pass("batch_norm_act_fuse_pass")  # Paddle 2 will not see it by a picture's own statistics
    predictor = paddle.inference.create_predictor(config)
    inputs = [predictor.get_input_handle(name) for name in predictor.get_input_names()]
    outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        for handle, array in zip(inputs, arrays, strict=True):
            handle.reshape(array.shape)
            handle.copy_from_cpu(np.ascontiguousarray(array))
        predictor.run()
        return [handle.copy_to_cpu() for handle in outputs]

    return run


# ---- the cache


def cache_folder() -> Path:
    """The user's own folder of compiled networks: below XDG_CACHE_HOME, or ~/.cache.

    Raises:
        OSError: it cannot be made, or others could write there what we would load.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "paddle-completion-suite" / "compiled"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise OSError(f"{folder} can be written by other users; remove it, or set XDG_CACHE_HOME")
    return folder


def fingerprint(network: paddle.nn.Layer, shapes: tuple) -> str:
    """Of all that a compiled network depends on: weights, settings of its layers, shapes, code, Paddle and machine."""
    digest = hashlib.sha256()
    facts = [paddle.__version__, platform.machine(), shapes]
    folders = {Path(__file__).parent}
    for name, layer in network.named_sublayers(include_self=True):
        settings = {key: repr(value) for key, value in vars(layer).items() if _is_setting(key, value)}
        facts.append((name, type(layer).__qualname__, sorted(settings.items())))
        if not type(layer).__module__.startswith("paddle."):
            folders.add(Path(sys.modules[type(layer).__module__].__file__).parent)
    for file in sorted(path for folder in folders for path in folder.glob("*.py")):
        digest.update(file.read_bytes())
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        array = value.numpy()
        facts.append((name, array.shape, str(array.dtype)))
        digest.update(np.ascontiguousarray(array))
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:32]


def _is_setting(key: str, value) -> bool:
    """Whether an attribute tells what a layer computes, not by which name or when: of Paddle's own, dicts do not."""
    ours = not (key in OF_NO_CONSEQUENCE or (key.startswith("_") and isinstance(value, dict)))
    return ours and _is_plain(value)


def _is_plain(value) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def read_note(entry: Path) -> dict | None:
    """What `build` noted of a compiled network; None where there is none, or its files are not the ones it noted."""
    try:
        note = json.loads((entry / NOTE).read_text())
        sound = note["files"] == _digests(entry) and float(note["load_seconds"]) >= 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if sound else None


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in traced_files(folder)}


def build(network: paddle.nn.Layer, entry: Path, shapes: tuple, checks: list[tuple]) -> None:
    """Compiles a network into a folder of the cache, if it answers as it should.

    A process of its own finds out whether it does: Paddle may end it.

    Args:
        checks: pairs of inputs, tensors, and what the eager network answered to them, a tensor or several.

    Raises:
        Exception: of files, processes or Paddle, or because the answers differ.
    """
    with tempfile.TemporaryDirectory(prefix=".building-", dir=entry.parent) as folder:
        folder = Path(folder)
        trace(network, folder, [list(shape) for shape in shapes])
        arrays = {}
        for n, (inputs, answer) in enumerate(checks):
            answers = answer if isinstance(answer, list | tuple) else [answer]
            arrays |= {f"{n}/in/{k}": x.numpy() for k, x in enumerate(inputs)}
            arrays |= {f"{n}/out/{k}": x.numpy() for k, x in enumerate(answers)}
        np.savez(folder / SAMPLES, **arrays)
        note = check_elsewhere(folder)
        if not note["difference"] <= TOLERANCE:  # NaN is not
            raise ValueError(f"compiled it differs by {note['difference']:.1e}, more than {TOLERANCE}")
        (folder / SAMPLES).unlink()
        (folder / NOTE).write_text(json.dumps({**note, "files": _digests(folder)}))
        if read_note(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)  # broken, if it is there at all
        with contextlib.suppress(OSError):  # another process was faster, and its folder is as good
            folder.rename(entry)
        folder.mkdir(exist_ok=True)  # for TemporaryDirectory to remove
    _remove_oldest(entry)


def check_elsewhere(folder: Path) -> dict:
    """`check` in a process of its own. Raises RuntimeError if that does not come back with an answer."""
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "common.compiled", str(folder)],
        capture_output=True, text=True, timeout=CHECK_SECONDS, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        raise RuntimeError(f"compiling failed: {first_line(said[-1] if said else f'exit status {done.returncode}')}")
    return json.loads(done.stdout.splitlines()[-1])


def check(folder: Path) -> dict:
    """Runs a compiled network on the samples beside it, twice on each.

    Returns:
        The largest difference from the answers there, NaN if one is, and the seconds that loading and one run took.
    """
    with np.load(folder / SAMPLES) as file:
        samples = dict(file)
    start = time.perf_counter()
    run = open_program(folder)
    seconds, worst = None, 0.0
    for n in range(len({key.split("/")[0] for key in samples})):
        inputs, expected = (
            [samples[key] for key in samples if key.startswith(f"{n}/{kind}/")] for kind in ("in", "out")
        )
        found = run(inputs)
        seconds = seconds or time.perf_counter() - start
        found += run(inputs)  # Paddle makes programs that overwrite their own constants
        expected += expected
        if [x.shape for x in found] != [x.shape for x in expected]:
            raise ValueError(f"compiled it answers {[x.shape for x in found]}, not {[x.shape for x in expected]}")
        for pair in zip(found, expected, strict=True):
            worst = float(np.maximum(worst, np.abs(np.subtract(*pair)).max()))
    return {"difference": worst, "load_seconds": seconds}


def _remove_oldest(newest: Path) -> None:
    """Keeps the cache below CACHE_BYTES, and the newest entry; also removes what killed processes left."""
    found = []
    for folder in newest.parent.iterdir():
        with contextlib.suppress(OSError):  # another process may be removing it too
            if folder.name.startswith(".building-"):
                if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                size = sum(path.stat().st_size for path in folder.iterdir())
                found.append((folder == newest, (folder / NOTE).stat().st_mtime, size, folder))
    total = sum(size for *_, size, _ in found)
    for is_newest, _, size, folder in sorted(found):
        if total <= CACHE_BYTES or is_newest:
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= size


if __name__ == "__main__":
    open_device("cpu")
    print(json.dumps(check(Path(sys.argv[1]))))
