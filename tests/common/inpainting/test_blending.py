"""Blending and the classical fillings: known pixels, leaks, and the membrane against exact solutions."""

from typing import get_args

import cv2
import numpy as np
import pytest

from common.errors import UserError
from common.inpainting import baselines, blending

ALL = get_args(blending.Blend)
FILLINGS = (baselines.mean_colour, baselines.telea, baselines.navier_stokes)


def noise(height=60, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height=60, width=70):
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 17) * 40 + 120, np.cos(y / 13) * 50 + 120, np.sin((x + y) / 19) * 60 + 120
    return np.stack(waves, axis=2)


def box(top, left, bottom, right, height=60, width=70):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


MASKS = {
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
@pytest.mark.parametrize("name", MASKS)
def test_known_pixels_stay_and_hidden_ones_are_not_read(how, name):
    mask, image, filled = MASKS[name], noise(), noise(seed=1)
    result = blending.blend(image, filled, mask, how)
    assert result.dtype == np.uint8 and (result[~mask] == image[~mask]).all()
    other = image.copy()
    other[mask] = 255 - other[mask]
    assert (blending.blend(other, filled, mask, how) == result).all()


@pytest.mark.parametrize("fill", FILLINGS)
@pytest.mark.parametrize("name", MASKS)
def test_classical_fillings_keep_known_pixels_and_do_not_leak(fill, name):
    mask, image = MASKS[name], noise()
    result = fill(image, mask)
    assert (result[~mask] == image[~mask]).all()
    other = image.copy()
    other[mask] = 255 - other[mask]
    assert (fill(other, mask) == result).all()


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
    assert (blending.blend(noise(), filled, MASKS["inside"], "paste")[MASKS["inside"]] == (0, 100, 255)).all()


@pytest.mark.parametrize("name", ["inside", "top left", "left half", "frame", "specks"])
def test_poisson_removes_any_constant_shift(name):
    truth, mask = smooth(), MASKS[name]
    image = np.rint(truth).astype(np.uint8)
    filled = truth + (25, -30, 10)
    error = np.abs(blending.blend(image, filled, mask, "poisson")[mask].astype(float) - truth[mask])
    assert error.max() <= 1.01  # two roundings, on the rim and of the result
    assert np.abs(blending.blend(image, filled, mask, "paste")[mask] - truth[mask]).mean() > 20


def membrane_by_hand(mask, shift):
    """Each unknown is the mean of its neighbours inside the image: a dense system, written out pixel by pixel."""
    pixels = [tuple(p) for p in np.argwhere(mask)]
    number = {p: i for i, p in enumerate(pixels)}
    matrix, right = np.zeros((len(pixels), len(pixels))), np.zeros((len(pixels), 3))
    for (y, x), i in number.items():
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]:
                matrix[i, i] += 1
                if near in number:
                    matrix[i, number[near]] -= 1
                else:
                    right[i] += shift[near]
    return np.linalg.solve(matrix, right)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["inside", "bottom right", "frame", "specks"])
def test_poisson_equals_the_system_written_out(name):
    mask = MASKS[name]
    image, filled = noise(), noise(seed=1) / 4 + 96.0
    expected = filled[mask] + membrane_by_hand(mask, image - filled)
    expected = np.clip(np.rint(expected), 0, 255)
    result = blending.blend(image, filled, mask, "poisson")[mask]
    assert (result != expected).mean() < 0.001 and np.abs(result - expected).max() <= 1  # ties may round either way


def test_parts_solved_together_or_apart_are_the_same(monkeypatch):
    image, filled = noise(), noise(seed=1)
    expected = blending.blend(image, filled, MASKS["specks"], "poisson")
    assert MASKS["specks"].sum() > 700
    monkeypatch.setattr(blending, "DIRECT_PIXELS", 40)
    result = blending.blend(image, filled, MASKS["specks"], "poisson")
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.medium
@pytest.mark.parametrize("edges", [(40, 30, 240, 290), (0, 0, 220, 251), (100, 0, 301, 333)])
@pytest.mark.parametrize(("direct", "tolerance"), [(20000, 0.8), (1500, 1.6)])  # one halving, three halvings
def test_large_holes_are_solved_at_half_size_within_a_grey_level(monkeypatch, edges, direct, tolerance):
    mask = box(*edges, 301, 333)
    y, x = np.mgrid[:301, :333]
    shift = np.stack([30 * np.cos(x / 60), 20 * np.sin(y / 35 + x / 80), 15 + 0 * x], axis=2)
    rim, values = blending._rim(np.zeros((301, 333, 3)), -shift, mask)
    exact = blending._membrane(mask, rim, values)
    monkeypatch.setattr(blending, "DIRECT_PIXELS", direct)
    error = np.abs(blending._membrane(mask, rim, values) - exact)
    assert np.abs(exact).max() > 25
    assert error.max() < tolerance and error.mean() < tolerance / 5


