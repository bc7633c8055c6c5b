"""Semantic Image Inpainting with Deep Generative Models: Yeh, Chen, Lim, Schwing, Hasegawa-Johnson, Do; CVPR 2017.

https://arxiv.org/abs/1607.07539
"""

import common.runtime.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
