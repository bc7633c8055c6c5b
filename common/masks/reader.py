"""Mask files as people draw them, read with the photo at hand; what can be read in two ways is shown, not guessed.

A mask is bool [height, width], True where the photo is missing.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from common.errors import UserError
from common.imaging.grid import grid
from common.imaging.io import decode, write_image
from common.imaging.transforms import resize

SMALLEST_FRACTION, LARGEST_FRACTION = 0.001, 0.95  # of the photo; outside it the mask file was probably misread
PREVIEW_PX = 1024  # longest side of a preview
SAME, ALIKE = 3, 32  # levels between a copy and its photo: by another decoder, and by lossy compression
NOISE = 96  # the most that lossy compression changes beside an edge
LOOK_PX = 1 << 20  # pixels of a large file that are looked at to tell what kind of file it is
ORIENTATION = 0x0112  # EXIF tag
# What an EXIF orientation asks for, as in `ImageOps.exif_transpose`
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnclearMaskError(UserError):
    """A mask file that can be read in more than one way, or in none."""

    def __init__(self, text: str, readings: dict[str, np.ndarray]):
        super().__init__(text)
        self.readings = readings  # what it would mean -> bool [height, width] of the file's size


def read_mask(
    path: str | Path,
    height: int | None = None,
    width: int | None = None,
    invert: bool = False,
    photo: np.ndarray | None = None,
    photo_file: Path | None = None,
) -> np.ndarray:
    """Reads a mask however it was drawn. White marks the hole, black the known photo; `invert` swaps them.

    * Grey and colour: the brightest channel, cut at half; so soft edges, JPEG noise and coloured paint on black work.
      With `invert` the file's negative is read, so paint on white works too. 16 bit and 0..1 floats likewise.
    * Numbers instead of brightness (only 0 and 1, or only 0, 1 and 255, also in a grey palette): all but 0 is hole.
    * Colour palette (class labels): every colour but black is hole.
    * A copy of the photo in which the object is rubbed out: the transparent part, or the part painted over with one
      colour, is the hole. It is told by comparing with the photo.
    * Other transparency, where it varies: paint of one colour on a transparent layer marks the hole by the paint (this
      is the file whose RGB is all white and whose mask is its alpha); black-and-white is laid on black.

    Without a photo, transparency in anything colourful, or in a page of writing, marks the hole; and whatever is
    opaque is cut at half.

    Args:
        height, width: the photo's size; the file must have the same, or, larger or smaller, the same shape.
        photo: uint8 [height, width, 3].
        photo_file: whose EXIF tells how it was turned, for masks that were drawn on its pixels as they are stored.

    Returns:
        bool [height, width]; may be entirely empty or full, see `check_mask`.

    Raises:
        UserError: unreadable, of another shape than its photo, or the photo itself.
        UnclearMaskError: its alpha and its colours contradict each other, or it is no mask and no copy of the photo.
    """
    name = f"the hole {path}"
    size = (width, height) if photo is None else photo.shape[1::-1]
    if size == (None, None):
        return decode(path, lambda image: _mask_from(ImageOps.exif_transpose(image), invert, None, name), name)

    def read(image: Image.Image) -> np.ndarray:
        image = _upright(image, size, photo_file, name)
        seen = photo if photo is None or image.size == size else resize(photo, image.height, image.width)
        mask = _mask_from(image, invert, seen, name)
        if image.size == size:
            return mask
        tqdm.write(f"note: {name} is {image.width} x {image.height} px, its photo {size[0]} x {size[1]} px; resized")
        if mask.size < size[0] * size[1]:
            return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 1e-6  # no thin line is lost

    return decode(path, read, name)


def orientation(path: str | Path) -> int:
    """The EXIF orientation of an image file, 1 (upright) to 8."""
    return decode(path, lambda image: image.getexif().get(ORIENTATION, 1), str(path))


def _upright(image: Image.Image, size: tuple[int, int], photo_file: Path | None, name: str) -> Image.Image:
    """The file's image as it lies on the photo. Raises UserError if it has another shape."""
    upright = ImageOps.exif_transpose(image)
    if upright.size == size:
        turn = _turn(photo_file) if image.getexif().get(ORIENTATION, 1) == 1 else None
        if turn is not None and image.transpose(turn).size == size:
            tqdm.write(f"note: {name} is taken as drawn on its photo upright, after the turn that EXIF asks for")
        return upright
    if image.size == size:
        tqdm.write(f"note: {name} is as large as the photo without the turn that its EXIF asks for; it is not turned")
        return image
    turn = _turn(photo_file)
    if turn is not None and (turned := image.transpose(turn)).size == size:
        tqdm.write(f"note: {name} is turned as the EXIF of its photo says")
        return turned
    scale = size[0] / upright.width, size[1] / upright.height
    if not any(abs(upright.width * s - size[0]) <= 1 and abs(upright.height * s - size[1]) <= 1 for s in scale):
        raise UserError(
            f"{name} is {upright.width} x {upright.height} px, but its image is {size[0]} x {size[1]} px; "
            "draw the hole at the image's size"
        )
    return upright


