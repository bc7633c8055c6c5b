"""Any photo, any hole, with networks whose answer is known."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from common.errors import UserError
from common.imaging.transforms import crop_square, to_network
from common.inpainting import blending, pipeline, tiling

ALL = get_args(blending.Blend)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def masks_in(height, width, *boxes):
    mask = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def complete(network, image, mask, **options):
    return pipeline.complete_batch(network, [image], [mask], **options)[0]


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


@pytest.mark.medium
@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_keeps_its_size_and_its_known_pixels(size, how):
    image, mask = noise(*size), masks_in(*size, *SIZES[size])
    network = Recorder(plain())
    result = complete(network, image, mask, network_px=64, stride=8, blend=how)
    assert result.shape == image.shape and result.dtype == np.uint8
    assert (result[~mask] == image[~mask]).all()
    assert all(side % 8 == 0 for images in network.images for side in images.shape[2:])
    if how == "paste":
        assert (result[mask] == PLAIN_LEVEL).all()


@pytest.mark.medium
@pytest.mark.parametrize("window", ["auto", "whole", "mask"])
@pytest.mark.parametrize("size", [(33, 47), (120, 300)])
def test_holes_at_every_edge_and_corner(size, window):
    height, width = size
    rows, columns = ((0, 9), (12, 20), (height - 7, height)), ((0, 8), (14, 25), (width - 9, width))
    for top, bottom in rows:
        for left, right in columns:
            image, mask = noise(*size), masks_in(*size, (top, left, bottom, right))
            for how in ALL:
                result = complete(plain(), image, mask, network_px=32, window=window, blend=how)
                assert (result[~mask] == image[~mask]).all()
            pasted = complete(plain(), image, mask, network_px=32, window=window)
            assert (pasted[mask] == PLAIN_LEVEL).all()


@pytest.mark.parametrize("how", ALL)
def test_empty_hole_returns_the_photo_and_full_hole_is_all_prediction(how):
    image = noise(90, 70)
    network = Recorder(plain())
    assert (complete(network, image, np.zeros((90, 70), bool), network_px=32, blend=how) == image).all()
    assert network.images == []
    full = complete(network, image, np.ones((90, 70), bool), network_px=32, blend=how)
    assert (full == PLAIN_LEVEL).all() and (network.masks[0] == 1).all()
    assert np.abs(network.images[0]).max() < 0.01  # mid-grey


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("window", ["auto", "mask"])
def test_every_pixel_of_any_hole_is_filled(seed, window):
    rng = np.random.default_rng(seed)
    size = rng.integers(20, 400, 2)
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(1, 40)):
        top, left = rng.integers(0, size)
        rows, columns = rng.choice([1, 3, 10, 200]), rng.choice([1, 5, 30, 300])
        mask[top : top + rows, left : left + columns] = True
    result = complete(plain(), noise(*size), mask, network_px=32, window=window)
    assert (result[mask] == PLAIN_LEVEL).all()
    for place in tiling.plan(mask, network_px=32, window=window):
        assert 0 <= place.top < place.bottom <= size[0] and 0 <= place.left < place.right <= size[1]
        assert place.top <= place.core[0] and place.core[2] <= place.bottom
        assert place.left <= place.core[1] and place.core[3] <= place.right
        assert place.height * place.width <= tiling.LARGEST_INPUT * 32**2 * 1.1


@pytest.mark.parametrize("how", ALL)
@pytest.mark.parametrize(("size", "window"), [((90, 80), "whole"), ((40, 30), "whole"), ((300, 400), "mask")])
def test_what_lies_under_the_hole_changes_nothing(size, window, how):
    mask = masks_in(*size, (5, 7, 30, 29), (0, 0, 3, 30), (size[0] - 9, 4, size[0], 22))
    image = noise(*size)
    other = image.copy()
    other[mask] = 255 - other[mask]
    seen = [Recorder(lambda images, masks: images[:, ::-1] * 0.9) for _ in range(2)]
    options = {"network_px": 64, "largest_mask": 0.2, "window": window, "blend": how}
    first, second = (complete(*pair, mask, **options) for pair in zip(seen, (image, other), strict=True))
    assert (first == second).all()
    assert all((a == b).all() for a, b in zip(seen[0].images, seen[1].images, strict=True))


@pytest.mark.parametrize(("size", "network_px"), [((96, 128), 64), ((90, 130), 64), ((96, 96), 40), ((20, 31), 64)])
def test_a_network_pixel_that_touches_the_hole_is_hole_and_others_are_pure(size, network_px):
    mask = np.random.default_rng(1).random(size) < 0.02
    image = np.where(np.dstack([mask] * 3), np.uint8(255), np.uint8(0))  # known pixels black, hidden ones white
    network = Recorder(plain())
    complete(network, image, mask, network_px=network_px, window="whole")
    (place,) = tiling.plan(mask, network_px=network_px, window="whole")
    mask_tensor, seen = network.masks[0][0, 0], network.images[0][0]
    assert (seen == -1).all()  # the mean of the known pixels is black, and nothing white came through
    assert min(place.height, place.width) == network_px
    for y in range(place.height):
        for x in range(place.width):
            rows = np.s_[int(y * size[0] / place.height + 1e-9) : int(np.ceil((y + 1) * size[0] / place.height - 1e-9))]
            columns = np.s_[
                int(x * size[1] / place.width + 1e-9) : int(np.ceil((x + 1) * size[1] / place.width - 1e-9))
            ]
            if mask[rows, columns].any():
                assert mask_tensor[y, x] == 1
    assert mask_tensor[: place.height, : place.width].mean() < 0.75


def test_known_colours_are_averaged_and_the_padding_is_a_reflection():
    image, mask = noise(100, 140), masks_in(100, 140, (40, 40, 60, 60))
    network = Recorder(plain())
    complete(network, image, mask, network_px=50, stride=16, window="whole")
    seen = (network.images[0][0].transpose(1, 2, 0) + 1) * 127.5
    assert seen.shape == (64, 80, 3)
    means = image.reshape(50, 2, 70, 2, 3).mean((1, 3))
    known = network.masks[0][0, 0, :50, :70] == 0
    assert (~known).sum() == 100
    assert np.abs(seen[:50, :70] - means)[known].max() <= 0.51
    assert (seen[50:, :70] == seen[48:34:-1, :70]).all() and (seen[:, 70:] == seen[:, 68:58:-1]).all()
    assert (network.masks[0][0, 0, 50:, :70] == network.masks[0][0, 0, 48:34:-1, :70]).all()


def slope(rows, columns):
    """An image that is linear in the place (row, column) on the photo, in grey levels."""
    return np.stack(
        [20 + columns * 0.2 + 0 * rows, 30 + rows * 0.2 + 0 * columns, 40 + rows * 0.1 + columns * 0.1], axis=2
    )


@pytest.mark.medium
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
    mask = masks_in(*size, *boxes)
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])[None]
    truth = slope(rows, columns)
    image = np.rint(truth).astype(np.uint8)
    image[mask] = 255
    places = iter(tiling.plan(mask, **{k: v for k, v in options.items() if k != "stride"}))

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
        error = complete(network, image, mask, **options, batch_size=100, blend=how)[mask] - truth[mask]
        assert np.abs(error).max() <= 1.01  # two roundings
        if how == "paste":
            assert np.abs(error.mean(axis=0)).max() < 0.05  # a shift by one pixel would be 0.2
        places = iter(tiling.plan(mask, **{k: v for k, v in options.items() if k != "stride"}))


def test_small_holes_are_seen_at_full_resolution_in_the_middle_of_their_window():
    mask = masks_in(1000, 1200, (500, 600, 560, 640), (0, 0, 20, 20))
    corner, inside = sorted(tiling.plan(mask, network_px=128), key=lambda place: place.top)
    assert (corner.top, corner.left, corner.bottom, corner.right) == (0, 0, 128, 128)
    assert (inside.top, inside.left, inside.bottom, inside.right) == (466, 556, 594, 684)
    assert (inside.height, inside.width) == (corner.height, corner.width) == (128, 128)
    assert str(inside) == "128 x 128 px at (556, 466), seen as 128 x 128"


@pytest.mark.medium
def test_a_large_hole_is_scaled_to_the_share_the_network_was_trained_on():
    mask = masks_in(3000, 4000, (1000, 1500, 1400, 1850))  # longest side 400
    (place,) = tiling.plan(mask, network_px=128, largest_mask=0.5)
    assert (place.bottom - place.top, place.right - place.left) == (800, 800)
    assert (place.height, place.width) == (128, 128)
    (place,) = tiling.plan(mask, network_px=128, largest_mask=0.25)
    assert place.bottom - place.top == 1600 and place.height == 128
    # A hole that leaves no room for its context is seen with the whole photo, and no smaller than that.
    (place,) = tiling.plan(masks_in(3000, 4000, (100, 100, 2900, 3900)), network_px=128)
    assert (place.bottom, place.right, place.height, place.width) == (3000, 4000, 128, 171)


def test_photos_of_about_the_networks_size_are_seen_whole():
    for size, seen in (
        ((218, 178), (196, 160)),
        ((320, 427), (160, 214)),
        ((165, 200), (165, 200)),
        ((80, 90), (160, 180)),
    ):
        (place,) = tiling.plan(masks_in(*size, (3, 3, 9, 9), (40, 50, 50, 60)), network_px=160)
        assert (place.bottom, place.right) == size and (place.height, place.width) == seen and place.parts == (1, 2)
    assert len(tiling.plan(masks_in(322, 427, (3, 3, 9, 9), (300, 400, 309, 409)), network_px=160)) == 2
    (place,) = tiling.plan(masks_in(322, 427, (3, 3, 9, 9), (300, 400, 309, 409)), network_px=160, window="whole")
    assert (place.height, place.width) == (160, 212)


# ---- aligned faces

FACE = 218, 178  # height and width of aligned CelebA
CUTS = {"square178": "square178", "center108": "center108", "squash": "squash", "random160": "center"}  # without chance


@pytest.mark.parametrize("times", [1, 2, 4, 0.5])
@pytest.mark.parametrize("crop", CUTS)
def test_the_network_sees_of_a_face_the_very_pixels_that_training_cut(crop, times):
    size = round(FACE[0] * times), round(FACE[1] * times)
    image, mask, network = (
        noise(*size),
        masks_in(*size, (size[0] // 2, size[1] // 3, size[0] * 3 // 5, size[1] // 2)),
        Recorder(plain()),
    )
    complete(network, image, mask, network_px=48, stride=8, crop=crop)
    cut = to_network(crop_square(image, CUTS[crop], 48, np.random.default_rng(0))[None])
    known = np.broadcast_to(network.masks[0] == 0, cut.shape)
    assert len(network.images) == 1 and 0.8 < known.mean() < 1
    assert (network.images[0][known] == cut[known]).all()


def test_other_photos_and_other_crops_and_chosen_windows_are_not_framed():
    for size in ((200, 200), (218, 176), (900, 1000), FACE):
        mask = masks_in(*size, (100, 70, 140, 110))
        for crop, window in (
            ("square178", "auto"),
            ("center", "auto"),
            ("random", "auto"),
            (None, "auto"),
            ("center108", "whole"),
            ("center108", "mask"),
        ):
            if size == FACE and crop == "square178":
                continue
            assert tiling.plan(mask, network_px=96, crop=crop, window=window) == tiling.plan(
                mask, network_px=96, window=window
            )


def test_what_lies_beyond_the_frame_fades_into_it():
    """A band across the face: 127 levels apart, over the 12 px of an eighth of the network's side."""
    mask = masks_in(*FACE, (100, 0, 110, 178))

    def network(images, masks):
        return np.full_like(images, 0.5 if images.shape[2] == images.shape[3] else -0.5)

    result = complete(network, noise(*FACE), mask, network_px=96, crop="center108")[100:110, :, 0].astype(int)
    assert (result == result[:1]).all()
    row = result[0]
    assert (row[:35] == 64).all() and (row[143:] == 64).all()  # center108 cuts columns 35 to 142
    assert (row[47:131] == 191).all()
    assert (np.abs(np.diff(row[34:47]) - 127 / 12) < 1.5).all() and (row[34:47] == row[143:130:-1]).all()


