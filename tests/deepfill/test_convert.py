"""Published weights brought over compute what their own networks compute.

The published networks are written here in numpy from the release's table of layers, with the attention of each code;
nothing of ours is in them. The tests fill the networks from a seed at a few channels, write the tensors into files of
the published formats, convert, and compare.
"""

import hashlib
import re
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.checkpoint.weights import read_weights
from common.convert import mapping
from common.errors import UserError
from deepfill import convert
from deepfill import train as df_train
from deepfill.infer import load, load_discriminator, predict
from deepfill.model import Discriminator, Generator
from tests import helpers
from tests.helpers import module

import paddle

TESTS = Path(__file__).parents[1]


bundles = module(TESTS / "common/convert/test_tensorflow_checkpoints.py")  # which knows TensorFlow's files,
torches = module(TESTS / "glcic/fixtures/published_files.py")  # and PyTorch's

# The release's layers with kernel, stride, dilation, and channels in and out in multiples of the width (i: the input's,
# 3: RGB), then what nipponjo's networks and the article call them.
TABLE = """
conv1                5 1 1   i   1   stage1.conv1                                stage_1.conv1
conv2_downsample     3 2 1   1   2   stage1.down_block1.conv1_downsample         stage_1.conv2_down
conv3                3 1 1   2   2   stage1.down_block1.conv2                    stage_1.conv3
conv4_downsample     3 2 1   2   4   stage1.down_block2.conv1_downsample         stage_1.conv4_down
conv5                3 1 1   4   4   stage1.down_block2.conv2                    stage_1.conv5
conv6                3 1 1   4   4   stage1.conv_bn1                             stage_1.conv6
conv7_atrous         3 1 2   4   4   stage1.conv_bn2                             stage_1.conv7
conv8_atrous         3 1 4   4   4   stage1.conv_bn3                             stage_1.conv8
conv9_atrous         3 1 8   4   4   stage1.conv_bn4                             stage_1.conv9
conv10_atrous        3 1 16  4   4   stage1.conv_bn5                             stage_1.conv10
conv11               3 1 1   4   4   stage1.conv_bn6                             stage_1.conv11
conv12               3 1 1   4   4   stage1.conv_bn7                             stage_1.conv12
conv13_upsample      3 1 1   4   2   stage1.up_block1.conv1_upsample.conv        stage_1.conv13_up.conv
conv14               3 1 1   2   2   stage1.up_block1.conv2                      stage_1.conv14
conv15_upsample      3 1 1   2   1   stage1.up_block2.conv1_upsample.conv        stage_1.conv15_up.conv
conv16               3 1 1   1   .5  stage1.up_block2.conv2                      stage_1.conv16
conv17               3 1 1   .5  3   stage1.conv_to_rgb                          stage_1.conv17
xconv1               5 1 1   3   1   stage2.conv_conv1                           stage_2.xlayer.xconv1
xconv2_downsample    3 2 1   1   1   stage2.conv_down_block1.conv1_downsample    stage_2.xlayer.xconv2_down
xconv3               3 1 1   1   2   stage2.conv_down_block1.conv2               stage_2.xlayer.xconv3
xconv4_downsample    3 2 1   2   2   stage2.conv_down_block2.conv1_downsample    stage_2.xlayer.xconv4_down
xconv5               3 1 1   2   4   stage2.conv_down_block2.conv2               stage_2.xlayer.xconv5
xconv6               3 1 1   4   4   stage2.conv_conv_bn1                        stage_2.xlayer.xconv6
xconv7_atrous        3 1 2   4   4   stage2.conv_conv_bn2                        stage_2.xlayer.xconv7_atrous
xconv8_atrous        3 1 4   4   4   stage2.conv_conv_bn3                        stage_2.xlayer.xconv8_atrous
xconv9_atrous        3 1 8   4   4   stage2.conv_conv_bn4                        stage_2.xlayer.xconv9_atrous
xconv10_atrous       3 1 16  4   4   stage2.conv_conv_bn5                        stage_2.xlayer.xconv10_atrous
pmconv1              5 1 1   3   1   stage2.ca_conv1                             stage_2.pmlayer1.pmconv1
pmconv2_downsample   3 2 1   1   1   stage2.ca_down_block1.conv1_downsample      stage_2.pmlayer1.pmconv2_down
pmconv3              3 1 1   1   2   stage2.ca_down_block1.conv2                 stage_2.pmlayer1.pmconv3
pmconv4_downsample   3 2 1   2   4   stage2.ca_down_block2.conv1_downsample      stage_2.pmlayer1.pmconv4_down
pmconv5              3 1 1   4   4   stage2.ca_down_block2.conv2                 stage_2.pmlayer1.pmconv5
pmconv6              3 1 1   4   4   stage2.ca_conv_bn1                          stage_2.pmlayer1.pmconv6
pmconv9              3 1 1   4   4   stage2.ca_conv_bn4                          stage_2.pmlayer2.pmconv9
pmconv10             3 1 1   4   4   stage2.ca_conv_bn5                          stage_2.pmlayer2.pmconv10
allconv11            3 1 1   8   4   stage2.conv_bn6                             stage_2.colayer.allconv11
allconv12            3 1 1   4   4   stage2.conv_bn7                             stage_2.colayer.allconv12
allconv13_upsample   3 1 1   4   2   stage2.up_block1.conv1_upsample.conv        stage_2.colayer.allconv13_up.conv
allconv14            3 1 1   2   2   stage2.up_block1.conv2                      stage_2.colayer.allconv14
allconv15_upsample   3 1 1   2   1   stage2.up_block2.conv1_upsample.conv        stage_2.colayer.allconv15_up.conv
allconv16            3 1 1   1   .5  stage2.up_block2.conv2                      stage_2.colayer.allconv16
allconv17            3 1 1   .5  3   stage2.conv_to_rgb                          stage_2.colayer.allconv17
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
CODES = ["release", "networks_tf", "networks", "article"]
BASE, D_BASE = 4, 2


def names_in(code: str) -> dict[str, str]:
    """The release's layers -> the code's."""
    found = {}
    for name, *_, networks, article in ROWS:
        if code == "release":
            inside = f"/{name}_conv" if name.endswith("_upsample") else ""
            found[name] = f"inpaint_net/{name}{inside}"
        elif code == "networks_tf":
            found[name] = f"{name}.conv.conv" if name.endswith("_upsample") else f"{name}.conv"
        elif code == "networks":
            found[name] = f"{networks}.conv"
        else:
            found[name] = article if name.endswith("conv17") else f"{article}.conv"
    return found


def generator_shapes(code: str, base: int = BASE, inputs: int = 5) -> dict[str, tuple]:
    found, names = {}, names_in(code)
    for name, kernel, _, _, before, after, *_ in ROWS:
        first = name in ("conv1", "xconv1", "pmconv1")
        before = (inputs if before == "i" else 3) if first else int(float(before) * base)
        after = 3 if name.endswith("conv17") else 2 * int(float(after) * base)
        kernel = int(kernel), int(kernel)
        if code == "release":
            found |= {f"{names[name]}/kernel": (*kernel, before, after), f"{names[name]}/bias": (after,)}
        else:
            found |= {f"{names[name]}.weight": (after, before, *kernel), f"{names[name]}.bias": (after,)}
    return found


DISCRIMINATORS = {  # weight, bias, left and right singular vectors
    "release": ("discriminator/sn_patch_gan/conv{}/kernel", "discriminator/sn_patch_gan/conv{}/bias",
                "discriminator/sn_patch_gan/conv{}/kernel_sn/u"),
    "nipponjo": ("conv{}.conv_sn.weight", "conv{}.conv_sn.bias", "conv{}.conv_sn.weight_u"),
    "parametrized": ("conv{}.conv_sn.parametrizations.weight.original", "conv{}.conv_sn.bias",
                     "conv{}.conv_sn.parametrizations.weight.0._u", "conv{}.conv_sn.parametrizations.weight.0._v"),
    "article": ("dislayer.conv{}.snconv.module.weight_bar", "dislayer.conv{}.snconv.module.bias",
                "dislayer.conv{}.snconv.module.weight_u", "dislayer.conv{}.snconv.module.weight_v"),
    "mmagic": ("disc.conv{}.conv.weight_orig", "disc.conv{}.conv.bias",
               "disc.conv{}.conv.weight_u", "disc.conv{}.conv.weight_v"),
}  # fmt: skip


def discriminator_shapes(code: str, inputs: int = 4, base: int = D_BASE) -> dict[str, tuple]:
    found, before = {}, inputs
    for n, after in enumerate([base, 2 * base, *[4 * base] * 4], 1):
        weight, bias, u, *v = (name.format(n) for name in DISCRIMINATORS[code])
        found[weight] = (5, 5, before, after) if code == "release" else (after, before, 5, 5)
        found[bias] = (after,)
        found[u] = {"release": (1, after), "nipponjo": (after, 1)}.get(code, (after,))
        found |= dict.fromkeys(v, (before * 25,))
        before = after
    return found


def fill(shapes: dict[str, tuple], seed: int = 1) -> dict[str, np.ndarray]:
    """Weights that show every mistake: signals of size 1, biases that are not 0, singular vectors of length 1."""
    rng, filled = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        noise = rng.normal(0, 1, shape)
        if len(shape) == 4:
            noise *= (5 * shape[3 if "/" in name else 0] / prod(shape)) ** 0.5
        elif name.endswith("_v"):  # not too far from the weight's own, or the network explodes
            weight = next(array for key, array in reversed(filled.items()) if array.ndim == 4)
            noise = 0.02 * noise + filled[name[:-1] + "u"] @ weight.reshape(len(weight), -1) / 10
            noise /= np.linalg.norm(noise)
        elif name.endswith("u"):
            noise /= np.linalg.norm(noise)
        else:
            noise *= 0.4
        filled[name] = noise.astype(np.float32)
    return filled


# ---- the published networks: float64 [N, C, H, W]


def conv(x, weight, stride: int, dilation: int, same: bool, order: str):
    """order: axes of the weight, i and j of the kernel, c of the inputs, o of the outputs."""
    kernel = weight.shape[order.index("i")]
    reach = dilation * (kernel - 1) + 1
    pads = [(reach // 2, reach // 2)] * 2
    if same:  # TensorFlow: as many outputs as strides fit, and the smaller half of what is missing comes before
        missing = [max(0, (-(-side // stride) - 1) * stride + reach - side) for side in x.shape[2:]]
        pads = [(total // 2, total - total // 2) for total in missing]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    return np.einsum(f"nchwij,{order}->nohw", windows, weight, optimize=True)


def layer(code: str, tensors, name: str, x):
    _, _, stride, dilation, *_ = next(row for row in ROWS if row[0] == name)
    if name.endswith("_upsample"):
        x = x.repeat(2, axis=2).repeat(2, axis=3)
    weight, bias = ("/kernel", "/bias") if code == "release" else (".weight", ".bias")
    weight, bias = (np.float64(tensors[names_in(code)[name] + part]) for part in (weight, bias))
    same, order = code in ("release", "networks_tf"), "ijco" if code == "release" else "ocij"
    x = conv(x, weight, int(stride), int(dilation), same, order) + bias[:, None, None]
    if name.endswith("conv17"):
        return x
    feature, gate = np.split(x, 2, axis=1)
    if code == "article":
        feature, gate = gate, feature
    activated = np.maximum(feature, 0) if name == "pmconv6" else np.where(feature > 0, feature, np.expm1(feature))
    return activated / (1 + np.exp(-gate))


def attention(code: str, features, mask):
    """Each code's contextual attention: float64 [N, C, H, W], with masks [N, 1, H', W']."""
    pairs = zip(features, mask[:, 0], strict=True)
    return np.stack([attend(code, *pair) for pair in pairs])


