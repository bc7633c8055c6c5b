"""The objectives of the Context Encoder (Sec. 3.2), one function each. F is the generator, D the discriminator."""

import paddle
from paddle.nn import functional


def reconstruction_loss(predicted, target, mask, known_weight: float):
    """L2 of Eq. 1: mean over pixels and channels of w (F - x)^2, in [-1, 1].

    w is 1 under the mask and known_weight where the network saw the truth: 10 on the ring around the centre
    (Sec. 5.1), 1 for the release's random regions, 0 for Eq. 1 to the letter. Times the reconstruction weight 0.999,
    a pixel counts 0.999 under the mask and 9.99 on the ring (D12).

    Args:
        predicted, target: float32 [N, 3, h, w] in [-1, 1].
        mask: float32 [N, 1, h, w], 1 where the image is missing; the part that belongs to the target.
    """
    return (pixel_weights(mask, known_weight) * paddle.square(predicted - target)).mean()


def pixel_weights(mask, known_weight: float):
    """Weights: 1 under the mask and known_weight around it, in the shape of the mask."""
    return mask + known_weight * (1 - mask)


def discriminator_loss(real_logits, fake_logits):
    """Eq. 2 as D minimises it: -log D(x) and -log(1 - D(F(x))), the cross entropies that the release sums."""
    return functional.softplus(-real_logits).mean(), functional.softplus(fake_logits).mean()


def adversarial_loss(fake_logits):
    """What F minimises against D: -log D(F(x)), as the release and the article do (D6)."""
    return functional.softplus(-fake_logits).mean()
