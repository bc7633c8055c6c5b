"""Compiles a trained completion network for deployment.

python -m glcic.export --weights WEIGHTS --output FOLDER

python -m glcic.export --weights WEIGHTS --output FOLDER --format onnx
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from glcic.options import read_export

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_export, __doc__)

from common.config import ExportSettings as Options
from common.deploy import export as exported
from glcic.infer import load


def export(options: Options) -> float | None:
    """Exports with free batch and image size; returns the largest difference from the eager network."""
    network = load(options.weights)
    side = network.metadata["image_px"]
    sides = [(side, side), (side + 8, side - 4)]
    return exported.write(network, options, "completion", exported.image_and_mask, sides)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    exported.command(read_export(argv, __doc__), export)


if __name__ == "__main__":
    main()
