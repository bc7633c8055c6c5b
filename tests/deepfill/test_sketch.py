"""Sketches: Canny on drawn steps, every way lines are drawn, edge folders, and sketches left out in training."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.imaging import limits
from common.imaging.io import read_image
from common.imaging.transforms import resize
from deepfill import sketch


def step(height, width, level, axis=1, base=60):
    """One half of the image is brighter than the other by `level`."""
    image = np.full((height, width, 3), base, np.uint8)
    bright = image[:, width // 2 :] if axis == 1 else image[height // 2 :]
    bright += np.uint8(level)
    return image


# ---- Canny


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (256, 256), (500, 700)])
def test_a_step_is_one_line_from_end_to_end(size, axis):
    found = sketch.edges(step(*size, 120, axis))
    assert found.dtype == bool and found.shape == size
    at = np.flatnonzero(found.any(axis=1 - axis))
    assert len(at) == 1 and at[0] in (size[axis] // 2 - 1, size[axis] // 2)
    assert found.sum() == size[1 - axis]


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512, 1024])
def test_what_counts_as_a_step_does_not_depend_on_the_size(side):
    assert sketch.edges(step(side, side, sketch.CLEAR_LEVELS + 4)).sum() == side
    assert not sketch.edges(step(side, side, sketch.CLEAR_LEVELS - 4)).any()


def test_a_clear_line_is_followed_until_it_is_faint():
    levels = np.linspace(90, 10, 256)  # of the step, from the top down: 19 in row 226
    image = np.full((256, 256, 3), 60, np.float64)
    image[:, 128:] += levels[:, None, None]
    found = sketch.edges(image.round().astype(np.uint8))
    rows = found[:, 127:129].any(axis=1)
    assert rows[:220].all() and not rows[232:].any() and found.sum() == rows.sum()
    image[:, 128:] -= 90 - sketch.CLEAR_LEVELS + 4  # nowhere clear
    assert not sketch.edges(image.round().clip(60).astype(np.uint8)).any()


def test_a_change_of_colour_alone_is_a_line():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (200, 0, 0), (0, 102, 0)  # both of luma 59.8
    assert np.ptp(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) <= 1
    assert (sketch.edges(image)[:, 31:33].sum(axis=1) == 1).all()


def test_flat_and_noisy_pictures_have_no_lines():
    assert not sketch.edges(np.full((40, 60, 3), 128, np.uint8)).any()
    noise = 128 + np.random.default_rng(0).normal(0, 8, (256, 256, 3))
    assert sketch.edges(noise.astype(np.uint8)).mean() < 0.001


@pytest.mark.realdata
def test_a_face_has_the_same_lines_at_any_size():
    if "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA does not name the folder of real images")
    faces = sorted((Path(os.environ["SUITE_DATA"]) / "celeba/img_align_celeba").glob("*.jpg"))[:400:20]
    again, fractions = [], []
    for face in faces:
        image = read_image(face)[20:198]
        small, large = (sketch.edges(resize(image, side, side)) for side in (128, 512))
        near = cv2.dilate(small.repeat(4, 0).repeat(4, 1).astype(np.uint8), np.ones((9, 9)))
        again.append(near[large].mean())
        fractions.append(sketch.edges(resize(image, 256, 256)).mean())
    assert np.mean(again) > 0.9
    assert 0.02 < np.mean(fractions) < 0.10  # a drawing, not a texture


# ---- reading


@pytest.fixture
def drawn():
    """A frame and a diagonal stroke, 20 % of the image."""
    lines = np.zeros((40, 60), np.uint8)
    cv2.rectangle(lines, (5, 5), (50, 30), 1, 1)
    cv2.line(lines, (10, 35), (55, 2), 1, 3)
    return lines.astype(bool)


def saved(tmp_path, pixels, name="sketch.png", **options):
    path = tmp_path / name
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def painted(drawn, line, paper):
    line, paper = np.uint8(line), np.uint8(paper)
    return np.where(drawn[:, :, None] if line.ndim else drawn, line, paper)


def check(path, drawn):
    found = sketch.read_sketch(path, 40, 60)
    assert found.dtype == bool and (found == drawn).all()


@pytest.mark.parametrize(
    ("line", "paper"),
    [
        (255, 0),
        (0, 255),
        (1, 0),
        (0, 1),
        (50, 240),
        ((255, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (255, 255, 255)),
        ((0, 0, 200), (250, 250, 240)),
        ((255, 255, 0), (20, 20, 20)),
    ],
)
def test_reads_light_on_dark_and_dark_on_light_in_any_colour(tmp_path, drawn, line, paper):
    check(saved(tmp_path, painted(drawn, line, paper)), drawn)


def test_reads_one_bit_16_bit_floats_palettes_and_jpeg(tmp_path, drawn):
    check(saved(tmp_path, drawn), drawn)
    check(saved(tmp_path, ~drawn), drawn)
    check(saved(tmp_path, drawn.astype(np.uint16) * 65535), drawn)
    check(saved(tmp_path, np.where(drawn, 0.7, 0.5).astype(np.float32) * 0.9, "map.tif"), drawn)  # 0.63 and 0.45
    palette = Image.fromarray(drawn.astype(np.uint8), "L").convert("P")
    palette.putpalette([250, 250, 250, 180, 0, 0])
    check(saved(tmp_path, palette), drawn)
    check(saved(tmp_path, painted(drawn, 255, 0), "sketch.jpg", quality=90), drawn)


def test_a_line_is_stronger_than_six_tenths(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    ramp[:3] = 0  # mostly dark: an edge map
    found = sketch.read_sketch(saved(tmp_path, ramp), 4, 256)
    assert not found[:3].any() and (found[3] == (np.arange(256) > 153)).all()  # 153 is 0.6 of 255
    found = sketch.read_sketch(saved(tmp_path, 255 - ramp), 4, 256)
    assert not found[:3].any() and (found[3] == (np.arange(256) > 153)).all()
    assert sketch.read_sketch(saved(tmp_path, ramp), 4, 256, threshold=0.2)[3].sum() == 204  # 52..255
    assert sketch.read_sketch(saved(tmp_path, ramp.astype(np.uint16) * 257), 4, 256)[3].sum() == 102


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (30, 120, 220)])
def test_paint_on_a_transparent_layer_is_line_whatever_its_colour(tmp_path, drawn, colour):
    layer = np.zeros((40, 60, 4), np.uint8)
    layer[:, :, :3] = 255  # as programs leave it where nothing is painted
    layer[drawn] = (*colour, 255)
    check(saved(tmp_path, layer), drawn)
    layer[:20][drawn[:20]] = (200, 0, 0, 255)  # a second pen
    check(saved(tmp_path, layer), drawn)
    soft = layer.copy()
    soft[:, :, 3] = np.where(drawn, 160, 140)  # 0.63 and 0.55: the whole layer is veiled, so it is paper
    soft[:, :, :3] = painted(drawn, (0, 0, 0), (255, 255, 255))
    check(saved(tmp_path, soft), drawn)
    check(saved(tmp_path, Image.fromarray(layer).convert("LA")), drawn)


def test_transparent_colour_of_a_palette_is_bare(tmp_path, drawn):
    palette = Image.fromarray(drawn.astype(np.uint8), "L").convert("P")
    palette.putpalette([255, 255, 255, 250, 250, 250])
    check(saved(tmp_path, palette, transparency=0), drawn)


@pytest.mark.parametrize(("line", "paper"), [(255, 0), (0, 255)])
def test_rubbed_out_paper_has_no_lines(tmp_path, drawn, line, paper):
    pixels = np.full((40, 60, 4), 255, np.uint8)
    pixels[:, :, :3] = painted(drawn, line, paper)[:, :, None]
    pixels[:, 34:] = (255 - paper, 255 - paper, 255 - paper, 0)
    expected = drawn.copy()
    expected[:, 34:] = False
    check(saved(tmp_path, pixels), expected)


@pytest.mark.parametrize("pixels", [(0, 0, 0, 255), (255, 255, 255, 255), (0, 0, 0, 0), (255, 255, 255, 0)])
def test_a_sketch_with_nothing_on_it_is_empty(tmp_path, pixels):
    path = saved(tmp_path, np.tile(np.uint8(pixels), (40, 60, 1)))
    check(path, np.zeros((40, 60), bool))


def test_a_turned_sketch_is_upright(tmp_path, drawn):
    exif = Image.Exif()
    exif[274] = 6  # saved lying; to be turned clockwise when shown
    check(saved(tmp_path, np.rot90(painted(drawn, 255, 0)).copy(), exif=exif), drawn)


def test_another_size_is_the_users_mistake(tmp_path, drawn):
    path = saved(tmp_path, drawn)
    with pytest.raises(UserError, match=r"sketch.png is 60 x 40 px, but its image is 61 x 40 px"):
        sketch.read_sketch(path, 40, 61)
    with pytest.raises(UserError, match=r"60 x 40 px, but its image is 40 x 60 px; draw the sketch"):
        sketch.read_sketch(path, 60, 40)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none.png: No such file"):
        sketch.read_sketch(tmp_path / "none.png", 4, 4)
    (tmp_path / "text.png").write_text("lines")
    with pytest.raises(UserError, match=r"cannot read the sketch .*text.png: not an image"):
        sketch.read_sketch(tmp_path / "text.png", 4, 4)
    monkeypatch.setattr(limits, "MAX_PIXELS", 8)
    with pytest.raises(UserError, match=r"3 x 3 px; the limit is 8 pixels"):
        sketch.read_sketch(saved(tmp_path, np.zeros((3, 3), np.uint8)), 3, 3)


# ---- folders of edges


def test_no_sketch_is_run(tmp_path, monkeypatch):
    """EPS is a program, which Pillow gives to Ghostscript. Here another program stands under its name."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(UserError, match="cannot read the sketch .*x.png: not an image"):
        sketch.read_sketch(tmp_path / "x.png", 9, 9)
    assert not (tmp_path / "ran").exists()


