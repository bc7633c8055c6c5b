"""Training masks: shares, sizes and places against the published code's numbers, brushes against plain geometry."""

import math
from typing import get_args

import numpy as np
import pytest

from deepfill import masks

KINDS = list(masks.KINDS)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(kind, count, height=256, width=256, seed=0):
    draws = rng(seed)
    return np.array([masks.KINDS[kind](height, width, draws) for _ in range(count)])


def fractions(kind, count, height=256, width=256):
    draws = rng()
    return np.array([masks.KINDS[kind](height, width, draws).mean() for _ in range(count)])


def near_line(points, radius_px, height, width):
    """Every pixel within the radius of a polyline of (x, y) points."""
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for (x, y), (to_x, to_y) in zip(points, points[1:], strict=False):
        along = ((columns - x) * (to_x - x) + (rows - y) * (to_y - y)) / ((to_x - x) ** 2 + (to_y - y) ** 2)
        along = along.clip(0, 1)
        mask |= np.hypot(columns - x - along * (to_x - x), rows - y - along * (to_y - y)) <= radius_px
    return mask


class Script:
    """A generator that gives what it was told, in this order."""

    def __init__(self, integers=(), uniform=(), flips=(0.9, 0.9)):
        self.queues = {"integers": list(integers), "uniform": list(uniform)}
        self.flips = np.array(flips)

    def integers(self, *limits, endpoint=False):
        value = self.queues["integers"].pop(0)
        low, high = limits if len(limits) == 2 else (0, limits[0])
        assert low <= value < high + endpoint
        return value

    def uniform(self, low, high):
        value = self.queues["uniform"].pop(0)
        assert low <= value <= high
        return value

    def random(self, count):
        return self.flips


@pytest.fixture
def segments(monkeypatch):
    """Every segment that is drawn: (start, end, thickness)."""
    seen, line = [], masks.cv2.line

    def watched(canvas, start, end, colour, thickness):
        seen.append((start, end, thickness))
        return line(canvas, start, end, colour, thickness)

    monkeypatch.setattr(masks.cv2, "line", watched)
    return seen


def strokes_of(segments):
    """The segments of each stroke; a stroke goes on where the last segment ended."""
    strokes = []
    for segment in segments:
        if strokes and strokes[-1][-1][1] == segment[0]:
            strokes[-1].append(segment)
        else:
            strokes.append([segment])
    return strokes


# ---- all kinds


def test_every_kind_has_a_name():
    assert get_args(masks.Kind) == tuple(masks.KINDS)


