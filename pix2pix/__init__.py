"""Image-to-Image Translation with Conditional Adversarial Networks: Isola, Zhu, Zhou, Efros; CVPR 2017.

https://arxiv.org/abs/1611.07004
"""

from common.runtime import environment

environment.set_threads()  # of Paddle, before anything imports it
