"""The objectives of DeepFill v2, one function each (Sec. 3.4). G is the generator, D the discriminator."""

import paddle
from paddle.nn import functional


def reconstruction_loss(image, coarse, refined, mask, known_weight: float = 1.0):
    """The L1 losses of both stages, summed: mean over all pixels and channels of w |x - x1| + w |x - x2|.

    w is 1 under the mask and known_weight around it. The release has 1: the stages' own outputs are judged everywhere,
    not only where they are pasted.

    Args:
        image: the truth x, float32 [N, 3, H, W] in [-1, 1].
        coarse, refined: x1 and x2 in the same form, not composited.
        mask: float32 [N, 1, H, W], 1 where the image is missing.
    """
    error = paddle.abs(image - coarse) + paddle.abs(image - refined)
    if known_weight != 1:
        error = error * (mask + known_weight * (1 - mask))
    return error.mean()


def discriminator_loss(real_logits, fake_logits):
    """The hinge loss that D minimises, in two parts: half the mean of max(0, 1 - D(x)), and of max(0, 1 + D(G(z))).

    The means are over images and all of D's outputs. The paper (Eq. 2) and the article leave out the halves, the
    release has them.
    """
    return 0.5 * functional.relu(1 - real_logits).mean(), 0.5 * functional.relu(1 + fake_logits).mean()


def adversarial_loss(fake_logits):
    """What G minimises against D: -D(G(z)), its mean over images and outputs."""
    return -fake_logits.mean()