@pytest.mark.parametrize("size", [(8, 8), (33, 47), (64, 160), (160, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size(kind, size):
    drawn = draw(kind, 20, *size)
    assert drawn.dtype == bool and drawn.shape == (20, *size)
    assert drawn.any(axis=(1, 2)).all() and not drawn.all(axis=(1, 2)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_chance_is_the_generator_and_pictures_differ(kind):
    first, again, other = draw(kind, 8, 64, 64), draw(kind, 8, 64, 64), draw(kind, 8, 64, 64, seed=1)
    assert (first == again).all() and (first != other).any()
    assert len({mask.tobytes() for mask in first}) == 8


@pytest.mark.medium
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rectangle"])
@pytest.mark.parametrize("size", [(64, 160), (160, 64)])
def test_strokes_reach_every_border_of_oblong_pictures(kind, size):
    reached = draw(kind, 120, *size).any(axis=0)
    assert [side.any() for side in (reached[0], reached[-1], reached[:, 0], reached[:, -1])] == [True] * 4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bands"])
def test_shares_do_not_depend_on_the_size(kind):
    small, large = (fractions(kind, 300, side, side).mean() for side in (96, 256))
    assert abs(small - large) < 0.025  # standard error up to 0.008


@pytest.mark.parametrize("draw_one", [masks.algorithm1, masks._mmagic_strokes])
def test_strokes_start_anywhere_in_oblong_pictures(draw_one, segments):
    starts = []
    for seed in range(150):
        segments.clear()
        draw_one(64, 160, rng(seed))
        starts += [stroke[0][0] for stroke in strokes_of(segments)]
    across, down = np.array(starts).T
    for places, side in ((across, 160), (down, 64)):
        counts = np.histogram(places, 4, (0, side))[0]
        assert counts.sum() == len(starts) and counts.min() > 0.17 * len(starts)  # a quarter each


# ---- official


def test_official_holes_cover_as_much_as_the_released_code():
    # Of 3,000 holes of the released code: 30.9 % on average, percentiles 5 and 95 at 20.7 and 43.0 %.
    covered = fractions("official", 1200)
    assert abs(covered.mean() - 0.309) < 0.007  # standard error 0.002
    assert np.abs(np.percentile(covered, [5, 95]) - [0.207, 0.430]).max() < 0.015


def test_official_is_brush_and_rectangle_together():
    draws = rng(3)
    brush, rectangle = masks.KINDS["freeform"](256, 256, draws), masks.rectangle(256, 256, draws)
    assert (masks.official(256, 256, rng(3)) == (brush | rectangle)).all()


def boxes(count, height=256, width=256):
    """First and last row, first and last column of so many rectangles."""
    draws, found = rng(), []
    for _ in range(count):
        mask = masks.rectangle(height, width, draws)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)  # filled
        found.append((rows[0], rows[-1], columns[0], columns[-1]))
    return np.array(found).T


def test_rectangle_is_a_box_of_128_px_cut_by_up_to_16_px_at_both_ends():
    top, bottom, left, right = boxes(3400)
    rows, columns = bottom - top + 1, right - left + 1
    for sides in (rows, columns):
        # 96, 98 ... 128 px, each 200 times in 3,400, standard deviation 14.
        counts = np.bincount(sides, minlength=129)
        assert np.abs(counts[96::2] - 200).max() < 60 and counts.sum() == counts[96::2].sum()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.08  # standard error 0.017
    assert (
        abs((rows * columns).mean() / 65536 - (112 / 256) ** 2) < 0.002
    )  # both sides are 112 px on average; standard error 0.0004
    for middle in ((top + bottom + 1) / 2, (left + right + 1) / 2):
        assert set(middle) == set(range(64, 192))  # the box starts at 0..127
    assert bottom.max() == right.max() == 254 and top.min() == left.min() == 0


def test_rectangle_follows_each_side():
    top, bottom, left, right = boxes(500, 64, 256)
    assert set(bottom - top + 1) == set(range(24, 33, 2)) and set(right - left + 1) == set(range(96, 129, 2))


def test_only_kinds_with_flips_have_no_side():
    def sides(kind):
        drawn = draw(kind, 400, 48, 48)
        rows, columns = drawn.mean(axis=2), drawn.mean(axis=1)
        below, right = rows[:, 24:].mean(1) - rows[:, :24].mean(1), columns[:, 24:].mean(1) - columns[:, :24].mean(1)
        return [side.mean() / (side.std() / math.sqrt(400)) for side in (below, right)]  # in standard errors

    for kind in ("algorithm1", "bands"):
        assert np.abs(sides(kind)).max() < 4, kind
    assert sides("freeform")[1] > 6  # all segments point 48 to 96 degrees off the right, up and down in turn


# ---- algorithm 1

# From the middle of pixel (120, 40): 100 px to the left and down, where (sin, cos) = (0.8, 0.6) is (across, down);
# then 50 px to the right.
ZIGZAG = [(120, 40), (40, 100), (80, 130)]


def zigzag(flips):
    script = Script([1, 2], [120.5, 40.5, 11.5, math.asin(0.8), 100, math.asin(0.8), 50], flips)
    return masks.algorithm1(256, 256, script, max_length_px=100)


def test_algorithm1_draws_every_second_segment_reversed_with_round_joints():
    drawn = zigzag((0.9, 0.9))
    assert drawn[near_line(ZIGZAG, 4.5, 256, 256)].all() and not drawn[~near_line(ZIGZAG, 6.5, 256, 256)].any()
    assert drawn[35:46, 120].all() and not drawn[33, 120]  # the round end, 11 px across


def test_algorithm1_flips_for_real():
    drawn = zigzag((0.9, 0.9))
    assert (zigzag((0.9, 0.1)) == drawn[:, ::-1]).all()
    assert (zigzag((0.1, 0.9)) == drawn[::-1]).all()
    assert (zigzag((0.1, 0.1)) == drawn[::-1, ::-1]).all()


def test_algorithm1_keeps_to_its_hyper_parameters(segments):
    counts, turns, widths = [], [], []
    for seed in range(400):
        segments.clear()
        masks.algorithm1(256, 256, rng(seed), max_strokes=2, max_vertex=5, max_length_px=30, max_brush_px=20)
        strokes = strokes_of(segments)
        counts.append(len(strokes))
        turns += [len(stroke) for stroke in strokes]
        widths += [stroke[0][2] for stroke in strokes]
        assert all(segment[2] == stroke[0][2] for stroke in strokes for segment in stroke)  # one brush per stroke
        assert all(math.dist(start, end) < 30 + math.sqrt(2) for start, end, _ in segments)
    assert abs(np.mean(counts) - 1.5) < 0.1 and set(counts) == {1, 2}
    assert abs(np.mean(turns) - 3) < 0.25 and set(turns) == {1, 2, 3, 4, 5}
    assert set(widths) == {1, *range(2, 20, 2)}  # OpenCV draws 2 as 3 px, 18 as 19 px
    straight = masks.algorithm1(256, 256, rng(2), max_strokes=1, max_angle=0)
    assert straight.any(axis=0).sum() <= 41 and straight.any(axis=1).sum() > straight.any(axis=0).sum()


# ---- MMagic


def test_mmagic_strokes_have_the_published_sizes(segments):
    counts, turns = [], []
    for seed in range(300):
        segments.clear()
        mask = masks._mmagic_strokes(256, 256, rng(seed))
        strokes = strokes_of(segments)
        counts.append(len(strokes))
        turns += [len(stroke) for stroke in strokes]
        for start, end, thickness in segments:
            assert 20 - math.sqrt(2) < math.dist(start, end) < 127 + math.sqrt(2) and 10 <= thickness <= 44
        assert mask.any()
    assert set(counts) == {4, 5, 6, 7, 8, 9} and abs(np.mean(counts) - 6.5) < 0.4  # standard error 0.1
    assert set(turns) == {1, 2, 3, 4, 5} and abs(np.mean(turns) - 3) < 0.13  # standard error 0.03


def test_mmagic_draws_whole_radians_and_every_second_stroke_reversed(segments):
    for seed in range(100):
        segments.clear()
        masks._mmagic_strokes(1024, 1024, rng(seed))  # four times as long, so that rounding hardly turns a segment
        for number, stroke in enumerate(strokes_of(segments)):
            for (x, y), (to_x, to_y), _ in stroke:
                angle = math.atan2(to_y - y, to_x - x) * (-1 if number % 2 == 0 else 1) - 0.01
                nearest = min(abs(math.remainder(angle - whole, 2 * math.pi)) for whole in range(6))
                assert nearest < 0.03


def test_mmagic_keeps_holes_of_15_to_65_percent():
    kept = fractions("mmagic", 400)
    assert kept.min() > 0.15 and kept.max() < 0.65
    tries = np.array([masks._mmagic_strokes(256, 256, draws).mean() for draws in [rng()] for _ in range(600)])
    assert tries.min() < 0.15 and 0.9 < ((tries > 0.15) & (tries < 0.65)).mean() < 1


# ---- bands


def test_bands_are_equally_likely_and_within_1_to_60_percent():
    covered = fractions("bands", 600, 48, 48)
    assert covered.min() >= 0.01 and covered.max() < 0.60
    counts = np.histogram(covered, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])[0]
    assert np.abs(counts - 100).max() < 37  # standard deviation 9
