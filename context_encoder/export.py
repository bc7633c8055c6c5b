"""Compiles a trained Context Encoder for deployment.

python -m context_encoder.export --weights WEIGHTS --output FOLDER

python -m context_encoder.export --weights WEIGHTS --output FOLDER --format onnx
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import exported
from common.device import open_device
from common.errors import one_line_errors
from common.exported import Format
from context_encoder.infer import load

import paddle


@dataclass(frozen=True)
class Options:
    """Write the network as a Paddle Inference or ONNX model and compare it with the original."""

    weights: Path
    """what `train` or `convert` wrote"""
    output: Path
    """folder for generator.json (.pdmodel of Paddle 2) and generator.pdiparams, or for generator.onnx"""
    format: Format = "paddle"
    """paddle: a Paddle Inference model; onnx: for other runtimes, by paddle2onnx (pip install -e ".[export]")"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def export(options: Options) -> float | None:
    """Exports with free batch; returns the largest difference from the eager network.

    The picture's size is the network's own: its bottleneck sees exactly that.
    """
    network = load(options.weights)
    side = network.image_px

    def random_inputs(batch: int, height: int, width: int) -> list:
        image = paddle.uniform([batch, 3, height, width], min=-1.0, max=1.0)
        mask = paddle.zeros([batch, 1, height, width])
        mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
        noise = [paddle.randn([batch, network.noise_channels])] if network.noise_channels else []
        return [image, mask, *noise]

    return exported.export(network, options.output, "generator", random_inputs, [(side, side)] * 2, options.format)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m context_encoder.export", description=__doc__)
    open_device(options.device)
    export(options)


if __name__ == "__main__":
    main()
