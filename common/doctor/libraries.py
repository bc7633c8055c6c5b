"""Installs what the suite needs and the environment lacks into external-libraries/, such as on AI Studio.

python -m common.doctor.libraries

AI Studio's reset of an environment leaves that folder alone. Only the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from common import EXTERNAL
from common.errors import UserError, first_line
from common.runtime.child import run_python
from common.runtime.commands import one_line_errors

REQUIRED = {  # module -> what setup.py asks for
    "numpy": "numpy>=1.26",
    "scipy": "scipy>=1.11",
    "matplotlib": "matplotlib>=3.8",
    "tqdm": "tqdm>=4.65",
    "tyro": "tyro>=0.9.17",
    "safetensors": "safetensors>=0.4.3",
    "simplejpeg": "simplejpeg>=1.7.3",
    "PIL": "Pillow>=10.3",
    "cv2": "opencv-python-headless>=4.8.1.78",
}


def install_missing(folder: Path = EXTERNAL, required: dict[str, str] = REQUIRED) -> list[str]:
    """Installs those of `required` whose modules are missing, and makes them importable, after all that was there.

    Returns:
        What was installed; nothing is done where nothing is missing.

    Raises:
        UserError: pip could not install it.
    """
    missing = [wanted for module, wanted in required.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return []
    print(f"installing {', '.join(missing)} into {folder.name}/", flush=True)
    packages = list(missing)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # what is installed must fit the numpy in use
        packages.append(f"numpy=={importlib.metadata.version('numpy')}")
    done = run_python("-m", "pip", "install", "--quiet", "--target", folder.resolve(), *packages)
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr]
        raise UserError(f"pip cannot install {', '.join(missing)} ({first_line(problems[0])})")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    return missing


@one_line_errors
def main(argv: list[str] | None = None) -> list[str]:
    """The command line, which has no flags: with any argument it says what it is."""
    if sys.argv[1:] if argv is None else argv:
        print(__doc__)
        return []
    installed = install_missing()
    if not installed:
        print("nothing is missing")
    return installed


if __name__ == "__main__":
    main()
