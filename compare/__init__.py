"""All completion papers, baselines and other methods' results on the same images and masks.

python -m compare photo --image PHOTO --mask MASK --output OUT.png

python -m compare table --data-dir DIR --output FOLDER --mask center random
"""

import importlib
import sys

from common.errors import UserError
from common.runtime.commands import one_line_errors
from compare import options


@one_line_errors
def main(words: list[str] | None = None) -> None:
    """Hands the command line to the verb that it begins with; its flags are read before Paddle is imported."""
    readers = {"photo": options.read_photo, "table": options.read_table}
    verb, *rest = (sys.argv[1:] if words is None else words) or [""]
    if verb in ("-h", "--help"):
        print(__doc__)
        return
    if verb not in readers:
        raise UserError(f"there is no comparison {verb!r}; choose from {', '.join(readers)}")
    readers[verb](rest, __doc__)
    importlib.import_module(f"compare.{verb}").main(rest)  # here, since it leads to Paddle
