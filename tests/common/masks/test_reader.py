"""Masks read with the photo at hand: copies of it, contradictions, other sizes and turns."""

import io

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.imaging.io import read_image
from common.masks.reader import UnclearMaskError, checked_mask, read_mask

HEIGHT, WIDTH = 120, 160
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[40:60, 50:90] = True
RED, BLACK, WHITE = (255, 0, 0), (0, 0, 0), (255, 255, 255)


def smooth(seed=0, height=HEIGHT, width=WIDTH):
    """A colourful photo without edges."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def page(seed=0):
    """A scanned page: lines of black writing on white."""
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    rng = np.random.default_rng(seed)
    for top in range(10, HEIGHT - 10, 10):
        image[top : top + 3, 10:-10][rng.random((3, WIDTH - 20)) < 0.6] = 0
    return image


def night(seed=0):
    """A dark photo with a few lights."""
    image = smooth(seed) // 16
    for top, left in np.random.default_rng(seed).integers(0, 110, (30, 2)):
        image[top : top + 4, left : left + 4] = 230
    return image


PHOTOS = {"photo": smooth(3), "page": page(), "night": night()}


def save(folder, pixels, name="mask.png", **options):
    path = folder / name
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def rubbed_out(photo, under=None, mask=MASK):
    """The photo with a transparent part; `under` is what the editor left of its colours."""
    colours = photo if under is None else np.where(mask[..., None], np.uint8(under), photo)
    return np.dstack([colours, np.where(mask, 0, 255).astype(np.uint8)])


def painted(photo, colour, mask=MASK):
    return np.where(mask[..., None], np.uint8(colour), photo)


def wrong(path, photo, where=None, **options):
    """The fraction of pixels, of all or of a part, that are not read as MASK."""
    different = read_mask(path, photo=photo, **options) != MASK
    return different.mean() if where is None else different[where].mean()


# ---- a copy of the photo


@pytest.mark.parametrize("under", [None, WHITE, BLACK])
@pytest.mark.parametrize("name", PHOTOS)
def test_the_transparent_part_of_a_copy_is_the_hole(tmp_path, name, under):
    path = save(tmp_path, rubbed_out(PHOTOS[name], under))
    assert wrong(path, PHOTOS[name]) == 0
    assert wrong(path, PHOTOS[name], invert=True) == 1


def test_a_copy_as_webp_or_with_a_palette(tmp_path):
    photo = PHOTOS["photo"]
    copy = Image.fromarray(rubbed_out(photo))
    assert wrong(save(tmp_path, copy, "mask.webp", quality=80), photo) < 0.002
    few = Image.fromarray(photo).quantize(255)
    pixels = np.where(MASK, 255, np.minimum(np.asarray(few), 254)).astype(np.uint8)
    indexed = Image.fromarray(pixels, "P")
    indexed.putpalette(few.getpalette()[: 3 * 255] + [0, 0, 0])
    assert wrong(save(tmp_path, indexed, "mask.gif", transparency=255), photo) == 0


@pytest.mark.parametrize("colour", [RED, BLACK, WHITE, (0, 255, 0), (127, 127, 127)])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_part_painted_over_with_one_colour_is_the_hole(tmp_path, name, colour):
    """What had the paint's colour before, and lies at the rim of the paint, cannot be told from it."""
    photo = PHOTOS[name]
    visible = (np.abs(photo.astype(int) - colour).max(2) > 3) | ~MASK
    path = save(tmp_path, painted(photo, colour))
    assert wrong(path, photo, visible) == 0
    assert wrong(path, photo) < 0.04


