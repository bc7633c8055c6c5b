"""Two processes on two make-believe GPUs, by Paddle's own launcher, do what one process does on one."""

import subprocess
import sys

import pytest

from common.training.stats import read_stats
from deepfill import train as deepfill_train
from tests.device.conftest import ROOT, train_words

import paddle

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(
    paddle.__version__.startswith("2."), reason="the launcher of Paddle 2.6 cannot number custom devices"
)
def test_two_processes_on_two_devices_do_what_one_does(tmp_path, drawn, fake_gpu):
    """DeepFill has no batch norm, whose statistics would be those of each process's part of the batch.

    The logged losses of the run are compared: without averaged gradients they differ by 2.5e-4. Weights are compared
    with gradient descent by tests/common/runtime/test_distributed.py, since Adam makes whole steps of rounding.
    """
    shared = {"data_dir": drawn("deepfill"), "device": fake_gpu, "workers": 1, "plain_steps": 0}
    deepfill_train.main(train_words("deepfill", run_dir=tmp_path / "one", **shared))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--devices", "0,1", "--log_dir", "log"]
    words = train_words("deepfill", run_dir=tmp_path / "two", **shared)
    command = [*launcher, str(ROOT / "deepfill/train.py"), *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    logs = [file.read_text() for file in sorted((tmp_path / "log").glob("workerlog.*"))]
    assert done.returncode == 0, "\n".join([done.stderr[-1000:], *logs])
    assert [f"{fake_gpu}:{number}, paddlepaddle" in log for number, log in enumerate(logs)] == [True, True]
    one, two = (read_stats(tmp_path / name)[-1] for name in ("one", "two"))
    assert {**two, "time": 0} == pytest.approx({**one, "time": 0}, rel=1e-3, abs=1e-4)
