"""Several processes that do one run together, each with a fraction of every batch, started by Paddle:

    python -m paddle.distributed.launch --nproc_per_node 2 PAPER/train.py PRESET …

All hold the same networks. Gradients are averaged after every backward pass, so that two processes with half a batch
each do what one does with the whole of it (but for batch norm, see `Run`). Process 0 alone writes. `device.open_device`
connects them. In a run of one process nothing in here does anything.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from common.errors import UserError
from common.runtime import peers
from common.runtime.device import current_type, paddle


def count() -> int:
    """Processes of this run."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0")) if count() > 1 else 0


def check_micro_batches(batch_size: int, accumulate: int) -> None:
    """Raises UserError if a batch cannot be divided evenly into micro-batches, in each process."""
    if batch_size % (accumulate * count()):
        shared = f" in each of {count()} processes" if count() > 1 else ""
        raise UserError(
            f"--batch-size {batch_size} cannot be divided evenly into {accumulate} micro-batches{shared}; "
            f"choose another --accumulate"
        )


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Process 0 does the body (such as drawing data) before the others, which then find it done."""
    if rank() > 0:
        with peers.together():
            paddle.distributed.barrier()
    yield
    if count() > 1 and rank() == 0:
        with peers.together():
            paddle.distributed.barrier()


def synchronise_batch_norm(networks: dict[str, paddle.nn.Layer]) -> None:
    """Replaces the batch norms of networks by ones whose statistics are over the images of all processes.

    The weights stay the same objects, and keep their names.

    Raises:
        UserError: there is one process, or they do not compute on GPUs.
    """
    if count() == 1:
        raise UserError("--sync-batch-norm is for several processes; start them with paddle.distributed.launch")
    if current_type() == "cpu":
        raise UserError("--sync-batch-norm: Paddle has it on GPUs only")
    for network in networks.values():
        paddle.nn.SyncBatchNorm.convert_sync_batchnorm(network)


def equalise(tensors: Iterable[paddle.Tensor]) -> None:
    """Gives all processes the values of process 0."""
    if count() > 1:
        with peers.together():
            for tensor in tensors:
                paddle.distributed.broadcast(tensor, 0)


def average(tensors: list[paddle.Tensor]) -> list[paddle.Tensor]:
    """The means over all processes of float32 tensors of any shapes, in one message."""
    if count() == 1 or not tensors:
        return tensors
    message = paddle.concat([tensor.detach().flatten() for tensor in tensors])
    with peers.together():
        paddle.distributed.all_reduce(message)
    parts = (message / count()).split([tensor.size for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def average_gradients(network: paddle.nn.Layer) -> None:
    """Puts the means over all processes in the place of a network's gradients."""
    if count() == 1:
        return
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    for gradient, mean in zip(gradients, average(gradients), strict=True):
        gradient.set_value(mean)


def largest(numbers: list[int]) -> list[int]:
    """Of each number, the largest that any process has."""
    if count() == 1:
        return numbers
    tensor = paddle.to_tensor(numbers, dtype="int32")
    with peers.together():
        paddle.distributed.all_reduce(tensor, op=paddle.distributed.ReduceOp.MAX)
        return tensor.tolist()
