"""Compiles a trained completion network for deployment.

python -m glcic.export --weights WEIGHTS --output FOLDER
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import compiled
from common.device import open_device
from common.errors import one_line_errors
from glcic.infer import load

import paddle


@dataclass(frozen=True)
class Options:
    """Write the network as a Paddle Inference model and compare it with the original."""

    weights: Path
    """what `train` or `convert` wrote"""
    output: Path
    """folder for completion.json or completion.pdmodel, and completion.pdiparams"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def export(options: Options) -> float:
    """Exports with free batch and picture size; returns the largest difference from the eager network."""
    network = load(options.weights)
    side = network.facts["image_px"]
    return compiled.export(network, options.output, "completion", random_inputs, [(side, side), (side + 8, side - 4)])


def random_inputs(batch: int, height: int, width: int) -> list:
    """A picture and a mask such as `infer` gives to the network."""
    image = paddle.uniform([batch, 3, height, width], min=-1.0, max=1.0)
    mask = paddle.zeros([batch, 1, height, width])
    mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
    return [image, mask]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m glcic.export", description=__doc__)
    open_device(options.device)
    difference = export(options)
    print(f"written: {options.output / 'completion'}.*; largest difference from the network {difference:.1e}")


if __name__ == "__main__":
    main()
