"""The peers of `benchmarks.ours.files` that need no PyTorch: OpenCV's decoder on the same files."""

import os
from multiprocessing.pool import ThreadPool

import cv2
import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side


def readers(folder: str, **_) -> Side:
    """cv2.imread alone, in as many threads."""
    plan, _ = exchange.read(folder)
    cv2.setNumThreads(1)

    def work() -> None:
        with ThreadPool(plan["workers"]) as pool:
            for _ in pool.imap_unordered(cv2.imread, plan["paths"], chunksize=16):
                pass

    return Side(work, {"pictures": np.float64(len(plan["paths"]))})


def first_batch(folder: str, **_) -> Side:
    """A sorted listing, and cv2.imread of as many images."""
    plan, _ = exchange.read(folder)

    def work() -> list[str]:
        paths = sorted(f"{above}/{name}" for above, _, names in os.walk(plan["folder"]) for name in names)
        for path in paths[: plan["batch"]]:
            cv2.imread(path)
        return paths

    return Side(work, {"files": np.float64(len(work()))})
