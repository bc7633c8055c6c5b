"""Strips, animations and curves, read back pixel by pixel."""

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from dcgan_completion import evolution

GAP, HEAD = 4, 20  # of a sheet, in pixels


def searched(images=2, frames=11, side=16, seed=0):
    """Images, masks, frames and steps, all of chance."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    mask = rng.random((images, side, side)) < 0.4
    return image, mask, rng.integers(0, 256, (frames, *image.shape), dtype=np.uint8), [50 * k for k in range(frames)]


def cell(sheet, row, column, side=16, times=6):
    """An image of a sheet at its own size; every pixel must be a square of `times` x `times`."""
    top, left = HEAD + GAP + row * (side * times + GAP), GAP + column * (side * times + GAP)
    large = sheet[top : top + side * times, left : left + side * times]
    small = large[::times, ::times]
    assert (large == np.kron(small, np.ones((times, times, 1), np.uint8))).all()
    return small


def laid_into(image, mask, generated):
    """The completed image, pixel by pixel."""
    completed = image.copy()
    for row, column in zip(*np.nonzero(mask), strict=True):
        completed[row, column] = generated[row, column]
    return completed


@pytest.fixture
def titles(monkeypatch):
    """The titles given to every sheet."""
    seen, real = [], evolution.grid
    monkeypatch.setattr(
        evolution, "grid", lambda rows, titles, **more: seen.append(titles) or real(rows, titles, **more)
    )
    return seen


# ---- strip


def test_strip_spreads_eight_frames_evenly(titles):
    """Of frames 0 to 10, eight 10/7 apart: 0, 1.43, 2.86, 4.29, 5.71, 7.14, 8.57, 10, rounded."""
    image, mask, frames, steps = searched()
    sheet = evolution.strip(image, mask, frames, steps)
    shown = [0, 1, 3, 4, 6, 7, 9, 10]
    assert titles == [["input", *(f"step {50 * k}" for k in shown)]]
    assert sheet.shape == (HEAD + GAP + 4 * (96 + GAP), GAP + 9 * (96 + GAP), 3) and sheet.dtype == np.uint8
    for n in range(2):
        known = cell(sheet, 2 * n, 0)
        assert (known[mask[n]] == 255).all() and (known[~mask[n]] == image[n][~mask[n]]).all()
        assert (cell(sheet, 2 * n + 1, 0) == 255).all()
        for column, k in enumerate(shown, 1):
            assert (cell(sheet, 2 * n, column) == frames[k, n]).all()
            assert (cell(sheet, 2 * n + 1, column) == laid_into(image[n], mask[n], frames[k, n])).all()


@pytest.mark.parametrize("count", [2, 8, 9, 41])
def test_strip_has_the_first_and_the_last_frame_and_at_most_eight(count, titles):
    image, mask, frames, steps = searched(1, count)
    steps[-1] += 7  # the last comes after fewer or more steps than the others
    sheet = evolution.strip(image, mask, frames, steps)
    assert titles[0][1] == "step 0" and titles[0][-1] == f"step {50 * (count - 1) + 7}"
    assert len(titles[0]) == 1 + min(count, 8) and len(set(titles[0])) == len(titles[0])
    assert (cell(sheet, 0, 1) == frames[0, 0]).all() and (cell(sheet, 0, min(count, 8)) == frames[-1, 0]).all()


def test_strip_ends_with_what_is_blended_and_the_truth(titles):
    image, mask, frames, steps = searched(2, 3)
    blended, truth = searched(2, 3, seed=1)[0], searched(2, 3, seed=2)[0]
    sheet = evolution.strip(image, mask, frames, steps, blended, truth)
    assert titles == [["input", "step 0", "step 50", "step 100", "blended", "truth"]]
    for n in range(2):
        assert (cell(sheet, 2 * n, 4) == 255).all() and (cell(sheet, 2 * n, 5) == 255).all()
        assert (cell(sheet, 2 * n + 1, 4) == blended[n]).all() and (cell(sheet, 2 * n + 1, 5) == truth[n]).all()
    sheet = evolution.strip(image, mask, frames, steps, truth=truth)
    assert titles[1] == ["input", "step 0", "step 50", "step 100", "truth"]
    assert (cell(sheet, 1, 4) == truth[0]).all()


def test_strip_leaves_its_arguments_alone():
    given = searched()
    before = [np.copy(value) for value in given]
    evolution.strip(*given)
    assert all((value == old).all() for value, old in zip(given, before, strict=True))


# ---- animation


def read(path):
    """Frames as uint8 RGB, their milliseconds, and the file's loop count (0 is for ever)."""
    with Image.open(path) as opened:
        assert opened.format == "GIF"
        frames, milliseconds = [], []
        for number in range(opened.n_frames):
            opened.seek(number)
            frames.append(np.array(opened.convert("RGB")))
            milliseconds.append(opened.info["duration"])
        return frames, milliseconds, opened.info["loop"]


