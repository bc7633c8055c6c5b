"""Training survives what harness.py injects: here two kills and most of the faults once, in two runs at a time."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no packages
import soak  # noqa: E402

import faults  # noqa: E402
from runs import Training  # noqa: E402

STEPS = 40
KILLED = "deepfill"
DISTURBED = "pix2pix"  # dropout: chance in every step

# The other points to be killed at, and SIGTERM, are proven by tests/common and tests/glcic, or by harness.py alone.
QUICK = (
    faults.killed("half a checkpoint written", 1),
    faults.killed("while the log is trimmed", 0),
    faults.killed("before a checkpoint is renamed", 1),
    faults.ctrl_c,
    faults.second_process,
    faults.damaged("bit-flipped"),
    faults.full_log,
    faults.full_disk,
    faults.read_only,
    faults.hung_reader,
    faults.not_a_number,
)


def whole(paper, folder):
    folder.mkdir()
    training = Training(paper, folder, STEPS)
    return training, training.complete()


def kills(folder):
    undisturbed, leg = whole(KILLED, folder / "undisturbed")
    (folder / "killed").mkdir()
    training, rng = Training(KILLED, folder / "killed", STEPS), random.Random(1)
    for left in (2, 1):
        faults.killed_at_random(training, rng, leg, left)
    training.complete(undisturbed)
    return training.rows


def one_after_the_other(folder):
    undisturbed, _ = whole(DISTURBED, folder / "undisturbed")
    (folder / "disturbed").mkdir()
    training = Training(DISTURBED, folder / "disturbed", STEPS)
    for fault in QUICK:
        if fault not in faults.NEED_MOUNT or faults.can_mount():
            fault(training)
    training.complete(undisturbed)
    return training.rows


def alone(fault):
    def run(folder):
        training = Training(DISTURBED, folder, STEPS)
        fault(training)
        return training.rows

    return run


JOBS = {
    "faults one after the other": one_after_the_other,
    "kills at random moments": kills,
    "weights that are no numbers, rollback": alone(faults.rollback),
    "a corrupt image": alone(faults.corrupt_image),
    "many lost images": alone(faults.lost_images),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The jobs, two at a time: each waits for processes."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(job, tmp_path_factory.mktemp("faults")) for name, job in JOBS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_training_survives(done, job):
    rows = done[job].result()
    assert rows
    for fault, row in rows.items():
        assert (row.checkpoints_lost, row.files_lost, row.runs, row.completed) == (0, 0, 1, 1), fault
        assert row.injected > 0, fault


@pytest.mark.slow
def test_a_soak_reads_memory_and_open_files(tmp_path):
    options = soak.Options(tmp_path / "soak.md", steps=200, first=100, save_seconds=4.0)
    (tmp_path / "run").mkdir()
    held = soak.soak("pix2pix", tmp_path / "run", options)
    assert len(held["memory"]) == len(held["files"]) == 2 and held["saved"][0] >= 1
    assert min(held["memory"]) > 100 * 2**20 and min(held["files"]) > 2  # Paddle alone; the three standard streams
    held |= {"memory": [100 << 20, 104 << 20], "files": [9, 11, 11, 11], "saved": [7]}
    assert soak.leaks({"glcic": held}) == []
    assert "| glcic | 7 | 100 MB | 104 MB | +4.0% | 9 to 11 |\n" in soak.document(options, {"glcic": held}, 60)
    worse = held | {"memory": [100 << 20, 106 << 20], "files": [9, 11, 11, 12]}
    assert len(soak.leaks({"glcic": worse})) == 2
    assert "What went wrong" in soak.document(options, {"glcic": worse}, 60)
