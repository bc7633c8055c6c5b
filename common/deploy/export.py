"""A network written for deployment, as a Paddle Inference or an ONNX model, compared with the eager network before."""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from common.checkpoint.atomic import replace_whole
from common.checkpoint.paddle_files import SUFFIX
from common.checkpoint.weights import read_weights, save_tensors, weights_file
from common.config import ExportFormat, ExportSettings
from common.cpu_layers.layers import equal_layer
from common.deploy.parameters import write_parameters
from common.errors import UserError, first_line
from common.runtime.child import run_python
from common.runtime.device import open_device, paddle, writable_home

from paddle import nn

TOLERANCE = 1e-4  # largest difference from the eager network, on outputs in [-1, 1]
NAME = "network"  # of the files of a traced network
OPSET = 17  # of ONNX; all that the networks need, and what runtimes have known since 2022

# For a process of its own, because paddle2onnx ends the one that it fails in.
CONVERT = """
import inspect, sys
import paddle2onnx
model, parameters, made, opset = sys.argv[1:]
# Else version 2 rewrites the graph with tools that it would install first.
plain = {"optimize_tool": "None"} if "optimize_tool" in inspect.signature(paddle2onnx.export).parameters else {}
paddle2onnx.export(model, parameters, made, opset_version=int(opset), verbose=False, **plain)
"""


def command(options: ExportSettings, work: Callable) -> None:
    """The `export` command of a paper, whose work(options) writes the network."""
    open_device(options.device)
    work(options)


def write(
    network: nn.Layer, options: ExportSettings, name: str, make_inputs: Callable, sides: list[tuple[int, int]]
) -> float | None:
    """`export` by the options of a command; of the parameters alone `write_parameters`."""
    if options.format == "pdparams":
        return write_parameters(options.weights, options.output)
    return export(network, options.output, name, make_inputs, sides, options.format, options.weights)


def image_and_mask(batch: int, height: int, width: int) -> list:
    """An image and a mask such as `infer` gives to a network that completes."""
    image = paddle.uniform([batch, 3, height, width], min=-1.0, max=1.0)
    mask = paddle.zeros([batch, 1, height, width])
    mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
    return [image, mask]


def export(
    network: nn.Layer,
    folder: str | Path,
    name: str,
    make_inputs: Callable,
    sides: list[tuple[int, int]],
    form: ExportFormat = "paddle",
    weights: str | Path | None = None,
) -> float | None:
    """Writes NAME.json (NAME.pdmodel for Paddle 2) and NAME.pdiparams, or NAME.onnx; free batch, height and width.

    Beside a program of Paddle go the weights, NAME.safetensors: `infer` and `evaluate` take the folder as --weights,
    and compare the program with the network of these weights before they use it.

    Prints what was written. Nothing is written that differs from the network.

    Args:
        network: in evaluation mode; its inputs are float32 [N, channels, H, W].
        make_inputs: (batch, height, width) -> list of such tensors, for the comparison.
        sides: (height, width) pairs to compare at; at least two, because a traced network may have frozen its size. If
            all are the same, the exported network has that size alone, and its inputs may be of any shape [N, …].
        form: onnx is compared by onnxruntime, if that is installed.
        weights: the file that the network is from, or a folder with it.

    Returns:
        The largest difference from the eager network over all comparisons; None if nothing could compare.

    Raises:
        UserError: the folder cannot be written, a package is missing or cannot do it, or the exported network differs.
    """
    folder, kept = Path(folder), []
    if weights is not None and form == "paddle":
        kept = [(weights_file(weights), folder / f"{name}.safetensors")]
        _check_replaceable(*kept[0])
    free = len(set(sides)) > 1
    shapes = [[None, *([x.shape[1], None, None] if free else x.shape[1:])] for x in make_inputs(1, *sides[0])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder if folder.resolve().as_posix().isprintable() else None  # Paddle takes no name that is no text
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=beside) as temporary:
            files = trace(network, Path(temporary), shapes)
            if form == "onnx":
                files = [convert_to_onnx(*files)]
            run = (_onnx_runner if form == "onnx" else _paddle_runner)(files[0])
            worst = None if run is None else largest_difference(network, run, make_inputs, sides)
            if worst is not None and not worst <= TOLERANCE:
                raise UserError(
                    f"the exported network differs from the eager one by {worst:.2e}, more than {TOLERANCE}; "
                    f"nothing was written to {folder}"
                )
            kept += [(file, folder / f"{name}{file.suffix}") for file in files]
            for file, written in kept:
                if file.suffix.lower() == SUFFIX:
                    save_tensors(written, *read_weights(file))
                elif not (written.exists() and written.samefile(file)):
                    replace_whole(written, partial(shutil.copyfile, file))
    except OSError as problem:
        raise UserError(f"cannot write {folder}: {problem.strerror or problem}") from None
    said = "not compared: onnxruntime is not installed"
    if worst is not None:
        said = f"largest difference from the network {worst:.1e}"
    print(f"written: {', '.join(str(written) for _, written in kept)}; {said}")
    return worst


