"""Install with `pip install -e ".[cpu]"`; `common` and `data` are names too general for site-packages."""

import re
from pathlib import Path

from setuptools import find_packages, setup

version = re.search(r'__version__ = "(.+)"', Path("common/__init__.py").read_text()).group(1)

setup(
    name="paddle-completion-suite",
    version=version,
    description="GLCIC and its relatives on PaddlePaddle: image completion and translation, reproduced",
    packages=find_packages(exclude=["tests*", "benchmarks*"]),
    py_modules=["side_by_side"],
    package_data={"weights": ["*.safetensors", "manifest.json"], "data": ["examples/**"]},
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.26",
        "opencv-python-headless>=4.8",
        "Pillow>=10",
        "matplotlib>=3.8",
        "tqdm>=4.65",
        "tyro>=0.9",
        "safetensors>=0.4.3",
        "scipy>=1.11",
    ],
    extras_require={
        # Both builds provide the module `paddle`, so neither is a plain requirement: it would overwrite the other.
        "cpu": ["paddlepaddle>=2.6.2"],
        # The public index ends at 2.6.2, which was built against numpy 1 without saying so; newer OpenCV needs numpy 2.
        "gpu": ["paddlepaddle-gpu>=2.6.2", "numpy<2", "opencv-python-headless<4.12", "setuptools"],
        "convert": ["torchfile>=0.1"],
        "bench": ["torch>=2"],
        "demo": ["gradio>=6,<7"],
        "notebook": ["nbmake>=1.5", "ipykernel", "nbformat"],
        "export": ["paddle2onnx", "onnx", "onnxruntime"],
        "test": ["pytest>=8", "hypothesis>=6.100", "scikit-image>=0.22", "torchfile>=0.1"],
    },
)
