"""A network exported for deployment with paddle.jit, and compared with the eager network before it counts as done."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.device import paddle
from common.errors import UserError

TOLERANCE = 1e-4  # largest difference from the eager network, on outputs in [-1, 1]


def export(
    network: paddle.nn.Layer, folder: str | Path, name: str, make_inputs: Callable, sides: list[tuple[int, int]]
) -> float:
    """Writes NAME.json (or NAME.pdmodel for Paddle 2) and NAME.pdiparams, with free batch, height and width.

    Args:
        network: in evaluation mode; its inputs are float32 [N, channels, H, W].
        make_inputs: (batch, height, width) -> list of such tensors, for the comparison.
        sides: (height, width) pairs to compare at; at least two, because a traced network may have frozen its size. If
            all are the same, the exported network has that size alone, and its inputs may be of any shape [N, …].

    Returns:
        The largest difference from the eager network over all comparisons.

    Raises:
        UserError: the folder cannot be written, or the exported network differs.
    """
    path = Path(folder) / name
    free = len(set(sides)) > 1
    specs = [
        paddle.static.InputSpec([None, *([x.shape[1], None, None] if free else x.shape[1:])], "float32", f"input_{n}")
        for n, x in enumerate(make_inputs(1, *sides[0]))
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        paddle.jit.save(network, str(path), input_spec=specs)
    except OSError as problem:
        raise UserError(f"cannot write {path.parent}: {problem.strerror or problem}") from None
    finally:
        sys.stdout.flush()
    compiled = paddle.jit.load(str(path))
    compiled.eval()
    worst = 0.0
    for batch, (height, width) in enumerate(sides, 1):
        inputs = make_inputs(batch, height, width)
        with paddle.no_grad():
            eager, exported = network(*inputs).numpy(), compiled(*inputs).numpy()
        worst = max(worst, float(np.abs(eager - exported).max()))
    if not worst <= TOLERANCE:
        raise UserError(f"{path} differs from the network by {worst:.2e}, more than {TOLERANCE}; do not use it")
    return worst
