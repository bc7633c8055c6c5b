"""Weights and state: strict, atomic, by structured name, never unpickled."""

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint import atomic, weights
from common.checkpoint import state as checkpoint_state
from common.checkpoint.tensors import load_network
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
    folder = checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    for n in (3, 4):
        step(net, optimizer, n)
    network(5), network()  # generated names move on
    other = network()
    fresh = optimizer_class(parameters=other.parameters(), **kwargs)
    assert checkpoint_state.load_state(folder, {"n": other}, {"n": fresh}) == {"step": 3}
    for n in (3, 4):
        step(other, fresh, n)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key], err_msg=key)


def test_state_goes_to_the_right_tensors_of_layers_made_in_another_order(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    step(net, optimizer, 3)
    norm, conv = nn.BatchNorm2D(3), nn.Conv2D(2, 3, 3)
    other = nn.Sequential(("conv", conv), ("norm", norm))
    fresh = paddle.optimizer.Adam(1e-2, parameters=[*norm.parameters(), *conv.parameters()])
    checkpoint_state.load_state(folder, {"n": other}, {"n": fresh})
    step(other, fresh, 3)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key], err_msg=key)


def test_state_loads_over_an_optimiser_that_has_already_stepped(tmp_path):
    """As in a live notebook, where the same objects train on and are then set back."""
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    step(net, optimizer, 3)
    after = tensors(net)
    for n in (7, 8, 9):
        step(net, optimizer, n)
    checkpoint_state.load_state(folder, {"n": net}, {"n": optimizer})
    step(net, optimizer, 3)
    for key, value in after.items():
        np.testing.assert_array_equal(value, tensors(net)[key], err_msg=key)


def test_tensors_are_stored_by_structured_name(tmp_path):
    from safetensors.numpy import load_file

    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    stored = load_file(
        checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3}) / "state.safetensors"
    )
    assert {"n.conv.weight", "n.norm._mean", "n.conv.weight/moment1", "n.norm.bias/moment2"} <= stored.keys()
    assert not [name for name in stored if "conv2d_" in name or "_0" in name]


def test_other_optimiser_is_refused(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    folder = checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 3})
    momentum = paddle.optimizer.Momentum(parameters=net.parameters())
    with pytest.raises(UserError, match="another optimiser"):
        checkpoint_state.load_state(folder, {"n": net}, {"n": momentum})


def test_weights_round_trip_and_strictness(tmp_path):
    net, _ = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    path = weights.save_weights(tmp_path / "w.safetensors", {"n": net}, {"paper": "none", "image_px": 64})
    stored, metadata = weights.read_weights(path)
    assert metadata["paper"] == "none" and metadata["image_px"] == 64 and "code_version" in metadata
    other = network()
    load_network(other, stored, "n", path)
    for key, value in tensors(net).items():
        np.testing.assert_array_equal(value, tensors(other)[key])
    with pytest.raises(UserError, match=r"n.conv.weight has shape \[3, 2, 3, 3\], the network \[4, 2, 3, 3\]"):
        load_network(network(4), stored, "n", path)
    with pytest.raises(UserError, match="n.conv.bias is missing"):
        load_network(other, {k: v for k, v in stored.items() if k != "n.conv.bias"}, "n", path)
    with pytest.raises(UserError, match="n.extra is not part"):
        load_network(other, {**stored, "n.extra": np.zeros(1)}, "n", path)


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("suffix", ["pdparams", "pth", "safetensors"])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    Path(f"evil.{suffix}").write_bytes(pickle.dumps({"weight": Malice()}))
    with pytest.raises(UserError, match="evil"):
        weights.read_weights(f"evil.{suffix}")
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, (40).to_bytes(8, "little") + b"{" * 40])
def test_broken_weight_files(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="w.safetensors"):
        weights.read_weights(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="there is no weights file"):
        weights.read_weights(tmp_path / "missing.safetensors")


