"""The table of the bundled weights: up to date, and a manifest that changed is noticed."""

import json
import shutil
from pathlib import Path

import pytest

import weights
from tools import results_table as table

ROOT = Path(__file__).parents[2]


def status(*arguments):
    try:
        table.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_pages_are_up_to_date():
    assert status("--check") == 0, "run python -m tools.results_table"


@pytest.fixture
def suite(tmp_path):
    """Pages in two languages, and the manifest."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(weights.FOLDER / weights.MANIFEST, tmp_path / "weights")
    for name in table.WORDS:
        text = f"before\n\n{table.BEGIN}\n{table.END}\n\nafter 之后\n"
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_changed_manifest_is_noticed(suite, capsys):
    assert status("--check", "--folder", suite) == 1 and "weights.md, weights.zh-CN.md" in capsys.readouterr().out
    assert table.BEGIN + "\n" + table.END in (suite / "docs/weights.md").read_text()  # --check writes nothing
    assert status("--folder", suite) == status("--check", "--folder", suite) == 0
    manifest = json.loads((suite / "weights/manifest.json").read_text())
    rows = manifest["glcic_faces"]["evaluation"][0]["rows"]
    rows["ours"]["hole_psnr_db"], rows["Telea"]["hole_psnr_db"] = [33.333, 1.0], [22.222, 1.0]  # the best baseline
    manifest["glcic_faces"].update(bytes=1_250_000, steps=12_345, wall_minutes=61.6)
    (suite / "weights/manifest.json").write_text(json.dumps(manifest))
    assert status("--check", "--folder", suite) == 1
    assert status("--folder", suite) == 0
    text = (suite / "docs/weights.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "`glcic_faces`" in line]
    assert "hole PSNR 33.33 dB (Telea 22.22 dB)" in row and "| 12,345 steps, 62 min | 1.2 |" in row
    assert "[glcic](../glcic/README.md)" in row and f"`{manifest['glcic_faces']['command']}`" in row
    assert text.startswith("before\n\n" + table.BEGIN) and text.endswith(table.END + "\n\nafter 之后\n")
    assert status("--check", "--folder", suite) == 0


def test_there_is_a_row_for_every_file_and_links_lead_somewhere(suite):
    assert status("--folder", suite) == 0
    for name, words in table.WORDS.items():
        lines = [
            line for line in (suite / "docs" / name).read_text(encoding="utf-8").splitlines() if line.startswith("|")
        ]
        assert lines[0] == "| " + " | ".join(words["heads"]) + " |" and len(lines) == 2 + len(weights.read_manifest())
        for line, (file, about) in zip(
            lines[2:], sorted(weights.read_manifest().items(), key=lambda one: (one[1]["paper"], one[0])), strict=True
        ):
            cells = line.strip("| ").split(" | ")
            assert len(cells) == len(words["heads"]) and f"`{file}`" in cells[0] and all(cells)
            readme = f"{about['paper']}/{words['readme']}"
            assert (ROOT / readme).is_file() and f"(../{readme})" in cells[0]


def test_scores_stand_beside_the_best_baseline():
    """Of each set of masks, also where an evaluation has several; a mean alone or with its error."""
    part = {
        "masks": "center",
        "baselines": ["Telea", "membrane"],
        "rows": {
            name: {"hole_psnr_db": [psnr, 0.5]}
            for name, psnr in (("ours", 20.004), ("coarse", 19.5), ("Telea", 18.0), ("membrane", 18.996))
        },
    }
    words = table.WORDS["weights.md"]
    expected = "`center`: hole PSNR 20.00 dB (membrane 19.00 dB)"
    assert table.told_scores(part, words) == [expected]
    assert table.told_scores({"kinds": {"a": part, "b": part}}, words) == [expected, expected]
    labels = {"rows": {"all road": {"mean_iou": 0.02}, "ours": {"mean_iou": 0.2144, "l1_percent": [9.0, 0.1]}}}
    assert table.told_scores(labels, words) == ["mean IoU 0.214 (all road 0.020)"]
    assert table.told_scores(labels, table.WORDS["weights.zh-CN.md"]) == ["平均 IoU 0.214 (全部判为道路 0.020)"]
    assert table.told_scores({"rows": {"ours": {"mean_iou": 0.5}}}, words) == ["mean IoU 0.500"]


def test_mistakes_are_one_line(suite, capsys):
    (suite / "docs/weights.md").write_text(f"{table.END} {table.BEGIN}")
    assert status("--folder", suite) == 2
    told = capsys.readouterr().err
    assert "no place for the table" in told and told.count("\n") == 1
    (suite / "weights/manifest.json").unlink()
    assert status("--folder", suite) == 2 and "no manifest" in capsys.readouterr().err


def test_a_page_that_is_not_there_is_passed_over(suite):
    (suite / "docs/weights.zh-CN.md").unlink()
    assert status("--folder", suite) == 0 and not (suite / "docs/weights.zh-CN.md").exists()
