"""All completion papers, baselines and other methods' results on the same images and masks.

python -m compare photo --image PHOTO --mask MASK --output OUT.png

python -m compare table --data-dir DIR --output FOLDER --mask center random
"""

import sys

from common.errors import UserError
from common.runtime.commands import one_line_errors


@one_line_errors
def main(words: list[str] | None = None) -> None:
    """Hands the command line to the verb that it begins with."""
    import side_by_side  # here, since compare.table is part of this package
    from compare import table

    verbs = {"photo": side_by_side.main, "table": table.main}
    verb, *rest = (sys.argv[1:] if words is None else words) or [""]
    if verb in ("-h", "--help"):
        print(__doc__)
        return
    if verb not in verbs:
        raise UserError(f"there is no comparison {verb!r}; choose from {', '.join(verbs)}")
    verbs[verb](rest)
