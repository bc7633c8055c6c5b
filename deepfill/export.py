"""Compiles a trained DeepFill v2 for deployment.

python -m deepfill.export --weights WEIGHTS --output FOLDER

python -m deepfill.export --weights WEIGHTS --output FOLDER --format onnx
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from deepfill.options import read_export

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_export, __doc__)

from common.config import ExportSettings as Options
from common.deploy import export as exported
from deepfill.infer import Refined, load

import paddle


def export(options: Options) -> float | None:
    """Exports with free batch and image size; returns the largest difference from the eager network.

    The exported network takes image and mask, and edge if it is guided; their sides are multiples of 8.
    """
    network = load(options.weights)
    side = network.metadata["image_px"]

    def random_inputs(batch: int, height: int, width: int) -> list:
        image, mask = exported.image_and_mask(batch, height, width)
        edge = [(paddle.uniform(mask.shape, min=0.0, max=1.0) > 0.9).astype("float32")]
        return [image, mask, *(edge if network.arguments["guided"] else [])]

    refined = Refined(network)
    refined.eval()
    return exported.write(refined, options, "generator", random_inputs, [(side, side), (side + 16, side - 8)])


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    exported.command(read_export(argv, __doc__), export)


if __name__ == "__main__":
    main()
