"""Any photo, any hole, with networks whose answer is known."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from common import blending, completion, windows
from common.errors import UserError

ALL = get_args(blending.Blend)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def holes_in(height, width, *boxes):
    hole = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def plain(level=0.2):
    return lambda images, masks: np.full_like(images, level)


PLAIN_LEVEL = 153  # (0.2 + 1) x 127.5


class Recorder:
    """A network that keeps what it is given."""

    def __init__(self, answer):
        self.answer, self.images, self.masks = answer, [], []

    def __call__(self, images, masks):
        assert images.dtype == masks.dtype == np.float32 and masks.shape == (len(images), 1, *images.shape[2:])
        assert set(np.unique(masks)) <= {0, 1} and np.abs(images).max() <= 1
        self.images.append(images)
        self.masks.append(masks)
        return self.answer(images, masks)


SIZES = {
    (33, 47): [(0, 0, 9, 9), (20, 30, 33, 47)],
    (257, 301): [(100, 90, 190, 200), (250, 0, 257, 40), (0, 280, 60, 301)],
    (1500, 2000): [(0, 0, 40, 60), (700, 800, 760, 1500), (1200, 1300, 1500, 2000)],
    (500, 40): [(100, 0, 160, 40)],
}


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_keeps_its_size_and_its_known_pixels(size, how):
    image, hole = noise(*size), holes_in(*size, *SIZES[size])
    network = Recorder(plain())
    result = completion.complete(network, image, hole, network_px=64, stride=8, blend=how)
    assert result.shape == image.shape and result.dtype == np.uint8
    assert (result[~hole] == image[~hole]).all()
    assert all(side % 8 == 0 for images in network.images for side in images.shape[2:])
    if how == "paste":
        assert (result[hole] == PLAIN_LEVEL).all()


@pytest.mark.parametrize("window", ["auto", "whole", "hole"])
@pytest.mark.parametrize("size", [(33, 47), (120, 300)])
def test_holes_at_every_edge_and_corner(size, window):
    height, width = size
    rows, columns = ((0, 9), (12, 20), (height - 7, height)), ((0, 8), (14, 25), (width - 9, width))
    for top, bottom in rows:
        for left, right in columns:
            image, hole = noise(*size), holes_in(*size, (top, left, bottom, right))
            for how in ALL:
                result = completion.complete(plain(), image, hole, network_px=32, window=window, blend=how)
                assert (result[~hole] == image[~hole]).all()
            pasted = completion.complete(plain(), image, hole, network_px=32, window=window)
            assert (pasted[hole] == PLAIN_LEVEL).all()


@pytest.mark.parametrize("how", ALL)
def test_empty_hole_returns_the_photo_and_full_hole_is_all_prediction(how):
    image = noise(90, 70)
    network = Recorder(plain())
    assert (completion.complete(network, image, np.zeros((90, 70), bool), network_px=32, blend=how) == image).all()
    assert network.images == []
    full = completion.complete(network, image, np.ones((90, 70), bool), network_px=32, blend=how)
    assert (full == PLAIN_LEVEL).all() and (network.masks[0] == 1).all()
    assert np.abs(network.images[0]).max() < 0.01  # mid-grey


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("window", ["auto", "hole"])
def test_every_pixel_of_any_hole_is_filled(seed, window):
    rng = np.random.default_rng(seed)
    size = rng.integers(20, 400, 2)
    hole = np.zeros(size, bool)
    for _ in range(rng.integers(1, 40)):
        top, left = rng.integers(0, size)
        rows, columns = rng.choice([1, 3, 10, 200]), rng.choice([1, 5, 30, 300])
        hole[top : top + rows, left : left + columns] = True
    result = completion.complete(plain(), noise(*size), hole, network_px=32, window=window)
    assert (result[hole] == PLAIN_LEVEL).all()
    for place in windows.plan(hole, network_px=32, window=window):
        assert 0 <= place.top < place.bottom <= size[0] and 0 <= place.left < place.right <= size[1]
        assert place.top <= place.core[0] and place.core[2] <= place.bottom
        assert place.left <= place.core[1] and place.core[3] <= place.right
        assert place.height * place.width <= windows.LARGEST_INPUT * 32**2 * 1.1


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize(("size", "window"), [((90, 80), "whole"), ((40, 30), "whole"), ((300, 400), "hole")])
def test_what_lies_under_the_hole_changes_nothing(size, window, how):
    hole = holes_in(*size, (5, 7, 30, 29), (0, 0, 3, 30), (size[0] - 9, 4, size[0], 22))
    image = noise(*size)
    other = image.copy()
    other[hole] = 255 - other[hole]
    seen = [Recorder(lambda images, masks: images[:, ::-1] * 0.9) for _ in range(2)]
    options = {"network_px": 64, "largest_hole": 0.2, "window": window, "blend": how}
    first, second = (completion.complete(*pair, hole, **options) for pair in zip(seen, (image, other), strict=True))
    assert (first == second).all()
    assert all((a == b).all() for a, b in zip(seen[0].images, seen[1].images, strict=True))


@pytest.mark.parametrize(("size", "network_px"), [((96, 128), 64), ((90, 130), 64), ((96, 96), 40), ((20, 31), 64)])
def test_a_network_pixel_that_touches_the_hole_is_hole_and_others_are_pure(size, network_px):
    hole = np.random.default_rng(1).random(size) < 0.02
    image = np.where(np.dstack([hole] * 3), np.uint8(255), np.uint8(0))  # known pixels black, hidden ones white
    network = Recorder(plain())
    completion.complete(network, image, hole, network_px=network_px, window="whole")
    (place,) = windows.plan(hole, network_px=network_px, window="whole")
    mask, seen = network.masks[0][0, 0], network.images[0][0]
    assert (seen == -1).all()  # the mean of the known pixels is black, and nothing white came through
    assert min(place.height, place.width) == network_px
    for y in range(place.height):
        for x in range(place.width):
            rows = np.s_[int(y * size[0] / place.height + 1e-9) : int(np.ceil((y + 1) * size[0] / place.height - 1e-9))]
            columns = np.s_[
                int(x * size[1] / place.width + 1e-9) : int(np.ceil((x + 1) * size[1] / place.width - 1e-9))
            ]
            if hole[rows, columns].any():
                assert mask[y, x] == 1
    assert mask[: place.height, : place.width].mean() < 0.75


def test_known_colours_are_averaged_and_the_padding_is_a_reflection():
    image, hole = noise(100, 140), holes_in(100, 140, (40, 40, 60, 60))
    network = Recorder(plain())
    completion.complete(network, image, hole, network_px=50, stride=16, window="whole")
    seen = (network.images[0][0].transpose(1, 2, 0) + 1) * 127.5
    assert seen.shape == (64, 80, 3)
    means = image.reshape(50, 2, 70, 2, 3).mean((1, 3))
    known = network.masks[0][0, 0, :50, :70] == 0
    assert (~known).sum() == 100
    assert np.abs(seen[:50, :70] - means)[known].max() <= 0.51
    assert (seen[50:, :70] == seen[48:34:-1, :70]).all() and (seen[:, 70:] == seen[:, 68:58:-1]).all()
    assert (network.masks[0][0, 0, 50:, :70] == network.masks[0][0, 0, 48:34:-1, :70]).all()


def slope(rows, columns):
    """A picture that is linear in the place (row, column) on the photo, in grey levels."""
    return np.stack(
        [20 + columns * 0.2 + 0 * rows, 30 + rows * 0.2 + 0 * columns, 40 + rows * 0.1 + columns * 0.1], axis=2
    )


@pytest.mark.parametrize(
    ("size", "boxes", "options"),
    [
        ((257, 301), [(60, 60, 190, 200)], {"network_px": 128, "window": "whole"}),
        ((257, 301), [(60, 60, 190, 200)], {"network_px": 150, "window": "whole", "stride": 16}),
        ((33, 47), [(10, 10, 25, 30)], {"network_px": 128, "window": "whole"}),
        ((900, 1000), [(200, 300, 640, 700)], {"network_px": 128}),
        ((900, 1000), [(20, 30, 70, 80), (500, 600, 560, 640)], {"network_px": 128}),
        ((900, 1000), [(200, 10, 215, 900)], {"network_px": 128}),
    ],
)
def test_a_network_that_knows_the_truth_gives_it_back_in_place(size, boxes, options):
    hole = holes_in(*size, *boxes)
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])[None]
    truth = slope(rows, columns)
    image = np.rint(truth).astype(np.uint8)
    image[hole] = 255
    places = iter(windows.plan(hole, **{k: v for k, v in options.items() if k != "stride"}))

    def network(images, masks):
        answer = np.zeros_like(images)
        for one, place in zip(answer, places, strict=False):
            # The centre of network pixel j of n lies at (j + 1/2) / n of the window, minus half a photo pixel.
            scale = (place.bottom - place.top) / place.height, (place.right - place.left) / place.width
            y = place.top + (np.arange(images.shape[2])[:, None] + 0.5) * scale[0] - 0.5
            x = place.left + (np.arange(images.shape[3])[None] + 0.5) * scale[1] - 0.5
            one[:] = (slope(y, x) / 127.5 - 1).transpose(2, 0, 1)
        return answer

    for how in ("paste", "poisson"):
        error = completion.complete(network, image, hole, **options, batch_size=100, blend=how)[hole] - truth[hole]
        assert np.abs(error).max() <= 1.01  # two roundings
        if how == "paste":
            assert np.abs(error.mean(axis=0)).max() < 0.05  # a shift by one pixel would be 0.2
        places = iter(windows.plan(hole, **{k: v for k, v in options.items() if k != "stride"}))


def test_small_holes_are_seen_at_full_resolution_in_the_middle_of_their_window():
    hole = holes_in(1000, 1200, (500, 600, 560, 640), (0, 0, 20, 20))
    corner, inside = sorted(windows.plan(hole, network_px=128), key=lambda place: place.top)
    assert (corner.top, corner.left, corner.bottom, corner.right) == (0, 0, 128, 128)
    assert (inside.top, inside.left, inside.bottom, inside.right) == (466, 556, 594, 684)
    assert (inside.height, inside.width) == (corner.height, corner.width) == (128, 128)
    assert str(inside) == "128 x 128 px at (556, 466), seen as 128 x 128"


def test_a_large_hole_is_scaled_to_the_share_the_network_was_trained_on():
    hole = holes_in(3000, 4000, (1000, 1500, 1400, 1850))  # longest side 400
    (place,) = windows.plan(hole, network_px=128, largest_hole=0.5)
    assert (place.bottom - place.top, place.right - place.left) == (800, 800)
    assert (place.height, place.width) == (128, 128)
    (place,) = windows.plan(hole, network_px=128, largest_hole=0.25)
    assert place.bottom - place.top == 1600 and place.height == 128
    # A hole that leaves no room for its context is seen with the whole photo, and no smaller than that.
    (place,) = windows.plan(holes_in(3000, 4000, (100, 100, 2900, 3900)), network_px=128)
    assert (place.bottom, place.right, place.height, place.width) == (3000, 4000, 128, 171)


def test_photos_of_about_the_networks_size_are_seen_whole():
    for size, seen in (
        ((218, 178), (196, 160)),
        ((320, 427), (160, 214)),
        ((165, 200), (165, 200)),
        ((80, 90), (160, 180)),
    ):
        (place,) = windows.plan(holes_in(*size, (3, 3, 9, 9), (40, 50, 50, 60)), network_px=160)
        assert (place.bottom, place.right) == size and (place.height, place.width) == seen and place.parts == (1, 2)
    assert len(windows.plan(holes_in(322, 427, (3, 3, 9, 9), (300, 400, 309, 409)), network_px=160)) == 2
    (place,) = windows.plan(holes_in(322, 427, (3, 3, 9, 9), (300, 400, 309, 409)), network_px=160, window="whole")
    assert (place.height, place.width) == (160, 212)


def test_photos_are_not_enlarged_to_be_seen_in_part():
    (place,) = windows.plan(holes_in(50, 2000, (10, 900, 40, 930)), network_px=128)
    assert (place.top, place.bottom, place.height, place.width) == (0, 50, 50, 128)


def test_neighbouring_holes_share_a_window_and_distant_ones_do_not():
    near = windows.plan(holes_in(900, 900, (400, 400, 410, 410), (430, 380, 440, 440)), network_px=128)
    assert len(near) == 1 and near[0].core == (400, 380, 440, 440) and near[0].parts == (1, 2)
    far = windows.plan(holes_in(900, 900, (400, 400, 410, 410), (400, 480, 410, 490)), network_px=128)
    assert [place.parts for place in far] == [(1,), (2,)]


def test_another_hole_in_the_window_is_hole_to_the_network():
    hole = holes_in(900, 900, (400, 400, 410, 410), (400, 455, 410, 465))
    network = Recorder(plain())
    completion.complete(network, noise(900, 900), hole, network_px=128, largest_hole=0.3)
    masks = [mask for batch in network.masks for mask in batch]
    assert len(masks) == 2 and all(mask.sum() == 200 for mask in masks)


def test_each_window_fills_its_own_part_only():
    hole = holes_in(900, 900, (200, 200, 600, 600)) & ~holes_in(900, 900, (300, 300, 500, 500))
    speck = holes_in(900, 900, (310, 310, 320, 320))  # inside the ring, so the boxes of both overlap
    levels = iter((0.6, -0.6))

    def network(images, masks):
        return np.stack([np.full(image.shape, next(levels), np.float32) for image in images])

    result = completion.complete(network, noise(900, 900), hole | speck, network_px=128)
    assert (result[hole] == 204).all() and (result[speck] == 51).all()


@pytest.mark.parametrize("upright", [False, True])
def test_a_scratch_is_covered_at_full_resolution_without_seams(upright):
    hole = holes_in(1000, 1500, (500, 20, 512, 1480))
    hole = hole.T.copy() if upright else hole
    places = windows.plan(hole, network_px=128)
    assert len(places) > 20 and all((place.height, place.width) == (128, 128) for place in places)
    levels = iter(np.linspace(-1, 1, len(places)))

    def network(images, masks):
        return np.stack([np.full(image.shape, next(levels), np.float32) for image in images])

    result = completion.complete(network, np.zeros((*hole.shape, 3), np.uint8), hole, network_px=128)[:, :, 0]
    result = (result.T if upright else result)[500:512, 20:1480]
    step = 255 / (len(places) - 1)
    assert (result == result[:1]).all() and result.min() == 0 and result.max() == 255
    assert np.abs(np.diff(result[0].astype(float))).max() < 0.3 * step + 1  # faded over, not cut


def test_many_holes_are_gathered():
    hole = holes_in(1000, 1000, *((y, x, y + 4, x + 4) for y in range(5, 990, 20) for x in range(5, 990, 20)))
    network = Recorder(plain())
    result = completion.complete(network, noise(1000, 1000), hole, network_px=128, batch_size=8)
    assert (result[hole] == PLAIN_LEVEL).all()
    assert sum(len(batch) for batch in network.images) < 500 < hole.sum() / 16  # of 2,500 holes
    assert max(len(batch) for batch in network.images) == 8


def test_photos_share_batches_and_do_not_mix():
    images = [noise(64, 64, 1), noise(300, 200, 2), noise(64, 64, 3), noise(70, 64, 4)]
    holes = [holes_in(*image.shape[:2], (10 + i, 10, 30, 40)) for i, image in enumerate(images)]
    network = Recorder(lambda images, masks: images * (1 - masks) * 0.5 + masks * images.mean((1, 2, 3), keepdims=True))
    together = completion.complete_batch(network, images, holes, network_px=64, batch_size=4)
    assert [len(batch) for batch in network.images] == [3, 1]  # two photos and a window of 64 x 64; one of 72 x 64
    for image, hole, result in zip(images, holes, together, strict=True):
        alone = completion.complete(network, image, hole, network_px=64)
        assert np.abs(alone.astype(int) - result).max() <= 1


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (90, 130), (300, 400)])
def test_a_sketch_goes_through_the_same_windows_as_its_photo(size):
    """The network paints white where it is given lines: they come back where they were drawn, thinned or not."""
    height, width = size
    hole = holes_in(height, width, (10, 12, 30, 36))
    lines = np.zeros(size, bool)
    lines[18:22] = True  # across the whole photo, of which only the hole's part is painted
    given = []

    def network(images, masks, sketches):
        assert sketches.dtype == np.float32 and sketches.shape == masks.shape and set(np.unique(sketches)) <= {0, 1}
        given.append(sketches)
        return np.broadcast_to(np.where(sketches > 0, 1.0, -1.0), images.shape).astype(np.float32)

    options = {"network_px": 64, "stride": 8}
    (done,) = completion.complete_batch(network, [noise(*size)], [hole], sketches=[lines], **options)
    inside = done[12:28, 14:34, 0].astype(int)
    assert (inside[7:9] > 250).all() and (inside[:4] < 5).all() and (inside[13:] < 5).all()
    assert given


def test_inputs_are_left_alone():
    image, hole = noise(90, 80), holes_in(90, 80, (5, 7, 30, 29))
    before = image.copy(), hole.copy()
    for how in ALL:
        completion.complete(plain(), image, hole, network_px=64, blend=how)
    assert (image == before[0]).all() and (hole == before[1]).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"60 x 40 px.*61 x 40 px"):
        completion.complete(plain(), noise(40, 60), np.zeros((40, 61), bool), network_px=32)
    with pytest.raises(UserError, match="float64"):
        completion.complete(plain(), noise(40, 60) / 255, np.zeros((40, 60), bool), network_px=32)
    with pytest.raises(ValueError, match="returned"):
        completion.complete(
            lambda images, masks: images[:, :, 1:], noise(40, 60), np.ones((40, 60), bool), network_px=32
        )


LARGE_PHOTO = """
import json, sys
from pathlib import Path
import numpy as np
from common import completion
image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
hole = np.zeros((3000, 4000), bool)
hole[0:90, 0:100] = hole[1500:1620, 2000:2100] = hole[2900:, 3900:] = True
result = completion.complete(lambda images, masks: images * 0, image, hole, network_px=256, blend=sys.argv[1])
status = Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
print(json.dumps({"peak_mb": peak, "known": bool((result[~hole] == image[~hole]).all()), "size": result.shape}))
"""


@pytest.mark.parametrize("how", ALL)
def test_twelve_megapixels_with_three_small_holes_take_little_memory(how):
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from Linux's /proc")
    root = Path(completion.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", LARGE_PHOTO, how]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    measured = json.loads(printed)
    assert measured["known"] and measured["size"] == [3000, 4000, 3]
    assert measured["peak_mb"] < 1000  # the goal is 3,000 with a real network, which is handed 256 x 256 px
