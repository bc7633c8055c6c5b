"""Contextual attention against loops over queries, patches and pixels in double precision; the colours of offsets."""

import numpy as np
import pytest

from deepfill import attention
from deepfill.attention import attention_offsets, contextual_attention, known_patches, nearest_indices
from deepfill.flow import colour_wheel, flow_colours

import paddle

# Kept places by hand, for the sizes of these tests: round(i (size - 1) / (smaller - 1)), halves up.
KEPT = {
    (2, 1): [0],
    (4, 2): [0, 3],
    (6, 3): [0, 3, 5],
    (8, 4): [0, 2, 5, 7],
    (10, 5): [0, 2, 5, 7, 9],
    (8, 2): [0, 7],
    (16, 4): [0, 5, 10, 15],
    (16, 8): [0, 2, 4, 6, 9, 11, 13, 15],
    (24, 6): [0, 5, 9, 14, 18, 23],
    (32, 8): [0, 4, 9, 13, 18, 22, 27, 31],
    (40, 10): [0, 4, 9, 13, 17, 22, 26, 30, 35, 39],
}


def kept(image, height, width):
    return image[..., KEPT[image.shape[-2], height], :][..., KEPT[image.shape[-1], width]]


def naive(features, mask, fuse=True):
    """One picture: features [C, H, W], mask [H', W'] -> rebuilt features, and the offsets [h, w, 2]."""
    _, height, width = features.shape
    h, w = height // 2, width // 2
    places = [(r, c) for r in range(h) for c in range(w)]
    small = np.pad(kept(features, h, w), ((0, 0), (1, 1), (1, 1)))
    hole = np.pad(kept(kept(mask, height, width), h, w), 1)
    known = np.array([not hole[r : r + 3, c : c + 3].any() for r, c in places], float)
    score = np.zeros((h, w, h, w))
    for r, c in places:
        for i, j in places:
            query, patch = small[:, r : r + 3, c : c + 3], small[:, i : i + 3, j : j + 3]
            score[r, c, i, j] = (query * patch).sum() / max(np.sqrt((patch**2).sum()), 1e-4)
    if fuse:
        rows = lambda r, c, by: divmod(r * w + c + by, w)  # noqa: E731
        columns = lambda r, c, by: divmod(c * h + r + by, h)[::-1]  # noqa: E731
        inside = lambda r, c: 0 <= r < h and 0 <= c < w  # noqa: E731
        for order in (rows, columns):
            fused = np.zeros_like(score)
            for r, c in places:
                for i, j in places:
                    for by in (-1, 0, 1):
                        query, patch = order(r, c, by), order(i, j, by)
                        if inside(*query) and inside(*patch):
                            fused[r, c, i, j] += score[query + patch]
            score = fused
    made, offsets = np.zeros((features.shape[0], height + 2, width + 2)), np.zeros((h, w, 2), int)
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    for r, c in places:
        exponents = np.exp(10 * known * score[r, c].ravel())
        weights = exponents / exponents.sum() * known
        offsets[r, c] = np.subtract(places[int(weights.argmax())], (r, c))
        for weight, (i, j) in zip(weights, places, strict=True):
            source = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            made[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] += weight * source / 4
    return made[:, 1:-1, 1:-1], offsets


