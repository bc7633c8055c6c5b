"""Image files of every kind: which are opened, which are refused, and what the numbers in them mean.

Bit depth, sign, range and the meaning of black come from a file's type and tags, never from its largest value:

* integers span their type: 16 bit is 0..65535, 12 bit 0..4095, 32 bit 0..4294967295; of signed ones 0 is black;
* floats span 0..1. Where more than half of the positive values are above 1 they span 0..255, where more than half are
  above 255 they span 0..65535, and `Levels.notes` says so;
* where a TIFF's tags say that white is 0, it is;
* a BMP whose fourth bytes are all 0 is opaque: they are padding.
"""

import contextlib
import functools
import io
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from tqdm import tqdm

from common.errors import UserError, first_line
from common.imaging import limits
from common.imaging.folders import FORMATS, HEIF, SUFFIXES, why_no_image
from common.imaging.limits import MAX_BYTES, SCAN_MARKER, TIFF_SIGNS, check_canvas, check_claim, check_size, check_tags

# libjpeg's complaints about images that are whole
HARMLESS = ("Unknown Adobe color", "Warning: unknown JFIF", "Invalid SOS parameters", "Corrupt JPEG data: bad ICC")
PADDING_BYTES = 16  # zeros that some cameras write before the end of a JPEG
ORIENTATION = 0x0112
# By the system's calls, since a data set is read through here, and Path's ways take a tenth of a decode; a pipe opens
# without a writer
HOW_TO_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
SEVERAL = "it holds several images, of which the first is taken"
NUMBERS = {1: "unsigned", 2: "signed", 3: "float"}  # a TIFF's sample formats

T = TypeVar("T")

if HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


@dataclass(frozen=True)
class Levels:
    """The pixels of a file as they are, upright.

    Args:
        values: uint8, uint16 or float32 [height, width, channels]: grey, grey and alpha, RGB, or RGB and alpha.
        full: the value of white (and of opaque): 255, 65535, or what the rule for floats says.
        notes: what was assumed or left out, lines without the file's name.
    """

    values: np.ndarray
    full: int
    notes: tuple[str, ...] = ()


def read_image(source: str | Path | bytes, name: str = "", max_pixels: int = 0) -> np.ndarray:
    """Reads an image of any common kind: grey, palette, alpha (laid on white), deep, CMYK, LAB, turned by EXIF.

    Args:
        source: a path, or the file's bytes (then `name` is used in errors).
        max_pixels: refuse larger images before they are decoded; 0 is MAX_PIXELS.

    Returns:
        uint8 [height, width, 3], RGB, upright.

    Raises:
        UserError: there is no such file, it is no image, or it is corrupt, truncated or absurdly large.
    """
    levels = read_levels(source, name, max_pixels)
    for note in levels.notes:
        _say_once(note, name or _name_of(source))
    return to_rgb(levels)


def _name_of(source: str | Path | bytes) -> str:
    return "the image" if isinstance(source, bytes) else str(source)


@functools.lru_cache(maxsize=64)
def _told(note: str) -> list:
    return []


def _say_once(note: str, name: str) -> None:
    """Prints what was assumed about a file; about the next files of a data set no more."""
    if not _told(note):
        _told(note).append(name)
        tqdm.write(f"note: {name}: {note} (not said again of other files)", file=sys.stderr)


def read_levels(source: str | Path | bytes, name: str = "", max_pixels: int = 0) -> Levels:
    """Reads an image with all that its file holds: depth, alpha, grey. Raises UserError like `read_image`."""
    name = name or _name_of(source)
    with _one_line(name):
        data = read_bytes(source)
        if is_jpeg(data):
            values = _decode_jpeg(data, name, max_pixels)
            if values is not None:
                turn = _jpeg_orientation(data, name)
                return Levels(values if turn == 1 else _upright(values, turn), 255)
        if data[:4] in TIFF_SIGNS:
            check_tags(data, name)
        if _is_deep(data):
            return (_deep_tiff if data[:4] in TIFF_SIGNS else _deep_png)(data, name, max_pixels)
        return with_pillow(data, _levels, name, max_pixels)


def decode(source: str | Path | bytes, work: Callable[[Image.Image], T], name: str) -> T:
    """work(Pillow's image, not decoded yet). Raises UserError like `read_image`.

    Args:
        source: a path, or the file's bytes.
        name: what to call it in errors.
    """
    with _one_line(name):
        data = read_bytes(source)
        if is_jpeg(data):
            _decode_jpeg(data, name)  # for its complaints, which Pillow keeps to itself
        return with_pillow(data, work, name)