def test_foreign_safetensors_are_told_apart(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="not written by this suite"):
        weights.read_weights(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda values: np.where(np.arange(values.size) == 1, np.nan, values.ravel()).reshape(values.shape),
            "NaN or inf",
        ),
        (lambda values: np.full_like(values, np.inf), "NaN or infinity"),
        (lambda values: values.astype(np.int32), "is int32, the network float32"),
        (lambda values: values != 0, "is bool, the network float32"),
    ],
)
def test_weights_that_are_no_finite_floats_are_refused(change, said):
    network = nn.Linear(2, 2)
    tensors = {f"n.{key}": value.numpy() for key, value in network.state_dict().items()}
    load_network(network, {key: value.astype(np.float16) for key, value in tensors.items()}, "n")
    with pytest.raises(UserError, match=f"n.weight .*{said}"):
        load_network(network, tensors | {"n.weight": change(tensors["n.weight"])}, "n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems fill such a file")
def test_a_file_that_is_mostly_a_hole_is_refused_unread(tmp_path):
    path = weights.save_weights(tmp_path / "w.safetensors", {"n": nn.Linear(2, 2)}, {})
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    header["n.weight"] = {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}
    del header["n.bias"]
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + (4 << 30))
    started = time.process_time()
    with pytest.raises(UserError):
        weights.read_weights(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["glcic\nerror: forged", "\x1b[2J", "\u202egnp"])
def test_metadata_that_would_steer_a_terminal_is_refused(tmp_path, text):
    path = weights.save_weights(tmp_path / "w.safetensors", {"n": nn.Linear(2, 2)}, {"paper": ["x", {"deep": text}]})
    with pytest.raises(UserError, match="control characters"):
        weights.read_weights(path)
    weights.save_weights(path, {"n": nn.Linear(2, 2)}, {"paper": ["人脸", {"deep": "a b"}]})
    assert weights.read_weights(path)[1]["paper"] == ["人脸", {"deep": "a b"}]


