"""Memory that runs out, which Python, NumPy, OpenCV and Paddle each say in their own way."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import errno
import functools
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from common.errors import UserError

T = TypeVar("T")
ADVICE = "take smaller images, a network of fewer channels, --device cpu, or stop other programs"
WORDS = re.compile(
    r"ResourceExhausted|[Oo]ut of memory|Insufficient memory|Cannot allocate memory|bad_alloc|start new thread|"
    r"_ALLOC_FAILED"
)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an exception means that the processor's or the GPU's memory is used up."""
    if isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno == errno.ENOMEM):
        return True
    return isinstance(problem, Exception) and WORDS.search(str(problem)) is not None


def halving(compute: Callable[[int], T], count: int, work: str) -> T:
    """Returns compute(count), and each time that memory runs out tries again with half as many at once.

    Args:
        work: what needs the memory, with its sizes, and {} for the count: "computing {} images of 64 x 64 px".

    Raises:
        UserError: memory ran out with one.
    """
    while True:
        try:
            return compute(count)
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            tried = f"memory ran out in {work.format(count)}{size_asked(problem)}"
        if count == 1:
            raise UserError(f"{tried}; {ADVICE}")
        count //= 2
        print(f"note: {tried}; going on with {count} at once", file=sys.stderr)


def names_images(compute: Callable) -> Callable:
    """Decorates a function of (network, images uint8 [N, h, w, 3], …): see `halving`, which may cut all arrays along N.

    It returns an array [N, …], or a tuple of them.
    """
    import numpy as np  # not above: commands that say what is missing come by here

    @functools.wraps(compute)
    def computed(network, images, *rest, **options):
        count, height, width = images.shape[:3]

        def in_parts(most: int):
            done = []
            for start in range(0, count, most):
                part = [
                    each[start : start + most] if isinstance(each, np.ndarray) and len(each) == count else each
                    for each in (images, *rest, *options.values())
                ]
                positional = len(part) - len(options)
                named = dict(zip(options, part[positional:], strict=True))
                done.append(compute(network, *part[:positional], **named))
            if len(done) == 1:
                return done[0]
            if isinstance(done[0], tuple):
                return tuple(np.concatenate(each) for each in zip(*done, strict=True))
            return np.concatenate(done)

        return halving(in_parts, count, f"computing {{}} images of {width} x {height} px")

    return computed


def size_asked(problem: BaseException) -> str:
    """How much was asked for in vain, where the exception tells it: " (150 MB more were asked for on GPU 0)"."""
    text = str(problem)
    found = re.search(r"alloc memory of (\d+)|allocate (\d+) bytes", text)
    if found:
        return f" ({int(found[1] or found[2]) / 2**20:,.0f} MB more were asked for)"
    found = re.search(r"Cannot allocate ([\d.]+)(B|kB|MB|GB|TB) memory on (GPU \d+|\w+:\d+)", text)
    if not found:
        return ""
    megabytes = float(found[1]) * 2.0 ** {"B": -20, "kB": -10, "MB": 0, "GB": 10, "TB": 20}[found[2]]
    return f" ({megabytes:,.{0 if megabytes >= 1 else 3}f} MB more were asked for on {found[3]})"
