"""The objectives, one function each: those of DCGAN's training, and those of the search for z.

G(z) is generated, y the image. The paper's mask M is 1 where y is known. The suite's is 1 where y is missing, so that
here M = 1 - mask. The losses of the search are given per image: each z is searched for its own.
"""

from dcgan_completion.search_settings import PerceptualForm

import paddle
from paddle.nn import functional

# ---- training


def discriminator_loss(real_logits, fake_logits):
    """What D minimises the sum of, as the article adds them: the means of -log D(y) and of -log(1 - D(G(z)))."""
    return functional.softplus(-real_logits).mean(), functional.softplus(fake_logits).mean()


def generator_loss(fake_logits):
    """What G minimises: -log D(G(z)) (the article's `g_loss`)."""
    return functional.softplus(-fake_logits).mean()


# ---- search


def contextual_loss(generated, image, mask, weight=None):
    """L1 distance of the known pixels: || M * (G(z) - y) ||_1 (article), || W * (G(z) - y) ||_1 (CVPR paper).

    Colours under the mask are ignored. The sum is over all pixels and channels, 12,288 values for 64 px: the weights
    of the perceptual loss are balanced against that.

    Args:
        generated, image: float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W], 1 where the image is missing.
        weight: float32 [N, 1, H, W], the W of the paper, see `importance_weights`; None weighs known pixels alike.

    Returns:
        float32 [N].
    """
    known = 1 - mask if weight is None else weight
    return paddle.abs(known * (generated - image)).sum([1, 2, 3])


def importance_weights(mask, window: int = 7):
    """The W of the CVPR paper: a known pixel weighs the missing fraction of its neighbourhood.

    W_i = the mean of 1 - M over the window x window pixels around i if M_i = 1, else 0. At the image's edge the mean
    is over the neighbours that exist (D6). Pixels farther than (window - 1) / 2 from the mask weigh 0.

    Args:
        mask: float32 [N, 1, H, W], 1 where the image is missing.
        window: odd side of the neighbourhood; 7 in the paper.

    Returns:
        float32 [N, 1, H, W] in [0, 1).
    """
    missing = functional.avg_pool2d(mask, window, stride=1, padding=window // 2, exclusive=True)
    return (1 - mask) * missing


def lowres_loss(generated, image, factor: int = 8):
    """Super-resolution: the L1 distance of the means of factor x factor blocks, a sum over blocks and channels.

    Args:
        generated, image: float32 [N, 3, H, W] in [-1, 1], H and W multiples of `factor`. Only the means of the
            image are used, so that a small image upsampled by repeating its pixels will do.

    Returns:
        float32 [N].
    """
    small = functional.avg_pool2d(generated - image, factor, stride=factor)
    return paddle.abs(small).sum([1, 2, 3])


def perceptual_loss(logits, form: PerceptualForm = "non-saturating"):
    """How unrealistic G(z) is: -log D(G(z)) of all the codes, or log(1 - D(G(z))) of the papers (D2).

    Added to the contextual loss with its weight lambda. The codes add the batch's mean to every image's loss, and
    their gradient of the sum over the batch gives each image lambda again: so does this without the mean (D7).

    Args:
        logits: float32 [N, 1].

    Returns:
        float32 [N]; the second form is negative.
    """
    logits = logits.reshape([-1])
    return functional.softplus(-logits) if form == "non-saturating" else -functional.softplus(logits)
