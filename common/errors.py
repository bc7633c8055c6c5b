"""How a command ends: a user's mistake is one clear line and exit status 2; a bug keeps its stack trace."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here


class UserError(Exception):
    """Something the user can put right: what was wrong, the value, what to do.

    Its text is one line: a name with line ends in it shows them as `\\n`.
    """

    def __str__(self) -> str:
        return super().__str__().replace("\r", "\\r").replace("\n", "\\n")


class DivergedError(UserError):
    """Losses or weights of a training run are no finite numbers any more."""


def first_few(names: list[str], most: int = 3) -> str:
    """The first names of a list, and `…` for the others."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def none_readable(problems: list[str], what: str = "image") -> UserError:
    """The error for a set of which nothing can be read, with the first three reasons."""
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return UserError(f"no {what} of the set can be read: {'; '.join(problems[:3]) or 'it is empty'}{more}")


def first_line(problem) -> str:
    """The first line of an exception or text, at most 300 characters; the kind of an exception that says nothing.

    Of an error from Paddle's C++ that is its summary, which stands below a stack trace.
    """
    text = str(problem).rpartition("Error Message Summary:")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip("- ")] or [type(problem).__name__]
    first = " ".join(lines[:2]).rstrip(".") if lines[0].endswith("Error:") else lines[0]
    return first if len(first) <= 300 else first[:299] + "…"