@pytest.mark.parametrize("columns", [(0, 10), (168, 178)])
def test_at_the_photos_own_edge_the_frame_does_not_fade(columns):
    """square178 is as wide as the photo, and cuts rows 20 to 197."""
    mask = masks_in(*FACE, (100, columns[0], 218, columns[1]))

    def network(images, masks):
        return np.full_like(images, 0.5 if images.shape[2] == images.shape[3] else -0.5)

    result = complete(network, noise(*FACE), mask, network_px=96, crop="square178")[:, slice(*columns), 0]
    assert (result[100:186] == 191).all() and (result[198:] == 64).all()


def test_a_hole_beyond_the_frame_gets_windows_as_in_any_photo():
    mask = masks_in(*FACE, (3, 30, 15, 90))
    assert tiling.plan(mask, network_px=96, crop="square178") == tiling.plan(mask, network_px=96)
    both = tiling.plan(mask | masks_in(*FACE, (100, 70, 140, 110)), network_px=96, crop="square178")
    assert [one.framed for one in both] == [True, False] and [one.parts for one in both] == [(2,), (1,)]


@pytest.mark.parametrize("crop", CUTS)
@pytest.mark.parametrize("how", ALL)
def test_framed_faces_keep_their_known_pixels_and_nothing_under_the_hole_is_seen(crop, how):
    image = noise(*FACE)
    mask = masks_in(*FACE, (10, 0, 60, 90), (150, 100, 218, 178), (90, 80, 120, 110)) ^ masks_in(
        *FACE, (200, 120, 210, 160)
    )
    answers = [Recorder(lambda images, masks: images[:, ::-1] * 0.9) for _ in range(2)]
    other = np.where(mask[..., None], 255 - image, image)
    options = {"network_px": 64, "stride": 8, "crop": crop, "blend": how}
    first, second = (complete(*pair, mask, **options) for pair in zip(answers, (image, other), strict=True))
    assert (first == second).all() and (first[~mask] == image[~mask]).all()
    filled = complete(plain(), image, mask, network_px=64, crop=crop)
    assert (filled[mask] == PLAIN_LEVEL).all()


