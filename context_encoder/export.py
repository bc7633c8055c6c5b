"""Compiles a trained Context Encoder for deployment.

python -m context_encoder.export --weights WEIGHTS --output FOLDER

python -m context_encoder.export --weights WEIGHTS --output FOLDER --format onnx
"""

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys
    from pathlib import Path

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.config import ExportSettings as Options
from common.deploy import export as exported
from common.runtime.commands import one_line_errors
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
    exported.command(Options, argv, "context_encoder", __doc__, export)


if __name__ == "__main__":
    main()
