"""What networks compute with is settled by one call, which refuses what the device cannot do."""

from dataclasses import replace

import numpy as np
import pytest

from common.config import RunSettings
from common.cpu_layers.layers import Convolution
from common.errors import UserError
from common.runtime import optim
from common.runtime.device import open_device
from common.training.preparation import prepare, traced

import paddle


def small():
    paddle.seed(0)
    return {"n": paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3))}


@pytest.mark.parametrize(
    ("how", "swapped"), [({}, True), ({"disable_cpu_layers": True}, False), ({"to_static": True}, False)]
)
def test_layers_are_swapped_on_a_cpu_and_parameters_stay_the_same_objects(how, swapped):
    open_device("cpu")
    networks = small()
    before = dict(networks["n"].named_parameters())
    prepared = prepare(networks, replace(RunSettings(), **how))
    assert prepared["n"] is networks["n"] and isinstance(networks["n"][0], Convolution) is swapped
    after = dict(networks["n"].named_parameters())
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)


@pytest.mark.medium
def test_static_graphs_compute_the_same_and_are_eager_after_the_loop():
    open_device("cpu")
    eager, networks, image = small()["n"], small(), paddle.ones([1, 3, 8, 8])
    prepare(networks, RunSettings(to_static=True))
    assert hasattr(networks["n"].forward, "rollback")
    with traced(networks):
        np.testing.assert_allclose(networks["n"](image).numpy(), eager(image).numpy(), rtol=1e-5, atol=1e-6)
    assert not hasattr(networks["n"].forward, "rollback")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"amp": "float16"}, "--amp float16: .* GPUs only"),
        ({"sync_batch_norm": True}, "--sync-batch-norm is for several processes"),
        ({"channels_last": True}, "--channels-last: .*add --amp float16"),
    ],
)
def test_what_a_device_cannot_do_is_refused(how, said):
    open_device("cpu")
    with pytest.raises(UserError, match=said):
        prepare(small(), replace(RunSettings(), **how))


@pytest.mark.parametrize(
    ("how", "said"), [({"amp": "bfloat16"}, "add --amp float16"), ({"to_static": True}, "leave out --to-static")]
)
def test_channels_last_is_for_eager_float16(monkeypatch, how, said):
    monkeypatch.setattr(optim, "check_amp", lambda amp: None)
    with pytest.raises(UserError, match=f"--channels-last: .*{said}"):
        prepare({}, replace(RunSettings(amp="float16", channels_last=True), **how))
