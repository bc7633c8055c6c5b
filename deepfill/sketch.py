"""Sketches that guide the completion (Sec. 3.5): lines of a photo for training, and lines that a user drew.

A sketch is bool [height, width], True on lines. The network sees it under the mask only.

The paper takes lines of scenes from HED, a network for edges that we do not have, and of faces from landmarks. Here
they come from Canny's detector, or from a folder with the edge images of whatever detector the user has.
"""

import math
from pathlib import Path

import cv2
import numpy as np

from common.errors import UserError
from common.imaging.io import SUFFIXES, Levels, read_levels
from common.imaging.transforms import Crop, crop_square
from common.inpainting.pipeline import LINE_FRACTION

BLUR_PX = 1.4  # standard deviation at 256 x 256 px, follows the root of the area; less draws hair and leaves
THRESHOLD = 0.6  # of an edge map's answers, from where on they are lines [release]
FAINT_LEVELS, CLEAR_LEVELS = 19, 48  # of 255: the smallest step that continues a line, and that starts one


def edges(image: np.ndarray) -> np.ndarray:
    """One-pixel lines from Canny's detector, not from the paper's HED: thinner, and more of them in texture.

    The image is blurred in proportion to its size, so that a face has the same lines at 64 and at 512 px. A line
    starts where one of the colours steps by `CLEAR_LEVELS` and follows steps down to `FAINT_LEVELS`. On 256 x 256 px
    about 5 % of a face and 8 % of a street are lines.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        bool [height, width].
    """
    deviation = max(0.5, BLUR_PX * math.sqrt(image.shape[0] * image.shape[1]) / 256)
    reach = math.ceil(3 * deviation)
    kernel = cv2.getGaussianKernel(2 * reach + 1, deviation)
    blurred = cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    # A step of one level, blurred, is answered by Sobel's filter with 4 times what the kernel has within two pixels.
    # Scaled to 32 for all kernels, since Canny takes integers and wide kernels would leave few of them.
    scale = 32 / (4 * float(kernel[reach : reach + 2].sum()))
    across, down = (cv2.Sobel(blurred, cv2.CV_32F, *axis, scale=scale) for axis in ((1, 0), (0, 1)))
    across, down = across.round().astype(np.int16), down.round().astype(np.int16)
    return cv2.Canny(across, down, FAINT_LEVELS * 32, CLEAR_LEVELS * 32, L2gradient=True) > 0


def read_sketch(path: str | Path, height: int, width: int, threshold: float = THRESHOLD) -> np.ndarray:
    """Reads drawn lines or an edge map (HED), whichever way round they are.

    * On a transparent layer, more than half of which is bare: whatever is painted is line, in any colour.
    * Else, where more than half of the image is bright, lines are dark on light paper; otherwise light on dark, as in
      edge maps. Coloured lines count by their strongest channel. Rubbed-out parts of a paper have no lines.
    * Of any depth, as `image_files` reads it; files that hold only 0 and 1 mark lines by 1.

    Args:
        height, width: the image's size; the file must have the same.
        threshold: a line is what is stronger than this, of 0..1. The release cuts HED's answers at 0.6.

    Returns:
        bool [height, width]; may be empty.

    Raises:
        UserError: unreadable, or of another size than its image.
    """
    strength = _strength(read_levels(path, f"the sketch {path}"))
    if strength.shape != (height, width):
        raise UserError(
            f"the sketch {path} is {strength.shape[1]} x {strength.shape[0]} px, but its image is "
            f"{width} x {height} px; draw the sketch at the image's size"
        )
    return strength > threshold


def _strength(levels: Levels) -> np.ndarray:
    """How much of a line each pixel is: float [height, width] in 0..1."""
    values, channels = levels.values / levels.full, levels.values.shape[2]
    opaque = values[..., -1] if channels in (2, 4) else np.ones(values.shape[:2])
    if opaque.mean() < 0.5 and np.ptp(opaque) > 0:
        return opaque
    colours = values[..., : 1 if channels <= 2 else 3]
    if levels.full > 1 and colours.max() * levels.full == 1:  # 0/1 values instead of brightness
        colours = colours * levels.full
    visible = opaque >= 0.5
    dark_on_light = visible.any() and np.median(colours.mean(axis=2)[visible]) > 0.5
    strength = 1 - colours.min(axis=2) if dark_on_light else colours.max(axis=2)
    return np.where(visible, strength, 0)


def edge_file(photo: str | Path, folder: str | Path) -> Path:
    """The edge image of a photo: `<name>_edge` in the folder, as the release calls it, or a file of the same name.

    The suffix may differ from the photo's. The folder may be the photo's own, then only `<name>_edge` counts.

    Raises:
        UserError: there is no such folder, or no such file in it.
    """
    photo, folder = Path(photo), Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder of edges {folder}")
    own_folder = photo.parent.resolve() == folder.resolve()
    for stem in [f"{photo.stem}_edge"] + [photo.stem] * (not own_folder):
        for suffix in sorted(SUFFIXES):  # asked by name, since a folder may hold 200,000 files
            for path in (folder / f"{stem}{suffix}", folder / f"{stem}{suffix.upper()}"):
                if path.is_file():
                    return path
    instead = "" if own_folder else f" or {photo.stem}.png"
    raise UserError(f"{folder} has no edge image of {photo.name}; call it {photo.stem}_edge.png{instead}")


def crop(lines: np.ndarray, crop: Crop, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """A sketch cut and resized as `crop_square` does its image, bool [size_px, size_px]."""
    image = np.repeat(lines[..., None], 3, axis=2).astype(np.uint8) * 255
    return crop_square(image, crop, size_px, rng)[..., 0] > 255 * LINE_FRACTION


def drop(sketch: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """The sketch, or with the probability `rate` an empty one, so that one network serves with and without a sketch."""
    return np.zeros_like(sketch) if rng.random() < rate else sketch


def thicken(sketch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sketch with lines 0, 1 or 2 px wider, each as likely: users draw with thicker pens than Canny (D8)."""
    wider = int(rng.integers(0, 3))
    return cv2.dilate(sketch.astype(np.uint8), np.ones((1 + wider, 1 + wider), np.uint8)) > 0
