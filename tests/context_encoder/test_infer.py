"""Any hole in any image: where the windows lie, what the network sees in them, what becomes of its predictions."""

import numpy as np
import pytest

from common.imaging.transforms import from_network, to_network
from common.inpainting.blending import Blend
from context_encoder import infer
from context_encoder.masks import center
from context_encoder.model import ContextEncoder

import paddle

SIDE, FILLED, RING = 32, 12, 8  # the network's image, what it fills of it, and where its prediction of 16 px begins
MARGIN = 10  # around what it fills
FILL = 0.125  # in place of what a stand-in network must not see
BLENDS = Blend.__args__
SIZES = [(257, 301), (33, 47), (47, 33), (64, 64), (20, 20), (200, 40)]


class StandIn:
    """A network with a known answer, which keeps what it is given: `seen` with FILL in the hole, `masks`.

    Args:
        answer: (seen [n, 3, 32, 32], masks [n, 1, 32, 32], numbers of these windows) -> prediction [n, 3, 32, 32], of
            which a centre network returns the middle.
    """

    image_px, overlap_px, noise_channels = SIDE, 2, 0

    def __init__(self, answer, output="center"):
        self.answer, self.output, self.output_px = answer, output, SIDE if output == "whole" else SIDE // 2
        self.images, self.seen, self.masks, self.calls = [], [], [], []

    def __call__(self, image, mask, noise=None):
        image, mask = image.numpy(), mask.numpy()
        assert image.shape[1:] == (3, SIDE, SIDE) and mask.shape == (len(image), 1, SIDE, SIDE)
        assert image.dtype == mask.dtype == np.float32 and set(np.unique(mask)) <= {0, 1}
        numbers = np.arange(len(self.seen), len(self.seen) + len(image))
        seen = np.where(mask > 0, np.float32(FILL), image)
        self.images += list(image)
        self.seen += list(seen)
        self.masks += list(mask[:, 0] > 0)
        self.calls.append(len(image))
        edge = (SIDE - self.output_px) // 2
        made = np.broadcast_to(self.answer(seen, mask, numbers), image.shape)
        return paddle.to_tensor(np.ascontiguousarray(made[:, :, edge : SIDE - edge, edge : SIDE - edge], np.float32))


def constant(level):
    return lambda seen, masks, numbers: np.full(seen.shape, level, np.float32)


def lively(output="center", noise_channels=0):
    """An untrained network whose answer depends visibly on all it is given: larger weights than it would start with."""
    paddle.seed(1)
    network = ContextEncoder(SIDE, output, 8, 16, noise_channels, 2 if output == "center" else 0)
    for name, value in network.named_parameters():
        if value.ndim == 4:
            value.set_value(value * (60 if name.startswith("noise") else 4))
    network.eval()
    return network


@pytest.fixture(scope="module")
def networks():
    return {(output, noise): lively(output, noise) for output in ("center", "whole") for noise in (0, 5)}


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def floats(height, width, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (3, height, width)).astype(np.float32)


