"""Compiles a trained generator for deployment.

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER

python -m dcgan_completion.export --weights WEIGHTS --output FOLDER --format onnx
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from dcgan_completion.options import read_export

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_export, __doc__)

from common.config import ExportSettings as Options
from common.deploy import export as exported
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
    exported.command(read_export(argv, __doc__), export)


if __name__ == "__main__":
    main()
