"""Which face of a photo is completed: the one that the flags give, or the one that a detector sees."""

from pathlib import Path

import numpy as np

from common.errors import UserError
from common.imaging.transforms import Crop
from common.inpainting import baselines, face_detector
from dcgan_completion import face
from dcgan_completion.face import Face
from dcgan_completion.options import InferOptions


def find_face(
    photo: Path, image: np.ndarray, missing: np.ndarray, crop: Crop, px: int, options: InferOptions, eyes: dict
) -> tuple[Face | None, str]:
    """The face window by the options or by a detector, or None for that of training; and a note about it.

    Args:
        missing: bool [height, width], the mask; nothing, where it is drawn in the window.
        crop: of the training.
        px: side of the network's images.
        eyes: by file name, as `options.eyes_given` has them.
    """
    if options.face:
        left, top, side = options.face
        return Face(left, top, side), ""
    if photo.name in eyes:
        return face.from_eyes(eyes[photo.name], crop), ""
    where, aligned = face.middle(*image.shape[:2], crop)
    if aligned:
        return None, ""
    none_found = ""
    if options.align == "auto":
        found = detect(image, missing, crop, px)
        if found:
            places = " ".join(f"{place:.0f}" for place in found[1].ravel())
            return found[0], f"{photo}: eyes found at {places}; --eyes sets others"
        none_found = "no face found; "
    return None, (
        f"{photo}: {none_found}taken for an upright face that fills the square in the middle, {where}, as in training; "
        "if it does not, give --eyes or --face"
    )


def of_photo(image: np.ndarray, missing: np.ndarray, crop: Crop, px: int) -> Face | None:
    """The face window by the detector; None, which is that of training, for an aligned photo or without a face."""
    if face.middle(*image.shape[:2], crop)[1] or image.shape[:2] != missing.shape:  # which `infer.prepare` refuses
        return None
    found = detect(image, missing, crop, px)
    return found and found[0]


def detect(image: np.ndarray, missing: np.ndarray, crop: Crop, px: int) -> tuple[Face, np.ndarray] | None:
    """The window and the eyes [2, 2] of the face in a photo that the mask lies on most, or of the largest.

    None without a face, or if no window of one passes `face.check`.
    """
    best, most = None, -1
    for one in face_detector.find(baselines.telea(image, missing)):
        try:
            where = face.from_eyes(tuple(one.eyes.ravel()), crop)
            face.check(where, *missing.shape, px, "the photo")
        except UserError:
            continue
        covered = int((missing & face.inside(where, *missing.shape)).sum())
        if covered > most:
            best, most = (where, one.eyes), covered
    return best
