"""Shares over a thousand draws, the shapes' origin, and the noise pattern against a computation of the whole of it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import regions
from common.errors import UserError

SIZES = [(32, 32), (64, 64), (128, 128), (200, 333), (90, 40)]


def class_map(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(ids, np.uint8), mode="P")
    picture.putpalette([n % 256 for n in range(768)])
    picture.save(path)


@pytest.fixture
def voc(tmp_path):
    """An L of class 5 with a border on its foot, a bar of class 20, and a map with border only."""
    ids = np.zeros((40, 60), int)
    ids[5:25, 10:14], ids[21:25, 10:30] = 5, 5
    ids[25, 10:30] = 255
    ids[30:36, 40:58] = 20
    class_map(tmp_path / "voc/SegmentationClass/a.png", ids)
    class_map(tmp_path / "voc/SegmentationClass/b.png", np.full((20, 20), 255))
    return tmp_path / "voc"


# ---- shares


@pytest.mark.parametrize("size", SIZES)
def test_blocks_cover_20_to_25_percent(size):
    shares = [regions.blocks(*size, np.random.default_rng(n)).mean() for n in range(1000)]
    assert min(shares) >= 0.2 and max(shares) <= 0.25


def test_blocks_are_several_squares_of_16_to_48_px():
    """Each pixel of a hole lies in a square of at least 16 px, and a hole is more than one square."""
    sides = []
    for seed in range(100):
        hole = regions.blocks(128, 128, np.random.default_rng(seed))
        covered = np.zeros_like(hole)
        windows = np.lib.stride_tricks.sliding_window_view(hole, (16, 16)).all((2, 3))
        for top, left in np.argwhere(windows):
            covered[top : top + 16, left : left + 16] = True
        assert (covered == hole).all()
        sides.append(np.lib.stride_tricks.sliding_window_view(hole, (49, 49)).all((2, 3)).any())
    assert sum(sides) < 20  # one square has at most 48 px; only overlaps are larger


def test_blocks_end_on_the_smallest_pictures():
    for size in [(1, 1), (2, 3), (11, 1), (7, 7)]:
        assert regions.blocks(*size, np.random.default_rng(0)).shape == size


@pytest.mark.parametrize("size", SIZES)
def test_drawn_regions_cover_5_to_25_percent(size):
    shapes = regions.open_shapes(None)
    count = 1000 if size == (128, 128) else 150
    shares = np.array([regions.region(*size, np.random.default_rng(n), shapes).mean() for n in range(count)])
    assert shares.min() >= 0.05 and shares.max() <= 0.25
    assert shares.std() > 0.03  # not all alike


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real pictures")
def test_regions_of_voc_cover_5_to_25_percent():
    shapes = regions.open_shapes(Path(os.environ["SUITE_DATA"], "voc2012"))
    shares = [regions.region(128, 128, np.random.default_rng(n), shapes).mean() for n in range(1000)]
    assert min(shares) >= 0.05 and max(shares) <= 0.25 and np.std(shares) > 0.03


@pytest.mark.parametrize("size", SIZES)
def test_noise_covers_20_to_30_percent(size):
    pattern = regions.noise_pattern(0)
    count = 1000 if size == (128, 128) else 100
    shares = [regions.noise(*size, np.random.default_rng(n), pattern).mean() for n in range(count)]
    assert min(shares) > 0.2 and max(shares) < 0.3
    if size == (128, 128):
        assert np.mean(shares) == pytest.approx(0.228, abs=0.004)  # of accepted windows, as emulated of the release


# ---- shapes


def test_an_object_is_a_connected_class_region_with_its_border(voc):
    found = regions._objects_of(voc / "SegmentationClass/a.png")
    assert [shape.shape for shape in found] == [(21, 20), (6, 18)]
    assert found[0].sum() == 16 * 4 + 4 * 20 + 20 and found[1].all()
    assert regions._objects_of(voc / "SegmentationClass/b.png") == []  # border alone is no object


@pytest.mark.parametrize("inside", [".", "SegmentationClass"])
def test_shapes_come_from_the_folder(voc, inside):
    shapes = regions.open_shapes(voc / inside)
    drawn = [shapes(np.random.default_rng(n)).shape for n in range(60)]
    assert set(drawn) == {(21, 20), (6, 18)} and 15 < drawn.count((6, 18)) < 45


def test_a_region_keeps_the_shapes_area_however_it_is_turned(voc):
    """A solid square of known area, wholly inside the picture, covers what was asked: 10 % here."""
    square = np.ones((30, 30), bool)
    shares = []
    for seed in range(300):
        hole = regions.region(200, 200, np.random.default_rng(seed), lambda rng: square, (0.1, 0.1001))
        edge = hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()
        if not edge:
            shares.append(hole.mean())
    assert len(shares) > 50 and np.mean(shares) == pytest.approx(0.1, rel=0.02)


def test_regions_are_turned_stretched_mirrored_and_laid_anywhere():
    corner = np.zeros((40, 40), bool)
    corner[:, :10] = corner[30:] = True  # an L, which a mirror turns into another letter
    centres, ratios = [], []
    for seed in range(400):
        hole = regions.region(100, 100, np.random.default_rng(seed), lambda rng: corner)
        rows, columns = np.nonzero(hole)
        centres.append((rows.mean(), columns.mean()))
        values = np.linalg.eigvalsh(np.cov(rows, columns))
        ratios.append(np.sqrt(values[1] / values[0]))
    centres = np.array(centres)
    for axis in (0, 1):
        assert (centres[:, axis] < 30).mean() > 0.15 and (centres[:, axis] > 70).mean() > 0.15
        assert np.median(centres[:, axis]) == pytest.approx(50, abs=6)
    assert np.std(ratios) > 0.1


def test_the_same_chance_gives_the_same_hole():
    for draw in (
        lambda rng: regions.blocks(64, 64, rng),
        lambda rng: regions.region(64, 64, rng, regions.open_shapes(None)),
        lambda rng: regions.noise(64, 64, rng, regions.noise_pattern(3)),
    ):
        first, again, other = (draw(np.random.default_rng(n)) for n in (1, 1, 2))
        assert (first == again).all() and (first != other).any()


# ---- the noise pattern


def whole_pattern(cells, side):
    """Cubic enlargement with corners aligned, value by value from Keys's kernel (1981) with a = -0.5."""

    def kernel(distance):
        d, a = abs(distance), -0.5
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    count = len(cells)
    matrix = np.zeros((side, count))
    for place in range(side):
        at = place * (count - 1) / (side - 1)
        for cell in range(int(at) - 1, int(at) + 3):
            matrix[place, min(max(cell, 0), count - 1)] += kernel(at - cell)
    return matrix @ cells @ matrix.T


