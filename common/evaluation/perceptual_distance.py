"""Perceptual distance of image pairs: LPIPS with the published weights, and LPD-Lite0, which needs no file.

Both compare unit-normalised feature maps at several depths: LPIPS weighs the channels by its linear heads (Zhang et al.
2018, version 0.1), LPD-Lite0 takes them alike, as the `baseline` mode of the `lpips` package does with its networks.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.checkpoint.tensors import load_network
from common.convert.torch_files import read_published
from common.errors import UserError
from common.evaluation import efficientnet_lite0
from common.evaluation.feature_images import to_batch

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

MIN_PX = 32  # AlexNet and Lite0 halve five times
# torchvision's `features`, by index: (inputs, outputs, kernel, stride, padding) or the pooling's window; a tap after
# the ReLU of these convolutions
ALEXNET = {0: (3, 64, 11, 4, 2), 2: 3, 3: (64, 192, 5, 1, 2), 5: 3, 6: (192, 384, 3, 1, 1), 8: (384, 256, 3, 1, 1),
           10: (256, 256, 3, 1, 1)}  # fmt: skip
VGG16 = {
    **{0: (3, 64, 3, 1, 1), 2: (64, 64, 3, 1, 1), 4: 2, 5: (64, 128, 3, 1, 1), 7: (128, 128, 3, 1, 1), 9: 2},
    **{10: (128, 256, 3, 1, 1), 12: (256, 256, 3, 1, 1), 14: (256, 256, 3, 1, 1), 16: 2, 17: (256, 512, 3, 1, 1)},
    **{19: (512, 512, 3, 1, 1), 21: (512, 512, 3, 1, 1), 23: 2, 24: (512, 512, 3, 1, 1), 26: (512, 512, 3, 1, 1)},
    28: (512, 512, 3, 1, 1),
}
TAPS = {"alex": (0, 3, 6, 8, 10), "vgg": (2, 7, 14, 21, 28)}
LAYERS = {"alex": ALEXNET, "vgg": VGG16}
SHIFT, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the scaling layer, for images in [-1, 1]


def unit(features):
    """Feature maps [N, C, H, W], each position's vector divided by its length."""
    return features / (paddle.sqrt(paddle.square(features).sum(1, keepdim=True)) + 1e-10)


def distance(maps_a: list, maps_b: list, heads: list | None = None) -> np.ndarray:
    """Sum over depths of the mean squared difference of unit vectors, channels weighed by the heads: float32 [N]."""
    total = 0
    for n, (a, b) in enumerate(zip(maps_a, maps_b, strict=True)):
        squared = paddle.square(unit(a) - unit(b))
        if heads is not None:
            squared = squared * heads[n]
        total = total + squared.sum(1).mean([1, 2])
    return total.numpy()


class Backbone(nn.Layer):
    """The convolutions of AlexNet or VGG16, answering at its taps."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.features = nn.LayerDict(
            {str(n): nn.Conv2D(*spec) for n, spec in LAYERS[kind].items() if isinstance(spec, tuple)}
        )

    def forward(self, x) -> list:
        maps = []
        for n, spec in LAYERS[self.kind].items():
            if isinstance(spec, int):
                x = F.max_pool2d(x, spec, 2)
                continue
            x = F.relu(self.features[str(n)](x))
            if n in TAPS[self.kind]:
                maps.append(x)
        return maps


class LPIPS:
    """LPIPS v0.1 on AlexNet or VGG16."""

    def __init__(self, backbone: Backbone, heads: list[np.ndarray]):
        self.backbone, self.kind = backbone, backbone.kind
        self.heads = [paddle.to_tensor(head.astype(np.float32)) for head in heads]
        self.shift = paddle.to_tensor(np.float32(SHIFT).reshape(1, 3, 1, 1))
        self.spread = paddle.to_tensor(np.float32(SPREAD).reshape(1, 3, 1, 1))

    @paddle.no_grad()
    def __call__(self, truth: list[np.ndarray], *completed: list[np.ndarray]) -> list[np.ndarray]:
        """Distance of each completion of uint8 images of one size: of each list float32 [N]."""
        check_size(truth[0])
        maps = self._maps(truth)
        return [distance(maps, self._maps(each), self.heads) for each in completed]

    def _maps(self, images: list[np.ndarray]) -> list:
        return self.backbone((to_batch(images, 127.5, 127.5) - self.shift) / self.spread)


@paddle.no_grad()
def lpd_lite0(stages: Callable, truth: list, *completed: list) -> list[np.ndarray]:
    """LPD-Lite0 of each completion of uint8 images of one size, not resized: of each list float32 [N].

    Args:
        stages: `efficientnet_lite0.Stages`, or the same compiled.
    """
    check_size(truth[0])
    offset, scale = efficientnet_lite0.OFFSET, efficientnet_lite0.SCALE
    maps = stages(to_batch(truth, offset, scale))
    return [distance(maps, stages(to_batch(each, offset, scale))) for each in completed]


def check_size(image: np.ndarray) -> None:
    if min(image.shape[:2]) < MIN_PX:
        raise UserError(
            f"a perceptual distance needs {MIN_PX} x {MIN_PX} px, the image has {image.shape[1]} x {image.shape[0]}"
        )


def load_lpips(path: Path, heads: Path | None = None) -> LPIPS:
    """LPIPS with torchvision's weights of AlexNet or VGG16, told apart by their shapes.

    Args:
        heads: the linear heads, alex.pth or vgg.pth of `lpips`; None takes those of the installed package.

    Raises:
        UserError: the weights are of another network, or the heads are not there.
    """
    published = read_published(path)
    weights = {key: value for key, value in published.items() if key.startswith("features.")}
    shapes = {key: value.shape for key, value in weights.items()}
    kind = next((kind for kind in LAYERS if shapes == _shapes(kind)), None)
    if kind is None:
        raise UserError(
            f"{path} is neither torchvision's AlexNet nor its VGG16 ({len(published)} tensors, the first "
            f"{next(iter(published), 'none')!r}); give alexnet-owt or vgg16 of torchvision"
        )
    backbone = Backbone(kind)
    load_network(backbone, {f"backbone.{key}": value for key, value in weights.items()}, "backbone", path)
    backbone.eval()
    return LPIPS(backbone, read_heads(heads or package_heads(kind), kind))


def _shapes(kind: str) -> dict[str, tuple]:
    shapes = {}
    for n, spec in LAYERS[kind].items():
        if isinstance(spec, tuple):
            inputs, outputs, kernel = spec[:3]
            shapes |= {f"features.{n}.weight": (outputs, inputs, kernel, kernel), f"features.{n}.bias": (outputs,)}
    return shapes


def package_heads(kind: str) -> Path:
    """The file of heads inside the package `lpips`, whose code is not run."""
    found = importlib.util.find_spec("lpips")
    path = Path(found.origin).parent / "weights" / "v0.1" / f"{kind}.pth" if found else None
    if path is None or not path.is_file():
        raise UserError("LPIPS needs the linear heads of the package lpips: pip install --no-deps lpips")
    return path


def read_heads(path: Path, kind: str) -> list[np.ndarray]:
    """The five linear heads, each [1, C, 1, 1]."""
    published = read_published(path)
    heads = [published.get(f"lin{n}.model.1.weight") for n in range(5)]
    channels = [LAYERS[kind][tap][1] for tap in TAPS[kind]]
    if [getattr(head, "shape", None) for head in heads] != [(1, count, 1, 1) for count in channels]:
        raise UserError(f"{path} holds no linear heads of LPIPS for {kind}; take v0.1/{kind}.pth of the package lpips")
    return heads
