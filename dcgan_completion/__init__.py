"""Semantic Image Inpainting with Deep Generative Models: Yeh, Chen, Lim, Schwing, Hasegawa-Johnson, Do; CVPR 2017.

https://arxiv.org/abs/1607.07539
"""

from common.runtime import environment

environment.set_threads()  # of Paddle, before anything imports it
