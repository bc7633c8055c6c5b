"""The face of an own photo: which one is taken, what is told of it, and what the detector may look at."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.imaging.io import read_image
from common.inpainting import face_detector
from data import EXAMPLES
from dcgan_completion import face, infer
from dcgan_completion.alignment import detect, find_face
from dcgan_completion.options import InferOptions
from tests.common.inpainting.test_face_detector import paste

pytestmark = pytest.mark.medium

PX, CROP = 64, "center108"
PHOTO = Path("family.png")
OPTIONS = InferOptions(weights=Path("w.safetensors"), input=PHOTO, output=Path("out.png"))


@pytest.fixture(scope="module")
def family():
    """Two faces of 178 x 218 px in one photo, the second twice as large: (photo, eyes, eyes)."""
    grey = np.full((700, 900, 3), 128, np.uint8)
    image, small = paste(read_image(EXAMPLES / "faces/drawn_1.png"), grey, 1, -10, (200, 300))
    image, large = paste(read_image(EXAMPLES / "faces/astronaut.png"), image, 2, 15, (600, 350))
    return image, small, large


def nothing(image):
    return np.zeros(image.shape[:2], bool)


def near(where, eyes):
    """Whether a window lies on a face as its eyes would lay it: corner, side and angle."""
    right = face.from_eyes(tuple(eyes.ravel()), CROP)
    off = np.hypot(where.left - right.left, where.top - right.top) / right.side
    return off < 0.12 and abs(where.side / right.side - 1) < 0.15 and abs(where.angle - right.angle) < 0.12


def test_the_largest_face_is_taken_or_the_one_under_the_mask(family):
    image, small, large = family
    where, eyes = detect(image, nothing(image), CROP, PX)
    assert near(where, large) and np.abs(eyes - large).max() < 8
    missing = nothing(image)
    missing[335:360, 185:230] = True  # the small face's mouth
    where, eyes = detect(image, missing, CROP, PX)
    assert near(where, small) and np.abs(eyes - small).max() < 8
    missing[350:420, 500:650] = True  # and more of the other's
    assert near(detect(image, missing, CROP, PX)[0], large)


def test_what_lies_under_the_mask_is_not_looked_at(family):
    image, small, _ = family
    missing = nothing(image)
    missing[335:360, 185:230] = True  # its mouth
    noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    other = np.where(missing[..., None], noise, image)
    where, eyes = detect(image, missing, CROP, PX)
    again, same = detect(other, missing, CROP, PX)
    assert where == again and near(where, small)
    np.testing.assert_array_equal(eyes, same)
    missing[:, 330:] = True  # hides the large face
    assert near(detect(image, missing, CROP, PX)[0], small)


def test_a_face_too_small_or_beyond_the_photo_is_none(family):
    """The small one's window has 108 px, the network of 256 px asks for 128; a large one is cut off at its nose."""
    image, small, _ = family
    left = image[:, :400]
    assert near(detect(left, nothing(left), CROP, 64)[0], small)
    assert near(detect(left, nothing(left), CROP, 200)[0], small)
    assert detect(left, nothing(left), CROP, 256) is None


def test_what_is_told(family):
    image, _, large = family
    where, note = find_face(PHOTO, image, nothing(image), CROP, PX, OPTIONS, {})
    told, numbers = note.split(": eyes found at ")
    assert told == "family.png" and numbers.endswith("; --eyes sets others") and near(where, large)
    np.testing.assert_allclose([float(n) for n in numbers.split(";")[0].split()], large.ravel(), atol=8)
    grey = np.full((300, 400, 3), 90, np.uint8)
    for align, begins in (("auto", "family.png: no face found; taken for"), ("none", "family.png: taken for")):
        where, note = find_face(PHOTO, grey, nothing(grey), CROP, PX, replace(OPTIONS, align=align), {})
        assert where is None and note.startswith(begins) and note.endswith("give --eyes or --face")


def test_complete_takes_the_face_under_the_mask_as_the_page_and_compare_do(family, monkeypatch):
    image, small, _ = family
    missing = nothing(image)
    missing[335:360, 185:230] = True  # the small face's mouth
    seen = []

    class StoppedError(Exception):
        """Before the search, which is not asked about here."""

    def stop(network, image, mask, where, *rest):
        seen.append(where)
        raise StoppedError

    monkeypatch.setattr(infer, "prepare", stop)
    network = SimpleNamespace(metadata={"crop": CROP}, px=PX)
    aligned = read_image(EXAMPLES / "faces/astronaut.png")
    grey = np.full((300, 400, 3), 90, np.uint8)
    given = face.Face(1, 2, 300)
    for photo, mask, where in (
        (image, missing, None), (image, missing, given), (aligned, nothing(aligned), None), (grey, nothing(grey), None)
    ):  # fmt: skip
        with pytest.raises(StoppedError):
            infer.complete(network, photo, mask, where=where)
    assert near(seen[0], small) and seen[1:] == [given, None, None]


def test_nobody_asks_the_detector_for_what_is_known(family, monkeypatch):
    """By --align none, --face, eyes by hand or from a file, or the shape of aligned faces."""
    monkeypatch.setattr(face_detector, "find", lambda image: pytest.fail("looked for faces"))
    image, _, large = family
    eyes = {PHOTO.name: tuple(large.ravel())}
    assert find_face(PHOTO, image, nothing(image), CROP, PX, replace(OPTIONS, align="none"), {})[0] is None
    by_hand = find_face(PHOTO, image, nothing(image), CROP, PX, replace(OPTIONS, face=(1, 2, 300)), {})
    assert by_hand == (face.Face(1, 2, 300), "")
    assert find_face(PHOTO, image, nothing(image), CROP, PX, OPTIONS, eyes) == (
        face.from_eyes(eyes[PHOTO.name], CROP),
        "",
    )
    aligned = read_image(EXAMPLES / "faces/astronaut.png")
    assert find_face(PHOTO, aligned, nothing(aligned), CROP, PX, OPTIONS, {}) == (None, "")
