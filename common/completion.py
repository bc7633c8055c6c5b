"""Any photo, any hole -> a network that knows one size -> the same photo, its hole filled.

A photo of about the network's size is seen whole. In a larger one each hole gets a window with context around it, at
full resolution if the hole fits what the network was trained on, and else at the scale where it does. The network
never sees a colour from under a hole, and every known pixel comes back bit-identical.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from common import blending
from common.errors import UserError
from common.images import to_network
from common.masks import components
from common.windows import Window, WindowMode, plan_parts

# (float32 [n, 3, h, w] in [-1, 1], float32 [n, 1, h, w] with 1 = hole) -> float32 [n, 3, h, w] in [-1, 1];
# where photos come with sketches, float32 [n, 1, h, w] with 1 = line is given as well
Network = Callable[..., np.ndarray]

LINE_SHARE = 0.25  # of a network's pixel that lines must cover to be a line there


@dataclass
class _Canvas:
    """A photo being completed: predictions times their weights, and the weights, summed over windows."""

    image: np.ndarray
    hole: np.ndarray
    labels: np.ndarray
    windows: list[Window]
    predicted: np.ndarray
    weight: np.ndarray
    sketch: np.ndarray | None = None


def complete(
    network: Network,
    image: np.ndarray,
    hole: np.ndarray,
    *,
    network_px: int,
    stride: int = 4,
    largest_hole: float = 0.5,
    blend: blending.Blend = "paste",
    window: WindowMode = "auto",
    batch_size: int = 4,
) -> np.ndarray:
    """Fills the hole of one photo of any size.

    Args:
        network: called with float32 images [n, 3, h, w] in [-1, 1] and masks [n, 1, h, w] (1 = hole), h and w
            multiples of `stride`; returns such images, also outside the hole. Under the hole it is given the mean
            colour of the window's known pixels.
        image: uint8 [height, width, 3].
        hole: bool [height, width]; if empty, the photo is returned; if full, all of it is predicted.
        network_px, largest_hole, window: see `windows.plan`, which tells beforehand what the network will be given.
        stride: what the network's input sides must be multiples of; reached by reflection.
        blend: see `common.blending`.
        batch_size: windows of one size given to the network at once.

    Returns:
        uint8 [height, width, 3], equal to `image` outside the hole.

    Raises:
        UserError: image and hole differ in size, or are no image and no hole.
    """
    options = {"network_px": network_px, "stride": stride, "largest_hole": largest_hole}
    return complete_batch(network, [image], [hole], **options, blend=blend, window=window, batch_size=batch_size)[0]


def complete_batch(
    network: Network,
    images: list[np.ndarray],
    holes: list[np.ndarray],
    *,
    network_px: int,
    stride: int = 4,
    largest_hole: float = 0.5,
    blend: blending.Blend = "paste",
    window: WindowMode = "auto",
    batch_size: int = 4,
    sketches: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """`complete` for several photos of any sizes, whose windows share the network's batches.

    Args:
        sketches: bool [height, width] for each photo, True on lines; the network is then given them as well.
    """
    canvases = [
        _canvas(image, hole, network_px, largest_hole, window) for image, hole in zip(images, holes, strict=True)
    ]
    for canvas, sketch in zip(canvases, sketches or [], strict=bool(sketches)):
        canvas.sketch = sketch
    alike = defaultdict(list)
    for canvas in canvases:
        for one in canvas.windows:
            alike[-(-one.height // stride), -(-one.width // stride)].append((canvas, one))
    for jobs in alike.values():
        for start in range(0, len(jobs), batch_size):
            batch = jobs[start : start + batch_size]
            pixels, masks = zip(*(_network_input(*job, stride) for job in batch), strict=True)
            pixels, masks = to_network(np.stack(pixels)), np.stack(masks)[:, None].astype(np.float32)
            lines = [] if sketches is None else [np.stack([_network_sketch(*job, stride) for job in batch])]
            predictions = network(pixels, masks, *lines)
            if predictions.shape != pixels.shape:
                raise ValueError(f"the network returned {predictions.shape} for {pixels.shape}")
            for job, prediction in zip(batch, predictions, strict=True):
                _take(*job, prediction)
    return [_finish(canvas, blend) for canvas in canvases]


def _canvas(image: np.ndarray, hole: np.ndarray, network_px: int, largest_hole: float, window: WindowMode) -> _Canvas:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or hole.dtype != bool or hole.ndim != 2:
        given = f"{image.dtype} {image.shape} with a hole {hole.dtype} {hole.shape}"
        raise UserError(f"cannot complete {given}; give uint8 [height, width, 3] and bool [height, width]")
    if image.shape[:2] != hole.shape:
        raise UserError(
            f"the picture is {image.shape[1]} x {image.shape[0]} px, its hole {hole.shape[1]} x {hole.shape[0]} px; "
            "give both one size"
        )
    labels, boxes = components(hole)
    windows = plan_parts(hole, labels, boxes, network_px, largest_hole, window) if len(boxes) else []
    # Zeros cost no memory until they are written, and only the holes' surroundings are.
    return _Canvas(image, hole, labels, windows, np.zeros(image.shape, np.float32), np.zeros(hole.shape, np.float32))


def _network_input(canvas: _Canvas, window: Window, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The window at the network's size, uint8 [h, w, 3], and its mask, bool [h, w], padded by reflection.

    A network pixel that touches the hole is hole. So a known one holds known colours only; the rest get their mean.
    """
    place = np.s_[window.top : window.bottom, window.left : window.right]
    pixels, mask = canvas.image[place].copy(), canvas.hole[place]
    mean = np.full(3, 128, np.uint8) if mask.all() else np.rint(pixels[~mask].mean(axis=0)).astype(np.uint8)
    pixels[mask] = mean
    size = (window.width, window.height)
    if size != mask.shape[::-1]:
        # Linear where it grows: a cubic kernel would reach over more of the hole.
        kernel = cv2.INTER_AREA if window.width < mask.shape[1] or window.height < mask.shape[0] else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, size, interpolation=kernel)
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=kernel) > 1e-6
        pixels[mask] = mean
    pad = ((0, -window.height % stride), (0, -window.width % stride))
    return np.pad(pixels, (*pad, (0, 0)), mode="reflect"), np.pad(mask, pad, mode="reflect")


