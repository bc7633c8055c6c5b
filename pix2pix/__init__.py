"""Image-to-Image Translation with Conditional Adversarial Networks: Isola, Zhu, Zhou, Efros; CVPR 2017."""

import common.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
