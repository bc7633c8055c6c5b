"""Several processes do what one does: run for real, with gloo on the processor, by Paddle's own launcher."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.runtime import distributed
from data.synthetic import write_faces, write_streets

import paddle

ROOT = Path(__file__).parents[3]
TIMEOUT = 240

# Trains a paper's TINY preset with changes, and writes the weights of every process where it saves and at the end.
SCRIPT = """
import dataclasses, importlib, json, sys
from pathlib import Path
import paddle
from safetensors.numpy import save_file
from common.runtime import distributed, peers
from common.runtime.commands import one_line_errors
from common.training import run as runlog
paper, folder, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
peers.SILENT_SECONDS = changes.pop("silent_seconds", peers.SILENT_SECONDS)
module, config = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
build, kept, descent = module.build, {}, changes.pop("descent", False)
def keep(cfg):
    kept["nets"], optimizers = build(cfg)
    if descent:
        rate = cfg.learning_rate
        optimizers = {name: paddle.optimizer.SGD(rate, kept["nets"][name].parameters()) for name in optimizers}
    return kept["nets"], optimizers
module.build = keep
def write_weights():
    weights = {f"{name}.{key}": value.numpy() for name, net in kept["nets"].items()
               for key, value in net.named_parameters() if not value.stop_gradient}
    save_file(weights, f"{folder}/weights-{distributed.rank()}.safetensors")
save = runlog.Run.save
runlog.Run.save = lambda run: (write_weights(), save(run))
changes["data_dir"] = Path(changes["data_dir"])
cfg = dataclasses.replace(config.TINY, device="cpu", workers=1, run_dir=folder + "/run", preset="quick", **changes)
try:
    one_line_errors(lambda argv: module.train(cfg))([])
finally:
    write_weights()
"""


# Gradient descent, because Adam's steps are the same for gradients of any scale (a sum over processes would pass for a
# mean), and whole steps where a gradient is nothing but rounding.
DESCENT = {"descent": True, "learning_rate": 0.2, "decay_steps": 0, "warmup_steps": 0}
# Float32 units at the size of the largest value, a few for each of 12 steps. One was seen; a sum in the place of a mean
# makes 30,000.
ROUNDING = 12 * 8 * float(np.finfo(np.float32).eps)


def launch(folder, paper, count, nodes=1, **changes):
    """Starts the script in `count` processes (on each of `nodes`); returns the launchers."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    arguments = [str(script), paper, str(folder), json.dumps(changes)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "FLAGS_"))}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launchers = []
    port = free_port()
    for node in range(nodes):
        command = [sys.executable]
        if count * nodes > 1:
            command += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(count)]
            command += ["--log_dir", str(folder / f"log-{node}")]
        if nodes > 1:
            command += ["--master", f"127.0.0.1:{port}", "--nnodes", str(nodes), "--rank", str(node)]
        launchers.append(
            subprocess.Popen(
                command + arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, start_new_session=True,
            )
        )  # fmt: skip
    return launchers


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def finish(launchers):
    try:
        said = [launcher.communicate(timeout=TIMEOUT)[0] for launcher in launchers]
    finally:
        for launcher in launchers:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
    assert all(launcher.returncode == 0 for launcher in launchers), "\n".join(said)[-3000:]
    return "\n".join(said)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "run/stats.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def same(one, other):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key] == pytest.approx(right[key], rel=ROUNDING, abs=ROUNDING), key


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return str(write_faces(tmp_path_factory.mktemp("data") / "faces", 30))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, faces):
    folder = tmp_path_factory.mktemp("alone") / "one"
    finish(launch(folder, "deepfill", 1, total_steps=12, data_dir=faces, **DESCENT))
    return folder


def test_one_process_is_left_alone():
    assert (distributed.count(), distributed.rank()) == (1, 0)
    tensor = paddle.ones([2])
    assert distributed.average([tensor])[0] is tensor and distributed.largest([3]) == [3]
    with distributed.first_alone():
        pass


def same_weights(folder, ranks=2):
    first, *others = (load_file(folder / f"weights-{rank}.safetensors") for rank in range(ranks))
    for other in others:
        for name, value in first.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    return first


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, alone, faces):
    """DeepFill's networks have no batch norm: half a batch each, gradients averaged, is the whole batch."""
    finish(launch(tmp_path / "two", "deepfill", 2, total_steps=12, data_dir=faces, **DESCENT))
    same(losses(tmp_path / "two"), losses(alone))
    weights, whole = same_weights(tmp_path / "two"), load_file(alone / "weights-0.safetensors")
    for name, value in weights.items():
        wide = ROUNDING * max(1.0, np.abs(whole[name]).max())
        np.testing.assert_allclose(value, whole[name], rtol=0, atol=wide, err_msg=name)
    assert sorted(path.name for path in (tmp_path / "two/run/checkpoints").iterdir()) == ["step_0000012"]


