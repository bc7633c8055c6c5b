"""BlazeFace against numbers of a TensorFlow Lite interpreter, and the eyes it finds in photos where they are known."""

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.imaging.io import read_image
from common.imaging.transforms import resize, to_network
from common.inpainting import baselines, face_detector

import paddle

pytestmark = pytest.mark.medium

EXAMPLES = Path(__file__).parents[3] / "data/examples/faces"
ALIGNED = np.array([[69.5, 111.5], [107.5, 111.5]])  # mean of CelebA's eyes, px of 178 x 218
FACES, FILL = 150, baselines.telea
CANVASES = ((900, 1200), (1200, 900))


# An interpreter of TensorFlow Lite (ai-edge-litert) on face_detection_back.tflite, for `padded()`: the surest anchor,
# its score and points; mean magnitudes of the scores and of the points, in the fine and in the coarse grid.
SUREST, SCORE = 716, 2.1321156
POINTS = [8.5999, -13.7106, 89.8891, 89.8897, -10.9936, -31.8629, 28.0969, -32.7147, 8.9067, -8.915, 9.1602, 8.2459]
POINTS += [-30.7258, -24.4709, 48.7936, -26.4327]
SCORES_MEAN, POINTS_MEAN = (187.518798, 12.885400), (10.8429236, 28.4610310)


def padded():
    """The astronaut of data/examples, on grey."""
    image = np.full((256, 256, 3), 128, np.uint8)
    image[:218, :178] = read_image(EXAMPLES / "astronaut.png")
    return image


def paste(photo, canvas, scale, degrees, middle):
    """A face of 178 x 218 px turned, scaled and laid with its middle at a place: (canvas, eyes [2, 2])."""
    turn = scale * np.array(
        [
            [math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))],
            [math.sin(math.radians(degrees)), math.cos(math.radians(degrees))],
        ]
    )
    corner = np.array(middle) - turn @ [89, 109]
    if scale < 1:
        photo = cv2.GaussianBlur(photo, (0, 0), 0.3 / scale)
    matrix = np.c_[turn, corner - 0.5 + turn @ [0.5, 0.5]]
    laid = cv2.warpAffine(photo, matrix, canvas.shape[1::-1], dst=canvas.copy(), borderMode=cv2.BORDER_TRANSPARENT)
    return laid, ALIGNED @ turn.T + corner


def draw(photo, rng):
    """A canvas, grey or of the blurred photo, with the face at a random place that holds it: (canvas, eyes, scale)."""
    height, width = CANVASES[rng.integers(2)]
    degrees, scale = rng.uniform(-45, 45), math.exp(rng.uniform(math.log(0.5), math.log(3)))
    canvas = np.full((height, width, 3), 128, np.uint8)
    if rng.integers(2):
        canvas = resize(cv2.GaussianBlur(photo, (0, 0), 12), height, width)
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    reach = scale / 2 * np.array([178 * cosine + 218 * sine, 178 * sine + 218 * cosine])
    size = np.array([width, height])
    low = np.minimum(reach, size / 2)
    return *paste(photo, canvas, scale, degrees, rng.uniform(low, size - low)), scale


def error(found, eyes):
    """Mean distance of two eyes from where they are, in distances of the eyes; infinite without a face."""
    return np.hypot(*(found[0].eyes - eyes).T).mean() / math.dist(*eyes) if found else math.inf


def test_the_network_computes_what_the_interpreter_does():
    points, scores = face_detector.load()(paddle.to_tensor(to_network(padded()[None])))
    points, scores = points.numpy()[0], scores.numpy()[0]
    assert points.shape == (896, 16) and scores.argmax() == SUREST
    assert scores[SUREST] == pytest.approx(SCORE, abs=1e-3)
    np.testing.assert_allclose(points[SUREST], POINTS, atol=2e-3)
    for part, score, point in zip((slice(512), slice(512, 896)), SCORES_MEAN, POINTS_MEAN, strict=True):
        assert np.abs(scores[part]).mean() == pytest.approx(score, rel=1e-4)
        assert np.abs(points[part]).mean() == pytest.approx(point, rel=1e-4)


def test_points_are_counted_from_the_middles_of_the_cells():
    """Two boxes in each of 16 x 16 cells, then six in each of 8 x 8, row by row; sizes are no places."""
    still = face_detector.decode(np.zeros((896, 16), np.float32))
    for n, place in ((0, (0.5, 0.5)), (1, (0.5, 0.5)), (2, (1.5, 0.5)), (32, (0.5, 1.5)), (511, (15.5, 15.5))):
        np.testing.assert_allclose(still[n, 0] * 16, place)
    for n, place in ((512, (0.5, 0.5)), (518, (1.5, 0.5)), (560, (0.5, 1.5)), (895, (7.5, 7.5))):
        np.testing.assert_allclose(still[n, 7] * 8, place)
    assert (still[:, 1] == 0).all()
    moved = face_detector.decode(np.tile(np.arange(16, dtype=np.float32), (896, 1))) - still
    np.testing.assert_allclose(moved[3], np.arange(16).reshape(8, 2) / 256, atol=1e-9)


