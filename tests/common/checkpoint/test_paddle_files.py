"""`.pdparams`: plain Paddle takes what is written, what it cannot carry lies beside it, and nothing is unpickled."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint import weights
from common.checkpoint.paddle_files import read_paddle_files, write_paddle_files
from common.errors import UserError

import paddle
from paddle import nn


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def network():
    return nn.Sequential(nn.Conv2D(2, 4, 3), nn.BatchNorm2D(4))


def written(folder):
    """Two networks in a folder, and their tensors."""
    paddle.seed(5)
    nets = {"generator": network(), "discriminator": network()}
    path = weights.save_weights(folder / "w/w.safetensors", nets, {"paper": "none", "image_px": 64, "generator": {}})
    tensors, metadata = weights.read_weights(path)
    write_paddle_files(folder / "out", tensors, metadata)
    return nets, tensors, metadata


def test_plain_paddle_takes_it(tmp_path):
    nets, _, _ = written(tmp_path)
    for name, net in nets.items():
        state, other = paddle.load(str(tmp_path / f"out/{name}.pdparams")), network()
        missing, unexpected = other.set_state_dict(state)
        assert not missing and not unexpected and {str(x.dtype) for x in state.values()} == {"paddle.float32"}
        for key, value in net.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), other.state_dict()[key].numpy())


@pytest.mark.parametrize("given", ["out", "out/generator.pdparams", "out/discriminator.pdparams"])
def test_read_again_with_all_it_had(tmp_path, given):
    _, tensors, metadata = written(tmp_path)
    again, same = weights.read_weights(tmp_path / given)
    assert same == metadata and again.keys() == tensors.keys()
    for name in tensors:
        np.testing.assert_array_equal(again[name], tensors[name])


def test_what_plain_paddle_saved_over_it_is_read(tmp_path):
    written(tmp_path)
    trained = network()
    paddle.save(trained.state_dict(), str(tmp_path / "out/generator.pdparams"))
    tensors, _ = weights.read_weights(tmp_path / "out")
    np.testing.assert_array_equal(tensors["generator.0.weight"], trained[0].weight.numpy())


def test_what_it_cannot_carry_is_not_guessed(tmp_path):
    written(tmp_path)
    file, note = tmp_path / "out/generator.pdparams", tmp_path / "out/weights.json"
    content = json.loads(note.read_text())
    (tmp_path / "out/mine.pdparams").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="is about .*generator.pdparams.*, not mine.pdparams"):
        weights.read_weights(tmp_path / "out/mine.pdparams")
    for files in ({"generator": "../generator.pdparams"}, ["generator"], {"generator": 5}):
        note.write_text(json.dumps(content | {"files": files}))
        with pytest.raises(UserError, match=r"weights.json is corrupt|is about"):
            weights.read_weights(file)
    note.unlink()
    with pytest.raises(UserError, match="no weights.json beside it"):
        weights.read_weights(file)


@pytest.mark.parametrize("content", [Malice(), {"a": Malice()}, {"a": np.arange(3)}, {"a": "text"}, [np.zeros(3)], 5])
def test_anything_else_is_refused_unexecuted(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    Path("out/generator.pdparams").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(UserError, match="generator.pdparams"):
        read_paddle_files(tmp_path / "out/generator.pdparams")
    assert not Path("executed").exists()


def test_a_truncated_file(tmp_path):
    written(tmp_path)
    file = tmp_path / "out/generator.pdparams"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="generator.pdparams is no state_dict"):
        weights.read_weights(file)
