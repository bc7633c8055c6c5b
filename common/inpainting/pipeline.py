"""Any photo, any hole -> a network that knows one size -> the same photo, its hole filled.

An aligned face is seen as the network's training images were cut, another photo of about the network's size whole. In a
larger one each hole gets a window with context around it, at full resolution if the hole fits what the network was
trained on, and else at the scale where it does. The network never sees a colour from under a hole, and every known
pixel comes back bit-identical.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from common.errors import UserError
from common.imaging.transforms import Crop, to_network
from common.inpainting import blending
from common.inpainting.tiling import Window, WindowMode, plan_parts
from common.masks.components import components
from common.runtime import memory

# (float32 [n, 3, h, w] in [-1, 1], float32 [n, 1, h, w] with 1 = hole) -> float32 [n, 3, h, w] in [-1, 1];
# where photos come with sketches, float32 [n, 1, h, w] with 1 = line is given as well
Network = Callable[..., np.ndarray]

LEAST_FRACTION = 1e-3  # of other windows where the frame of training prevails
LINE_FRACTION = 0.25  # of a network's pixel that lines must cover to be a line there


@dataclass
class _Canvas:
    """A photo being completed: predictions times their weights, and the weights, summed over windows."""

    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    windows: list[Window]
    predicted: np.ndarray
    weight: np.ndarray
    sketch: np.ndarray | None = None


def complete_batch(
    network: Network,
    images: list[np.ndarray],
    masks: list[np.ndarray],
    *,
    network_px: int,
    stride: int = 4,
    largest_mask: float = 0.5,
    blend: blending.Blend = "paste",
    window: WindowMode = "auto",
    crop: Crop | None = None,
    batch_size: int = 4,
    sketches: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Fills the holes of photos of any sizes, whose windows share the network's batches.

    Args:
        network: called with float32 images [n, 3, h, w] in [-1, 1] and masks [n, 1, h, w] (1 = hole), h and w
            multiples of `stride`; returns such images, also outside the hole. Under the hole it is given the mean
            colour of the window's known pixels.
        images: uint8 [height, width, 3].
        masks: bool [height, width]; if empty, the photo is returned; if full, all of it is predicted.
        network_px, largest_mask, window, crop: see `windows.plan`, which tells beforehand what the network is given.
        stride: what the network's input sides must be multiples of; reached by reflection.
        blend: see `common.inpainting.blending`.
        batch_size: windows of one size given to the network at once.
        sketches: bool [height, width] for each photo, True on lines; the network is then given them as well.

    Returns:
        uint8 [height, width, 3], equal to the photo outside the hole.

    Raises:
        UserError: image and hole differ in size, or are no image and no hole.
    """
    canvases = [
        _canvas(image, mask, network_px, largest_mask, window, crop) for image, mask in zip(images, masks, strict=True)
    ]
    for canvas, sketch in zip(canvases, sketches or [], strict=bool(sketches)):
        canvas.sketch = sketch
    alike = defaultdict(list)
    for canvas in canvases:
        for one in canvas.windows:
            alike[-(-one.height // stride), -(-one.width // stride)].append((canvas, one))
    for jobs in alike.values():
        start = 0
        while start < len(jobs):
            batch = jobs[start : start + batch_size]
            try:
                predictions = _predict(network, batch, stride)
            except Exception as problem:
                if not memory.is_out_of_memory(problem):
                    raise
                batch_size = _less(jobs, start, len(batch), network_px, problem)
                continue
            for job, prediction in zip(batch, predictions, strict=True):
                _take(*job, prediction)
            start += len(batch)
    return [_finish(canvas, blend) for canvas in canvases]


def _predict(network: Network, batch: list[tuple[_Canvas, Window]], stride: int) -> np.ndarray:
    """The network's answers for some windows of one size."""
    pixels, masks = zip(*(_network_input(*job, stride) for job in batch), strict=True)
    pixels, masks = to_network(np.stack(pixels)), np.stack(masks)[:, None].astype(np.float32)
    lines = [] if batch[0][0].sketch is None else [np.stack([_network_sketch(*job, stride) for job in batch])]
    predictions = network(pixels, masks, *lines)
    if predictions.shape != pixels.shape:
        raise ValueError(f"the network returned {predictions.shape} for {pixels.shape}")
    return predictions


def _less(jobs: list[tuple[_Canvas, Window]], start: int, count: int, network_px: int, problem: Exception) -> int:
    """The next smaller batch size after `count` windows needed too much memory. One window is halved in scale.

    Raises:
        UserError: the window is as small as it may be: half of what the network was trained on.
    """
    canvas, window = jobs[start]
    tried = f"memory ran out in a batch of {count} windows of {window.width} x {window.height} px"
    tried += memory.size_asked(problem)
    if count > 1:
        tqdm.write(f"note: {tried}; going on with {count // 2} at once", file=sys.stderr)
        return count // 2
    if min(window.height, window.width) < network_px:
        raise UserError(f"{tried}; {memory.ADVICE}") from None
    jobs[start] = canvas, replace(window, height=window.height // 2, width=window.width // 2)
    tqdm.write(f"note: {tried}; computing it at half its scale, with less detail", file=sys.stderr)
    return 1


def _canvas(image: np.ndarray, mask: np.ndarray, network_px: int, largest_mask: float, window, crop) -> _Canvas:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or mask.dtype != bool or mask.ndim != 2:
        given = f"{image.dtype} {image.shape} with a hole {mask.dtype} {mask.shape}"
        raise UserError(f"cannot complete {given}; give uint8 [height, width, 3] and bool [height, width]")
    if image.shape[:2] != mask.shape:
        raise UserError(
            f"the image is {image.shape[1]} x {image.shape[0]} px, its hole {mask.shape[1]} x {mask.shape[0]} px; "
            "give both one size"
        )
    labels, boxes = components(mask)
    windows = plan_parts(mask, labels, boxes, network_px, largest_mask, window, crop) if len(boxes) else []
    # Zeros cost no memory until they are written, and only the holes' surroundings are.
    return _Canvas(image, mask, labels, windows, np.zeros(image.shape, np.float32), np.zeros(mask.shape, np.float32))


def _network_input(canvas: _Canvas, window: Window, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The window at the network's size, uint8 [h, w, 3], and its mask, bool [h, w], padded by reflection.

    A network pixel that touches the hole is hole. So a known one holds known colours only; the rest get their mean.
    """
    place = np.s_[window.top : window.bottom, window.left : window.right]
    pixels, mask = canvas.image[place].copy(), canvas.mask[place]
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
    return (np.pad(lines, pad, mode="reflect") >= LINE_FRACTION).astype(np.float32)[None]


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
    mine = ~canvas.mask[part] | np.isin(canvas.labels[part], window.parts)
    fade = max(1, min(window.height, window.width) // 8)
    if window.framed:
        length = canvas.mask.shape
        rows, columns = _prevailing(top, bottom, length[0], fade), _prevailing(left, right, length[1], fade)
        fraction = rows[:, None] * columns[None]
        weight = mine * (fade**2 * fraction / (1 - fraction + LEAST_FRACTION)).astype(np.float32)
    else:
        rows, columns = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in (bottom - top, right - left))
        weight = np.minimum(rows, fade)[:, None] * np.minimum(columns, fade)[None] * mine.astype(np.float32)
    canvas.weight[part] += weight
    canvas.predicted[part] += (
        levels[top - window.top : bottom - window.top, left - window.left : right - window.left] * (weight[:, :, None])
    )


def _prevailing(start: int, end: int, length: int, fade: int) -> np.ndarray:
    """Share of the frame's prediction along a side: rises from its edges, but not from those of the photo."""
    near = np.full(end - start, fade)
    if start > 0:
        near = np.minimum(near, np.arange(1, end - start + 1))
    if end < length:
        near = np.minimum(near, np.arange(end - start, 0, -1))
    return near / fade


def _finish(canvas: _Canvas, how: blending.Blend) -> np.ndarray:
    if not canvas.windows:
        return canvas.image.copy()
    predicted = canvas.predicted
    touched = canvas.weight > 0
    predicted[touched] /= canvas.weight[touched][:, None]
    return blending.blend(canvas.image, predicted, canvas.mask, how)
