"""Compiled and exported networks, of every kind of layer that the papers have; leaky ReLUs are what readers mistake."""

import errno
import shutil
import sys

import numpy as np
import pytest

from common.deploy import engine
from common.deploy import export as exported
from common.deploy.engine import compile_network
from common.errors import UserError
from common.runtime.device import paddle

from paddle import nn
from paddle.nn import functional


class Network(nn.Layer):
    """Two images from one: every kind of layer of the papers' networks."""

    def __init__(self, slope: float = 0.2, shift: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2D(8)
        self.relu1, self.relu2 = nn.LeakyReLU(slope), nn.LeakyReLU(slope)
        self.conv2 = nn.Conv2D(8, 6, 3, padding=2, dilation=2)
        self.deconv = nn.Conv2DTranspose(6, 3, 4, stride=2, padding=1)
        self.shift, self.metadata = shift, {"step": 7}

    def forward(self, image, mask, edge=None):
        x = image * (1 - mask) if edge is None else image * (1 - mask) + edge
        x = self.relu1(self.norm(self.conv1(functional.pad(x, [1, 1, 1, 1], mode="reflect"))))
        first, middle, last = paddle.split(self.relu2(self.conv2(x)), [1, 3, 2], axis=1)
        x = paddle.concat([last, functional.elu(middle), first], axis=1)
        made = functional.tanh(self.deconv(x) + self.shift)
        return made, made * mask


class Wrong(Network):
    """Traced, it computes something else."""

    def forward(self, image, mask, edge=None):
        made, kept = Network.forward(self, image, mask, edge)
        return made + (0 if paddle.in_dynamic_mode() else 1e-3), kept


class Frozen(Network):
    """Traced, it has the size that it saw first; of that size it is right."""

    def forward(self, image, mask, edge=None):
        made, kept = Network.forward(self, image, mask, edge)
        side = image.shape[2] if paddle.in_dynamic_mode() else 16
        return made * side / 16, kept


class Undefined(Network):
    """Traced, it divides by zero."""

    def forward(self, image, mask, edge=None):
        made, kept = Network.forward(self, image, mask, edge)
        return (made if paddle.in_dynamic_mode() else made + (mask - mask) / (mask - mask)), kept


def network(kind=Network, seed=0, **arguments):
    paddle.seed(seed)
    built = kind(**arguments)
    built.norm._mean.set_value(paddle.randn([8]))
    built.eval()
    return built


def inputs(batch=1, height=16, width=16, seed=1):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
    mask = (rng.uniform(size=(batch, 1, height, width)) < 0.3).astype(np.float32)
    return paddle.to_tensor(image), paddle.to_tensor(mask)


def answer(net, *given):
    with paddle.no_grad():
        return [each.numpy() for each in net(*given)]


def assert_same(found, expected, most=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=most)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """Compiled after the first call, and checked in this process, which is faster; Paddle ends none of these."""
    monkeypatch.setattr(engine, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(engine, "OPEN_SECONDS", 0.0)
    monkeypatch.setattr(engine, "check_elsewhere", engine.check)


def compile_now(net, **how):
    fast = compile_network(net, **how)
    with paddle.no_grad():
        fast.compile_now(*inputs())
    return fast


def counts_calls(net):
    """Calls of a network's own forward from now on."""
    calls = []
    net.register_forward_pre_hook(lambda layer, given: calls.append(given))
    return calls


# ---- equal


@pytest.mark.medium
@pytest.mark.parametrize("how", [{"slope": 0.2}, {"slope": 0.01}, {"slope": 1.5}, {"shift": 0.5}])
def test_one_program_answers_for_all_sizes(how, capsys):
    net = network(**how)
    fast = compile_now(net)
    calls = counts_calls(net)
    for given in (inputs(), inputs(3, 24, 40), inputs(2, 40, 8), inputs(1, 2 * 2, 2 * 2)):
        found = answer(fast, *given)
        assert not calls
        assert_same(found, answer(net, *given))
        calls.clear()
    assert len(fast.programs) == 1 and capsys.readouterr().out == ""


@pytest.mark.medium
@pytest.mark.parametrize(
    ("free", "other"),
    [("nothing", inputs(2)), ("nothing", inputs(1, 24)), ("batch", inputs(1, 24)), ("sides", inputs(2))],
)
def test_what_is_not_free_is_compiled_anew(free, other):
    net = network()
    fast = compile_now(net, free=free)
    assert len(fast.programs) == 1
    answer(fast, *other)
    assert len(fast.programs) == 2
    assert_same(answer(fast, *other), answer(net, *other))


@pytest.mark.medium
@pytest.mark.parametrize(("free", "other"), [("batch", inputs(3)), ("sides", inputs(1, 24, 40))])
def test_what_is_free_is_not_compiled_anew(free, other):
    net = network()
    fast = compile_now(net, free=free)
    assert_same(answer(fast, *other), answer(net, *other))
    assert len(fast.programs) == 1


@pytest.mark.medium
def test_a_third_input_is_another_program_and_none_is_no_input():
    net = network()
    fast = compile_network(net)
    image, mask = inputs()
    for _ in range(2):
        assert_same(answer(fast, image, mask, mask), answer(net, image, mask, mask))
        assert_same(answer(fast, image, mask, None), answer(net, image, mask))
    assert len(fast.programs) == 2


def test_attributes_are_the_networks():
    fast = compile_network(network())
    assert fast.metadata == {"step": 7} and fast.training is False
    with pytest.raises(AttributeError):
        _ = fast.nothing_of_the_kind


@pytest.mark.medium
def test_a_network_in_training_answers_itself():
    net = network()
    fast = compile_now(net)
    fast.train()
    calls = counts_calls(net)
    answer(fast, *inputs())
    assert len(calls) == 1
    fast.eval()
    answer(fast, *inputs())
    assert len(calls) == 1


def test_on_a_card_it_is_the_network_itself(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    net = network()
    assert compile_network(net) is net


# ---- patience


def test_little_work_is_done_eagerly(monkeypatch):
    monkeypatch.setattr(engine, "BUILD_SECONDS", 1000.0)
    fast = compile_network(network())
    answer(fast, *inputs())
    assert not fast.programs


@pytest.mark.medium
def test_it_is_compiled_when_eager_work_has_cost_as_much(monkeypatch):
    """The clock stands still but in the network, where a call takes four seconds."""
    now = [0.0]
    monkeypatch.setattr(engine.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(engine, "BUILD_SECONDS", 10.0)
    net = network()
    net.register_forward_pre_hook(lambda layer, given: now.__setitem__(0, now[0] + 4))
    fast = compile_network(net)
    for built in (0, 0, 1):  # after 4, 8 and 12 seconds
        answer(fast, *inputs())
        assert len(fast.programs) == built


# ---- refused


def falls_back(net, capsys, **how):
    """Compiles in vain; returns the one line that says so. The network answers all the same, before and after."""
    capsys.readouterr()
    fast = compile_network(net, **how)
    for _ in range(3):
        assert_same(answer(fast, *inputs()), answer(net, *inputs()), most=0)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("note: the network works uncompiled: ") and not fast.programs
    return line


@pytest.mark.parametrize("kind", [Wrong, Undefined])
def test_a_wrong_answer_is_refused(kind, capsys):
    assert "differs by" in falls_back(network(kind), capsys)


def test_a_frozen_size_is_refused_where_sizes_should_be_free(capsys):
    assert "differs by" in falls_back(network(Frozen), capsys)
    fast = compile_now(network(Frozen), free="nothing")
    assert len(fast.programs) == 1


@pytest.mark.medium
def test_a_network_that_cannot_be_traced_and_one_that_ends_the_process(monkeypatch, capsys):
    net = network()
    monkeypatch.setattr(exported.paddle.jit, "save", lambda *_, **__: 1 / 0)
    assert "division by zero" in falls_back(net, capsys)
    monkeypatch.undo()
    monkeypatch.setattr(engine, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert "exit status 1" in falls_back(net, capsys)


@pytest.mark.medium
def test_what_is_right_once_only_is_refused(capsys, monkeypatch):
    """Paddle 3.3 made such a program of layers whose weights were split: it overwrote them as it ran."""
    opened = engine.open_program

    def forgetful(folder):
        run, calls = opened(folder), []

        def once(arrays):
            calls.append(arrays)
            return [answer * (np.nan if len(calls) > 1 else 1) for answer in run(arrays)]

        return once

    monkeypatch.setattr(engine, "open_program", forgetful)
    net = network()
    fast = compile_network(net, free="nothing")
    for _ in range(3):
        assert_same(answer(fast, *inputs()), answer(net, *inputs()), most=0)
    assert "uncompiled" in capsys.readouterr().out and not fast.programs


@pytest.mark.medium
def test_stands_for_is_compared_with_the_network_itself(capsys):
    net = network(seed=1)
    assert "differs by" in falls_back(net, capsys, stands_for=network(seed=2))
    twin = network(seed=3)
    twin.set_state_dict(net.state_dict())
    assert compile_now(net, stands_for=twin).programs


# ---- nothing on disk is kept, and nothing is believed that is there


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of this process's temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(engine.tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.mark.medium
@pytest.mark.parametrize("kind", [Network, Wrong])
def test_nothing_is_left_on_disk(kind, temporary, tmp_path, monkeypatch):
    seen = []

    def watched(folder):
        seen.append((folder.parent, folder.stat().st_mode & 0o777))
        return engine.check(folder)

    monkeypatch.setattr(engine, "check_elsewhere", watched)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.cache/paddle").mkdir(parents=True)  # what Paddle makes as it traces
    answer(compile_network(network(kind)), *inputs())
    assert seen == [(temporary, 0o700)] and list(temporary.iterdir()) == []
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert {path.parents[1].name for path in files} <= {"to_static_tmp"}  # which Paddle removes when the process ends


@pytest.mark.medium
def test_a_signal_while_it_is_compared_leaves_nothing(temporary, monkeypatch):
    def stopped(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "check_elsewhere", stopped)
    with pytest.raises(KeyboardInterrupt):
        answer(compile_network(network()), *inputs())
    assert list(temporary.iterdir()) == []


@pytest.mark.medium
def test_a_process_of_its_own_compares(temporary, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(engine, "BUILD_SECONDS", 0.0)
    net = network()
    fast = compile_now(net)
    assert len(fast.programs) == 1
    assert_same(answer(fast, *inputs(3, 24, 40)), answer(net, *inputs(3, 24, 40)))


@pytest.mark.medium
@pytest.mark.parametrize("what", ["savez", "copyfile"])
def test_a_full_disk(what, capsys, temporary, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    net = network()
    if what == "copyfile":
        exported_beside(net, tmp_path)
    monkeypatch.setattr(*{"savez": (np, "savez"), "copyfile": (engine.shutil, "copyfile")}[what], full)
    fast = compile_network(net)
    assert_same(answer(fast, *inputs()), answer(net, *inputs()), most=0)
    assert "No space left" in capsys.readouterr().out
    assert list(temporary.iterdir()) == [] and not fast.programs


# ---- by a folder of `export`


def exported_beside(net, folder, kind=None):
    """Traces a network (or one of another kind) as `export` does; `net` then says that it came from there."""
    for file in exported.trace(kind or net, folder, [[None, 3, None, None], [None, 1, None, None]]):
        file.rename(folder / f"net{file.suffix}")
    net.metadata = {**net.metadata, "exported": str(folder / "net.pdiparams")}


@pytest.mark.medium
def test_an_exported_program_is_taken_and_not_compiled_anew(tmp_path, monkeypatch):
    net = network()
    exported_beside(net, tmp_path)
    monkeypatch.setattr(engine, "trace", None)
    fast = compile_network(net)
    answer(fast, *inputs())
    calls = counts_calls(net)
    found = answer(fast, *inputs(2, 24, 40))
    assert not calls and len(fast.programs) == 1
    assert_same(found, answer(net, *inputs(2, 24, 40)))


@pytest.mark.medium
@pytest.mark.parametrize("damage", ["other weights", "cut", "missing", "wrong"])
def test_an_exported_program_that_answers_otherwise_is_not_used(damage, tmp_path, capsys):
    net = network()
    exported_beside(net, tmp_path, {"other weights": network(seed=9), "wrong": network(Wrong)}.get(damage))
    parameters = tmp_path / "net.pdiparams"
    if damage == "cut":
        parameters.write_bytes(parameters.read_bytes()[:100])
    elif damage == "missing":
        parameters.unlink()
    fast = compile_network(net)
    answer(fast, *inputs())
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(f"note: the exported network {parameters} is not used: ")
    answer(fast, *inputs())  # compiled for this process, as without the folder
    assert len(fast.programs) == 1
    assert_same(answer(fast, *inputs()), answer(net, *inputs()))


@pytest.mark.medium
def test_an_output_alone(tmp_path):
    net = network()
    fast = compile_network(net, stands_for=First(net), output=0)
    First(net).eval()
    for _ in range(2):
        with paddle.no_grad():
            assert_same([fast(*inputs()).numpy()], answer(net, *inputs())[:1])
    assert len(fast.programs) == 1


@pytest.mark.medium
def test_opening_an_export_is_waited_for_less_than_compiling(tmp_path, monkeypatch):
    now, net = [0.0], network()
    exported_beside(net, tmp_path)
    monkeypatch.setattr(engine.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(engine, "OPEN_SECONDS", 3.0)
    monkeypatch.setattr(engine, "BUILD_SECONDS", 10.0)
    net.register_forward_pre_hook(lambda layer, given: now.__setitem__(0, now[0] + 2))
    fast = compile_network(net)
    for programs in (0, 1):  # after 2 and 4 seconds
        answer(fast, *inputs())
        assert len(fast.programs) == programs


# ---- export


class First(nn.Layer):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image, mask):
        return self.net(image, mask)[0]


def write(net, folder, form="paddle", weights=None):
    wrapped = First(net)
    wrapped.eval()
    sides = [(16, 16), (24, 8)]
    return exported.export(wrapped, folder, "net", lambda *size: list(inputs(*size)), sides, form, weights)


@pytest.mark.medium
def test_onnx_at_two_sizes(tmp_path, capsys):
    pytest.importorskip("paddle2onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = network()
    assert write(net, tmp_path / "made", "onnx") <= 1e-5
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["net.onnx"]
    assert "net.onnx; largest difference" in capsys.readouterr().out
    session = runtime.InferenceSession(str(tmp_path / "made/net.onnx"), providers=["CPUExecutionProvider"])
    image, mask = inputs(3, 40, 56)
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, [image.numpy(), mask.numpy()], strict=True)))
    assert_same([found], answer(net, image, mask)[:1])


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "form"), [(Wrong, "paddle"), (Frozen, "paddle"), (Undefined, "paddle"), (Frozen, "onnx")]
)
def test_what_differs_is_not_written(kind, form, tmp_path):
    if form == "onnx":
        pytest.importorskip("paddle2onnx")
        pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match="differs from the eager one"):
        write(network(kind), tmp_path / "made", form)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.medium
def test_packages_that_are_missing_or_cannot(tmp_path, monkeypatch, capsys):
    find = exported.importlib.util.find_spec
    missing = {"paddle2onnx"}
    monkeypatch.setattr(exported.importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(UserError, match=r"paddle2onnx.*pip install -e \"\.\[export\]\""):
        write(network(), tmp_path / "made", "onnx")
    monkeypatch.setattr(
        exported.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find("json")
    )
    monkeypatch.setattr(
        exported, "CONVERT", "import sys; print('[ERROR] no such operator', file=sys.stderr); sys.exit(6)"
    )
    with pytest.raises(UserError, match="no such operator; --format paddle works"):
        write(network(), tmp_path / "made", "onnx")
    monkeypatch.setattr(exported, "CONVERT", "import sys; open(sys.argv[3], 'w').write('made')")
    assert write(network(), tmp_path / "made", "onnx") is None
    assert "not compared: onnxruntime is not installed" in capsys.readouterr().out
    assert (tmp_path / "made/net.onnx").read_text() == "made"


@pytest.mark.medium
def test_an_old_export_stays_until_the_new_one_is_good(tmp_path):
    write(network(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError):
        write(network(Wrong), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(network(seed=5), tmp_path)
    assert (tmp_path / "net.pdiparams").read_bytes() != before["net.pdiparams"]


@pytest.mark.medium
def test_the_weights_go_beside_the_program_and_overwrite_no_others(tmp_path):
    own, theirs = tmp_path / "own.safetensors", tmp_path / "made/net.safetensors"
    own.write_bytes(b"own")
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    with pytest.raises(UserError, match=r"net\.safetensors is there and not of an earlier export"):
        write(network(), tmp_path / "made", weights=own)
    assert [path.name for path in theirs.parent.iterdir()] == ["net.safetensors"] and theirs.read_bytes() == b"theirs"
    theirs.unlink()
    write(network(), tmp_path / "made", weights=own)
    assert theirs.read_bytes() == b"own"
    own.write_bytes(b"newer")
    write(network(), tmp_path / "made", weights=own)
    assert theirs.read_bytes() == b"newer"
    write(network(), tmp_path / "made", weights=theirs)  # exported again from the folder itself
    assert theirs.read_bytes() == b"newer"
