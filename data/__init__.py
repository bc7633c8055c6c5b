"""Where the data comes from: prepare.py checks downloaded sets, synthetic.py draws small ones."""

from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"
