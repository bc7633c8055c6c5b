"""Begins a paper's folder from the small but whole one in this folder: python tests/sixth_paper/start.py NAME"""

import sys
from pathlib import Path

TEMPLATE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SUFFIX = ".txt"  # with which neither pytest nor the search for papers takes the files for modules
NAME = "l2_completion"


def start(name: str, root: Path = ROOT) -> Path:
    """Writes the template as root/NAME, under that name. Returns the folder."""
    if not name.isidentifier() or (root / name).exists():
        raise SystemExit(f"error: {name!r} is there already, or is no name for a package; choose another")
    (root / name).mkdir()
    for path in sorted(TEMPLATE.glob(f"*{SUFFIX}")):
        (root / name / path.name.removesuffix(SUFFIX)).write_text(path.read_text().replace(NAME, name))
    return root / name


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(f"written: {start(sys.argv[1])}; next: pytest tests/contract/test_papers.py -k {sys.argv[1]}")
