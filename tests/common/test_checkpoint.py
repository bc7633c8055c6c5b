"""Weights and state: strict, atomic, by structured name, never unpickled."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import checkpoint
from common.errors import UserError

import paddle
from paddle import nn


def network(width=3):
    return nn.Sequential(("conv", nn.Conv2D(2, width, 3)), ("norm", nn.BatchNorm2D(width)))


def trained(optimizer_class, steps=3, **kwargs):
    paddle.seed(0)
    net = network()
    optimizer = optimizer_class(parameters=net.parameters(), **kwargs)
    for n in range(steps):
        step(net, optimizer, n)
    return net, optimizer


def step(net, optimizer, n):
    x = paddle.to_tensor(np.random.default_rng(n).normal(size=(2, 2, 6, 6)).astype(np.float32))
    optimizer.clear_grad()
    paddle.square(net(x) - 1).mean().backward()
    optimizer.step()


def tensors(net):
    return {key: value.numpy().copy() for key, value in net.state_dict().items()}


OPTIMIZERS = [
    (paddle.optimizer.Adam, {"learning_rate": 1e-2}),
    (paddle.optimizer.Adadelta, {"learning_rate": 1.0, "rho": 0.9}),
    (paddle.optimizer.Momentum, {"learning_rate": 1e-2}),
]


@pytest.mark.parametrize("optimizer_class, kwargs", OPTIMIZERS)
def test_state_goes_to_the_right_tensors_with_another_network_built_first(tmp_path, optimizer_class, kwargs):
    net, optimizer = trained(optimizer_class, **kwargs)
    folder = checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    for n in (3, 4):
        step(net, optimizer, n)
    network(5), network()  # generated names move on
    other = network()
    fresh = optimizer_class(parameters=other.parameters(), **kwargs)
    assert checkpoint.load_state(folder, {"n": other}, {"n": fresh}) == {"step": 3}
    for n in (3, 4):
        step(other, fresh, n)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key], err_msg=key)


def test_state_goes_to_the_right_tensors_of_layers_made_in_another_order(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    step(net, optimizer, 3)
    norm, conv = nn.BatchNorm2D(3), nn.Conv2D(2, 3, 3)
    other = nn.Sequential(("conv", conv), ("norm", norm))
    fresh = paddle.optimizer.Adam(1e-2, parameters=[*norm.parameters(), *conv.parameters()])
    checkpoint.load_state(folder, {"n": other}, {"n": fresh})
    step(other, fresh, 3)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key], err_msg=key)


def test_state_loads_over_an_optimiser_that_has_already_stepped(tmp_path):
    """As in a live notebook, where the same objects train on and are then set back."""
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    step(net, optimizer, 3)
    after = tensors(net)
    for n in (7, 8, 9):
        step(net, optimizer, n)
    checkpoint.load_state(folder, {"n": net}, {"n": optimizer})
    step(net, optimizer, 3)
    for key, value in after.items():
        np.testing.assert_array_equal(value, tensors(net)[key], err_msg=key)


def test_tensors_are_stored_by_structured_name(tmp_path):
    from safetensors.numpy import load_file

    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    stored = load_file(checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3}) / "state.safetensors")
    assert {"n.conv.weight", "n.norm._mean", "n.conv.weight/moment1", "n.norm.bias/moment2"} <= stored.keys()
    assert not [name for name in stored if "conv2d_" in name or "_0" in name]


def test_other_optimiser_is_refused(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    momentum = paddle.optimizer.Momentum(parameters=net.parameters())
    with pytest.raises(UserError, match="another optimiser"):
        checkpoint.load_state(folder, {"n": net}, {"n": momentum})


def test_weights_round_trip_and_strictness(tmp_path):
    net, _ = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    path = checkpoint.save_weights(tmp_path / "w.safetensors", {"n": net}, {"paper": "none", "image_px": 64})
    stored, facts = checkpoint.read_weights(path)
    assert facts["paper"] == "none" and facts["image_px"] == 64 and "code_version" in facts
    other = network()
    checkpoint.load_network(other, stored, "n", path)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key])
    with pytest.raises(UserError, match=r"n.conv.weight has shape \[3, 2, 3, 3\], the network \[4, 2, 3, 3\]"):
        checkpoint.load_network(network(4), stored, "n", path)
    with pytest.raises(UserError, match="n.conv.bias is missing"):
        checkpoint.load_network(other, {k: v for k, v in stored.items() if k != "n.conv.bias"}, "n", path)
    with pytest.raises(UserError, match="n.extra is not part"):
        checkpoint.load_network(other, {**stored, "n.extra": np.zeros(1)}, "n", path)


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("suffix", ["pdparams", "pth", "safetensors"])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    Path(f"evil.{suffix}").write_bytes(pickle.dumps({"weight": Malice()}))
    with pytest.raises(UserError, match="evil"):
        checkpoint.read_weights(f"evil.{suffix}")
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, (40).to_bytes(8, "little") + b"{" * 40])
def test_broken_weight_files(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="w.safetensors"):
        checkpoint.read_weights(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="there is no weights file"):
        checkpoint.read_weights(tmp_path / "missing.safetensors")


def test_foreign_safetensors_are_told_apart(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="not written by this suite"):
        checkpoint.read_weights(tmp_path / "foreign.safetensors")


def test_newest_whole_checkpoint_wins_and_old_ones_go(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    for number, score in ((10, 1.0), (20, 9.0), (30, 2.0), (40, 3.0), (50, 4.0)):
        checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": number, "score": score})
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["step_0000020", "step_0000040", "step_0000050"]  # the best and the last two
    (tmp_path / "step_0000050/progress.json").write_text("{")
    (tmp_path / "step_0000060").mkdir()
    assert checkpoint.newest_state(tmp_path).name == "step_0000040"


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 1})
    whole = checkpoint.save_file

    def fails_half_way(stored, path, **_):
        whole(stored, path)
        Path(path).write_bytes(Path(path).read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fails_half_way)
    with pytest.raises(OSError):
        checkpoint.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000001"]
    assert checkpoint.load_state(tmp_path / "step_0000001", {"n": net}, {"n": optimizer})["step"] == 1


def test_a_process_killed_while_writing_leaves_the_checkpoint_before_it(tmp_path):
    code = """
import os, sys, paddle
from pathlib import Path
from common import checkpoint
net = paddle.nn.Linear(2, 2)
optimizer = paddle.optimizer.Adam(parameters=net.parameters())
save = checkpoint.save_file
def killed(stored, path, **_):
    save(stored, path)
    if list(Path(sys.argv[1]).glob("step_*")):
        os.kill(os.getpid(), 9)
checkpoint.save_file = killed
net(paddle.ones([1, 2])).sum().backward()
optimizer.step()
for step in (1, 2):
    checkpoint.save_state(sys.argv[1], {"n": net}, {"n": optimizer}, {"step": step})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], capture_output=True
    )
    assert done.returncode == -9, done.stderr
    assert checkpoint.newest_state(tmp_path).name == "step_0000001"
    assert json.loads((tmp_path / "step_0000001/progress.json").read_text()) == {"step": 1}
