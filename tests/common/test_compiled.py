"""Compiled and exported networks, of every kind of layer that the papers have; leaky ReLUs are what readers mistake."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import compiled, exported
from common.compiled import compile_network
from common.device import paddle
from common.errors import UserError

from paddle import nn
from paddle.nn import functional

ROOT = Path(__file__).parents[2]


class Network(nn.Layer):
    """Two pictures from one: every kind of layer of the papers' networks."""

    def __init__(self, slope: float = 0.2, shift: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2D(8)
        self.relu1, self.relu2 = nn.LeakyReLU(slope), nn.LeakyReLU(slope)
        self.conv2 = nn.Conv2D(8, 6, 3, padding=2, dilation=2)
        self.deconv = nn.Conv2DTranspose(6, 3, 4, stride=2, padding=1)
        self.shift, self.facts = shift, {"step": 7}

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
def cache(tmp_path, monkeypatch):
    """An empty cache, no patience, and the check in this process, which is faster; Paddle ends none of these."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "check_elsewhere", compiled.check)
    return tmp_path / "cache/paddle-completion-suite/compiled"


def entries(cache):
    return sorted(path for path in cache.iterdir()) if cache.exists() else []


def compile_now(net, *given, **how):
    """Called until it is compiled, or loaded, which wants as much eager work as that takes."""
    fast = compile_network(net, **how)
    for _ in range(2000):
        answer(fast, *(given or inputs()))
        if fast.programs:
            return fast
    raise AssertionError("it stays eager")


def counts_calls(net):
    """Calls of a network's own forward from now on."""
    calls = []
    net.register_forward_pre_hook(lambda layer, given: calls.append(given))
    return calls


# ---- equal


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


@pytest.mark.parametrize(
    ("free", "other"),
    [("nothing", inputs(2)), ("nothing", inputs(1, 24)), ("batch", inputs(1, 24)), ("sides", inputs(2))],
)
def test_what_is_not_free_is_compiled_anew(free, other, cache):
    net = network()
    fast = compile_now(net, free=free)
    assert len(fast.programs) == len(entries(cache)) == 1
    answer(fast, *other)
    assert len(fast.programs) == len(entries(cache)) == 2
    assert_same(answer(fast, *other), answer(net, *other))


@pytest.mark.parametrize(("free", "other"), [("batch", inputs(3)), ("sides", inputs(1, 24, 40))])
def test_what_is_free_is_not_compiled_anew(free, other):
    net = network()
    fast = compile_now(net, free=free)
    assert_same(answer(fast, *other), answer(net, *other))
    assert len(fast.programs) == 1


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
    assert fast.facts == {"step": 7} and fast.training is False
    with pytest.raises(AttributeError):
        _ = fast.nothing_of_the_kind


def test_a_network_in_training_answers_itself(cache):
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


def test_little_work_is_done_eagerly(monkeypatch, cache):
    monkeypatch.setattr(compiled, "LOOK_SECONDS", 1000.0)
    answer(compile_network(network()), *inputs())
    assert entries(cache) == []


def test_it_is_compiled_when_eager_work_has_cost_as_much(monkeypatch, cache):
    """The clock stands still but in the network, where a call takes four seconds."""
    now = [0.0]
    monkeypatch.setattr(compiled.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(compiled, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(compiled, "BUILD_SECONDS", 10.0)
    net = network()
    net.register_forward_pre_hook(lambda layer, given: now.__setitem__(0, now[0] + 4))
    fast = compile_network(net)
    for built in (0, 0, 1):  # after 4, 8 and 12 seconds
        answer(fast, *inputs())
        assert len(entries(cache)) == built
    again = compile_network(net)
    answer(again, *inputs())
    assert len(again.programs) == 1  # found in the cache, which costs less


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
def test_a_wrong_answer_is_refused(kind, capsys, cache):
    assert "differs by" in falls_back(network(kind), capsys)
    assert entries(cache) == []


def test_a_frozen_size_is_refused_where_sizes_should_be_free(capsys, cache):
    assert "differs by" in falls_back(network(Frozen), capsys)
    fast = compile_now(network(Frozen), free="nothing")
    assert len(fast.programs) == 1


def test_a_network_that_cannot_be_traced_and_one_that_ends_the_process(monkeypatch, capsys, cache, tmp_path):
    net = network()
    monkeypatch.setattr(exported.paddle.jit, "save", lambda *_, **__: 1 / 0)
    assert "division by zero" in falls_back(net, capsys)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert "exit status 1" in falls_back(net, capsys)
    assert entries(cache) == []


def test_what_is_right_once_only_is_refused(capsys, cache, monkeypatch):
    """Paddle 3.3 made such a program of layers whose weights were split: it overwrote them as it ran."""
    opened = compiled.open_program

    def forgetful(folder):
        run, calls = opened(folder), []

        def once(arrays):
            calls.append(arrays)
            return [answer * (np.nan if len(calls) > 1 else 1) for answer in run(arrays)]

        return once

    monkeypatch.setattr(compiled, "open_program", forgetful)
    net = network()
    fast = compile_network(net, free="nothing")
    for _ in range(3):
        assert_same(answer(fast, *inputs()), answer(net, *inputs()), most=0)
    assert "uncompiled" in capsys.readouterr().out and entries(cache) == []


def test_stands_for_is_compared_with_the_network_itself(capsys):
    net = network(seed=1)
    assert "differs by" in falls_back(net, capsys, stands_for=network(seed=2))
    twin = network(seed=3)
    twin.set_state_dict(net.state_dict())
    assert compile_now(net, stands_for=twin).programs


# ---- the cache


def test_the_cache_is_used_and_is_the_users_own(monkeypatch, cache):
    net = network()
    compile_now(net)
    assert cache.stat().st_mode & 0o777 == 0o700 and len(entries(cache)) == 1
    monkeypatch.setattr(compiled, "build", None)
    fast = compile_now(network())
    assert_same(answer(fast, *inputs()), answer(net, *inputs()))


def test_other_weights_settings_code_or_versions_have_other_entries(monkeypatch, cache):
    net = network()
    names = {compiled.fingerprint(net, (None,))}

    def new():
        names.add(compiled.fingerprint(net, (None,)))
        return len(names)

    compile_now(net)
    assert new() == 1  # being used and being traced leave no trace
    weight = net.conv1.weight.numpy()
    weight[0, 0, 0, 0] = np.nextafter(weight[0, 0, 0, 0], np.float32(9))
    net.conv1.weight.set_value(weight)
    assert new() == 2
    net.norm._variance.set_value(paddle.full([8], 2.0))
    assert new() == 3
    net.shift = 0.5
    assert new() == 4
    monkeypatch.setattr(paddle, "__version__", "9.9")
    assert new() == 5
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "test_compiled.py"))
    assert new() == 6
    assert compiled.fingerprint(net, (1, 2)) not in names


def test_networks_that_differ_in_one_weight_do_not_meet(cache):
    one, other = network(), network()
    compile_now(one)
    other.deconv.bias.set_value(other.deconv.bias + 0.5)
    fast = compile_now(other)
    assert len(entries(cache)) == 2
    assert_same(answer(fast, *inputs()), answer(other, *inputs()))


@pytest.mark.parametrize("damage", ["a byte", "cut", "no note", "half a note", "no parameters"])
def test_a_damaged_entry_is_compiled_anew(damage, cache):
    net = network()
    compile_now(net)
    (entry,) = entries(cache)
    parameters, note = entry / "network.pdiparams", entry / compiled.NOTE
    content = parameters.read_bytes()
    {
        "a byte": lambda: parameters.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
        "cut": lambda: parameters.write_bytes(content[: len(content) // 2]),
        "no note": note.unlink,
        "half a note": lambda: note.write_text(note.read_text()[:20]),
        "no parameters": parameters.unlink,
    }[damage]()
    assert compiled.read_note(entry) is None
    fast = compile_now(net)
    assert_same(answer(fast, *inputs()), answer(net, *inputs()))
    assert entries(cache) == [entry] and compiled.read_note(entry)["difference"] <= 1e-4
    assert parameters.read_bytes() == content


def test_without_a_cache_it_works_eagerly(capsys, cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    falls_back(network(), capsys)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "open"))
    shared = tmp_path / "open/paddle-completion-suite/compiled"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    assert "other users" in falls_back(network(), capsys)
    assert entries(shared) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(capsys, cache):
    cache.mkdir(parents=True, mode=0o500)
    assert "ermission" in falls_back(network(), capsys)


@pytest.mark.parametrize("when", ["savez", "write_text"])
def test_a_full_disk(when, capsys, cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"savez": (np, "savez"), "write_text": (Path, "write_text")}[when], full)
    assert "No space left" in falls_back(network(), capsys)
    assert entries(cache) == []


def test_the_cache_is_bounded_and_forgets_what_was_not_used(cache, monkeypatch):
    kept = [network(seed=n) for n in range(3)]
    for age, net in enumerate(kept):
        compile_now(net)
        newest = max(entries(cache), key=lambda path: (path / compiled.NOTE).stat().st_mtime)
        os.utime(newest / compiled.NOTE, (1000 + age, 1000 + age))
    names = {
        seed: compiled.fingerprint(net, ((None, 3, None, None), (None, 1, None, None))) for seed, net in enumerate(kept)
    }
    assert {path.name for path in entries(cache)} == set(names.values())
    compile_now(kept[0])  # used again
    left = cache / ".building-killed"
    left.mkdir()
    os.utime(left, (1000, 1000))
    (cache / ".building-at-work").mkdir()
    size = sum(path.stat().st_size for path in (cache / names[0]).iterdir())
    monkeypatch.setattr(compiled, "CACHE_BYTES", 2.5 * size)
    compile_now(network(seed=9))
    found = {path.name for path in entries(cache)}
    assert names[0] in found and not {names[1], names[2], left.name} & found
    assert len(found) == 3 and ".building-at-work" in found
    monkeypatch.setattr(compiled, "CACHE_BYTES", 0)
    fast = compile_now(network(seed=10))
    assert len(entries(cache)) == 2 and fast.programs  # the newest, too large or not


def test_another_process_that_was_faster(cache, monkeypatch, capsys):
    """While one checks what it compiled, another one's entry appears: it is kept, and both work."""
    net = network()

    def slow(folder):
        monkeypatch.setattr(compiled, "check_elsewhere", compiled.check)
        compile_now(net)
        (theirs,) = [path for path in entries(cache) if not path.name.startswith(".")]
        times.append((theirs / "network.pdiparams").stat().st_ino)
        return compiled.check(folder)

    times = []
    monkeypatch.setattr(compiled, "check_elsewhere", slow)
    fast = compile_now(net)
    (entry,) = entries(cache)
    assert (entry / "network.pdiparams").stat().st_ino == times[0]
    assert_same(answer(fast, *inputs()), answer(net, *inputs()))
    assert capsys.readouterr().out == ""


BOTH = """
import importlib.util, sys
from common import compiled
spec = importlib.util.spec_from_file_location("nets", sys.argv[1])
sys.modules["nets"] = nets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nets)
compiled.LOOK_SECONDS = compiled.BUILD_SECONDS = 0.0
net = nets.network()
fast = nets.compile_now(net)
assert len(fast.programs) == 1
nets.assert_same(nets.answer(fast, *nets.inputs()), nets.answer(net, *nets.inputs()))
"""


def test_two_processes_at_once_each_with_a_process_that_checks(cache):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    settings = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": "/"}
    both = [subprocess.Popen([sys.executable, "-c", BOTH, __file__], **settings) for _ in range(2)]
    said = [each.communicate(timeout=300)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    (entry,) = entries(cache)
    assert compiled.read_note(entry)["difference"] <= 1e-4
    assert not (entry / compiled.SAMPLES).exists()


# ---- export


class First(nn.Layer):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image, mask):
        return self.net(image, mask)[0]


def write(net, folder, form="paddle"):
    wrapped = First(net)
    wrapped.eval()
    sides = [(16, 16), (24, 8)]
    return exported.export(wrapped, folder, "net", lambda *size: list(inputs(*size)), sides, form)


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


def test_an_old_export_stays_until_the_new_one_is_good(tmp_path):
    write(network(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError):
        write(network(Wrong), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(network(seed=5), tmp_path)
    assert (tmp_path / "net.pdiparams").read_bytes() != before["net.pdiparams"]
