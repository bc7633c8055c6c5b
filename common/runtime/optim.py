"""The steps of networks that learn from one another: gradients that go where they should and nowhere else."""

import contextlib
import contextvars
from collections.abc import Iterator

from common.config import Amp
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
    scaler = (_scalers.get() or {}).get(id(optimizer))
    optimizer.clear_grad()
    (scaler.scale(loss) if scaler else loss).backward()
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
def mixed_precision(amp: Amp, optimizers: dict, scalers: dict, channels_last: bool = False) -> Iterator[None]:
    """Within it convolutions and products are computed in `amp`, and `update` scales the losses (O1).

    Args:
        scalers: of `open_scalers`.
        channels_last: see `tune_layout`.
    """
    if amp == "off":
        yield
        return
    token = _scalers.set({id(optimizers[name]): scaler for name, scaler in scalers.items()})
    try:
        with paddle.amp.auto_cast(dtype=amp, level="O1", custom_black_list=IN_FLOAT32):
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
