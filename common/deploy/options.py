"""The flags of the `export` commands, read and checked. Imports no Paddle."""

from typing import TypeVar

from common.config import ExportSettings, parse
from common.runtime.outputs import check_output

T = TypeVar("T", bound=ExportSettings)


def read_options(kind: type[T], argv: list[str] | None, paper: str, description: str) -> T:
    """The options of a paper's `export`. Raises UserError if the output cannot be written."""
    options = parse(kind, argv, f"python -m {paper}.export", description)
    check_output(options.output)
    return options
