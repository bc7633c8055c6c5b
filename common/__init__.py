"""Nouns shared by the papers: images, masks, checkpoints, metrics. Names no paper."""

import sys
from pathlib import Path

__version__ = "0.2.0"

# What `python -m common.doctor.libraries` installed. Last, so that nothing of the environment is overridden.
EXTERNAL = Path(__file__).resolve().parents[1] / "external-libraries"
if EXTERNAL.is_dir() and str(EXTERNAL) not in sys.path:
    sys.path.append(str(EXTERNAL))
