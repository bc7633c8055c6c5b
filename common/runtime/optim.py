"""The steps of networks that learn from one another: gradients that go where they should and nowhere else."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import numpy as np

from common.config import Amp, AmpLevel
from common.errors import UserError
from common.runtime import distributed
from common.runtime.device import computes_in, current_type

import paddle

# Squares of features overflow in float16 above 256; these operators compute in float32, beside those of Paddle's list.
IN_FLOAT32 = {"square", "sqrt", "rsqrt", "pow", "p_norm", "erfinv"}

_scalers = contextvars.ContextVar("scalers", default=None)


def update(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, loss) -> None:
    """One step of a network's optimiser, from clean gradients; they are the means over all processes of the run.

    Within `mixed_precision` in float16 the loss is scaled, and a step whose gradients overflow is left out.
    """
    optimizer.clear_grad()
    _backward(optimizer, loss)
    _step(network, optimizer)


def in_micro_batches(step: Callable) -> Callable:
    """Has a paper's training step done with its batch in cfg.accumulate equal parts, one after another.

    `step` is a generator and reads like a step with the whole batch: where a network is updated it yields (network,
    optimizer, loss), and it returns its losses. Up to each such place it is run for all parts in turn, and their mean
    gradient makes one update. So a part's graph may live until the next update only: what an earlier one has used is
    computed anew.

    Args:
        step: called with (networks, optimizers, *batch, cfg). Tensors and arrays among the batch are divided.

    Returns:
        The function of the same arguments. It returns the means of the losses over the parts, and of values for each
        image the values of all.
    """

    @functools.wraps(step)
    def in_parts(*given) -> dict:
        count, logs = given[-1].accumulate, []
        parts = [step(*part) for part in _divide(given, count)]
        while not logs:
            for part in parts:
                try:
                    network, optimizer, loss = next(part)
                except StopIteration as end:
                    logs.append(end.value)
                    continue
                if part is parts[0]:
                    optimizer.clear_grad()
                _backward(optimizer, loss / count if count > 1 else loss)
                del loss  # and its graph
            if not logs:
                _step(network, optimizer)
        if count == 1:
            return logs[0]
        return {name: _join([log[name] for log in logs]) for name in logs[0]}

    return in_parts


def _divide(given: tuple, count: int) -> list[tuple]:
    """Arguments of a step for each of `count` parts of the batch."""
    if count == 1:
        return [given]
    columns = []
    for value in given:
        whole = not isinstance(value, paddle.Tensor | np.ndarray)
        size = 0 if whole else len(value) // count
        columns.append([value if whole else value[n * size : (n + 1) * size] for n in range(count)])
    return list(zip(*columns, strict=True))


def _join(values: list[paddle.Tensor]) -> paddle.Tensor:
    values = [value.detach() for value in values]
    if values[0].ndim:
        return paddle.concat(values)
    return paddle.stack(values).mean()


def _backward(optimizer: paddle.optimizer.Optimizer, loss) -> None:
    scaler = (_scalers.get() or {}).get(id(optimizer))
    (scaler.scale(loss) if scaler else loss).backward()


def _step(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    scaler = (_scalers.get() or {}).get(id(optimizer))
    distributed.average_gradients(network)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


def set_rate(optimizers: dict[str, paddle.optimizer.Optimizer], rate: float) -> None:
    """Gives all optimisers of a run the same learning rate."""
    for optimizer in optimizers.values():
        optimizer.set_lr(rate)


def check_amp(amp: Amp) -> None:
    """Raises UserError if the device cannot compute in `amp`."""
    if amp == "off":
        return
    if current_type() == "cpu":
        raise UserError(f"--amp {amp}: Paddle has mixed precision on GPUs only; leave it off on a processor")
    if not computes_in(amp):
        other = "" if amp == "float16" else "; use float16"
        raise UserError(f"--amp {amp}: this GPU cannot compute in {amp}{other}")


def open_scalers(amp: Amp, optimizers: dict[str, paddle.optimizer.Optimizer]) -> dict[str, paddle.amp.GradScaler]:
    """The loss scalers that `amp` needs, by the names of the optimisers."""
    if amp != "float16":  # the range of bfloat16 is float32's
        return {}
    return {name: paddle.amp.GradScaler(init_loss_scaling=2.0**16, incr_every_n_steps=2000) for name in optimizers}


def check_channels_last(amp: Amp, to_static: bool) -> None:
    """Raises UserError where Paddle has no layout tuning."""
    if amp != "float16":
        raise UserError("--channels-last: Paddle has it for half precision on GPUs; add --amp float16")
    if to_static:
        raise UserError("--channels-last: Paddle has it for eager networks only; leave out --to-static")


def tune_layout(on: bool) -> None:
    """Has Paddle keep maps channels-last between float16 convolutions, which a GPU's tensor cores want, or not.

    Shapes stay [N, C, H, W] to whoever asks, but a map that is fetched from the GPU may come as it lies there. So this
    is for what computes losses, not for images.
    """
    paddle.incubate.autotune.set_config({"layout": {"enable": on}})


@contextlib.contextmanager
def mixed_precision(
    amp: Amp, optimizers: dict, scalers: dict, channels_last: bool = False, level: AmpLevel = "O1"
) -> Iterator[None]:
    """Within it convolutions and products are computed in `amp`, and losses are scaled where a network is updated.

    In level O2 all operators are but those that need float32. Parameters stay float32, and are cast where they are
    used, so that moments and checkpoints are as without it.

    Args:
        scalers: of `open_scalers`.
        channels_last: see `tune_layout`.
    """
    if amp == "off":
        yield
        return
    token = _scalers.set({id(optimizers[name]): scaler for name, scaler in scalers.items()})
    try:
        with paddle.amp.auto_cast(dtype=amp, level=level, custom_black_list=IN_FLOAT32):
            if channels_last:
                tune_layout(True)
            yield
    finally:
        if channels_last:
            tune_layout(False)
        _scalers.reset(token)


def scaler_states(scalers: dict) -> dict[str, dict]:
    """What a checkpoint keeps of them, JSON values."""
    states = {name: scaler.state_dict() for name, scaler in scalers.items()}
    return {name: {**state, "scale": [float(state["scale"][0])]} for name, state in states.items()}


@contextlib.contextmanager
def frozen(network: paddle.nn.Layer):
    """Lets gradients pass through a network without collecting any on its own weights."""
    weights = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
    for weight in weights:
        weight.stop_gradient = True
    try:
        yield
    finally:
        for weight in weights:
            weight.stop_gradient = False
