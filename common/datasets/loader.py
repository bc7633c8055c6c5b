"""Batches read ahead by threads. What a step gets depends on (seed, step) alone, never on the number of threads.

Several processes of a run share each batch evenly: together they get what one process would.
"""

import multiprocessing
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool

import cv2
import numpy as np
from tqdm import tqdm

from common.errors import UserError, none_readable
from common.runtime import distributed

READ_AHEAD_BATCHES = 3
PATIENCE_SECONDS = 300


def image_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: a permutation of 0..count-1."""
    return np.random.default_rng((seed, epoch, 0)).permutation(count)


def sample_rng(seed: int, epoch: int, place: int) -> np.random.Generator:
    """The chance of one sample (crop, flip, mask), from its epoch and its place in it."""
    return np.random.default_rng((seed, epoch, 1, place))


class Batches:
    """An endless stream of batches that can start at any step.

    Epochs follow one another without a gap: every image is seen once an epoch, and a batch may hold the end of one
    and the start of the next.

    Args:
        count: images in the set.
        make: (index, rng) -> tuple of arrays, one sample. A UserError from it (a corrupt image) is told once on stderr
            and counted, and the next image takes the place.
        batch_size: samples per batch.
        workers: threads; 0 makes each batch when it is asked for.
        name: index -> what to call an image that takes too long.

    Raises:
        UserError: the batch cannot be shared evenly; while iterating: more than 1 % of the images are corrupt, all
            that were met are named; or nothing came for PATIENCE_SECONDS, and what was being read is named.
    """

    def __init__(
        self, count: int, make: Callable, batch_size: int, seed: int, workers: int = 2, name: Callable = "no. {}".format
    ):
        if batch_size % distributed.count():
            raise UserError(f"--batch-size {batch_size} cannot be shared evenly by {distributed.count()} processes")
        self.count, self.make, self.batch_size, self.seed, self.workers = count, make, batch_size, seed, workers
        self.name = name
        self.corrupt: dict[int, str] = {}
        self._reading: dict[int, int] = {}  # thread -> index
        self._stuck = False
        self._orders: dict[int, np.ndarray] = {}

    def fingerprint(self) -> dict[str, int | str]:
        """The number of images, and a checksum of their names in order."""
        crc = 0
        for index in range(self.count):
            crc = zlib.crc32(f"{self.name(index)}\n".encode(errors="surrogateescape"), crc)
        return {"images": self.count, "names_crc32": f"{crc:08x}"}

    def __call__(self, first_step: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields the batches of steps first_step, first_step + 1, …: tuples of arrays [batch_size, …]."""
        if self.workers == 0:
            step = first_step
            while True:
                yield self._stack([self._sample(number) for number in self._numbers(step)])
                step += 1
        cv2.setNumThreads(1)  # the threads here are the parallelism
        pool = ThreadPool(self.workers)  # of daemons: one that hangs does not keep the process from ending
        ahead = deque()
        step = first_step
        try:
            while True:
                while len(ahead) < READ_AHEAD_BATCHES:
                    ahead.append([pool.apply_async(self._sample, (number,)) for number in self._numbers(step)])
                    step += 1
                yield self._stack([self._wait_for(sample) for sample in ahead.popleft()])
        finally:
            pool.terminate()
            if not self._stuck:
                pool.join()

    def _wait_for(self, sample):
        try:
            return sample.get(PATIENCE_SECONDS)
        except multiprocessing.TimeoutError:
            self._stuck = True
            names = ", ".join(sorted(self.name(index) for index in list(self._reading.values())))
            raise UserError(
                f"nothing came from the images for {PATIENCE_SECONDS} s; being read: {names}. Is the disk, or the "
                "network to it, still there? The same command goes on from the last checkpoint"
            ) from None

    def _numbers(self, step: int) -> range:
        fraction = self.batch_size // distributed.count()
        first = step * self.batch_size + distributed.rank() * fraction
        return range(first, first + fraction)

    def _sample(self, number: int) -> tuple[np.ndarray, ...]:
        epoch, place = divmod(number, self.count)
        for later in range(self.count):
            index = int(self._order(epoch)[(place + later) % self.count])
            if index in self.corrupt:
                continue
            self._reading[threading.get_ident()] = index
            try:
                return self.make(index, sample_rng(self.seed, epoch, place))
            except UserError as problem:
                self._note_corrupt(index, str(problem))
            finally:
                del self._reading[threading.get_ident()]
        raise none_readable(list(self.corrupt.values()))

    def _order(self, epoch: int) -> np.ndarray:
        orders = self._orders  # replaced as a whole, never changed in place: several threads read it
        if epoch not in orders:
            orders = {old: order for old, order in orders.items() if old == epoch - 1}
            orders[epoch] = image_order(self.count, self.seed, epoch)
            self._orders = orders
        return orders[epoch]

    def _note_corrupt(self, index: int, problem: str) -> None:
        if index not in self.corrupt:
            self.corrupt[index] = problem
            tqdm.write(f"skipped: {problem} ({len(self.corrupt)} corrupt so far)", file=sys.stderr)
        if len(self.corrupt) > max(1, self.count // 100):
            listing = "; ".join(sorted(self.corrupt.values()))
            raise UserError(f"{len(self.corrupt)} of {self.count} images are corrupt, more than 1 %: {listing}")

    def _stack(self, samples: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        return tuple(np.stack(column) for column in zip(*samples, strict=True))
