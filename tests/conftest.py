"""One thread per process: these networks are tiny, and threads that wait for each other cost more than they gain."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
