"""A run's random name: in options, checkpoints and weights, kept when the run goes on, never mixed with another's."""

import dataclasses
import json
import shutil

import pytest
from safetensors import safe_open

from common.checkpoint import state as checkpoint_state
from common.config import RunSettings
from common.errors import UserError
from common.training.run import Run

import paddle


def run_for(folder, steps, **changes):
    """Trains, saving after every step; returns the name that options.json tells."""
    cfg = dataclasses.replace(RunSettings(run_dir=folder, total_steps=steps, save_minutes=0.0), **changes)
    network = paddle.nn.Linear(2, 2)
    run = Run(cfg, "paper", {"n": network}, {"n": paddle.optimizer.Adam(parameters=network.parameters())})
    with run:
        for _ in run.steps(lambda first: (() for n in range(steps))):
            run.record({"loss": paddle.to_tensor(1.0)})
        run.save_weights(["n"], {})
    return told(folder)


def told(folder):
    return json.loads((folder / "options.json").read_text())["run"]


def names(folder):
    """What checkpoints and weights tell."""
    found = {checkpoint_state.read_progress(path)["run"] for path in (folder / "checkpoints").iterdir()}
    with safe_open(folder / "weights.safetensors", "numpy") as weights:
        return found | {json.loads(weights.metadata()["metadata"])["run"]}


def test_it_stands_in_every_file_and_is_kept(tmp_path):
    first = run_for(tmp_path / "a", 2)
    assert len(first) == 16 and names(tmp_path / "a") == {first}
    assert run_for(tmp_path / "a", 4) == first and names(tmp_path / "a") == {first}
    older = tmp_path / "a/checkpoints/step_0000003"
    assert run_for(tmp_path / "a", 5, resume=str(older)) == first
    assert run_for(tmp_path / "b", 2) != first


def test_another_runs_options_beside_checkpoints_are_an_error(tmp_path):
    run_for(tmp_path / "a", 2)
    run_for(tmp_path / "b", 2)
    shutil.copy(tmp_path / "b/options.json", tmp_path / "a/options.json")
    before = (tmp_path / "a/weights.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"step_0000002 is a checkpoint of the run \w+, and .*a holds the run"):
        run_for(tmp_path / "a", 4)
    assert (tmp_path / "a/weights.safetensors").read_bytes() == before


def test_another_runs_checkpoint_goes_on_in_a_folder_of_its_own_alone(tmp_path):
    first, second = run_for(tmp_path / "a", 2), run_for(tmp_path / "b", 3)
    other = str(tmp_path / "a/checkpoints/step_0000002")
    before = sorted(path.name for path in (tmp_path / "b/checkpoints").iterdir())
    with pytest.raises(UserError, match="in another --run-dir"):
        run_for(tmp_path / "b", 4, resume=other)
    assert sorted(path.name for path in (tmp_path / "b/checkpoints").iterdir()) == before
    assert not (tmp_path / "b/run.lock").exists()
    assert run_for(tmp_path / "c", 4, resume=other) not in (first, second)


def test_a_run_without_one_gets_one(tmp_path):
    """As those of version 0.1 are."""
    run_for(tmp_path, 2)
    for path in (tmp_path / "options.json", tmp_path / "checkpoints/step_0000002/progress.json"):
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "run"}))
    (tmp_path / "checkpoints/step_0000002/checksums.json").unlink()
    assert run_for(tmp_path, 3) == told(tmp_path) and told(tmp_path) in names_of_newest(tmp_path)


def names_of_newest(folder):
    return checkpoint_state.read_progress(checkpoint_state.newest_state(folder / "checkpoints"))["run"]
