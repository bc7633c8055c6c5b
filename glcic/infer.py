"""Completes photos of any size with a trained network.

python -m glcic.infer --demo

python -m glcic.infer --weights WEIGHTS --input PHOTO --mask MASK --output OUT.png

python -m glcic.infer --weights WEIGHTS --input FOLDER --mask random --output FOLDER
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from glcic.options import read_infer

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_infer, __doc__)

from functools import partial

import numpy as np

from common.checkpoint.weights import load_trained
from common.deploy.engine import compile_network
from common.inpainting import command, pipeline
from common.inpainting.blending import Blend, BlendChoice, choose
from common.inpainting.tiling import WindowMode
from glcic.model import STRIDE, CompletionNetwork

import paddle

PAPER_BLEND: Blend = "telea-poisson"  # Sec. 3.4 and the release's --postproc (D14)


def load(weights: str | Path) -> CompletionNetwork:
    """The completion network of a weights file, ready to complete; its `metadata` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    return load_trained(CompletionNetwork, weights, "glcic", "completion", "GLCIC completion network")


def faster(network):
    """The same network, compiled for a CPU once there is enough work (see `compile_network`)."""
    return compile_network(network)


def complete(
    network: CompletionNetwork,
    image: np.ndarray,
    mask: np.ndarray,
    blend: BlendChoice = "poisson",
    window: WindowMode = "auto",
) -> np.ndarray:
    """Fills the hole of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        mask: bool [height, width], True where the photo is missing.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.
    """
    return complete_batch(network, [image], [mask], blend, window)[0]


def complete_batch(network, images, masks, blend="poisson", window="auto", batch_size: int = 4) -> list:
    """`complete` for several photos of any sizes, whose windows share the network's batches."""

    def run(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return network(paddle.to_tensor(pixels), paddle.to_tensor(mask)).numpy()

    return pipeline.complete_batch(
        run, images, masks, **trained_on(network), stride=STRIDE, blend=choose(blend, PAPER_BLEND), window=window,
        batch_size=batch_size,
    )  # fmt: skip


def trained_on(network: CompletionNetwork) -> dict:
    """The image side, the largest hole's fraction of it and the crop of training: see `windows.plan`."""
    metadata = network.metadata
    return {"network_px": metadata["image_px"], "largest_mask": metadata["largest_hole"], "crop": metadata.get("crop")}


# ---- command line


def memory_megabytes(network: CompletionNetwork, photo_pixels: int, windows: list, batch_size: int) -> int:
    """Estimate of the whole process's peak: Paddle, the photo and its copies, the feature maps of one batch.

    The three constants were read off processes on the CPU; the tests hold them to what a large photo takes.
    """
    paddle_mb, photo_bytes, map_bytes_per_channel = 330, 45, 80
    batch = min(batch_size, len(windows)) * max((window.height * window.width for window in windows), default=0)
    channels = network.metadata["completion"]["base_channels"]
    return round(paddle_mb + (photo_bytes * photo_pixels + map_bytes_per_channel * channels * batch) / 2**20)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = read_infer(argv, __doc__)
    network = command.open_network(options, load, faster)

    def fill(images: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
        return complete_batch(network, images, masks, options.blend, options.window, options.batch_size)

    megabytes = partial(memory_megabytes, network, batch_size=options.batch_size)
    command.run(options, fill, trained_on(network), megabytes)


if __name__ == "__main__":
    main()
