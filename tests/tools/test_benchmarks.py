"""The benchmarks' arithmetic, their turns, and whether the peers compute what we compute."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import exchange, memory, pairs, report, worker
from benchmarks.__main__ import choose, main, need_torch
from benchmarks.pairs import ROOT, Row, Worker, prepare, summary, take_turns
from benchmarks.rows import PAPERS, Curve, all_curves, all_rows
from common.errors import UserError
from common.imaging.io import write_image

pytestmark = pytest.mark.medium

PEER_PYTHON = Path(os.environ.get("SUITE_PEER_PYTHON", sys.executable))
HAS_TORCH = subprocess.run([PEER_PYTHON, "-c", "import torch"], capture_output=True).returncode == 0
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="no PyTorch here; SUITE_PEER_PYTHON may name an interpreter")

TINY = {
    "glcic": {
        "batch_size": 8,
        "image_px": 64,
        "local_px": 64,
        "global_convs": 5,
        "mask_px": [8, 16],
        "base_channels": 4,
    },
    "pix2pix": {"image_px": 64, "base_channels": 8, "discriminator_channels": 8, "blocks": 2},
    "deepfill": {"image_px": 64, "base_channels": 4, "discriminator_channels": 4},
    "context_encoder": {"image_px": 64, "base_channels": 8, "bottleneck": 32, "batch_size": 4},
    "dcgan_completion": {"image_px": 32, "base_channels": 8, "batch_size": 4},
}


def rounds(seconds: float, faults: float = 0, peak: float = 100) -> dict:
    return {
        "seconds": seconds, "user_seconds": 2 * seconds, "system_seconds": 0.5, "minor_faults": faults,
        "peak_megabytes": peak, "repeats": 3,
    }  # fmt: skip


# ---- arithmetic


def test_ratios_are_of_paired_rounds():
    """Ratios 1/2, 9/3 and 4/1: their median is 3, while the medians' ratio would be 4/2 and the sums' 14/6."""
    result = summary([(rounds(1, 5, 90), rounds(2)), (rounds(9, 7, 130), rounds(3)), (rounds(4, 9), rounds(1))])
    assert (result["ratio_median"], result["ratio_min"], result["ratio_max"]) == (3, 0.5, 4)
    assert (result["rounds"], result["repeats"]) == (3, 3)
    ours = result["ours"]
    assert (ours["seconds"], ours["user_seconds"], ours["system_seconds"], ours["minor_faults"]) == (4, 8, 0.5, 7)
    assert ours["peak_megabytes"] == 130
    assert result["peer"]["seconds_each_round"] == [2, 3, 1]


def test_even_number_of_rounds_takes_the_mean_of_the_middle_two():
    result = summary([(rounds(a), rounds(1)) for a in (1, 2, 4, 8)])
    assert result["ratio_median"] == 3


class Scripted:
    """In the place of a worker: takes so long for one repetition, and notes what it was asked."""

    def __init__(self, name: str, seconds: float, asked: list):
        self.name, self.seconds, self.asked = name, seconds, asked

    def ask(self, do: str, repeats: int) -> dict:
        self.asked.append((self.name, repeats))
        return rounds(self.seconds)


def test_sides_take_turns_with_equal_work_after_warming_up(monkeypatch):
    monkeypatch.setattr(pairs, "PAUSE_SECONDS", 0)
    asked = []
    found = take_turns([Scripted("A", 0.3, asked), Scripted("B", 0.12, asked)], 3)
    repeats = 17  # of the faster, 0.12 s, until two seconds are full
    assert asked == [("A", 1), ("B", 1)] + [("A", repeats), ("B", repeats)] * 4
    assert len(found) == 3
    assert summary(found)["ratio_median"] == pytest.approx(2.5)


def test_differences_are_relative_to_the_peer_and_infinite_where_forms_differ():
    ours = {"a": np.array([1.0, -4.04]), "b": np.zeros(3), "c": np.zeros(1), "d": np.array([np.nan])}
    peer = {"a": np.array([1.0, -4.0]), "b": np.zeros(2), "e": np.zeros(1), "d": np.array([1.0])}
    apart = exchange.differences(ours, peer)
    assert apart["a"] == pytest.approx(0.01)
    assert [apart[name] for name in "bcde"] == [float("inf")] * 4
    assert [text.split()[0] for text in exchange.unequal(apart)] == ["a", "b", "c", "d", "e"]


def test_only_later_losses_may_be_further_apart():
    assert exchange.unequal({"loss": 9e-4, "later 1 loss": 0.05}) == []
    assert len(exchange.unequal({"loss": 2e-3, "later 1 loss": 0.2})) == 2


def test_a_round_is_measured_per_repetition():
    calls, kept = [], []

    def work():
        calls.append(sum(number * number for number in range(300_000)))
        kept.append(np.ones(2**23))  # 64 MB, written

    before = worker.peak_megabytes()
    found = worker.timed_round(work, 4)
    assert len(calls) == 4
    assert found["user_seconds"] + found["system_seconds"] > 0.005
    assert found["seconds"] < 60
    assert found["minor_faults"] >= 0  # none where the allocator keeps what was freed
    assert found["peak_megabytes"] > min(before, 100) + 4 * 64 - 30


# ---- rows


def test_rows_are_chosen_by_name_or_beginning():
    rows, curves = choose(("glcic", "growth-masks"), all_rows(), all_curves())
    assert [row.name for row in rows] == ["glcic-train", "glcic-infer"]
    assert [curve.row.name for curve in curves] == ["growth-masks"]
    everything = choose((), all_rows(), all_curves())
    assert [len(each) for each in everything] == [len(all_rows()), len(all_curves())]
    with pytest.raises(UserError, match="no row 'glci'.*glcic-train.*growth-data"):
        choose(("glci",), all_rows(), all_curves())


def test_every_row_leads_to_functions_that_are_there():
    names = [row.name for row in all_rows()]
    assert {f"{paper}-{verb}" for paper in PAPERS for verb in ("train", "infer")} <= set(names)
    assert len(set(names)) == len(names)
    for row in [*all_rows(), *(curve.row for curve in all_curves())]:
        for target in (row.ours, row.peer):
            module, _, function = target.partition(":")
            tree = ast.parse((pairs.ROOT / f"{module.replace('.', '/')}.py").read_text())
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, target


def test_peers_know_nothing_of_paddle():
    for path in (pairs.ROOT / "benchmarks" / "peers").glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not [name for name in imported if name.split(".")[0] in ("paddle", "common", *PAPERS)], path


# ---- pages


def measured(name: str) -> dict:
    pair = (rounds(1.5, 12_345, 1024), rounds(3, 0, 512))
    return {"name": name, **summary([pair]), "difference": 2e-6, "note": "64 px", "settings": {}}


def test_table_row():
    assert report.table_row(measured("glcic-train")) == (
        "| glcic-train | **0.50** | 0.50 to 0.50 | 1.50 | 3.00 | 3.50 | 6.50 | 12,345 | 0 | 1,024 | 512 |"
    )
    assert [report.short(seconds) for seconds in (12.345, 0.1234, 0.01234)] == ["12.35", "0.123", "0.0123"]


def test_page_has_a_row_for_each_measurement(tmp_path):
    points = [{"at": 2048, **measured("x")}]
    result = {
        "machine": report.machine(2), "rows": [measured("a"), measured("b")], "failures": ["c: too large"],
        "curves": [{"name": "growth-x", "note": "more of it", "setting": "size", "points": points}],
    }  # fmt: skip
    page = report.markdown(result, {"growth-x": tmp_path / "docs" / "growth_x.png"}, tmp_path / "docs" / "page.md")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table if "-" not in line[:5]] == [
        "| row",
        "| a",
        "| b",
        "| row",
        "| 2,048",
    ]
    assert len({line.count("|") for line in table}) == 1
    assert "![growth-x](growth_x.png)" in page
    assert "not measured: c: too large" in page
    assert "the sides differ by 2e-06" in page


def test_curves_are_drawn(tmp_path):
    curve = Curve(Row("growth-x", "", "", "more of it"), "batch_size", (1, 2, 4), "images per step", "PyTorch", True)
    points = [{"at": at, **summary([(rounds(at), rounds(2 * at))] * 3)} for at in curve.values]
    path = report.plot(curve, points, tmp_path / "x.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


# ---- whole runs


def test_readers_are_measured_without_torch(tmp_path):
    for number in range(16):
        write_image(tmp_path / "pictures" / f"{number}.jpg", np.full((48, 40, 3), 10 * number, np.uint8))
    (row,) = (row for row in all_rows(str(tmp_path / "pictures"), 1) if row.name == "readers")
    found = pairs.measure(row, 2, 1, PEER_PYTHON)
    assert found["rounds"] == 2 and found["difference"] == 0
    assert found["ratio_min"] <= found["ratio_median"] <= found["ratio_max"]
    assert found["ours"]["seconds"] > 0 and found["peer"]["peak_megabytes"] > 10
    assert {"paddlepaddle", "numpy", "opencv"} <= found["versions"].keys()


def test_alone_there_is_no_ratio(tmp_path, capsys):
    main(["readers", "--rounds", "2", "--threads", "1", "--alone", "--markdown", str(tmp_path / "page.md"),
          "--json", str(tmp_path / "result.json")])  # fmt: skip
    row = json.loads((tmp_path / "result.json").read_text())["rows"][0]
    assert row["peer"] is None and row["ratio_median"] is None and row["ours"]["seconds"] > 0
    assert "| readers | – | – |" in (tmp_path / "page.md").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["growth-batch", "--alone"])
    assert ended.value.code == 2 and "--alone" in capsys.readouterr().err


def test_an_interpreter_without_torch_is_told(tmp_path, capsys):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"\[bench\].*--peer-python"):
        need_torch(python)
    with pytest.raises(SystemExit) as ended:
        main(["glcic-infer", "--peer-python", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_worker_that_dies_is_told(tmp_path):
    with Worker(Path(sys.executable), 1) as one, pytest.raises(UserError, match="one side"):
        one.process.kill()
        one.ask(do="round", repeats=1)


@pytest.fixture(scope="module")
def both_workers():
    with Worker(Path(sys.executable), 1) as ours, Worker(PEER_PYTHON, 1) as peer:
        yield ours, peer


def tiny_rows() -> list[Row]:
    rows = {row.name: row for row in all_rows()}
    tiny = [
        Row(name, row.ours, row.peer, "", {**row.settings, **TINY[name.rpartition("-")[0]]})
        for name, row in rows.items()
        if name.endswith(("-train", "-infer"))
    ]
    search, attention = rows["dcgan_completion-search"], rows["attention"]
    tiny.append(Row(search.name, search.ours, search.peer, "", {**TINY["dcgan_completion"], "steps": 2}))
    tiny.append(Row(attention.name, attention.ours, attention.peer, "", {"side": 16, "channels": 4}))
    for name in ("checkpoint-save", "checkpoint-load"):
        settings = {**TINY["glcic"], **rows[name].settings, "batch_size": 4}
        tiny.append(Row(name, rows[name].ours, rows[name].peer, "", settings))
    return tiny


@needs_torch
@pytest.mark.parametrize("row", tiny_rows(), ids=lambda row: row.name)
def test_the_peer_computes_what_we_compute(row, both_workers, tmp_path):
    """Outputs, and the losses of two steps of training, from the same weights: far nearer than the tolerance."""
    apart, versions = prepare(row, *both_workers, str(tmp_path))
    assert max(apart.values()) < 5e-3 and {"paddlepaddle", "torch"} <= versions.keys()
    for worker_of_a_side in both_workers:
        assert worker_of_a_side.ask(do="round", repeats=1)["seconds"] > 0


@needs_torch
def test_other_weights_are_refused(both_workers, tmp_path):
    """The peer's first convolution is made 2 % larger behind its back, and the same row is no longer timed."""
    (row,) = (row for row in tiny_rows() if row.name == "deepfill-infer")
    prepare(row, *both_workers, str(tmp_path))
    plan, tensors = exchange.read(tmp_path)
    tensors["network.coarse.conv1.conv.weight"] *= 1.02
    exchange.write(tmp_path, plan, tensors)

    class Unheard:  # our side as it was, without writing anew
        def ask(self, **request) -> dict:
            return {"versions": {}}

    with pytest.raises(UserError, match="not timed.*output0"):
        prepare(row, Unheard(), both_workers[1], str(tmp_path))


