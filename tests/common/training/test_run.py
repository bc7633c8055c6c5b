"""The run folder: what is written, when, and what happens when it cannot be."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import pty
import re
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint import state as checkpoint_state
from common.config import RunSettings
from common.errors import DivergedError, UserError
from common.runtime import optim
from common.runtime.commands import one_line_errors
from common.runtime.device import open_device
from common.training.run import Run
from common.training.stats import read_stats

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


@pytest.mark.medium
def test_folder_of_a_run(tmp_path, curves):
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


def test_of_values_for_each_image_the_mean_is_logged_and_the_last_ones_are_kept(tmp_path):
    """Step n logs n and n + 1: the means are n + 1/2, and over ten steps 4.5 + 1/2."""
    run = new_run(tmp_path, total_steps=10)
    with run:
        for step, _ in run.steps(numbers):
            run.record({"loss": paddle.to_tensor(1.0), "real_output": paddle.to_tensor([[step], [step + 1.0]])})
    (line,) = read_stats(tmp_path)
    assert (line["loss"], line["real_output"]) == (1.0, 5.0)


@pytest.mark.medium
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_save_and_say_how_to_resume(tmp_path, capsys, number):
    run = new_run(tmp_path)
    seen = work(run, each=lambda step: os.kill(os.getpid(), number) if step == 6 else None)
    assert len(seen) == 7 and checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000007"
    with pytest.raises(SystemExit) as stop:
        run.report_early_stop()
    assert stop.value.code == 128 + number
    assert "stopped after 7 of 30 steps" in capsys.readouterr().out
    assert work(new_run(tmp_path))[0] == (7, 7)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_repeated_sigterm_does_not_keep_it_from_saving(tmp_path):
    """Paddle's launcher sends three."""
    run = new_run(tmp_path)
    assert len(work(run, each=lambda step: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(3)])) == 1
    assert checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000001"


@pytest.mark.medium
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_second_ctrl_c_ends_at_once_with_one_line_and_a_whole_checkpoint(tmp_path, capsys, swallowed):
    """Also where Paddle makes an error of its own of the interruption, as of a backward pass in Python."""

    def each(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):  # a handler is called between two steps of the interpreter
                    pass
            except KeyboardInterrupt:
                if swallowed:
                    raise RuntimeError("(External) KeyboardInterrupt") from None
                raise

    @one_line_errors
    def command(argv):
        work(new_run(tmp_path, save_minutes=0.0), each)

    with pytest.raises(SystemExit) as stop:
        command([])
    assert stop.value.code == 130 and capsys.readouterr().err.endswith("\nstopped by Ctrl-C\n")
    assert [path.name for path in checkpoint_state.all_states(tmp_path / "checkpoints")] == [
        "step_0000002",
        "step_0000001",
    ]
    assert not (tmp_path / "run.lock").exists() and new_run(tmp_path).step == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_terminal_that_is_closed_does_not_keep_the_run_from_saving(tmp_path):
    """SIGHUP comes when nothing can be printed any more: neither the bar nor the last lines may be in the way."""
    child, terminal = pty.fork()
    if child == 0:
        status = 99
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest's own go elsewhere
        try:
            command = one_line_errors(lambda argv: close_terminal(new_run(tmp_path)))
            command([])
        except SystemExit as stop:
            status = stop.code
        finally:
            os._exit(status)
    deadline = time.monotonic() + 120
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000006"


def close_terminal(run):
    def each(step):
        if step == 5:
            (run.folder / "ready").touch()
            deadline = time.monotonic() + 120
            while run.stopped_by is None and time.monotonic() < deadline:
                time.sleep(0.01)

    work(run, each)
    run.report_early_stop()


