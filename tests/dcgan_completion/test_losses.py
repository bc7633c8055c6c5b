"""The objectives against numbers worked out by hand, and loops."""

import math

import numpy as np
import pytest

from dcgan_completion import losses

import paddle


def logits(*probabilities):
    return paddle.to_tensor(np.float32([[math.log(p / (1 - p))] for p in probabilities]))


def center_mask(side=64, count=1):
    mask = np.zeros((count, 1, side, side), np.float32)
    mask[:, :, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
    return paddle.to_tensor(mask)


# ---- training


def test_training_losses_at_known_probabilities():
    """The discriminator's is a sum of two means, not their mean."""
    real, fake = logits(0.8, 0.5), logits(0.3, 0.1)
    expected = -(math.log(0.8) + math.log(0.5)) / 2 - (math.log(0.7) + math.log(0.9)) / 2
    assert float(sum(losses.discriminator_loss(real, fake))) == pytest.approx(expected, rel=1e-6)
    assert float(losses.generator_loss(fake)) == pytest.approx(-(math.log(0.3) + math.log(0.1)) / 2, rel=1e-6)


def test_no_overflow_for_certain_judges():
    far = paddle.to_tensor([[200.0]])
    assert float(sum(losses.discriminator_loss(-far, far))) == pytest.approx(400)
    assert float(losses.generator_loss(-far)) == pytest.approx(200)
    for form in ("non-saturating", "minimax"):
        assert np.isfinite(losses.perceptual_loss(paddle.to_tensor([[200.0], [-200.0]]), form).numpy()).all()


# ---- contextual


def test_contextual_loss_sums_what_is_known_for_each_picture():
    """Centre hole of 16 px: 192 known pixels of 256, three channels; off by 0.5 in one image, 0.25 in the other."""
    mask, image = center_mask(16, 2), paddle.zeros([2, 3, 16, 16])
    off = paddle.to_tensor(np.float32([0.5, -0.25]).reshape(2, 1, 1, 1))
    generated = off * (1 - mask) + 7 * mask
    loss = losses.contextual_loss(generated.expand([2, 3, 16, 16]), image, mask)
    assert loss.shape == [2] and loss.numpy() == pytest.approx([192 * 3 * 0.5, 192 * 3 * 0.25])


def test_contextual_loss_counts_12288_numbers_where_all_is_known():
    loss = losses.contextual_loss(
        paddle.ones([1, 3, 64, 64]), paddle.zeros([1, 3, 64, 64]), paddle.zeros([1, 1, 64, 64])
    )
    assert loss.item() == 12_288


def test_contextual_loss_with_weights():
    """Two pixels weigh 0.5 and 0.25; errors of 2 in each of three channels, and anything elsewhere."""
    mask, weight = center_mask(16), np.zeros((1, 1, 16, 16), np.float32)
    weight[0, 0, 0, 0], weight[0, 0, 3, 5] = 0.5, 0.25
    loss = losses.contextual_loss(
        paddle.full([1, 3, 16, 16], 2.0), paddle.zeros([1, 3, 16, 16]), mask, paddle.to_tensor(weight)
    )
    assert loss.item() == pytest.approx(3 * 2 * 0.75)


def test_colours_under_the_hole_are_not_looked_at():
    mask, image, generated = center_mask(32), paddle.rand([1, 3, 32, 32]), paddle.rand([1, 3, 32, 32])
    for weight in (None, losses.importance_weights(mask)):
        one = losses.contextual_loss(generated, image, mask, weight)
        two = losses.contextual_loss(generated, image * (1 - mask) + 9 * mask, mask, weight)
        assert one.item() == two.item() > 0


# ---- importance weights


@pytest.mark.parametrize("window", [3, 7, 15])
def test_importance_weights_equal_a_loop(window):
    """The mean over the neighbours that lie in the image, of one random and one border-touching hole."""
    rng, reach = np.random.default_rng(0), window // 2
    masks = np.stack([rng.random((1, 20, 17)) < 0.3, np.zeros((1, 20, 17))]).astype(np.float32)
    masks[1, 0, :6, 9:] = 1
    expected = np.zeros_like(masks)
    for n, _, i, j in np.ndindex(*masks.shape):
        around = masks[n, 0, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
        expected[n, 0, i, j] = 0 if masks[n, 0, i, j] else around.mean()
    np.testing.assert_allclose(losses.importance_weights(paddle.to_tensor(masks), window).numpy(), expected, atol=1e-6)


def test_importance_weights_of_the_centre_hole_are_a_ring():
    """Spec, section 3: of 64 x 64 with a 32 x 32 hole only 38^2 - 32^2 = 420 pixels count."""
    weight = losses.importance_weights(center_mask()).numpy()[0, 0]
    rows, columns = np.nonzero(weight)
    assert len(rows) == 38**2 - 32**2 == 420
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 50, 13, 50)
    assert not weight[16:48, 16:48].any()
    assert weight[30, 15] == pytest.approx(21 / 49)  # beside the hole: three columns of seven
    assert weight[30, 13] == pytest.approx(7 / 49) and weight[13, 13] == pytest.approx(1 / 49)


def test_importance_weights_without_a_hole_and_with_nothing_else():
    assert not losses.importance_weights(paddle.zeros([1, 1, 16, 16])).numpy().any()
    assert not losses.importance_weights(paddle.ones([1, 1, 16, 16])).numpy().any()


# ---- lowres


def test_lowres_loss_compares_block_means():
    """16 px: four blocks of 8 x 8 a channel. Changes that keep a block's mean do not count; +3 on one pixel is 3/64."""
    image = np.random.default_rng(0).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    generated = image.copy()
    generated[0, :, 0, 0] += 0.5
    generated[0, :, 7, 7] -= 0.5
    generated[1, 1, 9, 3] += 3
    generated[1, 2, 3, 9] -= 3
    loss = losses.lowres_loss(paddle.to_tensor(generated), paddle.to_tensor(image)).numpy()
    assert loss == pytest.approx([0, 6 / 64], abs=1e-5)


def test_lowres_loss_of_a_small_picture_enlarged_by_repetition():
    rng = np.random.default_rng(1)
    image = rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    small = image.reshape(1, 3, 8, 8, 8, 8).mean((3, 5))
    enlarged, generated = small.repeat(8, 2).repeat(8, 3), paddle.rand([1, 3, 64, 64])
    one, two = (losses.lowres_loss(generated, paddle.to_tensor(given)).item() for given in (image, enlarged))
    assert one == pytest.approx(two, rel=1e-5) and one > 1


# ---- perceptual


def test_perceptual_loss_of_each_picture():
    given = logits(0.3, 0.9)
    assert losses.perceptual_loss(given).numpy() == pytest.approx([-math.log(0.3), -math.log(0.9)], rel=1e-5)
    assert losses.perceptual_loss(given, "minimax").numpy() == pytest.approx([math.log(0.7), math.log(0.1)], rel=1e-5)


def test_gradients_of_the_two_forms():
    """d(-log D)/dlogit = D - 1 and d log(1 - D)/dlogit = -D: both raise D, and none is divided by the batch's size."""
    for form, expected in (("non-saturating", [-0.7, -0.1]), ("minimax", [-0.3, -0.9])):
        given = logits(0.3, 0.9)
        given.stop_gradient = False
        losses.perceptual_loss(given, form).sum().backward()
        assert given.grad.numpy()[:, 0] == pytest.approx(expected, rel=1e-5)
