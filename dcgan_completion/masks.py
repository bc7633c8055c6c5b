"""The masks of the article, of its code and of the paper, by name.

The paper's mask M is 1 where the image is known. Here, as everywhere in the suite, a mask is True where the image is
missing.
"""

from collections.abc import Callable

import numpy as np

from common.errors import UserError
from common.masks import generators, irregular

LOWRES = "lowres"  # super-resolution: nothing is missing, but `search` is given lowres=True and compares block means
PATTERN_SEED = 0  # one pattern for all images; their windows of it differ


def sample_mask(kind: str, side_px: int, rng: np.random.Generator, scale: float = 0.25) -> np.ndarray:
    """Samples one mask for a square image, a new one for each (the article's code has one for a whole run, D14).

    Args:
        kind: one of `KINDS`.
        scale: of `center`: the known margin as a fraction of the side, (0, 0.5]; 0.25 gives 16:48 of 64 px, and 0.5
            nothing missing (the code's centerScale).

    Returns:
        bool [side_px, side_px].

    Raises:
        UserError: there is no such kind, or the scale is out of range.
    """
    if kind not in KINDS:
        raise UserError(f"there are no masks of the kind {kind!r}; choose from {', '.join(KINDS)}")
    if not 0 < scale <= 0.5:
        raise UserError(f"the scale of the centre hole is {scale}; it must be more than 0 and at most 0.5")
    return KINDS[kind](side_px, rng, scale)


def _center(side_px: int, rng: np.random.Generator, scale: float) -> np.ndarray:
    mask = _none(side_px)
    inside = slice(int(side_px * scale), int(side_px * (1 - scale)))
    mask[inside, inside] = True
    return mask


def _half(side_px: int, rng: np.random.Generator) -> np.ndarray:
    """The left, top, right or bottom half, each as likely."""
    return np.rot90(_left(side_px), -int(rng.integers(4))).copy()


def _left(side_px: int) -> np.ndarray:
    mask = _none(side_px)
    mask[:, : side_px // 2] = True
    return mask


def _none(side_px: int) -> np.ndarray:
    return np.zeros((side_px, side_px), bool)


def _grid(side_px: int) -> np.ndarray:
    mask = np.ones((side_px, side_px), bool)
    mask[::4, ::4] = False
    return mask


def _pattern(side_px: int, rng: np.random.Generator) -> np.ndarray:
    return irregular.noise(side_px, side_px, rng, irregular.noise_pattern(PATTERN_SEED))


# (side_px, rng, scale) -> bool [side_px, side_px]
KINDS: dict[str, Callable[[int, np.random.Generator, float], np.ndarray]] = {
    "center": _center,
    "random": lambda side, rng, _: generators.anywhere(side, side, rng),  # a rectangle [ours, as in all papers]
    "random20": lambda side, rng, _: rng.random((side, side)) < 0.2,  # each pixel by itself, in all channels (article)
    "random80": lambda side, rng, _: rng.random((side, side)) < 0.8,  # likewise (Yeh et al.)
    "left": lambda side, *_: _left(side),
    "half": lambda side, rng, _: _half(side, rng),  # horizontal or vertical at random (Yeh et al.)
    "full": lambda side, *_: _none(side),  # all pixels are known, the code's meaning of full: reconstruction
    "grid": lambda side, *_: _grid(side),  # every fourth pixel of every fourth row is known
    "pattern": lambda side, rng, _: _pattern(side, rng),  # 20 to 30 % (Yeh et al.: about 25 %)
    "freeform": lambda side, rng, _: generators.freeform(side, side, rng),  # brush strokes [ours]
    LOWRES: lambda side, *_: _none(side),
}
