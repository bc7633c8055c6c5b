"""How a pair of images becomes what the networks see, and how their output becomes an image again.

Photo and label are RGB in [-1, 1]. For grey-to-colour (Sec. 4.2) the networks work in CIELAB: the source is the
lightness, L / 50 - 1, the target the two colour axes, a / 110 and b / 110; the result has its source's lightness.
"""

import cv2
import numpy as np

from common.imaging.transforms import from_network, resize, to_network
from common.runtime.device import upload
from pix2pix.config import Direction


def channels(direction: Direction) -> tuple[int, int]:
    """Encodings of the source and of the target."""
    return (1, 2) if direction == "grey-to-colour" else (3, 3)


def as_pair(item, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    """(source, target) of one item of a set, uint8 [H, W, 3] both.

    Args:
        item: (photo, label), or a single photo for grey-to-colour.
    """
    if direction == "grey-to-colour":
        return grey(item), item
    photo, label = item
    return (photo, label) if direction == "photo-to-label" else (label, photo)


def grey(photo: np.ndarray) -> np.ndarray:
    """The photo without colour: uint8 [H, W, 3] of the same lightness everywhere."""
    lab = to_lab(photo)
    lab[..., 1:] = 0
    return from_lab(lab)


def to_lab(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] RGB -> float32 [H, W, 3]: L in 0..100, a and b in about -110..110."""
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The inverse of `to_lab`; colours outside RGB are clipped."""
    return np.rint(np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1) * 255).astype(np.uint8)


def encode_source(sources: np.ndarray, direction: Direction):
    """uint8 [N, H, W, 3] -> tensor float32 [N, 3 or 1, H, W] in [-1, 1]."""
    if direction != "grey-to-colour":
        return upload(to_network(sources))
    lightness = np.stack([to_lab(source)[..., 0] for source in sources])
    return upload(lightness[:, None] / 50 - 1)


def to_networks(sources: np.ndarray, targets: np.ndarray, direction: Direction) -> tuple:
    """A batch from the readers, uint8 [N, H, W, 3] each, as the two tensors of a training step."""
    source = encode_source(sources, direction)
    if direction != "grey-to-colour":
        return source, upload(to_network(targets))
    colour = np.stack([to_lab(target)[..., 1:] for target in targets]).transpose(0, 3, 1, 2)
    return source, upload(np.ascontiguousarray(colour / 110))


def decode(output: np.ndarray, source: np.ndarray, direction: Direction) -> np.ndarray:
    """The image that a network's output stands for, at the size of its source.

    Labels are upsampled by nearest neighbour, because blended label colours mean something else. A coloured photo has
    its source's lightness at full size, whatever the size that the network saw.

    Args:
        output: float32 [C, h, w] in [-1, 1].
        source: uint8 [H, W, 3].

    Returns:
        uint8 [H, W, 3].
    """
    height, width = source.shape[:2]
    if direction == "grey-to-colour":
        lab = to_lab(source)
        lab[..., 1:] = cv2.resize(output.transpose(1, 2, 0) * 110, (width, height), interpolation=cv2.INTER_LINEAR)
        return from_lab(lab)
    image = from_network(output[None])[0]
    if direction == "photo-to-label":
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    return resize(image, height, width)