def look(source: str | Path | bytes, name: str = "", max_pixels: int = 0) -> str:
    """Pillow's name of a file's format; nothing is decoded.

    Raises:
        UserError: it is no image, or has more pixels.
    """
    name = name or str(source)
    with _one_line(name):
        data = read_bytes(source)
        return with_pillow(data, lambda image: image.format, name, max_pixels)


# ---- files


def read_bytes(path: str | Path | bytes) -> bytes:
    """The content of a file. Raises UserError if it cannot be read, is no ordinary file, or is absurdly large."""
    if isinstance(path, bytes):
        return path
    try:
        file = os.open(path, HOW_TO_OPEN)
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device may never end
                raise UserError(f"cannot read {path}: it is a folder, a pipe or a device")
            if about.st_size > MAX_BYTES:
                raise UserError(f"{path} has {about.st_size:,} bytes; the limit is {MAX_BYTES:,}")
            data = os.read(file, about.st_size)
            while len(data) < about.st_size and (more := os.read(file, about.st_size)):
                data += more
            return data
        finally:
            os.close(file)
    except (OSError, ValueError) as problem:  # a ValueError is what a name with a NUL gives
        raise UserError(f"cannot read {path}: {getattr(problem, 'strerror', None) or problem}") from None


@contextlib.contextmanager
def _one_line(name: str):
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"cannot read {name}: not an image") from None
    except MemoryError:
        raise UserError(f"cannot read {name}: not enough memory") from None
    except Exception as problem:  # decoders raise a dozen kinds of exception for corrupt files
        raise UserError(f"cannot read {name}: corrupt image: {first_line(problem)}") from None


def with_pillow(data: bytes, work: Callable[[Image.Image], T], name: str, max_pixels: int = 0) -> T:
    """work(Pillow's image, not decoded yet), after checks of kind and size; for the bytes of what was read before."""
    if data[:4] in TIFF_SIGNS:
        check_tags(data, name)
    check_canvas(data, name, max_pixels)
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UserError(f"cannot read {name}: {why_no_image(data)}") from None
    except Image.DecompressionBombError as problem:  # Image size (… pixels) exceeds …
        pixels, limit = int(re.search(r"\d+", str(problem))[0]), max_pixels or limits.MAX_PIXELS
        raise UserError(f"{name} has {pixels:,} pixels; the limit is {limit:,}") from None
    with opened:
        check_size(opened.width, opened.height, name, max_pixels)
        if opened.format == "PNG":
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.verify()  # the checksums of its pixels, which loading them does not look at
        check_claim(opened.format, opened.width, opened.height, data, name)
        return work(opened)


# ---- JPEG


def is_jpeg(data: bytes) -> bool:
    """Whether a file begins like a JPEG."""
    return data[:3] == b"\xff\xd8\xff"


def _decode_jpeg(data: bytes, name: str, max_pixels: int = 0) -> np.ndarray | None:
    """uint8 [height, width, 1 or 3], not turned upright; None for what Pillow has to decode.

    libjpeg repairs what is damaged as well as it can, and only warns. Here a warning is an error, as truncation is.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # no JPEG after all, or chroma sampled so strangely that only Pillow decodes it
        return None
    check_size(width, height, name, max_pixels)
    check_claim("JPEG", width, height, data, name)
    wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
    try:
        values = simplejpeg.decode_jpeg(data, wanted)
    except ValueError as problem:
        if not _is_harmless(str(problem), data):
            raise UserError(f"cannot read {name}: corrupt image: {first_line(problem)}") from None
        return None
    return None if wanted == "CMYK" else values


def _is_harmless(warning: str, data: bytes) -> bool:
    extra = re.fullmatch(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9", warning)
    if extra and int(extra[1]) < PADDING_BYTES:
        end = data.rfind(b"\xff\xd9")
        return not any(data[end - int(extra[1]) : end])
    return warning.startswith(HARMLESS)


def _jpeg_orientation(data: bytes, name: str) -> int:
    head = data[: data.find(SCAN_MARKER)]
    if b"Exif" not in head and b"tiff:Orientation" not in head:
        return 1
    return with_pillow(data, orientation, name)


def orientation(image: Image.Image) -> int:
    """How EXIF says an image is turned, 1 to 8; 1 is upright."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF raises a dozen kinds of exception; the image is as good as before
        return 1


def _upright(values: np.ndarray, turn: int) -> np.ndarray:
    """Turns and flips [height, width, channels] as EXIF's orientation says."""
    if turn in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    if turn in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


# ---- TIFF


