"""Names, metadata and errors of libraries cannot steer a terminal or forge a line; progress bars stay as they are."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from tqdm import tqdm

from common.errors import UserError
from common.imaging.io import write_image
from common.runtime.commands import ROOT, one_line_errors
from common.runtime.terminal import escaped

RED, RIGHT_TO_LEFT = "\x1b[31m", "\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a photo\tof 2\n", "a photo\tof 2\n"),
        ("人脸 é.png\r\n", "人脸 é.png\r\n"),
        (f"{RED}x", "\\x1b[31mx"),
        ("x\x07\x9b2J", "x\\x07\\x9b2J"),
        (f"{RIGHT_TO_LEFT}gnp.exe", "\\u202egnp.exe"),
        ("\udcff\udc80.png", "\\udcff\\udc80.png"),
        ("x\rerror: forged", "x\\rerror: forged"),
        ("\r 10%|#", "\r 10%|#"),
        ("\n\n\x1b[A\x1b[A", "\n\n\x1b[A\x1b[A"),
        ("a\x1b[A", "a\\x1b[A"),
    ],
)
def test_what_is_kept_and_what_is_escaped(text, shown):
    assert escaped(text) == shown


def test_a_terminal_gets_colours_and_no_more():
    assert escaped(f"{RED}x\x1b[2J\x1b]0;title\x07", terminal=True) == f"{RED}x\\x1b[2J\\x1b]0;title\\x07"


def test_an_error_is_one_line(capsys):
    @one_line_errors
    def command(argv):
        raise UserError("no image a\nerror: forged\r\x1b[2Jb")

    with pytest.raises(SystemExit):
        command([])
    assert capsys.readouterr().err == "error: no image a\\nerror: forged\\r\\x1b[2Jb\n"


def test_progress_bars_are_written_as_ever(monkeypatch):
    """Two loops, one in the other, with a cursor that goes up and down: every write of tqdm's passes unchanged."""
    writes = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", writes.append, raising=False)
    for _ in tqdm(range(2), "outer", file=stream, mininterval=0):
        for _ in tqdm(range(2), "inner", file=stream, leave=False, mininterval=0):
            pass
    tqdm.write("between", file=stream)
    assert "\n" in writes and any("\x1b[A" in write for write in writes) and any("inner" in write for write in writes)
    assert [escaped(write) for write in writes] == writes


def test_the_streams_are_given_back(capsys):
    before = sys.stdout, sys.stderr
    one_line_errors(lambda argv: print("x"))([])
    assert (sys.stdout, sys.stderr) == before and capsys.readouterr().out == "x\n"


@pytest.mark.medium
@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_name_that_is_no_text_in_a_strict_terminal(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_image(photos / "a.png", np.zeros((8, 8, 3), np.uint8))
    (photos / "a.png").rename(photos / os.fsdecode(b"\xff\x1b[2Ja.png"))
    code = "import sys; from data.prepare import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "verify", str(photos)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert b"Traceback" not in done.stderr and b"\x1b" not in done.stdout + done.stderr, done.stderr