def test_photos_are_not_enlarged_to_be_seen_in_part():
    (place,) = tiling.plan(masks_in(50, 2000, (10, 900, 40, 930)), network_px=128)
    assert (place.top, place.bottom, place.height, place.width) == (0, 50, 50, 128)


def test_neighbouring_holes_share_a_window_and_distant_ones_do_not():
    near = tiling.plan(masks_in(900, 900, (400, 400, 410, 410), (430, 380, 440, 440)), network_px=128)
    assert len(near) == 1 and near[0].core == (400, 380, 440, 440) and near[0].parts == (1, 2)
    far = tiling.plan(masks_in(900, 900, (400, 400, 410, 410), (400, 480, 410, 490)), network_px=128)
    assert [place.parts for place in far] == [(1,), (2,)]


def test_another_hole_in_the_window_is_hole_to_the_network():
    mask = masks_in(900, 900, (400, 400, 410, 410), (400, 455, 410, 465))
    network = Recorder(plain())
    complete(network, noise(900, 900), mask, network_px=128, largest_mask=0.3)
    mask_tensors = [mask_tensor for batch in network.masks for mask_tensor in batch]
    assert len(mask_tensors) == 2 and all(mask_tensor.sum() == 200 for mask_tensor in mask_tensors)


def test_each_window_fills_its_own_part_only():
    mask = masks_in(900, 900, (200, 200, 600, 600)) & ~masks_in(900, 900, (300, 300, 500, 500))
    speck = masks_in(900, 900, (310, 310, 320, 320))  # inside the ring, so the boxes of both overlap
    levels = iter((0.6, -0.6))

    def network(images, masks):
        return np.stack([np.full(image.shape, next(levels), np.float32) for image in images])

    result = complete(network, noise(900, 900), mask | speck, network_px=128)
    assert (result[mask] == 204).all() and (result[speck] == 51).all()


