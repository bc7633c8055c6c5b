"""Contextual attention as the networks compute it: equal to `attention.contextual_attention`, in less time and memory.

With h x w the downsampled size of features, each of h w places ("queries") is scored against each of h w patches: a
matrix of (h w)^2 values, which is why it is computed for some rows of queries at a time.

Scores are cut and joined by split and concat, not sliced: the gradient of a slice takes ten times as long on a CPU.
"""

from deepfill.attention import OVERLAP, RATE, SCALE, WINDOW, Downsample, Normalise, known_patches, length, reduce

import paddle
from paddle.nn import functional

SCORES_AT_ONCE = 2**24  # values in one matrix of scores: 64 MB
MIN_QUERY_ROWS = 2  # of queries at once, whatever that takes: the scores of two more rows are computed each time
END = 2**31 - 1  # of a slice to the last place


def contextual_attention(
    features,
    mask,
    fuse: bool = True,
    chunk: int = 0,
    normalise: Normalise = "patch",
    downsample: Downsample = "two-step",
):
    """As `attention.contextual_attention`, whose arguments these are, but for chunk.

    Args:
        chunk: rows of queries computed at once; 0: as many as `SCORES_AT_ONCE` allows. It does not change the result.
    """
    height, width = features.shape[2], features.shape[3]
    size = (height // RATE, width // RATE)
    matched = _match(features, mask, normalise, downsample)
    spans = _spans(features, chunk)
    if not isinstance(height, int) or not isinstance(width, int):  # traced for export with free sizes, and one span
        return _paste_patches(features, _weights(matched, spans[0], size, fuse)) / OVERLAP
    blocks = functional.unfold(features, RATE, RATE, RATE // 2)  # [N, 4 C, (h + 1) (w + 1)]
    pasted = []
    for span in spans:
        weights = _block_weights(_weights(matched, span, size, fuse), size)
        part = paddle.matmul(blocks, weights, transpose_y=True)
        pasted.append(part.reshape([0, 0, -1, size[1] + 1]))
    return _lay(pasted, features.shape) / OVERLAP


def attention_offsets(
    features,
    mask,
    fuse: bool = True,
    chunk: int = 0,
    normalise: Normalise = "patch",
    downsample: Downsample = "two-step",
):
    """From where each place takes most: row and column of its best patch minus its own.

    The arguments are those of `contextual_attention`.

    Returns:
        int64 [N, h, w, 2] in units of the downsampled map. If no patch is known, the first one counts as the best.
    """
    rows, columns = features.shape[2] // RATE, features.shape[3] // RATE
    matched = _match(features, mask, normalise, downsample)
    best = [_weights(matched, span, (rows, columns), fuse).argmax(axis=2) for span in _spans(features, chunk)]
    best = paddle.concat(best, axis=1).reshape([-1, rows, columns])
    down = best // columns - paddle.arange(rows).unsqueeze(1)
    return paddle.stack([down, best % columns - paddle.arange(columns)], axis=3)


def _paste_patches(features, weights):
    """Mixes 4x4 patches by weights [N, h w, h w] and lays them over one another, two places apart: [N, C, H, W]."""
    channels, height, width = features.shape[1:]
    sources = functional.unfold(features, 2 * RATE, RATE, RATE // 2)  # [N, 16 C, h w]
    patches = paddle.matmul(sources, weights, transpose_y=True).reshape([0, 0, height // RATE, width // RATE])
    places = (2 * RATE) ** 2  # fold takes no free sizes; this is one kernel for each place of each channel
    kernels = paddle.eye(places).reshape([places, 1, 2 * RATE, 2 * RATE]).tile([channels, 1, 1, 1])
    return functional.conv2d_transpose(patches, kernels, stride=RATE, padding=RATE // 2, groups=channels)


# Patches of 4x4, two places apart, are four blocks of 2x2 each, and most blocks belong to four patches. A block of the
# result is the sum, over the four patches that lie on it, of mixtures of the blocks at the same place of other patches:
# with the weights of the four added up, one mixture of blocks, with a quarter of the multiplications.


def _lay(parts: list, shape: list[int]):
    """Blocks [N, 4 C, rows, w + 1] as features: the last row of each part and the first of the next are one."""
    rows = []
    for part in parts:
        if rows:
            first, part = paddle.split(part, [1, part.shape[2] - 1], 2)
            rows[-1] = rows[-1] + first
        if part.shape[2] > 1:
            rows += paddle.split(part, [part.shape[2] - 1, 1], 2)
        else:
            rows.append(part)
    return functional.fold(paddle.concat(rows, 2).flatten(2), shape[2:], RATE, RATE, RATE // 2)


def _block_weights(weights, size: tuple[int, int]):
    """Weights of patches [N, r w, h w] in r rows of queries as those of blocks [N, (r + 1) (w + 1), (h + 1) (w + 1)].

    Block b takes from block l what query b - s takes from patch l - s, for the four s from (0, 0) to (1, 1). With a
    line of zeros after the last row and column of queries and patches these are shifts of all values in a row.
    """
    (rows, columns), count = size, weights.shape[0]
    queries, length = weights.shape[1] // columns, (rows + 1) * (columns + 1)
    x = weights.reshape([count, -1, rows, columns])
    x = paddle.concat([x, paddle.zeros([count, x.shape[1], rows, 1], x.dtype)], 3).flatten(2)
    x = paddle.concat([x, paddle.zeros([count, x.shape[1], columns + 1], x.dtype)], 2)
    x = x.reshape([count, queries, columns * length])
    x = paddle.concat([x, paddle.zeros([count, queries, length], x.dtype)], 2).flatten(1)
    x = paddle.concat([x, paddle.zeros([count, (columns + 1) * length], x.dtype)], 1)
    for by in (length + 1, (columns + 1) * (length + 1)):
        kept = paddle.split(x, [x.shape[1] - by, by], 1)[0]
        x = x + paddle.concat([paddle.zeros([count, by], x.dtype), kept], 1)
    return x.reshape([count, -1, length])


def _match(features, mask, normalise: Normalise, downsample: Downsample) -> tuple:
    """What is matched: queries, float [N, 9 C, h w]; the same as normalised patches; which of them are known."""
    height, width = features.shape[2], features.shape[3]
    small = reduce(features, height // RATE, width // RATE, downsample)
    queries = functional.unfold(small, WINDOW, 1, WINDOW // 2)
    if normalise == "channel":  # D15
        channels = queries.reshape([0, small.shape[1], WINDOW**2, -1])
        patches = (channels / length(channels.square().sum([2, 3], keepdim=True))).flatten(1, 2)
    else:
        squares = small.square().sum(1, keepdim=True)
        squares = functional.conv2d(squares, paddle.ones([1, 1, WINDOW, WINDOW], small.dtype), padding=WINDOW // 2)
        patches = queries / length(squares.flatten(2))
    return queries, patches, known_patches(mask, height, width, downsample)


def _spans(features, chunk: int) -> list[tuple]:
    """For each matrix of scores: its first row of queries, the one after its last, and whether these are the ends."""
    rows, columns = features.shape[2] // RATE, features.shape[3] // RATE
    if not isinstance(rows, int):  # traced for export with free sizes
        return [(0, rows, (True, True))]
    if chunk == 0:
        chunk = SCORES_AT_ONCE // (features.shape[0] * rows * columns * columns)
        if chunk < rows:
            chunk = max(MIN_QUERY_ROWS, chunk - 2)
    chunk = max(1, chunk)
    spans = [(top, min(rows, top + chunk)) for top in range(0, rows, chunk)]
    return [(top, bottom, (top == 0, bottom == rows)) for top, bottom in spans]


def _weights(matched: tuple, span: tuple, size: tuple, fuse: bool):
    """Shares of all patches (last axis) in the queries of some rows: float [N, (bottom - top) w, h w]."""
    queries, patches, known = matched
    if fuse:
        scores = _fused_scores(queries, patches, span, size)
    else:
        scores = paddle.matmul(queries[:, :, span[0] * size[1] : span[1] * size[1]], patches, transpose_x=True)
    # Scores of patches in the hole count as 0 in the softmax; only then are they left out.
    return functional.softmax(scores * (known * SCALE), axis=2) * known


def _fused_scores(queries, patches, span: tuple, size: tuple):
    """Scores of the queries of some rows, to which those of their neighbours are added.

    With all places in one order, row after row, the score of query p and patch l gets those of p - 1 and l - 1 and of
    p + 1 and l + 1 added. Then the same is done in the order column after column. In both orders the end of one line
    is next to the beginning of the following one; before the first place and after the last there is nothing.
    """
    (top, bottom, ends), (rows, columns) = span, size
    zero = paddle.zeros_like(queries[:, :, :1])
    queries = paddle.concat([zero, queries, zero], axis=2)

    def row_sums(first, after):  # the first sum, of the queries of these rows: [N, after - first, w, h, w]
        part = queries if all(ends) else queries[:, :, first * columns : after * columns + 2]
        y = paddle.matmul(part, patches, transpose_x=True)
        y = _cut(y, 1, 1, 1) + _move(_cut(y, 1, 0, 2), 2, 1) + _move(_cut(y, 1, 2, 0), 2, -1)
        return y.reshape([y.shape[0], -1, columns, rows, columns])

    y = x = row_sums(top, bottom)
    if all(ends):
        below, above = _outer_lines(y, 1, rows)
    else:
        above, below = row_sums((top - 1) % rows, (top - 1) % rows + 1), row_sums(bottom % rows, bottom % rows + 1)
    # What is above the first row, in the second order, is the last row of the column before.
    if ends[0]:
        above = _move(above, 2, 1)
    if ends[1]:
        below = _move(below, 2, -1)
    x = paddle.concat([above, x, below], axis=1)
    below, above = _outer_lines(x, 3, rows)
    x = paddle.concat([_move(above, 4, 1), x, _move(below, 4, -1)], axis=3)
    y = y + _cut(_cut(x, 1, 0, 2), 3, 0, 2) + _cut(_cut(x, 1, 2, 0), 3, 2, 0)
    return y.reshape([y.shape[0], -1, rows * columns])


def _cut(x, axis: int, before: int, after: int):
    """x without that many places at the beginning and the end of an axis."""
    if not paddle.in_dynamic_mode():  # exported: neither oneDNN nor ONNX knows a section that is the rest
        return paddle.slice(x, [axis], [before], [-after or END])
    sections = [*([before] if before else []), -1, *([after] if after else [])]
    return paddle.split(x, sections, axis)[1 if before else 0]


def _outer_lines(x, axis: int, count: int) -> tuple:
    """The first and the last of `count` lines along an axis."""
    if isinstance(count, int) and count == 1:
        return x, x
    if not paddle.in_dynamic_mode():
        return paddle.slice(x, [axis], [0], [1]), paddle.slice(x, [axis], [-1], [END])
    return paddle.split(x, [1, -1], axis)[0], paddle.split(x, [-1, 1], axis)[1]


def _move(x, axis: int, by: int):
    """x moved by one place (by = 1 or -1) along an axis: a zero enters, and what leaves is lost."""
    zero = paddle.zeros_like(paddle.slice(x, [axis], [0], [1]))
    if by > 0:
        return _cut(paddle.concat([zero, x], axis), axis, 0, 1)
    return _cut(paddle.concat([x, zero], axis), axis, 1, 0)