def test_nohup_keeps_a_run_going(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        seen = work(new_run(tmp_path), each=lambda step: os.kill(os.getpid(), signal.SIGHUP) if step == 2 else None)
        assert len(seen) == 30 and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.medium
def test_time_limit_saves_and_returns(tmp_path):
    run = new_run(tmp_path, max_minutes=1e-9)
    assert len(work(run)) == 1
    run.report_early_stop()
    assert len(work(new_run(tmp_path))) == 29


def test_saves_by_the_clock(tmp_path):
    saved = []
    run = new_run(tmp_path, save_minutes=0.0)
    run.save = lambda: saved.append(run.step)
    work(run)
    assert saved == [*range(1, 31)]


@pytest.mark.medium
def test_an_infinite_score_is_written_as_json_and_the_run_goes_on(tmp_path, curves):
    """As of blank images, which any network completes perfectly."""
    first = new_run(tmp_path, max_minutes=1e-9)
    work(first, lambda step: first.note_score({"psnr": math.inf}, "psnr"))
    (state,) = (tmp_path / "checkpoints").iterdir()
    for line in [*(tmp_path / "stats.jsonl").read_text().splitlines(), (state / "progress.json").read_text()]:
        json.loads(line, parse_constant=pytest.fail)
    assert read_stats(tmp_path)[0].items() >= {"psnr": None, "null_because": {"psnr": "infinite"}}.items()
    second = new_run(tmp_path)
    work(second, lambda step: second.note_score({"psnr": 3.0 if step < 20 else 2.0}, "psnr"))
    assert second.complete and checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000030"
    assert (tmp_path / "curves.png").is_file()


@pytest.mark.medium
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
    assert checkpoint_state.newest_state(tmp_path / "checkpoints") is None


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
    assert checkpoint_state.read_progress(tmp_path / "checkpoints/step_0000030")["skipped"] == 20


@pytest.mark.medium
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


@pytest.mark.medium
def test_going_back_has_an_end_and_needs_a_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match="there is no checkpoint yet"):
        work(new_run(tmp_path / "a", on_nan="rollback"), loss=lambda step: float("nan"))
    run = new_run(tmp_path / "b", on_nan="rollback", save_minutes=0.0)
    with pytest.raises(DivergedError, match="went back 5 times"):
        work(run, loss=lambda step: float("nan") if step > 5 else 1.0)


@pytest.mark.medium
def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    run = new_run(tmp_path, save_minutes=0.0)

    def spoil(step):
        if step == 6:
            run.networks["n"].weight.set_value(paddle.full([2, 2], float("inf")))

    with pytest.raises(DivergedError, match="weights are no finite numbers at step 7"):
        work(run, each=spoil)
    assert checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000006"


@pytest.mark.medium
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


class Images:
    """Batches that say what they are of."""

    def __init__(self, names):
        self.names = names

    def fingerprint(self):
        return {"images": len(self.names), "names_crc32": "".join(self.names)}

    def __call__(self, first):
        return numbers(first)


def learn(folder, images="abc", rate=lambda step, cfg: 0.1, **changes):
    """A run of ten steps (or `total_steps`) that sets its learning rate by its schedule; returns the rates."""
    run, rates = new_run(folder, **{"total_steps": 10, **changes}), []
    with run:
        for step, _ in run.steps(Images(images)):
            run.optimizers["n"].set_lr(rate(step, run.schedule))
            rates.append(run.optimizers["n"].get_lr())
            run.record({"loss": paddle.to_tensor(1.0)})
    return rates


def falling(step, cfg):
    return max(1, cfg.total_steps - step) / cfg.total_steps


@pytest.mark.medium
def test_other_images_are_said(tmp_path, capsys):
    learn(tmp_path)
    learn(tmp_path, total_steps=12)
    assert "other data" not in capsys.readouterr().out
    learn(tmp_path, "abd", total_steps=13)
    assert "note: the run has other data than before (other names from here on)" in capsys.readouterr().out
    learn(tmp_path, "ab", total_steps=14)
    assert "(3 training images until now, 2 from here on)" in capsys.readouterr().out


