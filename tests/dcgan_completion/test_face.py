"""The face window: that it is the square of training, where eyes put it, and what goes there and comes back.

Places are worked out here with rotations of our own, on an image whose colours are a formula.
"""

import math

import numpy as np
import pytest

from common.errors import UserError
from common.imaging.transforms import crop_square
from dcgan_completion import face
from dcgan_completion.face import Face

PX = 32
WINDOWS = {  # in a photo of 150 x 120 px
    "even": Face(16, 16, 64),
    "the network's own size": Face(40, 30, 32),
    "small": Face(50.3, 41.8, 21),
    "odd": Face(13, 21, 87),
    "turned": Face(60, 15, 70, math.radians(25)),
    "turned back": Face(20, 60, 55.5, math.radians(-40)),
}
HEIGHT, WIDTH = 120, 150


def rotation(angle):
    """Clockwise as one sees it: x to the right, y down."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def colour(x, y):
    """A smooth image at places in px (the corner of a pixel, not its middle): float [..., 3]."""
    waves = [np.sin(x / 17 + y / 31), np.cos(x / 23 - y / 19), np.sin(y / 13)]
    return 128 + 100 * np.stack(np.broadcast_arrays(*waves), -1)


def drawn_face(height=HEIGHT, width=WIDTH):
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.rint(colour(x, y)).astype(np.uint8)


def places(window, px=PX):
    """Where the middles of the window's pixels lie in the photo: x and y, float [px, px]."""
    steps = (np.arange(px) + 0.5) * window.side / px
    across, down = np.meshgrid(steps, steps)
    return np.tensordot(rotation(window.angle), np.stack([across, down]), 1) + np.reshape(
        [window.left, window.top], (2, 1, 1)
    )


def within(window, height=HEIGHT, width=WIDTH):
    """Where the middles of the photo's pixels lie in the window, in its px: x and y, float [height, width]."""
    x, y = np.meshgrid(np.arange(width) + 0.5 - window.left, np.arange(height) + 0.5 - window.top)
    return np.tensordot(rotation(-window.angle), np.stack([x, y]), 1)


def nothing(height=HEIGHT, width=WIDTH):
    return np.zeros((height, width), bool)


def off(made, expected):
    return np.abs(made.astype(float) - expected).max()


# ---- where it is


@pytest.mark.parametrize(
    "size, crop, window",
    [
        ((218, 178), "center108", Face(35, 55, 108)),  # (178 - 108) / 2, (218 - 108) / 2
        ((109, 89), "center108", Face(17, 27, 54)),  # half of it
        ((436, 356), "center108", Face(70, 110, 216)),
        ((218, 178), "square178", Face(0, 20, 178)),
        ((109, 89), "square178", Face(0, 10, 89)),
        ((218, 178), "center", Face(0, 20, 178)),
        ((218, 178), "random160", Face(0, 20, 178)),  # the middle of what its chance chooses from
    ],
)
@pytest.mark.parametrize("px", [32, 64])
def test_an_aligned_face_gets_the_square_of_training(size, crop, window, px):
    found, aligned = face.middle(*size, crop)
    assert found == window and aligned
    image = drawn_face(*size)
    cut = crop_square(image, "center" if crop == "random160" else crop, px, np.random.default_rng(0))
    assert off(face.look(image, nothing(*size), found, px)[0], cut) <= 2


@pytest.mark.parametrize(
    "size, crop, window, aligned",
    [
        ((47, 33), "center108", Face(0, 7, 33), False),
        ((60, 100), "center108", Face(20, 0, 60), False),
        ((64, 64), "center108", Face(0, 0, 64), True),  # cut before, as OpenFace writes them
        ((150, 170), "square178", Face(10, 0, 150), False),
        ((200, 300), "center", Face(50, 0, 200), False),
        ((250, 251), "random", Face(0, 0, 250), False),
    ],
)
def test_another_photo_gets_the_square_in_its_middle(size, crop, window, aligned):
    assert face.middle(*size, crop) == (window, aligned)
    image = drawn_face(*size)
    cut = crop_square(image, "center" if crop == "random" else crop, 64, np.random.default_rng(0))
    assert off(face.look(image, nothing(*size), window, 64)[0], cut) <= 3


