"""Image-to-Image Translation with Conditional Adversarial Networks: Isola, Zhu, Zhou, Efros; CVPR 2017.

https://arxiv.org/abs/1611.07004
"""

import common.runtime.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
