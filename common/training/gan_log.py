"""What every GAN run logs of its discriminator, beside the loss that it minimises."""

import paddle
from paddle.nn import functional


def discriminator_log(parts: tuple, real_logits, fake_logits, sigmoid: bool = True) -> dict[str, paddle.Tensor]:
    """The discriminator's loss, its two parts apart, and what the discriminator says of real and fake images.

    Args:
        parts: the loss on real images and the loss on fake ones, which the discriminator minimises the sum of.
        real_logits, fake_logits: float32 [N, ...], the outputs that these losses were computed from.
        sigmoid: whether D(x) is the sigmoid of the output, so that it is a probability. Hinge, least-squares and
            Wasserstein losses judge the output itself.

    Returns:
        `discriminator`, `discriminator_real`, `discriminator_fake`: scalars. Beside them D(x) and D(G(z)) of all
        images, [N, ...] and without gradients: `real_probability` and `fake_probability`, or `real_output` and
        `fake_output`. `Run.record` logs their means.
    """
    real, fake = parts
    log = {"discriminator": real + fake, "discriminator_real": real, "discriminator_fake": fake}
    for name, logits in (("real", real_logits), ("fake", fake_logits)):
        output = logits.detach().astype("float32")
        if sigmoid:
            log[f"{name}_probability"] = functional.sigmoid(output)
        else:
            log[f"{name}_output"] = output
    return log