def test_the_window_moves_as_far_as_a_hole_asks():
    """By trying all places: the nearest to the middle that hold the hole."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(n) for n in rng.integers(20, 90, 2))
        if abs(height - width * 218 / 178) <= 1:
            continue
        mask, side = nothing(height, width), min(height, width)
        top, left = int(rng.integers(height - 4)), int(rng.integers(width - 4))
        mask[top : top + int(rng.integers(1, side)), left : left + int(rng.integers(1, side))] = True
        window, _ = face.middle(height, width, "center108", around=mask)
        for length, axis, found in ((width, 0, window.left), (height, 1, window.top)):
            missing = np.flatnonzero(mask.any(axis))
            holding = [n for n in range(length - side + 1) if n <= missing[0] and missing[-1] < n + side]
            best = min(abs(n - (length - side) // 2) for n in holding)
            assert found in holding and abs(found - (length - side) // 2) == best
        assert window.side == side and face.inside(window, height, width)[mask].all()


def test_an_aligned_face_stays_where_it_is():
    mask = nothing(218, 178)
    mask[:9, :9] = True
    assert face.middle(218, 178, "center108", around=mask) == face.middle(218, 178, "center108")


# ---- by eyes


@pytest.mark.parametrize("crop, corner, side", [("center108", (35, 55), 108), ("square178", (0, 20), 178)])
def test_an_upright_face_at_twice_the_size(crop, corner, side):
    """Aligned CelebA, its eyes at (69.5, 111.5) and (107.5, 111.5), enlarged and moved by (40, 25)."""
    eyes = (2 * 69.5 + 40, 2 * 111.5 + 25, 2 * 107.5 + 40, 2 * 111.5 + 25)
    found = face.from_eyes(eyes, crop)
    expected = (2 * corner[0] + 40, 2 * corner[1] + 25, 2 * side, 0)
    assert (found.left, found.top, found.side, found.angle) == pytest.approx(expected)
    if crop == "center108":
        aligned = face.from_eyes((69.5, 111.5, 107.5, 111.5), crop)
        middle = face.middle(218, 178, crop)[0]
        assert (aligned.left, aligned.top, aligned.side) == pytest.approx((middle.left, middle.top, middle.side))


@pytest.mark.parametrize("degrees", [20, -35, 90 - 1e-3])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_turned_face_stands_upright_in_its_window(degrees, scale):
    """An aligned face is turned about (89, 109) and enlarged; a mark on it comes to its aligned place in the window.

    The mark, at (80, 130) of 178 x 218, is (45, 75) from the first corner (35, 55) of the square of 108 px.
    """
    turn, centre, moved = scale * rotation(math.radians(degrees)), np.array([89.0, 109.0]), np.array([300.0, 280.0])

    def place(x, y):
        return turn @ (np.array([x, y]) - centre) + moved

    window = face.from_eyes((*place(69.5, 111.5), *place(107.5, 111.5)), "center108")
    assert math.degrees(window.angle) == pytest.approx(degrees) and window.side == pytest.approx(108 * scale)
    np.testing.assert_allclose(window.matrix(108) @ [44.5, 74.5, 1], place(80, 130) - 0.5)  # middles of pixels
    x, y = np.meshgrid(np.arange(600) + 0.5, np.arange(560) + 0.5)
    mark = np.exp(-(np.hypot(x - place(80, 130)[0], y - place(80, 130)[1]) ** 2) / (2 * 9 * scale**2))
    image = np.repeat(np.rint(255 * mark)[..., None], 3, 2).astype(np.uint8)
    square, hidden = face.look(image, nothing(560, 600), window, 108)
    weight = square[..., 0] / square[..., 0].sum()
    found = [(weight * (np.arange(108) + 0.5)).sum(), (weight * (np.arange(108) + 0.5)[:, None]).sum()]
    assert found == pytest.approx([45, 75], abs=0.1) and not hidden.any()


@pytest.mark.parametrize("eyes", [(107, 111, 69, 111), (50, 60, 50, 60), (50, 60, 50, 90), (math.nan, 1, 2, 3)])
def test_eyes_in_the_wrong_order(eyes):
    with pytest.raises(UserError, match="left first"):
        face.from_eyes(eyes, "center108")


def test_windows_that_hold_no_face():
    face.check(Face(0, 0, 16), 47, 33, PX, "in.png")  # half of the network's side will do
    with pytest.raises(UserError, match="in.png is 33 x 47 px and has no window for a face: of 15 px.*needs 16"):
        face.check(Face(0, 0, 15), 47, 33, PX, "in.png")
    face.check(Face(-49, 0, 100), 200, 200, PX, "in.png")
    with pytest.raises(UserError, match="lies mostly outside"):
        face.check(Face(-51, 0, 100), 200, 200, PX, "in.png")
    with pytest.raises(UserError, match="lies mostly outside"):
        face.check(Face(0, 0, 1000), 200, 200, PX, "in.png")


# ---- what the networks see


@pytest.mark.parametrize("name", WINDOWS)
def test_the_window_shows_what_lies_there(name):
    square, hidden = face.look(drawn_face(), nothing(), WINDOWS[name], PX)
    assert square.shape == (PX, PX, 3) and square.dtype == np.uint8 and not hidden.any()
    assert off(square, colour(*places(WINDOWS[name]))) <= 3  # means over up to 3 px, and rounding


def test_every_pixel_that_touches_the_hole_is_hole():
    """At two photo px for each of the window's: the one that holds the pixel at row 20, column 33, and no other."""
    mask = nothing()
    mask[20, 33] = True
    hidden = face.look(drawn_face(), mask, Face(16, 16, 64), PX)[1]
    assert np.argwhere(hidden).tolist() == [[(20 - 16) // 2, (33 - 16) // 2]]


@pytest.mark.parametrize("name", WINDOWS)
def test_holes_cover_at_least_what_they_hide_and_little_more(name):
    """The middle of a network's pixel in the hole: hidden. Farther from it than two pixels of either kind: not."""
    window, mask = WINDOWS[name], nothing()
    x, y = places(window)
    top, left = int(y.mean()) - 6, int(x.mean()) - 4
    mask[top : top + 11, left : left + 9] = True
    hidden = face.look(drawn_face(), mask, window, PX)[1]
    beside = np.maximum(np.maximum(left - x, x - left - 9), np.maximum(top - y, y - top - 11))  # 0 at the hole's edge
    assert hidden[beside <= 0].all() and not hidden[beside > 2 * (1 + window.side / PX)].any()


def test_beyond_the_photo_is_hole():
    """A window that begins 8 px above and to the left: 4 of the network's pixels."""
    square, hidden = face.look(drawn_face(), nothing(), Face(-8, -8, 64), PX)
    expected = np.zeros((PX, PX), bool)
    expected[:4] = expected[:, :4] = True
    np.testing.assert_array_equal(hidden, expected)
    expected = colour(*places(Face(-8, -8, 64)))
    assert off(square[~hidden], expected[~hidden]) <= 3
    window = Face(-20, 30, 90, math.radians(-30))
    x, y = places(window)
    hidden = face.look(drawn_face(), nothing(), window, PX)[1]
    out = np.maximum(np.maximum(-x, x - WIDTH), np.maximum(-y, y - HEIGHT))
    assert hidden[out > 1].all() and not hidden[out < -3 * 90 / PX].any() and 0.1 < hidden.mean() < 0.9


@pytest.mark.parametrize("seed", range(20))
def test_no_colour_from_under_the_hole_is_seen(seed):
    """Whatever lies there; and none is mixed into the known ones, which stay near the formula's."""
    rng = np.random.default_rng(seed)
    window = Face(*rng.uniform(10, 60, 2), rng.uniform(16, 100), rng.uniform(-0.6, 0.6))
    mask, image = nothing(), drawn_face()
    for _ in range(3):
        top, left = rng.integers((110, 140))
        mask[top : top + rng.choice([1, 4, 30]), left : left + rng.choice([1, 4, 30])] = True
    square, hidden = face.look(image, mask, window, PX)
    other = np.where(mask[..., None], rng.integers(0, 256, image.shape), image).astype(np.uint8)
    again = face.look(other, mask, window, PX)
    np.testing.assert_array_equal(square, again[0])
    np.testing.assert_array_equal(hidden, again[1])
    assert off(square[~hidden], colour(*places(window))[~hidden]) <= 4


@pytest.mark.parametrize("side", [33, 47, 64, 100, 178])
@pytest.mark.parametrize("angle", [0, math.pi / 2])
def test_a_window_that_ends_with_the_photo_is_known_to_its_edge(side, angle):
    """Whatever the scale; turned by a right angle about the photo's upper right corner it is the same square."""
    window = Face(side if angle else 0, 0, side, angle)
    square, hidden = face.look(drawn_face(side, side), nothing(side, side), window, PX)
    assert not hidden.any()
    assert off(square, colour(*places(window))) <= 4


# ---- and back


@pytest.mark.parametrize("name", WINDOWS)
def test_a_square_comes_to_its_place(name):
    """A square painted with the formula, in a grey photo: the formula's colours in the window, grey around it."""
    window, photo = WINDOWS[name], np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    square = np.rint(colour(*places(window))).astype(np.uint8)
    laid = face.lay(square, window, photo)
    x, y = within(window)
    covered = (x > 0) & (x < window.side) & (y > 0) & (y < window.side)
    np.testing.assert_array_equal(face.inside(window, HEIGHT, WIDTH), covered)
    assert (laid[~covered] == 77).all() and laid.dtype == np.uint8
    inner = np.minimum(np.minimum(x, y), window.side - np.maximum(x, y)) > window.side / PX  # its rim is repeated
    assert off(laid[inner], drawn_face()[inner]) <= 3
    back = face.look(laid, nothing(), window, PX)[0]
    assert off(back[2:-2, 2:-2], square[2:-2, 2:-2]) <= 4


@pytest.mark.parametrize("name", WINDOWS)
def test_a_hole_comes_to_its_place(name):
    """Each photo pixel is hole if the window's pixel there is; undecided within a tenth of a pixel of their edges."""
    window = WINDOWS[name]
    mask = np.random.default_rng(0).random((PX, PX)) < 0.5
    drawn = face.project(mask, window, HEIGHT, WIDTH)
    x, y = within(window)
    covered = (x > 0) & (x < window.side) & (y > 0) & (y < window.side)
    column, row = (np.clip(axis * PX / window.side, 0, PX - 1e-9) for axis in (x, y))
    clear = np.minimum(np.abs(column - np.rint(column)), np.abs(row - np.rint(row))) > 0.1
    assert drawn.dtype == bool and not drawn[~covered].any() and (clear & covered).sum() > 200
    np.testing.assert_array_equal(drawn[covered & clear], mask[row.astype(int), column.astype(int)][covered & clear])


def test_a_window_that_leaves_the_photo_is_laid_where_there_is_some():
    photo, square = np.zeros((40, 50, 3), np.uint8), np.full((PX, PX, 3), 200, np.uint8)
    expected = np.zeros((40, 50), bool)
    expected[:24, 34:] = True
    np.testing.assert_array_equal(face.lay(square, Face(34, -8, 32), photo).any(-1), expected)
    np.testing.assert_array_equal(face.project(np.ones((PX, PX), bool), Face(34, -8, 32), 40, 50), expected)


def test_a_window_says_what_it_is():
    assert str(Face(3.4, 5.6, 107.7)) == "108 x 108 px at (3, 6)"
    assert str(Face(3, 5, 10, math.radians(-12.34))) == "10 x 10 px at (3, 5), turned by -12.3 degrees"


# ---- lists of eyes


def test_celebas_list_of_landmarks(tmp_path):
    """Its first line counts, its second names the columns, of which the first four are the eyes'."""
    columns = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    lines = ["202599", " ".join(columns), "000001.jpg 69  109  106  113   77  142   73  152  108  154", ""]
    (tmp_path / "landmarks.txt").write_text("\n".join([*lines, "b.png 1.5 2 3 4", "c.png 1 2 3"]))
    eyes = face.read_eyes(tmp_path / "landmarks.txt")
    assert eyes == {"000001.jpg": (69, 109, 106, 113), "b.png": (1.5, 2, 3, 4)}


def test_lists_that_are_none(tmp_path):
    (tmp_path / "empty.txt").write_text("3\nname x y\n")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 9)
    for name, told in (("nowhere.txt", "No such file"), ("photo.jpg", "it is no text"), ("empty.txt", "no line of")):
        with pytest.raises(UserError, match=f"{name}.*{told}"):
            face.read_eyes(tmp_path / name)
