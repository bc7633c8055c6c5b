"""Free-Form Image Inpainting with Gated Convolution (DeepFill v2); Yu, Lin, Yang, Shen, Lu, Huang; ICCV 2019.

https://arxiv.org/abs/1806.03589
"""

from common.runtime import environment

environment.set_threads()  # of Paddle, before anything imports it
