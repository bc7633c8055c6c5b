"""The run folder: what is written, when, and what happens when it cannot be."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common import checkpoint, gradients
from common.config import RunSettings
from common.cpu import Convolution
from common.device import open_device
from common.errors import DivergedError, UserError
from common.runlog import Run, read_stats

import paddle


@dataclass(frozen=True)
class Settings(RunSettings):
    rate: float = 0.1
    """learning rate [ours]"""


def new_run(folder, width=2, **changes):
    cfg = dataclasses.replace(Settings(run_dir=folder, total_steps=30, preset="test"), **changes)
    net = paddle.nn.Linear(width, width)
    return Run(cfg, "paper", {"n": net}, {"n": paddle.optimizer.Adam(parameters=net.parameters())})


def numbers(first):
    for n in itertools.count(first):
        yield (np.float32(n),)


def work(run, each=lambda step: None, loss=lambda step: 1.0):
    seen = []
    with run:
        for step, (batch,) in run.steps(numbers):
            seen.append((step, batch))
            net, optimizer = run.networks["n"], run.optimizers["n"]
            optimizer.clear_grad()
            net(paddle.full([1, net.weight.shape[0]], float(batch))).sum().backward()
            optimizer.step()
            run.record({"loss": paddle.to_tensor(loss(step))})
            each(step)
    return seen


def test_folder_of_a_run(tmp_path):
    run = new_run(tmp_path / "run")
    seen = work(run, each=lambda step: run.preview_due() and run.write_preview(np.zeros((4, 4, 3), np.uint8)))
    assert seen == [(n, n) for n in range(30)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *("checkpoints", "curves.png", "options.json", "previews", "stats.jsonl")
    ]
    assert [path.name for path in (tmp_path / "run/previews").iterdir()].count("step_0000001.png") == 1
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step_0000030"]
    options = json.loads((tmp_path / "run/options.json").read_text())
    assert options["rate"] == 0.1 and options["paper"] == "paper" and options["paddle"] == paddle.__version__


def test_logged_losses_are_means_of_ten_steps(tmp_path):
    run = new_run(tmp_path)
    work(run, loss=float)
    assert [(line["step"], line["loss"]) for line in read_stats(tmp_path)] == [(10, 4.5), (20, 14.5), (30, 24.5)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_say_how_to_resume(tmp_path, capsys, number):
    run = new_run(tmp_path)
    seen = work(run, each=lambda step: os.kill(os.getpid(), number) if step == 6 else None)
    assert len(seen) == 7 and checkpoint.newest_state(tmp_path / "checkpoints").name == "step_0000007"
    with pytest.raises(SystemExit) as stop:
        run.farewell()
    assert stop.value.code == 128 + number
    assert "stopped after 7 of 30 steps" in capsys.readouterr().out
    assert work(new_run(tmp_path))[0] == (7, 7)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_repeated_sigterm_does_not_keep_it_from_saving(tmp_path):
    """Paddle's launcher sends three."""
    run = new_run(tmp_path)
    assert len(work(run, each=lambda step: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(3)])) == 1
    assert checkpoint.newest_state(tmp_path / "checkpoints").name == "step_0000001"
    with pytest.raises(KeyboardInterrupt):
        work(new_run(tmp_path), each=lambda step: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])


def test_time_limit_saves_and_returns(tmp_path):
    run = new_run(tmp_path, max_minutes=1e-9)
    assert len(work(run)) == 1
    run.farewell()
    assert len(work(new_run(tmp_path))) == 29


def test_saves_by_the_clock(tmp_path):
    saved = []
    run = new_run(tmp_path, save_minutes=0.0)
    run.save = lambda: saved.append(run.step)
    work(run)
    assert saved == [*range(1, 31)]