@needs_torch
def test_a_row_from_the_command_line(tmp_path, monkeypatch, capsys):
    rows = tiny_rows()
    monkeypatch.setattr("benchmarks.__main__.all_rows", lambda *_: rows)
    main(["dcgan_completion-infer", "--rounds", "2", "--threads", "1", "--json", str(tmp_path / "result.json"),
          "--markdown", str(tmp_path / "page.md"), "--peer-python", str(PEER_PYTHON)])  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())
    (row,) = result["rows"]
    assert row["name"] == "dcgan_completion-infer" and row["rounds"] == 2 and row["ratio_median"] > 0
    assert row["ours"]["seconds"] * row["repeats"] > 0.1
    assert "torch" in result["machine"]["versions"]
    assert "dcgan_completion-infer" in (tmp_path / "page.md").read_text() + capsys.readouterr().out


@pytest.mark.parametrize(
    "result, pages",
    [
        ("performance", {"README.md": "", "README.zh-CN.md": "", "docs/performance.md": "**"}),
        ("performance_intel", {"docs/performance.md": ""}),
    ],
)
def test_the_figures_of_the_readmes_are_those_that_were_measured(result, pages):
    rows = {row["name"]: row for row in json.loads((ROOT / f"docs/{result}.json").read_text())["rows"]}
    order = ["glcic", "pix2pix", "deepfill", "context_encoder", "dcgan_completion"]
    for verb in ("infer", "train"):
        figures = [f"{rows[f'{paper}-{verb}']['ratio_median']:.2f}" for paper in order]
        for name, mark in pages.items():
            assert " | ".join(f"{mark}{figure}{mark}" for figure in figures) in (ROOT / name).read_text(), (name, verb)