def reduced(x, height: int, width: int, strided: bool):
    """Nearest places: with corners aligned, or every n-th."""
    for axis, wanted in ((-2, height), (-1, width)):
        side = x.shape[axis]
        places = np.arange(wanted) * (side / wanted) if strided else np.linspace(0, side - 1, wanted) + 0.5
        x = np.take(x, np.floor(places).astype(int), axis)
    return x


def neighbours(maps):
    """[C, h, w] -> [h w, C, 3, 3]."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(maps, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    return windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(maps), 3, 3)


def attend(code: str, features, mask):
    (channels, height, width), strided = features.shape, code == "networks"
    h, w = height // 2, width // 2
    if code in ("release", "article"):
        mask = reduced(mask, height, width, strided)
    known = np.float64(~neighbours(reduced(mask, h, w, strided)[None]).any((1, 2, 3)))
    queries = neighbours(reduced(features, h, w, strided))
    lengths = np.sqrt((queries**2).sum((0, 2, 3) if code == "article" else (1, 2, 3), keepdims=True))
    patches = queries / np.maximum(lengths, 1e-4)
    scores = queries.reshape(h * w, -1) @ patches.reshape(h * w, -1).T
    for shape in [] if code == "networks_tf" else [(h, w), (w, h)]:  # along the rows, then along the columns
        around = np.pad(scores, 1)
        scores = around[:-2, :-2] + scores + around[2:, 2:]
        scores = scores.reshape(*shape, *shape).transpose(1, 0, 3, 2).reshape(h * w, h * w)
    weights = np.exp(10 * (scores * known - (scores * known).max(1, keepdims=True)))
    weights = weights / weights.sum(1, keepdims=True) * known
    sources = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    sources = np.stack([sources[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] for r in range(h) for c in range(w)])
    laid = np.zeros((channels, height + 2, width + 2))
    for place, patch in enumerate(np.einsum("ql,lcij->qcij", weights, sources)):
        r, c = divmod(place, w)
        laid[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] += patch / 4
    return laid[:, 1:-1, 1:-1]


def generator(code: str, tensors, image, mask, edge=None, attention_of: str = ""):
    """The images of both stages."""

    def chain(x, start: str, numbers=range(18)):
        for name, *_ in ROWS:
            if name.startswith(start) and int(re.search(r"\d+", name)[0]) in numbers:
                x = layer(code, tensors, name, x)
        return x

    known, lines = image * (1 - mask), np.zeros_like(mask) if edge is None else edge * mask
    if code == "article":
        x = [known, mask, lines]
    else:
        x = [known, *([] if edge is None else [lines]), np.ones_like(mask), mask]
    coarse = np.tanh(chain(np.concatenate(x, 1), "conv"))
    given = coarse * mask + known
    y = attention(attention_of or code, chain(given, "pmconv", range(1, 7)), mask)
    y = chain(y, "pmconv", (9, 10))
    return coarse, np.tanh(chain(np.concatenate([chain(given, "xconv"), y], 1), "allconv"))


def discriminator(code: str, tensors, x, steps: int = 1, padding: str = "same", slope: float = 0.2):
    """Logits with `steps` power iterations before; with none, by the vectors as they are stored."""
    for n in range(1, 7):
        weight, bias, u, *v = (np.float64(tensors[name.format(n)]) for name in DISCRIMINATORS[code])
        matrix = weight.reshape(-1, weight.shape[3]).T if code == "release" else weight.reshape(len(weight), -1)
        u = u.ravel()
        v = v[0] if v and not steps else u @ matrix / np.linalg.norm(u @ matrix)
        u = matrix @ v / np.linalg.norm(matrix @ v) if steps else u
        order = "ijco" if code == "release" else "ocij"
        x = conv(x, weight / (u @ matrix @ v), 2, 1, padding == "same", order) + bias[:, None, None]
        x = np.where(x > 0, x, slope * x)
    return x.reshape(len(x), -1)


# ---- runs


def scene(guided: bool = False) -> tuple:
    """Two images (32 x 48), each with a hole of its own, and a sketch."""
    rng = np.random.default_rng(7)
    mask = np.zeros((2, 1, 32, 48), np.float32)
    mask[0, :, 3:13, 5:20] = mask[1, :, 20:32, 30:41] = 1
    image = rng.uniform(-1, 1, (2, 3, 32, 48)).astype(np.float32)
    return image, mask, np.float32(rng.random(mask.shape) < 0.3) if guided else None


def judged(channels: int = 4) -> np.ndarray:
    """Image, mask, and the sketch inside it."""
    rng = np.random.default_rng(8)
    maps = rng.random((2, 2, 64, 64)) < 0.4
    maps[:, 1] &= maps[:, 0]
    return np.concatenate([rng.uniform(-1, 1, (2, 3, 64, 64)), maps], 1).astype(np.float32)[:, :channels]


def run(*arguments) -> Path:
    return convert.main([str(argument) for argument in arguments])


def bundle(folder: Path, tensors, name: str = "snap-0") -> Path:
    return bundles.write_bundle(folder / name, tensors, crc=False)


def torch_file(path: Path, tensors, legacy: bool = False) -> Path:
    """A state dict, or several with a number beside them: {"G": {…}, "D": {…}}."""
    several = any(isinstance(value, dict) for value in tensors.values())
    tables, storages = {}, {}
    for part, state in (tensors if several else {"": tensors}).items():
        pickled = {}
        for name, array in state.items():
            key, stride = str(len(storages)), [size // array.itemsize for size in array.strides]
            kind = torches.KINDS[array.dtype.str[1:]]
            pickled[name] = torches.tensor(key, kind, array.size, array.shape, stride, legacy=legacy)
            storages[key] = array.size, array.tobytes()
        tables[part] = torches.table(pickled)
    content = torches.table(tables | {"n_iter": torches.integer(300)}) if several else tables[""]
    return (torches.write_legacy if legacy else torches.write_zip)(path, content, storages)


def complete(written: Path, guided: bool = False) -> tuple:
    return predict(load(written), *scene(guided))


def judge(written: Path, channels: int = 4, training: bool = True) -> np.ndarray:
    found = load_discriminator(written, channels == 5)
    found.train() if training else found.eval()
    x = judged(channels)
    with paddle.no_grad():
        parts = [paddle.to_tensor(part) for part in (x[:, :3], x[:, 3:4], x[:, 4:])]
        return found(*parts[: channels - 2]).numpy()


def blue_first(x):
    """The release's order of what is judged, of which the first three channels are colours."""
    return x[:, [2, 1, 0, *range(3, x.shape[1])]]


