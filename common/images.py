"""Pictures: read, write, resize, crop, uint8 <-> [-1, 1], labelled grids.

An image is uint8 [height, width, 3] in RGB order everywhere outside this module; OpenCV's BGR stays in here.
"""

import io
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UserError, first_line

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
# Pillow knows more kinds, but needless ones: EPS is a program, which it would have run.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 200_000_000  # a 200-megapixel picture; above it, a decompression bomb is likelier than a photo
MAX_BYTES = 8 * MAX_PIXELS  # of a file: that picture in 16 bit, with alpha, not compressed

BARE_MARKERS = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}  # of JPEG: those without a length, and what is none

Image.MAX_IMAGE_PIXELS = None  # replaced by our own check, which raises instead of warning


def read_image(source: str | Path | bytes, name: str = "") -> np.ndarray:
    """Reads a picture of any common kind: grey, palette, alpha (laid on white), 16 bit, CMYK, turned by EXIF.

    Args:
        source: a path, or the file's bytes (then `name` is used in errors).

    Returns:
        uint8 [height, width, 3], RGB, upright.

    Raises:
        UserError: there is no such file, it is no picture, or it is broken, truncated or absurdly large.
    """
    name = name or str(source)
    data = source if isinstance(source, bytes) else _bytes(source)
    if _whole_jpeg(data):
        # OpenCV decodes outside the interpreter lock and half again as fast as Pillow, but returns a half-grey
        # picture for a truncated file; so it only sees files whose end-of-image marker is in place.
        image = _decode_jpeg(data)
        if image is not None:
            return image
    return decode(data, lambda picture: _to_rgb(ImageOps.exif_transpose(picture)), name)


def _bytes(path: str | Path) -> bytes:
    try:
        about = Path(path).stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device may never end
            raise UserError(f"cannot read {path}: it is a folder, a pipe or a device")
        if about.st_size > MAX_BYTES:
            raise UserError(f"{path} has {about.st_size:,} bytes; the limit is {MAX_BYTES:,}")
        return Path(path).read_bytes()
    except (OSError, ValueError) as problem:  # a ValueError is what a name with a NUL gives
        raise UserError(f"cannot read {path}: {getattr(problem, 'strerror', None) or problem}") from None


