"""The holes of the article, of its code and of the paper, by name.

The paper's mask M is 1 where the picture is known. A hole, as everywhere in the suite, is True where it is not: what
the code sets to 0 is set to True here.
"""

from collections.abc import Callable

import numpy as np

from common import masks, regions
from common.errors import UserError

LOWRES = "lowres"  # super-resolution: no hole, but `search` is given lowres=True and compares block means
PATTERN_SEED = 0  # one pattern for all pictures; their windows of it differ


def hole(kind: str, side_px: int, rng: np.random.Generator, scale: float = 0.25) -> np.ndarray:
    """Draws one hole for a square picture, for each its own (the article's code has one for all of a run, D14).

    Args:
        kind: one of `KINDS`.
        scale: of `center`: the known margin as a share of the side, in (0, 0.5]; 0.25 gives 16:48 of 64 px, and 0.5 no
            hole at all (the code's centerScale).

    Returns:
        bool [side_px, side_px].

    Raises:
        UserError: there is no such kind, or the scale is out of range.
    """
    if kind not in KINDS:
        raise UserError(f"there are no holes of the kind {kind!r}; choose from {', '.join(KINDS)}")
    if not 0 < scale <= 0.5:
        raise UserError(f"the scale of the centre hole is {scale}; it must be more than 0 and at most 0.5")
    return KINDS[kind](side_px, rng, scale)


def _center(side_px: int, rng: np.random.Generator, scale: float) -> np.ndarray:
    drawn = _none(side_px)
    inside = slice(int(side_px * scale), int(side_px * (1 - scale)))
    drawn[inside, inside] = True
    return drawn


def _half(side_px: int, rng: np.random.Generator) -> np.ndarray:
    """The left, top, right or bottom half, each as likely."""
    return np.rot90(_left(side_px), -int(rng.integers(4))).copy()


def _left(side_px: int) -> np.ndarray:
    drawn = _none(side_px)
    drawn[:, : side_px // 2] = True
    return drawn


def _none(side_px: int) -> np.ndarray:
    return np.zeros((side_px, side_px), bool)


def _grid(side_px: int) -> np.ndarray:
    drawn = np.ones((side_px, side_px), bool)
    drawn[::4, ::4] = False
    return drawn


def _pattern(side_px: int, rng: np.random.Generator) -> np.ndarray:
    return regions.noise(side_px, side_px, rng, regions.noise_pattern(PATTERN_SEED))


# (side_px, rng, scale) -> bool [side_px, side_px]
KINDS: dict[str, Callable[[int, np.random.Generator, float], np.ndarray]] = {
    "center": _center,
    "random20": lambda side, rng, _: rng.random((side, side)) < 0.2,  # each pixel by itself, in all channels (article)
    "random80": lambda side, rng, _: rng.random((side, side)) < 0.8,  # likewise (Yeh et al.)
    "left": lambda side, *_: _left(side),
    "half": lambda side, rng, _: _half(side, rng),  # horizontal or vertical by chance (Yeh et al.)
    "full": lambda side, *_: _none(side),  # all is known, in the code's sense of full: reconstruction
    "grid": lambda side, *_: _grid(side),  # every fourth pixel of every fourth row is known
    "pattern": lambda side, rng, _: _pattern(side, rng),  # 20 to 30 % (Yeh et al.: about 25 %)
    "freeform": lambda side, rng, _: masks.freeform(side, side, rng),  # brush strokes [ours]
    LOWRES: lambda side, *_: _none(side),
}
