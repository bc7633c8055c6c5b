"""How every train.py begins: device and images (`begin`), first networks, and what changes them (`prepare`)."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from common.checkpoint.weights import load_trained
from common.cpu_layers import layers
from common.runtime import device, distributed, optim
from common.runtime.device import paddle, writable_home
from common.training import visualdl_log


def begin(cfg, draw_images: Callable[[Path], Path], drawn: str | Path) -> Path:
    """Opens the device and says what it is. The images' folder: --data-dir, or else `drawn`, drawn by one process.

    Raises:
        UserError: there is no such device, or --visualdl is asked for and VisualDL is missing.
    """
    if cfg.visualdl:
        visualdl_log.require()
    print(device.describe(device.open_device(cfg.device, cfg.disable_cpu_layers)))
    with distributed.first_alone():
        return cfg.data_dir or draw_images(Path(drawn))


def load_initial(path: Path, paper: str, name: str, kind: Callable[..., paddle.nn.Layer]) -> paddle.nn.Layer:
    """The network `name` of a paper's weights file, such as a discriminator, to go on training it.

    Raises:
        UserError: the file holds no such network.
    """
    network = load_trained(kind, path, paper, name, f"{name} of {paper}")
    network.train()
    return network


def prepare(networks: dict[str, paddle.nn.Layer], cfg) -> dict[str, paddle.nn.Layer]:
    """Has built networks compute as the settings ask; parameters stay the same objects under the same names.

    --sync-batch-norm: batch norm's statistics are over the images of all processes. --to-static: each network is a
    static graph, of stock layers. Else, on a CPU and without --disable-cpu-layers, some layers give way to equal,
    faster ones (common/cpu_layers). --amp and --channels-last leave the networks alone: `Run.steps` has the operators
    of a step cast to half precision. They are checked here.

    Returns:
        The same networks.

    Raises:
        UserError: the device, or the number of processes, does not allow it.
    """
    optim.check_amp(cfg.amp)
    distributed.check_micro_batches(cfg.batch_size, cfg.accumulate)
    if cfg.channels_last:
        optim.check_channels_last(cfg.amp, cfg.to_static)
    if cfg.sync_batch_norm:
        distributed.synchronise_batch_norm(networks)
    for network in networks.values():
        if cfg.to_static:
            paddle.jit.to_static(network)
        elif not cfg.disable_cpu_layers:
            layers.accelerate(network)
    return networks


@contextlib.contextmanager
def traced(networks: dict[str, paddle.nn.Layer]) -> Iterator[None]:
    """Within it static graphs can be traced, which happens when they are first called; after it they are eager."""
    try:
        with writable_home():
            yield
    finally:
        for network in networks.values():
            network.forward.rollback()