def _turn(photo_file: Path | None) -> Image.Transpose | None:
    """The turn that a photo's EXIF asks for; None for photos that Pillow does not read, such as floats in colour."""
    with contextlib.suppress(UserError):
        if photo_file and photo_file.is_file():
            return TURNS.get(orientation(photo_file))
    return None


# ---- what a file means


def _mask_from(image: Image.Image, invert: bool, photo: np.ndarray | None, name: str) -> np.ndarray:
    if "A" in image.mode or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        opaque = pixels[:, :, 3] >= 128
        if opaque.any() and not opaque.all():
            return _mask_from_alpha(pixels[:, :, :3], opaque, photo, name) ^ invert
    colours = _eight_bit(image) if image.mode.startswith("I") or image.mode == "F" else np.asarray(image.convert("RGB"))
    brightest = colours.max(axis=2)
    if (brightest == 1).any() and np.isin(brightest, (0, 1, 255)).all():
        return (brightest > 0) ^ invert
    bright = told = brightest >= 128
    if invert:
        bright, told = colours.min(axis=2) < 128, None
    if photo is not None and (painted := _painted_over(colours, told, photo, name)) is not None:
        return painted ^ invert
    if image.mode == "P" and (colours != colours[:, :, :1]).any():
        return (brightest >= 32) ^ invert  # 64 is the darkest colour of the usual label palettes
    if photo is not None and not _is_two_valued(255 - colours if invert else colours):
        text = f"{name} is neither black and white nor a copy of the photo; draw the hole in white on black"
        raise UnclearMaskError(text, {"cut at half": bright})
    return bright