def _tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a TIFF's first image."""
    header = data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8]
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _is_deep(data: bytes) -> bool:
    """Whether Pillow would lose or misread values: colour PNGs of 16 bits, TIFFs of more than 8, signed or float."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[24:26] in (b"\x10\2", b"\x10\4", b"\x10\6")
    if data[:4] not in TIFF_SIGNS:
        return False
    tags = _tags(data)
    return max(tags.get(258, (1,))) > 8 or tags.get(339, (1,))[0] in (2, 3)


# ---- more than 8 bits


def _deep_png(data: bytes, name: str, max_pixels: int) -> Levels:
    def look(image: Image.Image) -> tuple[int, bool]:
        image.load()  # raises if it is corrupt, where OpenCV returns what it has
        return orientation(image), getattr(image, "is_animated", False)

    turn, animated = with_pillow(data, look, name, max_pixels)
    values = _with_opencv(data)
    if values is None or values.dtype != np.uint16:
        raise UserError(f"cannot read {name}: OpenCV does not read this PNG of 16 bits; save it with 8")
    return Levels(_upright(values, turn), 65535, (SEVERAL,) * animated)


def _deep_tiff(data: bytes, name: str, max_pixels: int) -> Levels:
    tags = _tags(data)
    width, height, bits = tags[256], tags[257], max(tags.get(258, (1,)))
    sample, samples, photometric = tags.get(339, (1,))[0], tags.get(277, 1), tags.get(262, 1)
    check_size(width, height, name, max_pixels)
    check_size(tags.get(322, 1), tags.get(323, 1), f"a tile of {name}", max_pixels)
    check_claim("TIFF", width, height, data, name)
    kind = f"a TIFF of {samples} x {bits}-bit {NUMBERS.get(sample, 'unknown')} values"
    planes = samples > 1 and tags.get(284, 1) != 1
    if photometric not in (0, 1, 2) or samples not in (1, 3, 4) or planes or (sample == 3 and bits not in (32, 64)):
        raise UserError(f"cannot read {name}: {kind}, arranged as nothing here reads it; save it with 16 or 8 bits")
    starts, lengths = tags.get(273) or tags[324], tags.get(279) or tags[325]  # of strips or tiles
    if max(start + length for start, length in zip(starts, lengths, strict=True)) > len(data):
        raise UserError(f"cannot read {name}: corrupt image: it is cut short")  # OpenCV returns what it has
    values = _with_opencv(data)
    if values is None or values.ndim != 3 or values.shape[2] != samples or values.dtype == np.uint8:
        values = None
        with contextlib.suppress(UserError):
            values = _integers_with_pillow(data, name, max_pixels, signed=sample == 2)
    if values is None:
        raise UserError(f"cannot read {name}: {kind}, corrupt or of a kind that nothing here reads")
    levels = _floats(values) if values.dtype.kind == "f" else _integers(values, bits)
    values, notes = levels.values, levels.notes + (SEVERAL,) * bool(tags.next)
    if photometric == 0:
        values = (levels.full - values).astype(values.dtype)
    if samples == 4 and tags.get(338, (0,))[0] == 1:  # colours were multiplied by alpha
        alpha = np.maximum(values[..., 3:].astype(np.float64), 1e-6)
        values = np.dstack([values[..., :3] * (levels.full / alpha), values[..., 3:]]).clip(0, levels.full)
        values = values.astype(levels.values.dtype)
    return Levels(values, levels.full, notes)


def _with_opencv(data: bytes) -> np.ndarray | None:
    """[height, width, channels] of the file's type; TIFFs come upright."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        return None
    if values.ndim == 2:
        return values[:, :, None]
    return values[..., [2, 1, 0, 3][: values.shape[2]]]


def _integers_with_pillow(data: bytes, name: str, max_pixels: int, signed: bool) -> np.ndarray | None:
    """Grey of 32 bits, which older OpenCV does not read; Pillow takes them all for signed."""

    def work(image: Image.Image) -> np.ndarray | None:
        if image.mode != "I" or orientation(image) != 1:
            return None
        values = np.asarray(image)[:, :, None]
        return values if signed else values.view(np.uint32)

    return with_pillow(data, work, name, max_pixels)