def scene(height, width, seed=0, channels=3):
    """Two feature maps that are half zero, as after a ReLU, and different holes of four times their size."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(2, channels, height, width)), 0) * 0.4
    mask = np.zeros((2, 1, 4 * height, 4 * width))
    mask[0, :, : 2 * height, : 2 * width] = 1
    mask[1, :, -5:, -7:] = 1
    return features, mask


def tensors(*arrays):
    return [paddle.to_tensor(array) for array in arrays]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (10, 4), (2, 8), (8, 2), (2, 2)])
def test_equals_the_loops(size, fuse):
    features, mask = scene(*size)
    pairs = [naive(each, hole[0], fuse) for each, hole in zip(features, mask, strict=True)]
    wanted, offsets = (np.stack(parts) for parts in zip(*pairs, strict=True))
    assert np.abs(wanted).max() > 0.1
    for chunk in (0, 1, 2, 5):
        inputs = tensors(features, mask)
        np.testing.assert_allclose(contextual_attention(*inputs, fuse, chunk).numpy(), wanted, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(attention_offsets(*inputs, fuse, chunk).numpy(), offsets)
    single = tensors(features.astype(np.float32), mask.astype(np.float32))
    np.testing.assert_allclose(contextual_attention(*single, fuse).numpy(), wanted, rtol=0, atol=1e-5)


def test_faint_patches_are_not_blown_up():
    """Patches shorter than 1e-4 are divided by that, and so score less than their direction alone would."""
    features, _ = scene(8, 8)
    features[:, :, :, :5] *= 3e-5
    wanted = np.stack([naive(each, np.zeros((32, 32)))[0] for each in features])
    made = contextual_attention(*tensors(features, np.zeros((2, 1, 32, 32)))).numpy()
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-9)


def test_each_picture_has_its_own_mask():
    features, mask = scene(8, 8)
    features[1] = features[0]
    both = contextual_attention(*tensors(features, mask)).numpy()
    assert np.abs(both[0] - both[1]).max() > 0.01
    for n in range(2):
        alone = contextual_attention(*tensors(features[n : n + 1], mask[n : n + 1])).numpy()[0]
        np.testing.assert_allclose(both[n], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fuse", [True, False])
def test_nothing_known_gives_zero_and_finite_gradients(fuse):
    features, mask = scene(8, 6)
    features, mask = tensors(features, np.ones_like(mask))
    features.stop_gradient = False
    made = contextual_attention(features, mask, fuse)
    assert not made.numpy().any()
    made.sum().backward()
    assert np.isfinite(features.grad.numpy()).all()
    zeros = contextual_attention(paddle.zeros_like(features), paddle.zeros_like(mask), fuse)
    assert not zeros.numpy().any()


@pytest.mark.parametrize("fuse", [True, False])
def test_gradients_are_right_and_the_same_for_every_chunk(fuse):
    arrays, direction = scene(8, 10, channels=2), scene(8, 10, seed=1, channels=2)[0]
    gradients = []
    for chunk in (0, 1, 2, 5):
        features, mask = tensors(*arrays)
        features.stop_gradient = False
        (contextual_attention(features, mask, fuse, chunk) * paddle.to_tensor(direction)).sum().backward()
        gradients.append(features.grad.numpy())
        np.testing.assert_allclose(gradients[-1], gradients[0], rtol=0, atol=1e-12)
    step = np.random.default_rng(2).normal(size=arrays[0].shape) * 1e-5
    low, high = (
        (contextual_attention(*tensors(arrays[0] + sign * step, arrays[1]), fuse).numpy() * direction).sum()
        for sign in (-1, 1)
    )
    assert (high - low) / 2 == pytest.approx((gradients[0] * step).sum(), rel=1e-5)


def test_chunks_keep_to_the_bound(monkeypatch):
    """No more scores at once than allowed, but for two rows, and in the end the same result."""
    features, mask = tensors(*scene(16, 10))
    whole = contextual_attention(features, mask).numpy()
    assert len(attention._spans(features, 0)) == 1
    row = 2 * 5 * 8 * 5  # two pictures, 5 queries in a row, 8 x 5 patches
    for allowed, rows in ((8 * row, 8), (7 * row, 5), (6 * row, 4), (row, 2)):
        monkeypatch.setattr(attention, "SCORES_AT_ONCE", allowed)
        spans = attention._spans(features, 0)
        assert [bottom - top for top, bottom, _ in spans][:-1] == [rows] * (len(spans) - 1)
        assert spans[0][:2] == (0, rows) and spans[-1][1] == 8 and len(spans) == -(-8 // rows)
        np.testing.assert_allclose(contextual_attention(features, mask).numpy(), whole, rtol=0, atol=1e-12)


def test_which_places_are_kept():
    assert nearest_indices(64, 32).tolist() == [*range(0, 32, 2), *range(33, 64, 2)]
    for (size, smaller), places in KEPT.items():
        assert nearest_indices(size, smaller).tolist() == places
    for size, smaller in ((256, 64), (170, 85), (680, 170), (54, 27)):  # TensorFlow: roundf(i * float(scale))
        scale = np.float32(size - 1) / np.float32(smaller - 1)
        wanted = [int(np.floor(float(np.float32(i) * scale) + 0.5)) for i in range(smaller)]
        assert nearest_indices(size, smaller).tolist() == wanted


def test_the_mask_is_reduced_in_two_steps():
    """256 px: the steps 256 -> 64 -> 32 keep other pixels than one step would."""
    in_one, in_two = nearest_indices(256, 32).numpy(), nearest_indices(256, 64).numpy()[nearest_indices(64, 32).numpy()]
    assert (in_one != in_two).sum() == 24
    for pixel, seen in ((in_two[5], True), (in_one[5], False)):
        mask = np.zeros((1, 1, 256, 256), np.float32)
        mask[:, :, pixel, in_two[9]] = 1
        known = known_patches(paddle.to_tensor(mask), 64, 64).numpy().reshape(32, 32)
        missing = np.argwhere(known == 0).tolist()
        assert missing == ([[r, c] for r in (4, 5, 6) for c in (8, 9, 10)] if seen else [])


def test_a_repeated_texture_is_found_again():
    """A map that repeats itself every 8 places: the hole is rebuilt as it was, from whole periods away."""
    period = np.maximum(np.random.default_rng(3).normal(size=(1, 16, 8, 8)), 0)
    features = np.tile(period, (1, 1, 4, 4))
    mask = np.zeros((1, 1, 32, 32))
    mask[:, :, 12:20, 12:20] = 1
    inner = np.s_[:, :, 12:20, 12:20]
    # The kept places are 0, 2, …, 14, 17, …: not quite periodic. Evenly kept ones are.
    even = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "nearest_indices", lambda size, smaller: paddle.to_tensor(even[:: 16 // smaller]))
        patch.setattr(attention, "known_patches", lambda mask, *_: _known(mask))
        made = contextual_attention(*tensors(features, mask), fuse=False).numpy()
        offsets = attention_offsets(*tensors(features, mask), fuse=False).numpy()[0]
    np.testing.assert_allclose(made[inner], features[inner], atol=1e-3)
    assert (offsets[6:10, 6:10] % 4 == 0).all() and np.abs(offsets[6:10, 6:10]).max(-1).min() >= 4


def _known(mask):
    small = mask.numpy()[0, 0, ::2, ::2]
    wide = np.pad(small, 1)
    known = [[not wide[r : r + 3, c : c + 3].any() for c in range(16)] for r in range(16)]
    return paddle.to_tensor(np.array(known, np.float64).reshape(1, 1, -1))


def test_colours_of_offsets():
    """Hues in Middlebury's order and numbers of steps; white where nothing moves."""
    wheel = colour_wheel()
    assert wheel.shape == (15 + 6 + 4 + 11 + 13 + 6, 3)
    starts = [0, 15, 21, 25, 36, 49]
    pure = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    np.testing.assert_array_equal(wheel[starts], pure)
    assert (wheel.max(1) == 255).all() and np.abs(np.diff(wheel, axis=0)).max() == pytest.approx(255 / 4)
    offsets = np.array([[[0, 0], [0, 4], [0, -4], [0, 2], [4, 0], [-4, 0]]])
    none, right, left, near, below, above = flow_colours(offsets)[0].tolist()
    assert none == [255, 255, 255] and right == [255, 0, 0] and near == [255, 128, 128]
    assert left[0] == 0 and left[2] == 255 and below[2] == 0 and below[:2] >= [240, 200] and above[2] == 255
    assert flow_colours(np.zeros((3, 5, 2))).min() == 255
