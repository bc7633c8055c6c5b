"""Context Encoders: Feature Learning by Inpainting; Pathak, Krähenbühl, Donahue, Darrell, Efros; CVPR 2016.

https://arxiv.org/abs/1604.07379
"""

import common.runtime.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
