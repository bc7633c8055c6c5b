"""A user's mistake is one clear line and exit status 2; a bug keeps its stack trace."""

import functools
import os
import sys


class UserError(Exception):
    """Something the user can put right: what was wrong, the value, what to do."""


class DivergedError(UserError):
    """Losses or weights of a training run are no finite numbers any more."""


def first_line(problem) -> str:
    """The first line of an exception or text, at most 300 characters; the kind of an exception that says nothing."""
    text = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return text if len(text) <= 300 else text[:299] + "…"


def one_line_errors(main):
    """Decorates a command's `main(argv)`: a `UserError` becomes `error: …` on stderr and exit status 2."""

    @functools.wraps(main)
    def command(argv=None):
        try:
            result = main(argv)
            sys.stdout.flush()
            return result
        except UserError as mistake:
            print(f"error: {mistake}", file=sys.stderr)
            raise SystemExit(2) from None
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # 128 + SIGPIPE, as for any other command

    return command
