"""Makes data/examples/: images under free licences, with holes, to show the papers on without any data set.

python -m data.draw_examples --portrait astronaut.png

The portrait is `skimage.data.astronaut()` of scikit-image, saved as PNG; the faces and streets are drawn here.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

from common.errors import UserError
from common.imaging.io import read_image, write_image
from common.imaging.transforms import ALIGNED, crop_square
from common.runtime.commands import one_line_errors
from data import EXAMPLES
from data.faces import draw_face
from data.streets import draw_street

EYES = ((203.5, 101.5), (246.5, 103.5))  # x, y of her eyes in the portrait, px; read off it
ABOVE = 30  # px of background added to the portrait
CLOSE_PX = 192  # side of the face to sketch on, cut closer
ALIGNED_EYES = ((69.5, 111.5), (107.5, 111.5))  # where aligned CelebA has them on the average, px of 178 x 218
FACES, STREETS = (13, 23, 16), (8, 6)  # numbers of the images that were chosen, of seed 0


@dataclass(frozen=True)
class Options:
    """Make the examples."""

    portrait: Path
    """the portrait of scikit-image, 512 x 512 px"""
    output: Path = EXAMPLES
    """folder to write"""


def align(portrait: np.ndarray) -> np.ndarray:
    """The portrait turned, scaled and cut so that the eyes are where aligned CelebA has them; uint8 [218, 178, 3].

    It ends too close above her hair, so that its background is continued by some 20 px.
    """
    portrait = np.concatenate([np.pad(portrait[:14], [(ABOVE, 0), (0, 0), (0, 0)], "reflect")[:ABOVE], portrait])
    (x0, y0), (x1, y1) = EYES
    (u0, v0), (u1, v1) = ALIGNED_EYES
    turn = complex(x1 - x0, y1 - y0) / complex(u1 - u0, v1 - v0)  # from the aligned image to the portrait
    start = complex(x0, y0 + ABOVE) - turn * complex(u0, v0)
    matrix = np.array([[turn.real, -turn.imag, start.real], [turn.imag, turn.real, start.imag]])
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(portrait, matrix, ALIGNED, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def draw_masks() -> dict[str, np.ndarray]:
    """uint8 [218, 178] of each face, white in the hole; all inside the square in the middle, where the face is."""
    masks = {name: np.zeros(ALIGNED[::-1], np.uint8) for name in ("astronaut", "drawn_1", "drawn_2", "drawn_3")}
    cv2.ellipse(masks["astronaut"], (89, 125), (20, 24), 0, 0, 360, 255, -1)
    masks["drawn_1"][86:140, 62:116] = 255
    cv2.polylines(masks["drawn_2"], [np.array([(56, 112), (84, 106), (122, 116)], np.int32)], False, 255, 24)
    cv2.ellipse(masks["drawn_3"], (70, 109), (19, 15), 0, 0, 360, 255, -1)
    return masks


def draw_smile() -> tuple[np.ndarray, np.ndarray]:
    """A hole over the mouth of a face of CLOSE_PX, and a sketch of a smile, dark on white; uint8 [side, side] both."""
    mask, paper = np.zeros((CLOSE_PX, CLOSE_PX), np.uint8), np.full((CLOSE_PX, CLOSE_PX), 255, np.uint8)
    cv2.ellipse(mask, (96, 169), (50, 25), 0, 0, 360, 255, -1)
    for lip in (
        ((59, 158), (76, 164), (96, 167), (116, 164), (133, 158)),
        ((59, 158), (76, 174), (96, 181), (116, 174)),
    ):
        cv2.polylines(paper, [np.array(lip, np.int32)], False, 0, 3, cv2.LINE_AA)
    cv2.line(paper, (116, 174), (133, 158), 0, 3, cv2.LINE_AA)
    return mask, paper


def scratch(side: int) -> np.ndarray:
    """uint8 [side, side], white on three scratches through a photo."""
    mask = np.zeros((side, side), np.uint8)
    for points in (((60, 0), (150, 170), (200, 330)), ((330, 40), (250, 150), (180, 210)), ((511, 300), (380, 380))):
        cv2.polylines(mask, [np.array(points, np.int32)], False, 255, 6)
    return mask


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m data.draw_examples", description=__doc__)
    portrait, folder = read_image(options.portrait), options.output
    if portrait.shape != (512, 512, 3):
        raise UserError(f"{options.portrait} is no image of 512 x 512 px; save skimage.data.astronaut()")
    faces = {"astronaut": align(portrait)}
    for place, number in enumerate(FACES, 1):
        faces[f"drawn_{place}"] = draw_face(np.random.default_rng((0, number)))
    for name, mask in draw_masks().items():
        write_image(folder / "faces" / f"{name}.png", faces[name])
        write_image(folder / "masks" / f"{name}.png", mask)
    mask, smile = draw_smile()
    write_image(folder / "sketch" / "face.png", crop_square(faces["drawn_1"], "center108", CLOSE_PX, None))
    write_image(folder / "sketch" / "hole.png", mask)
    write_image(folder / "sketch" / "lines.png", smile)
    (folder / "photo").mkdir(exist_ok=True)
    Image.fromarray(portrait).save(folder / "photo" / "astronaut.jpg", quality=88)
    write_image(folder / "photo_mask" / "astronaut.png", scratch(512))
    for place, number in enumerate(STREETS, 1):
        photo, label = draw_street(np.random.default_rng((0, number)))
        write_image(folder / "streets" / f"drawn_{place}.jpg", photo)
        write_image(folder / "labels" / f"drawn_{place}.png", label)
    print(f"written: {folder}")


if __name__ == "__main__":
    main()