@pytest.mark.medium
def test_a_longer_run_keeps_its_schedule_and_says_so(tmp_path, capsys):
    assert learn(tmp_path, rate=falling)[-1] == 0.1
    assert learn(tmp_path, rate=falling, total_steps=13) == [0.1] * 3
    said = capsys.readouterr().out
    assert "planned for 10 steps and is now to have 13: its learning rate keeps the schedule of 10" in said
    assert "n 0.1" in said and "--restart-schedule plans it for 13" in said and "jumps" not in said
    assert json.loads((tmp_path / "options.json").read_text())["schedule_steps"] == 10
    assert learn(tmp_path, rate=falling, total_steps=14) == [0.1]  # and still


@pytest.mark.medium
def test_restart_schedule_plans_anew_and_a_jump_is_said(tmp_path, capsys):
    learn(tmp_path, rate=falling)
    rates = learn(tmp_path, rate=falling, total_steps=20, restart_schedule=True)
    assert rates == [(20 - step) / 20 for step in range(10, 20)]
    said = capsys.readouterr().out
    assert "planned anew" in said and "note: the learning rate of n jumps from 0.1 to 0.5" in said
    assert learn(tmp_path, rate=falling, total_steps=22) == [0.05] * 2  # the new schedule is the one that is kept


@pytest.mark.medium
def test_a_shorter_run_keeps_its_schedule(tmp_path, capsys):
    run = new_run(tmp_path, total_steps=10, max_minutes=1e-9)
    work(run)
    assert learn(tmp_path, rate=falling, total_steps=5) == [(10 - step) / 10 for step in range(1, 5)]
    assert "planned for 10 steps and is now to have 5" in capsys.readouterr().out


@pytest.mark.medium
def test_a_checkpoint_that_does_not_tell_its_schedule_has_that_of_the_options(tmp_path):
    """As every run from before the schedule was noted."""
    learn(tmp_path, rate=falling)
    path = tmp_path / "checkpoints/step_0000010/progress.json"
    path.write_text(json.dumps({"step": 10}))
    path.with_name("checksums.json").unlink()
    assert learn(tmp_path, rate=falling, total_steps=12) == [0.1, 0.1]


def test_a_checkpoint_that_nothing_tells_to_be_whole_is_said(tmp_path, capsys):
    learn(tmp_path)
    new_run(tmp_path)
    assert "nothing tells" not in capsys.readouterr().out
    checkpoint_state.newest_state(tmp_path / "checkpoints").joinpath("checksums.json").unlink()
    new_run(tmp_path)
    assert "has no checksums.json, so nothing tells whether it is as it was written" in capsys.readouterr().out


def test_another_preset_is_said(tmp_path, capsys):
    learn(tmp_path)
    new_run(tmp_path, preset="other")
    assert "was started with the preset test, this is other" in capsys.readouterr().out


@pytest.mark.medium
@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_resumed(tmp_path, capsys, damaged):
    work(new_run(tmp_path, total_steps=3, save_minutes=0.0))
    folder = tmp_path / "checkpoints"
    for path in checkpoint_state.all_states(folder)[:damaged]:
        state = bytearray((path / "state.safetensors").read_bytes())
        state[-1] ^= 1
        (path / "state.safetensors").write_bytes(state)
    if damaged == 2:
        for _ in range(2):  # the second time they are set aside already, and no run starts anew in their place
            with pytest.raises(UserError, match=r"no checkpoint in .* is whole"):
                new_run(tmp_path, total_steps=3)
            assert (tmp_path / "stats.jsonl").exists()
        assert new_run(tmp_path, total_steps=3, resume="never").step == 0
        return
    run = new_run(tmp_path, total_steps=3, save_minutes=0.0)
    assert run.step == 2
    said = capsys.readouterr().out
    assert "step_0000003 is damaged: state.safetensors is not what was written: its checksum differs" in said
    assert "it is now damaged-step_0000003" in said and "step_0000002, 2 steps done" in said
    work(run)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["damaged-step_0000003", "step_0000002", "step_0000003"]
    assert new_run(tmp_path, total_steps=3).step == 3