@pytest.mark.slow
def test_two_processes_with_two_micro_batches_each_learn_what_one_does(tmp_path, faces):
    """Four images a step without batch norm, one in each micro-batch of each process, against all four at once."""
    plan = {"total_steps": 6, "batch_size": 4, "data_dir": faces, "plain_steps": 6, **DESCENT}
    finish(launch(tmp_path / "one", "deepfill", 1, **plan))
    finish(launch(tmp_path / "two", "deepfill", 2, accumulate=2, **plan))
    weights, whole = same_weights(tmp_path / "two"), load_file(tmp_path / "one/weights-0.safetensors")
    for name, value in weights.items():
        wide = ROUNDING * max(1.0, np.abs(whole[name]).max())
        np.testing.assert_allclose(value, whole[name], rtol=0, atol=wide, err_msg=name)
    same(losses(tmp_path / "two"), losses(tmp_path / "one"))


@pytest.mark.slow
def test_another_number_of_processes_goes_on(tmp_path, alone, faces):
    """Four steps of two processes, four of one, four of two on two machines (so to say)."""
    folder, changes = tmp_path / "run", {"data_dir": faces, **DESCENT}
    for count, nodes, steps in ((2, 1, 4), (1, 1, 8), (1, 2, 12)):
        said = finish(launch(folder, "deepfill", count, nodes, total_steps=steps, **changes))
        assert steps == 4 or f"{steps - 4} steps done" in said
    same_weights(folder)
    last, whole = losses(folder)[-1], losses(alone)[-1]
    assert last["step"] == 12 and last["reconstruction"] == pytest.approx(whole["reconstruction"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["glcic", "pix2pix", "context_encoder", "dcgan_completion"])
def test_no_process_strays(tmp_path, paper, faces):
    data = faces if paper != "pix2pix" else str(write_streets(tmp_path / "streets", 12))
    finish(launch(tmp_path / "two", paper, 2, total_steps=50, data_dir=data))
    same_weights(tmp_path / "two")
    assert [line["step"] for line in losses(tmp_path / "two") if "discriminator" in line][-1] == 50


def command_line(pid):
    """Of a process; nothing if it has just ended, as what the launcher asks the machine with does."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def endless(tmp_path, faces):
    """A run of two processes that has done ten steps: launcher, process ids, folder."""
    (launcher,) = launch(tmp_path / "two", "deepfill", 2, total_steps=100_000, data_dir=faces, silent_seconds=8)
    stats = tmp_path / "two/run/stats.jsonl"
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (stats.exists() and '"step": 10,' in stats.read_text()):
            assert time.monotonic() < deadline and launcher.poll() is None
            time.sleep(0.2)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        trainers = [int(pid) for pid in children if b"script.py" in command_line(pid)]
        assert len(trainers) == 2
        yield launcher, trainers, tmp_path / "two"
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_ends_the_job(endless):
    """The other one does not wait for ever, and the launcher says so; which it hears of first is a matter of chance."""
    launcher, trainers, folder = endless
    os.kill(trainers[1], signal.SIGKILL)
    said = launcher.communicate(timeout=TIMEOUT)[0]
    assert launcher.returncode != 0 and re.search(r"Container rank [01] status failed", said), said
    told = (folder / "log-0/workerlog.0").read_text().splitlines()[-1]
    gone = f"process 1 (pid {trainers[1]} on {socket.gethostname()}) of this run is gone"
    assert told.startswith(f"error: {gone}") and "goes on from the last checkpoint" in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in trainers)


@pytest.mark.slow
def test_a_process_that_stops_answering_is_named(endless):
    """As of a machine that hangs or is cut off: its connections stay open, and nothing comes."""
    launcher, trainers, folder = endless
    os.kill(trainers[0], signal.SIGSTOP)
    try:
        launcher.communicate(timeout=TIMEOUT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainers[0], signal.SIGKILL)
    told = (folder / "log-0/workerlog.1").read_text().splitlines()[-1]
    assert launcher.returncode != 0
    assert told.startswith(f"error: process 0 (pid {trainers[0]} on ")
    assert "of this run has not answered for 8 s" in told


@pytest.mark.slow
def test_ctrl_c_on_the_launcher_saves(endless):
    launcher, _, folder = endless
    os.kill(launcher.pid, signal.SIGINT)
    launcher.communicate(timeout=TIMEOUT)
    (saved,) = (folder / "run/checkpoints").iterdir()
    assert int(saved.name[5:]) >= 10 and int(saved.name[5:]) % 10 == 0
    same_weights(folder)  # written where both save: the launcher kills a process that takes long to end
