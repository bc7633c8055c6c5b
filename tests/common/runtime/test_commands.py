"""How commands begin and end."""

import io
import os
import pwd
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.errors import UserError
from common.runtime.commands import answer_first, expand_home, one_line_errors

ROOT = Path(__file__).parents[3]
ROOT_USER, ROOT_HOME = pwd.getpwuid(0).pw_name, pwd.getpwuid(0).pw_dir


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
    program = "from common.runtime.commands import one_line_errors\n@one_line_errors\ndef main(argv=None):\n"
    program += "    for n in range(100_000): print(n)\nmain()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_command_with_one_line_and_their_status(number, status, capsys):
    cleaned = []

    @one_line_errors
    def command(argv=None):
        try:
            os.kill(os.getpid(), number)
            for _ in range(1000):  # a handler is called between two steps of the interpreter
                pass
            cleaned.append("not stopped")
        finally:
            cleaned.append("cleaned")
            if number != signal.SIGINT:
                os.kill(os.getpid(), number)  # launchers repeat it
            cleaned.append("all")

    with pytest.raises(SystemExit) as stop:
        command()
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert (stop.value.code, capsys.readouterr().err) == (status, f"stopped by {name}\n")
    assert cleaned == ["cleaned", "all"]
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_a_signal_that_a_library_makes_an_error_of_is_a_signal_all_the_same(capsys):
    """As Paddle does with what is raised in a backward pass of ours."""

    @one_line_errors
    def command(argv=None):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass
        except KeyboardInterrupt:
            raise RuntimeError("(External) KeyboardInterrupt") from None

    with pytest.raises(SystemExit) as stop:
        command([])
    assert (stop.value.code, capsys.readouterr().err) == (143, "stopped by SIGTERM\n")


def test_a_second_ctrl_c_ends_the_clean_up(capsys):
    done = []

    @one_line_errors
    def command(argv=None):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            done.extend(range(1000))
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
            done.append("cleaned")

    with pytest.raises(SystemExit) as stop:
        command([])
    assert (stop.value.code, capsys.readouterr().err) == (130, "stopped by Ctrl-C\n") and not done


def test_a_terminal_that_is_closed_leaves_the_exit_status_of_sighup():
    """The command prints while it cleans up, when there is nobody to print to any more."""
    program = """
import sys, time
from common.runtime.commands import one_line_errors
@one_line_errors
def main(argv=None):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned", flush=True)
main([])
"""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    assert os.read(ours, 5) == b"ready"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 129


def test_an_ignored_signal_stays_ignored():
    """A command that nohup started goes on when its terminal is closed."""

    @one_line_errors
    def command(argv=None):
        os.kill(os.getpid(), signal.SIGHUP)
        return "done"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert command() == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_commands_run_in_other_threads_too():
    @one_line_errors
    def command(argv=None):
        return 7

    with ThreadPoolExecutor() as pool:
        assert pool.submit(command).result() == 7


# ---- ~


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("~", "/h/me"), ("~/x y.png", "/h/me/x y.png"), ("--output=~/x", "/h/me/x"), ("--data_dir=~", "/h/me"),
        ("--weights=~/a=b", "/h/me/a=b"), ("~/a\nb", "/h/me/a\nb"),
        (f"~{ROOT_USER}", ROOT_HOME), (f"--mask=~{ROOT_USER}/m", f"{ROOT_HOME}/m"),
        *((same, None) for same in ("a~", "a/~/b", "./~/x", "~5 cores", "~4,500 faces", "~$letter.png")),
        *((same, None) for same in ("~nobody-here.png", "--images=of ~/x", "--", "--demo", "", "-~", "--output=")),
    ],
)  # fmt: skip
def test_a_tilde_is_read_as_a_shell_reads_it(monkeypatch, argument, expected):
    monkeypatch.setenv("HOME", "/h/me")
    flag = argument.partition("=")[0] + "=" if argument.startswith("--") and expected else ""
    assert expand_home(argument) == (argument if expected is None else flag + expected)


def test_an_unknown_user_is_told_unless_a_folder_has_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="--output=~nobody-here/x: there is no user nobody-here; .* write ./~nobody-here/x"
    ):
        expand_home("--output=~nobody-here/x")
    (tmp_path / "~nobody-here").mkdir()
    assert expand_home("--output=~nobody-here/x") == "--output=~nobody-here/x"


@pytest.mark.parametrize("home", [None, ""])
def test_without_home_the_list_of_users_is_asked_and_else_one_line_says_so(monkeypatch, capsys, home):
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    ours = pwd.getpwuid(os.getuid()).pw_dir
    assert expand_home("--output=~/x") == f"--output={ours}/x"
    assert capsys.readouterr().err == f"note: HOME is not set; ~ is read as {ours}\n"

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(SystemExit, match="2"):
        one_line_errors(print)(["--output=~/x"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ~/x: ~ is the home folder, but HOME is not set")


def test_a_command_that_reads_its_flags_twice_says_so_once(monkeypatch, capsys):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["command", "--output=~/x"])
    read = []
    answer_first(lambda words, _: read.append(words), "")
    one_line_errors(read.append)()
    assert read == [[f"--output={pwd.getpwuid(os.getuid()).pw_dir}/x"]] * 2
    assert capsys.readouterr().err.count("note: HOME is not set") == 1


def test_a_flag_given_twice_is_noted_once(monkeypatch, capsys):
    words = ["--output", "a", "--limit=1", "--output=b", "--", "limit"]
    monkeypatch.setattr(sys, "argv", ["command", *words])
    answer_first(lambda *_: None, "")
    one_line_errors(lambda _: None)()
    assert (
        capsys.readouterr().err
        == "note: --output is given twice: only the last counts, with all its values behind it\n"
    )


# ---- characters


def test_a_name_that_the_terminal_lacks_is_shown_escaped(monkeypatch):
    streams = [
        ("ascii", "strict", rb"caf\xe9 \u56fe \udcff"),
        ("ascii", "replace", rb"caf? ? \udcff"),
        ("utf-8", "surrogateescape", "café 图 \\udcff".encode()),
    ]
    for encoding, errors, shown in streams:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
        monkeypatch.setattr(sys, "stdout", out)
        one_line_errors(lambda argv: print(os.fsdecode("café 图 ".encode() + b"\xff")))([])
        assert out.buffer.getvalue().rstrip() == shown
