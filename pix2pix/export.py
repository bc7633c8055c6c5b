"""Compiles a trained generator for deployment.

python -m pix2pix.export --weights WEIGHTS --output FOLDER

python -m pix2pix.export --weights WEIGHTS --output FOLDER --format onnx
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from pix2pix.options import ExportOptions as Options
from pix2pix.options import read_export

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_export, __doc__)


from common.deploy import export as exported
from pix2pix.infer import load, with_own_statistics

import paddle


def export(options: Options) -> float | None:
    """Exports with free batch and image size; returns the largest difference from the eager network."""
    network = load(options.weights)
    channels, side = network.metadata["generator"]["source_channels"], network.metadata["image_px"]
    if options.statistics == "paper":
        network = with_own_statistics(network)
    sides = [(side, side), (side + network.stride, side)]

    def random_inputs(batch: int, height: int, width: int) -> list:
        return [paddle.uniform([batch, channels, height, width], min=-1.0, max=1.0)]

    return exported.write(network, options, "generator", random_inputs, sides)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    exported.command(read_export(argv, __doc__), export)


if __name__ == "__main__":
    main()