@pytest.mark.medium
def test_going_on_from_an_older_checkpoint_leaves_the_newer_ones_aside(tmp_path, capsys):
    work(new_run(tmp_path, total_steps=3, save_minutes=0.0))
    older = tmp_path / "checkpoints/step_0000002"
    work(new_run(tmp_path, rate=0.2, total_steps=3, resume=str(older), max_minutes=1e-9))
    assert "step_0000003 is now later-step_0000003" in capsys.readouterr().out
    names = sorted(path.name for path in older.parent.iterdir())
    assert names == ["later-step_0000003", "step_0000002", "step_0000003"]


def test_damaged_options_are_not_taken_for_anything_goes(tmp_path):
    work(new_run(tmp_path, total_steps=3))
    for text in ("", "{}", None):
        (tmp_path / "options.json").write_text(text) if text is not None else (tmp_path / "options.json").unlink()
        with pytest.raises(UserError, match=r"options.json is (damaged|missing).*--resume"):
            new_run(tmp_path, rate=0.2)
    run = new_run(tmp_path, rate=0.2, resume=str(tmp_path / "checkpoints/step_0000003"))
    assert run.step == 3


def test_a_second_run_in_the_folder_is_refused_and_harms_nothing(tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(UserError, match=f"in use by another run, process {os.getpid()}"):
        new_run(tmp_path)
    with pytest.raises(UserError, match="in use"):
        new_run(tmp_path, resume="never")
    assert len(work(run)) == 30 and not (tmp_path / "run.lock").exists()
    assert new_run(tmp_path).step == 30


def test_never_moves_the_older_run_aside_with_all_its_files(tmp_path):
    work(new_run(tmp_path / "run", total_steps=3))
    (tmp_path / "run/options.json").unlink()
    run = new_run(tmp_path / "run", total_steps=3, resume="never")
    assert run.step == 0 and [path.name for path in (tmp_path / "run-1/checkpoints").iterdir()] == ["step_0000003"]
    assert not (tmp_path / "run-1/run.lock").exists() and (tmp_path / "run/run.lock").exists()


@pytest.mark.parametrize("how", ["renamed", "deleted", "replaced"])
def test_a_folder_that_goes_away_is_noticed_and_the_state_is_saved(tmp_path, how):
    folder = tmp_path / "run"
    run = new_run(folder, total_steps=5, preview_steps=1)

    def each(step):
        if step == 2:
            folder.rename(tmp_path / "other") if how == "renamed" else shutil.rmtree(folder)
            folder.mkdir() if how == "replaced" else None
        run.preview_due() and run.write_preview(np.zeros((4, 4, 3), np.uint8))

    place = tmp_path / ("other" if how == "renamed" else "run-1")
    with pytest.raises(UserError, match=rf"{folder} was {how}.*saved after 3 steps in {place}; go on with --run-dir"):
        work(run, each)
    assert not folder.exists() or list(folder.iterdir()) == []
    resumed = new_run(place, total_steps=5)
    assert resumed.step == 3
    np.testing.assert_array_equal(resumed.networks["n"].weight.numpy(), run.networks["n"].weight.numpy())


@pytest.mark.medium
def test_resume_path_may_change_options_but_must_exist(tmp_path):
    work(new_run(tmp_path / "a"))
    with pytest.raises(UserError, match="rate was 0.1, is 0.2"):
        new_run(tmp_path / "a", rate=0.2)
    with pytest.raises(UserError, match="no such checkpoint folder"):
        new_run(tmp_path / "b", resume=str(tmp_path / "nowhere"))
    assert not (tmp_path / "b").exists()
    run = new_run(tmp_path / "b", rate=0.2, total_steps=32, resume=str(tmp_path / "a/checkpoints/step_0000030"))
    assert [step for step, _ in work(run)] == [30, 31]
    with pytest.raises(UserError, match="do not fit the network"):
        new_run(tmp_path / "c", width=3, resume=str(tmp_path / "a/checkpoints/step_0000030"))


def test_a_checkpoint_of_another_device_is_taken_and_said_to_be_inexact(tmp_path, capsys):
    work(new_run(tmp_path))
    new_run(tmp_path, total_steps=32)
    assert "computed by" not in capsys.readouterr().out
    path = tmp_path / "checkpoints/step_0000030/progress.json"
    progress = json.loads(path.read_text())
    assert progress["computed_by"] == f"cpu, paddlepaddle {paddle.__version__}"
    path.write_text(json.dumps({**progress, "computed_by": "gpu, paddlepaddle 2.6.2"}))
    path.with_name("checksums.json").unlink()
    run = new_run(tmp_path, total_steps=32)
    told = capsys.readouterr().out
    assert run.step == 30 and "by gpu, paddlepaddle 2.6.2, those to come by cpu" in told and "not exactly" in told


def test_other_threads_are_said_to_be_inexact(tmp_path, capsys):
    work(new_run(tmp_path, total_steps=1))
    options = json.loads((tmp_path / "options.json").read_text())
    new_run(tmp_path, total_steps=1)
    assert "not exactly" not in capsys.readouterr().out
    changed = options | {"threads": options["threads"] + 7, "freed_memory_kept": not options["freed_memory_kept"]}
    (tmp_path / "options.json").write_text(json.dumps(changed))
    new_run(tmp_path, total_steps=1)
    told = f"note: threads was {changed['threads']}, is {options['threads']}: from here on not exactly"
    assert told in capsys.readouterr().out


@pytest.mark.medium
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
    assert "step_0000002 is whole, and the same command" in (tmp_path / "told").read_text()
    assert checkpoint_state.newest_state(tmp_path / "checkpoints").name == "step_0000002"
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
    fraction = float(re.search(r"min, ([\d.]+)% of it waiting for images", capsys.readouterr().out)[1])
    assert 15 < fraction < 75  # on a busy machine both sleep longer, and the checkpoint takes its time


@pytest.mark.parametrize("plain", [False, True])
def test_options_say_what_the_process_computes_by(tmp_path, plain):
    open_device("cpu", plain)
    new_run(tmp_path, disable_cpu_layers=plain)
    options = json.loads((tmp_path / "options.json").read_text())
    assert options["disable_cpu_layers"] is options["transposes_are_views"] is plain
    assert options["threads"] == int(os.environ["OMP_NUM_THREADS"]) and "freed_memory_kept" in options
    open_device("cpu")


@pytest.mark.parametrize("recorded", [True, False])
def test_half_precision_and_channels_last_are_for_the_steps_alone(tmp_path, monkeypatch, recorded):
    """On while losses are computed, off when they are recorded: previews are in float32, and not turned."""
    log = []

    @contextlib.contextmanager
    def auto_cast(**asks):
        log.append(asks["dtype"])
        yield
        log.append("float32")

    monkeypatch.setattr(paddle.incubate.autotune, "set_config", lambda asks: log.append(asks["layout"]["enable"]))
    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(optim, "open_scalers", lambda *_: {})
    run = new_run(tmp_path, total_steps=3, channels_last=True, amp="float16")
    with run:
        for step, _ in run.steps(numbers):
            log.append(f"step {step}")
            if recorded:
                run.record({})
                log.append("preview")
    after = ["float32", False, "preview"] if recorded else ["float32", False]
    assert log == [each for n in range(3) for each in ("float16", True, f"step {n}", *after)]


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_a_folder_of_checkpoints_is_no_checkpoint(tmp_path, inside):
    learn(tmp_path / "run")
    newest = checkpoint_state.newest_state(tmp_path / "run/checkpoints")
    with pytest.raises(UserError, match=f"it is no checkpoint but holds some; name one, such as {newest}$"):
        new_run(tmp_path / "other", resume=str(tmp_path / "run" / inside))
