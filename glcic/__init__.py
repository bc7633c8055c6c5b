"""Globally and Locally Consistent Image Completion: Iizuka, Simo-Serra, Ishikawa; ACM TOG (SIGGRAPH) 2017.

https://doi.org/10.1145/3072959.3073659
"""

import common.runtime.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