def _network_sketch(canvas: _Canvas, window: Window, stride: int) -> np.ndarray:
    """The window's part of the sketch at the network's size, float32 [1, h, w] in {0, 1}, padded by reflection."""
    lines = canvas.sketch[window.top : window.bottom, window.left : window.right].astype(np.float32)
    size = (window.width, window.height)
    if size != lines.shape[::-1]:
        shrinks = window.width < lines.shape[1] or window.height < lines.shape[0]
        lines = cv2.resize(lines, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    pad = ((0, -window.height % stride), (0, -window.width % stride))
    return (np.pad(lines, pad, mode="reflect") >= LINE_SHARE).astype(np.float32)[None]


def _take(canvas: _Canvas, window: Window, prediction: np.ndarray) -> None:
    """Adds one prediction, float [3, h, w] in [-1, 1], to the canvas: its hole, and the known pixels right beside it.

    Its weight falls towards the edge of the core, so that the windows along a scratch fade into each other.
    """
    levels = (prediction[:, : window.height, : window.width].transpose(1, 2, 0).astype(np.float32) + 1) * 127.5
    place = (window.right - window.left, window.bottom - window.top)
    if place != (window.width, window.height):
        levels = cv2.resize(levels, place, interpolation=cv2.INTER_CUBIC)
    top, left = max(window.top, window.core[0] - 1), max(window.left, window.core[1] - 1)
    bottom, right = min(window.bottom, window.core[2] + 1), min(window.right, window.core[3] + 1)
    part = np.s_[top:bottom, left:right]
    mine = ~canvas.hole[part] | np.isin(canvas.labels[part], window.parts)
    fade = max(1, min(window.height, window.width) // 8)
    rows, columns = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in (bottom - top, right - left))
    weight = np.minimum(rows, fade)[:, None] * np.minimum(columns, fade)[None] * mine.astype(np.float32)
    canvas.weight[part] += weight
    canvas.predicted[part] += (
        levels[top - window.top : bottom - window.top, left - window.left : right - window.left] * (weight[:, :, None])
    )


def _finish(canvas: _Canvas, how: blending.Blend) -> np.ndarray:
    if not canvas.windows:
        return canvas.image.copy()
    predicted = canvas.predicted
    touched = canvas.weight > 0
    predicted[touched] /= canvas.weight[touched][:, None]
    return blending.blend(canvas.image, predicted, canvas.hole, how)