def flat(images=2, frames=5, side=64):
    """One colour for each image and frame, and a hole; G(z) does not change from frame 2 to 3."""
    image = np.zeros((images, side, side, 3), np.uint8)
    image[:] = np.uint8([[200, 40, 90], [10, 120, 60]])[:images, None, None]
    mask = np.zeros((images, side, side), bool)
    mask[:, side // 4 : side // 2, side // 8 :] = True
    made = np.zeros((frames, *image.shape), np.uint8)
    made[:] = (np.arange(frames)[:, None] * [37, 11, 50] + [20, 180, 15]).astype(np.uint8)[:, None, None, None]
    made[3] = made[2]
    return image, mask, made, [30 * k for k in range(frames)]


def test_animation_shows_g_beside_the_completed_picture(tmp_path, titles):
    image, mask, made, steps = flat()
    evolution.animation(tmp_path / "new" / "a.gif", image, mask, made, steps)
    frames, _, _ = read(tmp_path / "new" / "a.gif")
    assert titles == [[f"G(z), step {step}", "completed"] for step in (0, 30, 60, 90, 120)]
    assert len(frames) == 5
    for k, sheet in enumerate(frames):
        assert sheet.shape == (HEAD + GAP + 2 * (192 + GAP), GAP + 2 * (192 + GAP), 3)
        for n in range(2):
            assert np.abs(cell(sheet, n, 0, 64, 3).astype(int) - made[k, n]).max() <= 1
            completed = laid_into(image[n], mask[n], made[k, n]).astype(int)
            assert np.abs(cell(sheet, n, 1, 64, 3) - completed).max() <= 1


def test_animation_loops_and_holds_the_result(tmp_path):
    """Frames 2 and 3 are alike, but not their titles: none is merged away."""
    evolution.animation(tmp_path / "a.gif", *flat())
    assert read(tmp_path / "a.gif")[1:] == ([120] * 4 + [2000], 0)
    evolution.animation(tmp_path / "a.gif", *flat(1), milliseconds=50)
    assert read(tmp_path / "a.gif")[1:] == ([50] * 4 + [2000], 0)
    evolution.animation(tmp_path / "a.gif", *flat(1), milliseconds=3000)
    assert read(tmp_path / "a.gif")[1] == [3000] * 5


def test_animation_does_not_band_and_every_frame_has_its_own_colours(tmp_path):
    """Ramps of 256 x 64 colours, another in each frame: seen from afar (means of 4 x 4 pixels) colours are right.

    256 colours leave steps of about 12 levels in them; dithered, means stay right.
    """
    y, x = np.mgrid[:64, :64]
    ramps = np.stack([np.dstack([4 * x, 2 * y + 60, 255 - 4 * x]), np.dstack([x + 120, 4 * y, 4 * y])])[:, None]
    image, mask = np.full((1, 64, 64, 3), 128, np.uint8), np.zeros((1, 64, 64), bool)
    evolution.animation(tmp_path / "a.gif", image, mask, ramps.astype(np.uint8), [0, 10])
    for sheet, ramp in zip(read(tmp_path / "a.gif")[0], ramps[:, 0], strict=True):
        seen = sheet[HEAD + GAP : HEAD + GAP + 192, GAP : GAP + 192].astype(float)
        far = seen.reshape(16, 12, 16, 12, 3).mean((1, 3)) - ramp.reshape(16, 4, 16, 4, 3).mean((1, 3))
        assert np.sqrt(np.square(far).mean()) < 1.5


# ---- curves


def test_curves_show_each_picture_and_the_mean(tmp_path, monkeypatch):
    figures, real = [], matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: figures.append(self) or real(self, *a, **k)
    )
    contextual = np.array([[900.0, 500.0], [600.0, 300.0], [400.0, 200.0]])
    perceptual = np.array([[1.0, 5.0], [2.0, 7.0], [3.0, 9.0]])
    evolution.curves(tmp_path / "new" / "curves.png", contextual, perceptual, 0.1)
    expected = {
        "contextual loss": [[900, 600, 400], [500, 300, 200], [700, 450, 300]],
        "perceptual loss": [[1, 2, 3], [5, 7, 9], [3, 4.5, 6]],
        "contextual + 0.1 x perceptual": [[900.1, 600.2, 400.3], [500.5, 300.7, 200.9], [700.3, 450.45, 300.6]],
    }
    assert [axes.get_title() for axes in figures[0].axes] == list(expected)
    for axes, lines in zip(figures[0].axes, expected.values(), strict=True):
        assert [line.get_ydata() for line in axes.lines] == [pytest.approx(line) for line in lines]
        assert all(list(line.get_xdata()) == [0, 1, 2] for line in axes.lines)
        assert axes.lines[2].get_linewidth() > 2 * max(line.get_linewidth() for line in axes.lines[:2])
    with Image.open(tmp_path / "new" / "curves.png") as opened:
        assert opened.format == "PNG" and opened.size == (960, 288)
        assert len(np.unique(np.asarray(opened.convert("RGB")).reshape(-1, 3), axis=0)) > 3


# ---- mistakes


def write_animation(path):
    evolution.animation(path, *flat(1))


def write_curves(path):
    evolution.curves(path, np.ones((3, 1)), np.ones((3, 1)), 0.1)


@pytest.mark.parametrize(("write", "suffix"), [(write_animation, ".gif"), (write_curves, ".png")])
def test_what_cannot_be_written_is_told(write, suffix, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / f"folder{suffix}").mkdir()
    for path in (tmp_path / "file" / f"a{suffix}", tmp_path / f"folder{suffix}"):
        with pytest.raises(UserError, match=f"cannot write {path}: "):
            write(path)
    with pytest.raises(UserError, match=f"a.jpg: the name must end in {suffix}"):
        write(tmp_path / "a.jpg")
    write(str(tmp_path / f"A{suffix.upper()}"))
    assert (tmp_path / f"A{suffix.upper()}").stat().st_size > 500


def test_what_does_not_fit_is_refused(tmp_path):
    image, mask, frames, steps = searched()
    wrong = [
        (image, mask, frames, steps[1:]), (image[:1], mask, frames, steps), (image, mask[:1], frames, steps),
        (image, mask, frames[:, 0], steps), (image, mask, frames[:0], []), (image[0], mask[0], frames, steps),
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises(ValueError, match="do not fit"):
            evolution.strip(*arguments)
        with pytest.raises(ValueError, match="do not fit"):
            evolution.animation(tmp_path / "a.gif", *arguments)
    assert not (tmp_path / "a.gif").exists()
