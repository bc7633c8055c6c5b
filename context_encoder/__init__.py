"""Context Encoders: Feature Learning by Inpainting; Pathak, Krähenbühl, Donahue, Darrell, Efros; CVPR 2016.

https://arxiv.org/abs/1604.07379
"""

from common.runtime import environment

environment.set_threads()  # of Paddle, before anything imports it