def test_large_thin_holes_too(monkeypatch):
    mask = np.zeros((200, 200), bool)
    mask[::4] = mask[:, ::5] = True
    shift = np.random.default_rng(0).normal(0, 20, (200, 200, 3))
    rim, values = blending._rim(np.zeros((200, 200, 3)), -shift, mask)
    exact = blending._membrane(mask, rim, values)
    monkeypatch.setattr(blending, "DIRECT_PIXELS", 1500)
    assert np.abs(blending._membrane(mask, rim, values) - exact).max() < 0.5


def test_poisson_of_an_already_composited_prediction_still_removes_the_shift():
    truth, mask = smooth(), MASKS["inside"]
    image = np.rint(truth).astype(np.uint8)
    filled = np.where(mask[:, :, None], truth + 40, image)
    result = blending.blend(image, filled, mask, "poisson")
    # Exact up to the step that the image itself makes between the rim and its inner neighbour, here 5 levels.
    assert np.abs(result[mask] - truth[mask]).max() < 6 and np.abs(result[mask] - truth[mask]).mean() < 2


def test_telea_poisson_keeps_a_marched_band_and_meets_it():
    truth, mask = smooth(), MASKS["inside"]
    image = np.rint(truth).astype(np.uint8)
    result = blending.blend(image, truth + 30, mask, "telea-poisson")
    inner = box(23, 23, 37, 42)  # 3 px further in
    marched = cv2.inpaint(image, mask.astype(np.uint8), 1, cv2.INPAINT_TELEA)
    band = mask & ~inner
    assert (result[band] == marched[band]).all()
    expected = (truth + 30)[inner] + membrane_by_hand(inner, marched - (truth + 30))
    assert np.abs(result[inner] - expected).max() <= 0.51


def test_feather_fades_over_eight_pixels():
    image, filled = np.full((60, 70, 3), 200, np.uint8), np.full((60, 70, 3), 20.0)
    result = blending.blend(image, filled, MASKS["left half"], "feather")
    distance = np.arange(35, 0, -1)  # the rim is at the right, the image's edge at the left
    expected = 200 + (20 - 200) * np.minimum(distance / 9, 1)
    assert np.abs(result[30, :35].astype(float) - expected[:, None]).max() <= 0.51


def test_feather_of_many_holes_is_that_of_each(monkeypatch):
    image, filled = noise(), noise(seed=1)
    together = blending.blend(image, filled, MASKS["specks"], "feather")
    monkeypatch.setattr(blending, "components", lambda mask: (mask.astype(int), np.array([[0, 0, *mask.shape]])))
    assert np.abs(together.astype(int) - blending.blend(image, filled, MASKS["specks"], "feather")).max() <= 1


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"'glue'.*paste, feather, poisson, telea-poisson"):
        blending.blend(noise(), noise(), MASKS["inside"], "glue")
    with pytest.raises(UserError, match=r"60, 70"):
        blending.blend(noise(), noise(50, 70), MASKS["inside"], "paste")


def test_the_papers_own_blending_is_chosen_by_its_name():
    assert blending.choose("paper", "telea-poisson") == "telea-poisson"
    assert [blending.choose(how, "paste") for how in ALL] == list(ALL)
    assert get_args(blending.BlendChoice) == ("paper", *ALL)


@pytest.mark.parametrize("name", ["inside", "left of the middle"])
def test_telea_poisson_is_what_the_published_commands_do(name):
    """cv2.inpaint of the composite, then seamlessClone of the composite into it, as Iizuka et al. released.

    seamlessClone fixes colours at the box around the hole and takes gradients alone from the marched band, so that
    levels differ a little. With source and target exchanged the result is the composite.
    """
    mask = {"inside": MASKS["inside"], "left of the middle": box(10, 8, 50, 36)}[name]
    image = np.rint(smooth()).astype(np.uint8)
    composite = np.where(
        mask[..., None], np.clip(smooth() + 60 * np.sin(np.arange(70) / 3)[None, :, None], 0, 255), image
    )
    composite = composite.astype(np.uint8)
    marched = cv2.inpaint(composite, mask.astype(np.uint8) * 255, 1, cv2.INPAINT_TELEA)
    rows, columns = np.nonzero(mask)
    middle = (int(columns.min() + columns.max() + 1) // 2, int(rows.min() + rows.max() + 1) // 2)
    published = cv2.seamlessClone(composite, marched, mask.astype(np.uint8) * 255, middle, cv2.NORMAL_CLONE)

    def difference(solid):
        return np.abs(solid[mask].astype(int) - published[mask]).mean()

    assert difference(blending.blend(image, composite, mask, "telea-poisson")) < 8
    assert difference(composite) > 15 and difference(marched) > 15