@pytest.mark.parametrize("upright", [False, True])
def test_a_scratch_is_covered_at_full_resolution_without_seams(upright):
    mask = masks_in(1000, 1500, (500, 20, 512, 1480))
    mask = mask.T.copy() if upright else mask
    places = tiling.plan(mask, network_px=128)
    assert len(places) > 20 and all((place.height, place.width) == (128, 128) for place in places)
    levels = iter(np.linspace(-1, 1, len(places)))

    def network(images, masks):
        return np.stack([np.full(image.shape, next(levels), np.float32) for image in images])

    result = complete(network, np.zeros((*mask.shape, 3), np.uint8), mask, network_px=128)[:, :, 0]
    result = (result.T if upright else result)[500:512, 20:1480]
    step = 255 / (len(places) - 1)
    assert (result == result[:1]).all() and result.min() == 0 and result.max() == 255
    assert np.abs(np.diff(result[0].astype(float))).max() < 0.3 * step + 1  # faded over, not cut


def test_many_holes_are_gathered():
    mask = masks_in(1000, 1000, *((y, x, y + 4, x + 4) for y in range(5, 990, 20) for x in range(5, 990, 20)))
    network = Recorder(plain())
    result = complete(network, noise(1000, 1000), mask, network_px=128, batch_size=8)
    assert (result[mask] == PLAIN_LEVEL).all()
    assert sum(len(batch) for batch in network.images) < 500 < mask.sum() / 16  # of 2,500 holes
    assert max(len(batch) for batch in network.images) == 8


