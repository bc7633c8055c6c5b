"""Several processes do what one does: run for real, with gloo on the processor, by Paddle's own launcher."""

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

from common import processes
from data.synthetic import write_faces, write_streets

import paddle

ROOT = Path(__file__).parents[2]
TIMEOUT = 240

# Trains a paper's TINY preset with changes, and writes the weights of every process where it saves and at the end.
SCRIPT = """
import dataclasses, importlib, json, sys
from pathlib import Path
from safetensors.numpy import save_file
from common import processes, runlog
paper, folder, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
module, config = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
build, kept = module.build, {}
def keep(cfg):
    kept["nets"], optimizers = build(cfg)
    return kept["nets"], optimizers
module.build = keep
def write_weights():
    weights = {f"{name}.{key}": value.numpy() for name, net in kept["nets"].items()
               for key, value in net.named_parameters() if not value.stop_gradient}
    save_file(weights, f"{folder}/weights-{processes.rank()}.safetensors")
save = runlog.Run.save
runlog.Run.save = lambda run: (write_weights(), save(run))
changes["data_dir"] = Path(changes["data_dir"])
cfg = dataclasses.replace(config.TINY, device="cpu", workers=1, run_dir=folder + "/run", preset="quick", **changes)
try:
    module.train(cfg)
finally:
    write_weights()
"""


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


def same(one, other, tolerances):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            wide = tolerances.get(key, tolerances["others"])
            assert left[key] == pytest.approx(right[key], rel=wide, abs=wide), key


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return str(write_faces(tmp_path_factory.mktemp("data") / "faces", 30))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, faces):
    folder = tmp_path_factory.mktemp("alone") / "one"
    finish(launch(folder, "deepfill", 1, total_steps=12, data_dir=faces))
    return folder


def test_one_process_is_left_alone():
    assert (processes.count(), processes.rank()) == (1, 0)
    tensor = paddle.ones([2])
    assert processes.average([tensor])[0] is tensor and processes.largest([3]) == [3]
    with processes.first_alone():
        pass


def same_weights(folder, ranks=2):
    first, *others = (load_file(folder / f"weights-{rank}.safetensors") for rank in range(ranks))
    for other in others:
        for name, value in first.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    return first


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, alone, faces):
    """DeepFill's networks have no batch norm: half a batch each, gradients averaged, is the whole batch.

    Adam makes whole steps of gradients that are nothing but rounding, and there are such in the discriminator.
    """
    finish(launch(tmp_path / "two", "deepfill", 2, total_steps=12, data_dir=faces))
    same(losses(tmp_path / "two"), losses(alone), {"discriminator": 1e-4, "adversarial": 1e-3, "others": 1e-5})
    weights, whole = same_weights(tmp_path / "two"), load_file(alone / "weights-0.safetensors")
    for name, value in weights.items():
        if name.startswith("generator"):
            np.testing.assert_allclose(value, whole[name], atol=2e-4, err_msg=name)
    assert sorted(path.name for path in (tmp_path / "two/run/checkpoints").iterdir()) == ["step_0000012"]


@pytest.mark.slow
def test_another_number_of_processes_goes_on(tmp_path, alone, faces):
    """Four steps of two processes, four of one, four of two on two machines (so to say)."""
    folder, changes = tmp_path / "run", {"data_dir": faces, "decay_steps": 2, "plain_steps": 2}
    for count, nodes, steps in ((2, 1, 4), (1, 1, 8), (1, 2, 12)):
        said = finish(launch(folder, "deepfill", count, nodes, total_steps=steps, **changes))
        assert steps == 4 or f"{steps - 4} steps done" in said
    same_weights(folder)
    last = losses(folder)[-1]
    assert last["step"] == 12 and abs(last["reconstruction"] - losses(alone)[-1]["reconstruction"]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["glcic", "pix2pix", "context_encoder", "dcgan_completion"])
def test_no_process_strays(tmp_path, paper, faces):
    data = faces if paper != "pix2pix" else str(write_streets(tmp_path / "streets", 12))
    finish(launch(tmp_path / "two", paper, 2, total_steps=50, data_dir=data))
    same_weights(tmp_path / "two")
    assert [line["step"] for line in losses(tmp_path / "two") if "discriminator" in line][-1] == 50


@pytest.fixture
def endless(tmp_path, faces):
    """A run of two processes that has done ten steps: launcher, process ids, folder."""
    (launcher,) = launch(tmp_path / "two", "deepfill", 2, total_steps=100_000, data_dir=faces)
    stats = tmp_path / "two/run/stats.jsonl"
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (stats.exists() and '"step": 10,' in stats.read_text()):
            assert time.monotonic() < deadline and launcher.poll() is None
            time.sleep(0.2)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        trainers = [int(pid) for pid in children if b"script.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(trainers) == 2
        yield launcher, trainers, tmp_path / "two"
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_ends_the_job(endless):
    """The other one does not wait for ever, and the launcher says so; which it hears of first is a matter of chance."""
    launcher, trainers, _ = endless
    os.kill(trainers[1], signal.SIGKILL)
    said = launcher.communicate(timeout=60)[0]
    assert launcher.returncode != 0 and re.search(r"Container rank [01] status failed", said), said
    assert not any(Path(f"/proc/{pid}").exists() for pid in trainers)


@pytest.mark.slow
def test_ctrl_c_on_the_launcher_saves(endless):
    launcher, _, folder = endless
    os.kill(launcher.pid, signal.SIGINT)
    launcher.communicate(timeout=60)
    (saved,) = (folder / "run/checkpoints").iterdir()
    assert int(saved.name[5:]) >= 10 and int(saved.name[5:]) % 10 == 0
    same_weights(folder)  # written where both save: the launcher kills a process that takes long to end
