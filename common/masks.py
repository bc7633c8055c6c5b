"""Holes: samplers, the universal reader, numbered evaluation sets.

A hole is bool [height, width], True where the picture is missing. All chance comes from the generator passed in.
"""

import hashlib
import math
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from common import regions
from common.errors import UserError
from common.images import decode, resize, write_image

GENERATOR_VERSION = 1  # raise it whenever a change below alters a single pixel of an evaluation set
SMALLEST_SHARE, LARGEST_SHARE = 0.001, 0.95  # of the picture; outside it the hole file was probably misread
BAND_TRIES, BAND_STROKES = 30, 60  # free-form holes drawn, and strokes in each, before the area is repaired


def rectangle(height: int, width: int, side_px: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One rectangle: both sides uniform and independent, its place uniform among those fully inside.

    Args:
        side_px: (shortest, longest) side in pixels, both included.

    Raises:
        UserError: the longest side does not fit into the picture, or the range is empty.
    """
    shortest, longest = side_px
    if not 1 <= shortest <= longest <= min(height, width):
        raise UserError(
            f"a hole with sides of {shortest}..{longest} px does not fit a picture of {width} x {height} px; "
            f"choose 1 <= shortest <= longest <= {min(height, width)}"
        )
    return _rectangle(height, width, side_px, side_px, rng)


def _rectangle(height: int, width: int, rows_px: tuple, columns_px: tuple, rng: np.random.Generator) -> np.ndarray:
    rows = int(rng.integers(*rows_px, endpoint=True))
    columns = int(rng.integers(*columns_px, endpoint=True))
    top = int(rng.integers(0, height - rows, endpoint=True))
    left = int(rng.integers(0, width - columns, endpoint=True))
    hole = np.zeros((height, width), bool)
    hole[top : top + rows, left : left + columns] = True
    return hole


def center(height: int, width: int, fraction: float = 0.5) -> np.ndarray:
    """The box in the middle whose sides are `fraction` of the picture's (at least one pixel)."""
    rows, columns = max(1, round(height * fraction)), max(1, round(width * fraction))
    top, left = (height - rows) // 2, (width - columns) // 2
    hole = np.zeros((height, width), bool)
    hole[top : top + rows, left : left + columns] = True
    return hole


def freeform(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One to three brush strokes, as in the published code of Yu et al. 2019 (free-form masks).

    The numbers are those for 256 x 256 px; lengths follow the picture's diagonal and brush widths its area.
    Unlike there the segments are drawn as exact capsules, so that no drawing library can change a hole.
    """
    hole = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(1, 4))):
        _stroke(hole, rng)
    return hole


def _stroke(hole: np.ndarray, rng: np.random.Generator) -> None:
    """Draws one zigzag with round joints into `hole`: 4..11 turns, brush 12..39 px of 256, steps around an 8th."""
    height, width = hole.shape
    vertices = int(rng.integers(4, 12))
    smallest = 2 * math.pi / 5 - rng.uniform(0, 2 * math.pi / 15)
    largest = 2 * math.pi / 5 + rng.uniform(0, 2 * math.pi / 15)
    brush_px = max(1, int(rng.uniform(12, 40) * math.sqrt(height * width) / 256))
    step_px = math.hypot(height, width) / 8
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    for turn in range(vertices):
        angle = rng.uniform(smallest, largest)
        angle = 2 * math.pi - angle if turn % 2 == 0 else angle
        length = min(max(rng.normal(step_px, step_px // 2), 0), 2 * step_px)
        to_x = int(min(max(x + length * math.cos(angle), 0), width))
        to_y = int(min(max(y + length * math.sin(angle), 0), height))
        _capsule(hole, x, y, to_x, to_y, brush_px / 2)
        x, y = to_x, to_y


def _capsule(hole: np.ndarray, x: int, y: int, to_x: int, to_y: int, radius: float) -> None:
    """Sets all pixels within `radius` of the segment (x, y) - (to_x, to_y)."""
    reach = math.ceil(radius)
    top, bottom = max(0, min(y, to_y) - reach), min(hole.shape[0], max(y, to_y) + reach + 1)
    left, right = max(0, min(x, to_x) - reach), min(hole.shape[1], max(x, to_x) + reach + 1)
    rows = np.arange(top, bottom, dtype=np.float64)[:, None] - y
    columns = np.arange(left, right, dtype=np.float64)[None] - x
    across, down = to_x - x, to_y - y
    along = np.clip((columns * across + rows * down) / max(1, across * across + down * down), 0, 1)
    near = (columns - along * across) ** 2 + (rows - along * down) ** 2 <= radius * radius
    hole[top:bottom, left:right] |= near


def freeform_in_band(height: int, width: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Brush strokes, added until their share of the picture is in [low, high).

    After a bounded number of tries the last hole is grown or shrunk evenly along its rim to the middle of the band.

    Raises:
        UserError: no whole number of pixels of this picture lies in the band.
    """
    pixels = height * width
    fewest, most = max(1, math.ceil(low * pixels)), math.ceil(high * pixels) - 1
    if not fewest <= most < pixels:
        raise UserError(
            f"no hole covers {low:.1%} to {high:.1%} of {width} x {height} px; use a larger picture or a wider band"
        )
    for _ in range(BAND_TRIES):
        wanted = int(rng.integers(fewest, most, endpoint=True))  # so that the shares fill the band
        hole = np.zeros((height, width), bool)
        for _ in range(BAND_STROKES):
            _stroke(hole, rng)
            if hole.sum() >= wanted:
                break
        if fewest <= hole.sum() <= most:
            return hole
    return regions.with_area(hole, (fewest + most) // 2)


def read_hole(
    path: str | Path, height: int | None = None, width: int | None = None, invert: bool = False
) -> np.ndarray:
    """Reads a hole however it was drawn. White marks the hole, black the known picture; `invert` swaps them.

    * Grey and colour: the brightest channel, cut at half; so soft edges, JPEG noise and coloured paint on black work.
      With `invert` the file's negative is read, so paint on white works too. 16 bit and 0..1 floats likewise.
    * Numbers instead of brightness (only 0 and 1, or only 0, 1 and 255, also in a grey palette): all but 0 is hole.
    * Colour palette (class labels): every colour but black is hole.
    * Transparency, where it varies: paint of one colour on a transparent layer marks the hole by the paint (this is
      the file whose RGB is all white and whose mask is its alpha); black-and-white is laid on black; anything more
      colourful is a picture with a part rubbed out, and the transparent part is the hole.

    Args:
        height, width: the picture's size; the file must have the same.

    Returns:
        bool [height, width]; may be entirely empty or full, see `check_hole`.

    Raises:
        UserError: unreadable, or of another size than its picture.
    """
    hole = decode(path, lambda picture: _hole_from(ImageOps.exif_transpose(picture), invert), f"the hole {path}")
    if (height, width) not in ((None, None), hole.shape):
        raise UserError(
            f"the hole {path} is {hole.shape[1]} x {hole.shape[0]} px, but its picture is {width} x {height} px; "
            "draw the hole at the picture's size"
        )
    return hole


def _hole_from(image: Image.Image, invert: bool) -> np.ndarray:
    if "A" in image.mode or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        opaque = pixels[:, :, 3] >= 128
        if opaque.any() and not opaque.all():
            return _hole_from_alpha(pixels[:, :, :3], opaque) ^ invert
    if image.mode.startswith("I") or image.mode == "F":  # 16 bit or float, which convert() would clip
        values = np.nan_to_num(np.asarray(image))
        full = next((scale for scale in (1, 255) if values.max() <= scale), 65535)
        return (values >= full / 2) ^ invert
    colours = np.asarray(image.convert("RGB"))
    brightest = colours.max(axis=2)
    if image.mode == "P" and (colours != colours[:, :, :1]).any():
        return (brightest >= 32) ^ invert  # 64 is the darkest colour of the usual label palettes
    if (brightest == 1).any() and np.isin(brightest, (0, 1, 255)).all():
        return (brightest > 0) ^ invert
    return colours.min(axis=2) < 128 if invert else brightest >= 128


def _hole_from_alpha(colours: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    seen = colours[opaque]
    if (np.ptp(seen, axis=0) <= 32).all():
        return opaque
    black_and_white = ((seen < 32).all(axis=1) | (seen >= 224).all(axis=1)).mean() > 0.95
    return opaque & (colours.max(axis=2) >= 128) if black_and_white else ~opaque


def check_hole(hole: np.ndarray, image: np.ndarray, report_path: str | Path) -> str | None:
    """Complains, with a picture, about a hole that was probably misread.

    Returns:
        None for an ordinary hole; a line to show for one of less than 0.1 % of the picture, which may be a scratch.

    Raises:
        UserError: there is no hole, or it covers more than 95 %. Names the overlay written to `report_path`.
    """
    share = float(hole.mean())
    if SMALLEST_SHARE <= share <= LARGEST_SHARE:
        return None
    shown = image.copy()
    shown[hole] = shown[hole] // 2 + np.array([127, 0, 0], np.uint8)
    scale = min(1, 1024 / max(hole.shape))
    shown = resize(shown, max(1, round(hole.shape[0] * scale)), max(1, round(hole.shape[1] * scale)))
    try:
        write_image(report_path, shown)
        seen = f"{report_path} shows it in red"
    except UserError as problem:
        seen = str(problem)
    told = f"the hole covers {share:.2%} of the picture ({seen})"
    if 0 < share < SMALLEST_SHARE:
        return f"{told}; if you drew more, draw it in white on black, or use --invert-mask if black marks it"
    advice = "leave some of the picture" if share else "draw it in white on black"
    raise UserError(f"{told}; {advice}, or use --invert-mask if black marks it")


KINDS = (
    *("center", "random", "freeform", "blocks", "regions", "noise"),
    *(f"area-{low or 1}-{low + 10}" for low in range(0, 60, 10)),
)


def evaluation_holes(
    kind: str, count: int, height: int, width: int, seed: int = 0, shapes: regions.Shapes | None = None
) -> tuple[np.ndarray, str]:
    """A numbered set of holes for measuring: hole i depends on the generator's version, kind, seed, i and size only.

    Args:
        kind: `center` (half of each side), `random` (a rectangle anywhere with sides of 3/8 to 1/2 of the picture's),
            `freeform` (brush strokes), `blocks`, `regions` and `noise` (see `common.regions`), or `area-1-10`,
            `area-10-20` ... `area-50-60` (strokes that cover this many percent, the upper end excluded).
        shapes: of `regions`, from `regions.open_shapes`, and then the holes depend on it too; None draws figures.

    Returns:
        (bool [count, height, width], their `fingerprint`)

    Raises:
        UserError: there is no such kind, or no hole of it fits so small a picture.
    """
    if kind not in KINDS:
        raise UserError(f"there are no holes of the kind {kind!r}; choose from {', '.join(KINDS)}")
    holes = np.zeros((count, height, width), bool)
    for i in range(count):
        words = [GENERATOR_VERSION, zlib.crc32(kind.encode()), seed, i, height, width]
        holes[i] = _evaluation_hole(kind, height, width, np.random.default_rng(words), shapes)
    return holes, fingerprint(holes)


def fingerprint(holes: np.ndarray) -> str:
    """The SHA-256, in hexadecimal, of the packed bits of holes [N, height, width]."""
    return hashlib.sha256(np.packbits(holes.reshape(len(holes), -1), axis=1).tobytes()).hexdigest()


def _evaluation_hole(kind: str, height: int, width: int, rng: np.random.Generator, shapes) -> np.ndarray:
    if kind == "center":
        return center(height, width)
    if kind == "random":
        rows_px, columns_px = ((math.ceil(side * 3 / 8), side // 2) for side in (height, width))
        return _rectangle(height, width, rows_px, columns_px, rng)
    if kind == "freeform":
        return freeform(height, width, rng)
    if kind in ("blocks", "regions", "noise"):
        return irregular(kind, height, width, rng, shapes)
    low, high = kind.split("-")[1:]
    return freeform_in_band(height, width, int(low) / 100, int(high) / 100, rng)


def irregular(kind: str, height: int, width: int, rng: np.random.Generator, shapes=None) -> np.ndarray:
    """One hole of the kinds `blocks`, `regions` or `noise` of `common.regions`, with their usual shares."""
    if kind == "blocks":
        return regions.blocks(height, width, rng)
    if kind == "regions":
        return regions.region(height, width, rng, shapes or regions.open_shapes(None))
    return regions.noise(height, width, rng, regions.noise_pattern(0))


def components(hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected parts of a hole, diagonals included.

    Returns:
        (int32 [height, width] with 1..n in the hole and 0 around it, int [n, 4] boxes), where row i holds top, left,
        bottom and right of part i + 1, ends excluded.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    left, top, columns, rows = stats[1:, :4].T
    return labels, np.stack([top, left, top + rows, left + columns], axis=1)


def bounding_boxes(hole: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of each connected part of the hole, ends excluded, from the top down."""
    return sorted(tuple(box) for box in components(hole)[1].tolist())
