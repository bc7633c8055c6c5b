"""Globally and Locally Consistent Image Completion: Iizuka, Simo-Serra, Ishikawa; ACM TOG (SIGGRAPH) 2017.

https://doi.org/10.1145/3072959.3073659
"""

from common.runtime import environment

environment.set_threads()  # of Paddle, before anything imports it
