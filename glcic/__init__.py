"""Globally and Locally Consistent Image Completion: Iizuka, Simo-Serra, Ishikawa; ACM TOG (SIGGRAPH) 2017."""

import common.device  # noqa: F401  first: it imports Paddle with the right threads, and says what to do without it