def test_a_window_equals_its_part_of_the_whole_pattern(monkeypatch):
    monkeypatch.setattr(regions, "PATTERN_PX", 300)
    pattern = np.random.default_rng(5).uniform(0, 255, (18, 18))
    whole = whole_pattern(pattern, 300)
    for top, left in ((0, 0), (236, 236), (100, 17), (3, 200)):
        (first_row, rows), (first_column, columns) = (regions._cubic(n + np.arange(64), 18) for n in (top, left))
        part = pattern[first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
        np.testing.assert_allclose(rows @ part @ columns.T, whole[top : top + 64, left : left + 64], atol=1e-9)
    rng = np.random.default_rng(0)
    hole = regions.noise(64, 64, np.random.default_rng(0), pattern, (0.0, 1.0))
    top, left = (int(rng.uniform(0, 300 - 64)) for _ in range(2))
    np.testing.assert_array_equal(hole, whole[top : top + 64, left : left + 64] < 63.75)


def test_figures_of_the_releases_pattern():
    """Spec: of windows of 128 px, 16.9 +- 4.5 % on average, 23 % of them accepted."""
    pattern, rng, shares = regions.noise_pattern(0), np.random.default_rng(0), []
    for _ in range(2000):
        (a, rows), (b, columns) = (regions._cubic(int(rng.uniform(0, 9872)) + np.arange(128), 600) for _ in "yx")
        window = rows @ pattern[a : a + rows.shape[1], b : b + columns.shape[1]] @ columns.T
        shares.append((window < 63.75).mean())
    shares = np.array(shares)
    assert shares.mean() == pytest.approx(0.169, abs=0.005) and shares.std() == pytest.approx(0.045, abs=0.004)
    assert ((shares > 0.2) & (shares < 0.3)).mean() == pytest.approx(0.23, abs=0.03)


# ---- mistakes


def test_folders_and_files_that_are_no_class_maps(tmp_path, voc):
    with pytest.raises(UserError, match="is no folder"):
        regions.open_shapes(tmp_path / "nowhere")
    (tmp_path / "empty/SegmentationClass").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no SegmentationClass.*data.prepare voc"):
        regions.open_shapes(tmp_path / "empty")
    rng = np.random.default_rng(0)
    class_map(tmp_path / "background/a.png", np.zeros((20, 20)))
    with pytest.raises(UserError, match="hold no object"):
        regions.open_shapes(tmp_path / "background")(rng)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "photo.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photo.png").rename(tmp_path / "photos/photo.png")
    with pytest.raises(UserError, match="photo.png is no class map but a picture of mode RGB"):
        regions.open_shapes(tmp_path / "photos")(rng)
    class_map(tmp_path / "grey/a.png", np.arange(400).reshape(20, 20) % 200)
    with pytest.raises(UserError, match="values other than 0 to 20"):
        regions.open_shapes(tmp_path / "grey")(rng)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes((voc / "SegmentationClass/a.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot read the class map .*a\.png"):
        regions.open_shapes(tmp_path / "broken")(rng)
