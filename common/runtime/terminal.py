"""What a command prints: names of files, and texts of files and libraries, cannot steer the terminal or forge lines."""

from __future__ import annotations  # an older Python must get as far as the doctor's line that says so

import contextlib
import re
import sys
from collections.abc import Iterator

# C0 and C1 controls but tab and line feed, what turns the direction of writing, and bytes of a name that are no text.
CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
PROGRESS_BAR = re.compile("\r?\n*(\x1b\\[A)*")  # a whole write of tqdm's, between the bars of two loops
KEPT = re.compile(f"(\\A\r|\r?\n|\r\\Z)|{CONTROL}")
KEPT_ON_A_TERMINAL = re.compile(f"(\\A\r|\r?\n|\r\\Z|\x1b\\[[\\d;]*m)|{CONTROL}")  # colours of the help texts too


def escaped(text: str, terminal: bool = False) -> str:
    """A text with control characters and marks of direction as escapes such as `\\x1b`.

    Kept are line ends, a carriage return at the beginning or end, as progress bars have it, and, for a terminal,
    colours.
    """
    if PROGRESS_BAR.fullmatch(text):
        return text
    pattern = KEPT_ON_A_TERMINAL if terminal else KEPT
    return pattern.sub(lambda found: found[1] or found[0].encode("unicode_escape").decode(), text)


class EscapedStream:
    """A text stream that writes to another one what `escaped` makes of a text, and is that one in all else."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(escaped(text, self.stream.isatty()))

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Has stdout and stderr escape what could steer a terminal, and what their encoding lacks (`\\xe9`), meanwhile."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (
        stream if stream is None or isinstance(stream, EscapedStream) else EscapedStream(stream) for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