def test_newest_whole_checkpoint_wins_and_old_ones_go(tmp_path):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    for number, score in ((10, 1.0), (20, 9.0), (30, 2.0), (40, 3.0), (50, 4.0)):
        checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": number, "score": score})
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["step_0000020", "step_0000040", "step_0000050"]  # the best and the last two
    (tmp_path / "step_0000050/progress.json").write_text("{")
    (tmp_path / "step_0000060").mkdir()
    assert checkpoint_state.newest_state(tmp_path).name == "step_0000040"


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 1})
    whole = checkpoint_state.save_file

    def fails_half_way(stored, path, **_):
        whole(stored, path)
        Path(path).write_bytes(Path(path).read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_state, "save_file", fails_half_way)
    with pytest.raises(OSError):
        checkpoint_state.save_state(tmp_path, {"n": net}, {"n": optimizer}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000001"]
    assert checkpoint_state.load_state(tmp_path / "step_0000001", {"n": net}, {"n": optimizer})["step"] == 1


@pytest.mark.medium
def test_a_process_killed_while_writing_leaves_the_checkpoint_before_it(tmp_path):
    code = """
import os, sys, paddle
from pathlib import Path
from common.checkpoint import state as checkpoint
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
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3], capture_output=True
    )
    assert done.returncode == -9, done.stderr
    assert checkpoint_state.newest_state(tmp_path).name == "step_0000001"
    assert json.loads((tmp_path / "step_0000001/progress.json").read_text()) == {"step": 1}


# ---- what people give as weights


def a_run(folder, finished=True):
    """The folder of a run as `runlog.Run` leaves it."""
    net, optimizer = trained(paddle.optimizer.Adam)
    state = checkpoint_state.save_state(folder / "checkpoints", {"n": net}, {"n": optimizer}, {"step": 3})
    (folder / "options.json").write_text("{}")
    if finished:
        weights.save_weights(folder / "weights.safetensors", {"n": net}, {"paper": "ours"})
    return state


def test_the_folder_of_a_run_stands_for_its_weights(tmp_path, capsys):
    a_run(tmp_path)
    tensors, metadata = weights.read_weights(tmp_path)
    assert metadata["paper"] == "ours" and "n.conv.weight" in tensors
    assert capsys.readouterr().out == f"note: {tmp_path} is a folder; its weights.safetensors is taken\n"


@pytest.mark.parametrize("finished", [True, False])
def test_a_checkpoint_given_as_weights_is_told_where_the_weights_are(tmp_path, finished):
    state, path = a_run(tmp_path, finished), tmp_path / "weights.safetensors"
    todo = f"for inference give {path}" if finished else f"for inference the run writes {path} at its end"
    for given in (state, state / "state.safetensors", state.parent):
        with pytest.raises(UserError) as told:
            weights.read_weights(given)
        assert str(told.value) == f"{given} is a checkpoint, which `train --resume` takes; {todo}"
    alone = (state / "state.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="is a checkpoint, .* give the weights.safetensors of its run"):
        weights.read_weights(alone)
    if not finished:
        with pytest.raises(UserError, match="a run that has not written its weights yet"):
            weights.read_weights(tmp_path)


@pytest.mark.parametrize(
    "name, told",
    [
        ("a b.pth", "`python -m PAPER.convert 'FOLDER/a b.pth' OUT.safetensors`"),
        ("net.pdparams", "`python -m PAPER.convert FOLDER/net.pdparams OUT.safetensors`"),
        ("stats.jsonl", "stats.jsonl holds no weights; give the .safetensors file that `train` or `convert` wrote"),
        ("x.safetensors", "is no safetensors file (or a corrupt one); train, convert or download it again"),
        ("completion.pdiparams", "is an exported network"),
        ("completion.json", "is an exported network"),
        ("completion.onnx", "is an exported network"),
        ("", "is an exported network"),
        ("missing.safetensors", "there is no weights file"),
        (
            "empty",
            "is a folder without weights.safetensors; give the .safetensors file that `train` or `convert` wrote",
        ),
        ("some", "give one of the files in it, such as FOLDER/some/net.safetensors"),
        ("runs", "give one of the files in it, such as FOLDER/runs/cpu/weights.safetensors"),
    ],
)
def test_other_files_and_folders_given_as_weights_are_told_what_to_do(tmp_path, name, told):
    for file in (
        "a b.pth",
        "net.pdparams",
        "stats.jsonl",
        "x.safetensors",
        "completion.pdiparams",
        "completion.json",
        "completion.onnx",
    ):
        (tmp_path / file).write_bytes(b"PK\x03\x04 something else")
    for file in ("empty", "some/net.safetensors", "runs/cpu/weights.safetensors"):
        (tmp_path / file).mkdir(parents=True)
    with pytest.raises(UserError) as problem:
        weights.read_weights(tmp_path / name)
    assert told.replace("FOLDER", str(tmp_path)) in str(problem.value) and "\n" not in str(problem.value)


def test_the_folder_of_an_export_is_read_by_the_weights_in_it(tmp_path, capsys):
    weights.save_weights(tmp_path / "net.safetensors", {"net": nn.Linear(2, 2)}, {"step": 7, "exported": "/elsewhere"})
    with pytest.raises(UserError, match="give one of the files in it"):
        weights.read_weights(tmp_path)
    (tmp_path / "net.pdiparams").write_bytes(b"program")
    assert weights.read_weights(tmp_path)[1]["exported"] == str(tmp_path / "net.pdiparams")
    assert capsys.readouterr().out.startswith(f"note: {tmp_path} is an exported network; its net.safetensors is taken")
    assert "exported" not in weights.read_weights(tmp_path / "net.safetensors")[1]
    with pytest.raises(UserError, match=f"net.pdiparams is a file of an exported network; give its folder, {tmp_path}"):
        weights.read_weights(tmp_path / "net.pdiparams")
    (tmp_path / "net.safetensors").replace(tmp_path / "weights.safetensors")  # a run's own are newer than an export
    assert "exported" not in weights.read_weights(tmp_path)[1]


# ---- damaged checkpoints


def saved_state(folder, step=3):
    net, optimizer = trained(paddle.optimizer.Adam, learning_rate=1e-2)
    progress = {"step": step, "score": 2.5}
    return checkpoint_state.save_state(folder, {"n": net}, {"n": optimizer}, progress), {"n": net}, {"n": optimizer}


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda folder: (folder / "state.safetensors").write_bytes(
        (folder / "state.safetensors").read_bytes()[:-1]
    ),
    "zeroed": lambda folder: (folder / "state.safetensors").write_bytes(
        bytes((folder / "state.safetensors").stat().st_size)
    ),
    "empty": lambda folder: (folder / "state.safetensors").write_bytes(b""),
    "a bit of a tensor flipped": lambda folder: flip(folder / "state.safetensors", -1),
    "a bit of the header flipped": lambda folder: flip(folder / "state.safetensors", 20),
    "a digit of the progress changed": lambda folder: flip(folder / "progress.json", -3),
    "state missing": lambda folder: (folder / "state.safetensors").unlink(),
    "progress missing": lambda folder: (folder / "progress.json").unlink(),
    "progress zeroed": lambda folder: (folder / "progress.json").write_bytes(bytes(30)),
    "checksums damaged": lambda folder: (folder / "checksums.json").write_text("{"),
    "checksums of other files": lambda folder: (folder / "checksums.json").write_text("{}"),
    "checksums no table": lambda folder: (folder / "checksums.json").write_text("[1]"),
    "checksums strange": lambda folder: (folder / "checksums.json").write_text(
        '{"state.safetensors": 1, "progress.json": []}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_never_taken(tmp_path, damage):
    folder, nets, optimizers = saved_state(tmp_path)
    before = tensors(nets["n"])
    DAMAGES[damage](folder)
    step(nets["n"], optimizers["n"], 5)
    after = tensors(nets["n"])
    with pytest.raises(checkpoint_state.DamagedError, match=r"step_0000003 is damaged: \w+\.(safetensors|json)"):
        checkpoint_state.load_state(folder, nets, optimizers)
    for key, value in tensors(nets["n"]).items():
        np.testing.assert_array_equal(value, after[key])  # untouched
    assert any((before[key] != after[key]).any() for key in before)


def test_checksums_are_crc32_of_the_files(tmp_path):
    import zlib

    folder, *_ = saved_state(tmp_path)
    noted = json.loads((folder / "checksums.json").read_text())
    assert noted.keys() == {"state.safetensors", "progress.json"}
    for name, found in noted.items():
        content = (folder / name).read_bytes()
        assert found == {"bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}


def test_a_checkpoint_from_before_there_were_checksums(tmp_path):
    folder, nets, optimizers = saved_state(tmp_path)
    (folder / "checksums.json").unlink()
    assert checkpoint_state.load_state(folder, nets, optimizers) == {"step": 3, "score": 2.5}
    (folder / "state.safetensors").write_bytes(b"\x08" + bytes(70))
    with pytest.raises(checkpoint_state.DamagedError, match="state.safetensors"):
        checkpoint_state.load_state(folder, nets, optimizers)


@pytest.mark.parametrize(
    "odd",
    [{"step": 4}, {"step": "3"}, {"step": True}, {"score": "best"}, {"skipped": 1.5}, {"scalers": []}, {"data": 1},
     {"learning_rates": [1]}, {"schedule_steps": "6"}, {"computed_by": 1}],
)  # fmt: skip
def test_progress_is_checked_like_input(tmp_path, odd):
    folder, *_ = saved_state(tmp_path)
    (folder / "progress.json").write_text(json.dumps({"step": 3, **odd}))
    assert checkpoint_state.read_progress(folder) is None


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    """It was left by a run that went on from here with other options."""
    folder, nets, optimizers = saved_state(tmp_path)
    step(nets["n"], optimizers["n"], 5)
    now = tensors(nets["n"])
    checkpoint_state.save_state(tmp_path, nets, optimizers, {"step": 3, "score": 1.0})
    step(nets["n"], optimizers["n"], 6)
    assert checkpoint_state.load_state(folder, nets, optimizers)["score"] == 1.0
    for key, value in tensors(nets["n"]).items():
        np.testing.assert_array_equal(value, now[key])


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    folder, *_ = saved_state(tmp_path)
    (tmp_path / ".writing-step_0000009").mkdir()
    (tmp_path / ".writing-curves.png").write_bytes(b"half")
    atomic.remove_unfinished(tmp_path, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [folder]
