"""One thread per process: these networks are tiny, and threads that wait for each other cost more than they gain."""

import importlib
import os
import shlex
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.device import build

os.environ.setdefault("OMP_NUM_THREADS", "1")

# A runner in the background, or under nohup, has these ignored, and so have the processes that tests start.
for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks as `fast` every test that nothing marks as longer or as bound to what a laptop lacks."""
    for item in items:
        if not {"medium", "slow", "gpu", "realdata"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker("fast")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n auto` neighbours stay in one process, which makes their fixtures once; who is done early takes over."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


GPU = os.environ.get("SUITE_DEVICE", "gpu")  # what tests marked gpu run on, as --device names it
gpu_reports: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}


def pytest_configure(config):
    """Builds the make-believe GPU, if SUITE_DEVICE asks for it, before Paddle is imported."""
    if GPU.partition(":")[0] == build.NAME and "CUSTOM_DEVICE_ROOT" not in os.environ:
        folder = tempfile.mkdtemp(prefix="fake-gpu-")
        config.add_cleanup(lambda: shutil.rmtree(folder))
        config.no_fake_gpu = build.build(Path(folder))


def pytest_runtest_setup(item):
    """Skips tests marked gpu where there is none, and those marked gpu(real=why) on one that is make-believe."""
    marks = list(item.iter_markers("gpu"))
    if not marks:
        return
    from common.runtime.device import count_devices  # after the device is built and the number of threads is set

    real = next((mark.kwargs["real"] for mark in marks if "real" in mark.kwargs), None)
    if real and GPU != "gpu":
        pytest.skip(f"waits for a real GPU: {real}")
    if not count_devices(GPU.partition(":")[0]):
        pytest.skip(getattr(item.config, "no_fake_gpu", "") or f"no GPU; SUITE_DEVICE={build.NAME} makes one believe")


def pytest_runtest_logreport(report):
    if "gpu" in report.keywords and (report.when == "call" or report.outcome != "passed"):
        why = report.longrepr[2].removeprefix("Skipped: ") if report.outcome == "skipped" else ""
        gpu_reports[report.outcome].append(f"{report.nodeid}{why and ': '}{why}")


def pytest_terminal_summary(terminalreporter):
    """Says how many tests marked gpu ran, and which wait for a real GPU, and why."""
    if "SUITE_DEVICE" in os.environ:
        passed, failed, waiting = gpu_reports.values()
        terminalreporter.section(f"tests marked gpu, on {GPU}")
        terminalreporter.line(f"{len(passed)} passed, {len(failed)} failed; {len(waiting)} did not run:")
        for name in waiting:
            terminalreporter.line(f"  {name}")


@pytest.fixture
def gpu():
    """The device that a test marked gpu runs on, as --device names it. Afterwards Paddle computes on the CPU again."""
    from common.runtime.device import open_device

    yield GPU
    open_device("cpu")


@pytest.fixture(scope="session", autouse=True)
def no_curves():
    """Draws no curves, half a second of Matplotlib at each checkpoint; tests that look at them ask for `curves`."""
    from common.training import curves

    draw = curves.write_curves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "write_curves", lambda *_: None)
        yield draw


@pytest.fixture
def curves(no_curves, monkeypatch):
    """Has runs draw their curves, as outside the tests."""
    from common.training import curves

    monkeypatch.setattr(curves, "write_curves", no_curves)


@pytest.fixture
def eager_for_a_moment(monkeypatch):
    """Networks are compiled after their first call; returns what lists those that were."""
    from common.deploy import engine  # after the number of threads is set

    built, build = [], engine.build

    def counted(source, shapes, checks):
        run = build(source, shapes, checks)
        built.append(source)
        return run

    monkeypatch.setattr(engine, "BUILD_SECONDS", 0.0)
    monkeypatch.setattr(engine, "OPEN_SECONDS", 0.0)
    monkeypatch.setattr(engine, "check_elsewhere", engine.check)
    monkeypatch.setattr(engine, "build", counted)
    return lambda: built


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """Sixty drawn faces in CelebA's layout; nobody writes into them."""
    from data.synthetic import write_faces

    return write_faces(tmp_path_factory.mktemp("faces") / "drawn", count=60)


@pytest.fixture(scope="session")
def own_files(tmp_path_factory):
    """What stands for the user's own files in a printed command."""
    import numpy as np

    from common.imaging.io import write_image
    from data.synthetic import write_faces

    folder = tmp_path_factory.mktemp("own files")
    image = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    white = np.zeros_like(image)
    white[12:20, 10:22] = 255
    photo, mask = folder / "photo.png", folder / "mask.png"
    write_image(photo, image)
    write_image(mask, white)
    faces = write_faces(folder / "faces", count=20)
    return {"PHOTO": photo, "IMAGE": photo, "MASK": mask, "OUT": folder / "out.png", "DIR": faces}


@pytest.fixture
def follow(tmp_path, own_files):
    """Runs every `next:` command of what was printed, as printed; returns their words.

    Only what stands for a file of the user's (PHOTO, DIR …) is put in, and flags that make a training short are added.
    """

    def run(shown: str, *short, search: tuple = (), **files) -> list[list[str]]:
        files = {**own_files, **files}
        lines = [line.removeprefix("next: ") for line in shown.splitlines() if line.startswith("next: ")]
        commands = [shlex.split(line) for line in lines]
        for number, (_, _, module, *words) in enumerate(commands):
            verb = module.partition(".")[2]
            words = [str(files.get(word.partition(".")[0], word)) for word in words]
            if verb == "train":
                words += ["--run-dir", str(tmp_path / f"run{number}")]
                words += ["--total-steps", "1", "--batch-size", "1", *short]
            words += search if verb == "infer" else []
            importlib.import_module(module).main([*words, "--device", "cpu"])
        return commands

    return run
