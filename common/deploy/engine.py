"""Networks run through paddle.inference with oneDNN, which eager Paddle never uses on a CPU: 1.2 to 3 times faster.

Compiling costs some seconds. So a network works eagerly until that has cost as much time as compiling would: a single
image is never slower for it, and a long work never takes twice as long as it could. What `export` wrote costs less.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from common.deploy.export import NAME, trace, traced_files
from common.errors import first_line
from common.runtime.child import run_python
from common.runtime.device import open_device, paddle

Free = Literal["size", "sides", "batch", "nothing"]
BUILD_SECONDS = 10.0  # of eager work, after which a network is compiled; about what that takes
OPEN_SECONDS = 3.0  # of eager work, after which an exported network is compared and taken; about what that takes
CHECK_SECONDS = 600.0  # after which the process that checks it has failed
TOLERANCE = 5e-4  # largest difference from the eager answer, in [-1, 1]: a sixteenth of a grey level of 8 bits
SAMPLES = "samples.npz"


def compile_network(
    network: paddle.nn.Layer,
    free: Free = "size",
    stands_for: paddle.nn.Layer | None = None,
    training: bool = False,
    output: int | None = None,
):
    """A network to be called in place of the given one, with the same arguments and attributes, for inference on a CPU.

    It answers eagerly at first, and then by paddle.inference: compiled in a temporary folder for this process alone,
    or, where the weights are from a folder of `export`, by a copy of the program there. Before it is used it is
    compared with the eager answer (`TOLERANCE`). Where that fails, whatever the reason, one line is printed and it
    stays eager. On a GPU the network itself is returned.

    Args:
        network: its weights do not change from now on; called with float32 tensors and, at the end, None.
        free: what may differ from call to call without compiling anew: `size` (batch, height and width), `sides`
            (height and width), `batch`, or nothing, for networks whose program depends on all sizes.
        stands_for: a network to be exported in its place, which must answer the same; both are compared.
        training: the mode that `network` is called in; in the other one it stays eager.
        output: answer with this one of the network's outputs alone.
    """
    if paddle.get_device() != "cpu":
        return network
    return Compiled(network, free, stands_for or network, training, output)


class Compiled:
    """See `compile_network`. Attributes are those of the network."""

    def __init__(self, network: paddle.nn.Layer, free: Free, traced: paddle.nn.Layer, training: bool, output=None):
        self.network, self.traced, self.free = network, traced, free
        # `answer`, not `output`: a network may have an attribute of that name.
        self.training_mode, self.answer = training, output
        self.exported: str | None = getattr(network, "metadata", {}).get("exported")  # see `read_weights`
        self.on = True
        self.programs: dict[tuple, Callable] = {}  # by shapes
        self.spent: dict[tuple, float] = {}  # seconds of eager work

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

    def _eager(self, inputs: tuple):
        answer = self.network(*inputs)
        return answer if self.answer is None else answer[self.answer]

    def __call__(self, *inputs):
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if not self.on or self.network.training != self.training_mode:
            return self._eager(inputs)
        shapes = self._shapes(inputs)
        if shapes in self.programs:
            answers = [paddle.to_tensor(each) for each in self.programs[shapes]([x.numpy() for x in inputs])]
            return answers[0] if len(answers) == 1 else tuple(answers)
        start = time.perf_counter()
        answer = self._eager(inputs)
        self.spent[shapes] = self.spent.get(shapes, 0.0) + time.perf_counter() - start
        if self.spent[shapes] >= (OPEN_SECONDS if self.exported else BUILD_SECONDS):
            self._compile(shapes, inputs, answer)
        return answer

    def _compile(self, shapes: tuple, inputs: tuple, answer) -> None:
        """Takes the exported network, or compiles one; if that does not answer as the eager one, says so."""
        checks = [(inputs, answer)]
        if self.free != "nothing":
            other = [_other(x, self.free) for x in inputs]
            with paddle.no_grad():
                checks.append((other, self._eager(other)))
        try:
            self.programs[shapes] = build(self.exported or self.traced, shapes, checks)
        except Exception as problem:  # of files, processes, or raised by Paddle: the network works without
            if self.exported:
                tqdm.write(f"note: the exported network {self.exported} is not used: {first_line(problem)}")
                self.exported = None
            else:
                self.on = False
                tqdm.write(f"note: the network works uncompiled: {first_line(problem)}")


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
    config.delete_pass("batch_norm_act_fuse_pass")  # Paddle 2 will not see it by an image's own statistics
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


def build(source: paddle.nn.Layer | str, shapes: tuple, checks: list[tuple]) -> Callable:
    """A program, see `open_program`, that answers as it should. Its files are gone when this returns.

    A process of its own finds out whether it does: Paddle may end it.

    Args:
        source: a network to trace with inputs of these shapes, or the .pdiparams of an exported one.
        checks: pairs of inputs, tensors, and what the eager network answered to them, a tensor or several.

    Raises:
        Exception: of files, processes or Paddle, or because the answers differ.
    """
    with tempfile.TemporaryDirectory(prefix="compiling-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        if isinstance(source, str):
            for file in traced_files(Path(source).parent, Path(source).stem):
                shutil.copyfile(file, folder / f"{NAME}{file.suffix}")
        else:
            trace(source, folder, [list(shape) for shape in shapes])
        arrays = {}
        for n, (inputs, answer) in enumerate(checks):
            answers = answer if isinstance(answer, list | tuple) else [answer]
            arrays |= {f"{n}/in/{k}": x.numpy() for k, x in enumerate(inputs)}
            arrays |= {f"{n}/out/{k}": x.numpy() for k, x in enumerate(answers)}
        np.savez(folder / SAMPLES, **arrays)
        difference = check_elsewhere(folder)
        if not difference <= TOLERANCE:  # NaN is not
            raise ValueError(f"compiled it differs by {difference:.1e}, more than {TOLERANCE}")
        return open_program(folder)


def check_elsewhere(folder: Path) -> float:
    """`check` in a process of its own. Raises RuntimeError if that does not come back with an answer."""
    done = run_python("-m", "common.deploy.engine", folder.resolve(), timeout=CHECK_SECONDS)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        raise RuntimeError(f"compiling failed: {first_line(said[-1] if said else f'exit status {done.returncode}')}")
    return float(done.stdout.splitlines()[-1])


def check(folder: Path) -> float:
    """Runs a compiled network on the samples beside it, twice on each.

    Returns:
        The largest difference from the answers there, NaN if one is.
    """
    with np.load(folder / SAMPLES) as file:
        samples = dict(file)
    run, worst = open_program(folder), 0.0
    for n in range(len({key.split("/")[0] for key in samples})):
        inputs, expected = (
            [samples[key] for key in samples if key.startswith(f"{n}/{kind}/")] for kind in ("in", "out")
        )
        found = run(inputs)
        found += run(inputs)  # Paddle makes programs that overwrite their own constants
        expected += expected
        if [x.shape for x in found] != [x.shape for x in expected]:
            raise ValueError(f"compiled it answers {[x.shape for x in found]}, not {[x.shape for x in expected]}")
        for pair in zip(found, expected, strict=True):
            worst = float(np.maximum(worst, np.abs(np.subtract(*pair)).max()))
    return worst


if __name__ == "__main__":
    open_device("cpu")
    print(check(Path(sys.argv[1])))