def test_stats_of_steps_done_again_are_dropped(tmp_path):
    run = new_run(tmp_path)
    work(run, each=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 14 else None)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"step": 20, "loss": 7}\n{"step": 2')  # as if it had gone on, and been killed while writing
    work(new_run(tmp_path))
    steps = [line["step"] for line in read_stats(tmp_path)]
    assert steps == [10, 15, 20, 30]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_it_is_saved(tmp_path, bad):
    run = new_run(tmp_path)
    with pytest.raises(UserError, match="loss loss is no finite number at step 20"):
        work(run, loss=lambda step: bad if step == 12 else 1.0)
    assert checkpoint.newest_state(tmp_path / "checkpoints") is None


def test_going_back_takes_other_pictures_and_is_counted(tmp_path, capsys):
    """Saved after step 10. Batches 12 and 25 spoil the loss: 10 to 19 are done anew with 20 to 29, then 30 to 39."""
    run, seen = new_run(tmp_path, on_nan="rollback"), []
    with run:
        for step, (batch,) in run.steps(numbers):
            seen.append((step, int(batch)))
            run.record({"loss": paddle.to_tensor(float("nan") if batch in (12, 25) else 1.0)})
            if step == 9:
                run._saved -= 1e9
    assert seen[:20] == [(n, n) for n in range(20)]
    assert seen[20:] == [(n, n + 10) for n in range(10, 20)] + [(n, n + 20) for n in range(10, 30)]
    lines = read_stats(tmp_path)
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 30]
    assert [line["rollback"] for line in lines if "rollback" in line] == [1, 2]
    assert "loss loss is no finite number at step 20" in capsys.readouterr().err
    assert checkpoint.read_progress(tmp_path / "checkpoints/step_0000030")["skipped"] == 20


def test_a_run_that_went_back_resumes_where_it_was(tmp_path):
    def go(folder, stop=None):
        run = new_run(folder, on_nan="rollback", save_minutes=0.0)
        seen = work(
            run,
            each=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop else None,
            loss=lambda step: float("nan") if seen_once(step) else 1.0,
        )
        return seen, run.networks["n"].weight.numpy()

    spoilt = set()

    def seen_once(step):
        bad = step == 12 and not spoilt
        spoilt.add(12) if step == 12 else None
        return bad

    paddle.seed(0)
    whole, weights = go(tmp_path / "a")
    spoilt.clear()
    paddle.seed(0)
    go(tmp_path / "b", stop=16)
    rest, again = go(tmp_path / "b")
    assert whole[-len(rest) :] == rest and rest[0][0] == 17 and rest[0][1] > 17
    np.testing.assert_array_equal(weights, again)


def test_going_back_has_an_end_and_needs_a_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match="there is no checkpoint yet"):
        work(new_run(tmp_path / "a", on_nan="rollback"), loss=lambda step: float("nan"))
    run = new_run(tmp_path / "b", on_nan="rollback", save_minutes=0.0)
    with pytest.raises(DivergedError, match="went back 5 times"):
        work(run, loss=lambda step: float("nan") if step > 5 else 1.0)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    run = new_run(tmp_path, save_minutes=0.0)

    def spoil(step):
        if step == 6:
            run.networks["n"].weight.set_value(paddle.full([2, 2], float("inf")))

    with pytest.raises(DivergedError, match="weights are no finite numbers at step 7"):
        work(run, each=spoil)
    assert checkpoint.newest_state(tmp_path / "checkpoints").name == "step_0000006"


def test_chance_of_a_step_does_not_depend_on_the_steps_before(tmp_path):
    def draw(folder, stop):
        drawn = {}
        run = new_run(folder)

        def each(step):
            drawn[step] = paddle.rand([1]).item()
            if step == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        work(run, each)
        return drawn

    whole = draw(tmp_path / "a", None)
    first, second = draw(tmp_path / "b", 11), draw(tmp_path / "b", None)
    assert {**first, **second} == whole and len(set(whole.values())) == 30


def test_a_run_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder"):
        new_run(tmp_path / "file/run")


def test_resume_path_may_change_options_but_must_exist(tmp_path):
    work(new_run(tmp_path / "a"))
    with pytest.raises(UserError, match="rate was 0.1, is 0.2"):
        new_run(tmp_path / "a", rate=0.2)
    with pytest.raises(UserError, match="no such checkpoint folder"):
        new_run(tmp_path / "b", resume=str(tmp_path / "nowhere"))
    run = new_run(tmp_path / "b", rate=0.2, total_steps=32, resume=str(tmp_path / "a/checkpoints/step_0000030"))
    assert [step for step, _ in work(run)] == [30, 31]
    with pytest.raises(UserError, match="do not fit the network"):
        new_run(tmp_path / "c", width=3, resume=str(tmp_path / "a/checkpoints/step_0000030"))