# ---- memory


def test_a_peak_is_that_of_a_process_which_did_one_thing(tmp_path, capsys):
    """Two rows in one command: Paddle and some windows take 0.2 GB at least, whatever this process has taken."""
    hungry = np.ones(2**28)  # 2 GB, in the parent
    memory.main(["windows-2048", "whole-1024", "--json", str(tmp_path / "memory.json")])
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["windows-2048", "whole-1024"] and hungry.all()
    printed = capsys.readouterr().out
    for row in rows:
        assert 0.2 < row["gigabytes"] < 2 and f"| {memory.ROWS[row['name']]} | {row['gigabytes']:.2f} GB" in printed


def test_rows_of_memory_that_cannot_be_measured(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        memory.main(["network-512"])
    assert "no row 'network-512'; choose from photo, " in capsys.readouterr().err
    deadly = "__import__('os')._exit(9)"
    monkeypatch.setattr(memory, "ROWS", {deadly: ""})
    monkeypatch.setattr(memory, "measure", eval)
    with pytest.raises(SystemExit):
        memory.main([deadly])
    assert "was killed; the memory may be too small" in capsys.readouterr().err


def test_the_scene_has_a_hole_of_eight_percent():
    image, mask = memory.scene(300, 400)
    assert image.shape == (300, 400, 3) and mask.mean() == pytest.approx(0.08, abs=0.003)


def test_the_table_of_memory_is_what_was_measured_and_keeps_its_bounds():
    peaks = {row["name"]: row["gigabytes"] for row in json.loads((ROOT / "docs/memory.json").read_text())["rows"]}
    page = (ROOT / "docs/performance.md").read_text()
    for name, note in memory.ROWS.items():
        assert f"| {note} | {peaks[name]:.2f} GB |" in page, name
    assert peaks["photo"] < 3 and max(peaks["network-1024"], peaks["compiled-1024"]) < 4 and peaks["network-2048"] < 8
    ratio = f"{peaks['step-4'] / peaks['step-1']:.2f}"  # what --accumulate 4 leaves of a step's peak
    told = (
        (ROOT / "docs/training.md").read_text().partition("benchmarks.memory step-1 step-4")[0].rpartition(" without, ")
    )
    assert float(ratio) < 0.8 and told[2].startswith(f"{ratio} of it")
