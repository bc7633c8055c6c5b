"""Images as feature networks take them: resized as the field's tools resize, and in batches of bounded memory."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from PIL import Image

import paddle
import paddle.nn.functional as F

BATCH = 8  # of EfficientNet-Lite0 at 224 px about 0.5 GB


def in_batches(images: Iterable[np.ndarray], size: int = BATCH) -> Iterator[list[np.ndarray]]:
    """Yields lists of up to `size` images; `images` may be a generator longer than memory."""
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield batch


def resize_clean(image: np.ndarray, side_px: int) -> np.ndarray:
    """Resize a uint8 [H, W, 3] image with Pillow's antialiased bicubic filter, without rounding (clean-fid, "clean").

    Returns:
        float32 [side, side, 3] in 0..255.
    """
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize((side_px, side_px), Image.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)


def resize_legacy(image: np.ndarray, side_px: int) -> np.ndarray:
    """Resize a uint8 [H, W, 3] image bilinearly without antialiasing (pytorch-fid; clean-fid, "legacy_pytorch").

    Returns:
        float32 [side, side, 3] in 0..255.
    """
    chw = paddle.to_tensor(image.transpose(2, 0, 1)[None].astype(np.float32))
    resized = F.interpolate(chw, [side_px, side_px], mode="bilinear", align_corners=False)
    return resized.numpy()[0].transpose(1, 2, 0).clip(0, 255)


def to_batch(images: Iterable[np.ndarray], offset: float, scale: float) -> paddle.Tensor:
    """Stack [H, W, 3] images in 0..255 as a float32 [N, 3, H, W] tensor of (value - offset) / scale."""
    stacked = np.stack(list(images)).astype(np.float32).transpose(0, 3, 1, 2)
    return paddle.to_tensor(np.ascontiguousarray((stacked - np.float32(offset)) / np.float32(scale)))