def test_photos_share_batches_and_do_not_mix():
    images = [noise(64, 64, 1), noise(300, 200, 2), noise(64, 64, 3), noise(70, 64, 4)]
    masks = [masks_in(*image.shape[:2], (10 + i, 10, 30, 40)) for i, image in enumerate(images)]
    network = Recorder(
        lambda images, mask_tensors: (
            images * (1 - mask_tensors) * 0.5 + mask_tensors * images.mean((1, 2, 3), keepdims=True)
        )
    )
    together = pipeline.complete_batch(network, images, masks, network_px=64, batch_size=4)
    assert [len(batch) for batch in network.images] == [3, 1]  # two photos and a window of 64 x 64; one of 72 x 64
    for image, mask, result in zip(images, masks, together, strict=True):
        alone = complete(network, image, mask, network_px=64)
        assert np.abs(alone.astype(int) - result).max() <= 1


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (90, 130), (300, 400)])
def test_a_sketch_goes_through_the_same_windows_as_its_photo(size):
    """The network paints white where it is given lines: they come back where they were drawn, thinned or not."""
    height, width = size
    mask = masks_in(height, width, (10, 12, 30, 36))
    lines = np.zeros(size, bool)
    lines[18:22] = True  # across the whole photo, of which only the hole's part is painted
    given = []

    def network(images, masks, sketches):
        assert sketches.dtype == np.float32 and sketches.shape == masks.shape and set(np.unique(sketches)) <= {0, 1}
        given.append(sketches)
        return np.broadcast_to(np.where(sketches > 0, 1.0, -1.0), images.shape).astype(np.float32)

    options = {"network_px": 64, "stride": 8}
    (done,) = pipeline.complete_batch(network, [noise(*size)], [mask], sketches=[lines], **options)
    inside = done[12:28, 14:34, 0].astype(int)
    assert (inside[7:9] > 250).all() and (inside[:4] < 5).all() and (inside[13:] < 5).all()
    assert given


