"""The table over all papers: rows, costs, and that a second call goes on where the first one ended."""

import json

import cv2
import numpy as np
import pytest

import compare
import weights
from common.errors import UserError
from common.evaluation.network_cost import network_cost
from common.imaging.io import read_image, write_image
from common.inpainting import tiling
from compare import photo, table
from glcic import infer
from tests.helpers import fails

import paddle


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for n in range(4):
        small = np.random.default_rng(n).integers(40, 200, (6, 6, 3), dtype=np.uint8)
        write_image(folder / f"face{n}.png", cv2.resize(small, (70, 70), interpolation=cv2.INTER_LINEAR))
    return folder


def arguments(faces, folder, *more):
    given = ["table", "--data-dir", faces, "--output", folder, "--papers", "glcic", "--image-px", "64", "--limit", "2"]
    return [str(each) for each in [*given, "--baselines", "fast", "--device", "cpu", *more]]


def command(faces, folder):
    compare.main(arguments(faces, folder, "--mask", "random"))


def counted(monkeypatch) -> list[int]:
    """Numbers of images that GLCIC is asked to complete from now on, call by call."""
    asked, real = [], infer.complete_batch

    def count(network, images, masks, *rest, **options):
        asked.append(len(images))
        return real(network, images, masks, *rest, **options)

    monkeypatch.setattr(infer, "complete_batch", count)
    return asked


def test_a_table_of_rows_and_costs_that_a_second_call_reads_again(faces, tmp_path, monkeypatch, capsys):
    compare.main(arguments(faces, tmp_path, "--mask", "center"))
    first = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("| ")]
    label = photo.LABELS["glcic"]
    assert rows == ["method", label, "Telea", "Navier-Stokes", "mean colour", "membrane", f"{label} - best baseline"]
    result = json.loads((tmp_path / "table.json").read_text())["center"]
    network = photo.load("glcic", photo.choose(("glcic",), ())["glcic"])
    numbers = sum(int(np.prod(value.shape)) for value in network.parameters())
    assert result["rows"][label]["cost_mparameters"][0] == pytest.approx(numbers / 1e6)
    side = network.metadata["image_px"]  # the square that it sees
    macs = network_cost(
        infer.load(weights.find("glcic_faces")), [paddle.zeros([1, n, side, side]) for n in (3, 1)]
    ).macs
    assert result["rows"][label]["cost_gmacs"][0] == pytest.approx(macs / 1e9)
    assert all(scores["cost_ms"][0] > 0 for scores in result["rows"].values())
    assert (tmp_path / "center/scores.csv").is_file() and (tmp_path / "center/images.png").is_file()

    monkeypatch.setattr(infer, "complete_batch", lambda *_, **__: pytest.fail("completed again"))
    monkeypatch.setattr(table, "baseline_fill", lambda _: lambda *_: pytest.fail("completed again"))
    compare.main(arguments(faces, tmp_path, "--mask", "center"))
    again = json.loads((tmp_path / "table.json").read_text())["center"]
    assert again["rows"] == result["rows"] and "2 of 2 images completed before" in capsys.readouterr().out


def test_what_was_completed_for_other_masks_is_completed_again(faces, tmp_path, monkeypatch):
    asked = counted(monkeypatch)
    command(faces, tmp_path)
    command(faces, tmp_path)
    assert asked == [2, 1]  # the one image is for the count of MACs
    note = tmp_path / "random/glcic/completed.json"
    written = json.loads(note.read_text())
    for n, key in enumerate(("weights_sha256", "images_sha256", "masks_sha256", "seed", "crop")):
        note.write_text(json.dumps({**written, key: "another"}))
        command(faces, tmp_path)
        assert asked == [2, 1] * (n + 2) and json.loads(note.read_text())[key] == written[key]


def test_a_stopped_call_goes_on_after_its_last_whole_chunk(faces, tmp_path, monkeypatch):
    command(faces, tmp_path / "whole")
    monkeypatch.setattr(table, "CHUNK", 1)
    real, asked = infer.complete_batch, []

    def stopped(network, images, masks, *rest, **options):
        asked.append(len(images))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(network, images, masks, *rest, **options)

    monkeypatch.setattr(infer, "complete_batch", stopped)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        command(faces, tmp_path / "cut")
    assert json.loads((tmp_path / "cut/random/glcic/completed.json").read_text())["images"] == 1
    command(faces, tmp_path / "cut")
    assert asked == [1, 1, 1, 1]  # the last for the count of MACs
    rows = [json.loads((tmp_path / run / "table.json").read_text())["random"]["rows"] for run in ("whole", "cut")]
    label = photo.LABELS["glcic"]
    assert rows[0][label]["hole_psnr_db"] == pytest.approx(rows[1][label]["hole_psnr_db"], abs=0.01)


def test_mistakes_are_told_before_the_work(faces, tmp_path, monkeypatch, capsys):
    """Of the second kind of masks, of another paper's weights, of results: no image has been completed by then."""
    asked = counted(monkeypatch)
    (tmp_path / "theirs/random").mkdir(parents=True)
    for told, *flags in (
        ("'stars'", "--mask", "center", "stars"),
        ("completes no photos", "--papers", "glcic", "pix2pix", "--weights", weights.find("pix2pix_photo_to_label")),
        ("2 of 2 results", "--mask", "random", "--results", tmp_path / "theirs"),
        ("two of the masks would go to random/", "--mask", "random", tmp_path / "theirs/random"),
    ):
        assert told in fails(capsys, compare.main, *arguments(faces, tmp_path / "out", *flags))
    assert asked == [] and not (tmp_path / "out/table.md").exists()


def test_one_picture_of_all_masks_and_the_results_of_another_suite(faces, tmp_path):
    """Its results lie in a folder for each kind of masks; the truth itself is the best there can be."""
    compare.main(arguments(faces, tmp_path / "a", "--mask", "center", "random", "--write-inputs", tmp_path / "inputs"))
    for kind in ("center", "random"):
        (tmp_path / "theirs").mkdir(exist_ok=True)
        (tmp_path / "inputs" / kind / "images").rename(tmp_path / "theirs" / kind)
    compare.main(arguments(faces, tmp_path / "a", "--mask", "center", "random", "--results", tmp_path / "theirs"))
    results = json.loads((tmp_path / "a/table.json").read_text())
    for result in (results["center"], results["random"]):
        assert result["rows"]["theirs"]["image_ssim"][0] == pytest.approx(1) and "theirs" in result["learned"]
    heights = [read_image(tmp_path / f"a/{name}.png").shape[0] for name in ("table", "center/images", "random/images")]
    assert heights[0] == heights[1] + heights[2]  # two images are few enough to be shown in full


def test_papers_see_the_frame_of_their_training():
    """In the aligned shape a crop of 178 is the square itself, one of 108 its middle."""
    squares = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    top, frames = table.in_aligned_frames(squares)
    assert frames[0].shape == (157, 128, 3) and np.array_equal(frames[1][top : top + 128], squares[1])
    assert tiling.frame(157, 128, "square178") == (top, 0, top + 128, 128)
    start, left, end, right = tiling.frame(157, 128, "center108")
    assert (start - top, left) == (25, 25) and end - start == right - left == round(128 * 108 / 178)


def test_an_unknown_comparison_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main(["chart"])
    assert ended.value.code == 2 and "choose from photo, table" in capsys.readouterr().err
    with pytest.raises(UserError, match="no weights to complete with of 'nothing'"):
        photo.choose(("nothing",), ())
