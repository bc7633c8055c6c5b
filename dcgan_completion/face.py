"""The face window: the square of a photo that the networks see, and its way there and back.

A DCGAN knows images of one size, of faces that are aligned alike. The window is the square of a photo that lies on the
face as the squares of training did, rotated if need be; the result goes back to the same place.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.errors import UserError
from common.imaging.transforms import ALIGNED, SQUARES, Crop, aligned_scale, resize

EYES = ((69.5, 111.5), (107.5, 111.5))  # mean x, y of the left and the right eye in aligned CelebA, px of 178 x 218
SMALLEST = 0.5  # of the network's side: a window must have so many of its pixels


@dataclass(frozen=True)
class Face:
    """A square of a photo.

    Attributes:
        left, top: its first corner, px of the photo (the corner of a pixel, not its middle).
        side: px of the photo.
        angle: by which it is turned about that corner, radians, clockwise as one sees it.
    """

    left: float
    top: float
    side: float
    angle: float = 0.0

    def __str__(self) -> str:
        turned = f", turned by {math.degrees(self.angle):.1f} degrees" if self.angle else ""
        return f"{self.side:.0f} x {self.side:.0f} px at ({self.left:.0f}, {self.top:.0f}){turned}"

    def matrix(self, px: int) -> np.ndarray:
        """float64 [2, 3]: places of pixel middles in the window at px x px -> their places in the photo."""
        scale = self.side / px
        cosine, sine = scale * math.cos(self.angle), scale * math.sin(self.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        return np.c_[turn, np.array([self.left, self.top]) - 0.5 + turn @ [0.5, 0.5]]


# ---- where it is


def middle(height: int, width: int, crop: Crop, around: np.ndarray | None = None) -> tuple[Face, bool]:
    """The window that `images.crop_square` cuts in training, for a photo of which nothing else is known.

    Args:
        crop: of the training.
        around: bool [height, width], a mask. A window that need not be in the middle, because the photo is no aligned
            face, moves as far as it must to hold it.

    Returns:
        (the window, whether the photo has the shape of the faces in training).
    """
    scale = aligned_scale(height, width)
    if scale:
        side = round(SQUARES.get(crop, ALIGNED[0]) * scale)
        return Face((width - side) // 2, (height - side) // 2, side), True
    side, corner = min(height, width), []
    for length, axis in ((width, 0), (height, 1)):
        start = (length - side) // 2
        places = np.flatnonzero(around.any(axis)) if around is not None else []
        if len(places):
            start = max(min(start, int(places[0])), int(places[-1]) + 1 - side)
        corner.append(start)
    cut = SQUARES.get(crop, side)  # of a larger square training would see a part only
    return Face(corner[0], corner[1], side), height == width and side <= cut


def around(mask: np.ndarray, crop: Crop) -> Face:
    """The window of `middle`, or the largest square in the middle where the mask, bool [H, W], reaches beyond it."""
    where, _ = middle(*mask.shape, crop, mask)
    if not (mask & ~inside(where, *mask.shape)).any():
        return where
    height, width = mask.shape
    side = min(height, width)
    return Face((width - side) // 2, (height - side) // 2, side)


def from_eyes(eyes: tuple[float, float, float, float], crop: Crop) -> Face:
    """The window in which the eyes come where aligned CelebA has them.

    Args:
        eyes: x and y of the eye on the left of the image and of that on its right, px of the photo.
        crop: of the training; its square of an aligned face.

    Raises:
        UserError: the eyes are in one place, or the wrong way round.
    """
    (x0, y0), (x1, y1) = np.reshape(np.asarray(eyes, np.float64), (2, 2))
    if not (x1 > x0 and math.isfinite(x1 - x0 + y1 - y0)):
        raise UserError(f"eyes at ({x0:g}, {y0:g}) and ({x1:g}, {y1:g}): give the one on the image's left first")
    known_side = SQUARES.get(crop, ALIGNED[0])
    corner = [(length - known_side) / 2 for length in ALIGNED]
    scale = math.hypot(x1 - x0, y1 - y0) / (EYES[1][0] - EYES[0][0])
    angle = math.atan2(y1 - y0, x1 - x0)
    back = np.array(corner) - np.array(EYES[0])  # from the left eye to the window's corner, in aligned px
    cosine, sine = math.cos(angle), math.sin(angle)
    left = x0 + scale * (cosine * back[0] - sine * back[1])
    top = y0 + scale * (sine * back[0] + cosine * back[1])
    return Face(left, top, scale * known_side, angle)


def check(face: Face, height: int, width: int, px: int, name: str) -> None:
    """Raises UserError for a window that holds no face: too small for the network, or mostly outside the photo."""
    if face.side < SMALLEST * px:
        raise UserError(
            f"{name} is {width} x {height} px and has no window for a face: of {face.side:.0f} px, where the network's "
            f"images have {px}; it needs {math.ceil(SMALLEST * px)} or more"
        )
    if inside(face, height, width).sum() < 0.5 * face.side**2:
        raise UserError(f"{name} is {width} x {height} px; the face window, {face}, lies mostly outside")


# ---- there and back


def look(image: np.ndarray, mask: np.ndarray, face: Face, px: int) -> tuple[np.ndarray, np.ndarray]:
    """The window at the network's size.

    A pixel of it that touches the mask, or lies beyond the photo, is masked; so the others hold known colours only.

    Args:
        image: uint8 [height, width, 3].
        mask: bool [height, width].

    Returns:
        (uint8 [px, px, 3], bool [px, px])
    """
    fine = px * math.ceil(face.side / px)  # at least the photo's own resolution, and from there by whole means
    matrix, flags = face.matrix(fine), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    known = np.where(mask[..., None], 0, image)
    pixels = cv2.warpAffine(known, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    missing = mask.astype(np.float32)
    missing = cv2.warpAffine(missing, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    at = np.arange(fine)
    x, y = (row[0] * at + row[1] * at[:, None] + row[2] for row in matrix)  # of middles, in pixels' middles
    height, width = mask.shape
    missing[(x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)] = 1
    return resize(pixels, px, px), cv2.resize(missing, (px, px), interpolation=cv2.INTER_AREA) > 1e-4


def lay(square: np.ndarray, face: Face, photo: np.ndarray) -> np.ndarray:
    """The photo with a square laid over the window.

    Args:
        square: uint8 [px, px, 3].
        photo: uint8 [height, width, 3].

    Returns:
        uint8 [height, width, 3]
    """
    laid = _to_photo(square, face, photo.shape[:2], cv2.INTER_CUBIC)
    return np.where(inside(face, *photo.shape[:2])[..., None], laid, photo)


def project(mask: np.ndarray, face: Face, height: int, width: int) -> np.ndarray:
    """A mask sampled in the window, bool [px, px], at its place in the photo, bool [height, width]."""
    laid = _to_photo(mask.astype(np.uint8), face, (height, width), cv2.INTER_NEAREST)
    return (laid > 0) & inside(face, height, width)


def inside(face: Face, height: int, width: int) -> np.ndarray:
    """bool [height, width]: whose middle lies in the window."""
    x, y = np.arange(width) + 0.5 - face.left, np.arange(height)[:, None] + 0.5 - face.top
    across = math.cos(face.angle) * x + math.sin(face.angle) * y
    down = -math.sin(face.angle) * x + math.cos(face.angle) * y
    return (across >= 0) & (across < face.side) & (down >= 0) & (down < face.side)


def _to_photo(square: np.ndarray, face: Face, size: tuple[int, int], kind: int) -> np.ndarray:
    return cv2.warpAffine(square, face.matrix(len(square)), size[::-1], flags=kind, borderMode=cv2.BORDER_REPLICATE)


def read_eyes(path: str | Path) -> dict[str, tuple[float, float, float, float]]:
    """Eye positions by file name, from lines `NAME x y x y …`, such as CelebA's list of landmarks.

    Lines without a name and four numbers are skipped (CelebA's first two).

    Raises:
        UserError: the file cannot be read, or no line is of that kind.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"cannot read {path}: {getattr(problem, 'strerror', None) or 'it is no text'}") from None
    eyes = {}
    for line in lines:
        name, *numbers = line.split() or [""]
        try:
            eyes[name] = tuple(float(number) for number in numbers[:4])
        except ValueError:
            continue
    eyes = {name: places for name, places in eyes.items() if len(places) == 4}
    if not eyes:
        raise UserError(f"{path} has no line of a file name, and x and y of the left and the right eye")
    return eyes
