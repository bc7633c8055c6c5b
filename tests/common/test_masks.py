"""Holes: what the samplers promise, every way a hole is drawn, and evaluation sets that never change."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import masks
from common.errors import UserError


def rng(seed=0):
    return np.random.default_rng(seed)


def box_of(hole):
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def test_rectangle_reaches_both_ends_of_its_range_and_every_edge():
    boxes = [box_of(masks.rectangle(20, 24, (3, 6), rng(seed))) for seed in range(2000)]
    top, left, bottom, right = np.array(boxes).T
    for sides in (bottom - top, right - left):
        # Uniform over 3, 4, 5, 6: 500 each, standard deviation 19.
        assert (np.abs(np.bincount(sides, minlength=8)[3:7] - 500) < 100).all()
        assert set(sides) == {3, 4, 5, 6}
    assert abs(np.corrcoef(bottom - top, right - left)[0, 1]) < 0.1
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 20, 24)


def test_rectangle_is_filled_and_may_fill_the_picture():
    hole = masks.rectangle(30, 40, (5, 9), rng())
    top, left, bottom, right = box_of(hole)
    assert hole.sum() == (bottom - top) * (right - left)
    assert masks.rectangle(8, 8, (8, 8), rng()).all()


@pytest.mark.parametrize("side_px", [(3, 21), (0, 5), (6, 5)])
def test_rectangle_that_does_not_fit_is_the_users_mistake(side_px):
    with pytest.raises(UserError, match=r"24 x 20"):
        masks.rectangle(20, 24, side_px, rng())


def test_center_is_half_of_each_side_in_the_middle():
    hole = masks.center(64, 128)
    assert box_of(hole) == (16, 32, 48, 96) and hole.sum() == 32 * 64
    assert masks.center(33, 47).sum() == 16 * 24  # Python rounds 16.5 to even
    assert masks.center(2, 2, 0.1).sum() == 1


def test_freeform_covers_as_much_as_the_published_brush():
    # 15.1 % of 256 x 256 on average, 0.5 to 47 %: measured on the published generator, 3,000 holes.
    shares = np.array([masks.freeform(256, 256, rng(seed)).mean() for seed in range(800)])
    assert abs(shares.mean() - 0.151) < 0.012  # standard error 0.003
    assert shares.min() > 0.002 and shares.max() < 0.5


def test_freeform_follows_the_size_of_the_picture():
    small = np.mean([masks.freeform(64, 64, rng(seed)).mean() for seed in range(400)])
    large = np.mean([masks.freeform(512, 512, rng(seed)).mean() for seed in range(400)])
    assert abs(small - large) < 0.03


def test_capsule_is_every_pixel_within_its_radius():
    hole = np.zeros((30, 40), bool)
    masks._capsule(hole, 5, 20, 33, 8, 4.5)
    start, end = np.array([5.0, 20.0]), np.array([33.0, 8.0])
    for y in range(30):
        for x in range(40):
            at = np.clip(np.dot((x, y) - start, end - start) / np.dot(end - start, end - start), 0, 1)
            assert hole[y, x] == (np.linalg.norm((x, y) - start - at * (end - start)) <= 4.5)


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
@pytest.mark.parametrize("low", range(0, 60, 10))
def test_freeform_in_band_keeps_its_promise(size, low):
    for seed in range(20):
        share = masks.freeform_in_band(*size, max(low, 1) / 100, (low + 10) / 100, rng(seed)).mean()
        assert max(low, 1) / 100 <= share < (low + 10) / 100


def test_band_too_narrow_for_the_brush_is_repaired_not_searched_for_ever(monkeypatch):
    monkeypatch.setattr(masks, "BAND_TRIES", 1)
    shares = [masks.freeform_in_band(40, 40, 0.5, 0.5 + 1 / 1600, rng(seed)).sum() for seed in range(5)]
    assert shares == [800] * 5
    with pytest.raises(UserError, match="10 x 10"):
        masks.freeform_in_band(10, 10, 0.501, 0.502, rng())


@pytest.fixture
def drawn():
    hole = np.zeros((40, 60), bool)
    hole[5:20, 10:25] = True
    hole[30:, 50:] = True
    return hole


def as_saved(tmp_path, pixels, mode=None, name="hole.png", **options):
    path = tmp_path / name
    image = Image.fromarray(pixels)
    if mode:
        assert image.mode == mode
    image.save(path, **options)
    return path


def test_reads_white_on_black_and_black_on_white(tmp_path, drawn):
    white = as_saved(tmp_path, drawn.astype(np.uint8) * 255)
    assert (masks.read_hole(white, 40, 60) == drawn).all()
    assert (masks.read_hole(white, 40, 60, invert=True) == ~drawn).all()
    black = as_saved(tmp_path, (~drawn).astype(np.uint8) * 255)
    assert (masks.read_hole(black, 40, 60, invert=True) == drawn).all()


@pytest.mark.parametrize("channels", [0, 3])
def test_reads_zero_and_one(tmp_path, drawn, channels):
    pixels = drawn.astype(np.uint8)
    pixels = np.repeat(pixels[:, :, None], 3, axis=2) if channels else pixels
    path = as_saved(tmp_path, pixels)
    assert (masks.read_hole(path) == drawn).all()
    assert (masks.read_hole(path, invert=True) == ~drawn).all()


def test_reads_one_bit_16_bit_and_floats(tmp_path, drawn):
    assert (masks.read_hole(as_saved(tmp_path, drawn, "1")) == drawn).all()
    for top in (65535, 40000, 255, 1):
        assert (masks.read_hole(as_saved(tmp_path, drawn.astype(np.uint16) * top, "I;16")) == drawn).all(), top
    assert (masks.read_hole(as_saved(tmp_path, drawn.astype(np.float32), "F", "hole.tif")) == drawn).all()


def test_cuts_soft_edges_at_half_and_survives_jpeg(tmp_path, drawn):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    assert (masks.read_hole(as_saved(tmp_path, ramp)) == (ramp >= 128)).all()
    deep = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (8, 1))
    assert (masks.read_hole(as_saved(tmp_path, deep)) == (deep >= 32768)).all()
    noisy = as_saved(tmp_path, drawn.astype(np.uint8) * 255, name="hole.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(noisy)))) > 2
    assert (masks.read_hole(noisy) == drawn).all()


def test_reads_coloured_paint(tmp_path, drawn):
    for paint in ((255, 0, 0), (0, 0, 255), (255, 255, 0)):
        on_black = np.where(drawn[:, :, None], np.uint8(paint), np.uint8(0))
        assert (masks.read_hole(as_saved(tmp_path, on_black)) == drawn).all()
        on_white = np.where(drawn[:, :, None], np.uint8(paint), np.uint8(255))
        assert (masks.read_hole(as_saved(tmp_path, on_white), invert=True) == drawn).all()


def palette_file(tmp_path, indices, colours):
    image = Image.fromarray(indices)
    image.putpalette([value for colour in colours for value in colour])
    image.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    return tmp_path / "palette.png"


def test_reads_palettes_by_colour_not_by_index(tmp_path, drawn):
    indices = (~drawn).astype(np.uint8)  # index 0 is the hole, and it is white
    assert (masks.read_hole(palette_file(tmp_path, indices, [(255, 255, 255), (0, 0, 0)])) == drawn).all()


def test_reads_class_labels_as_anything_but_background(tmp_path, drawn):
    indices = drawn.astype(np.uint8) * np.arange(60, dtype=np.uint8)[None] % 3  # classes 0, 1, 2 inside the box
    indices[5:20, 10:25] = np.maximum(indices[5:20, 10:25], 1)
    indices[30:, 50:] = 255  # the border class
    colours = [(0, 0, 0), (128, 0, 0), (0, 64, 0)] + [(0, 0, 0)] * 252 + [(224, 224, 192)]
    assert (masks.read_hole(palette_file(tmp_path, indices, colours)) == drawn).all()
    grey = [(i, i, i) for i in range(256)]
    assert (masks.read_hole(palette_file(tmp_path, np.where(indices == 2, 1, indices), grey)) == drawn).all()


@pytest.mark.parametrize("paint", [0, 255, (200, 30, 30)])
def test_paint_on_a_transparent_layer_is_the_hole(tmp_path, drawn, paint):
    pixels = np.zeros((*drawn.shape, 4), np.uint8)
    pixels[:, :, :3] = paint
    pixels[:, :, 3] = drawn * 255
    path = as_saved(tmp_path, pixels, "RGBA")
    assert (masks.read_hole(path) == drawn).all()
    assert (masks.read_hole(path, invert=True) == ~drawn).all()


def test_transparent_part_of_a_photo_is_the_hole(tmp_path, drawn):
    photo = rng().integers(0, 256, (*drawn.shape, 3), dtype=np.uint8)
    for under in (photo, np.where(drawn[:, :, None], np.uint8(255), photo)):  # most editors also clear the colours
        path = as_saved(tmp_path, np.dstack([under, (~drawn).astype(np.uint8) * 255]), "RGBA")
        assert (masks.read_hole(path) == drawn).all()


def test_black_and_white_keeps_its_meaning_beside_transparency(tmp_path, drawn):
    alpha = np.full(drawn.shape, 255, np.uint8)
    grey = drawn.astype(np.uint8) * 255
    assert (masks.read_hole(as_saved(tmp_path, np.dstack([grey, grey, grey, alpha]), "RGBA")) == drawn).all()
    alpha[25:, :40] = 0  # where there is nothing to see there is no white
    assert (masks.read_hole(as_saved(tmp_path, np.dstack([grey, grey, grey, alpha]), "RGBA")) == drawn).all()


def test_empty_and_full_are_read_as_they_are(tmp_path):
    for value in (0, 255):
        hole = masks.read_hole(as_saved(tmp_path, np.full((9, 7), value, np.uint8)), 9, 7)
        assert hole.shape == (9, 7) and hole.dtype == bool and (hole == (value > 0)).all()


def test_wrong_size_names_both_sizes(tmp_path):
    path = as_saved(tmp_path, np.zeros((40, 60), np.uint8))
    with pytest.raises(UserError, match=r"60 x 40.*80 x 50"):
        masks.read_hole(path, 50, 80)


def test_unreadable_holes_are_named(tmp_path, drawn):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = as_saved(tmp_path, rng().integers(0, 256, (200, 200), dtype=np.uint8), name="cut.jpg")
    cut.write_bytes(cut.read_bytes()[:3000])
    for path in (tmp_path / "missing.png", text, cut, tmp_path):
        with pytest.raises(UserError, match=path.name) as error:
            masks.read_hole(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("pixels", "share"), [(0, "0.00%"), (3990, "99.75%"), (4000, "100.00%")])
def test_check_hole_refuses_with_a_picture(tmp_path, pixels, share):
    hole = np.zeros((50, 80), bool)
    hole.ravel()[:pixels] = True
    image = np.full((50, 80, 3), 100, np.uint8)
    with pytest.raises(UserError, match=share) as error:
        masks.check_hole(hole, image, tmp_path / "report.png")
    assert str(tmp_path / "report.png") in str(error.value) and "--invert-mask" in str(error.value)
    report = np.asarray(Image.open(tmp_path / "report.png"))
    assert (report == np.where(hole[:, :, None], np.uint8([177, 50, 50]), image)).all()
    assert (image == 100).all()


def test_check_hole_only_warns_of_a_scratch(tmp_path):
    hole = np.zeros((50, 80), bool)
    hole.ravel()[:3] = True
    warning = masks.check_hole(hole, np.zeros((50, 80, 3), np.uint8), tmp_path / "report.png")
    assert "0.07%" in warning and "report.png" in warning and (tmp_path / "report.png").exists()


def test_check_hole_accepts_the_ordinary_and_shrinks_large_reports(tmp_path):
    hole = np.zeros((50, 80), bool)
    for pixels in (4, 3800):
        hole.ravel()[:pixels] = True
        assert masks.check_hole(hole, np.zeros((50, 80, 3), np.uint8), tmp_path / "no.png") is None
    assert not (tmp_path / "no.png").exists()
    with pytest.raises(UserError):
        masks.check_hole(np.ones((3000, 2000), bool), np.zeros((3000, 2000, 3), np.uint8), tmp_path / "big.png")
    assert max(Image.open(tmp_path / "big.png").size) <= 1024


@pytest.mark.parametrize("kind", masks.KINDS)
def test_a_longer_evaluation_set_begins_with_the_shorter(kind):
    short, digest = masks.evaluation_holes(kind, 3, 33, 47, seed=5)
    long, _ = masks.evaluation_holes(kind, 6, 33, 47, seed=5)
    assert (long[:3] == short).all() and short.dtype == bool and short.shape == (3, 33, 47)
    packed = b"".join(np.packbits(hole).tobytes() for hole in short)
    assert digest == hashlib.sha256(packed).hexdigest()
    if kind != "center":
        assert (masks.evaluation_holes(kind, 3, 33, 47, seed=6)[0] != short).any()
        assert len({hole.tobytes() for hole in long}) == 6


def test_evaluation_holes_are_what_their_kind_says():
    holes, _ = masks.evaluation_holes("random", 300, 256, 128)
    top, left, bottom, right = np.array([box_of(hole) for hole in holes]).T
    assert (bottom - top).min() >= 96 and (bottom - top).max() <= 128  # 3/8 and 1/2 of 256
    assert (right - left).min() >= 48 and (right - left).max() <= 64
    assert masks.evaluation_holes("center", 2, 64, 64)[0].mean() == 0.25
    shares = masks.evaluation_holes("area-20-30", 40, 64, 64)[0].mean((1, 2))
    assert shares.min() >= 0.2 and shares.max() < 0.3 and shares.max() - shares.min() > 0.06


@pytest.mark.parametrize(("kind", "low", "high"), [("blocks", 0.2, 0.25), ("regions", 0.05, 0.25), ("noise", 0.2, 0.3)])
def test_irregular_holes_keep_their_shares(kind, low, high):
    shares = masks.evaluation_holes(kind, 150, 48, 64)[0].mean((1, 2))
    assert low <= shares.min() and shares.max() <= high and np.ptp(shares) > (high - low) / 2


def test_regions_take_the_shapes_they_are_given():
    def stripe(rng):
        return np.ones((1, 4), bool)

    drawn, stripes = (masks.evaluation_holes("regions", 40, 64, 64, 0, shapes)[0] for shapes in (None, stripe))
    assert (drawn != stripes).any((1, 2)).all()
    # A bar's outline has no dents: on every line across the picture it is one run.
    starts = np.diff(np.pad(stripes, ((0, 0), (0, 0), (1, 0))).astype(int), axis=2) == 1
    assert (starts.sum(2) <= 1).all()
    drawn_starts = np.diff(np.pad(drawn, ((0, 0), (0, 0), (1, 0))).astype(int), axis=2) == 1
    assert (drawn_starts.sum(2) > 1).any(1).mean() > 0.5


def test_unknown_kind_lists_the_kinds():
    with pytest.raises(UserError, match=r"'triangle'.*center.*area-50-60"):
        masks.evaluation_holes("triangle", 1, 32, 32)


def test_evaluation_sets_never_change():
    # Frozen on purpose: published figures name these sums. If this fails, raise GENERATOR_VERSION and say so.
    digests = {
        kind: masks.evaluation_holes(kind, 20, 128, 128)[1][:12]
        for kind in ("random", "freeform", "area-20-30", "blocks", "regions", "noise")
    }
    assert masks.GENERATOR_VERSION == 1
    assert digests == {
        "random": "dee0b6e1e12f",
        "freeform": "c7fd042d80dd",
        "area-20-30": "d515f80264f2",
        "blocks": "dd05177aac88",
        "regions": "f1d11f76b5b0",
        "noise": "bd3e974af4bf",
    }


def test_bounding_boxes_join_diagonals_and_are_sorted():
    hole = np.zeros((10, 12), bool)
    hole[6:9, 1:3] = True
    hole[0, 0] = hole[1, 1] = True
    hole[9, 11] = True
    assert masks.bounding_boxes(hole) == [(0, 0, 2, 2), (6, 1, 9, 3), (9, 11, 10, 12)]
    assert masks.bounding_boxes(np.zeros((4, 4), bool)) == []
    labels, boxes = masks.components(hole)
    for part, (top, left, bottom, right) in enumerate(boxes, 1):
        assert box_of(labels == part) == (top, left, bottom, right)


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real pictures")
def test_reads_the_masks_people_publish():
    data = Path(os.environ["SUITE_DATA"])
    irregular = sorted((data / "masks" / "nvidia_irregular").glob("*.png"))
    for first, low in ((0, 0.01), (2000, 0.1), (4000, 0.2), (6000, 0.3), (8000, 0.4), (10000, 0.5)):
        shares = [masks.read_hole(path).mean() for path in irregular if first <= int(path.stem) < first + 5]
        assert len(shares) == 5 and all(
            low - 0.01 <= share <= np.ceil(low * 10 + 1e-6) / 10 + 0.011 for share in shares
        )
    for path in sorted((data / "voc2012" / "SegmentationClass").glob("*.png"))[:5]:
        assert (masks.read_hole(path) == (np.asarray(Image.open(path)) > 0)).all()
