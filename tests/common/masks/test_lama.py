"""The masks of LaMa: bounds from its published settings."""

import numpy as np
import pytest
import scipy.ndimage

from common.errors import UserError
from common.masks import lama
from common.masks.benchmark_sets import evaluation_masks


@pytest.mark.parametrize("kind", lama.KINDS)
def test_every_mask_covers_something_and_at_most_half(kind):
    masks, digest = evaluation_masks(kind, 40, 128, 96)
    fractions = masks.mean((1, 2))
    assert masks.shape == (40, 128, 96) and fractions.min() > 0 and fractions.max() <= 0.5
    assert digest == evaluation_masks(kind, 40, 128, 96)[1] != evaluation_masks(kind, 40, 128, 96, seed=1)[1]


class Middle:
    """Samples the middle of every range."""

    def integers(self, low, high=None):
        return (low + high - 1) // 2 if high is not None else (low - 1) // 2


@pytest.mark.parametrize("kind, brush_px", [("lama-thin", 5 + 4), ("lama-medium", 5 + 24), ("lama-thick", 5 + 49)])
@pytest.mark.parametrize("side", [256, 512])
def test_brushes_are_as_wide_as_published(kind, brush_px, side):
    """5 to 14 of 256 px for thin masks, to 54 for medium, to 104 for thick; in the middle of these, straight ahead."""
    published = lama.KINDS[kind]
    stroke = lama.Kind((1, 0), published.length_px, published.brush_px)
    mask = lama._strokes(stroke, side, side, side / 256, Middle())
    start = (side - 1) // 2
    widest = 2 * scipy.ndimage.distance_transform_edt(mask)[start, start]
    assert widest == pytest.approx(brush_px * side / 256, abs=2)


def test_boxes_keep_their_margin_and_sizes():
    kind = lama.KINDS["lama-thick"]
    masks = [lama._boxes(kind, 256, 256, 1.0, np.random.default_rng(n)) for n in range(60)]
    inner = np.zeros((256, 256), bool)
    inner[10:246, 10:246] = True
    assert all(mask.any() and not mask[~inner].any() for mask in masks)
    assert min(mask.any(1).sum() for mask in masks) >= 30 and min(mask.any(0).sum() for mask in masks) >= 30


def test_thin_masks_are_many_thin_lines_and_thick_ones_few_broad_parts():
    thin, thick = (evaluation_masks(kind, 30, 128, 128)[0] for kind in ("lama-thin", "lama-thick"))
    rim = [np.mean([scipy.ndimage.binary_erosion(mask).sum() / mask.sum() for mask in each]) for each in (thin, thick)]
    assert rim[0] < rim[1] - 0.2


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match="no lama-thin mask covers at most half of 1 x 1 px"):
        lama.sample("lama-thin", 1, 1, np.random.default_rng(0))
