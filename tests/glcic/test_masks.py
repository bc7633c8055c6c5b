"""Hole and patch placement against section 3 of the papers and codebases: sizes, places, areas, over many draws."""

import numpy as np
import pytest

from common.errors import UserError
from glcic import masks
from glcic.config import ARTICLE, PAPER, PAPER_CELEBA


def draws(cfg, count=2000, placement=None):
    rng = np.random.default_rng(1)
    return [
        masks.sample(placement or cfg.placement, cfg.image_px, cfg.local_px, cfg.mask_px, rng) for _ in range(count)
    ]


def sides(layout):
    rows, columns = np.flatnonzero(layout.mask.any(1)), np.flatnonzero(layout.mask.any(0))
    assert layout.mask.sum() == len(rows) * len(columns)  # a filled rectangle
    return (rows[0], columns[0]), (len(rows), len(columns))


@pytest.mark.medium
@pytest.mark.parametrize("cfg", [PAPER, PAPER_CELEBA])
def test_paper_holes(cfg):
    layouts = draws(cfg)
    drawn = np.array([sides(layout)[1] for layout in layouts])
    assert drawn.min() == cfg.mask_px[0] and drawn.max() == cfg.mask_px[1]
    assert drawn.mean() == pytest.approx(sum(cfg.mask_px) / 2, rel=0.01)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.08  # height and width are independent
    for layout in layouts[:300]:
        (top, left), (height, width) = sides(layout)
        corner = layout.patch_corner
        assert (corner >= 0).all() and (corner + cfg.local_px <= cfg.image_px).all()
        wanted = np.clip([top + height / 2, left + width / 2], cfg.local_px / 2, cfg.image_px - cfg.local_px / 2)
        assert np.abs(corner + cfg.local_px / 2 - wanted).max() <= 1  # centred, or against the border
        assert (corner <= (top, left)).all() and (corner + cfg.local_px >= (top + height, left + width)).all()


@pytest.mark.medium
def test_paper_hole_area_of_places2():
    """Sides uniform in 96..128 of 256: mean area (112/256)^2 = 19.1 %, from 14.1 % to 25.0 %."""
    fractions = np.array([layout.mask.mean() for layout in draws(PAPER)])
    assert fractions.mean() == pytest.approx(0.191, abs=0.002)
    assert fractions.min() >= 0.1406 and fractions.max() <= 0.25


def test_real_patch_lies_anywhere_in_the_paper():
    corners = np.array([layout.real_corner for layout in draws(PAPER)])
    assert corners.min() == 0 and corners.max() == 128
    assert corners.mean() == pytest.approx(64, abs=2)


@pytest.mark.medium
def test_article_holes_are_one_pixel_larger_than_drawn():
    """Drawn 24..48, painted 25..49; area mean (37/128)^2 = 8.36 % of the image, 3.8 % to 14.7 %."""
    layouts = draws(ARTICLE, 8000)
    drawn = np.array([sides(layout)[1] for layout in layouts])
    fractions = np.array([layout.mask.mean() for layout in layouts])
    assert drawn.min() == 25 and drawn.max() == 49
    assert fractions.mean() == pytest.approx((37 / 128) ** 2, abs=0.0012)  # four standard errors
    assert fractions.min() >= 0.038 and fractions.max() <= 0.147
    for layout in layouts[:300]:
        (top, left), (height, width) = sides(layout)
        assert (layout.patch_corner <= (top, left)).all()
        assert (layout.patch_corner + 64 >= (top + height, left + width)).all()
        assert (layout.patch_corner == layout.real_corner).all()


def test_window_holes_lie_anywhere_in_their_patch():
    layouts = draws(PAPER_CELEBA, placement="window")
    offsets = np.array([np.subtract(sides(layout)[0], layout.patch_corner) for layout in layouts])
    assert offsets.min() == 0 and offsets.max() > 40
    assert any((layout.patch_corner != layout.real_corner).any() for layout in layouts)


def test_bounding_box_holes():
    """MMagic: at most 128, 0 to 20 px off on opposite sides (so 88, 90 … 128), 20 px from the border."""
    cfg = PAPER
    rng = np.random.default_rng(2)
    for _ in range(500):
        layout = masks.sample("bounding-box", 256, 128, (88, 128), rng)
        (top, left), (height, width) = sides(layout)
        assert min(height, width) >= 88 and max(height, width) <= 128 and height % 2 == width % 2 == 0
        assert min(top, left) >= 20 and max(top + height, left + width) <= 236
        assert (layout.patch_corner <= (top, left)).all()
        assert (layout.patch_corner + cfg.local_px >= (top + height, left + width)).all()
        assert (layout.patch_corner == layout.real_corner).all()


@pytest.mark.medium
def test_freeform_holes_are_strokes_with_a_patch_on_their_middle():
    rectangles, far = 0, 0
    for layout in draws(PAPER, 300, "freeform"):
        rows, columns = np.flatnonzero(layout.mask.any(1)), np.flatnonzero(layout.mask.any(0))
        rectangles += layout.mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        middle = np.array([rows[0] + rows[-1] + 1, columns[0] + columns[-1] + 1]) / 2
        far += (np.abs(layout.patch_corner + 64 - np.clip(middle, 64, 192)) > 1).any()
    assert rectangles == 0 and far == 0


@pytest.mark.parametrize("side_px, patch_px, mask_px", [(64, 32, (8, 40)), (64, 80, (8, 16)), (64, 32, (16, 8))])
def test_what_does_not_fit_is_refused(side_px, patch_px, mask_px):
    with pytest.raises(UserError, match="do not fit"):
        masks.check(side_px, patch_px, mask_px)
