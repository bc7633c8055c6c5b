"""Compiles a trained generator for deployment.

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER --format onnx
"""

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys
    from pathlib import Path

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.config import ExportSettings as Options
from common.deploy import export as exported
from common.runtime.commands import one_line_errors
from dcgan_completion.infer import load

import paddle


def export(options: Options) -> float | None:
    """Exports z -> image with free batch; returns the largest difference from the eager network.

    It samples faces. Completing needs gradients, and so the network itself.
    """
    generator = load(options.weights).generator
    px = generator.arguments["image_px"]

    def random_z(batch: int, height: int, width: int) -> list:
        return [paddle.uniform([batch, generator.arguments["z_channels"]], min=-1.0, max=1.0)]

    return exported.write(generator, options, "generator", random_z, [(px, px)] * 2)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    exported.command(Options, argv, "dcgan_completion", __doc__, export)


if __name__ == "__main__":
    main()
