"""What the `convert` commands share: tensors find their places strictly, and nothing is built that is too large."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import read_weights
from common.convert import mapping
from common.convert.options import ConvertSettings
from common.errors import UserError

from paddle import nn

FILE = Path("published.pth")


class Small(nn.Layer):
    def __init__(self, width: int = 2):
        super().__init__()
        self.arguments = {"width": width}
        self.conv = nn.Conv2D(3, width, 1)
        self.norm = nn.BatchNorm2D(width)


def test_take_removes_what_it_gives():
    given = {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32), "c": np.ones(2, np.int64)}
    np.testing.assert_array_equal(mapping.take(given, "a", FILE, (2, 3)), np.ones((2, 3)))
    assert list(given) == ["b", "c"]
    for name, shape, text in (
        ("a", None, "published.pth lacks the tensor a"),
        ("b", (3,), "published.pth: b has shape [2], its place asks [3]"),
        ("c", None, "published.pth: c holds int64 numbers, which no weights are"),
    ):
        with pytest.raises(UserError) as problem:
            mapping.take(dict(given), name, FILE, shape)
        assert str(problem.value) == text


def test_finish_refuses_what_is_left(capsys):
    with pytest.raises(UserError, match=r"belong to no layer: n0, n1, n2, n3 and 2 more"):
        mapping.finish({f"n{n}": np.ones(1) for n in range(6)}, 3, [], FILE)
    mapping.finish({}, 3, ["a.lr", "b/Adam", "c.lr"], FILE)
    assert capsys.readouterr().out == "mapped: 3 tensors; left out: Adam, lr\n"


def test_shapes_of_a_network_too_large_to_build():
    """4,096 channels from as many, with kernels of 4,096 x 4,096, are 2^48 weights: a petabyte."""
    shapes = mapping.shapes_of(lambda n: nn.Conv2D(n, n, n), {"n": 4_096}, FILE)
    assert shapes == {"weight": (4_096,) * 4, "bias": (4_096,)}
    with pytest.raises(UserError, match=r"published.pth describes a network that cannot be built: .* 0 to 65536"):
        mapping.shapes_of(Small, {"width": -1}, FILE)


@pytest.mark.parametrize("name, step", [("DCGAN.model-60502.pth", 0), ("snap-7", 7), ("latest.pth", 0)])
def test_write_says_where_the_weights_come_from(tmp_path, name, step):
    published = tmp_path / name
    published.write_bytes(b"numbers")
    source = mapping.Source("somebody/code", "MIT")
    written = mapping.write(tmp_path / "out.safetensors", "paper", {"g": Small()}, {"crop": "x"}, source, published)
    metadata = read_weights(written)[1]
    assert metadata["g"] == {"width": 2} and (metadata["paper"], metadata["crop"]) == ("paper", "x")
    assert (metadata["step"], metadata["licence"]) == (step, "MIT")
    assert metadata["source"] == f"somebody/code, {name}" and json.dumps(metadata)


def test_published_file_is_not_overwritten(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "netD.safetensors"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"x")
    other.write_bytes(b"x")
    for output in (folder / "a.safetensors", other):
        with pytest.raises(UserError, match="another file"):
            mapping.published_file(ConvertSettings(folder, output), beside=[other])
    assert mapping.published_file(ConvertSettings(folder, tmp_path / "b.safetensors")) == folder / "a.safetensors"
