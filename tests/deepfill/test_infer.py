"""Any hole in any image, with and without a sketch: what the network is given, and what becomes of its answer."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.checkpoint.weights import save_weights
from common.errors import UserError
from common.imaging.folders import find_images
from common.imaging.io import read_image
from common.imaging.transforms import from_network, to_network
from common.inpainting.blending import Blend
from common.masks import generators
from common.masks import reader as mask_reader
from deepfill import flow, infer
from deepfill import train as df_train
from deepfill.config import TINY
from deepfill.model import Generator, initialise

import paddle

SIDE = 32  # of the images that the networks here know
BLENDS = Blend.__args__
SIZES = [(33, 47), (257, 301), (512, 680)]
REAL_DATA = pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA names no folder with real images")


def metadata(network, **more):
    return {"paper": "deepfill", "image_px": SIDE, "generator": network.arguments, "colours": "RGB", **more}


def lively(image_px=SIDE, **arguments):
    """An untrained network whose answer depends visibly on all it sees: its last layers, too, begin with weights."""
    paddle.seed(1)
    network = Generator(4, **arguments)
    initialise(network)
    rng = np.random.default_rng(2)
    for last in (network.coarse.conv17, network.refine.allconv17):
        last.weight.set_value(rng.normal(0, 0.3, last.weight.shape).astype(np.float32))
        last.bias.set_value(np.float32([0.3, 0.1, -0.3]))
    network.eval()
    network.metadata = metadata(network, image_px=image_px)
    return network


@pytest.fixture(scope="module")
def networks():
    return {(guided, residual): lively(guided=guided, residual=residual) for guided in (0, 1) for residual in (0, 1)}


def photo(height, width, seed=0):
    """Soft colours with a little noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(int)
    return np.clip(large + rng.integers(-9, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def masks_in(height, width, *boxes):
    mask = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


class StandIn:
    """A network with a known answer, which keeps what it is given.

    Args:
        answer: (images [n, 3, h, w], masks [n, 1, h, w], edges or None) -> what the second stage makes of it.
    """

    def __init__(self, answer, guided=True, image_px=SIDE):
        self.answer, self.arguments, self.metadata = answer, {"guided": guided}, {"image_px": image_px}
        self.given = []

    def __call__(self, image, mask, edge=None):
        image, mask, edge = (value if value is None else value.numpy() for value in (image, mask, edge))
        assert image.shape[1] == 3 and mask.shape == (len(image), 1, *image.shape[2:]) and image.dtype == np.float32
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        for value in (mask, *([] if edge is None else [edge])):
            assert value.dtype == np.float32 and value.shape == mask.shape and set(np.unique(value)) <= {0, 1}
        self.given.append((image, mask, edge))
        made = np.ascontiguousarray(np.broadcast_to(self.answer(image, mask, edge), image.shape), np.float32)
        return paddle.to_tensor(-np.ones_like(made)), paddle.to_tensor(made)


# ---- any size, any hole


def mask_kinds(height, width):
    rows, columns = np.mgrid[:height, :width]
    scratch = (np.abs(rows * width - columns * height) < 2 * max(height, width)) & (columns < 60) & (rows < 60)
    return {
        "upper edge": masks_in(height, width, (0, 8, 5, 14)),
        "lower edge": masks_in(height, width, (height - 6, 5, height, 15)),
        "left edge": masks_in(height, width, (9, 0, 16, 4)),
        "right edge": masks_in(height, width, (9, width - 1, 16, width)),
        "corners": masks_in(height, width, (0, 0, 5, 7), (height - 6, width - 3, height, width)),
        "frame": ~masks_in(height, width, (3, 5, height - 4, width - 6)),
        "scratch": scratch,
        "large": masks_in(height, width, (2, 1, 2 + height * 3 // 5, 1 + width * 3 // 5)),
        "full": np.ones((height, width), bool),
    }


@pytest.mark.medium
@pytest.mark.parametrize("size", SIZES)
def test_known_pixels_come_back_and_hidden_ones_play_no_part(networks, size):
    """Bit for bit: the photo around the hole, and the same filling for other hidden colours."""
    image, kinds = photo(*size), list(networks.values())
    for n, (name, mask) in enumerate(mask_kinds(*size).items()):
        network, window = kinds[n % 4], ("auto", "whole", "mask")[n % 3]
        for blend in BLENDS if name == "corners" else ("paste",):
            done = infer.complete(network, image, mask, None, blend, window)
            assert done.shape == image.shape and done.dtype == np.uint8
            np.testing.assert_array_equal(done[~mask], image[~mask])
            assert (done[mask] != image[mask]).any(axis=-1).mean() > 0.7, name
        other = np.where(mask[..., None], 255 - image, image)
        np.testing.assert_array_equal(done, infer.complete(network, other, mask, None, blend, window))
    done = infer.complete(network, image, np.zeros(size, bool))
    np.testing.assert_array_equal(done, image)
    assert not np.shares_memory(done, image)


@pytest.mark.medium
@pytest.mark.parametrize("size", [(256, 256), (257, 301)])
def test_pictures_of_the_trainings_size_are_filled_up_to_multiples_of_eight(size):
    """257 x 301 is seen as it is, on 264 x 304: the same as the network called directly."""
    network, image, mask = lively(256), photo(*size), mask_kinds(*size)["frame"]
    pad = [(0, -side % 8) for side in size]
    mean = np.rint(image[~mask].mean(axis=0)).astype(np.uint8)
    pixels = to_network(np.pad(np.where(mask[..., None], mean, image), [*pad, (0, 0)], mode="reflect")[None])
    mask_tensor = np.pad(mask, pad, mode="reflect")[None, None].astype(np.float32)
    with paddle.no_grad():
        made = from_network(network(paddle.to_tensor(pixels), paddle.to_tensor(mask_tensor))[1].numpy())[0]
    expected = np.where(mask[..., None], made[: size[0], : size[1]], image)
    np.testing.assert_array_equal(infer.complete(network, image, mask, blend="paste"), expected)


@pytest.mark.parametrize("residual", [0, 1])
@pytest.mark.parametrize("guided", [0, 1])
def test_a_full_hole_depends_on_nothing_but_the_sketch(networks, guided, residual):
    mask, lines = np.ones((40, 48), bool), masks_in(40, 48, (10, 5, 12, 40))
    network = networks[guided, residual]
    done = infer.complete(network, photo(40, 48), mask)
    np.testing.assert_array_equal(done, infer.complete(network, photo(40, 48, 1), mask))
    if guided:
        assert (done != infer.complete(network, photo(40, 48), mask, lines)).any()


@pytest.mark.medium
def test_what_the_second_stage_makes_lies_in_the_hole_red_first():
    """A network that answers orange everywhere, its first stage black."""
    colour = np.array([250, 120, 10], np.uint8)
    network = StandIn(lambda *_: to_network(colour[None, None, None]))
    for size in SIZES:
        image = photo(*size)
        for name, mask in mask_kinds(*size).items():
            for window in ("auto", "mask"):
                done = infer.complete(network, image, mask, None, "paste", window)
                np.testing.assert_array_equal(done, np.where(mask[..., None], colour, image), err_msg=name)


def test_windows_come_back_to_where_they_lie():
    """A network that knows what is missing: it finds its window in the photo by what it is given of it."""
    image, boxes = photo(257, 301), [(0, 30, 9, 41), (100, 100, 116, 116), (241, 290, 257, 301)]
    mask, floats = masks_in(257, 301, *boxes), to_network(image[None])[0]

    def remembers(pixels, mask_tensor, edge):
        made = np.zeros_like(pixels)
        for one, its, answer in zip(pixels, mask_tensor[:, 0] > 0, made, strict=True):
            places = np.lib.stride_tricks.sliding_window_view(mask, its.shape)
            for top, left in np.argwhere((places == its).all(axis=(2, 3))):
                there = floats[:, top : top + its.shape[0], left : left + its.shape[1]]
                if np.array_equal(one[:, ~its], there[:, ~its]):
                    answer[:] = there
        return made

    network = StandIn(remembers)
    np.testing.assert_array_equal(infer.complete(network, image, mask, blend="paste"), image)
    assert [pixels.shape for pixels, _, _ in network.given] == [(3, 3, SIDE, SIDE)]


def test_holes_up_to_half_of_the_side_are_seen_at_full_resolution():
    """As the rectangles of training are; a larger one is shrunk until it fits."""
    for side, seen in ((SIDE // 2, (SIDE // 2) ** 2), (SIDE // 2 + 8, (SIDE // 2) ** 2)):
        network = StandIn(lambda pixels, mask, edge: mask)
        infer.complete(network, photo(200, 300), masks_in(200, 300, (90, 150, 90 + side, 150 + side)))
        ((pixels, mask, _),) = network.given
        assert pixels.shape == (1, 3, SIDE, SIDE) and seen <= mask.sum() <= (SIDE // 2 + 2) ** 2
        assert side > SIDE // 2 or mask.sum() == seen


@pytest.mark.medium
@pytest.mark.parametrize("residual", [0, 1])
def test_batches_and_company_change_nothing(networks, residual):
    """Up to the last bit of float arithmetic: one level of 255, and that rarely."""
    network = networks[1, residual]
    images = [photo(90, 150), photo(33, 47, 1), photo(40, 40, 2)]
    masks = [generators.freeform(*image.shape[:2], np.random.default_rng(n)) for n, image in enumerate(images)]
    sketches = [np.random.default_rng(n).random(image.shape[:2]) < 0.2 for n, image in enumerate(images)]
    alone = [infer.complete(network, *one) for one in zip(images, masks, sketches, strict=True)]
    for batch_size in (1, 3):
        together = infer.complete_batch(network, images, masks, sketches, batch_size=batch_size)
        for one, other in zip(alone, together, strict=True):
            difference = np.abs(one.astype(int) - other)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01


# ---- sketches


@pytest.fixture(scope="module")
def draughtsman():
    """A network that was shown, in sixty steps, that where there is a line the image is white, and else black."""
    cfg = dataclasses.replace(TINY, learning_rate=3e-3, guided=True, residual=True, known_weight=1)
    nets, optimizers = df_train.build(cfg)
    network, rng = nets["generator"], np.random.default_rng(0)
    for _ in range(60):
        lines = np.zeros((4, SIDE, SIDE), np.uint8)
        for one in lines:
            for ends in rng.integers(0, SIDE, (6, 2, 2)).tolist():
                cv2.line(one, *ends, 1, 4)
        images = np.where(lines[..., None] > 0, 230, 40).astype(np.uint8).repeat(3, 3)
        masks = np.stack([generators.freeform(SIDE, SIDE, rng) | generators.center(SIDE, SIDE) for _ in lines])
        df_train.train_step(nets, optimizers, *df_train.to_tensors((images, masks, lines), False), True, cfg)
    network.eval()
    network.metadata = metadata(network)
    return network


@pytest.mark.medium
@pytest.mark.parametrize("size", [(32, 32), (100, 90)])
@pytest.mark.parametrize("rows", [(11, 15), (18, 22)])
@pytest.mark.parametrize("upright", [False, True])
def test_a_drawn_line_changes_the_completion_where_it_was_drawn(draughtsman, size, rows, upright):
    image, mask, lines = np.full((*size, 3), 40, np.uint8), masks_in(*size, (8, 8, 24, 24)), np.zeros(size, bool)
    if upright:
        lines[:, rows[0] : rows[1]] = True
    else:
        lines[rows[0] : rows[1]] = True
    change = infer.complete(draughtsman, image, mask, lines).astype(int) - infer.complete(draughtsman, image, mask)
    far = mask & (cv2.dilate(lines.astype(np.uint8), np.ones((9, 9))) == 0)
    assert far.sum() > 20 and (change[~mask] == 0).all()
    assert change[mask & lines].mean() > 60 and np.abs(change[far]).mean() < change[mask & lines].mean() / 3


@pytest.mark.medium
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 61), (257, 301)])
@pytest.mark.parametrize("residual", [0, 1])
def test_a_line_outside_the_hole_changes_nothing(networks, size, residual):
    network, image, rng = networks[1, residual], photo(*size), np.random.default_rng(0)
    mask = generators.freeform(*size, rng) | masks_in(*size, (0, 0, 9, 9))
    lines = rng.random(size) < 0.3
    done = infer.complete(network, image, mask, lines)
    inside, outside, none = lines & mask, lines & ~mask, np.zeros_like(lines)
    np.testing.assert_array_equal(done[~mask], image[~mask])
    plain = infer.complete(network, image, mask)
    assert (done != plain).any()
    np.testing.assert_array_equal(plain, infer.complete(network, image, mask, none))
    np.testing.assert_array_equal(plain, infer.complete(network, image, mask, outside))
    np.testing.assert_array_equal(done, infer.complete(network, image, mask, inside))


def test_lines_are_given_where_they_were_drawn():
    """With its lines black and the rest white the answer shows them in the hole, at full resolution exactly."""
    network = StandIn(lambda pixels, mask_tensor, edge: mask_tensor if edge is None else 1 - 2 * edge)
    image, mask = photo(257, 301), masks_in(257, 301, (60, 200, 75, 215), (241, 0, 257, 12))
    lines = masks_in(257, 301, (67, 0, 69, 301), (0, 5, 257, 6))
    done = infer.complete(network, image, mask, lines, "paste")
    expected = np.where(lines, 0, 255)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(done[mask], expected[mask])
    infer.complete(network, image, mask)
    assert not network.given[-1][2].any()  # a sketch without lines, so that both share a compiled program


def test_sketches_that_cannot_be_used(networks):
    image, mask = photo(40, 60), masks_in(40, 60, (5, 5, 20, 20))
    with pytest.raises(UserError, match="take no sketch; train with --guided"):
        infer.complete(networks[0, 0], image, mask, mask)
    with pytest.raises(UserError, match="sketch is 61 x 40 px, its image 60 x 40 px, the hole 60 x 40 px"):
        infer.complete(networks[1, 0], image, mask, np.zeros((40, 61), bool))
    for lines in (mask, None):
        with pytest.raises(UserError, match="61 x 40 px"):
            infer.complete(networks[1, 0], image, np.ones((40, 61), bool), lines)


# ---- colours of published weights


def blue_first(network):
    """The same network as one that takes and makes blue before red, by exchanging weights here."""
    other = Generator(**network.arguments)
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    for name in ("coarse.conv1.conv.weight", "refine.xconv1.conv.weight", "refine.pmconv1.conv.weight"):
        state[name][:, [0, 2]] = state[name][:, [2, 0]]
    for name in ("coarse.conv17", "refine.allconv17"):
        state[f"{name}.weight"] = state[f"{name}.weight"][::-1].copy()
        state[f"{name}.bias"] = state[f"{name}.bias"][::-1].copy()
    other.set_state_dict(state)
    return other


@pytest.mark.medium
@pytest.mark.parametrize(
    "changes", [{}, {"guided": True, "residual": True}, {"inputs": "article", "layers": "partial"}]
)
def test_weights_that_take_blue_first(tmp_path, changes):
    network = lively(**changes)
    image, mask = photo(60, 50), masks_in(60, 50, (8, 9, 30, 28), (50, 40, 60, 50))
    rgb = save_weights(tmp_path / "rgb.safetensors", {"generator": network}, metadata(network))
    bgr = save_weights(
        tmp_path / "bgr.safetensors", {"generator": blue_first(network)}, metadata(network, colours="BGR")
    )
    wrong = save_weights(tmp_path / "wrong.safetensors", {"generator": blue_first(network)}, metadata(network))
    done, same, other = (infer.complete(infer.load(path), image, mask).astype(int) for path in (rgb, bgr, wrong))
    assert np.abs(done - same).max() <= 1 < np.abs(done - other).max() and not infer.load(bgr).training
    first, second, third = (infer.show_offsets(infer.load(path), image, mask) for path in (rgb, bgr, wrong))
    assert (first == second).mean() > 0.95 and (first != third).mean() > 0.1
    pixels, mask_tensor = to_network(photo(32, 32)[None]), np.float32(mask[None, None, :32, :32])
    for one, two in zip(*(infer.predict(infer.load(path), pixels, mask_tensor) for path in (rgb, bgr)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_weights_of_something_else(tmp_path):
    network = lively()
    for more, told in (({"paper": "tenth"}, "tenth"), ({"generator": None}, "holds")):
        path = save_weights(tmp_path / "other.safetensors", {"generator": network}, metadata(network, **more))
        if more.get("generator", 1) is None:
            kept = {key: value for key, value in metadata(network).items() if key != "generator"}
            path = save_weights(path, {"generator": network}, kept)
        with pytest.raises(UserError, match=told):
            infer.load(path)
    wider = {**network.arguments, "base_channels": 6}
    path = save_weights(tmp_path / "wide.safetensors", {"generator": network}, metadata(network, generator=wider))
    with pytest.raises(UserError, match="generator.coarse.conv1.conv.weight has shape"):
        infer.load(path)


# ---- where the attention looks


@pytest.mark.parametrize("size", [(32, 32), (61, 47), (64, 200)])
def test_offsets_lie_over_what_they_are_of(size):
    """Known offsets, one for every 8 x 8 px of what the network is given; its side is 32 px, or as near as can be."""
    network, lines = StandIn(None), np.zeros(size, bool)
    lines[3] = True

    def offsets(image, mask_tensor, edge=None):
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        rows, columns = image.shape[2] // 8, image.shape[3] // 8
        network.given.append((image.numpy(), mask_tensor.numpy(), edge if edge is None else edge.numpy()))
        down, right = np.mgrid[:rows, :columns]
        return paddle.to_tensor(np.stack([down - 1, right - 2], axis=-1)[None])

    network.offsets = offsets
    image, mask = photo(*size), masks_in(*size, (0, 0, 13, 9))
    shown = infer.show_offsets(network, image, mask, lines)
    pixels, mask_tensor, edge = network.given[0]
    assert shown.shape == image.shape and shown.dtype == np.uint8 and min(pixels.shape[2:]) == SIDE
    scale = SIDE / min(size)
    rows, columns = pixels.shape[2] // 8, pixels.shape[3] // 8
    colours = flow.flow_colours(np.moveaxis(np.mgrid[:rows, :columns], 0, -1) - [1, 2])
    for row in range(rows):
        for column in range(columns):
            y, x = int((8 * row + 4) / scale), int((8 * column + 4) / scale)
            if y < size[0] and x < size[1]:
                np.testing.assert_allclose(shown[y, x].astype(int), colours[row, column], atol=1)
    assert (shown[int(12 / scale), int(20 / scale)] == 255).all()  # nowhere else is white
    assert mask_tensor[0, 0, 0, 0] == 1 and mask_tensor.mean() < 0.5 and (edge[0, 0].any(axis=1).sum()) in (1, 2, 3)
    network.given.clear()
    infer.show_offsets(network, np.where(mask[..., None], 255 - image, image), mask)
    np.testing.assert_array_equal(network.given[0][0], pixels)
    assert network.given[0][2] is None


# ---- real images, and large ones


@pytest.mark.realdata
@REAL_DATA
def test_example_pictures_keep_their_size_and_their_known_pixels(networks):
    examples = Path(os.environ["SUITE_DATA"]) / "examples"
    masks = {path.stem: path for path in find_images(examples / "masks")}
    pairs = [(path, masks[path.stem]) for path in find_images(examples / "images")]
    assert len(pairs) == 20
    for n, (path, mask) in enumerate(pairs):
        image = read_image(path)
        mask = mask_reader.read_mask(mask, *image.shape[:2])
        for network in (networks[n % 2, n // 2 % 2], lively(256) if n % 10 == 0 else None):
            if network:
                done = infer.complete(network, image, mask)
                assert done.shape == image.shape and 0 < mask.mean() < 0.95
                np.testing.assert_array_equal(done[~mask], image[~mask])
                assert (done[mask] != image[mask]).any(axis=-1).mean() > 0.5, path


LARGE_PHOTO = """
import json, sys
import numpy as np
from benchmarks.worker import peak_megabytes
from common.masks import generators
from common.runtime.device import open_device
from deepfill import infer
open_device("cpu")
network = infer.load(sys.argv[1])
image = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
mask = generators.freeform(1500, 2000, np.random.default_rng(3))
told = {"fraction": mask.mean(), "known": True}
for window in ("auto", "whole"):
    done = infer.complete(network, image, mask, window=window)
    told["known"] &= done.shape == image.shape and bool((done[~mask] == image[~mask]).all())
    told[window] = peak_megabytes()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_three_megapixels_and_the_releases_width_take_less_than_three_gigabytes(tmp_path):
    network = Generator(24, residual=False)
    more = {"image_px": 256, "crop": "center", "holes": "official", "preset": "", "step": 0}
    weights = save_weights(tmp_path / "wide.safetensors", {"generator": network}, metadata(network, **more))
    environment = {**os.environ, "PYTHONPATH": str(Path(infer.__file__).parents[1])}
    command = [sys.executable, "-c", LARGE_PHOTO, str(weights)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    measured = json.loads(printed.splitlines()[-1])
    assert measured["known"] and measured["fraction"] > 0.1
    assert measured["auto"] < 3000 and measured["whole"] < 3000  # the peak so far
