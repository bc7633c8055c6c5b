"""Compiles a trained generator for deployment.

python -m pix2pix.export --weights WEIGHTS --output FOLDER
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common import compiled
from common.device import open_device
from common.errors import one_line_errors
from pix2pix.infer import Statistics, load
from pix2pix.model import build_generator

import paddle
from paddle import nn


@dataclass(frozen=True)
class Options:
    """Write the generator as a Paddle Inference model and compare it with the original."""

    weights: Path
    """what `train` or `convert` wrote"""
    output: Path
    """folder for generator.json or generator.pdmodel, and generator.pdiparams"""
    norm: Statistics = "paper"
    """paper: each picture's own statistics; running: averages. An exported model has no dropout in either"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""


def export(options: Options) -> float:
    """Exports with free batch and picture size; returns the largest difference from the eager network."""
    network = load(options.weights)
    channels, side = network.facts["generator"]["source_channels"], network.facts["image_px"]
    if options.norm == "paper":
        network = with_own_statistics(network)
    sides = [(side, side), (side + network.stride, side)]

    def random_inputs(batch: int, height: int, width: int) -> list:
        return [paddle.uniform([batch, channels, height, width], min=-1.0, max=1.0)]

    return compiled.export(network, options.output, "generator", random_inputs, sides)


def with_own_statistics(network: nn.Layer) -> nn.Layer:
    """The same generator with batch normalisations turned into instance normalisations.

    For a batch of one picture both are the same function, and of a larger batch each picture is treated as if alone.
    """
    arguments = network.facts["generator"]
    if arguments["norm"] != "batch":
        return network
    twin = build_generator(**{**arguments, "norm": "instance-affine"})
    tensors = network.state_dict()
    for key, tensor in twin.state_dict().items():
        old = key[: -len("scale")] + "weight" if key.endswith(".scale") else key
        tensor.set_value(tensors[old])
    twin.eval()
    return twin


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m pix2pix.export", description=__doc__)
    open_device(options.device)
    difference = export(options)
    print(f"written: {options.output / 'generator'}.*; largest difference from the network {difference:.1e}")


if __name__ == "__main__":
    main()