def _eight_bit(image: Image.Image) -> np.ndarray:
    """16 bit and floats, which convert() would clip, as uint8 [height, width, 3]: 0 to 1, to 255 or to 65535."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), copy=False)
    most, least = float(values.max()), float(values.min())
    full = next((scale for scale in (1, 255) if most <= scale), 65535)
    if least == 0 < most and np.isin(values, (0, most)).all():  # two values, however far apart
        full = most
    grey = np.clip(np.rint(values * (255 / full)), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _mask_from_alpha(colours: np.ndarray, opaque: np.ndarray, photo: np.ndarray | None, name: str) -> np.ndarray:
    seen, white = colours[opaque], colours.max(axis=2) >= 128
    readings = {"white": white, "opaque": opaque, "transparent": ~opaque}
    one_colour = bool((np.ptp(seen, axis=0) <= ALIKE).all())
    if photo is not None and _is_copy(seen, photo[opaque], SAME if one_colour else ALIKE):
        if (np.ptp(seen, axis=0) <= SAME).all():
            text = f"{name} has one colour where it is opaque, and so has the photo there: a layer of paint or a copy"
            raise UnclearMaskError(f"{text}? Draw the hole in white on black", readings)
        return ~opaque
    text = f"the colours of {name} say one thing and its transparency another"
    unclear = UnclearMaskError(f"{text}; draw the hole in white on black, without transparency", readings)
    if one_colour:
        if _is_black_and_white(colours) and (white != opaque).mean() > 0.01 and white.any() and not white.all():
            raise unclear
        if opaque.mean() > 0.5 and _edge(opaque).mean() > 0.75:  # a layer of paint, or all but the hole
            raise unclear
        return opaque
    if not _is_black_and_white(seen):
        if photo is not None:
            text = f"{name} is transparent in part, and the rest of it is neither a copy of the photo nor of one colour"
            raise UnclearMaskError(f"{text}; draw the hole in white on black", readings)
        return ~opaque
    if photo is None and _is_writing(white, opaque):
        return ~opaque
    inside = _enclosed(opaque)  # beyond the edge of a turned mask there is nothing to say
    if (white & ~opaque).sum() > 0.01 * (~opaque).sum() or inside.any():
        raise unclear
    return opaque & white


def _painted_over(colours: np.ndarray, bright: np.ndarray | None, photo: np.ndarray, name: str) -> np.ndarray | None:
    """The part of a copy of the photo that was painted over with one colour; None if the file is no such copy.

    It is one if it repeats at least half of what stands out in the photo and half of the rest, or the photo's texture.

    Args:
        bright: the hole if the file is no copy; None if the user said that black marks it.
    """
    step = max(1, round((photo[..., 0].size / LOOK_PX) ** 0.5))
    some = np.s_[::step, ::step]
    alike = _distance(colours[some], photo[some]) <= ALIKE
    if alike.mean() < 0.5:
        return None
    repeated = _repeats(colours[some], photo[some], alike)
    distance = _distance(colours, photo)
    exact = (distance[some] <= SAME).sum() >= 0.9 * alike.sum()
    changed = distance > (SAME if exact else ALIKE)
    if not changed.any():
        if repeated:
            raise UserError(f"{name} is the photo itself; rub out or paint over what shall be filled")
        return None
    sure = distance > NOISE if (distance > NOISE).any() else changed
    paint = np.rint(np.median(colours[sure][:: step * step], axis=0)).astype(np.uint8)
    to_paint = _distance(colours, paint)
    if not exact:  # noise of compression stays nearer to the photo than to the paint
        changed &= (to_paint < distance) | (distance > NOISE)
    readings = {"what differs from the photo": changed, "cut at half": changed if bright is None else bright}
    if _covered(colours[changed], photo[changed], paint) < 0.9:
        if repeated:
            text = f"{name} is a copy of the photo that differs in more than one colour of paint"
            raise UnclearMaskError(f"{text}; paint over what shall be filled with one colour", readings)
        return None
    changed |= _enclosed(changed) & (to_paint <= ALIKE)  # where the photo has the paint's own colour
    if repeated or (bright is not None and bright.all()):  # which cannot be meant as a mask
        return changed
    if bright is not None and ((changed & (to_paint <= ALIKE)) != bright).mean() > 0.01:
        text = f"{name} may be a mask, or a copy of the photo with a part painted over"
        raise UnclearMaskError(
            f"{text}; draw the hole in red on black, or use --invert-mask if black marks it", readings
        )
    return None


def _repeats(colours: np.ndarray, photo: np.ndarray, alike: np.ndarray) -> bool:
    """Whether colours that are mostly like the photo's are so because of the photo, and not because both are flat."""
    stands_out = _distance(photo, np.median(photo.reshape(-1, 3), axis=0)) > ALIKE
    if stands_out.mean() > 0.005 and min(alike[stands_out].mean(), _mean(alike[~stands_out])) >= 0.5:
        return True
    texture = _distance(colours[alike], np.median(colours[alike], axis=0)) > SAME
    return texture.mean() > 0.05 and (_distance(colours[alike], photo[alike]) <= SAME)[texture].mean() > 0.8


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 1.0


def _is_copy(colours: np.ndarray, photo: np.ndarray, tolerance: int) -> bool:
    """Whether colours [n, 3] are those of the photo, also where one of the two stands out from its usual colour."""
    alike = _distance(colours, photo) <= tolerance
    stands_out = [_distance(each, np.median(each, axis=0)) > ALIKE for each in (colours, photo)]
    return bool(alike.mean() > 0.9 and _mean(alike[stands_out[0] | stands_out[1]]) > 0.8)


def _covered(colours: np.ndarray, photo: np.ndarray, paint: np.ndarray) -> float:
    """The fraction of colours [n, 3] that paint of one colour, thick or thin, makes of the photo's."""
    colours, photo = colours.astype(np.float32), photo.astype(np.float32)
    way = paint - photo
    thickness = ((colours - photo) * way).sum(axis=1) / np.maximum(1, (way * way).sum(axis=1))
    off = np.abs(photo + np.clip(thickness, 0, 1)[:, None] * way - colours).max(axis=1)
    return float((off <= ALIKE).mean())


