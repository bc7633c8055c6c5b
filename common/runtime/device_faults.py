"""Faults of a GPU or another device: it answers wrongly from the start, or is lost in the middle of a run."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import re

from common.errors import UserError, first_line
from common.runtime import memory

LOST = re.compile(r"\b(CUDA|CUDNN|cuDNN|CUBLAS|CUFFT|CUSOLVER|NCCL|HIP|XPU|BKCL|CustomDevice|XCCL) ?(runtime )?error\b")
NO_CODE = re.compile(r"no kernel image|CUDA error\((209|222|98)\)|ARCH_MISMATCH")


def is_lost(problem: BaseException) -> bool:
    """Whether Paddle raised an exception because a device or its driver failed, and not because memory ran out."""
    return isinstance(problem, Exception) and not memory.is_out_of_memory(problem) and bool(LOST.search(str(problem)))


def check_answers(where: str) -> None:
    """Compares one product and one convolution on Paddle's current device with numpy's, in about ten milliseconds.

    A Paddle wheel without code for a newer GPU answers zeros there, without an error (Paddle#72252). The numbers are
    small and whole, so that their sums are exact in every number format that a device may compute in.

    Args:
        where: what the device is, for the message.

    Raises:
        UserError: an answer is wrong, or does not come.
    """
    import numpy as np  # not above: commands that say what is missing come by here

    import paddle

    matrix = (np.arange(64, dtype=np.float32) % 7 - 3).reshape(8, 8)
    image, kernel = np.stack([matrix, matrix.T])[None], np.stack([matrix[:3, :3], matrix[4:7, 2:5]])[None]
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (3, 3), axis=(1, 2))
    wanted = {"product": matrix @ matrix, "convolution": np.einsum("chwij,ocij->ohw", windows, kernel)[None]}
    try:
        x, image, kernel = map(paddle.to_tensor, (matrix, image, kernel))
        found = {"product": paddle.matmul(x, x), "convolution": paddle.nn.functional.conv2d(image, kernel)}
        errors = {name: float(np.abs(found[name].numpy() - wanted[name]).max()) for name in wanted}
    except Exception as problem:
        raise UserError(_cannot_compute(where, problem)) from None
    wrong = [f"a {name} is wrong by {error:.3g}" for name, error in errors.items() if not error < 0.1]
    if wrong:
        raise UserError(f"{where} computes wrongly: {' and '.join(wrong)}; {_other_wheel()}")


def _cannot_compute(where: str, problem: Exception) -> str:
    if memory.is_out_of_memory(problem):
        todo = "other programs may hold its memory (nvidia-smi names them)"
    elif NO_CODE.search(str(problem)):
        todo = _other_wheel()
    else:
        todo = "restart it, look at its driver and at README.md, GPU, or use --device cpu"
    return f"{where} cannot compute: {first_line(problem).rstrip('.')}; {todo}"


def _other_wheel() -> str:
    import paddle

    built = f", built for CUDA {paddle.version.cuda()}," if paddle.is_compiled_with_cuda() else ""
    return (
        f"this wheel of PaddlePaddle {paddle.__version__}{built} has no code for this device: install one that has "
        "(README.md, GPU), or use --device cpu"
    )
