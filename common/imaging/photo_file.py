"""The user's photo: all that its file holds is read, and the completed photo written as what the photo was.

Known pixels keep their bits, grey stays grey, alpha, colour profile, EXIF, resolution and XMP stay; where the format
that is written cannot hold something, a line says what is lost.
"""

import contextlib
import io
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from common.config import Format
from common.errors import UserError
from common.imaging import io as image_io
from common.imaging.folders import WRITABLE
from common.imaging.io import ORIENTATION, Levels, read_bytes, read_levels, to_rgb, to_uint8

JPEG = (".jpg", ".jpeg")
EIGHT_BITS = (*JPEG, ".bmp", ".ppm", ".webp")
NO_ALPHA = (*JPEG, ".bmp", ".ppm")
# What each format holds of a photo besides pixels
HOLDS = {
    **dict.fromkeys(JPEG, ("profile", "EXIF", "resolution", "XMP")),
    ".png": ("profile", "EXIF", "gamma", "resolution", "XMP"),
    **dict.fromkeys((".tif", ".tiff"), ("profile", "EXIF", "resolution", "XMP")),
    ".webp": ("profile", "EXIF", "XMP"),
    ".bmp": ("resolution",),
    ".ppm": (),
}
QUALITY = 95  # of JPEG
WIDTH, HEIGHT = 0xA002, 0xA003  # in EXIF
# Tags of a TIFF that say something of the photo: texts, resolution, EXIF and GPS
DESCRIBING = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 0x8769, 0x8825, ORIENTATION}
XMP_SIGN = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class Photo:
    """A photo as it was read.

    Args:
        image: uint8 [height, width, 3] RGB, upright, what is transparent on white: what networks see.
        levels: the same pixels with the depth and the channels of the file.
        extras: of `profile`, `EXIF`, `gamma`, `resolution` and `XMP` those that the file has, as Pillow saves them.
        chroma: 4:4:4, 4:2:2 or 4:2:0 of a JPEG, as Pillow numbers them; 0 for other files.
        notes: what was assumed and what will change, lines without the file's name.
    """

    image: np.ndarray
    levels: Levels
    extras: dict
    chroma: int = 0
    notes: tuple[str, ...] = ()


def open_photo(path: str | Path, max_pixels: int = 0) -> Photo:
    """Reads a photo. Raises UserError like `image_files.read_image`."""
    data = read_bytes(path)
    levels = read_levels(data, str(path), max_pixels)
    extras, chroma, mode = _about(data, str(path))
    notes = list(levels.notes)
    if mode in ("P", "PA"):
        notes.append("its palette becomes full colour")
    if mode == "1":
        notes.append("black and white becomes grey")
    if mode in ("CMYK", "LAB"):
        extras.pop("profile", None)  # of colours that are no more
    if levels.values.dtype != np.uint8:
        notes.append("known pixels keep more than 8 bits, what is filled in has 8")
    return Photo(to_rgb(levels), levels, extras, chroma, tuple(notes))


def write_photo(path: str | Path, photo: Photo, completed: np.ndarray, mask: np.ndarray) -> list[str]:
    """Writes a completed photo; the suffix chooses the format.

    Args:
        photo: from `open_photo`.
        completed: uint8 [height, width, 3]; looked at where the mask is, elsewhere the photo's own pixels are written.
        mask: bool [height, width].

    Returns:
        What the format could not hold, a line for each.

    Raises:
        UserError: the suffix is of no format that is written, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(f"cannot write {path}: the name must end in one of {', '.join(WRITABLE)}")
    lost: list[str] = []
    values = fill(photo, completed, mask)
    extras = {name: value for name, value in photo.extras.items() if name in HOLDS[suffix]}
    if missing := sorted(photo.extras.keys() - extras.keys()):
        lost.append(f"{suffix} does not hold the photo's {', '.join(missing)}")
    values = _fit(Levels(values, photo.levels.full), suffix, lost)
    if suffix in JPEG:
        lost.append("this format changes known pixels a little; write a .png to keep them exactly")
    try:
        write_whole(path, _encode_with(extras, values, suffix, photo.chroma, lost))
    except (OSError, ValueError) as problem:  # a ValueError is what Pillow has for an image too long for WebP
        raise UserError(f"cannot write {path}: {getattr(problem, 'strerror', None) or problem}") from None
    return lost


def kept_suffix(photo: Path, wanted: Format) -> str:
    """The suffix of a photo's result: .png, or the photo's own if that is a format that is written."""
    if wanted == "keep" and photo.suffix.lower() in WRITABLE:
        return photo.suffix
    return ".png"


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file under another name, flushes and renames it, so that no half of it is ever found under its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


# ---- what a photo has besides pixels


def _about(data: bytes, name: str) -> tuple[dict, int, str]:
    """Extras, chroma sampling and Pillow's mode of a file; what is damaged of it is left out."""

    def work(image: Image.Image) -> tuple[dict, int, str]:
        found = {"profile": image.info.get("icc_profile"), "resolution": _resolution(image), "gamma": _gamma(image)}
        for kind, read in (("EXIF", _exif), ("XMP", _xmp)):
            with contextlib.suppress(Exception):  # damaged ones raise a dozen kinds of exception
                found[kind] = read(image)
        chroma = max(0, JpegImagePlugin.get_sampling(image)) if image.format in ("JPEG", "MPO") else 0
        return {kind: value for kind, value in found.items() if value}, chroma, image.mode

    try:
        return image_io.with_pillow(data, work, name)
    except UserError:  # a kind that Pillow does not know, such as TIFFs of floats in colour
        return {}, 0, ""


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    dots = image.info.get("dpi")
    if not dots or not all(0 < float(each) < 1e5 for each in dots):
        return None
    across, down = map(float, dots)
    return (down, across) if image_io.orientation(image) > 4 else (across, down)