def test_finds_the_edge_picture_of_a_photo(tmp_path):
    photos, folder = tmp_path / "photos", tmp_path / "edges"
    folder.mkdir()
    for name in ("a.png", "b_edge.jpg", "c.png", "c_edge.png", "d.PNG", "e.txt", "ff.png", "x.y.png"):
        (folder / name).touch()
    expected = {"a.jpg": "a.png", "b.jpg": "b_edge.jpg", "c.png": "c_edge.png", "d.jpg": "d.PNG", "x.y.jpg": "x.y.png"}
    for photo, name in expected.items():
        assert sketch.edge_file(photos / photo, folder) == folder / name
    for photo in ("e.jpg", "f.jpg"):
        with pytest.raises(UserError, match=rf"{folder} has no edge image of {photo}; call it {photo[0]}_edge.png or"):
            sketch.edge_file(photos / photo, folder)
    with pytest.raises(UserError, match="there is no folder of edges"):
        sketch.edge_file(photos / "a.jpg", tmp_path / "elsewhere")


def test_a_photo_is_not_its_own_edge_picture(tmp_path):
    for name in ("a.jpg", "a_edge.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert sketch.edge_file(tmp_path / "a.jpg", tmp_path) == tmp_path / "a_edge.jpg"
    with pytest.raises(UserError, match=r"call it b_edge.png$"):
        sketch.edge_file(tmp_path / "b.jpg", tmp_path)


# ---- left out


def test_drop_leaves_out_whole_sketches_at_its_rate(drawn):
    before, rng = drawn.copy(), np.random.default_rng(0)
    kept = [sketch.drop(drawn, 0.3, rng) for _ in range(2000)]
    assert all((one == drawn).all() or not one.any() for one in kept)
    assert abs(sum(not one.any() for one in kept) - 600) < 82  # standard deviation 20.5
    assert (drawn == before).all()
    for rate, fraction in ((0.0, 1), (1.0, 0)):
        assert np.mean([sketch.drop(drawn, rate, rng).any() for _ in range(50)]) == fraction


@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_drop_keeps_kind_and_size_and_is_the_generators_choice(drawn, dtype):
    lines = drawn.astype(dtype)
    dropped = sketch.drop(lines, 1.0, np.random.default_rng(0))
    assert dropped.dtype == dtype and dropped.shape == lines.shape
    rngs = [np.random.default_rng(5) for _ in range(2)]
    first, again = ([sketch.drop(lines, 0.5, rng).any() for _ in range(40)] for rng in rngs)
    assert first == again


def test_thickened_lines_are_one_to_three_pixels_wide():
    line = np.zeros((9, 9), bool)
    line[4] = True
    widths = {int(sketch.thicken(line, np.random.default_rng(seed))[:, 4].sum()) for seed in range(40)}
    assert widths == {1, 2, 3}
    assert all(sketch.thicken(line, np.random.default_rng(seed))[4].all() for seed in range(40))