def _check_replaceable(weights: Path, target: Path) -> None:
    """Refuses to write over weights that no export put there."""
    if target.exists() and not target.samefile(weights) and not target.with_suffix(".pdiparams").is_file():
        raise UserError(
            f"{target} is there and not of an earlier export; it would be overwritten: choose another --output"
        )


def trace(network: nn.Layer, folder: Path, shapes: list[list]) -> list[Path]:
    """Writes a network as a static program. Returns the files of the program and of its parameters.

    Args:
        shapes: of its inputs, float32; None for what is free.
    """
    specs = [paddle.static.InputSpec(shape, "float32", f"input_{n}") for n, shape in enumerate(shapes)]
    with writable_home(), _readable(network), _quiet():
        paddle.jit.save(network, str(folder / NAME), input_spec=specs)
    return traced_files(folder)


def traced_files(folder: Path, name: str = NAME) -> list[Path]:
    """The files of a program and of its parameters. Raises OSError if they are not there, as on a full disk."""
    program = [path for path in (folder / f"{name}.json", folder / f"{name}.pdmodel") if path.is_file()]
    files = [*program[:1], folder / f"{name}.pdiparams"]
    if len(files) < 2 or not files[1].is_file():
        raise OSError(f"there is no program of Paddle in {folder}")
    return files


class LeakyMaximum(nn.Layer):
    """A leaky ReLU as the larger of x and slope * x, or the smaller for a slope above 1."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return (paddle.maximum if self.slope <= 1 else paddle.minimum)(x, self.slope * x)


@contextlib.contextmanager
def _readable(network: nn.Layer):
    """Within it some of the network's layers are equal ones that everything which reads its program does well.

    The slope of a leaky ReLU in Paddle 3's programs is taken for another kind of number: oneDNN's fusion with the
    convolution before it ends the process, and paddle2onnx writes the slope 0.01. A convolution between a whole map and
    a point takes oneDNN five times as long as the product that it is; reflected padding and instance normalisation run
    on one core.
    """
    swapped = []
    for parent in network.sublayers(include_self=True):
        for name, layer in list(parent.named_children()):
            instead = _stand_in(layer)
            if instead is not None:
                swapped.append((parent, name, layer))
                parent.add_sublayer(name, instead)
    try:
        yield
    finally:
        for parent, name, layer in swapped:
            parent.add_sublayer(name, layer)


def _stand_in(layer: nn.Layer) -> nn.Layer | None:
    if type(layer) is nn.LeakyReLU:
        return LeakyMaximum(layer._negative_slope)
    return equal_layer(layer)


@contextlib.contextmanager
def _quiet():
    """Without what Paddle's C++ writes to the standard error while it traces; exceptions are raised all the same."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def convert_to_onnx(program: Path, parameters: Path) -> Path:
    """The traced network as an ONNX file beside it.

    Raises:
        UserError: paddle2onnx is not installed, or cannot.
    """
    missing = [package for package in ("paddle2onnx", "onnx") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f'--format onnx needs {" and ".join(missing)}: pip install -e ".[export]"')
    made = program.with_suffix(".onnx")
    done = run_python("-c", CONVERT, program.resolve(), parameters.resolve(), made.resolve(), str(OPSET))
    if done.returncode != 0 or not made.is_file():
        said = [line for line in done.stderr.splitlines() if "rror" in line or "ERROR" in line]
        raise UserError(
            f"paddle2onnx cannot bring this network from Paddle {paddle.__version__} to ONNX: "
            f"{first_line(said[0] if said else done.stderr)}; --format paddle works"
        )
    return made


def largest_difference(network, run: Callable, make_inputs: Callable, sides: list[tuple[int, int]]) -> float:
    """Between a network and run(list of arrays) -> array, over all sides with growing batches."""
    worst = 0.0
    for batch, (height, width) in enumerate(sides, 1):
        inputs = make_inputs(batch, height, width)
        with paddle.no_grad():
            eager = network(*inputs).numpy()
        worst = float(np.maximum(worst, np.abs(eager - run([x.numpy() for x in inputs])).max()))  # keeps NaN
    return worst


def _paddle_runner(program: Path) -> Callable:
    compiled = paddle.jit.load(str(program.with_suffix("")))
    compiled.eval()

    def run(inputs: list[np.ndarray]) -> np.ndarray:
        with paddle.no_grad():
            return compiled(*map(paddle.to_tensor, inputs)).numpy()

    return run


def _onnx_runner(file: Path) -> Callable | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # of the extra `export`

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), quiet, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]
