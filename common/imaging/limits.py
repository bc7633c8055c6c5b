"""Bombs: small files that would take much memory or time, refused by what they claim before anything is decoded."""

import re
import struct
import warnings
import zlib

from PIL import Image

from common.errors import UserError

MAX_PIXELS = 200_000_000  # a 200-megapixel image; above it, a decompression bomb is likelier than a photo
MAX_BYTES = 8 * MAX_PIXELS  # of a file: that image in 16 bit, with alpha, not compressed
MAX_SCANS = 64  # of a progressive JPEG, each of which costs as much as an image; encoders write about ten
MAX_SCANNED = 16 * MAX_PIXELS  # pixels of all scans of a JPEG together
MAX_TAG_VALUES = 100_000  # in a tag of a TIFF: places of its strips; Pillow needs some 500 bytes for each
TIFF_SIGNS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# A start of scan and a length that fits it, so that hardly one is found by chance in a film that follows the image
SCAN_MARKER = b"\xff\xda"
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

# What a byte can become: by deflate 1,032 others, of 8 pixels of one bit; in a JPEG 8 blocks of 8 x 8, a bit for each.
# Flat images are smaller still as WebP or AVIF, so up to some pixels, which cost next to nothing, all is believed.
DEFLATE = 1032
PIXELS_PER_BYTE = {"JPEG": 512, "MPO": 512}
BELIEVED_PIXELS = 4_000_000
FLAT = 64  # times smaller than its pixels is no photo as PNG; then its rows are counted
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by a PNG's colour type

# The guard of whatever else opens images by Pillow here, such as Gradio: above twice the number it raises
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raises UserError for more than max_pixels; 0 is MAX_PIXELS."""
    limit = max_pixels or MAX_PIXELS
    if width * height > limit:
        raise UserError(f"{name} is {width} x {height} px; the limit is {limit:,} pixels")


def check_claim(kind: str, width: int, height: int, data: bytes, name: str) -> None:
    """Raises UserError if a file cannot hold its pixels, or is a JPEG of too many scans.

    Args:
        kind: Pillow's name of the format.
        data: all of the file.
    """
    if width * height > max(BELIEVED_PIXELS, PIXELS_PER_BYTE.get(kind, 8 * DEFLATE) * len(data)):
        raise UserError(f"cannot read {name}: {len(data):,} bytes cannot hold the {width} x {height} px they claim")
    if kind == "PNG":
        _check_rows(data, name)
    scans = min(MAX_SCANS, MAX_SCANNED // max(1, width * height))
    if kind in PIXELS_PER_BYTE and data.count(SCAN_MARKER) > scans and len(SCAN.findall(data)) > scans:
        size = f"{width} x {height} px in more than {scans} scans"
        raise UserError(f"{name} is a JPEG of {size}, which no camera or program writes; refused")


def _check_rows(data: bytes, name: str) -> None:
    """Raises UserError for rows that a PNG has not: Pillow takes them for black.

    Of what is small for its size they are counted, a megabyte at a time.
    """
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    missing = height * (1 + (width * bits * SAMPLES[colours] + 7) // 8)
    if missing <= FLAT * len(data):
        return
    packed, at = bytearray(), 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    unpack = zlib.decompressobj()
    while missing > 0 and (rows := unpack.decompress(packed, 1 << 20)):
        missing, packed = missing - len(rows), unpack.unconsumed_tail
    if missing > 0:
        raise UserError(f"cannot read {name}: corrupt image: rows of its {width} x {height} px are missing")


def check_canvas(data: bytes, name: str, max_pixels: int) -> None:
    """Refuses a WebP by the canvas in its header: Pillow 12 asks for the memory of it before it tells the size."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, name, max_pixels)


def check_tags(data: bytes, name: str) -> None:
    """Refuses a TIFF with a million strips: Pillow would make some 500 bytes of each of them, however small it is."""
    order = "<" if data[:2] == b"II" else ">"
    where, offset, count, line = 4, "I", "H", "HHI4x"
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        where, offset, count, line = 8, "Q", "Q", "HHQ8x"
    (first,) = struct.unpack_from(order + offset, data, where)
    (entries,) = struct.unpack_from(order + count, data, first)
    line, start = struct.Struct(order + line), first + struct.calcsize(order + count)
    for tag, kind, count in line.iter_unpack(data[start : start + min(entries, 4096) * line.size]):
        if count > MAX_TAG_VALUES and kind not in (1, 2, 7):  # not bytes or text: profiles and notes may be long
            raise UserError(f"cannot read {name}: tag {tag} of the TIFF holds {count:,} values; refused")
