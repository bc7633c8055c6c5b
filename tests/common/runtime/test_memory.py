"""Memory that really runs out, by the operating system's limit, is one line that names the sizes."""

import contextlib
import io
import os
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.checkpoint import state as checkpoint_state
from common.config import RunSettings
from common.inpainting import pipeline
from common.runtime import memory
from common.runtime.commands import one_line_errors
from common.training.run import Run

import paddle

CAUSES = {
    "python": lambda: bytearray(1 << 34),
    "numpy": lambda: np.ones(1 << 31),
    "opencv": lambda: cv2.resize(np.zeros((100, 100, 3), np.uint8), (30_000, 30_000)),
    "paddle": lambda: paddle.ones([1 << 30]),
}


def in_little_memory(work, megabytes=300):
    """Runs work() in a child process that may take only so much more memory; returns what it printed on stderr."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status, said = 1, io.StringIO()
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + (megabytes << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            with contextlib.redirect_stderr(said):
                try:
                    work()
                    status = 0
                except SystemExit as stop:
                    status = stop.code
        except BaseException as problem:
            said.write(repr(problem))
        finally:
            os.write(write, said.getvalue().encode()[:60_000])
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


@pytest.mark.parametrize("cause", CAUSES)
def test_each_library_ends_a_command_with_one_line(cause):
    status, said = in_little_memory(one_line_errors(lambda argv: CAUSES[cause]()))
    assert status == 2 and said.startswith("error: memory ran out") and said.count("\n") == 1, said
    assert ("4,096 MB more were asked for" in said) == (cause == "paddle")


def test_another_error_keeps_its_trace():
    status, said = in_little_memory(one_line_errors(lambda argv: [].pop()))
    assert status == 1 and "pop from empty list" in said
    assert not memory.is_out_of_memory(OSError(28, "No space left on device"))


def test_a_batch_of_windows_is_named():
    """A network that needs 4,000 channels of 512 x 512 px for each window: more than Paddle holds from before."""

    def network(pixels, masks):
        paddle.ones([len(pixels), 4000, *pixels.shape[2:]])
        return pixels

    image, mask = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), bool)
    mask[100:400, 100:400] = True

    def work(argv):
        pipeline.complete_batch(network, [image], [mask], network_px=512, window="whole")

    status, said = in_little_memory(one_line_errors(work), 600)
    note, error = said.splitlines()
    assert note.startswith("note: memory ran out in a batch of 1 windows of 512 x 512 px (4,000 MB more"), said
    assert status == 2 and error.startswith("error: memory ran out in a batch of 1 windows of 256 x 256 px (1,000 MB")
    assert "at half its scale" in note and "--device cpu" in error


def test_images_of_an_evaluation_are_named():
    compute = memory.names_images(lambda network, images, masks: paddle.ones([1 << 30]))
    status, said = in_little_memory(one_line_errors(lambda argv: compute(None, np.zeros((3, 10, 20, 3), np.uint8), 0)))
    note, error = said.splitlines()
    assert note.startswith("note: memory ran out in computing 3 images of 20 x 10 px (4,096 MB"), said
    assert status == 2 and error.startswith("error: memory ran out in computing 1 images of 20 x 10 px (4,096 MB"), said


def test_work_is_halved_until_memory_suffices(capsys):
    tried = []

    def compute(count):
        tried.append(count)
        if count > 3:
            raise MemoryError
        return -count

    assert memory.halving(compute, 13, "moving {} stones") == -3 and tried == [13, 6, 3]
    assert capsys.readouterr().err.splitlines()[1] == (
        "note: memory ran out in moving 6 stones; going on with 3 at once"
    )
    with pytest.raises(ZeroDivisionError):
        memory.halving(lambda count: count / 0, 13, "dividing {}")


@pytest.mark.parametrize("pair", [False, True])
def test_the_images_of_an_evaluation_are_computed_in_parts(pair):
    """Everything that has one entry for each image is cut alike; the parts come back in order."""
    images = np.arange(7 * 4 * 4 * 3, dtype=np.uint8).reshape(7, 4, 4, 3)
    masks, sketches, sizes = images[..., 0] > 50, images[..., 1] > 90, []

    @memory.names_images
    def compute(network, images, masks, direction, sketches=None):
        sizes.append(len(images))
        if len(images) > 2:
            raise MemoryError
        made = images * masks[..., None] + sketches[..., None] + len(direction)
        return (made, masks) if pair else made

    done = compute(None, images, masks, "right", sketches=sketches)
    wanted = images * masks[..., None] + sketches[..., None] + 5
    np.testing.assert_array_equal(done[0] if pair else done, wanted)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1] and (not pair or (done[1] == masks).all())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "Cannot allocate 4.000000MB memory on GPU 0, 15.0GB memory has been allocated",
            " (4 MB more were asked for on GPU 0)",
        ),
        (
            "Cannot allocate 1.500000GB memory on npu:1, available memory is only 3B",
            " (1,536 MB more were asked for on npu:1)",
        ),
        ("Cannot allocate 92.156250kB memory on fake_gpu:1", " (0.090 MB more were asked for on fake_gpu:1)"),
        ("Out of memory", ""),
    ],
)
def test_what_was_asked_for_in_vain(text, told):
    assert memory.size_asked(MemoryError(text)) == told


@pytest.mark.medium
def test_a_training_step_names_the_sizes_and_leaves_the_checkpoint(tmp_path):
    """The third step needs 4 GB."""

    def batches(first):
        while True:
            yield (np.float32(1),)

    def start(batch_size, **options):
        net = paddle.nn.Linear(2, 2)
        cfg = RunSettings(run_dir=tmp_path, total_steps=9, save_minutes=0.0, batch_size=batch_size, **options)
        return Run(cfg, "paper", {"n": net}, {"n": paddle.optimizer.Adam(parameters=net.parameters())})

    def train(argv):
        with start(24) as run:
            for step, _ in run.steps(batches):
                run.record({"loss": paddle.ones([1 << 30]) if step == 2 else paddle.ones([1])})

    status, said = in_little_memory(one_line_errors(train), 400)
    last = said.splitlines()[-1]
    assert status == 2 and "error: memory ran out at step 3 of paper with --batch-size 24 (4,096 MB more" in last, said
    saved = tmp_path / "checkpoints/step_0000002"
    assert f"--resume {saved}" in last and "Traceback" not in said
    assert checkpoint_state.newest_state(tmp_path / "checkpoints") == saved and not (tmp_path / "run.lock").exists()
    assert start(12, resume=str(saved)).step == 2
