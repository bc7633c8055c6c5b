"""Compiles a trained generator for deployment.

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER --format onnx
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import exported
from common.device import open_device
from common.errors import one_line_errors
from common.exported import Format
from dcgan_completion.infer import load

import paddle


@dataclass(frozen=True)
class Options:
    """Write the generator as a Paddle Inference or ONNX model and compare it with the original."""

    weights: Path
    """what `train` or `convert` wrote"""
    output: Path
    """folder for generator.json (.pdmodel of Paddle 2) and generator.pdiparams, or for generator.onnx"""
    format: Format = "paddle"
    """paddle: a Paddle Inference model; onnx: for other runtimes, by paddle2onnx (pip install -e ".[export]")"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def export(options: Options) -> float | None:
    """Exports z -> picture with free batch; returns the largest difference from the eager network.

    It draws faces. Completing needs gradients, and so the network itself.
    """
    generator = load(options.weights).generator
    px = generator.arguments["image_px"]

    def random_z(batch: int, height: int, width: int) -> list:
        return [paddle.uniform([batch, generator.arguments["z_channels"]], min=-1.0, max=1.0)]

    return exported.export(generator, options.output, "generator", random_z, [(px, px)] * 2, options.format)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m dcgan_completion.export", description=__doc__)
    open_device(options.device)
    export(options)


if __name__ == "__main__":
    main()
