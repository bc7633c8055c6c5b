"""Holes: what the samplers promise, every way a hole is drawn, and evaluation sets that never change."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.masks import benchmark_sets, components, generators
from common.masks import reader as mask_reader


def rng(seed=0):
    return np.random.default_rng(seed)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def test_rectangle_reaches_both_ends_of_its_range_and_every_edge():
    boxes = [box_of(generators.rectangle(20, 24, (3, 6), rng(seed))) for seed in range(2000)]
    top, left, bottom, right = np.array(boxes).T
    for sides in (bottom - top, right - left):
        # Uniform over 3, 4, 5, 6: 500 each, standard deviation 19.
        assert (np.abs(np.bincount(sides, minlength=8)[3:7] - 500) < 100).all()
        assert set(sides) == {3, 4, 5, 6}
    assert abs(np.corrcoef(bottom - top, right - left)[0, 1]) < 0.1
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 20, 24)


def test_rectangle_is_filled_and_may_fill_the_picture():
    mask = generators.rectangle(30, 40, (5, 9), rng())
    top, left, bottom, right = box_of(mask)
    assert mask.sum() == (bottom - top) * (right - left)
    assert generators.rectangle(8, 8, (8, 8), rng()).all()


@pytest.mark.parametrize("side_px", [(3, 21), (0, 5), (6, 5)])
def test_rectangle_that_does_not_fit_is_the_users_mistake(side_px):
    with pytest.raises(UserError, match=r"24 x 20"):
        generators.rectangle(20, 24, side_px, rng())


def test_center_is_half_of_each_side_in_the_middle():
    mask = generators.center(64, 128)
    assert box_of(mask) == (16, 32, 48, 96) and mask.sum() == 32 * 64
    assert generators.center(33, 47).sum() == 16 * 24  # Python rounds 16.5 to even
    assert generators.center(2, 2, 0.1).sum() == 1


@pytest.mark.medium
def test_freeform_covers_as_much_as_the_published_brush():
    # 15.1 % of 256 x 256 on average, 0.5 to 47 %: measured on the published generator, 3,000 holes.
    fractions = np.array([generators.freeform(256, 256, rng(seed)).mean() for seed in range(800)])
    assert abs(fractions.mean() - 0.151) < 0.012  # standard error 0.003
    assert fractions.min() > 0.002 and fractions.max() < 0.5


@pytest.mark.medium
def test_freeform_follows_the_size_of_the_picture():
    small = np.mean([generators.freeform(64, 64, rng(seed)).mean() for seed in range(400)])
    large = np.mean([generators.freeform(512, 512, rng(seed)).mean() for seed in range(400)])
    assert abs(small - large) < 0.03


def test_capsule_is_every_pixel_within_its_radius():
    mask = np.zeros((30, 40), bool)
    generators.capsule(mask, 5, 20, 33, 8, 4.5)
    start, end = np.array([5.0, 20.0]), np.array([33.0, 8.0])
    for y in range(30):
        for x in range(40):
            at = np.clip(np.dot((x, y) - start, end - start) / np.dot(end - start, end - start), 0, 1)
            assert mask[y, x] == (np.linalg.norm((x, y) - start - at * (end - start)) <= 4.5)


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
@pytest.mark.parametrize("low", range(0, 60, 10))
def test_freeform_in_band_keeps_its_promise(size, low):
    for seed in range(20):
        fraction = generators.freeform_in_band(*size, max(low, 1) / 100, (low + 10) / 100, rng(seed)).mean()
        assert max(low, 1) / 100 <= fraction < (low + 10) / 100


def test_band_too_narrow_for_the_brush_is_repaired_not_searched_for_ever(monkeypatch):
    monkeypatch.setattr(generators, "BAND_TRIES", 1)
    fractions = [generators.freeform_in_band(40, 40, 0.5, 0.5 + 1 / 1600, rng(seed)).sum() for seed in range(5)]
    assert fractions == [800] * 5
    with pytest.raises(UserError, match="10 x 10"):
        generators.freeform_in_band(10, 10, 0.501, 0.502, rng())


@pytest.fixture
def drawn():
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:25] = True
    mask[30:, 50:] = True
    return mask


def as_saved(tmp_path, pixels, mode=None, name="hole.png", **options):
    path = tmp_path / name
    image = Image.fromarray(pixels)
    if mode:
        assert image.mode == mode
    image.save(path, **options)
    return path


def test_reads_white_on_black_and_black_on_white(tmp_path, drawn):
    white = as_saved(tmp_path, drawn.astype(np.uint8) * 255)
    assert (mask_reader.read_mask(white, 40, 60) == drawn).all()
    assert (mask_reader.read_mask(white, 40, 60, invert=True) == ~drawn).all()
    black = as_saved(tmp_path, (~drawn).astype(np.uint8) * 255)
    assert (mask_reader.read_mask(black, 40, 60, invert=True) == drawn).all()


def test_reads_one_bit_16_bit_and_floats(tmp_path, drawn):
    assert (mask_reader.read_mask(as_saved(tmp_path, drawn, "1")) == drawn).all()
    for top in (65535, 40000, 255, 1):
        assert (mask_reader.read_mask(as_saved(tmp_path, drawn.astype(np.uint16) * top, "I;16")) == drawn).all(), top
    assert (mask_reader.read_mask(as_saved(tmp_path, drawn.astype(np.float32), "F", "hole.tif")) == drawn).all()


def test_cuts_soft_edges_at_half_and_survives_jpeg(tmp_path, drawn):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    assert (mask_reader.read_mask(as_saved(tmp_path, ramp)) == (ramp >= 128)).all()
    deep = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (8, 1))
    assert (mask_reader.read_mask(as_saved(tmp_path, deep)) == (deep >= 32768)).all()
    noisy = as_saved(tmp_path, drawn.astype(np.uint8) * 255, name="hole.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(noisy)))) > 2
    assert (mask_reader.read_mask(noisy) == drawn).all()


def test_reads_coloured_paint(tmp_path, drawn):
    for paint in ((255, 0, 0), (0, 0, 255), (255, 255, 0)):
        on_black = np.where(drawn[:, :, None], np.uint8(paint), np.uint8(0))
        assert (mask_reader.read_mask(as_saved(tmp_path, on_black)) == drawn).all()
        on_white = np.where(drawn[:, :, None], np.uint8(paint), np.uint8(255))
        assert (mask_reader.read_mask(as_saved(tmp_path, on_white), invert=True) == drawn).all()


def palette_file(tmp_path, indices, colours):
    image = Image.fromarray(indices)
    image.putpalette([value for colour in colours for value in colour])
    image.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    return tmp_path / "palette.png"


def test_reads_palettes_by_colour_not_by_index(tmp_path, drawn):
    indices = (~drawn).astype(np.uint8)  # index 0 is the hole, and it is white
    assert (mask_reader.read_mask(palette_file(tmp_path, indices, [(255, 255, 255), (0, 0, 0)])) == drawn).all()


def test_reads_class_labels_as_anything_but_background(tmp_path, drawn):
    indices = drawn.astype(np.uint8) * np.arange(60, dtype=np.uint8)[None] % 3  # classes 0, 1, 2 inside the box
    indices[5:20, 10:25] = np.maximum(indices[5:20, 10:25], 1)
    indices[30:, 50:] = 255  # the border class
    colours = [(0, 0, 0), (128, 0, 0), (0, 64, 0)] + [(0, 0, 0)] * 252 + [(224, 224, 192)]
    assert (mask_reader.read_mask(palette_file(tmp_path, indices, colours)) == drawn).all()
    grey = [(i, i, i) for i in range(256)]
    assert (mask_reader.read_mask(palette_file(tmp_path, np.where(indices == 2, 1, indices), grey)) == drawn).all()


@pytest.mark.parametrize("paint", [0, 255, (200, 30, 30)])
def test_paint_on_a_transparent_layer_is_the_hole(tmp_path, drawn, paint):
    pixels = np.zeros((*drawn.shape, 4), np.uint8)
    pixels[:, :, :3] = paint
    pixels[:, :, 3] = drawn * 255
    path = as_saved(tmp_path, pixels, "RGBA")
    assert (mask_reader.read_mask(path) == drawn).all()
    assert (mask_reader.read_mask(path, invert=True) == ~drawn).all()


def test_transparent_part_of_a_photo_is_the_hole(tmp_path, drawn):
    photo = rng().integers(0, 256, (*drawn.shape, 3), dtype=np.uint8)
    for under in (photo, np.where(drawn[:, :, None], np.uint8(255), photo)):  # most editors also clear the colours
        path = as_saved(tmp_path, np.dstack([under, (~drawn).astype(np.uint8) * 255]), "RGBA")
        assert (mask_reader.read_mask(path) == drawn).all()


def test_black_and_white_keeps_its_meaning_beside_transparency(tmp_path, drawn):
    alpha = np.full(drawn.shape, 255, np.uint8)
    grey = drawn.astype(np.uint8) * 255
    assert (mask_reader.read_mask(as_saved(tmp_path, np.dstack([grey, grey, grey, alpha]), "RGBA")) == drawn).all()
    alpha[25:, :40] = 0  # where there is nothing to see there is no white
    assert (mask_reader.read_mask(as_saved(tmp_path, np.dstack([grey, grey, grey, alpha]), "RGBA")) == drawn).all()


def test_wrong_size_names_both_sizes(tmp_path):
    path = as_saved(tmp_path, np.zeros((40, 60), np.uint8))
    with pytest.raises(UserError, match=r"60 x 40.*80 x 50"):
        mask_reader.read_mask(path, 50, 80)


@pytest.mark.parametrize(("pixels", "fraction"), [(0, "0.00%"), (3990, "99.75%"), (4000, "100.00%")])
def test_check_hole_refuses_with_a_picture(tmp_path, pixels, fraction):
    mask = np.zeros((50, 80), bool)
    mask.ravel()[:pixels] = True
    image = np.full((50, 80, 3), 100, np.uint8)
    with pytest.raises(UserError, match=fraction) as error:
        mask_reader.check_mask(mask, image, tmp_path / "report.png")
    assert str(tmp_path / "report.png") in str(error.value) and "--invert-mask" in str(error.value)
    report = np.asarray(Image.open(tmp_path / "report.png"))
    assert (report == np.where(mask[:, :, None], np.uint8([177, 50, 50]), image)).all()
    assert (image == 100).all()


def test_check_hole_only_warns_of_a_scratch(tmp_path):
    mask = np.zeros((50, 80), bool)
    mask.ravel()[:3] = True
    warning = mask_reader.check_mask(mask, np.zeros((50, 80, 3), np.uint8), tmp_path / "report.png")
    assert "0.07%" in warning and "report.png" in warning and (tmp_path / "report.png").exists()


@pytest.mark.medium
def test_check_hole_accepts_the_ordinary_and_shrinks_large_reports(tmp_path):
    mask = np.zeros((50, 80), bool)
    for pixels in (4, 3800):
        mask.ravel()[:pixels] = True
        assert mask_reader.check_mask(mask, np.zeros((50, 80, 3), np.uint8), tmp_path / "no.png") is None
    assert not (tmp_path / "no.png").exists()
    with pytest.raises(UserError):
        mask_reader.check_mask(np.ones((3000, 2000), bool), np.zeros((3000, 2000, 3), np.uint8), tmp_path / "big.png")
    assert max(Image.open(tmp_path / "big.png").size) <= 1024


@pytest.mark.parametrize("kind", benchmark_sets.KINDS)
def test_a_longer_evaluation_set_begins_with_the_shorter(kind):
    short, digest = benchmark_sets.evaluation_masks(kind, 3, 33, 47, seed=5)
    long, _ = benchmark_sets.evaluation_masks(kind, 6, 33, 47, seed=5)
    assert (long[:3] == short).all() and short.dtype == bool and short.shape == (3, 33, 47)
    packed = b"".join(np.packbits(mask).tobytes() for mask in short)
    assert digest == hashlib.sha256(packed).hexdigest()
    if kind != "center":
        assert (benchmark_sets.evaluation_masks(kind, 3, 33, 47, seed=6)[0] != short).any()
        assert len({mask.tobytes() for mask in long}) == 6


def test_evaluation_holes_are_what_their_kind_says():
    masks, _ = benchmark_sets.evaluation_masks("random", 300, 256, 128)
    top, left, bottom, right = np.array([box_of(mask) for mask in masks]).T
    assert (bottom - top).min() >= 96 and (bottom - top).max() <= 128  # 3/8 and 1/2 of 256
    assert (right - left).min() >= 48 and (right - left).max() <= 64
    assert benchmark_sets.evaluation_masks("center", 2, 64, 64)[0].mean() == 0.25
    fractions = benchmark_sets.evaluation_masks("area-20-30", 40, 64, 64)[0].mean((1, 2))
    assert fractions.min() >= 0.2 and fractions.max() < 0.3 and fractions.max() - fractions.min() > 0.06


@pytest.mark.parametrize(("kind", "low", "high"), [("blocks", 0.2, 0.25), ("regions", 0.05, 0.25), ("noise", 0.2, 0.3)])
def test_irregular_holes_keep_their_shares(kind, low, high):
    fractions = benchmark_sets.evaluation_masks(kind, 150, 48, 64)[0].mean((1, 2))
    assert low <= fractions.min() and fractions.max() <= high and np.ptp(fractions) > (high - low) / 2


@pytest.mark.medium
def test_regions_take_the_shapes_they_are_given():
    def stripe(rng):
        return np.ones((1, 4), bool)

    drawn, stripes = (benchmark_sets.evaluation_masks("regions", 40, 64, 64, 0, shapes)[0] for shapes in (None, stripe))
    assert (drawn != stripes).any((1, 2)).all()
    # A bar's outline has no dents: on every line across the image it is one run.
    starts = np.diff(np.pad(stripes, ((0, 0), (0, 0), (1, 0))).astype(int), axis=2) == 1
    assert (starts.sum(2) <= 1).all()
    drawn_starts = np.diff(np.pad(drawn, ((0, 0), (0, 0), (1, 0))).astype(int), axis=2) == 1
    assert (drawn_starts.sum(2) > 1).any(1).mean() > 0.5


def test_unknown_kind_lists_the_kinds():
    with pytest.raises(UserError, match=r"'triangle'.*center.*area-50-60"):
        benchmark_sets.evaluation_masks("triangle", 1, 32, 32)


def test_evaluation_sets_never_change():
    # Frozen on purpose: published figures name these sums. If this fails, raise GENERATOR_VERSION and say so.
    digests = {
        kind: benchmark_sets.evaluation_masks(kind, 20, 128, 128)[1][:12]
        for kind in ("random", "freeform", "area-20-30", "blocks", "regions", "noise")
    }
    assert benchmark_sets.GENERATOR_VERSION == 1
    assert digests == {
        "random": "dee0b6e1e12f",
        "freeform": "c7fd042d80dd",
        "area-20-30": "d515f80264f2",
        "blocks": "dd05177aac88",
        "regions": "f1d11f76b5b0",
        "noise": "bd3e974af4bf",
    }


def test_bounding_boxes_join_diagonals_and_are_sorted():
    mask = np.zeros((10, 12), bool)
    mask[6:9, 1:3] = True
    mask[0, 0] = mask[1, 1] = True
    mask[9, 11] = True
    assert sorted(components.components(mask)[1].tolist()) == [[0, 0, 2, 2], [6, 1, 9, 3], [9, 11, 10, 12]]
    assert components.components(np.zeros((4, 4), bool))[1].tolist() == []
    labels, boxes = components.components(mask)
    for part, (top, left, bottom, right) in enumerate(boxes, 1):
        assert box_of(labels == part) == (top, left, bottom, right)


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real images")
def test_reads_the_masks_people_publish():
    data = Path(os.environ["SUITE_DATA"])
    irregular = sorted((data / "masks" / "nvidia_irregular").glob("*.png"))
    for first, low in ((0, 0.01), (2000, 0.1), (4000, 0.2), (6000, 0.3), (8000, 0.4), (10000, 0.5)):
        fractions = [mask_reader.read_mask(path).mean() for path in irregular if first <= int(path.stem) < first + 5]
        assert len(fractions) == 5 and all(
            low - 0.01 <= fraction <= np.ceil(low * 10 + 1e-6) / 10 + 0.011 for fraction in fractions
        )
    for path in sorted((data / "voc2012" / "SegmentationClass").glob("*.png"))[:5]:
        assert (mask_reader.read_mask(path) == (np.asarray(Image.open(path)) > 0)).all()