def _whole_jpeg(data: bytes) -> bool:
    return data[:3] == b"\xff\xd8\xff" and b"\xff\xd9" in data[-64:]


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    width, height, channels = _jpeg_header(data)
    if channels not in (1, 3) or width * height > MAX_PIXELS:
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height and channels from the JPEG's start-of-frame segment; zeros when there is none.

    Zeros too at a marker that has no length: what follows it would be misread, and another size found than is decoded.
    """
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF and data[at + 1] not in BARE_MARKERS:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return (
                int.from_bytes(data[at + 7 : at + 9], "big"),
                int.from_bytes(data[at + 5 : at + 7], "big"),
                data[at + 9],
            )
        at += 2 + length
    return 0, 0, 0


def decode(source: str | Path | bytes, work: Callable[[Image.Image], np.ndarray], name: str) -> np.ndarray:
    """work(Pillow's picture, not decoded yet), whatever goes wrong told in one line.

    Args:
        source: a path, or the file's bytes.
        name: what to call it in errors.

    Raises:
        UserError: as of `read_image`.
    """
    try:
        data = source if isinstance(source, bytes) else _bytes(source)
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise UserError(f"{name} is {opened.width} x {opened.height} px; the limit is {MAX_PIXELS:,} pixels")
            return work(opened)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"cannot read {name}: not a picture") from None
    except Exception as problem:  # Pillow raises a dozen kinds of exception for broken files
        raise UserError(f"cannot read {name}: broken picture: {first_line(problem)}") from None


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bit grey, which convert() would clip
        grey = np.nan_to_num(np.array(image, np.float32), copy=False)  # exact up to 24 bit
        if grey.max() > 255:
            grey /= 257
        grey = np.clip(np.rint(grey, out=grey), 0, 255, out=grey).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB (or grey [height, width]) picture; the suffix chooses the format, JPEG at quality 95."""
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


def find_images(folder: str | Path) -> list[Path]:
    """All pictures below a folder, sorted by path; hidden files and folders are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(above, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with the area filter where the picture shrinks and bicubic where it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


ALIGNED = (178, 218)  # width and height of CelebA's aligned pictures
SQUARES = {"square178": 178, "center108": 108}  # sides that crops cut from these

Crop = Literal["squash", "square178", "center108", "random160", "center", "random"]


def aligned_scale(height: int, width: int) -> float | None:
    """The size of a picture of aligned CelebA's shape, of theirs; None for another shape."""
    return width / ALIGNED[0] if abs(height - width * ALIGNED[1] / ALIGNED[0]) <= 1 else None


def crop_square(image: np.ndarray, crop: Crop, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Makes a size_px x size_px picture.

    Args:
        crop: `squash` resizes both sides, aspect lost; `square178` and `center108` cut that square from the middle
            (aligned CelebA is 178 x 218; from pictures of its shape at another size, a square of that share);
            `center` cuts the largest square; `random160` resizes the short side to 160..178 parts of 160 and cuts a
            random square, `random` to 256..384 parts of 256.
        rng: used by the two random crops only.

    Raises:
        UserError: the picture is so long that these would make it larger than any picture may be.
    """
    height, width = image.shape[:2]
    if crop == "squash":
        return resize(image, size_px, size_px)
    if crop in ("random160", "random"):
        smallest, largest = (160, 178) if crop == "random160" else (256, 384)
        short = int(rng.integers(size_px, math.floor(size_px * largest / smallest), endpoint=True))
        scale = short / min(height, width)
        rows, columns = max(size_px, round(height * scale)), max(size_px, round(width * scale))
        if rows * columns > MAX_PIXELS:
            raise UserError(f"a picture of {width} x {height} px is too long to cut squares of {size_px} px from it")
        image = resize(image, rows, columns)
        top = int(rng.integers(0, image.shape[0] - size_px, endpoint=True))
        left = int(rng.integers(0, image.shape[1] - size_px, endpoint=True))
        return image[top : top + size_px, left : left + size_px]
    side = min(height, width)
    if crop in SQUARES:
        side = min(side, round(SQUARES[crop] * (aligned_scale(height, width) or 1)))
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], size_px, size_px)


def to_network(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] in 0..255 -> float32 [N, 3, H, W] in [-1, 1]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(127.5) - np.float32(1)


def from_network(images: np.ndarray) -> np.ndarray:
    """float32 [N, 3, H, W] in [-1, 1] (values outside are clipped) -> uint8 [N, H, W, 3]."""
    levels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def show_hole(image: np.ndarray, hole: np.ndarray, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """The picture with its hole painted over, for previews."""
    shown = image.copy()
    shown[hole] = colour
    return shown


def grid(
    rows: list[list[np.ndarray]], titles: list[str] | None = None, gap_px: int = 4, cell_px: int = 0
) -> np.ndarray:
    """One sheet from rows of equally sized pictures, with a title above each column.

    Args:
        rows: uint8 [h, w, 3] pictures, all of one size.
        cell_px: enlarges each cell to at least this width by whole multiples, so that small pictures can be judged.
    """
    height, width = rows[0][0].shape[:2]
    times = max(1, math.ceil(cell_px / width))
    height, width = height * times, width * times
    head = 20 if titles else 0
    columns = max(len(row) for row in rows)
    shape = (head + len(rows) * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, 3)
    sheet = np.full(shape, 255, np.uint8)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            top, left = head + gap_px + r * (height + gap_px), gap_px + c * (width + gap_px)
            sheet[top : top + height, left : left + width] = cell.repeat(times, 0).repeat(times, 1)
    for c, title in enumerate(titles or []):
        place = (gap_px + c * (width + gap_px), 16)
        cv2.putText(sheet, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