def masks_in(height, width, *boxes):
    mask = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def any_mask(rng, height, width):
    """A few boxes and thin lines anywhere, each possibly at an edge."""
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(1, 4))):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        rows, columns = rng.choice([1, 3, 9, 30], 2)
        mask[max(0, top - rows // 2) : top + rows, max(0, left - columns // 2) : left + columns] = True
    return mask


def slide(network, image, mask, batch_size=16, seed=0):
    return infer.slide(network, image, mask, batch_size, np.random.default_rng(seed))


def reflected(image, top, left):
    """The window [3, 32, 32] at any place of an image that is continued by reflection, by index arithmetic."""

    def index(start, length):
        places = np.abs(np.arange(start, start + SIDE)) % (2 * (length - 1))
        return np.where(places < length, places, 2 * (length - 1) - places)

    return image[..., index(top, image.shape[-2])[:, None], index(left, image.shape[-1])[None]]


# ---- where the windows lie


@pytest.mark.parametrize("stay_inside", [False, True])
def test_windows_cover_every_hole_and_each_is_needed(stay_inside):
    rng = np.random.default_rng(0)
    for _ in range(300):
        side = int(rng.choice([16, 32, 64]))
        filled = int(rng.integers(1, side // 2 + 1)) * 2
        height, width = (int(n) for n in rng.integers(1, 150, 2))
        mask = any_mask(rng, height, width)
        margin, covered = (side - filled) // 2, np.zeros_like(mask)
        corners = infer.window_corners(mask, side, filled, stay_inside)
        assert len(set(corners)) == len(corners)
        for top, left in corners:
            if stay_inside:
                inner = np.s_[top : top + side, left : left + side]
                assert 0 <= top <= max(0, height - side) and 0 <= left <= max(0, width - side)
            else:
                assert -margin <= top <= max(filled, height) - filled - margin
                assert -margin <= left <= max(filled, width) - filled - margin
                inner = np.s_[top + margin : top + side - margin, left + margin : left + side - margin]
            assert mask[inner].any()
            covered[inner] = True
        assert covered[mask].all()


def test_windows_that_stay_inside_are_the_same_moved_inside():
    rng = np.random.default_rng(1)
    for _ in range(100):
        height, width = (int(n) for n in rng.integers(5, 150, 2))
        mask = any_mask(rng, height, width)
        free = infer.window_corners(mask, 32, 16, False)
        moved = {(min(max(top, 0), max(0, height - 32)), min(max(left, 0), max(0, width - 32))) for top, left in free}
        assert set(infer.window_corners(mask, 32, 16, True)) == moved


@pytest.mark.parametrize("filled", [2, 12, 16, 56])
def test_neighbours_overlap_by_half_or_more(filled):
    side = 2 * filled + 8
    for extent in range(1, 5 * filled):
        mask = masks_in(300, 300, (3, 7, 3 + extent, 7 + extent))
        corners = infer.window_corners(mask, side, filled, False)
        tops, lefts = (sorted({corner[axis] for corner in corners}) for axis in (0, 1))
        assert len(corners) == len(tops) * len(lefts)  # every place of the grid holds some of a full square
        assert len(tops) == len(lefts)
        if extent <= filled:
            assert len(tops) == 1
            continue
        assert max(np.diff(tops)) <= filled / 2
        assert len(tops) < 2 + 2 * (extent - filled) / filled  # and no more of them than that asks
        margin = (side - filled) // 2  # from end to end of the hole, nothing beyond
        assert tops[0] + margin == 3 and tops[-1] + margin + filled == 3 + extent


@pytest.mark.parametrize(
    "box, corner, inside",
    [
        ((20, 30, 26, 40), (7, 19), (7, 19)),  # middle (23, 35), less half a window
        ((14, 30, 26, 42), (4, 20), (4, 20)),  # exactly the square
        ((0, 40, 4, 44), (-10, 26), (0, 26)),  # at the upper edge the square begins with the image
        ((56, 76, 60, 80), (38, 58), (28, 48)),  # lower right corner of 60 x 80: it ends with the image
    ],
)
def test_a_small_hole_gets_one_window_around_it(box, corner, inside):
    mask = masks_in(60, 80, box)
    assert infer.window_corners(mask, SIDE, FILLED, False) == [corner]
    assert infer.window_corners(mask, SIDE, FILLED, True) == [inside]


@pytest.mark.parametrize("rows, top", [((14, 20), 0), ((18, 24), 2), ((11, 21), 0), ((3, 9), -7), ((0, 4), -10)])
def test_in_a_picture_of_its_size_a_window_moves_no_further_than_the_hole_asks(rows, top):
    """32 px, of which rows 10 to 21 are filled in place: rows 18 to 23 ask for a move by 2, rows 3 to 8 by 7."""
    assert infer.window_corners(masks_in(32, 32, (rows[0], 12, rows[1], 20)), 32, 12, False) == [(top, 0)]
    assert infer.window_corners(masks_in(32, 32, (12, rows[0], 20, rows[1])), 32, 12, False) == [(0, top)]


def test_no_hole_no_window():
    assert infer.window_corners(np.zeros((40, 50), bool), SIDE, FILLED, False) == []
    image, network = floats(40, 50), StandIn(constant(1))
    np.testing.assert_array_equal(slide(network, image, np.zeros((40, 50), bool)), image)
    assert network.calls == []


# ---- what the network sees


def test_a_centre_network_is_always_asked_for_its_whole_square():
    """Also where little of it is hole; what else is missing in the window is hidden too."""
    network, mask = StandIn(constant(0)), masks_in(60, 80, (20, 30, 26, 40), (12, 33, 14, 44))
    slide(network, floats(60, 80), mask)
    first = next(n for n, mask_tensor in enumerate(network.masks) if mask_tensor.any())
    corners = infer.window_corners(mask, SIDE, FILLED, False)
    for mask_tensor, (top, left) in zip(network.masks[first:], corners, strict=False):
        np.testing.assert_array_equal(mask_tensor, mask[top : top + SIDE, left : left + SIDE] | center(SIDE, 2))
    rng = np.random.default_rng(0)
    for _ in range(30):
        network, size = StandIn(constant(0)), rng.integers(5, 70, 2)
        slide(network, floats(*size), any_mask(rng, *size))
        assert all(mask_tensor[center(SIDE, 2)].all() for mask_tensor in network.masks)


def test_a_network_for_whole_pictures_is_asked_for_the_hole_alone():
    network, mask = StandIn(constant(0), "whole"), masks_in(32, 90, (3, 2, 8, 10), (6, 76, 16, 90))
    slide(network, floats(32, 90), mask)
    assert len(network.masks) == 2
    np.testing.assert_array_equal(network.masks[0], mask[:, :32])  # squares from 2 and from 66 and 74, moved inside
    np.testing.assert_array_equal(network.masks[1], mask[:, 58:])


@pytest.mark.parametrize("size", [(60, 80), (20, 20), (33, 5), (2, 50)])
@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_beyond_the_edge_lies_the_reflection(size, corner):
    image, mask, network = floats(*size), np.zeros(size, bool), StandIn(constant(0))
    mask[corner] = True
    slide(network, image, mask)
    top = -MARGIN if corner[0] == 0 else max(size[0], FILLED) - FILLED - MARGIN
    left = -MARGIN if corner[1] == 0 else max(size[1], FILLED) - FILLED - MARGIN
    mask_tensor = reflected(mask, top, left) | center(SIDE, 2)
    np.testing.assert_array_equal(network.masks[0], mask_tensor)
    np.testing.assert_array_equal(network.seen[0], np.where(mask_tensor, np.float32(FILL), reflected(image, top, left)))


def test_one_pass_where_all_surroundings_are_known():
    """Two far holes are two windows; each sees nothing missing around its square."""
    network = StandIn(constant(0))
    slide(network, floats(40, 120), masks_in(40, 120, (18, 20, 22, 24), (18, 90, 22, 94)))
    assert len(network.seen) == 2
    network = StandIn(constant(0), "whole")  # and a network for whole images has one pass in any case
    slide(network, floats(32, 120), masks_in(32, 120, (4, 10, 30, 110)))
    assert len(network.seen) == len(infer.window_corners(masks_in(32, 120, (4, 10, 30, 110)), 32, 16, True)) > 2


@pytest.mark.parametrize("box", [(15, 20, 35, 50), (0, 0, 20, 20), (45, 40, 60, 80)])
def test_a_second_pass_sees_the_predictions_of_the_first(box):
    """A hole larger than the square, in the middle and in corners: the second pass has neither hole nor old colours.

    Under the hole lies NaN, which would survive any arithmetic.
    """
    image, mask, network = floats(60, 80), masks_in(60, 80, box), StandIn(constant(0.5))
    corners = infer.window_corners(mask, SIDE, FILLED, False)
    slide(network, np.where(mask, np.nan, image), mask)
    assert len(network.seen) == 2 * len(corners) > 2
    known = np.where(mask, np.float32(0.5), image)
    for n, (top, left) in enumerate(corners):
        np.testing.assert_array_equal(network.masks[n], reflected(mask, top, left) | center(SIDE, 2))
        again = len(corners) + n
        np.testing.assert_array_equal(network.masks[again], center(SIDE, 2))
        there = ~center(SIDE, 2)
        np.testing.assert_allclose(
            network.seen[again][:, there], reflected(known, top, left)[:, there], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("output", ["center", "whole"])
def test_no_colour_from_under_the_hole_reaches_a_network(output):
    rng = np.random.default_rng(3)
    for _ in range(60):
        height, width = (int(n) for n in rng.integers(4, 90, 2))
        mask, network = any_mask(rng, height, width), StandIn(constant(0.5), output)
        made = slide(network, np.where(mask, np.nan, floats(height, width)), mask)
        assert np.isfinite(network.seen).all() and np.isfinite(made).all() and made.shape == (3, height, width)


@pytest.mark.parametrize("output", ["center", "whole"])
def test_real_networks_answer_alike_whatever_lies_under_the_hole(networks, output):
    rng, network = np.random.default_rng(4), networks[output, 0]
    for size in ((32, 32), (60, 50), (20, 24)):
        for _ in range(4):
            image, mask = floats(*size), any_mask(rng, *size)
            first = slide(network, image, mask)
            np.testing.assert_array_equal(first, slide(network, np.where(mask, np.float32(1e4), image), mask))


# ---- what becomes of predictions


@pytest.mark.parametrize("output", ["center", "whole"])
def test_a_network_that_knows_the_picture_gives_it_back(output):
    """Every prediction comes back to where its window lies: the stand-in returns the very pixels it is given."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        height, width = (int(n) for n in rng.integers(4, 90, 2))
        image, mask = floats(height, width), any_mask(rng, height, width)
        network = StandIn(None, output)
        network.answer = lambda seen, masks, numbers, network=network: np.stack([network.images[n] for n in numbers])
        np.testing.assert_allclose(slide(network, image, mask), image, atol=1e-6)


@pytest.mark.parametrize("output", ["center", "whole"])
def test_a_constant_prediction_stays_constant_however_windows_overlap(output):
    rng = np.random.default_rng(6)
    for _ in range(30):
        height, width = (int(n) for n in rng.integers(4, 90, 2))
        image, mask = floats(height, width), any_mask(rng, height, width)
        made = slide(StandIn(constant(0.3), output), image, mask, batch_size=int(rng.integers(1, 9)))
        assert made.shape == image.shape and made.dtype == np.float32
        np.testing.assert_allclose(made[:, mask], 0.3, atol=1e-6)
        untouched = (np.abs(made - 0.3) > 1e-5).any(0)
        np.testing.assert_array_equal(made[:, untouched], image[:, untouched])


def test_one_windows_prediction_lies_around_the_hole_with_its_ring():
    """The stand-in returns its mask: 1 in the square of 12 px, 0 in the ring of 2 px around, the image elsewhere."""
    network = StandIn(lambda seen, masks, numbers: masks)
    image, mask = floats(60, 80), masks_in(60, 80, (20, 30, 26, 40))
    expected = image.copy()
    expected[:, 15:31, 27:43] = 0  # middle (23, 35)
    expected[:, 17:29, 29:41] = 1
    np.testing.assert_allclose(slide(network, image, mask), expected, atol=1e-6)


@pytest.mark.parametrize("box", [(20, 30, 26, 40), (15, 20, 35, 50)])
def test_the_ring_around_a_hole_is_predicted_in_one_pass_and_in_two(box):
    """Poisson blending needs it: where photo and prediction agree on the rim it finds nothing to correct."""
    top, left, bottom, right = box
    made = slide(StandIn(constant(0.3)), np.zeros((3, 60, 80), np.float32), masks_in(60, 80, box))
    np.testing.assert_allclose(made[:, top - 2 : bottom + 2, left - 2 : right + 2], 0.3, atol=1e-6)


def test_neighbours_fade_into_each_other():
    """A hole of 12 x 18 px is two squares 6 px apart; the weights of their predictions of 16 px rise from 1 to 8."""
    network, mask = StandIn(lambda seen, masks, numbers: (numbers % 2)[:, None, None, None]), np.zeros((60, 80), bool)
    mask[20:32, 30:48] = True
    made = slide(network, np.full((3, 60, 80), -1, np.float32), mask)
    rising = np.minimum(np.arange(1, 17), np.arange(16, 0, -1))
    left, right = np.zeros(22), np.zeros(22)
    left[:16], right[6:] = rising, rising
    for row in (20, 25, 31):
        np.testing.assert_allclose(made[0, row, 28:50], right / (left + right), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_windows_go_to_the_network_in_batches(batch_size):
    network, mask = StandIn(constant(0)), masks_in(60, 80, (15, 20, 35, 50))  # 3 x 4 squares, twice
    slide(network, floats(60, 80), mask, batch_size)
    in_one_pass = [batch_size] * (12 // batch_size) + [12 % batch_size] * (12 % batch_size > 0)
    assert network.calls == 2 * in_one_pass


# ---- whole photos


def mask_kinds(height, width):
    rows, columns = np.mgrid[:height, :width]
    thin = (np.abs(rows * width - columns * height) < 2 * max(height, width)) & (columns < 80) & (rows < 80)
    return {
        "corners": masks_in(
            height, width, (0, 0, 5, 7), (height - 6, width - 3, height, width), (0, width - 4, 3, width)
        ),
        "edges": masks_in(height, width, (0, 8, 5, 14), (9, 0, 16, 4), (height - 2, 5, height, 15)),
        "scratch": thin,
        "large": masks_in(height, width, (2, 1, 2 + height * 3 // 5, 1 + width * 3 // 5)),
        "full": np.ones((height, width), bool),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("output", ["center", "whole"])
def test_known_pixels_come_back_and_hidden_ones_play_no_part(networks, output, size):
    """Bit for bit, for every way to blend: the photo around the hole, and the same filling for other hidden colours."""
    network, image = networks[output, 0], photo(*size)
    for n, (name, mask) in enumerate(mask_kinds(*size).items()):
        other = np.where(mask[..., None], 255 - image, image)
        for blend in BLENDS if name == "edges" else (BLENDS[n % 4],):
            done = infer.complete(network, image, mask, blend)
            assert done.shape == image.shape and done.dtype == np.uint8
            np.testing.assert_array_equal(done[~mask], image[~mask])
            assert (done[mask] != image[mask]).any(axis=-1).mean() > 0.95, name
        np.testing.assert_array_equal(done, infer.complete(network, other, mask, blend))
    done = infer.complete(network, image, np.zeros(size, bool))
    np.testing.assert_array_equal(done, image)
    assert not np.shares_memory(done, image)


@pytest.mark.parametrize("output", ["center", "whole"])
def test_a_picture_of_the_networks_size_is_one_window(networks, output):
    """Pasted, the hole holds what the network returns for this image and mask, called here directly."""
    network, image, mask = networks[output, 0], photo(32, 32), masks_in(32, 32, (11, 12, 20, 20))
    mask_tensor = center(SIDE, 2) if output == "center" else mask
    with paddle.no_grad():
        made = network(
            paddle.to_tensor(to_network(image[None])), paddle.to_tensor(mask_tensor[None, None].astype(np.float32))
        )
    made, expected = from_network(made.numpy())[0], image.copy()
    first = 8 if output == "center" else 0
    expected[mask] = made[11 - first : 20 - first, 12 - first : 20 - first].reshape(-1, 3)
    np.testing.assert_array_equal(infer.complete(network, image, mask, "paste"), expected)


def test_a_shifted_prediction_is_brought_to_the_photos_level_also_in_a_hole_of_many_windows():
    """A flat photo of level 200 and a network that says 50 everywhere: with Poisson blending the hole becomes 200."""
    image = np.full((60, 80, 3), 200, np.uint8)
    for box in ((20, 30, 26, 40), (15, 20, 35, 50)):
        mask = masks_in(60, 80, box)
        network = StandIn(constant(50 / 127.5 - 1))
        assert (infer.complete(network, image, mask, "paste", "mask")[mask] == 50).all()
        assert (infer.complete(network, image, mask, "poisson", "mask") == 200).all()


def test_a_hole_brought_to_the_networks_scale_is_one_window():
    """A photo shrunk until its hole fits: a hole that grows by a pixel in that must still fit."""
    rng = np.random.default_rng(7)
    for _ in range(30):
        side, network = int(rng.integers(13, 80)), StandIn(constant(0))
        top, left = (int(rng.integers(-20, 20)) + (length - side) // 2 for length in (300, 400))
        infer.complete(network, photo(300, 400), masks_in(300, 400, (top, left, top + side, left + side)), "paste")
        assert network.calls == [1], side


@pytest.mark.parametrize("output", ["center", "whole"])
def test_noise_comes_from_the_seed_alone(networks, output):
    network, image = networks[output, 5], photo(90, 70)
    mask = masks_in(90, 70, (10, 8, 20, 18), (40, 30, 75, 50))
    first = infer.complete(network, image, mask, "paste", seed=3)
    np.testing.assert_array_equal(first, infer.complete(network, image, mask, "paste", seed=3))
    other = infer.complete(network, image, mask, "paste", seed=4)
    assert np.abs(first.astype(int) - other)[mask].mean() > 2
    np.testing.assert_array_equal(first[~mask], other[~mask])


@pytest.mark.parametrize("noise_channels", [0, 5])
@pytest.mark.parametrize("output", ["center", "whole"])
def test_batches_and_company_change_nothing(networks, output, noise_channels):
    """Up to the last bit of float arithmetic: one level of 255, and that rarely."""
    network = networks[output, noise_channels]
    images = [photo(90, 150), photo(33, 47, 1), photo(40, 40, 2)]
    masks = [any_mask(np.random.default_rng(n), *image.shape[:2]) for n, image in enumerate(images)]
    masks[0][20:70, 30:60] = masks[0][5:15, 100:110] = True
    alone = [infer.complete(network, image, mask, seed=1) for image, mask in zip(images, masks, strict=True)]
    for batch_size in (1, 2, 16):
        together = infer.complete_batch(network, images, masks, batch_size=batch_size, seed=1)
        for one, other in zip(alone, together, strict=True):
            difference = np.abs(one.astype(int) - other)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01