def test_inputs_are_left_alone():
    image, mask = noise(90, 80), masks_in(90, 80, (5, 7, 30, 29))
    before = image.copy(), mask.copy()
    for how in ALL:
        complete(plain(), image, mask, network_px=64, blend=how)
    assert (image == before[0]).all() and (mask == before[1]).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"60 x 40 px.*61 x 40 px"):
        complete(plain(), noise(40, 60), np.zeros((40, 61), bool), network_px=32)
    with pytest.raises(UserError, match="float64"):
        complete(plain(), noise(40, 60) / 255, np.zeros((40, 60), bool), network_px=32)
    with pytest.raises(ValueError, match="returned"):
        complete(lambda images, masks: images[:, :, 1:], noise(40, 60), np.ones((40, 60), bool), network_px=32)


LARGE_PHOTO = """
import json, sys
import numpy as np
from benchmarks.worker import peak_megabytes
from common.inpainting import pipeline
image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
hole = np.zeros((3000, 4000), bool)
hole[0:90, 0:100] = hole[1500:1620, 2000:2100] = hole[2900:, 3900:] = True
options = {"network_px": 256, "blend": sys.argv[1]}
(result,) = pipeline.complete_batch(lambda images, masks: images * 0, [image], [hole], **options)
known = bool((result[~hole] == image[~hole]).all())
print(json.dumps({"peak_mb": peak_megabytes(), "known": known, "size": result.shape}))
"""


@pytest.mark.medium
@pytest.mark.parametrize("how", ALL)
def test_twelve_megapixels_with_three_small_holes_take_little_memory(how):
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from Linux's /proc")
    root = Path(pipeline.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", LARGE_PHOTO, how]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    measured = json.loads(printed)
    assert measured["known"] and measured["size"] == [3000, 4000, 3]
    assert measured["peak_mb"] < 1000  # the goal is 3,000 with a real network, which is handed 256 x 256 px


def test_memory_that_runs_out_is_met_with_fewer_windows_and_then_with_smaller_ones(capsys):
    """Fewer windows at once change nothing; a window at half its scale loses detail, and known pixels stay."""
    image, mask = np.random.default_rng(0).integers(0, 256, (64, 200, 3), dtype=np.uint8), np.zeros((64, 200), bool)
    for left in (10, 60, 110, 160):
        mask[20:28, left : left + 8] = True
    seen = []

    def limited(most_pixels):
        def network(pixels, masks):
            seen.append(pixels.shape)
            if len(pixels) * pixels.shape[2] * pixels.shape[3] > most_pixels:
                raise MemoryError("Cannot allocate 1.000000GB memory on GPU 0, …")
            return pixels * 0 + np.arange(pixels.shape[3], dtype=np.float32) / pixels.shape[3]

        seen.clear()
        return complete(network, image, mask, network_px=32, window="mask")

    whole = limited(4 * 32 * 32)
    assert seen == [(4, 3, 32, 32)]
    np.testing.assert_array_equal(limited(2 * 32 * 32), whole)
    assert seen == [(4, 3, 32, 32), (2, 3, 32, 32), (2, 3, 32, 32)]
    smaller = limited(32 * 32 - 1)
    assert seen[2:] == [(1, 3, 32, 32), (1, 3, 16, 16)] + 3 * [(1, 3, 32, 32), (1, 3, 16, 16)]
    np.testing.assert_array_equal(smaller[~mask], image[~mask])
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "note: memory ran out in a batch of 4 windows of 32 x 32 px (1,024 MB more were asked for on GPU 0); going on "
        "with 2 at once"
    )
    assert said[-1].endswith("; computing it at half its scale, with less detail")
    with pytest.raises(UserError, match=r"ran out in a batch of 1 windows of 16 x 16 px \(1,024 MB .*--device cpu"):
        limited(0)