def _gamma(image: Image.Image) -> float | None:
    """A PNG's gamma, where it is another than sRGB's and nothing in the file overrules it."""
    gamma = image.info.get("gamma")
    usual = not gamma or {"srgb", "icc_profile"} & image.info.keys() or abs(gamma - 0.45455) < 0.01
    return None if usual else gamma


def _exif(image: Image.Image) -> bytes | None:
    """EXIF for the upright photo. The preview in it goes: it would show what was there before."""
    exif = image.getexif()
    turned = image_io.orientation(image) > 4
    if image.format == "TIFF":  # whose tags are of its pixels' arrangement, too
        for tag in set(exif) - DESCRIBING:
            del exif[tag]
    for tag in (0x0100, 0x0101):  # width and height as they were stored
        exif.pop(tag, None)
    if not exif:
        return None
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    sizes = exif.get_ifd(0x8769)
    if turned and WIDTH in sizes and HEIGHT in sizes:
        sizes[WIDTH], sizes[HEIGHT] = sizes[HEIGHT], sizes[WIDTH]
    return exif.tobytes()


def _xmp(image: Image.Image) -> bytes | None:
    """XMP for the upright photo; none if there is a preview in it."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    for name, content in getattr(image, "applist", []):  # where Pillow before 11 leaves it
        if name == "APP1" and content.startswith(XMP_SIGN):
            found = found or content.removeprefix(XMP_SIGN)
    if image.format == "TIFF":
        found = found or image.tag_v2.get(700)
    if isinstance(found, str):
        found = found.encode()
    if not found or b"Thumbnails" in found:
        return None
    return re.sub(rb"""(tiff:Orientation(?:=["']|>))[2-8]""", rb"\g<1>1", found)


# ---- what is written


def fill(photo: Photo, completed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photo's values with the mask filled from the completed image, in the photo's type and channels.

    A photo whose known pixels are all grey is filled with grey. Alpha stays as it is; only where the mask lies in what
    was clear altogether (rubbed out), what is filled in becomes opaque.
    """
    values, full = photo.levels.values.copy(), photo.levels.full
    colours = values[..., : 1 if values.shape[2] <= 2 else 3]
    made = completed[mask]
    known = colours[~mask] if not mask.all() else colours.reshape(-1, colours.shape[2])
    if (known == known[:, :1]).all():
        made = _grey(made)[:, None]
    if values.dtype == np.uint16:
        made = made.astype(np.uint16) * 257
    elif values.dtype == np.float32:
        made = made.astype(np.float32) * np.float32(full / 255)
    colours[mask] = made  # a view of the values
    if values.shape[2] in (2, 4):
        alpha = values[..., -1]
        if (alpha[mask] < full / 2).all():
            alpha[mask] = full
    return values


def _grey(colours: np.ndarray) -> np.ndarray:
    """uint8 [n] of RGB [n, 3], weighted as Pillow does (ITU-R 601)."""
    return ((colours @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16).astype(np.uint8)


def _fit(levels: Levels, suffix: str, lost: list[str]) -> np.ndarray:
    """The values as the format can hold them; what it cannot is added to `lost`."""
    values, full = levels.values, levels.full
    if values.dtype != np.uint8 and suffix in EIGHT_BITS:
        lost.append(f"{suffix} holds 8 bits: the photo's values are rounded to them")
        values, full = to_uint8(levels), 255
    elif values.dtype == np.float32 and suffix == ".png":
        lost.append(".png holds no floats: the photo's values are rounded to 16 bits")
        values, full = np.rint(values * np.float32(65535 / full)).astype(np.uint16), 65535
    if values.shape[2] in (2, 4) and suffix in NO_ALPHA:
        if values[..., -1].min() < full:
            lost.append(f"{suffix} holds no transparency: the photo is laid on white")
        values = to_rgb(Levels(values, full))[..., : 1 if values.shape[2] == 2 else 3]
    return values


def _encode_with(extras: dict, values: np.ndarray, suffix: str, chroma: int, lost: list[str]) -> bytes:
    """The file; without what the photo has besides pixels if that is damaged, or too large for the format."""
    if extras:
        try:
            return _encode(values, suffix, extras, chroma, lost)
        except Exception:  # damaged ones raise a dozen kinds of exception; what is wrong with the pixels comes again
            lost.append(f"the photo's {', '.join(sorted(extras))} cannot be written to {suffix}: left out")
    return _encode(values, suffix, {}, chroma, lost)


def _encode(values: np.ndarray, suffix: str, extras: dict, chroma: int, lost: list[str]) -> bytes:
    grey = values.shape[2] == 1
    if values.dtype != np.uint8 and not grey:
        if suffix == ".png":
            return _deep_png(values, extras)
        if extras:
            lost.append(f"{suffix} of more than 8 bits in colour is written without {', '.join(sorted(extras))}")
        return _opencv(suffix, values)
    image = Image.fromarray(values[..., 0] if grey else values)  # uint16 becomes I;16, float32 F, two channels LA
    options = {
        **({"quality": QUALITY, "subsampling": chroma} if suffix in JPEG else {}),
        **({"lossless": True, "exact": True} if suffix == ".webp" else {}),
        **_options(extras, image.mode, suffix, lost),
    }
    file = io.BytesIO()
    kind = {**dict.fromkeys(JPEG, "JPEG"), ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM"}
    image.save(file, kind.get(suffix, suffix[1:].upper()), **options)
    return file.getvalue()


def _options(extras: dict, mode: str, suffix: str, lost: list[str]) -> dict:
    """Pillow's options for what a photo has besides pixels."""
    options = {}
    if "profile" in extras:
        options["icc_profile"] = extras["profile"]
        if extras["profile"][16:20] == b"GRAY" and suffix == ".webp":
            del options["icc_profile"]
            lost.append(".webp holds grey as colour, for which the photo's grey profile is none")
    if "EXIF" in extras:
        options["exif"] = extras["EXIF"]
    if "resolution" in extras:
        options["dpi"] = extras["resolution"]
    if suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        if "gamma" in extras:
            options["pnginfo"].add(b"gAMA", _gamma_data(extras))
    xmp = extras.get("XMP")
    if xmp and suffix in JPEG:
        options["extra"] = _jpeg_xmp(xmp, lost)
    elif xmp and suffix == ".png":
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    elif xmp and suffix == ".webp":
        options["xmp"] = xmp
    elif xmp:  # TIFF
        options["exif"] = Image.Exif()
        options["exif"].load(extras.get("EXIF", b""))
        options["exif"][700] = xmp
    return options


def _gamma_data(extras: dict) -> bytes:
    return struct.pack(">I", round(extras["gamma"] * 100_000))


def _jpeg_xmp(xmp: bytes, lost: list[str]) -> bytes:
    length = 2 + len(XMP_SIGN) + len(xmp)
    if length > 65535:
        lost.append("a JPEG does not hold so much XMP: it is left out")
        return b""
    return b"\xff\xe1" + struct.pack(">H", length) + XMP_SIGN + xmp


def _opencv(suffix: str, values: np.ndarray) -> bytes:
    if values.shape[2] == 2:
        values = values[..., [0, 0, 0, 1]]
    done, data = cv2.imencode(suffix, values[..., [2, 1, 0, 3][: values.shape[2]]])
    if not done:
        raise OSError("OpenCV cannot encode it")
    return data.tobytes()


def _deep_png(values: np.ndarray, extras: dict) -> bytes:
    """Colour of 16 bits, which Pillow does not write: OpenCV's file, with chunks for the rest put behind its header."""
    chunks = b""
    if "profile" in extras:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(extras["profile"]))
    if "gamma" in extras:
        chunks += _chunk(b"gAMA", _gamma_data(extras))
    if "resolution" in extras:
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *(round(dots / 0.0254) for dots in extras["resolution"]), 1))
    if "EXIF" in extras:
        chunks += _chunk(b"eXIf", extras["EXIF"].removeprefix(b"Exif\0\0"))
    if "XMP" in extras:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + extras["XMP"])
    data = _opencv(".png", values)
    return data[:33] + chunks + data[33:]  # 8 bytes of signature, 25 of the header


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