@pytest.mark.parametrize("colour", [RED, BLACK, WHITE])
def test_the_only_thing_that_stands_out_may_be_painted_over(tmp_path, colour):
    """A thing before a wall: what is left of the photo is the wall's faint texture."""
    wall = np.random.default_rng(0).integers(110, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    photo = painted(wall, (20, 200, 60), MASK)
    assert wrong(save(tmp_path, painted(photo, colour)), photo) == 0


def test_red_paint_on_a_flat_photo(tmp_path):
    for level in (0, 128, 255):
        flat_photo = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        assert wrong(save(tmp_path, painted(flat_photo, RED)), flat_photo) == 0


def test_paint_over_its_own_colour_is_hole_where_it_is_enclosed(tmp_path):
    photo = smooth(3).copy()
    photo[45:55, 60:80] = RED  # a red thing, painted over with red
    assert wrong(save(tmp_path, painted(photo, RED)), photo) == 0


@pytest.mark.parametrize("name", PHOTOS)
def test_a_painted_copy_as_jpeg(tmp_path, name):
    """The photo is a JPEG too, so that few pixels of the copy are as before."""
    photo = read_image(save(tmp_path, PHOTOS[name], "photo.jpg", quality=90))
    path = save(tmp_path, painted(photo, RED), "mask.jpg", quality=75)
    assert (read_image(path) != photo).mean() > 0.1
    assert wrong(path, photo) < 0.001  # of 19,200 pixels; the hole's rim has 116


def test_a_brush_with_a_soft_edge(tmp_path):
    photo = PHOTOS["photo"]
    weight = np.zeros((HEIGHT, WIDTH, 1))
    weight[38:62, 48:92], weight[40:60, 50:90] = 0.5, 1
    soft = np.rint(photo * (1 - weight) + weight * RED).astype(np.uint8)
    read = read_mask(save(tmp_path, soft), photo=photo)
    assert read[MASK].all() and not (read & (weight[..., 0] == 0)).any()


def test_the_photo_itself_is_no_mask(tmp_path):
    for photo in PHOTOS.values():
        with pytest.raises(UserError, match="is the photo itself"):
            read_mask(save(tmp_path, photo), photo=photo)


# ---- masks stay masks


# White where most of the photo is white may be a copy of it: see `test_a_page_and_an_inverted_mask…`
FRACTIONS = [(name, fraction) for name in [*PHOTOS, "black", "white", "stars"] for fraction in (0.02, 0.3, 0.8)]


@pytest.mark.parametrize("name, fraction", [each for each in FRACTIONS if each not in (("white", 0.8), ("page", 0.8))])
def test_white_on_black_is_read_as_such_whatever_the_photo(tmp_path, name, fraction):
    flat = {"black": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "white": np.full((HEIGHT, WIDTH, 3), 255, np.uint8)}
    stars = {"stars": np.where(night() == 230, 230, 0).astype(np.uint8)}
    photo = {**PHOTOS, **flat, **stars}[name]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[: round(HEIGHT * fraction**0.5), : round(WIDTH * fraction**0.5)] = True
    for name, options in (("mask.png", {}), ("mask.jpg", {"quality": 60})):
        read = read_mask(save(tmp_path, np.uint8(mask) * 255, name, **options), photo=photo)
        assert (read != mask).mean() < 0.004 * ("quality" in options) + 1e-9


def test_feathered_and_coloured_masks(tmp_path):
    photo = PHOTOS["photo"]
    blurred = Image.fromarray(np.uint8(MASK) * 255).resize((WIDTH // 8, HEIGHT // 8)).resize((WIDTH, HEIGHT))
    assert wrong(save(tmp_path, blurred), photo) < 0.02
    assert wrong(save(tmp_path, painted(np.zeros_like(photo), RED)), photo) == 0
    assert wrong(save(tmp_path, painted(np.full_like(photo, 255), RED)), photo, invert=True) == 0


@pytest.mark.parametrize("deep", [65535, 4095, 1000, 255, 1])
def test_two_values_of_16_bit_however_far_apart(tmp_path, deep):
    assert wrong(save(tmp_path, MASK.astype(np.uint16) * deep), PHOTOS["photo"]) == 0


def test_class_labels_and_numbers(tmp_path):
    photo = PHOTOS["photo"]
    labels = Image.fromarray(np.uint8(MASK) * 3, "P")
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    assert wrong(save(tmp_path, labels), photo) == 0
    assert wrong(save(tmp_path, np.uint8(MASK)), photo) == 0


@pytest.mark.parametrize("paint", [RED, BLACK, WHITE])
@pytest.mark.parametrize("name", PHOTOS)
def test_paint_on_a_transparent_layer_stays_the_hole(tmp_path, name, paint):
    layer = np.dstack([np.broadcast_to(np.uint8(paint), (HEIGHT, WIDTH, 3)), np.uint8(MASK) * 255])
    assert wrong(save(tmp_path, layer), PHOTOS[name]) == 0


# ---- contradictions

A, B = np.zeros_like(MASK), np.zeros_like(MASK)
A[10:40, 10:60] = B[60:100, 90:150] = True


def white_on_black(mask, alpha):
    grey = np.repeat(np.uint8(mask)[..., None] * 255, 3, axis=2)
    return np.dstack([grey, np.uint8(alpha) * 255])


def flat(colour):
    return np.broadcast_to(np.uint8(colour), (HEIGHT, WIDTH, 3))


CONTRADICTIONS = {
    "white here, opaque there": white_on_black(A, B),
    "white here, transparent there": white_on_black(A, ~B),
    "white where it is transparent": white_on_black(A, ~A),
    "white, and half of it transparent": white_on_black(A, ~(A & np.roll(A, 20, 1))),
    "another photo, rubbed out": rubbed_out(smooth(8)),
    "paint of two colours on a layer": np.dstack([np.where(A[..., None], RED, (0, 255, 0)), (A | B) * 255]),
}
NO_MASKS = {
    "another photo": smooth(8),
    "the photo turned": PHOTOS["photo"][::-1, ::-1],
    "the photo, brighter": np.clip(PHOTOS["photo"].astype(int) + 60, 0, 255).astype(np.uint8),
    "a ramp": np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1)),
    "painted over with two colours": painted(painted(PHOTOS["photo"], RED, A), (0, 255, 0), B),
    "repaired": np.where(MASK[..., None], smooth(9), PHOTOS["photo"]),
}


@pytest.mark.parametrize("kind", [*CONTRADICTIONS, *NO_MASKS])
def test_what_can_be_read_in_two_ways_or_none_is_an_error_with_a_preview(tmp_path, kind):
    photo, file = PHOTOS["photo"], {**CONTRADICTIONS, **NO_MASKS}[kind]
    path = save(tmp_path, file.astype(np.uint8))
    with pytest.raises(UserError) as problem:
        checked_mask(lambda: read_mask(path, photo=photo), photo, tmp_path / "shown.png")
    assert str(path) in str(problem.value) and "\n" not in str(problem.value)
    assert f"{tmp_path / 'shown.png'} shows it in red" in str(problem.value)
    with pytest.raises(UnclearMaskError) as unclear:
        read_mask(path, photo=photo)
    shown = read_image(tmp_path / "shown.png")
    for number, mask in enumerate(unclear.value.readings.values()):
        cell = shown[24 : 24 + HEIGHT, 4 + number * (WIDTH + 4) :][:, :WIDTH]
        np.testing.assert_array_equal(cell, np.where(mask[..., None], photo // 2 + np.uint8([127, 0, 0]), photo))


def test_a_page_and_an_inverted_mask_are_told_apart_or_not_guessed(tmp_path):
    """Black marks the hole, but nobody said so: on a white photo the file may as well be a copy painted black."""
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    path = save(tmp_path, np.uint8(~MASK) * 255)
    with pytest.raises(UnclearMaskError, match="--invert-mask"):
        read_mask(path, photo=white)
    assert wrong(path, white, invert=True) == 0


def test_black_and_white_with_transparent_corners(tmp_path):
    """As a mask has that was turned in an editor."""
    alpha = np.ones_like(MASK)
    alpha[:20, :20] = alpha[-20:, -20:] = False
    for photo in PHOTOS.values():
        assert wrong(save(tmp_path, white_on_black(MASK, alpha)), photo) == 0


def test_without_a_photo_a_page_of_writing_is_told_by_its_writing(tmp_path):
    assert (read_mask(save(tmp_path, rubbed_out(page()))) == MASK).all()


# ---- sizes and turns


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_mask_drawn_on_the_pixels_as_they_are_stored(tmp_path, orientation):
    """The photo's EXIF turns it by a quarter; the mask was made by a program that does not look at EXIF."""
    stored = Image.fromarray(PHOTOS["photo"])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo_file = save(tmp_path, stored, "photo.png", exif=exif)
    photo = read_image(photo_file)
    stored_mask = save(tmp_path, np.uint8(MASK) * 255)
    seen = painted(np.asarray(stored), WHITE)
    buffer = io.BytesIO()
    Image.fromarray(seen).save(buffer, "PNG", exif=exif)
    expected = (read_image(buffer.getvalue()) == 255).all(2)  # where the upright photo shows the white box
    read = read_mask(stored_mask, photo=photo, photo_file=photo_file)
    assert (read != expected).mean() < 0.001 and read.sum() == MASK.sum()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_with_exif_of_its_own(tmp_path, orientation, capsys):
    """It is turned as it says; but not when that takes it from the photo's size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = save(tmp_path, np.uint8(MASK) * 255, exif=exif)
    read = read_mask(turned, photo=PHOTOS["photo"])
    expected = {2: MASK[:, ::-1], 3: MASK[::-1, ::-1], 4: MASK[::-1]}.get(orientation, MASK)
    np.testing.assert_array_equal(read, expected)
    assert ("not turned" in capsys.readouterr().out) == (orientation >= 5)


def test_a_mask_of_the_photos_shape_is_brought_to_its_size(tmp_path, capsys):
    half = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    half[20:30, 25:45] = 255
    assert wrong(save(tmp_path, half), PHOTOS["photo"]) == 0  # MASK at half the size
    assert "80 x 60 px, its photo 160 x 120 px" in capsys.readouterr().out
    large = np.zeros((3 * HEIGHT, 3 * WIDTH), np.uint8)
    large[120:180, 150:270] = 255
    large[300, 301] = 255  # a single pixel is not lost
    read = read_mask(save(tmp_path, large), photo=PHOTOS["photo"])
    assert read[100, 100] and (read != MASK).sum() == 1
    copy = Image.fromarray(painted(smooth(3, 2 * HEIGHT, 2 * WIDTH), RED, MASK.repeat(2, 0).repeat(2, 1)))
    assert wrong(save(tmp_path, copy), PHOTOS["photo"]) < 0.01


@pytest.mark.parametrize("shape", [(120, 120), (160, 120), (60, 82), (12, 17)])
def test_a_mask_of_another_shape_is_refused(tmp_path, shape):
    with pytest.raises(UserError, match=rf"{shape[1]} x {shape[0]} px, but its image is 160 x 120 px"):
        read_mask(save(tmp_path, np.zeros(shape, np.uint8)), photo=PHOTOS["photo"])


@pytest.mark.parametrize(("orientation", "said"), [(1, False), (3, True), (6, False)])
def test_which_way_up_a_mask_of_a_turned_photo_is_taken_is_said(tmp_path, orientation, said, capsys):
    """Turned upside down it has the same size; turned by a quarter its size tells."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = save(tmp_path, smooth(), "photo.jpg", exif=exif)
    upright = read_image(photo)
    mask = MASK if upright.shape[:2] == MASK.shape else MASK.T
    mask_tensor = save(tmp_path, mask.astype(np.uint8) * 255)
    assert (read_mask(mask_tensor, photo=upright, photo_file=photo) == mask).all()
    assert ("taken as drawn on its photo upright" in capsys.readouterr().out) == said


def test_all_but_the_hole_in_one_colour_is_not_taken_for_paint(tmp_path):
    """A white layer with the hole rubbed out, as image services ask for, and a large hole painted on a layer."""
    layer = np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), np.where(MASK, 0, 255).astype(np.uint8)])
    with pytest.raises(UnclearMaskError, match="one thing"):
        read_mask(save(tmp_path, layer), photo=smooth())
    large = np.zeros((HEIGHT, WIDTH), bool)
    large[10:-10, 10:-10] = True
    layer[..., 3] = np.where(large, 255, 0)
    assert (read_mask(save(tmp_path, layer), photo=smooth()) == large).all()
