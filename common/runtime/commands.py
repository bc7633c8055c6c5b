"""Commands that are printed for the user to run next."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import functools
import importlib
import os
import re
import shlex
import sys
from pathlib import Path

from common.errors import UserError, first_line
from common.runtime import device_faults, memory, signals
from common.runtime.terminal import escaped_output

ROOT = Path(__file__).resolve().parents[2]


def next_command(module: str, *words: str | Path) -> str:
    """A command of the suite as a shell takes it: quoted, and a path that looks like a flag or a home behind ./

    A verb of the paper whose file was started, `python PAPER/train.py`, is started alike; others by `python -m`.
    """
    return shlex.join(["python", *_start(module), *(_plain(word) for word in words)])


def example_command(module: str, weights: Path, image: Path | None, *words: str) -> str:
    """The command that tries new weights on an image; the demo's, where there is none, as in a zip."""
    if image is None:
        return next_command(module, "--weights", weights, "--demo")
    return next_command(module, "--weights", weights, "--input", image, *words)


def unpack_command(kind: str, source: Path) -> str:
    """The command that unpacks an archive, or the archives in a folder, below data/."""
    whole = source.resolve()
    name = f"{whole.name}_unpacked" if source.is_dir() else whole.name.partition(".")[0]
    return next_command("data.prepare", kind, source, "--output", Path("data", name))


def _start(module: str) -> list[str]:
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    started = sys.modules["__main__"]
    as_file = getattr(started, "__spec__", None) is None and hasattr(started, "__file__")
    if as_file and file.is_file() and Path(started.__file__).resolve().parent == file.parent:
        return [_plain(Path(sys.argv[0]).with_name(file.name))]
    return ["-m", module]


def _plain(word: str | Path) -> str:
    if isinstance(word, Path) and str(word).startswith(("-", "~")):
        return f"./{word}"
    return str(word)


def expand_home(argument: str) -> str:
    """An argument with the home folder in place of a leading `~` or `~user`, also behind `--flag=`.

    No shell expands `--flag=~/x`. A word such as `~5`, and a name behind `~` that is neither a user's nor followed by a
    slash, stay as they are, as in a shell.

    Raises:
        UserError: there is no such user, or nothing tells where the own home folder is.
    """
    flag, text = re.fullmatch(r"(--[\w-]+=)?(.*)", argument, re.DOTALL).groups()
    match = re.fullmatch(r"~([^\W\d][^/\s]*)?(/.*)?", text.replace(os.sep, "/"), re.DOTALL)
    if match is None:
        return argument
    user, rest = match[1] or "", match[2] or ""
    known = os.name != "posix" or user or os.environ.get("HOME")
    home = os.path.expanduser(f"~{user}") if known else _home_without_variable(text)  # noqa: PTH111
    if home != f"~{user}":
        return f"{flag or ''}{home}{rest}"
    if rest and not os.path.lexists(home):
        raise UserError(f"{argument}: there is no user {user}; for a folder of that name write ./{text}")
    return argument


def _home_without_variable(text: str) -> str:
    """The home folder by the system's list of users, and a line that says so."""
    import pwd  # not on Windows

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise UserError(
            f"{text}: ~ is the home folder, but HOME is not set and this user has none; write the whole path"
        ) from None
    print(f"note: HOME is not set; ~ is read as {home}", file=sys.stderr)
    return home


@functools.cache  # a command's flags are read twice, see `answer_first`
def note_repeated(flags: tuple[str, ...]) -> None:
    for flag in sorted({flag for flag in flags if flags.count(flag) > 1}):
        print(f"note: {flag} is given twice: only the last counts, with all its values behind it", file=sys.stderr)


def one_line_errors(main):
    """Decorates a command's `main(argv)`: a `UserError` becomes `error: …` on stderr and exit status 2.

    Ctrl-C, SIGTERM and SIGHUP become `stopped by …` and exit status 130, 143 and 129, see `common.runtime.signals`.
    """

    @functools.wraps(main)
    @escaped_output()
    def command(argv=None):
        try:
            words = [expand_home(each) for each in (sys.argv[1:] if argv is None else argv)]
            note_repeated(tuple(word.partition("=")[0] for word in words if word.startswith("--")))
            with signals.stoppable():
                result = main(words)
            sys.stdout.flush()
            return result
        except UserError as mistake:
            print(f"error: {mistake}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as stop:
            name, status = signals.name_and_status(stop)
            print(f"stopped by {name}", file=sys.stderr)
            raise SystemExit(status) from None
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # 128 + SIGPIPE, as for any other command
        except Exception as problem:
            if device_faults.is_lost(problem):
                print(
                    f"error: the device failed: {first_line(problem)}; what was written is whole: once the device "
                    "answers again, start the same command again (--skip-existing leaves out what is done)",
                    file=sys.stderr,
                )
                raise SystemExit(2) from None
            if not memory.is_out_of_memory(problem):
                raise
            print(
                f"error: memory ran out{memory.size_asked(problem)}; take a smaller --batch-size or smaller images, "
                "stop other programs, or allow this process more (ulimit -v)",
                file=sys.stderr,
            )
            raise SystemExit(2) from None

    return command


def answer_first(read, description: str) -> None:
    """Has `read(words, description)` look at the process's own command line: it ends here for --help and for mistakes.

    A command calls this above the imports that lead to Paddle, and reads its flags again, for their values, in `main`.
    It ends here also, in one line, where Paddle is missing or does not import.
    """

    def answer(words: list[str]) -> None:
        read(words, description)
        sys.argv[1:] = words  # without ~: what is to be said of it is said once

    one_line_errors(answer)()
    try:
        importlib.import_module("common.runtime.device")
    except ImportError as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
