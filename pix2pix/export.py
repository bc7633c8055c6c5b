"""Compiles a trained generator for deployment.

python -m pix2pix.export --weights WEIGHTS --output FOLDER

python -m pix2pix.export --weights WEIGHTS --output FOLDER --format onnx
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import exported
from common.device import open_device
from common.errors import one_line_errors
from common.exported import Format
from pix2pix.infer import Statistics, load, with_own_statistics

import paddle


@dataclass(frozen=True)
class Options:
    """Write the generator as a Paddle Inference or ONNX model and compare it with the original."""

    weights: Path
    """what `train` or `convert` wrote"""
    output: Path
    """folder for generator.json (.pdmodel of Paddle 2) and generator.pdiparams, or for generator.onnx"""
    norm: Statistics = "paper"
    """paper: each picture's own statistics; running: averages. An exported model has no dropout in either"""
    format: Format = "paddle"
    """paddle: a Paddle Inference model; onnx: for other runtimes, by paddle2onnx (pip install -e ".[export]")"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def export(options: Options) -> float | None:
    """Exports with free batch and picture size; returns the largest difference from the eager network."""
    network = load(options.weights)
    channels, side = network.facts["generator"]["source_channels"], network.facts["image_px"]
    if options.norm == "paper":
        network = with_own_statistics(network)
    sides = [(side, side), (side + network.stride, side)]

    def random_inputs(batch: int, height: int, width: int) -> list:
        return [paddle.uniform([batch, channels, height, width], min=-1.0, max=1.0)]

    return exported.export(network, options.output, "generator", random_inputs, sides, options.format)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m pix2pix.export", description=__doc__)
    open_device(options.device)
    export(options)


if __name__ == "__main__":
    main()
