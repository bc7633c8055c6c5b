"""The table over all papers: rows, costs, and that a second call goes on where the first one ended."""

import json

import cv2
import numpy as np
import pytest

import compare
import side_by_side
from common.errors import UserError
from common.imaging.io import write_image


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


def test_a_table_of_rows_and_costs_that_a_second_call_reads_again(faces, tmp_path, monkeypatch, capsys):
    compare.main(arguments(faces, tmp_path, "--mask", "center"))
    first = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("| ")]
    label = side_by_side.LABELS["glcic"]
    assert rows == ["method", label, "Telea", "Navier-Stokes", "mean colour", "membrane", f"{label} - best baseline"]
    result = json.loads((tmp_path / "table.json").read_text())["center"]
    network = side_by_side.load("glcic", side_by_side.choose(("glcic",), ())["glcic"])
    counted = sum(int(np.prod(value.shape)) for value in network.parameters())
    assert result["rows"][label]["cost_mparameters"][0] == pytest.approx(counted / 1e6)
    assert all(scores["cost_ms"][0] > 0 for scores in result["rows"].values())
    assert (tmp_path / "center/scores.csv").is_file() and (tmp_path / "center/images.png").is_file()

    monkeypatch.setattr(side_by_side, "ask_paper", lambda *_, **__: pytest.fail("completed again"))
    compare.main(arguments(faces, tmp_path, "--mask", "center"))
    again = json.loads((tmp_path / "table.json").read_text())["center"]
    assert again["rows"][label] == result["rows"][label] and "completed before" in capsys.readouterr().out


def test_what_was_completed_for_other_masks_or_cut_off_is_completed_again(faces, tmp_path, monkeypatch):
    asked, real = [], side_by_side.ask_paper

    def count(*given, **options):
        asked.append(given)
        return real(*given, **options)

    monkeypatch.setattr(side_by_side, "ask_paper", count)
    command(faces, tmp_path)
    command(faces, tmp_path)
    assert len(asked) == 2
    note = tmp_path / "random/glcic/completed.json"
    written = json.loads(note.read_text())
    for n, key in enumerate(("weights_sha256", "images_sha256", "masks_sha256", "seed")):
        note.write_text(json.dumps({**written, key: "another"}))
        command(faces, tmp_path)
        assert len(asked) == 4 + 2 * n and json.loads(note.read_text())[key] == written[key]
    note.unlink()  # it is written last
    command(faces, tmp_path)
    assert len(asked) == 12


def test_an_unknown_comparison_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main(["chart"])
    assert ended.value.code == 2 and "choose from photo, table" in capsys.readouterr().err
    with pytest.raises(UserError, match="no weights to complete with of 'nothing'"):
        side_by_side.choose(("nothing",), ())
