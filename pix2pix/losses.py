"""The objectives of pix2pix (Sec. 3.1), one function each. G is the generator, D the discriminator, y the truth."""

from pix2pix.config import GanMode

import paddle
from paddle.nn import functional


def l1_loss(fake, real):
    """Eq. 3: || y - G(x) ||_1, as a mean over pixels and channels of [-1, 1]."""
    return paddle.abs(real - fake).mean()


def discriminator_loss(real_logits, fake_logits, mode: GanMode = "vanilla"):
    """What D minimises, Eq. 1 (or 2 when D does not see x), halved to slow D down against G (Sec. 3.3, D3).

    It is the sum of two parts, which are returned. vanilla: -log D(y) / 2 and -log(1 - D(G(x))) / 2; lsgan:
    (D(y) - 1)^2 / 2 and D(G(x))^2 / 2; wgan-gp: -D(y) and D(G(x)), not halved, to which `gradient_penalty` belongs.
    Means over all patches.
    """
    if mode == "wgan-gp":
        return -real_logits.mean(), fake_logits.mean()
    return _towards(real_logits, 1, mode) / 2, _towards(fake_logits, 0, mode) / 2


def adversarial_loss(fake_logits, mode: GanMode = "vanilla"):
    """What G minimises against D: -log D(G(x)) (Sec. 3.3), (D(G(x)) - 1)^2, or -D(G(x))."""
    return -fake_logits.mean() if mode == "wgan-gp" else _towards(fake_logits, 1, mode)


def _towards(logits, target: int, mode: GanMode):
    if mode == "lsgan":
        return paddle.square(logits - target).mean()
    return functional.softplus(-logits if target else logits).mean()  # binary cross entropy of the sigmoid


def gradient_penalty(discriminator, source, real, fake, mix):
    """(|| grad D || - 1)^2 at images between real and fake ones (Gulrajani et al. 2017, Eq. 3), without its weight.

    The gradient is taken over all that D sees: the source, the same for both, and the mixed image.

    Args:
        mix: float32 [N, 1, 1, 1] in [0, 1], the fraction of the real image.
    """
    between = (mix * real + (1 - mix) * fake).detach()
    seen = paddle.concat([source, between], axis=1) if discriminator.conditional else between
    seen.stop_gradient = False
    score = discriminator.judge(seen).sum()
    (gradient,) = paddle.grad(score, seen, create_graph=True)
    norm = paddle.sqrt(paddle.square(gradient).sum([1, 2, 3]) + 1e-12)
    return paddle.square(norm - 1).mean()
