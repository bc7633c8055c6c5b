"""Blending and the classical fillings: known pixels, leaks, and the membrane against exact solutions."""

from typing import get_args

import numpy as np
import pytest

from common import baselines, blending
from common.errors import UserError

ALL = get_args(blending.Blend)
FILLINGS = (baselines.mean_colour, baselines.telea, baselines.navier_stokes)


def noise(height=60, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height=60, width=70):
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 17) * 40 + 120, np.cos(y / 13) * 50 + 120, np.sin((x + y) / 19) * 60 + 120
    return np.stack(waves, axis=2)


def box(top, left, bottom, right, height=60, width=70):
    hole = np.zeros((height, width), bool)
    hole[top:bottom, left:right] = True
    return hole


HOLES = {
    "inside": box(20, 20, 40, 45),
    "top left": box(0, 0, 25, 20),
    "top right": box(0, 50, 20, 70),
    "bottom left": box(45, 0, 60, 30),
    "bottom right": box(40, 40, 60, 70),
    "left half": box(0, 0, 60, 35),
    "frame": ~box(15, 15, 45, 55),
    "one pixel": box(30, 30, 31, 31),
    "specks": np.random.default_rng(0).random((60, 70)) < 0.2,
    "all but one": ~box(59, 69, 60, 70),
}


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("name", HOLES)
def test_known_pixels_stay_and_hidden_ones_are_not_read(how, name):
    hole, image, filled = HOLES[name], noise(), noise(seed=1)
    result = blending.blend(image, filled, hole, how)
    assert result.dtype == np.uint8 and (result[~hole] == image[~hole]).all()
    other = image.copy()
    other[hole] = 255 - other[hole]
    assert (blending.blend(other, filled, hole, how) == result).all()


@pytest.mark.parametrize("fill", FILLINGS)
@pytest.mark.parametrize("name", HOLES)
def test_classical_fillings_keep_known_pixels_and_do_not_leak(fill, name):
    hole, image = HOLES[name], noise()
    result = fill(image, hole)
    assert (result[~hole] == image[~hole]).all()
    other = image.copy()
    other[hole] = 255 - other[hole]
    assert (fill(other, hole) == result).all()


def test_classical_fillings_of_a_plain_picture_are_plain():
    image = np.full((50, 60, 3), (30, 120, 200), np.uint8)
    hidden = image.copy()
    hidden[10:30, 0:25] = 0
    for fill in FILLINGS:
        error = fill(hidden, box(10, 0, 30, 25, 50, 60)).astype(int) - image
        assert np.abs(error).max() <= 4  # OpenCV truncates at each step
        assert (fill(hidden, np.ones((50, 60), bool)) == 128).all()
        assert (fill(hidden, np.zeros((50, 60), bool)) == hidden).all()


def test_mean_colour_is_the_mean_of_what_is_known():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0] = (100, 40, 0)
    image[3] = 250
    filled = baselines.mean_colour(image, box(3, 0, 4, 4, 4, 4))  # 4 of 12 known pixels have the colour
    assert (filled[3] == (33, 13, 0)).all()


@pytest.mark.parametrize("how", ALL)
def test_empty_hole_returns_the_photo_and_full_hole_the_prediction(how):
    image, filled = noise(), noise(seed=1)
    assert (blending.blend(image, filled, np.zeros((60, 70), bool), how) == image).all()
    assert (blending.blend(image, filled, np.ones((60, 70), bool), how) == filled).all()


def test_paste_rounds_and_clips_floats():
    filled = np.full((60, 70, 3), 300.0)
    filled[..., 0], filled[..., 1] = -4, 99.6
    assert (blending.blend(noise(), filled, HOLES["inside"], "paste")[HOLES["inside"]] == (0, 100, 255)).all()


@pytest.mark.parametrize("name", ["inside", "top left", "left half", "frame", "specks"])
def test_poisson_removes_any_constant_shift(name):
    truth, hole = smooth(), HOLES[name]
    image = np.rint(truth).astype(np.uint8)
    filled = truth + (25, -30, 10)
    error = np.abs(blending.blend(image, filled, hole, "poisson")[hole].astype(float) - truth[hole])
    assert error.max() <= 1.01  # two roundings, on the rim and of the result
    assert np.abs(blending.blend(image, filled, hole, "paste")[hole] - truth[hole]).mean() > 20


def membrane_by_hand(hole, shift):
    """Each unknown is the mean of its neighbours inside the picture: a dense system, written out pixel by pixel."""
    pixels = [tuple(p) for p in np.argwhere(hole)]
    number = {p: i for i, p in enumerate(pixels)}
    matrix, right = np.zeros((len(pixels), len(pixels))), np.zeros((len(pixels), 3))
    for (y, x), i in number.items():
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < hole.shape[0] and 0 <= near[1] < hole.shape[1]:
                matrix[i, i] += 1
                if near in number:
                    matrix[i, number[near]] -= 1
                else:
                    right[i] += shift[near]
    return np.linalg.solve(matrix, right)


