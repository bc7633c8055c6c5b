"""Visualisations of the search: how G(z) and the completed image change, and the losses.

Arrays come as from `search.Found`: images uint8 [N, H, W, 3], masks bool [N, H, W], frames uint8 [F, N, H, W, 3] with
the F steps after which they were generated. For some of the images pass `found.frames[:, :4]`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
from PIL import Image

from common.errors import UserError
from common.imaging.grid import grid, show_mask

COLUMNS = 8  # frames shown in a strip
STRIP_CELL_PX, ANIMATION_CELL_PX = 96, 192  # least width of an image; 64 px are upsampled 2 and 3 times
LAST_MILLISECONDS = 2000  # the result is shown longest


def strip(
    image: np.ndarray,
    mask: np.ndarray,
    frames: np.ndarray,
    steps: list[int],
    blended: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> np.ndarray:
    """Two rows for each image: the input and G(z) after more and more steps; below, G(z) composited into the image.

    At most COLUMNS frames are shown, spread evenly, the first and the last among them.

    Args:
        blended: uint8 [N, H, W, 3], a final result, in a column of its own.
        truth: likewise, in the last column.

    Returns:
        uint8 [height, width, 3], a sheet.

    Raises:
        ValueError: the arrays do not fit each other, or there are no frames.
    """
    _check_shapes(image, mask, frames, steps)
    shown = np.unique(np.rint(np.linspace(0, len(frames) - 1, min(COLUMNS, len(frames)))).astype(int))
    blank = np.full_like(image[0], 255)
    completed = _completed(image, mask, frames[shown])
    rows = []
    for n in range(len(image)):
        above, below = [show_mask(image[n], mask[n]), *frames[shown, n]], [blank, *completed[:, n]]
        if blended is not None:
            above, below = [*above, blank], [*below, blended[n]]
        if truth is not None:
            above, below = [*above, blank], [*below, truth[n]]
        rows += [above, below]
    extra = ["blended"] * (blended is not None) + ["truth"] * (truth is not None)
    return grid(rows, ["input", *(f"step {steps[k]}" for k in shown), *extra], cell_px=STRIP_CELL_PX)


def animation(
    path: str | Path, image: np.ndarray, mask: np.ndarray, frames: np.ndarray, steps: list[int], milliseconds: int = 120
) -> None:
    """Writes a GIF that repeats for ever: G(z) beside the completed image, one row for each image.

    Args:
        milliseconds: how long each frame is shown, in whole hundredths of a second; the last is held for
            LAST_MILLISECONDS, if that is longer.

    Raises:
        UserError: the file cannot be written, or its name does not end in .gif.
        ValueError: the arrays do not fit each other, or there are no frames.
    """
    _check_shapes(image, mask, frames, steps)
    sheets = []
    for step, generated, completed in zip(steps, frames, _completed(image, mask, frames), strict=True):
        rows = [list(row) for row in zip(generated, completed, strict=True)]
        sheets.append(_with_palette(grid(rows, [f"G(z), step {step}", "completed"], cell_px=ANIMATION_CELL_PX)))
    durations = [milliseconds] * (len(sheets) - 1) + [max(milliseconds, LAST_MILLISECONDS)]
    with _writing(path, ".gif"):
        sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=durations, loop=0)


def _with_palette(sheet: np.ndarray) -> Image.Image:
    """The sheet in 256 colours of its own. Pillow only dithers towards a palette it is given, hence the two passes."""
    image = Image.fromarray(sheet)
    palette = image.quantize(256, method=Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def curves(path: str | Path, contextual: np.ndarray, perceptual: np.ndarray, weight: float) -> None:
    """Draws the losses over the steps as a PNG: contextual, perceptual, and what is minimised.

    Args:
        contextual, perceptual: float [steps, N], each image a thin line and their mean a bold one.
        weight: lambda, by which the perceptual loss counts in the sum.

    Raises:
        UserError: the file cannot be written, or its name does not end in .png.
    """
    panels = {
        "contextual loss": contextual,
        "perceptual loss": perceptual,
        f"contextual + {weight:g} x perceptual": contextual + weight * perceptual,
    }
    figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        marker = "." if len(values) < 30 else None
        axes.plot(values, color="tab:blue", linewidth=0.6, alpha=0.5)
        axes.plot(values.mean(1), color="black", linewidth=2, marker=marker, label="mean")
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    with _writing(path, ".png"):
        figure.savefig(path, dpi=80)


def _check_shapes(image: np.ndarray, mask: np.ndarray, frames: np.ndarray, steps: list[int]) -> None:
    if not len(frames) or frames.shape != (len(steps), *image.shape) or mask.shape != image.shape[:3]:
        raise ValueError(
            f"frames {frames.shape} of {len(steps)} steps, images {image.shape} and masks {mask.shape} do not fit"
        )


def _completed(image: np.ndarray, mask: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """M * y + (1 - M) * G(z) for all frames, uint8 [F, N, H, W, 3]."""
    return np.where(mask[..., None], frames, image)


@contextlib.contextmanager
def _writing(path: str | Path, suffix: str) -> Iterator[None]:
    """Makes the folder; the operating system's complaints become the user's."""
    if Path(path).suffix.lower() != suffix:
        raise UserError(f"cannot write {path}: the name must end in {suffix}")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror or problem}") from None
