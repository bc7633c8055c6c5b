"""Offsets as colours: the direction is a hue, the distance its strength (Baker et al. 2007, Middlebury's wheel)."""

import numpy as np

RED, YELLOW, GREEN, CYAN, BLUE, MAGENTA = np.array(
    [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]], np.float64
)
# From which hue to which, in how many steps: more of them where the eye tells more hues apart.
ARCS = [
    (RED, YELLOW, 15),
    (YELLOW, GREEN, 6),
    (GREEN, CYAN, 4),
    (CYAN, BLUE, 11),
    (BLUE, MAGENTA, 13),
    (MAGENTA, RED, 6),
]


def colour_wheel() -> np.ndarray:
    """The 55 hues, float64 [55, 3] in 0..255: from red for what lies to the right, clockwise."""
    return np.concatenate([start + (end - start) * np.arange(n)[:, None] / n for start, end, n in ARCS])


def flow_colours(offsets: np.ndarray) -> np.ndarray:
    """Paints offsets: white for none, the pure hue for the farthest, paler hues in between.

    Right is red, below yellow, left cyan, above violet, or nearly so: the 55 hues are spread evenly over the circle.

    Args:
        offsets: [h, w, 2], row and column of what is pointed to minus one's own.

    Returns:
        uint8 [h, w, 3] RGB.
    """
    wheel = colour_wheel()
    down, right = np.moveaxis(offsets.astype(np.float64), -1, 0)
    distance = np.hypot(down, right)
    strength = distance / max(distance.max(), 1e-9)
    place = np.arctan2(down, right) / (2 * np.pi) % 1 * len(wheel)
    first = np.floor(place).astype(int)
    fraction = (place - first)[..., None]
    hue = (1 - fraction) * wheel[first % len(wheel)] + fraction * wheel[(first + 1) % len(wheel)]
    return np.rint(255 - strength[..., None] * (255 - hue)).astype(np.uint8)