def test_a_checkpoint_of_another_device_is_taken_and_said_to_be_inexact(tmp_path, capsys):
    work(new_run(tmp_path))
    new_run(tmp_path, total_steps=32)
    assert "note:" not in capsys.readouterr().out
    path = tmp_path / "checkpoints/step_0000030/progress.json"
    progress = json.loads(path.read_text())
    assert progress["computed_by"] == f"cpu, paddlepaddle {paddle.__version__}"
    path.write_text(json.dumps({**progress, "computed_by": "gpu, paddlepaddle 2.6.2"}))
    run = new_run(tmp_path, total_steps=32)
    told = capsys.readouterr().out
    assert run.step == 30 and "by gpu, paddlepaddle 2.6.2, those to come by cpu" in told and "not exactly" in told


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path):
    """The limit on file size makes the operating system refuse the write half way, as a full disk does."""
    child = os.fork()
    if child == 0:  # in a child, because the limit cannot be raised again
        status = 1
        try:
            run = new_run(tmp_path, width=64, save_minutes=0.0)

            def limit(step):
                if step == 2:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

            try:
                work(run, each=limit)
            except UserError as problem:
                Path(tmp_path, "told").write_text(str(problem))
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "the checkpoint before this one is whole" in (tmp_path / "told").read_text()
    assert checkpoint.newest_state(tmp_path / "checkpoints").name == "step_0000002"
    run = new_run(tmp_path, width=64)
    assert run.step == 2


def test_the_share_of_time_that_waits_for_pictures_is_told(tmp_path, capsys):
    """Batches that take 60 ms and steps that take 60 ms: a half of the time but for the checkpoint at the end."""

    def slowly(first):
        for batch in numbers(first):
            time.sleep(0.06)
            yield batch

    run = new_run(tmp_path, total_steps=20, save_minutes=60)
    with run:
        for _ in run.steps(slowly):
            time.sleep(0.06)
    share = float(re.search(r"min, ([\d.]+)% of it waiting for pictures", capsys.readouterr().out)[1])
    assert 25 < share < 60


@pytest.mark.parametrize(("how", "swapped"), [({}, True), ({"plain": True}, False), ({"to_static": True}, False)])
def test_layers_that_are_faster_on_a_cpu_are_swapped_in_unless_plain(tmp_path, how, swapped):
    open_device("cpu", how.get("plain", False))
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3))
    cfg = Settings(run_dir=tmp_path, **how)
    Run(cfg, "paper", {"n": net}, {"n": paddle.optimizer.Adam(parameters=net.parameters())})
    assert isinstance(net[0], Convolution) is swapped
    options = json.loads((tmp_path / "options.json").read_text())
    assert options["plain"] is options["transposes_are_views"] is how.get("plain", False)
    assert options["threads"] == int(os.environ["OMP_NUM_THREADS"]) and "freed_memory_kept" in options
    open_device("cpu")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, "add --amp float16"),
        ({"amp": "bfloat16"}, "add --amp float16"),
        ({"amp": "float16", "to_static": True}, "leave out --to-static"),
    ],
)
def test_channels_last_is_for_eager_float16(tmp_path, monkeypatch, how, told):
    monkeypatch.setattr(gradients, "open_scalers", lambda *_: {})
    with pytest.raises(UserError, match=f"--channels-last: .*{told}"):
        Run(Settings(run_dir=tmp_path / "run", channels_last=True, **how), "paper", {}, {})
    assert not (tmp_path / "run").exists()


def test_channels_last_is_for_the_steps_alone(tmp_path, monkeypatch):
    """On while losses are computed, off when they are recorded: pictures that are fetched would be turned."""
    log = []
    monkeypatch.setattr(paddle.incubate.autotune, "set_config", lambda asks: log.append(asks["layout"]["enable"]))
    monkeypatch.setattr(gradients, "open_scalers", lambda *_: {})
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **_: contextlib.nullcontext())
    run = new_run(tmp_path, total_steps=3, channels_last=True, amp="float16")
    with run:
        for step, _ in run.steps(numbers):
            log.append(f"step {step}")
            run.record({})
            log.append("preview")
    assert log == [each for n in range(3) for each in (True, f"step {n}", False, "preview")] + [False]