def _distance(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest difference of a channel from other colours, or from one colour, for each pixel."""
    others = np.ascontiguousarray(np.broadcast_to(np.asarray(others, np.uint8), colours.shape))
    return cv2.absdiff(np.ascontiguousarray(colours), others).max(axis=-1)


def _edge(region: np.ndarray) -> np.ndarray:
    return np.concatenate([region[0], region[-1], region[:, 0], region[:, -1]])


def _enclosed(region: np.ndarray) -> np.ndarray:
    """Pixels beside a region from which no path around it leads to the edge."""
    filled = np.pad(region.astype(np.uint8), 1)
    cv2.floodFill(filled, None, (0, 0), 1)
    return filled[1:-1, 1:-1] == 0


def _is_black_and_white(colours: np.ndarray) -> bool:
    return bool(((colours < 32).all(axis=-1) | (colours >= 224).all(axis=-1)).mean() > 0.95)


def _is_writing(white: np.ndarray, where: np.ndarray) -> bool:
    """Whether black and white change too often for a mask: more than once in twenty pixels."""
    pairs = where[:, 1:] & where[:, :-1]
    return bool(pairs.any() and (white[:, 1:] != white[:, :-1])[pairs].mean() > 0.05)


def _is_two_valued(colours: np.ndarray) -> bool:
    """Whether a file is mostly black and one brighter colour, whatever its edges; or drawn with a few colours."""
    step = max(1, round((colours[..., 0].size / LOOK_PX) ** 0.5))
    some = colours[::step, ::step].reshape(-1, 3)
    brightest = some.max(axis=1)
    paint = np.median(some[brightest >= 128], axis=0) if (brightest >= 128).any() else np.full(3, 255)
    if ((brightest <= 48) | (_distance(some, paint) <= 48)).mean() >= 0.7:
        return True
    return len(np.unique(some.astype(np.int64) @ (1, 256, 65536))) <= 16


# ---- what is probably misread


def check_mask(mask: np.ndarray, image: np.ndarray, report_path: str | Path) -> str | None:
    """Complains, with an image, about a hole that was probably misread.

    Returns:
        None for an ordinary hole; a line to show for one of less than 0.1 % of the image, which may be a scratch.

    Raises:
        UserError: there is no hole, or it covers more than 95 %. Names the overlay written to `report_path`.
    """
    fraction = float(mask.mean())
    if SMALLEST_FRACTION <= fraction <= LARGEST_FRACTION:
        return None
    told = f"the hole covers {fraction:.2%} of the image ({_preview(report_path, lambda: in_red(image, mask))})"
    if 0 < fraction < SMALLEST_FRACTION:
        return f"{told}; if you drew more, draw it in white on black, or use --invert-mask if black marks it"
    advice = "leave some of the image" if fraction else "draw it in white on black"
    raise UserError(f"{told}; {advice}, or use --invert-mask if black marks it")


def checked_mask(read: Callable[[], np.ndarray], image: np.ndarray, report_path: str | Path) -> np.ndarray:
    """read(), with an image of all readings of a mask that is unclear.

    Raises:
        UserError: as `read_mask`, naming that image.
    """
    try:
        return read()
    except UnclearMaskError as unclear:
        problem = unclear
    shown = resize(image, *next(iter(problem.readings.values())).shape)
    sheet = [[in_red(shown, mask) for mask in problem.readings.values()]]
    raise UserError(f"{problem} ({_preview(report_path, lambda: grid(sheet, list(problem.readings)))})")


def in_red(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photo with its hole in red, of at most PREVIEW_PX."""
    shown = image.copy()
    shown[mask] = shown[mask] // 2 + np.array([127, 0, 0], np.uint8)
    scale = min(1, PREVIEW_PX / max(mask.shape))
    return resize(shown, max(1, round(mask.shape[0] * scale)), max(1, round(mask.shape[1] * scale)))


def _preview(path: str | Path, draw: Callable[[], np.ndarray]) -> str:
    try:
        write_image(path, draw())
    except UserError as problem:
        return str(problem)
    return f"{path} shows it in red"