def close(got, wanted):
    """Images, or logits, which are smaller: the norms hold the signals down."""
    assert got.shape == wanted.shape and wanted.std() > (0.1 if wanted.ndim == 4 else 0.03), wanted.std()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 if wanted.ndim == 4 else 2e-6)


def refused(capsys, *arguments) -> str:
    return helpers.refused(capsys, convert.main, *arguments)


# ---- what is brought over


RELEASED = generator_shapes("release") | discriminator_shapes("release")


@pytest.mark.medium
def test_released_checkpoint(tmp_path, capsys):
    """The folder as it is downloaded: `checkpoint` is called checkpoint.txt, and the optimiser's tensors are there."""
    tensors = fill(RELEASED)
    beside = {f"{name}/{slot}": array for name, array in tensors.items() for slot in ("Adam", "Adam_1")}
    beside |= {name: np.float32(0.5) for name in ("beta1_power", "beta2_power", "beta1_power_1", "lr")}
    beside["global_step"] = np.array(502, np.int32)
    folder = tmp_path / "release_places2_256_deepfill_v2"
    folder.mkdir()
    bundle(folder, tensors | beside)
    bundle(folder, {"x": np.zeros(3, np.float32)}, "snap-9")
    (folder / "checkpoint.txt").write_text('model_checkpoint_path: "/old/place/snap-0"\nall_model_check: "snap-9"\n')
    written = run(folder, tmp_path / "a.safetensors")
    shown = capsys.readouterr().out
    assert "recognised: JiahuiYu/generative_inpainting, 102 tensors; licence: CC BY-NC 4.0" in shown  # 42 x 2 + 6 x 3
    kinds = "Adam, Adam_1, beta1_power, beta1_power_1, beta2_power, global_step, lr"
    assert f"mapped: 102 tensors; left out: {kinds}" in shown and "assumed: colours BGR" in shown
    assert "assumed: trained on images of 256 px" in shown and "assumed: padding" not in shown
    image, mask, _ = scene()
    wanted = [stage[:, ::-1] for stage in generator("release", tensors, image[:, ::-1], mask)]  # blue comes first
    for got, stage in zip(complete(written), wanted, strict=True):
        close(got, stage)
    close(judge(written), discriminator("release", tensors, blue_first(judged())))
    close(judge(written, training=False), discriminator("release", tensors, blue_first(judged()), steps=0))
    metadata = read_weights(written)[1]
    assert (
        metadata["generator"] == Generator(BASE).arguments and metadata["discriminator"] == Discriminator(2).arguments
    )
    assert [metadata[name] for name in ("paper", "step", "image_px", "crop", "holes")] == [
        "deepfill", 0, 256, "center", "official",
    ]  # fmt: skip
    names = ["snap-0.index", "snap-0.data-00000-of-00001"]
    assert (metadata["colours"], metadata["preset"], metadata["licence"]) == ("BGR", "", "CC BY-NC 4.0")
    assert metadata["source"] == f"JiahuiYu/generative_inpainting, {', '.join(names)}"
    data = b"".join((folder / name).read_bytes() for name in names)
    assert metadata["source_sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.medium
def test_any_name_of_a_checkpoint_will_do(tmp_path):
    bundle(tmp_path, fill(generator_shapes("release")), "snap-4000")
    one = read_weights(run(tmp_path, tmp_path / "a.safetensors"))  # a folder without a list
    for name in ("snap-4000", "snap-4000.index", "snap-4000.data-00000-of-00001", "checkpoint"):
        other = read_weights(run(tmp_path / name, tmp_path / "b.safetensors"))
        assert one[1] == other[1] and one[1]["step"] == 4000
        assert all(np.array_equal(one[0][key], other[0][key]) for key in one[0])


def test_guided_release(tmp_path, capsys):
    tensors = fill(generator_shapes("release", inputs=6) | discriminator_shapes("release", 5))
    written = run(bundle(tmp_path, tensors), tmp_path / "a.safetensors", "--colours", "RGB")
    for got, wanted in zip(complete(written, True), generator("release", tensors, *scene(True)), strict=True):
        close(got, wanted)
    close(judge(written, 5), discriminator("release", tensors, judged(5)))
    metadata = load(written).metadata
    assert metadata["generator"]["guided"] and metadata["discriminator"]["guided"] and metadata["colours"] == "RGB"
    assert f"train paper-guided --data-dir DIR --init-generator {written} --init-d" in capsys.readouterr().out


@pytest.mark.medium
@pytest.mark.parametrize("code", ["networks_tf", "networks", "networks, once"])
def test_nipponjo(tmp_path, capsys, code):
    """A state of training: both networks, their optimisers, and the identity matrix of the attention."""
    style = code.partition(",")[0]
    g, d = fill(generator_shapes(style), 3), fill(discriminator_shapes("nipponjo"), 4)
    named = {}
    for key, array in g.items():
        if "once" in code:
            key = re.sub(r"^stage2\.conv_(conv|down)", r"stage2.b1_\1", key).replace("stage2.ca_", "stage2.b2_")
        named[key] = array
    assert ("stage2.b1_down_block1.conv2.conv.weight" in named) == ("once" in code)
    constant = {"stage2.contextual_attention.fuse_weight": np.eye(3, dtype=np.float32)[None, None]}
    moments = {"0": np.zeros(3, np.float32)}
    path = torch_file(tmp_path / "states.pth", {"G": named | constant, "D": d, "G_optim": moments})
    written = run(path, tmp_path / "a.safetensors")
    for got, wanted in zip(complete(written), generator(style, g, *scene()), strict=True):
        close(got, wanted)
    padding = "same" if style == "networks_tf" else "symmetric"
    close(judge(written), discriminator("nipponjo", d, judged(), padding=padding))
    metadata = load(written).metadata
    attends = {"fuse": False, "downsample": "one-step"} if style == "networks_tf" else {"downsample": "strided"}
    assert (
        metadata["generator"] == Generator(BASE, padding=padding, **attends).arguments and metadata["colours"] == "RGB"
    )
    assert metadata["discriminator"] == Discriminator(2, padding=padding).arguments
    shown = capsys.readouterr().out
    assert f"{style}, 102 tensors" in shown and "left out: 0, fuse_weight" in shown
    assert ("assumed: attention as networks_tf" in shown) == (style == "networks_tf")
    assert "assumed: padding" not in shown


@pytest.mark.medium
@pytest.mark.parametrize("code", ["article", "networks_tf", "networks"])
def test_whose_attention(tmp_path, capsys, code):
    """The codes compute different images from the same weights; --attention says whose is wanted."""
    tensors = fill(generator_shapes(code), 3)
    path = torch_file(tmp_path / "g.pth", tensors)
    own, released = (generator(code, tensors, *scene(), attention_of=name)[1] for name in (code, "release"))
    assert np.abs(own - released).max() > 0.05, np.abs(own - released).max()
    close(complete(run(path, tmp_path / "a.safetensors"))[1], own)
    close(complete(run(path, tmp_path / "b.safetensors", "--attention", "release"))[1], released)
    assert capsys.readouterr().out.count("assumed: attention") == (code == "networks_tf")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_state_dicts(tmp_path, legacy, prefix):
    tensors = fill(generator_shapes("networks_tf"), 3)
    path = torch_file(tmp_path / "g.pth", {prefix + name: array for name, array in tensors.items()}, legacy)
    for got, wanted in zip(
        complete(run(path, tmp_path / "a.safetensors")), generator("networks_tf", tensors, *scene()), strict=True
    ):
        close(got, wanted)


def test_discriminators_alone(tmp_path, capsys):
    """PyTorch's own spectral normalisation, which nipponjo used for a time, and the release's."""
    tensors = fill(discriminator_shapes("parametrized"), 5)
    written = run(torch_file(tmp_path / "d.pth", tensors), tmp_path / "a.safetensors")
    wanted = [discriminator("parametrized", tensors, judged(), steps, "symmetric") for steps in (0, 1)]
    close(judge(written, training=False), wanted[0])
    close(judge(written), wanted[1])
    assert abs(wanted[0] - wanted[1]).max() > 1e-2
    shown = capsys.readouterr().out
    assert f"train paper-places2 --data-dir DIR --padding symmetric --init-discriminator {written}" in shown
    assert "infer" not in shown and "assumed: padding" not in shown
    assert "generator" not in read_weights(written)[1]
    tensors = fill(discriminator_shapes("release"))
    for n in range(1, 7):  # before training the vectors are of any length
        tensors[f"discriminator/sn_patch_gan/conv{n}/kernel_sn/u"] *= 3 * n
    written = run(bundle(tmp_path, tensors), tmp_path / "b.safetensors")
    wanted = discriminator("release", fill(discriminator_shapes("release")), blue_first(judged()), 0)
    close(judge(written, training=False), wanted)


def test_padding_of_a_discriminator_alone(tmp_path, capsys):
    """Both of nipponjo's codes name its tensors alike: it is asked for, or what is assumed is told."""
    tensors, out = fill(discriminator_shapes("nipponjo"), 5), tmp_path / "a.safetensors"
    path = torch_file(tmp_path / "d.pth", tensors)
    for padding, flags in (("same", []), ("same", ["--padding", "same"]), ("symmetric", ["--padding", "symmetric"])):
        written = run(path, out, *flags)
        close(judge(written), discriminator("nipponjo", tensors, judged(), padding=padding))
        assert load_discriminator(written, False).arguments["padding"] == padding
        told = capsys.readouterr().out
        assert ("assumed: padding same" in told) == (not flags)
        assert (f"paper-places2 --data-dir DIR --padding {padding} --init-d" in told) == (padding == "symmetric")
    released = bundle(tmp_path, fill(RELEASED))
    assert "generative_inpainting have same" in refused(capsys, released, out, "--padding", "symmetric")
    assert "a discriminator has no attention" in refused(capsys, path, out, "--attention", "release")


@pytest.mark.parametrize("prefix", ["disc.", "state_dict.disc.", ""])
def test_mmagics_discriminator_alone(tmp_path, capsys, prefix):
    """Its layers are the paper's, padded symmetrically; it judges what OpenCV reads, blue first."""
    tensors = fill(discriminator_shapes("mmagic"), 5)
    named = {prefix + name.removeprefix("disc."): array for name, array in tensors.items()}
    written = run(torch_file(tmp_path / "d.pth", named), tmp_path / "a.safetensors")
    for steps in (0, 1):
        wanted = discriminator("mmagic", tensors, blue_first(judged()), steps, "symmetric")
        close(judge(written, training=steps == 1), wanted)
    told = capsys.readouterr().out
    assert "recognised: open-mmlab/mmagic" in told and f"--padding symmetric --init-discriminator {written}" in told


@pytest.mark.medium
def test_article(tmp_path, capsys):
    """Gates before features, symmetric padding, a sketch after the mask, and a slope of 0.01; two files."""
    g, d = fill(generator_shapes("article"), 6), fill(discriminator_shapes("article", 5), 7)
    written = run(torch_file(tmp_path / "g.pth", g), tmp_path / "g.safetensors")
    for got, wanted in zip(complete(written, True), generator("article", g, *scene(True)), strict=True):
        close(got, wanted)
    image, mask, _ = scene()
    close(predict(load(written), image, mask)[1], generator("article", g, image, mask)[1])  # without a sketch
    arguments = {"inputs": "article", "guided": True, "gate_first": True, "padding": "symmetric"}
    arguments["normalise"] = "channel"
    assert load(written).arguments == Generator(BASE, **arguments).arguments
    assert f"train article --data-dir DIR --init-generator {written}" in capsys.readouterr().out
    written = run(torch_file(tmp_path / "d.pth", d), tmp_path / "d.safetensors")
    for steps in (0, 1):
        wanted = discriminator("article", d, judged(5), steps, "symmetric", 0.01)
        close(judge(written, 5, steps == 1), wanted)
    assert read_weights(written)[1]["discriminator"]["slope"] == 0.01


def test_colours(tmp_path):
    tensors = fill(generator_shapes("networks_tf"), 3)
    save_file(tensors, tmp_path / "g.safetensors")
    written = run(tmp_path / "g.safetensors", tmp_path / "a.safetensors", "--colours", "BGR")
    image, mask, _ = scene()
    close(complete(written)[1], generator("networks_tf", tensors, image[:, ::-1], mask)[1][:, ::-1])


# ---- the published files at their size


@pytest.mark.parametrize(
    "code, source, inputs",
    [
        ("release", convert.RELEASE, 5),
        ("release", convert.RELEASE, 6),
        ("networks_tf", convert.NIPPONJO_TF, 5),
        ("networks", convert.NIPPONJO, 5),
        ("article", convert.ARTICLE, 5),
    ],
)
def test_shapes(code, source, inputs):
    """What is asked of a file is what the release's table has, and what our networks have."""
    for base, count in [(24, 4_052_478), (48, 16_171_254), (4, None)]:
        shapes = generator_shapes(code, base, inputs)
        arguments = {"base_channels": base, "guided": inputs == 6, "inputs": source.inputs}
        places = convert.places("generator", source, arguments, shapes, Path("a.file"))
        assert dict(places.values()) == shapes
        if count:
            assert sum(map(prod, shapes.values())) == count + (inputs - 5) * 25 * 2 * base
        else:
            made = {name: value.shape for name, value in Generator(**arguments).state_dict().items()}
            assert places.keys() == made.keys()


@pytest.mark.medium
def test_the_released_file_at_its_size(tmp_path, capsys):
    shapes = generator_shapes("release", 24) | discriminator_shapes("release", base=64)
    assert shapes["inpaint_net/pmconv5/kernel"] == (3, 3, 96, 192)  # as its index has them
    assert shapes["discriminator/sn_patch_gan/conv1/kernel"] == (5, 5, 4, 64)
    published = bundle(tmp_path, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    metadata = read_weights(run(published, tmp_path / "a.safetensors"))[1]
    assert metadata["generator"] == Generator(attention_chunk=0).arguments
    assert metadata["discriminator"] == Discriminator().arguments
    shown = capsys.readouterr().out
    assert "generator, 4,052,478 parameters" in shown and "discriminator, 5,946,816 parameters" in shown


# ---- what is refused


def both(code: str) -> dict[str, np.ndarray]:
    d = code if code in ("release", "article") else "nipponjo"
    return fill(generator_shapes(code)) | fill(discriminator_shapes(d, 5 if code == "article" else 4))


@pytest.fixture
def problem(tmp_path, monkeypatch):
    """Why a file of these tensors is refused; nothing is written."""

    def told(tensors) -> str:
        monkeypatch.setattr(mapping, "read_tensors", lambda path: dict(tensors))
        with pytest.raises(UserError) as found:
            convert.convert(convert.Options(Path("a.file"), tmp_path / "out.safetensors"))
        assert "\n" not in str(found.value) and not (tmp_path / "out.safetensors").exists()
        return str(found.value)

    return told


@pytest.mark.medium
@pytest.mark.parametrize("code", CODES)
def test_every_missing_tensor_is_named(problem, code):
    tensors = both(code)
    for name in tensors:
        told = problem({key: array for key, array in tensors.items() if key != name})
        assert told == f"a.file lacks the tensor {name}"


@pytest.mark.medium
@pytest.mark.parametrize("code", CODES)
def test_every_misshapen_tensor_is_named(problem, code):
    tensors = both(code)
    for name, array in tensors.items():
        wrong = np.concatenate([array, array], -1)
        told = f"a.file: {name} has shape {list(wrong.shape)}, its place asks {list(array.shape)}"
        if name.endswith("/conv1/kernel"):  # its outputs tell the width, which the next tensor has not
            told = f"a.file: {name[:-6]}bias has shape"
        assert told in problem(tensors | {name: wrong})


@pytest.mark.medium
@pytest.mark.parametrize(
    "change, told",
    [
        ({"inpaint_net/conv18/kernel": (3, 3, 2, 4)}, "belong to no layer: inpaint_net/conv18/kernel"),
        ({"inpaint_net/conv1/ExponentialMovingAverage": (2,)}, "belong to no layer: inpaint_net/conv1/E"),
        ({"encoder/w": (2,)}, "belong to no layer: encoder/w"),
        ({"discriminator/sn_patch_gan/conv7/bias": (8,)}, "belong to no layer: discriminator/sn_patch_gan/conv7/bias"),
        ({"inpaint_net/conv1/kernel": (5, 5, 4, 8)}, "[5, 5, 4, 8], its place asks [5, 5, 5, 8]"),
        ({"inpaint_net/conv1/kernel": (5, 5, 5, 6)}, "has 6 outputs"),
        ({"inpaint_net/conv1/kernel": (5, 5, 5, 0)}, "has shape [5, 5, 5, 0], its place asks 4 dimensions"),
        ({"inpaint_net/conv1/kernel": (5, 5, 5)}, "has shape [5, 5, 5], its place asks 4 dimensions"),
        ({"inpaint_net/conv1/kernel": (5, 5, 5, 40_000)}, "conv1/bias has shape [8], its place asks [40000]"),
        ({"discriminator/sn_patch_gan/conv1/kernel": (5, 5, 3, 2)}, "[5, 5, 3, 2], its place asks [5, 5, 4, 2]"),
        ({"dislayer.conv1.snconv.module.bias": (2,)}, "a discriminator of JiahuiYu/generative_inpainting and one of"),
        ({"inpaint_net/conv2_downsample/kernel": (3, 3, 8, 16)}, "is no DeepFill v2: its convolutions have no gates"),
    ],
)
def test_other_tensors(tmp_path, capsys, change, told):
    tensors = fill(RELEASED) | {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    assert told in refused(capsys, bundle(tmp_path, tensors), tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    "names, told",
    [
        (["generator.stage1.encoder.enc1.conv.conv.weight", "disc.conv1.conv.weight_u"], "is MMagic's DeepFill v2"),
        (["state_dict.generator.stage2.dilation_neck.dilation_convs.0.conv.conv.bias"], "its padding reflects"),
        (["coarse.0.conv2d.weight", "coarse.0.mask_conv2d.weight"], "csqiangwen's DeepFill v2, another network"),
        (["refine_atten_1.0.conv2d.bias"], "its gates have convolutions of their own"),
        (["generator.coarse.conv1.conv.weight"], "none of the published DeepFill v2"),  # ours
        (["main.0.weight"], "its first tensors are main.0.weight"),
        (["dislayer.conv1.snconv.module.bias", "stage1.conv1.conv.bias"], "networks and of the article"),
        (["conv1.conv.bias", "module.conv1.conv.bias"], "two networks of the same names"),
        ([], "its first tensors are none at all"),
    ],
)
def test_other_networks(tmp_path, capsys, names, told):
    path = torch_file(tmp_path / "net.pth", {name: np.zeros(4, np.float32) for name in names})
    assert told in refused(capsys, path, tmp_path / "a.safetensors")


def test_whole_numbers_are_no_weights(tmp_path, capsys):
    tensors = fill(RELEASED) | {"inpaint_net/xconv3/bias": np.zeros(16, np.int32)}
    told = refused(capsys, bundle(tmp_path, tensors), tmp_path / "a.safetensors")
    assert "inpaint_net/xconv3/bias holds int32 numbers" in told


def test_whole_modules_are_not_run(tmp_path, capsys):
    """As KeyKy's code saves them."""
    path = torches.write_zip(tmp_path / "1_G_L1_1.0.pth", torches.call("inpaint_model.CAGenerator"), {})
    assert "asks for inpaint_model.CAGenerator" in refused(capsys, path, tmp_path / "a.safetensors")


def test_missing_files_of_a_checkpoint(tmp_path, capsys):
    folder, out = tmp_path / "release", tmp_path / "a.safetensors"
    folder.mkdir()
    assert f"there is no weights file in the folder {folder}" in refused(capsys, folder, out)
    (folder / "checkpoint.txt").write_text('model_checkpoint_path: "snap-0"\n')
    for name in ("", "checkpoint.txt", "snap-0", "snap-0.index", "snap-0.meta", "snap-0.data-00000-of-00001"):
        assert f"there is no {folder / 'snap-0.index'}; a TensorFlow" in refused(capsys, folder / name, out)
    bundle(folder, fill(RELEASED))
    (folder / "snap-0.data-00000-of-00001").unlink()
    assert f"there is no {folder / 'snap-0.data-00000-of-00001'}" in refused(capsys, folder, out)
    bundle(folder, fill(RELEASED), "snap-4000")
    (folder / "checkpoint.txt").write_text("nothing of use")
    assert f"holds 2 checkpoints; name one of them, such as {folder / 'snap-4000.index'}" in refused(
        capsys, folder, out
    )
    assert "cannot read" in refused(capsys, tmp_path / "nothing.pth", out)
    assert not out.exists()


def test_a_folder_with_one_file(tmp_path, capsys):
    """As nipponjo's `pretrained` has it; hidden files are none, and two are named."""
    folder, tensors = tmp_path / "pretrained", fill(discriminator_shapes("nipponjo"), 5)
    folder.mkdir()
    torch_file(folder / "states.PTH", tensors)
    (folder / "._states.pth").touch()
    (folder / "README.md").touch()
    close(judge(run(folder, tmp_path / "a.safetensors")), discriminator("nipponjo", tensors, judged()))
    torch_file(folder / "b.pt", tensors)
    told = refused(capsys, folder, tmp_path / "b.safetensors")
    assert "holds 2 weights files (b.pt, states.PTH); name one of them" in told


# ---- what is printed to be done next


@pytest.mark.medium
@pytest.mark.parametrize(
    ("tensors", "verbs"),
    [
        (lambda: fill(RELEASED), ["infer", "train"]),
        (lambda: both("networks"), ["infer", "train"]),
        (lambda: both("article"), ["infer", "train"]),
        (lambda: fill(discriminator_shapes("article", 4)), ["train"]),
        (lambda: fill(discriminator_shapes("parametrized")), ["train"]),
    ],
    ids=["release", "networks", "article", "its D, unguided", "networks' D"],
)
def test_next_commands_work(tmp_path, capsys, follow, monkeypatch, tensors, verbs):
    """For every kind of file, from a path with a space; each run starts from what was converted."""
    (tmp_path / "my files").mkdir()
    tensors, path = tensors(), tmp_path / "my files/published.pth"
    path = bundle(path.parent, tensors) if any("/" in name for name in tensors) else torch_file(path, tensors)
    run(path, tmp_path / "my files/a.safetensors")
    monkeypatch.setattr(df_train, "PREVIEW_IMAGES", 1)
    monkeypatch.setattr(df_train, "VALIDATION_IMAGES", 1)
    monkeypatch.setattr(df_train, "FINAL_IMAGES", 1)
    small = ["--image-px", "32", "--base-channels", "4", "--discriminator-channels", "2"]
    commands = follow(capsys.readouterr().out, *small)
    assert [command[2] for command in commands] == [f"deepfill.{verb}" for verb in verbs]
