"""The bundled weights are those of their manifest, and the packer says what it packs."""

import hashlib
import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import weights
from common.checkpoint.weights import read_weights
from common.errors import UserError
from tools import pack_weights as pack

pytestmark = pytest.mark.medium

BUNDLED = weights.read_manifest()
LARGEST_TOTAL = 60 * 2**20


def test_something_is_bundled_and_together_it_is_small():
    assert {"glcic", "pix2pix", "deepfill", "dcgan_completion"} <= {about["paper"] for about in BUNDLED.values()}
    assert sum(path.stat().st_size for path in weights.FOLDER.glob("*.safetensors")) < LARGEST_TOTAL


def test_every_file_is_in_the_manifest_and_no_path_of_a_machine():
    assert {path.name for path in weights.FOLDER.glob("*.safetensors")} == {about["file"] for about in BUNDLED.values()}
    text = (weights.FOLDER / weights.MANIFEST).read_text()
    assert "/tmp" not in text and "/work" not in text and "/home" not in text


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights(name):
    """Checksum, size, half precision, finite numbers; the paper's own `load` reads them; the entry is complete."""
    about, path = BUNDLED[name], weights.find(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"] and path.stat().st_size == about["bytes"]
    tensors = load_file(path)
    assert sum(array.size for array in tensors.values()) == about["numbers"]
    assert all(array.dtype != np.float32 and np.isfinite(array).all() for array in tensors.values())
    importlib.import_module(f"{about['paper']}.infer").load(path)
    assert read_weights(path)[1]["step"] == about["steps"]
    assert about["command"].startswith(f"python -m {about['paper']}.train ") and about["hardware"]
    assert about["wall_minutes"] > 1 and about["commit"] and about["terms"] == pack.TERMS[about["data"].split(",")[0]]
    for scores in about["evaluation"]:
        assert f"weights/{about['file']}" in scores["command"] and scores["steps"] == about["steps"]


def test_find_names_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no weights nothing"):
        weights.find("nothing")
    (tmp_path / "a.safetensors").write_bytes(b"other")
    entry = {"file": "a.safetensors", "sha256": hashlib.sha256(b"packed").hexdigest(), "paper": "p"}
    (tmp_path / weights.MANIFEST).write_text(json.dumps({"a": entry, "b": {**entry, "file": "b.safetensors"}}))
    with pytest.raises(UserError, match="SHA-256"):
        weights.find("a", tmp_path)
    with pytest.raises(UserError, match="missing"):
        weights.find("b", tmp_path)
    (tmp_path / weights.MANIFEST).write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        weights.read_manifest(tmp_path)


# ---- packing


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a few steps."""
    from glcic.config import TINY
    from glcic.train import draw_images, train

    folder = tmp_path_factory.mktemp("run")
    data = draw_images(folder / "drawn", count=60)
    train(replace(TINY, preset="quick", data_dir=data, run_dir=folder / "run", device="cpu"))
    return folder / "run"


def options(run, output, **more):
    about = {"data": "drawn", "images": "60 faces", "hardware": "1 core", "output": output}
    return pack.Options(run, "tiny", **{**about, **more})


def test_pack(run, tmp_path):
    """float16 of the same numbers, the same description, an entry that tells the run; packing again changes nothing."""
    entry = pack.pack(options(run, tmp_path))
    before, metadata = read_weights(run / "weights.safetensors")
    after, same = read_weights(tmp_path / "tiny.safetensors")
    assert same == metadata and after.keys() == before.keys()
    for name, value in before.items():
        # half of float16's last place, 2^-11 of the number, or of the smallest normal number below it
        assert np.abs(after[name].astype(np.float64) - value).max() <= 2**-11 * max(np.abs(value).max(), 2**-14), name
    assert entry["steps"] == 6 and entry["paper"] == "glcic" and "repository" in entry["terms"]
    assert "--total-steps 6" in entry["command"] and "--data-dir drawn" in entry["command"]
    assert str(run.parent) not in json.dumps(entry)
    assert pack.pack(options(run, tmp_path)) == entry and weights.read_manifest(tmp_path) == {"tiny": entry}
    assert weights.find("tiny", tmp_path).name == "tiny.safetensors" and weights.of_paper("glcic", tmp_path) == ["tiny"]


def test_packed_weights_complete_alike(run, tmp_path):
    from glcic.infer import complete, load

    pack.pack(options(run, tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    mask = np.zeros((40, 36), bool)
    mask[10:25, 8:24] = True
    one, other = (
        complete(load(path), image, mask) for path in (run / "weights.safetensors", tmp_path / "tiny.safetensors")
    )
    assert np.abs(one.astype(int) - other).max() <= 2


def test_the_scores_come_with_their_command_and_without_paths(run, tmp_path):
    scores = {"weights": "/home/a/w", "data": "/home/a/d", "steps": 6, "rows": {"ours": {"l1": [1.23456, 0.000123456]}}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    given = {"scores": (tmp_path / "scores.json",), "scores_commands": ("python -m glcic.evaluate",)}
    entry = pack.pack(options(run, tmp_path, **given))
    expected = {"command": "python -m glcic.evaluate", "steps": 6, "rows": {"ours": {"l1": [1.235, 0.0001235]}}}
    assert entry["evaluation"] == [expected]
    with pytest.raises(UserError, match="belong together"):
        pack.pack(options(run, tmp_path, scores=given["scores"]))
    (tmp_path / "scores.json").write_text(json.dumps({**scores, "steps": 7}))
    with pytest.raises(UserError, match="7 steps"):
        pack.pack(options(run, tmp_path, **given))


@pytest.mark.parametrize(("number", "told"), [(65_520.0, "65520"), (np.inf, "inf"), (np.nan, "nan")])
def test_numbers_that_half_precision_does_not_hold_are_refused(number, told):
    """65,504 is float16's largest; 65,520 is the first that rounds to infinity."""
    pack.halve({"layer.weight": np.float32([1, 65_519])})
    with pytest.raises(UserError, match=f"layer.weight .*{told}"):
        pack.halve({"layer.weight": np.float32([1, number])})


def test_networks_that_are_left_out_leave_the_description_too():
    tensors = {"generator.a": 1, "discriminator.a": 2}
    metadata = {"paper": "p", "generator": {}, "discriminator": {}}
    assert pack.choose(tensors, metadata) == ({"generator.a": 1}, {"paper": "p", "generator": {}})
    assert pack.choose(tensors, metadata, ("generator", "discriminator")) == (tensors, metadata)
    with pytest.raises(UserError, match="no network critic"):
        pack.choose(tensors, metadata, ("critic",))


def test_pauses_are_no_work():
    """Ten steps of 5 s, an hour's pause, ten more; a validation of 20 s counts."""
    times = [5 * n for n in range(11)] + [50 + 3600 + 5 * n for n in range(11)] + [50 + 3600 + 70]
    assert pack.wall_seconds(times) == 50 + 50 + 20
    assert pack.wall_seconds([7.0]) == 0
    slow = [100.0 * n for n in range(5)]  # lines that are always this far apart are no pauses
    assert pack.wall_seconds(slow) == 400


def test_the_command_names_what_differs_from_the_preset():
    from common.config import to_json
    from glcic.config import PRESETS

    settings = {**to_json(PRESETS["cpu"][1]), "preset": "cpu", "paper": "glcic", "data_dir": "/somewhere/celeba"}
    settings |= {"mask_px": [20, 40], "flip": False, "workers": 9, "run_dir": "/somewhere/else"}
    settings |= {"init_generator": "/somewhere/a.safetensors"}
    expected = "python -m glcic.train cpu --data-dir celeba --no-flip --mask-px 20 40 --init-generator a.safetensors"
    assert pack.training_command(settings) == expected


def test_an_unfinished_run_is_refused(run, tmp_path):
    settings = json.loads((run / "options.json").read_text())
    for name in ("weights.safetensors", "stats.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(UserError, match="no run"):
        pack.pack(options(tmp_path, tmp_path))
    (tmp_path / "options.json").write_text(json.dumps({**settings, "total_steps": 9}))
    with pytest.raises(UserError, match="pack a finished run"):
        pack.pack(options(tmp_path, tmp_path))
