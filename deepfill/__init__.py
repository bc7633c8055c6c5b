"""Free-Form Image Inpainting with Gated Convolution (DeepFill v2); Yu, Lin, Yang, Shen, Lu, Huang; ICCV 2019."""

import common.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
