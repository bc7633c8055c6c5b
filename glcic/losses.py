"""The objectives of GLCIC (Sec. 3.4), one function each. C is the completion network, D the discriminators."""

import paddle
from paddle.nn import functional


def completion_loss(completed, image, mask, norm: str = "mse"):
    """Weighted MSE, Eq. 2: || M * (C(x, M) - x) ||^2, with M = 1 where the image is missing.

    The norm is written as a mean over all pixels and channels of the image, on the [0, 1] scale, so that the weight
    alpha = 4e-4 of the adversarial term means the same at every image size (D9).

    Args:
        completed, image: float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W].
        norm: `mse` is Eq. 2; `l1` takes the absolute value in place of the square (D17).
    """
    if norm == "l1":
        return ((completed - image) * mask).abs().mean() / 2
    return paddle.square((completed - image) * mask).mean() / 4


def discriminator_loss(real_logits, fake_logits):
    """Eq. 3 as D minimises it, the sum of two parts: -log D(x) and -log(1 - D(C(x, M)))."""
    return _minus_log_d(real_logits), _minus_log_one_minus_d(fake_logits)


def adversarial_loss(fake_logits, minimax: bool = False):
    """What C minimises against D: -log D(C(x, M)) (D8), or with minimax log(1 - D(C(x, M))) as Eq. 4 has it."""
    return -_minus_log_one_minus_d(fake_logits) if minimax else _minus_log_d(fake_logits)


def _minus_log_d(logits):
    return functional.softplus(-logits).mean()


def _minus_log_one_minus_d(logits):
    return functional.softplus(logits).mean()
