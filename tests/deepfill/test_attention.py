"""Contextual attention, plain and fast, against loops in double precision and each other; the colours of offsets."""

from typing import get_args

import numpy as np
import pytest

from deepfill import attention, fast
from deepfill.attention import known_patches, nearest_indices
from deepfill.fast import attention_offsets, contextual_attention
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
    (32, 4): [0, 10, 21, 31],
    (40, 5): [0, 10, 20, 29, 39],
    (40, 10): [0, 4, 9, 13, 17, 22, 26, 30, 35, 39],
}


def kept(image, height, width, strided=False):
    if strided:
        return image[..., :: image.shape[-2] // height, :: image.shape[-1] // width]
    return image[..., KEPT[image.shape[-2], height], :][..., KEPT[image.shape[-1], width]]


def naive(features, mask, fuse=True, normalise="patch", downsample="two-step"):
    """One image: features [C, H, W], mask [H', W'] -> rebuilt features, and the offsets [h, w, 2]."""
    _, height, width = features.shape
    h, w = height // 2, width // 2
    places = [(r, c) for r in range(h) for c in range(w)]
    small = np.pad(kept(features, h, w, downsample == "strided"), ((0, 0), (1, 1), (1, 1)))
    mask = kept(mask, height, width) if downsample == "two-step" else mask
    hidden = np.pad(kept(mask, h, w, downsample == "strided"), 1)
    channels = sum((small[:, i : i + 3, j : j + 3] ** 2).sum((1, 2)) for i, j in places)  # of all patches
    known = np.array([not hidden[r : r + 3, c : c + 3].any() for r, c in places], float)
    score = np.zeros((h, w, h, w))
    for r, c in places:
        for i, j in places:
            query, patch = small[:, r : r + 3, c : c + 3], small[:, i : i + 3, j : j + 3]
            squares = channels if normalise == "channel" else (patch**2).sum()
            lengths = np.maximum(np.sqrt(squares), 1e-4)
            score[r, c, i, j] = ((query * patch).sum((1, 2)) / lengths).sum()
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
    """Two feature maps that are half zero, as after a ReLU, and different masks of four times their size."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(2, channels, height, width)), 0) * 0.4
    mask = np.zeros((2, 1, 4 * height, 4 * width))
    mask[0, :, : 2 * height, : 2 * width] = 1
    mask[1, :, -5:, -7:] = 1
    return features, mask


def tensors(*arrays):
    return [paddle.to_tensor(array) for array in arrays]


BOTH = pytest.mark.parametrize("compute", [attention.contextual_attention, contextual_attention], ids=["plain", "fast"])
OTHERS = [  # how other codes than the release compute, each alone and joined
    {"normalise": "channel"},
    {"downsample": "one-step"},
    {"downsample": "strided"},
    {"normalise": "channel", "downsample": "strided"},
]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("others", OTHERS)
def test_other_codes_equal_the_loops(others, fuse):
    features, mask = scene(8, 10)
    mask[0, :, :, 17] = mask[1, :, 21] = 1  # one step keeps column 17 and row 21, two steps 18 and 22
    inputs, usual = tensors(features, mask), contextual_attention(*tensors(features, mask), fuse).numpy()
    pairs = [naive(each, one[0], fuse, **others) for each, one in zip(features, mask, strict=True)]
    wanted, offsets = (np.stack(parts) for parts in zip(*pairs, strict=True))
    assert np.abs(wanted - usual).max() > 0.01
    np.testing.assert_allclose(attention.contextual_attention(*inputs, fuse, **others), wanted, rtol=0, atol=1e-9)
    for chunk in (0, 1):
        np.testing.assert_allclose(contextual_attention(*inputs, fuse, chunk, **others), wanted, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(attention_offsets(*inputs, fuse, chunk, **others).numpy(), offsets)


@pytest.mark.medium
@pytest.mark.parametrize("others", OTHERS[2:])
def test_other_codes_traced_with_free_sizes(others):
    """As they are exported: one program for sides that are not known when it is made."""

    class Attention(paddle.nn.Layer):
        def forward(self, features, mask):
            return contextual_attention(features, mask, **others)

    free = [paddle.static.InputSpec([None, channels, None, None], "float32") for channels in (3, 1)]
    traced = paddle.jit.to_static(Attention(), input_spec=free, full_graph=True)
    for size in ((8, 10), (6, 8)):
        inputs = [paddle.to_tensor(array.astype(np.float32)) for array in scene(*size)]
        wanted = contextual_attention(*inputs, **others).numpy()
        np.testing.assert_allclose(traced(*inputs).numpy(), wanted, rtol=0, atol=1e-5)


@BOTH
def test_channels_without_features_stay_finite(compute):
    """A channel that is zero everywhere is divided by 1e-4, and has no gradient that is not finite."""
    features, mask = scene(8, 6)
    features[:, 1] = 0
    features, mask = tensors(features, mask)
    features.stop_gradient = False
    compute(features, mask, normalise="channel").sum().backward()
    assert np.isfinite(features.grad.numpy()).all() and features.grad.numpy().any()


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (10, 4), (2, 8), (8, 2), (2, 2)])
def test_equals_the_loops(size, fuse):
    features, mask = scene(*size)
    pairs = [naive(each, one[0], fuse) for each, one in zip(features, mask, strict=True)]
    wanted, offsets = (np.stack(parts) for parts in zip(*pairs, strict=True))
    assert np.abs(wanted).max() > 0.1
    inputs = tensors(features, mask)
    np.testing.assert_allclose(attention.contextual_attention(*inputs, fuse).numpy(), wanted, rtol=0, atol=1e-9)
    for chunk in (0, 1, 2, 5):
        np.testing.assert_allclose(contextual_attention(*inputs, fuse, chunk).numpy(), wanted, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(attention_offsets(*inputs, fuse, chunk).numpy(), offsets)
    single = tensors(features.astype(np.float32), mask.astype(np.float32))
    np.testing.assert_allclose(contextual_attention(*single, fuse).numpy(), wanted, rtol=0, atol=1e-5)


@BOTH
def test_faint_patches_are_not_blown_up(compute):
    """Patches shorter than 1e-4 are divided by that, and so score less than their direction alone would."""
    features, _ = scene(8, 8)
    features[:, :, :, :5] *= 3e-5
    wanted = np.stack([naive(each, np.zeros((32, 32)))[0] for each in features])
    made = compute(*tensors(features, np.zeros((2, 1, 32, 32)))).numpy()
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-9)


@BOTH
def test_each_picture_has_its_own_mask(compute):
    features, mask = scene(8, 8)
    features[1] = features[0]
    both = compute(*tensors(features, mask)).numpy()
    assert np.abs(both[0] - both[1]).max() > 0.01
    for n in range(2):
        alone = compute(*tensors(features[n : n + 1], mask[n : n + 1])).numpy()[0]
        np.testing.assert_allclose(both[n], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fuse", [True, False])
@BOTH
def test_nothing_known_gives_zero_and_finite_gradients(fuse, compute):
    features, mask = scene(8, 6)
    features, mask = tensors(features, np.ones_like(mask))
    features.stop_gradient = False
    made = compute(features, mask, fuse)
    assert not made.numpy().any()
    made.sum().backward()
    assert np.isfinite(features.grad.numpy()).all()
    zeros = compute(paddle.zeros_like(features), paddle.zeros_like(mask), fuse)
    assert not zeros.numpy().any()


@pytest.mark.parametrize("size", [(8, 10), (10, 4), (2, 8), (8, 2)])
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("normalise", get_args(attention.Normalise))
@pytest.mark.parametrize("downsample", get_args(attention.Downsample))
def test_the_fast_attention_is_the_plain_one(size, fuse, normalise, downsample):
    """Outputs and gradients, whatever is computed at once."""
    (array, mask), slope = scene(*size), scene(*size, seed=1)[0]

    def output_and_gradient(compute, **chunk):
        features, missing = tensors(array, mask)
        features.stop_gradient = False
        made = compute(features, missing, fuse=fuse, normalise=normalise, downsample=downsample, **chunk)
        (made * paddle.to_tensor(slope)).sum().backward()
        return made.numpy(), features.grad.numpy()

    wanted = output_and_gradient(attention.contextual_attention)
    assert all(np.abs(each).max() > 0.01 for each in wanted)
    for chunk in (0, 1, 2, 3):
        for made, plain in zip(output_and_gradient(contextual_attention, chunk=chunk), wanted, strict=True):
            np.testing.assert_allclose(made, plain, rtol=0, atol=1e-11)


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
    assert len(fast._spans(features, 0)) == 1
    row = 2 * 5 * 8 * 5  # two images, 5 queries in a row, 8 x 5 patches
    for allowed, rows in ((8 * row, 8), (7 * row, 5), (6 * row, 4), (row, 2)):
        monkeypatch.setattr(fast, "SCORES_AT_ONCE", allowed)
        spans = fast._spans(features, 0)
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
        for module in (attention, fast):
            patch.setattr(module, "known_patches", lambda mask, *_: _known(mask))
        made = attention.contextual_attention(*tensors(features, mask), fuse=False).numpy()
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
