"""The run folder's own files are checked like anyone's input."""

import json

import pytest

from common.errors import UserError
from common.training.curves import write_curves
from common.training.run_folder import free_name
from common.training.run_options import read_options
from common.training.stats import read_stats, trim_stats

NO_RECORDS = [
    "", "{", "[1]", "7", "null", '"step"', '{"loss": 1}', '{"step": "3"}', '{"step": true}', '{"step": -1}',
    '{"step": 1e400}', '{"step": 1.5}', '{"step": 10000000000000000}', '{"step": 3, "loss": "low"}',
    '{"step": 3, "loss": [1]}', '{"step": 3, "loss": true}', '{"step": 3, "loss": 1' + "0" * 400 + "}", "[" * 100_000,
    '{"step": 2', "\x00\x00\x00",
]  # fmt: skip


@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_line_that_is_no_record_is_dropped_and_counted(tmp_path, capsys, line):
    path = tmp_path / "stats.jsonl"
    path.write_text('{"step": 10, "loss": 0.5}\n' + line + '\n{"step": 20, "loss": 0.25}\n')
    assert read_stats(tmp_path) == [{"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.25}]
    write_curves(tmp_path / "curves.png", read_stats(tmp_path))
    trim_stats(tmp_path, 15)
    assert "note: 1 line that is no record was dropped from" in capsys.readouterr().out
    assert [json.loads(text) for text in path.read_text().splitlines()] == [{"step": 10, "loss": 0.5}]
    trim_stats(tmp_path, 15)
    assert capsys.readouterr().out == ""


def test_bytes_that_are_no_text_and_values_that_are_no_numbers(tmp_path, capsys):
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b'{"step": 1, "loss": NaN, "psnr": -Infinity}\n\xff\xfe\x00\n\x80{"step": 2}\n{"step": 3}')
    why = {"null_because": {"loss": "not a number", "psnr": "infinite, below zero"}}
    assert read_stats(tmp_path) == [{"step": 1, "loss": None, "psnr": None, **why}, {"step": 3}]
    write_curves(tmp_path / "curves.png", read_stats(tmp_path))
    trim_stats(tmp_path, 9)
    assert "2 lines that are no records were dropped" in capsys.readouterr().out
    kept = [json.loads(text, parse_constant=pytest.fail) for text in path.read_text().splitlines()]
    assert kept == [{"step": 1, "loss": None, "psnr": None, **why}, {"step": 3}]
    assert read_stats(tmp_path / "nowhere") == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"paper": 3}', "\x00" * 50, "[" * 100_000])
def test_damaged_options_are_never_taken_for_any(tmp_path, text):
    (tmp_path / "options.json").write_text(text)
    with pytest.raises(UserError, match=r"options.json is damaged .*--resume never"):
        read_options(tmp_path, "glcic")


def test_options_that_are_missing_or_of_another_paper(tmp_path):
    with pytest.raises(UserError, match=r"options.json is missing.*put it back"):
        read_options(tmp_path, "glcic")
    (tmp_path / "options.json").write_text('{"paper": "pix2pix", "seed": 1}')
    assert read_options(tmp_path, "pix2pix")["seed"] == 1
    with pytest.raises(UserError, match="a run of pix2pix, not of glcic"):
        read_options(tmp_path, "glcic")


def test_free_names(tmp_path):
    assert free_name(tmp_path / "run").name == "run-1"
    (tmp_path / "run-1").mkdir()
    assert free_name(tmp_path / "run").name == "run-2"
