"""The InceptionV3 of FID (TensorFlow's of 2015-12-05), with the weights that the user gives: FID and KID proper.

It differs from torchvision's classifier in its average pooling, the last block's maximum pooling and every weight.
Layers have the names of pytorch-fid and of PaddleGAN, so that both published files fit as they are.
"""

from pathlib import Path

import numpy as np

from common.checkpoint.tensors import load_network
from common.convert.torch_files import read_published
from common.errors import UserError
from common.evaluation.feature_images import resize_clean, resize_legacy, to_batch
from common.evaluation.options import Resize

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

SIDE_PX = 299
DIMENSIONS = 2048
# clean-fid's `clean` takes (level - 128) / 128, as NVIDIA's copy of the network; pytorch-fid 2 level / 255 - 1
RANGES = {"clean": (resize_clean, 128, 128), "legacy": (resize_legacy, 127.5, 127.5)}


class ConvBN(nn.Layer):
    """Convolution, batch norm, ReLU; padded to keep the size unless strided or `valid`."""

    def __init__(self, inputs: int, outputs: int, kernel=1, stride: int = 1, valid: bool = False):
        super().__init__()
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = [0 if valid or stride > 1 else side // 2 for side in sides]
        self.conv = nn.Conv2D(inputs, outputs, kernel, stride, padding, bias_attr=False)
        self.bn = nn.BatchNorm2D(outputs, epsilon=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


POOLS = {
    "average": lambda x: F.avg_pool2d(x, 3, 1, 1, exclusive=True),
    "maximum": lambda x: F.max_pool2d(x, 3, 1, 1),
    "halve": lambda x: F.max_pool2d(x, 3, 2),
}


class Mixed(nn.Layer):
    """Parallel branches, concatenated. A branch is a list of layers and POOLS; a tuple in it is a fork at its end."""

    def __init__(self, layers: dict[str, tuple], branches: list[list]):
        super().__init__()
        for name, arguments in layers.items():
            setattr(self, name, ConvBN(*arguments))
        self.branches = branches

    def forward(self, x):
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                if isinstance(step, tuple):
                    y = paddle.concat([getattr(self, name)(y) for name in step], 1)
                else:
                    y = POOLS[step](y) if step in POOLS else getattr(self, step)(y)
            outputs.append(y)
        return paddle.concat(outputs, 1)


def chain(name: str, *layers: tuple) -> dict[str, tuple]:
    """Layers `name_1`, `name_2`, … one after the other."""
    return {f"{name}_{n}": layer for n, layer in enumerate(layers, 1)}


def mixed_5(inputs: int, pooled: int) -> Mixed:
    five = chain("branch5x5", (inputs, 48), (48, 64, 5))
    three = chain("branch3x3dbl", (inputs, 64), (64, 96, 3), (96, 96, 3))
    layers = {"branch1x1": (inputs, 64), **five, **three, "branch_pool": (inputs, pooled)}
    return Mixed(layers, [["branch1x1"], [*five], [*three], ["average", "branch_pool"]])


def mixed_6a() -> Mixed:
    three = chain("branch3x3dbl", (288, 64), (64, 96, 3), (96, 96, 3, 2))
    return Mixed({"branch3x3": (288, 384, 3, 2), **three}, [["branch3x3"], [*three], ["halve"]])


def mixed_6(c: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    seven = chain("branch7x7", (768, c), (c, c, row), (c, 192, column))
    twice = chain("branch7x7dbl", (768, c), (c, c, column), (c, c, row), (c, c, column), (c, 192, row))
    layers = {"branch1x1": (768, 192), **seven, **twice, "branch_pool": (768, 192)}
    return Mixed(layers, [["branch1x1"], [*seven], [*twice], ["average", "branch_pool"]])


def mixed_7a() -> Mixed:
    three = chain("branch3x3", (768, 192), (192, 320, 3, 2))
    seven = chain("branch7x7x3", (768, 192), (192, 192, (1, 7)), (192, 192, (7, 1)), (192, 192, 3, 2))
    return Mixed({**three, **seven}, [[*three], [*seven], ["halve"]])


def mixed_7(inputs: int, pool: str) -> Mixed:
    layers = {"branch1x1": (inputs, 320), "branch3x3_1": (inputs, 384)}
    layers |= chain("branch3x3dbl", (inputs, 448), (448, 384, 3)) | {"branch_pool": (inputs, 192)}
    for name in ("branch3x3_2", "branch3x3dbl_3"):
        layers |= {f"{name}a": (384, 384, (1, 3)), f"{name}b": (384, 384, (3, 1))}
    branches = [
        ["branch1x1"],
        ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
        ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
        [pool, "branch_pool"],
    ]
    return Mixed(layers, branches)


class InceptionV3(nn.Layer):
    """The network of FID up to its pooled features [N, 2048], of images of 299 px in about [-1, 1]."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, valid=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = mixed_5(192, 32), mixed_5(256, 64), mixed_5(288, 64)
        self.Mixed_6a = mixed_6a()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(mixed_6, (128, 160, 160, 192))
        self.Mixed_7a = mixed_7a()
        self.Mixed_7b, self.Mixed_7c = mixed_7(1280, "average"), mixed_7(2048, "maximum")

    def forward(self, x):
        x = POOLS["halve"](self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = POOLS["halve"](self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean([2, 3])


@paddle.no_grad()
def features(network: InceptionV3, images: list[np.ndarray], resize: Resize = "clean") -> np.ndarray:
    """Pooled features, float32 [N, 2048], of uint8 images of any size."""
    how, offset, scale = RANGES[resize]
    return network(to_batch((how(image, SIDE_PX) for image in images), offset, scale)).numpy()


def load(path: Path) -> InceptionV3:
    """The network with the published weights: pytorch-fid's pt_inception-2015-12-05.pth or PaddleGAN's .pdparams.

    Raises:
        UserError: the file is of another network, such as torchvision's classifier.
    """
    published = read_published(path)
    if "Conv2d_1a_3x3.conv.weight" not in published:
        raise UserError(
            f"{path} is no InceptionV3 ({len(published)} tensors, the first {next(iter(published), 'none')!r}); FID "
            "needs pt_inception-2015-12-05 of pytorch-fid or InceptionV3.pdparams of PaddleGAN"
        )
    if "AuxLogits.fc.weight" in published or 1000 in published.get("fc.weight", np.zeros(0)).shape:
        raise UserError(
            f"{path} is an InceptionV3 classifier of 1,000 classes (torchvision's?), not the network of FID; FID needs "
            "pt_inception-2015-12-05 of pytorch-fid or InceptionV3.pdparams of PaddleGAN"
        )
    ours = {}
    for key, value in published.items():
        place, _, kind = key.rpartition(".")
        if place != "fc" and kind != "num_batches_tracked":
            kind = {"running_mean": "_mean", "running_var": "_variance"}.get(kind, kind)
            ours[f"inception.{place}.{kind}"] = value
    network = InceptionV3()
    load_network(network, ours, "inception", path)
    network.eval()
    return network