def _integers(values: np.ndarray, bits: int) -> Levels:
    """Integers as uint8 or uint16: 0 stays black, the largest of their type becomes white."""
    notes = []
    full = 2 ** (bits - (values.dtype.kind == "i")) - 1
    if values.dtype.kind == "i" and values.min() < 0:
        notes.append("values below 0 are black")
    if bits > 16:
        notes.append(f"values of {bits} bits are taken with 16, {full:,} as white")
        if values.max() < full / 255:
            notes[-1] += "; all that are there are nearly 0, which is black: save it with 8 or 16 bits"
    if full == 65535:
        return Levels(values, 65535)
    if values.dtype.kind == "i" and bits <= 16:
        notes.append(f"signed values, of which {full:,} is white, become unsigned ones")
    wanted = np.uint8 if bits <= 8 else np.uint16
    white = np.iinfo(wanted).max
    return Levels(np.rint(values.clip(0, full) * (white / full)).astype(wanted), white, tuple(notes))


def _floats(values: np.ndarray) -> Levels:
    """Floats as float32, not-a-number as black, and what they call white."""
    odd = not (values[..., :3] > -np.inf).all()
    values = np.nan_to_num(values.astype(np.float32), nan=0, posinf=np.inf, neginf=0)
    colours = values[..., :3]
    positive = colours[(colours > 0) & np.isfinite(colours)]
    full = next((full for full in (1, 255) if (positive > full).mean(dtype=float) <= 0.5 or not positive.size), 65535)
    notes = []
    if full > 1:
        notes.append(f"floats, most of them above {1 if full == 255 else 255}, are taken as 0..{full}")
    if colours.min() < 0 or colours.max() > full:
        notes.append(f"floats outside 0..{full} are black or white")
    if odd:
        notes.append("values that are no numbers are black")
    return Levels(values.clip(0, full), full, tuple(notes))


# ---- Pillow's images


def _levels(image: Image.Image) -> Levels:
    notes = [SEVERAL] * (getattr(image, "is_animated", False) and image.format != "MPO")  # a phone's second view
    turn = 1 if image.format == "TIFF" else orientation(image)  # Pillow turns TIFFs itself
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        levels = _deep_grey(image)
        return Levels(_upright(levels.values, turn), levels.full, (*notes, *levels.notes))
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")
        notes.append("all fourth bytes are 0 and taken as padding, not as transparency")
    if image.mode in ("CMYK", "LAB"):
        image, note = _converted(image)
        notes.append(note)
    mode = _kept_mode(image)
    values = np.asarray(image if image.mode == mode else image.convert(mode))  # a conversion to the same copies
    values = values.reshape(*values.shape[:2], -1)
    return Levels(_upright(values, turn), 255, tuple(notes))


def _kept_mode(image: Image.Image) -> str:
    clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return ("L" if image.mode in ("1", "L", "LA", "La") else "RGB") + "A" * clear


def _converted(image: Image.Image) -> tuple[Image.Image, str]:
    """CMYK and LAB as sRGB, and a note about it."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"), "LAB becomes RGB"
    with contextlib.suppress(ImageCms.PyCMSError, KeyError, OSError, TypeError, ValueError):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        image = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
        return image, "CMYK becomes RGB, by the file's colour profile"
    return image.convert("RGB"), "CMYK becomes RGB, without a usable colour profile: colours may differ from print"


def _deep_grey(image: Image.Image) -> Levels:
    """Grey of 16 bits, as Pillow gives PNG, PGM and JPEG 2000, or of floats (PFM)."""
    values = np.asarray(image)[:, :, None]
    if image.mode == "F":
        return _floats(values)
    values = values.astype(np.uint16)
    if isinstance(clear := image.info.get("transparency"), int):
        values = np.dstack([values, np.where(values == clear, 0, 65535).astype(np.uint16)])
    return Levels(values, 65535)


# ---- 8 bits


def to_rgb(levels: Levels) -> np.ndarray:
    """uint8 [height, width, 3] RGB of any pixels, what is transparent laid on white."""
    values = to_uint8(levels)
    channels = values.shape[2]
    if channels in (2, 4):
        alpha = values[..., -1:].astype(np.uint16)
        laid = values[..., :-1] * alpha + np.uint16(255) * (255 - alpha)
        values = ((laid + 127) // 255).astype(np.uint8)
    return values.repeat(3, axis=2) if channels <= 2 else values


def to_uint8(levels: Levels) -> np.ndarray:
    """The values rounded to 8 bits, uint8 [height, width, channels]."""
    values = levels.values
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(values * np.float32(255 / levels.full)).astype(np.uint8)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB (or grey [height, width]) image; the suffix chooses the format, JPEG at quality 95."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot write {path}: the name must end in one of {', '.join(sorted(SUFFIXES))}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **({"quality": 95} if path.suffix.lower() in {".jpg", ".jpeg"} else {}))
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror or problem}") from None


def is_file(path: Path) -> bool:
    """Whether there is such a file. `Path.is_file` raises for names that none can have, as a list of files may hold."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
