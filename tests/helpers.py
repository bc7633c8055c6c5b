"""What tests of several papers share: modules by their files, commands that must fail, steps on two devices."""

import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from common.imaging.io import read_image, write_image
from common.runtime.device import open_device


def module(path: Path):
    """A Python file that lies in no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def fails(capsys, main, *arguments) -> str:
    """Runs a command that must end with status 2; returns its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    told = [line for line in capsys.readouterr().err.strip().splitlines() if "error" in line]
    assert stop.value.code == 2 and len(told) == 1 and told[0].startswith("error: "), told
    return told[0]


def refused(capsys, main, *arguments) -> str:
    """The one line, with none beside it, of a command that must end with status 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and told.startswith("error: ") and "\n" not in told, told
    return told


def photo(folder: Path, height: int = 47, width: int = 33, name: str = "in.png") -> np.ndarray:
    """Writes noise as a photo, and returns it."""
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(folder / name, image)
    return image


def snapshot(network) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def one_batch(train, cfg, images: np.ndarray) -> tuple:
    """The first samples that a paper's `sample_maker` makes of images, stacked."""
    make = train.sample_maker(images, cfg)
    samples = [make(n, np.random.default_rng(n)) for n in range(cfg.batch_size)]
    return tuple(np.stack(column) for column in zip(*samples, strict=True))


# ---- on two devices


def initial_states(train, cfg) -> dict[str, dict[str, np.ndarray]]:
    """Initial weights of a paper's networks, made on the processor: chance differs between devices."""
    open_device("cpu")
    return {name: snapshot(network) for name, network in train.build(cfg)[0].items()}


def built_on(device: str, train, cfg, states: dict) -> tuple:
    """A paper's networks and optimizers on a device, with these weights."""
    place = open_device(device)
    nets, optimizers = train.build(cfg)
    for name, network in nets.items():
        network.set_state_dict(states[name])
        assert str(network.parameters()[0].place) == str(place)
    return nets, optimizers


def assert_equal_steps(devices, train, cfg, step, states=None) -> None:
    """step(networks, optimizers) -> losses is the same on all devices, but for the rounding."""
    states, losses = states or initial_states(train, cfg), []
    for device in devices:
        done = step(*built_on(device, train, cfg, states))
        losses.append({name: float(value.mean()) for name, value in done.items() if name != "penalty"})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# ---- compiled


def assert_completes_the_same_compiled(
    paper: str, network: str, weights, faces, folder: Path, capsys, compiled, scored
):
    """A folder of photos and a test set, with the eager network, with the compiled one, and with an exported one.

    Args:
        network: name of the exported file.
        compiled: the fixture `eager_for_a_moment`.
        scored: those of "plain", "compiled", "exported" that `evaluate` takes.
    """
    for n in range(3):
        image = np.random.default_rng(n).integers(0, 255, (64, 48, 3), dtype=np.uint8)
        write_image(folder / f"in/{n}.png", image)
    infer, evaluate, export = (importlib.import_module(f"{paper}.{verb}") for verb in ("infer", "evaluate", "export"))
    exported, made, scores, built = folder / "files", {}, {}, {}
    export.main(["--weights", str(weights), "--output", str(exported), "--device", "cpu"])
    for name, given, flags in (
        ("plain", weights, ["--disable-cpu-layers"]), ("compiled", weights, []), ("exported", exported, [])
    ):  # fmt: skip
        out, start = folder / name, ["--weights", str(given), "--device", "cpu", *flags]
        infer.main([*start, "--input", str(folder / "in"), "--output", str(out), "--batch-size", "1"])
        made[name] = [read_image(out / f"{n}.png").astype(int) for n in range(3)]
        if name in scored:
            evaluate.main([*start, "--data-dir", str(faces), "--output", str(out), "--limit", "24"])
            scores[name] = json.loads((out / "scores.json").read_text())["rows"]["ours"]
        built[name] = list(compiled())
        compiled().clear()
    assert built["plain"] == [] and len(built["compiled"]) == 2 and "uncompiled" not in capsys.readouterr().out
    assert built["exported"] == [str(exported / f"{network}.pdiparams")] * (1 + ("exported" in scored))
    for fast in ("compiled", "exported"):
        assert np.abs(np.subtract(made[fast], made["plain"])).max() <= 1
    for own in scores.values():
        for key, value in scores["plain"].items():
            np.testing.assert_allclose(own[key], value, rtol=1e-3, atol=1e-3)