@pytest.mark.parametrize("name", ["inside", "bottom right", "frame", "specks"])
def test_poisson_equals_the_system_written_out(name):
    hole = HOLES[name]
    image, filled = noise(), noise(seed=1) / 4 + 96.0
    expected = filled[hole] + membrane_by_hand(hole, image - filled)
    expected = np.clip(np.rint(expected), 0, 255)
    result = blending.blend(image, filled, hole, "poisson")[hole]
    assert (result != expected).mean() < 0.001 and np.abs(result - expected).max() <= 1  # ties may round either way


def test_parts_solved_together_or_apart_are_the_same(monkeypatch):
    image, filled = noise(), noise(seed=1)
    expected = blending.blend(image, filled, HOLES["specks"], "poisson")
    assert HOLES["specks"].sum() > 700
    monkeypatch.setattr(blending, "DIRECT_PIXELS", 40)
    result = blending.blend(image, filled, HOLES["specks"], "poisson")
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("edges", [(40, 30, 240, 290), (0, 0, 220, 251), (100, 0, 301, 333)])
@pytest.mark.parametrize(("direct", "tolerance"), [(20000, 0.8), (1500, 1.6)])  # one halving, three halvings
def test_large_holes_are_solved_at_half_size_within_a_grey_level(monkeypatch, edges, direct, tolerance):
    hole = box(*edges, 301, 333)
    y, x = np.mgrid[:301, :333]
    shift = np.stack([30 * np.cos(x / 60), 20 * np.sin(y / 35 + x / 80), 15 + 0 * x], axis=2)
    rim, values = blending._rim(np.zeros((301, 333, 3)), -shift, hole)
    exact = blending._membrane(hole, rim, values)
    monkeypatch.setattr(blending, "DIRECT_PIXELS", direct)
    error = np.abs(blending._membrane(hole, rim, values) - exact)
    assert np.abs(exact).max() > 25
    assert error.max() < tolerance and error.mean() < tolerance / 5


def test_large_thin_holes_too(monkeypatch):
    hole = np.zeros((200, 200), bool)
    hole[::4] = hole[:, ::5] = True
    shift = np.random.default_rng(0).normal(0, 20, (200, 200, 3))
    rim, values = blending._rim(np.zeros((200, 200, 3)), -shift, hole)
    exact = blending._membrane(hole, rim, values)
    monkeypatch.setattr(blending, "DIRECT_PIXELS", 1500)
    assert np.abs(blending._membrane(hole, rim, values) - exact).max() < 0.5


def test_poisson_of_an_already_composited_prediction_still_removes_the_shift():
    truth, hole = smooth(), HOLES["inside"]
    image = np.rint(truth).astype(np.uint8)
    filled = np.where(hole[:, :, None], truth + 40, image)
    result = blending.blend(image, filled, hole, "poisson")
    # Exact up to the step that the picture itself makes between the rim and its inner neighbour, here 5 levels.
    assert np.abs(result[hole] - truth[hole]).max() < 6 and np.abs(result[hole] - truth[hole]).mean() < 2


def test_telea_poisson_keeps_a_marched_band_and_meets_it():
    cv2 = pytest.importorskip("cv2")
    truth, hole = smooth(), HOLES["inside"]
    image = np.rint(truth).astype(np.uint8)
    result = blending.blend(image, truth + 30, hole, "telea-poisson")
    inner = box(23, 23, 37, 42)  # 3 px further in
    marched = cv2.inpaint(image, hole.astype(np.uint8), 1, cv2.INPAINT_TELEA)
    band = hole & ~inner
    assert (result[band] == marched[band]).all()
    expected = (truth + 30)[inner] + membrane_by_hand(inner, marched - (truth + 30))
    assert np.abs(result[inner] - expected).max() <= 0.51


def test_feather_fades_over_eight_pixels():
    image, filled = np.full((60, 70, 3), 200, np.uint8), np.full((60, 70, 3), 20.0)
    result = blending.blend(image, filled, HOLES["left half"], "feather")
    distance = np.arange(35, 0, -1)  # the rim is at the right, the picture's edge at the left
    expected = 200 + (20 - 200) * np.minimum(distance / 9, 1)
    assert np.abs(result[30, :35].astype(float) - expected[:, None]).max() <= 0.51


def test_feather_of_many_holes_is_that_of_each(monkeypatch):
    image, filled = noise(), noise(seed=1)
    together = blending.blend(image, filled, HOLES["specks"], "feather")
    monkeypatch.setattr(blending, "components", lambda hole: (hole.astype(int), np.array([[0, 0, *hole.shape]])))
    assert np.abs(together.astype(int) - blending.blend(image, filled, HOLES["specks"], "feather")).max() <= 1


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"'glue'.*paste, feather, poisson, telea-poisson"):
        blending.blend(noise(), noise(), HOLES["inside"], "glue")
    with pytest.raises(UserError, match=r"60, 70"):
        blending.blend(noise(), noise(50, 70), HOLES["inside"], "paste")
