"""Free-Form Image Inpainting with Gated Convolution (DeepFill v2); Yu, Lin, Yang, Shen, Lu, Huang; ICCV 2019.

https://arxiv.org/abs/1806.03589
"""

import common.runtime.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
