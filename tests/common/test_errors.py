"""How commands end."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError, one_line_errors

ROOT = Path(__file__).parents[2]


def test_a_mistake_is_one_line_and_a_bug_keeps_its_trace(capsys):
    @one_line_errors
    def command(argv):
        raise UserError("the value 3 is odd; give an even one") if argv else ValueError("a bug")

    with pytest.raises(SystemExit) as stop:
        command(["x"])
    assert stop.value.code == 2 and capsys.readouterr().err == "error: the value 3 is odd; give an even one\n"
    with pytest.raises(ValueError):
        command([])


def test_a_closed_pipe_ends_a_command_quietly():
    program = "from common.errors import one_line_errors\n@one_line_errors\ndef main(argv=None):\n"
    program += "    for n in range(100_000): print(n)\nmain()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141
