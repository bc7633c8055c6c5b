"""Compiles a trained DeepFill v2 for deployment.

python -m deepfill.export --weights WEIGHTS --output FOLDER

python -m deepfill.export --weights WEIGHTS --output FOLDER --format onnx
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import exported
from common.device import open_device
from common.errors import one_line_errors
from common.exported import Format
from deepfill.infer import load

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


class Refined(paddle.nn.Layer):
    """The generator, of whose two pictures only the refined one is given."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image, mask, edge=None):
        """As `model.Generator.forward`: float32 [N, 3, H, W] in [-1, 1], for RGB."""
        return self.network(image, mask, edge)[1]


def export(options: Options) -> float | None:
    """Exports with free batch and picture size; returns the largest difference from the eager network.

    The exported network takes image and mask, and edge if it is guided; their sides are multiples of 8.
    """
    network = load(options.weights)
    side = network.facts["image_px"]

    def random_inputs(batch: int, height: int, width: int) -> list:
        image = paddle.uniform([batch, 3, height, width], min=-1.0, max=1.0)
        mask = paddle.zeros([batch, 1, height, width])
        mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
        edge = [(paddle.uniform(mask.shape, min=0.0, max=1.0) > 0.9).astype("float32")]
        return [image, mask, *(edge if network.arguments["guided"] else [])]

    refined = Refined(network)
    refined.eval()
    return exported.export(
        refined, options.output, "generator", random_inputs, [(side, side), (side + 16, side - 8)], options.format
    )


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m deepfill.export", description=__doc__)
    open_device(options.device)
    export(options)


if __name__ == "__main__":
    main()