def test_boxes_that_overlap_are_one_face():
    """Boxes of side 0.2: a move by 0.02 leaves an overlap of 9 in 11; by 0.12 of 4 in 16, too little."""

    def box(x, y, side=0.2):
        return np.array([[x, y], [side, side], *[[x, y]] * 6])

    boxes = np.stack([box(0.3, 0.3), box(0.32, 0.3), box(0.42, 0.3), box(0.8, 0.8), box(0.1, 0.8)])
    found = face_detector.merge(boxes, np.array([0.6, 0.9, 0.55, 0.7, 0.49]))
    assert [score for _, score in found] == [0.9, 0.7]
    np.testing.assert_allclose(found[0][0][0], [(0.6 * 0.3 + 0.9 * 0.32 + 0.55 * 0.42) / 2.05, 0.3])
    apart = face_detector.merge(boxes[[0, 2]], np.array([0.6, 0.55]))
    assert [score for _, score in apart] == [0.6, 0.55]


def test_the_square_is_cut_where_it_was_asked_for():
    """Of the network's own size it is the photo itself; turned by a right angle, enlarged, and reaching beyond."""
    image = np.random.default_rng(0).integers(0, 256, (300, 320, 3), dtype=np.uint8)
    np.testing.assert_array_equal(face_detector.look(image, (148, 138), 256, np.eye(2)), image[10:266, 20:276])
    right_angle = np.array([[0.0, -1.0], [1.0, 0.0]])  # the photo's downward is across the square
    turned = face_detector.look(image, (148, 138), 256, right_angle)
    np.testing.assert_array_equal(turned, np.rot90(image[10:266, 20:276]))
    outside = face_detector.look(image, (0, 0), 256, np.eye(2))
    assert (outside[:127] == 128).all() and (outside[:, :127] == 128).all()
    np.testing.assert_array_equal(outside[128:, 128:], image[:128, :128])
    large = resize(image, 1200, 1280)  # shrunk by two before it is turned, by two after
    small = face_detector.look(large, (640, 600), 1024, np.eye(2)).astype(float)
    assert np.abs(small - resize(large[88:1112, 128:1152], 256, 256)).mean() < 1


@pytest.mark.parametrize(
    "name, degrees, scale",
    [("astronaut", 0, 1), ("astronaut", 30, 0.7), ("drawn_2", -45, 2), ("drawn_2", 60, 1.5), ("astronaut", -85, 1)],
)
def test_the_eyes_of_aligned_faces_are_found_where_they_are(name, degrees, scale):
    """`data/examples` has them where aligned CelebA has its own."""
    grey = np.full((800, 700, 3), 128, np.uint8)
    image, eyes = paste(read_image(EXAMPLES / f"{name}.png"), grey, scale, degrees, (320, 430))
    assert error(face_detector.find(image), eyes) < 0.12


def test_a_photo_without_an_upright_face_is_turned(monkeypatch):
    """Of what the turned photos show the surest is kept; its second look is along its eyes, and may see nothing."""
    image, angles = np.zeros((90, 120, 3), np.uint8), []
    first, surest = (
        face_detector.Found(np.array([[40.0, 30], [50, 40]]), np.array([45.0, 40]), 30.0, score) for score in (0.6, 0.7)
    )

    def stand_in(image, middle, side, angle=0.0):
        angles.append(round(math.degrees(angle)))
        return {30: [first], 60: [surest]}.get(angles[-1], [])

    monkeypatch.setattr(face_detector, "detect", stand_in)
    found = face_detector.find(image)
    assert len(found) == 1 and found[0] is surest and angles == [0, 30, -30, 60, -60, 45]


def test_of_two_faces_the_larger_is_first():
    grey = np.full((700, 900, 3), 128, np.uint8)
    image, small = paste(read_image(EXAMPLES / "drawn_1.png"), grey, 1, -10, (200, 300))
    image, large = paste(read_image(EXAMPLES / "astronaut.png"), image, 2, 15, (600, 350))
    found = face_detector.find(image)
    assert len(found) == 2 and error(found, large) < 0.12 and error(found[1:], small) < 0.12
    assert found[0].side > 1.5 * found[1].side


def test_where_there_is_no_face_none_is_found():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    for image in (noise, np.full((40, 90, 3), 77, np.uint8), resize(noise[:4, :6], 300, 400), noise[:1, :1]):
        assert face_detector.find(image) == []


# What is missing of the face, px of 178 x 218, as rows and columns; with the bounds of right eyes and of their error.
MISSING = {
    "nothing": (None, 0.95, 0.06),
    "mouth": ((slice(140, 175), slice(60, 118)), 0.92, 0.08),
    "eyes": ((slice(95, 128), slice(50, 128)), 0.75, 0.17),
    "middle": ((slice(74, 144), slice(54, 124)), 0.62, 0.17),
}


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real images")
@pytest.mark.parametrize("missing", MISSING)
def test_eyes_of_test_faces(missing):
    """The table of docs/dcgan_completion.md, by `pytest -s`: eyes off by less than 0.3 of their distance are right."""
    folder, rng = Path(os.environ["SUITE_DATA"], "celeba"), np.random.default_rng(0)
    parts = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    where, least, most = MISSING[missing]
    errors, px = [], []
    for name in [name for name, part in parts if part == "2"][:FACES]:
        image = read_image(folder / "img_align_celeba" / name)
        if where:
            mask = np.zeros(image.shape[:2], bool)
            mask[where] = True
            image = FILL(image, mask)
        image, eyes, _ = draw(image, rng)
        errors.append(error(face_detector.find(image), eyes))
        px.append(errors[-1] * math.dist(*eyes))
    errors, px = np.array(errors), np.array(px)
    right = errors < 0.3
    print(f"\n| {missing} | {np.isfinite(errors).mean():.1%} | {right.mean():.1%} |", end="")
    print(" | ".join(f" {np.median(some[right]):.3g} | {np.quantile(some[right], 0.95):.3g}" for some in (errors, px)))
    assert right.mean() >= least and np.median(errors[right]) <= most
