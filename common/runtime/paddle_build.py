"""Which builds of Paddle are installed, and what to do when none of them imports. Works without Paddle."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import re

BUILDS = re.compile("paddlepaddle(-(gpu|xpu|npu|dcu|mlu|ipu|rocm))?")
FOR_PADDLE_2 = {"numpy": '"numpy<2"', "opencv-python-headless": '"opencv-python-headless<4.12"'}
PACKAGE_OF = {"PIL": "Pillow", "google": "protobuf", "yaml": "PyYAML", "cv2": "opencv-python-headless"}

CUDA_LIBRARY = re.compile(r"\blib(cu(dnn|blas|fft|rand|solver|sparse|pti)|nccl|nvrtc|nvjpeg|nvToolsExt)\w*\.so[.\d]*")
LIBRARY = re.compile(r"[\w+.-]+\.(so[.\d]*|dll)(?=: cannot open shared object|\b.*could not be found)|DLL load failed")
NUMPY_BINARY = re.compile(r"numpy\.core\.multiarray failed|_ARRAY_API|numpy\.dtype size changed|binary incompatib")


def paddle_builds() -> dict[str, str]:
    """Installed builds of Paddle, name -> version. Each of them provides the module `paddle`."""
    from importlib.metadata import distributions

    versions = {}
    for dist in distributions():  # in the order of sys.path: the first is the one that is imported
        name = (dist.metadata or {"Name": ""})["Name"] or ""  # a half-removed package has none
        versions.setdefault(name.lower().replace("_", "-"), dist.version)
    return {name: versions[name] for name in sorted(versions) if BUILDS.fullmatch(name)}


def why_no_import(reason: str, builds: dict[str, str]) -> str:
    """Why Paddle does not import, and what to do: never to put another build in the place of the installed one.

    Args:
        reason: the kind of the exception and the first line of its text.
        builds: what `paddle_builds` found.
    """
    missing = re.search(r"No module named '(\w+)([\w.]*)'", reason)
    if missing and missing[1] == "paddle" and not missing[2] and not builds:
        return 'PaddlePaddle is not installed: pip install -e ".[cpu]", or for a GPU see README.md, GPU'
    named = " and ".join(f"{name} {version}" for name, version in builds.items()) or "a module named paddle"
    return f"{named} is there but does not import ({reason}): {_remedy(reason, builds, missing)}"


def _remedy(reason: str, builds: dict[str, str], missing: re.Match | None) -> str:
    if len(builds) > 1:
        return f"pip uninstall -y {' '.join(builds)}, then install the one you want (README.md, GPU)"
    if NUMPY_BINARY.search(reason):
        return f"it was built for another numpy; for Paddle 2: pip install {' '.join(FOR_PADDLE_2.values())}"
    if "libcuda.so" in reason:
        return "the driver of the NVIDIA GPU is missing or not visible here"
    if CUDA_LIBRARY.search(reason):
        return "install this library in the version that the build is for, or add its folder to LD_LIBRARY_PATH"
    if LIBRARY.search(reason):
        return "install the system's package with this library"
    if not builds:
        return "rename it or uninstall it, then install PaddlePaddle (README.md, GPU)"
    if missing and missing[1] != "paddle":
        return f"pip install {PACKAGE_OF.get(missing[1], missing[1])}"
    return f"install the same build, {next(iter(builds))}, anew (README.md, GPU)"
