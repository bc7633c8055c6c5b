"""Compiles a trained Context Encoder for deployment.

python -m context_encoder.export --weights WEIGHTS --output FOLDER

python -m context_encoder.export --weights WEIGHTS --output FOLDER --format onnx
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from context_encoder.options import read_export

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_export, __doc__)

from common.config import ExportSettings as Options
from common.deploy import export as exported
from context_encoder.infer import load

import paddle


def export(options: Options) -> float | None:
    """Exports with free batch; returns the largest difference from the eager network.

    The image's size is the network's own: its bottleneck sees exactly that.
    """
    network = load(options.weights)
    side = network.image_px

    def random_inputs(batch: int, height: int, width: int) -> list:
        noise = [paddle.randn([batch, network.noise_channels])] if network.noise_channels else []
        return [*exported.image_and_mask(batch, height, width), *noise]

    return exported.write(network, options, "generator", random_inputs, [(side, side)] * 2)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    exported.command(read_export(argv, __doc__), export)


if __name__ == "__main__":
    main()
