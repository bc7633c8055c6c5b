"""The readers as `paddle.io.Dataset`, for `paddle.io.DataLoader` and `DistributedBatchSampler`.

The readers themselves know nothing of Paddle, so that `common.doctor` and `data.prepare` work where it is broken or
missing; our own training draws from them by `common.datasets.loader`, which resumes to the batch.
"""

import os
from collections.abc import Callable

from common.runtime.device import paddle


class PaddleDataset(paddle.io.Dataset):
    """One split of a reader, such as `PaddleDataset(lambda: open_images(DIR, "train"), transform=crop)`.

    Args:
        open_reader: () -> reader. A worker process of a DataLoader opens its own: two may not share a zip's file.
        transform: is called with each item: uint8 [H, W, 3] RGB, or the tuple (photo, label) of such from `open_pairs`,
            so that both move together. A DataLoader stacks what it returns, so that all must be of one shape.

    Raises:
        UserError: as the reader does; for a corrupt file when that item is asked for.
    """

    def __init__(self, open_reader: Callable, transform: Callable | None = None):
        super().__init__()
        self.open_reader, self.transform = open_reader, transform
        self.reader, self.process = open_reader(), os.getpid()

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int):
        if os.getpid() != self.process:
            self.reader, self.process = self.open_reader(), os.getpid()
        item = self.reader[index]
        return item if self.transform is None else self.transform(item)
