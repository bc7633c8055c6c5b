"""Holes against the rules of the code, in numbers."""

import numpy as np
import pytest

from common.errors import UserError
from common.masks import generators
from dcgan_completion import losses
from dcgan_completion.masks import KINDS, LOWRES, sample_mask

import paddle


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(kind, count, side=64):
    one = rng()
    return np.stack([sample_mask(kind, side, one) for _ in range(count)])


def test_the_kinds_are_those_of_the_article_its_code_and_the_paper():
    yeh, bamos = {"center", "pattern", "random80", "half"}, {"center", "random20", "left", "full", "grid", "lowres"}
    assert set(KINDS) == yeh | bamos | {"freeform", "random"} and LOWRES in KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_bool_of_the_side_and_repeatable_and_the_callers_own(kind):
    for side in (64, 128):
        first = sample_mask(kind, side, rng(3))
        assert first.shape == (side, side) and first.dtype == bool
        again = sample_mask(kind, side, rng(3))
        assert (first == again).all()
        first[:] = ~first
        assert (sample_mask(kind, side, rng(3)) == again).all()


@pytest.mark.parametrize(
    ("side", "scale", "first", "end"),
    [
        (64, 0.25, 16, 48),
        (64, 0.1, 6, 57),
        (64, 0.3, 19, 44),
        (64, 0.45, 28, 35),
        (128, 0.25, 32, 96),
        (64, 0.01, 0, 63),
    ],
)
def test_center_cuts_off_both_ends(side, scale, first, end):
    """int(64 s) to int(64 (1 - s)): 0.1 gives 6.4 and 57.6, cut off to 6 and 57."""
    expected = [[first <= row < end and first <= column < end for column in range(side)] for row in range(side)]
    assert (sample_mask("center", side, rng(), scale) == np.array(expected)).all()


def test_center_is_a_quarter_unless_told_and_nothing_at_half():
    assert sample_mask("center", 64, rng()).sum() == 32 * 32
    assert not sample_mask("center", 64, rng(), 0.5).any()


@pytest.mark.parametrize(("kind", "fraction"), [("random20", 0.2), ("random80", 0.8)])
def test_random_drops_each_pixel_by_itself(kind, fraction):
    drawn = draws(kind, 100)
    assert abs(drawn.mean() - fraction) < 0.003  # of 409,600 pixels: standard deviation 0.0006
    assert (
        np.abs(drawn.mean(0) - fraction).max() < 0.21
    )  # each place in 100 images: 0.04, the farthest of 4,096 4.5 of it
    for one, other in ((drawn[:, 1:], drawn[:, :-1]), (drawn[:, :, 1:], drawn[:, :, :-1]), (drawn[1:], drawn[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01  # standard deviation 0.0016


def test_left_is_the_left_half():
    drawn = sample_mask("left", 64, rng())
    assert drawn[:, :32].all() and not drawn[:, 32:].any()


def test_half_is_any_of_four():
    counts = dict.fromkeys(("left", "right", "top", "bottom"), 0)
    for drawn in draws("half", 400):
        for name, part in (
            ("left", np.s_[:, :32]),
            ("right", np.s_[:, 32:]),
            ("top", np.s_[:32]),
            ("bottom", np.s_[32:]),
        ):
            counts[name] += drawn[part].all() and drawn.sum() == 32 * 64
    assert sum(counts.values()) == 400
    assert all(abs(count - 100) < 40 for count in counts.values())  # standard deviation 9


def test_grid_knows_every_fourth_pixel_of_every_fourth_row():
    drawn = sample_mask("grid", 64, rng())
    assert (~drawn).sum() == 64 * 64 // 16
    assert all(drawn[row, column] == (row % 4 > 0 or column % 4 > 0) for row in range(64) for column in range(64))


def test_full_and_lowres_have_no_hole():
    assert not sample_mask("full", 64, rng()).any() and not sample_mask(LOWRES, 64, rng()).any()


def test_pattern_misses_about_a_quarter_in_blobs():
    drawn = draws("pattern", 60)
    assert (drawn.mean((1, 2)) > 0.2).all() and (drawn.mean((1, 2)) < 0.3).all()
    assert len({one.tobytes() for one in drawn}) == 60
    assert (drawn[:, :, 1:] == drawn[:, :, :-1]).mean() > 0.9  # 0.625 if each pixel were by itself


def test_freeform_is_the_suites_brush():
    assert (sample_mask("freeform", 64, rng(5)) == generators.freeform(64, 64, rng(5))).all()


@pytest.mark.parametrize(
    ("kind", "known"),
    [("center", 64**2 - 32**2), ("left", 64 * 32), ("half", 64 * 32), ("full", 64**2), ("grid", 16**2)],
)
def test_the_contextual_loss_counts_what_is_outside(kind, known):
    """Off by 1 everywhere: one for each known pixel and channel."""
    mask_tensor = paddle.to_tensor(sample_mask(kind, 64, rng())[None, None].astype(np.float32))
    loss = losses.contextual_loss(paddle.ones([1, 3, 64, 64]), paddle.zeros([1, 3, 64, 64]), mask_tensor)
    assert loss.item() == 3 * known


@pytest.mark.parametrize("scale", [0, -0.1, 0.51, 1, float("nan")])
def test_scale_out_of_range_is_the_users_mistake(scale):
    with pytest.raises(UserError, match=f"{scale}; it must be more than 0 and at most 0.5"):
        sample_mask("center", 64, rng(), scale)


def test_unknown_kind_names_the_others():
    with pytest.raises(UserError, match="'centre'.*center, random, random20, random80, left, half, full, grid"):
        sample_mask("centre", 64, rng())
