"""Contextual attention: every place of a feature map is rebuilt from the patches of known places that resemble it.

From Generative Image Inpainting with Contextual Attention (Yu et al. 2018, Sec. 3.2), in the form that the release of
DeepFill v2 computes: match, softmax, paste. Features are matched at half their resolution, h x w places, by 3x3
patches, and rebuilt from 4x4 patches at full resolution. This is the specification. The networks call
`fast.contextual_attention`, which computes the same in less time and memory.
"""

from typing import Literal

import paddle
from paddle.nn import functional

Normalise = Literal["patch", "channel"]
Downsample = Literal["two-step", "one-step", "strided"]

RATE = 2  # features are matched at 1/RATE of their resolution, and rebuilt from patches of side 2 RATE
WINDOW = 3  # side of the patches that are matched
SCALE = 10.0  # of the scores in the softmax
OVERLAP = 4.0  # patches that cover a place; the release divides by it at the border too, where they are fewer
SMALLEST_NORM = 1e-4  # of a patch, to divide by


def contextual_attention(
    features, mask, fuse: bool = True, normalise: Normalise = "patch", downsample: Downsample = "two-step"
):
    """Rebuilds features from their known patches.

    The defaults are the release's. The last two arguments, and fuse, are for weights of codes with another attention.

    Args:
        features: float [N, C, H, W], H and W even.
        mask: float [N, 1, H', W'], 1 where the image is missing, of any size from H x W up. Each image has its own.
        fuse: whether neighbouring places are to be rebuilt from neighbouring patches (attention propagation).
        normalise: what is divided by its norm before scores are computed: each patch, or, as in the article's code
            (D15), each channel over all patches.
        downsample: how features are downsampled by 2 and the mask to that size. two-step: nearest places with corners
            aligned, the mask first to the features' size and then to half of it; one-step: the same, but the mask at
            once; strided: every second place and every n-th pixel of the mask, from the first one on.

    Returns:
        float [N, C, H, W], rebuilt everywhere, not under the mask alone. Zero if no patch is known.
    """
    scores = match(features, fuse, normalise, downsample)
    weights = softmax_of_known(scores, known_patches(mask, *features.shape[2:], downsample))
    return paste(features, weights)


def match(features, fuse: bool, normalise: Normalise, downsample: Downsample):
    """Scores of each place with each patch, float [N, h w, h w]: inner products of 3x3 patches, one normalised."""
    height, width = features.shape[2] // RATE, features.shape[3] // RATE
    small = reduce(features, height, width, downsample)
    queries = functional.unfold(small, WINDOW, 1, WINDOW // 2).reshape([0, small.shape[1], WINDOW**2, -1])
    axes = [1, 2] if normalise == "patch" else [2, 3]  # D15
    patches = queries / length(queries.square().sum(axes, keepdim=True))
    scores = paddle.matmul(queries.flatten(1, 2), patches.flatten(1, 2), transpose_x=True)
    return propagate(scores, height, width) if fuse else scores


def propagate(scores, height: int, width: int):
    """Attention propagation: to each score those of the neighbours to both sides are added, as a sum along a diagonal.

    With all places in one order, row after row, the score of query p and patch l gets those of p - 1 and l - 1 and of
    p + 1 and l + 1 added. Then the same is done in the order column after column. In both orders the end of one line
    is next to the beginning of the following one; before the first place and after the last there is nothing.
    """
    for lines, places in ((height, width), (width, height)):
        diagonal = paddle.eye(3, dtype=scores.dtype).reshape([1, 1, 3, 3])
        scores = functional.conv2d(scores.unsqueeze(1), diagonal, padding=1)
        scores = scores.reshape([-1, lines, places, lines, places]).transpose([0, 2, 1, 4, 3])
        scores = scores.flatten(3, 4).flatten(1, 2)  # in the other order
    return scores


def softmax_of_known(scores, known):
    """Attention weights of all patches (last axis) at each place. Unknown patches score 0, and weigh 0 in the end."""
    return functional.softmax(SCALE * scores * known, axis=2) * known


def paste(features, weights):
    """Mixes 4x4 patches by their weights and adds them where they overlap, two places apart: float [N, C, H, W]."""
    patches = functional.unfold(features, 2 * RATE, RATE, RATE // 2)  # [N, 16 C, h w]
    mixed = paddle.matmul(patches, weights, transpose_y=True)
    return functional.fold(mixed, features.shape[2:], 2 * RATE, RATE, RATE // 2) / OVERLAP


def length(squares):
    """Square root of sums of squares, clipped first: at zero its gradient is infinite."""
    return squares.clip(min=SMALLEST_NORM**2).sqrt()


def known_patches(mask, height: int, width: int, downsample: Downsample = "two-step"):
    """Mask of the 3x3 patches of the downsampled map that hold no missing place.

    The release reduces the mask in two steps, to the features' size and to half of it: one step keeps other pixels.

    Args:
        mask: float [N, 1, H', W'].
        height, width: of the features.
        downsample: see `contextual_attention`.

    Returns:
        float [N, 1, h w], 1 for known patches. Nothing is missing beyond the border.
    """
    if downsample == "two-step":
        mask = reduce(mask, height, width, downsample)
    mask = reduce(mask, height // RATE, width // RATE, downsample)
    missing = functional.max_pool2d(mask, WINDOW, stride=1, padding=WINDOW // 2)
    return (missing == 0).astype(mask.dtype).flatten(2)


def reduce(x, height: int, width: int, downsample: Downsample):
    """A map at a smaller size, by `nearest_indices` or, strided, every n-th place."""
    if downsample == "strided":
        rows, columns = (paddle.arange(to) * (side // to) for to, side in ((height, x.shape[2]), (width, x.shape[3])))
    else:
        rows, columns = nearest_indices(x.shape[2], height), nearest_indices(x.shape[3], width)
    return paddle.index_select(paddle.index_select(x, rows, axis=2), columns, axis=3)


def nearest_indices(size: int, smaller: int):
    """Which of `size` places a map keeps that is reduced to `smaller`: TensorFlow's nearest with corners aligned.

    From 64 to 32: 0, 2, …, 30, 33, …, 63. Other nearest rules take 0, 2, …, 62, and shift the map. Single precision
    decides ties, as it does there.
    """
    step = (size - 1) / (smaller - 1) if smaller > 1 else 0.0
    return paddle.floor(paddle.arange(smaller, dtype="float32") * step + 0.5).astype("int64")
