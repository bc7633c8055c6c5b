"""Published weights brought over compute what their own networks compute.

The networks of the official Torch7 code, of BoyuanJiang's port and of the mended article are written here in numpy, as
their descriptions have them (the same in PyTorch agrees to 1e-6). The tests fill them from a seed at a few channels,
write the tensors into files of the published formats, convert, and compare.
"""

from math import prod
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import read_weights, save_weights
from common.convert import mapping
from common.errors import UserError
from context_encoder import convert, infer
from context_encoder import train as ce_train
from context_encoder.model import ContextEncoder
from context_encoder.train import load_discriminator
from tests import helpers

import paddle

FILES = Path(__file__).parents[1] / "glcic/fixtures/published_files.py"  # which knows the formats
files = helpers.module(FILES)

BASE, UNITS, NOISE = 4, 24, 5
MASKS = {"center": np.s_[..., 36:92, 36:92], "whole": np.s_[..., 5:60, 20:50]}  # of 128 px; a ring of 4 px is shown
RELEASE = [2 * 117 / 255 - 1, 2 * 104 / 255 - 1, 2 * 123 / 255 - 1]  # as the official code fills holes

# ---- the published networks: (convolution, normalisation or "") in the order of their work

OFFICIAL = [
    ("modules.0.modules.0", ""),
    *((f"modules.0.modules.{n}", f"modules.0.modules.{n + 1}") for n in (2, 5, 8, 11)),
    ("modules.0.modules.14", "modules.1"),
    *((f"modules.{n}", f"modules.{n + 1}") for n in (3, 6, 9, 12)),
    ("modules.15", ""),
]
OFFICIAL_WHOLE = [*OFFICIAL[:-1], ("modules.15", "modules.16"), ("modules.18", "")]
OFFICIAL_WHOLE_64 = [*OFFICIAL[:4], ("modules.0.modules.11", "modules.1"), *OFFICIAL[6:]]
OFFICIAL_NOISE = [  # a ParallelTable of encoder and noise, a JoinTable, then as above
    ("modules.0.modules.0.modules.0", ""),
    *((f"modules.0.modules.0.modules.{n}", f"modules.0.modules.0.modules.{n + 1}") for n in (2, 5, 8, 11)),
    ("modules.0.modules.0.modules.14", "modules.2"),
    *((f"modules.{n}", f"modules.{n + 1}") for n in (4, 7, 10, 13)),
    ("modules.16", ""),
]
OFFICIAL_D = [("modules.0", ""), *((f"modules.{n}", f"modules.{n + 1}") for n in (2, 5, 8)), ("modules.11", "")]
OFFICIAL_D_WHOLE = [*OFFICIAL_D[:-1], ("modules.11", "modules.12"), ("modules.14", "")]
OFFICIAL_D_CONTEXT = [*((f"modules.{n}", f"modules.{n + 1}") for n in (3, 6, 9, 12)), ("modules.15", "")]
BOYUAN = [
    ("main.0", ""),
    *((f"main.{n}", f"main.{n + 1}") for n in (2, 5, 8, 11, 14, 17, 20, 23, 26)),
    ("main.29", ""),
]
BOYUAN_LATER = [
    ("main_encode.0", ""),
    *((f"main_encode.{n}", f"main_encode.{n + 1}") for n in (2, 5, 8, 11, 14)),
    *((f"main_decode.{n}", f"main_decode.{n + 1}") for n in (0, 3, 6, 9)),
    ("main_decode.12", ""),
]
BOYUAN_D = [("main.0", ""), *((f"main.{n}", f"main.{n + 1}") for n in (2, 5, 8)), ("main.11", "")]
ARTICLE = [("t1.0", ""), *((f"t{n}.0", f"t{n}.1") for n in range(2, 11)), ("t11.0", "")]
ARTICLE_D = [("t1.0", ""), *((f"t{n}.0", f"t{n}.1") for n in range(2, 5)), ("t5.0", "")]


def channels(kind: str, base: int = BASE, units: int = UNITS) -> tuple[list[int], list[int]]:
    """What goes into and comes out of each layer, downwards and upwards."""
    down, up = [3, *(base * factor for factor in (1, 1, 2, 4, 8))], [base * factor for factor in (8, 4, 2, 1)]
    if kind == "center":
        return [*down, units], [units, *up, 3]
    if kind == "whole":
        return [*down, units], [units, *up, base, 3]
    if kind == "whole 64":
        return [3, *down[2:], units], [units, *up, 3]
    if kind == "noise":
        return [*down, units], [units + NOISE, *up, 3]
    return [*down[:1], *down[1 if kind == "D whole" else 2 :], 1], []


def shapes(names: list, ends: tuple, bias: bool, noise: str = "", counter: bool = False) -> dict[str, tuple]:
    (down, up), found = ends, {}
    rows = [(width, before, width) for before, width in zip(down, down[1:], strict=False)]
    rows += [(before, width, width) for before, width in zip(up, up[1:], strict=False)]
    for n, ((conv, norm), (first, second, width)) in enumerate(zip(names, rows, strict=True)):
        found |= files.layer(conv, first, second, 4, False) | ({f"{conv}.bias": (width,)} if bias else {})
        if noise and n == len(down) - 2:
            found |= files.layer(noise, NOISE, NOISE, 1, bias)
            width = up[0]
        found |= files.norm(norm, width, counter) if norm else {}
    return found


def conv(x, weight, bias, stride, padding):
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + np.reshape(bias, (-1, 1, 1))


def transposed(x, weight, bias, stride, padding):
    """Every pixel paints the kernel, times its value."""
    height, width = x.shape[2:]
    painted = np.zeros((len(x), weight.shape[1], (height - 1) * stride + 4, (width - 1) * stride + 4))
    for i in range(4):
        for j in range(4):
            where = np.s_[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            painted[where] += np.einsum("nchw,co->nohw", x, weight[:, :, i, j])
    end = slice(padding, -padding or None)
    return painted[:, :, end, end] + np.reshape(bias, (-1, 1, 1))


def normalise(x, tensors: dict, name: str):
    parts = (tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    mean, variance, weight, bias = (np.reshape(part, (-1, 1, 1)) for part in parts)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def relu(x):
    return np.maximum(x, 0)


def compute(names: list, downs: int, tensors: dict, x, bottleneck=leaky, noise=None):
    """The published network: float64 in, float64 out; without the discriminator's last sigmoid."""
    for n, (name, norm) in enumerate(names):
        step, size = transposed if n >= downs else conv, (1, 0) if n in (downs - 1, downs) else (2, 1)
        x = step(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias", 0.0), *size)
        if noise and n == downs - 1:
            numbers, layer = noise
            x = np.concatenate([x, conv(numbers, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"], 1, 0)], 1)
        x = normalise(x, tensors, norm) if norm else x
        if n < len(names) - 1:
            x = relu(x) if n >= downs else bottleneck(x) if n == downs - 1 else leaky(x)
    return np.tanh(x) if len(names) > downs else x


# ---- files


def torch_file(path: Path, tensors: dict, legacy: bool = False, **beside: bytes) -> Path:
    """A torch.save'd state dict, alone or as the entry `state_dict` with others beside it."""
    content, storages = files.state_dict(tensors, legacy)
    content = files.table({**beside, "state_dict": content}) if beside else content
    return (files.write_legacy if legacy else files.write_zip)(path, content, storages)


def network_t7(tensors: dict) -> tuple:
    """An nn.Sequential as util.save leaves it: beside the weights each layer's emptied working memory, and numbers."""
    empty = np.zeros(0, np.float32)
    tree = {"weights": {}, "inside": {}}
    for name, array in tensors.items():
        *path, part = [step for step in name.split(".") if step != "modules"]
        node = tree
        for step in map(int, path):
            node = node["inside"].setdefault(step, {"weights": {}, "inside": {}})
        node["weights"][part] = array

    def build(node) -> tuple:
        fields = {**node["weights"], "output": empty, "gradInput": empty, "finput": empty, "train": 1, "kW": 4}
        if node["inside"]:
            activation = ("nn.LeakyReLU", {"negval": 0.2, "output": empty, "gradInput": empty})
            count = max(node["inside"]) + 2
            fields["modules"] = [build(node["inside"][n]) if n in node["inside"] else activation for n in range(count)]
            fields["output"] = [empty, empty]  # as of a ParallelTable
        return ("nn.Module", fields)

    return build(tree)


def t7_file(path: Path, tensors: dict, table: str = "") -> Path:
    network = network_t7(tensors)
    return files.write_torch7(path, {table: network, "epoch": 3} if table else network)


def as_old(tensors: dict) -> dict:
    """As Torch7 saved until 2016: kernels as matrices, and 1 / sqrt(variance + eps)."""
    old = {}
    for name, array in tensors.items():
        if name.endswith("running_var"):
            old[name.replace("running_var", "running_std")] = 1 / np.sqrt(array.astype(np.float64) + 1e-5)
        else:
            old[name] = array.reshape(len(array), -1) if array.ndim == 4 else array
    return old


def run(*arguments) -> Path:
    return convert.main([str(argument) for argument in arguments])


def scene(side: int = 128) -> np.ndarray:
    return files.scene(10, {"picture": side})["picture"] * 2 - 1


def complete(weights: Path, noise=None) -> np.ndarray:
    """Our prediction for the scene; the colours under the hole are no one's."""
    network = infer.load(weights)
    image = scene(network.image_px)
    mask = np.zeros_like(image[:, :1])
    mask[MASKS[network.output]] = 1
    image[np.broadcast_to(mask, image.shape) > 0] = 7
    with paddle.no_grad():
        return network(*(each if each is None else paddle.to_tensor(each) for each in (image, mask, noise))).numpy()


def reference(names, downs: int, tensors, side: int = 128, output="center", colour=RELEASE, **options) -> np.ndarray:
    """The published network's prediction for the scene."""
    image = scene(side).astype(np.float64)
    for channel, value in zip(np.moveaxis(image, 1, 0), colour, strict=True):
        channel[MASKS[output]] = value
    return compute(names, downs, tensors, image, **options)


def close(got, wanted):
    assert got.shape == wanted.shape and wanted.std() > 0.05, (got.shape, wanted.shape, wanted.std())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def boyuan(seed: int = 1, names=BOYUAN, **options) -> dict:
    return files.weights(shapes(names, channels("center"), bias=False, **options), seed)


def official(seed: int = 2, names=OFFICIAL, kind: str = "center", **options) -> dict:
    return files.weights(shapes(names, channels(kind), bias=True, **options), seed)


# ---- generators


@pytest.mark.parametrize("legacy", [False, True])
def test_boyuan(tmp_path, capsys, legacy):
    tensors = boyuan()
    published = torch_file(tmp_path / "netG_streetview.pth", tensors, legacy, epoch=b"K\x05")
    written = run(published, tmp_path / "paris.safetensors")
    close(complete(written), reference(BOYUAN, 6, tensors))
    metadata = infer.load(written).metadata
    assert metadata["generator"] == {
        "image_px": 128, "output": "center", "base_channels": 4, "bottleneck": 24, "noise_channels": 0, "overlap_px": 4,
        "mean_colour": [117, 104, 123], "conv_bias": False, "bottleneck_relu": False,
    }  # fmt: skip
    assert (metadata["paper"], metadata["preset"], metadata["step"]) == ("context_encoder", "published", 0)
    assert (metadata["image_px"], metadata["crop"], metadata["holes"]) == (128, "center", "center")
    assert metadata["source"] == "BoyuanJiang/context_encoder_pytorch, netG_streetview.pth"
    assert metadata["licence"] == "MIT" and len(metadata["source_sha256"]) == 64
    shown = capsys.readouterr().out
    assert "47 tensors" in shown and "left out: none" in shown  # 11 and 9 x 4
    assert f"python -m context_encoder.infer --weights {written}" in shown


@pytest.mark.parametrize("names", [BOYUAN, BOYUAN_LATER], ids=["main", "main_encode and main_decode"])
def test_boyuan_of_today(tmp_path, capsys, names):
    """Trained with DataParallel (around all, and around a sequence) and a PyTorch that counts batches."""
    tensors = boyuan(names=names, counter=True)
    parallel = {f"module.{name.replace('.', '.module.', 1)}": array for name, array in tensors.items()}
    optimiser, _ = files.state_dict({"exp_avg": tensors[f"{names[0][0]}.weight"]})
    published = torch_file(tmp_path / "a.pth", parallel, epoch=b"K\x05", optimizer=optimiser)
    close(complete(run(published, tmp_path / "a.safetensors")), reference(names, 6, tensors))
    assert "left out: exp_avg, num_batches_tracked" in capsys.readouterr().out


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("table", ["", "netG"])
def test_official(tmp_path, capsys, old, table):
    tensors = official()
    published = t7_file(tmp_path / "paris_inpaintCenter.t7", as_old(tensors) if old else tensors, table)
    written = run(published, tmp_path / "paris.safetensors")
    close(complete(written), reference(OFFICIAL, 6, tensors))
    metadata = infer.load(written).metadata
    assert metadata["generator"]["conv_bias"] and not metadata["generator"]["bottleneck_relu"]
    assert "pathak22" in metadata["source"] and "not for profit" in metadata["licence"]
    assert "58 tensors" in capsys.readouterr().out  # 11 x 2 and 9 x 4


def test_official_old_variance(tmp_path):
    """1 / std^2 - 1e-5: exactly 0.25 - 1e-5 of 2, and 4 - 1e-5 of 0.5."""
    tensors = as_old(official())
    tensors["modules.1.running_std"] = np.float32([2, 0.5] * 12)
    weights, _ = read_weights(run(t7_file(tmp_path / "a.t7", tensors), tmp_path / "a.safetensors"))
    wanted = np.float32([0.24999, 3.99999] * 12)
    np.testing.assert_array_equal(weights["generator.bottleneck_norm._variance"], wanted)


@pytest.mark.parametrize("kind, names, side", [("whole", OFFICIAL_WHOLE, 128), ("whole 64", OFFICIAL_WHOLE_64, 64)])
def test_official_random_region(tmp_path, kind, names, side):
    tensors = official(names=names, kind=kind)
    written = run(t7_file(tmp_path / "mine.t7", as_old(tensors)), tmp_path / "mine.safetensors")
    close(complete(written), reference(names, 6 if side == 128 else 5, tensors, side, "whole"))
    metadata = infer.load(written).metadata
    assert (metadata["image_px"], metadata["holes"]) == (side, "noise")
    arguments = metadata["generator"]
    assert (arguments["output"], arguments["image_px"], arguments["overlap_px"]) == ("whole", side, 0)


def test_official_noise(tmp_path):
    layer = "modules.0.modules.1.modules.0"
    tensors = official(names=OFFICIAL_NOISE, kind="noise", noise=layer)
    written = run(t7_file(tmp_path / "mine.t7", as_old(tensors)), tmp_path / "mine.safetensors")
    numbers = np.random.default_rng(3).standard_normal((2, NOISE)).astype(np.float32)
    wanted = reference(OFFICIAL_NOISE, 6, tensors, noise=(numbers[:, :, None, None], layer))
    close(complete(written, numbers), wanted)
    arguments = infer.load(written).arguments
    assert (arguments["noise_channels"], arguments["bottleneck"]) == (NOISE, UNITS)


def test_article(tmp_path):
    """Mended by a layer t7, and by further layers in t6."""
    tensors = files.weights(shapes(ARTICLE, channels("center"), bias=True, counter=True), 4)
    wanted = reference(ARTICLE, 6, tensors, bottleneck=relu)
    written = run(torch_file(tmp_path / "generator.pth", tensors), tmp_path / "a.safetensors")
    close(complete(written), wanted)
    arguments = infer.load(written).arguments
    assert arguments["bottleneck_relu"] and arguments["conv_bias"]
    assert abs(wanted - reference(ARTICLE, 6, tensors)).max() > 1e-3  # the leaky one is another
    renamed = {f"t{n}.{m}.": f"t{n - 1 if n > 7 else 6}.{m + 3 * (n == 7)}." for n in range(7, 12) for m in range(2)}
    inside = {}
    for name, array in tensors.items():
        layer = name[: name.rindex(".") + 1]
        inside[name.replace(layer, renamed.get(layer, layer))] = array
    assert "t6.4.weight" in inside and "t11.0.weight" not in inside
    close(complete(run(torch_file(tmp_path / "b.pth", inside), tmp_path / "b.safetensors")), wanted)


def test_colour_of_the_hole(tmp_path):
    tensors = boyuan()
    written = run(torch_file(tmp_path / "a.pth", tensors), tmp_path / "a.safetensors", "--mean-colour", "imagenet")
    colour = [2 * value / 255 - 1 for value in (123, 117, 104)]
    close(complete(written), reference(BOYUAN, 6, tensors, colour=colour))


# ---- discriminators


def judge(weights: Path, side: int, context_px: int = 0, images=None) -> np.ndarray:
    """The logits of two images, by the discriminator as `train` takes it over."""
    network = load_discriminator(weights, {"side_px": side, "context_px": context_px})
    network.eval()
    with paddle.no_grad():
        return network(*map(paddle.to_tensor, images or [scene(side)])).numpy()


@pytest.mark.parametrize(
    "names, kind, bias, side, preset",
    [
        (OFFICIAL_D, "D", True, 64, "paper-center --image-px 128"),
        (OFFICIAL_D_WHOLE, "D whole", True, 128, "paper-random-region --image-px 128"),
        (BOYUAN_D, "D", False, 64, "paper-center --image-px 128"),
        (ARTICLE_D, "D", True, 64, "paper-center --image-px 128"),
    ],
    ids=["official", "official random region", "boyuan", "article"],
)
def test_discriminators(tmp_path, capsys, names, kind, bias, side, preset):
    tensors = files.weights(shapes(names, channels(kind), bias), 5)
    if names[0][0].startswith("modules"):
        published = t7_file(tmp_path / "netD.t7", as_old(tensors))
    else:
        published = torch_file(tmp_path / "netlocalD.pth", tensors, epoch=b"K\x05")
    written = run(published, tmp_path / "d.safetensors")
    wanted = compute(names, len(names), tensors, scene(side).astype(np.float64))[:, :, 0, 0]
    close(judge(written, side), wanted)
    assert f"train {preset} --data-dir DIR --init-discriminator {written}" in capsys.readouterr().out
    with pytest.raises(UserError, match="no Context Encoder"):
        infer.load(written)


def test_conditional_discriminator(tmp_path, capsys):
    """Two 5 x 5 convolutions, one over the image, one over the patch on 32 px of zeros; joined, then as the other."""
    wide = [2 * BASE, BASE, 2 * BASE, 4 * BASE, 8 * BASE, 1]
    parallel = ["modules.0.modules.0.modules.0", "modules.0.modules.1.modules.0"]
    table = {key: shape for name in parallel for key, shape in files.layer(name, BASE, 3, 5).items()}
    tensors = files.weights(table | shapes(OFFICIAL_D_CONTEXT, (wide, []), True), 6)
    written = run(t7_file(tmp_path / "netD.t7", as_old(tensors)), tmp_path / "d.safetensors")
    context, patch = scene(128), scene(64)
    parts = [
        conv(image.astype(np.float64), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 2, padding)
        for image, name, padding in zip((context, patch), parallel, (2, 34), strict=True)
    ]
    wanted = compute(OFFICIAL_D_CONTEXT, 5, tensors, leaky(np.concatenate(parts, 1)))[:, :, 0, 0]
    close(judge(written, 64, 128, [patch, context]), wanted)
    assert "paper-center --image-px 128 --conditional" in capsys.readouterr().out


def test_both_networks_of_one_file(tmp_path, capsys):
    """{netG = …, netD = …}: one file, as `train` writes them."""
    generator, judge_weights = official(), files.weights(shapes(OFFICIAL_D, channels("D"), True), 5)
    content = {"netG": network_t7(generator), "netD": network_t7(judge_weights)}
    written = run(files.write_torch7(tmp_path / "both.t7", content), tmp_path / "both.safetensors")
    close(complete(written), reference(OFFICIAL, 6, generator))
    close(judge(written, 64), compute(OFFICIAL_D, 5, judge_weights, scene(64).astype(np.float64))[:, :, 0, 0])
    shown = capsys.readouterr().out
    assert "infer --weights" in shown and "--init-discriminator" in shown
    twice = files.write_torch7(tmp_path / "twice.t7", {"netG": content["netG"], "netG2": content["netG"]})
    refused(twice, "more than one generator", capsys)


# ---- full width


@pytest.mark.parametrize(
    "names, kind, bias, count",
    [
        (BOYUAN, "center", False, 71_124_544),
        (OFFICIAL, "center", True, 71_130_531),
        (ARTICLE, "center", True, 71_130_531),
        (OFFICIAL_WHOLE, "whole", True, 71_196_259),
        (OFFICIAL_WHOLE_64, "whole 64", True, 71_064_803),
        (BOYUAN_D, "D", False, 2_765_568),
        (OFFICIAL_D, "D", True, 2_766_529),
        (OFFICIAL_D_WHOLE, "D whole", True, 2_832_257),
    ],
)
def test_sizes_of_the_published_networks(names, kind, bias, count):
    """Recognised from tensors that have the published shapes and no memory; every one finds its place."""
    wanted = shapes(names, channels(kind, 64, 4_000), bias)
    learnt = [shape for name, shape in wanted.items() if "running" not in name]
    assert sum(map(prod, learnt)) == count
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in wanted.items()}
    (layers,), strays = convert.find_networks(tensors, Path("a.pth"))
    kind, arguments = convert.recognise(layers, convert.Options(Path("a.pth"), Path("b.safetensors")))
    assert arguments["base_channels"] == 64 and arguments.get("bottleneck", 4_000) == 4_000 and not strays
    ours = mapping.shapes_of(convert.NETWORKS[kind], arguments, Path("a.pth"))
    assert [layers[name]["weight"].shape for name in layers] == [
        shape for name, shape in ours.items() if name.endswith(".weight")
    ]


# ---- refusals


def refused(published: Path, text: str, capsys, *flags, output: str = "out.safetensors"):
    """Exit status 2, one line that says `text`, and nothing written."""
    assert text in helpers.refused(capsys, convert.main, published, published.parent / output, *flags) + "\n"
    assert not (published.parent / "out.safetensors").exists()


def test_strict(tmp_path, capsys):
    """A tensor missing, one too many, or of another shape is named."""
    path = tmp_path / "a.t7"
    tensors = official()
    for name in ("modules.0.modules.0.bias", "modules.0.modules.14.bias", "modules.1.running_mean", "modules.3.weight"):
        refused(t7_file(path, {key: array for key, array in tensors.items() if key != name}), name, capsys)
    for name in ("modules.15.running_var", "modules.0.modules.2.running_mean", "modules.1.running_std"):
        refused(t7_file(path, {**tensors, name: np.ones(3)}), f"belong to no layer: {name}", capsys)
    refused(t7_file(path, {**tensors, "modules.16.weight": np.ones(3)}), "do not make one", capsys)
    wide = {**tensors, "modules.6.weight": np.zeros((32, 17, 4, 4))}
    refused(t7_file(path, wide), "modules.6.weight has shape [32, 17, 4, 4], its place asks [32, 16, 4, 4]", capsys)
    flat = {**tensors, "modules.6.weight": np.zeros((32, 16 * 15))}
    refused(t7_file(path, flat), "modules.6.weight has shape [32, 240]", capsys)
    refused(t7_file(path, {**tensors, "modules.7.running_mean": np.zeros(15)}), "decoder.1.norm._mean", capsys)
    refused(t7_file(path, {**tensors, "modules.3.weight": np.zeros((2, 2, 2))}), "modules.3.weight", capsys)
    refused(t7_file(path, {**as_old(tensors), "modules.1.running_std": np.zeros(24)}), "not above 0", capsys)
    half = {name: array for name, array in tensors.items() if name.startswith("modules.0.")}
    refused(t7_file(path, half), "do not make one", capsys)


def test_strict_state_dict(tmp_path, capsys):
    path = tmp_path / "a.pth"
    tensors = boyuan()
    for name in ("main.0.bias", "main.30.weight", "main.3.gamma", "head.weight"):
        more = {**tensors, name: np.zeros(3, np.float32)}
        refused(torch_file(path, more), name if name != "main.30.weight" else "do not make one", capsys)
    for name in ("main.3.running_var", "main.15.bias"):
        refused(torch_file(path, {key: tensors[key] for key in tensors if key != name}), name, capsys)
    refused(torch_file(path, {key: tensors[key] for key in tensors if key != "main.5.weight"}), "do not make", capsys)
    other = boyuan(names=[("main.0", ""), *((f"main.{n}", f"main.{n + 1}") for n in range(2, 20, 2)), ("main.29", "")])
    other["main.0.weight"] = np.zeros((BASE, 6, 4, 4), np.float32)  # an image and something beside it
    refused(torch_file(path, other), "main.0.weight has shape [4, 6, 4, 4], its place asks [4, 3, 4, 4]", capsys)


def test_pytorch_gan(tmp_path, capsys):
    """Another topology: the reason is told, with DataParallel's prefix too."""
    widths = {0: (8, 3, 4, 4), 2: (8, 8, 4, 4), 14: (24, 64, 1, 1), 15: (24, 64, 4, 4), 27: (3, 8, 3, 3)}
    generator = {f"model.{n}.weight": np.zeros(shape, np.float32) for n, shape in widths.items()}
    refused(torch_file(tmp_path / "g.pth", generator), "PyTorch-GAN's context encoder", capsys)
    refused(torch_file(tmp_path / "g.pth", generator), "its bottleneck is a 1 x 1 convolution", capsys)
    parallel = {f"module.{name}": array for name, array in generator.items()}
    refused(torch_file(tmp_path / "g.pth", parallel, epoch=b"K\x05"), "PyTorch-GAN", capsys)
    widths = {0: (8, 3, 3, 3), 2: (16, 8, 3, 3), 5: (32, 16, 3, 3), 8: (64, 32, 3, 3), 11: (1, 64, 3, 3)}
    discriminator = {f"model.{n}.weight": np.zeros(shape, np.float32) for n, shape in widths.items()}
    refused(torch_file(tmp_path / "d.pth", discriminator), "judges 8 x 8 patches", capsys)


def test_article_as_printed(tmp_path, capsys):
    names = [("t1.0", ""), *((f"t{n}.0", f"t{n}.1") for n in range(2, 10)), ("t10.0", "")]
    down, up = channels("center")
    tensors = files.weights(shapes(names, (down, up[1:]), True), 4)
    refused(torch_file(tmp_path / "a.pth", tensors), "t6 gives 24 channels, t7 takes 32", capsys)


def test_files_of_other_networks(tmp_path, capsys):
    layers = [(f"nn.Module{number}", {}) for number in range(50)]
    for name, array in files.authors().items():
        number, part = name.split(".")
        layers[int(number)][1][part] = array
    glcic = files.write_torch7(tmp_path / "a.t7", {"model": ("nn.Sequential", {"modules": layers}), "mean": [0.5] * 3})
    refused(glcic, "17 convolutions and 16 normalisations do not make one", capsys)
    refused(torch_file(tmp_path / "a.pth", files.authors()), "none of the published Context Encoders", capsys)
    pix2pix = {"model.model.0.weight": np.zeros((4, 3, 4, 4)), "model.model.1.model.1.weight": np.zeros((8, 4, 4, 4))}
    refused(torch_file(tmp_path / "a.pth", pix2pix), "none of the published Context Encoders", capsys)
    refused(torch_file(tmp_path / "a.pth", pix2pix), "model.model.0.weight", capsys)
    refused(torch_file(tmp_path / "empty.pth", {}), "none at all", capsys)
    refused(tmp_path / "nothing.pth", "cannot read", capsys)
    network = ContextEncoder(32, base_channels=8, bottleneck=8)
    ours = save_weights(tmp_path / "ours.safetensors", {"generator": network}, {"paper": "context_encoder"})
    refused(ours, "none of the published Context Encoders", capsys)


def test_huge_sizes_are_not_believed(tmp_path, capsys):
    """A small file whose first layer announces a network of 18 billion weights is refused before any is made."""
    tensors = {**boyuan(), "main.0.weight": np.zeros((4096, 3, 4, 4), np.float32)}
    refused(torch_file(tmp_path / "a.pth", tensors), "main.2.weight has shape [4, 4, 4, 4]", capsys)


# ---- folders, and what is printed to be done next


def test_a_folder_with_one_file(tmp_path):
    (tmp_path / "model").mkdir()
    torch_file(tmp_path / "model/netG_streetview.pth", boyuan())
    written = run(tmp_path / "model", tmp_path / "a.safetensors")
    metadata = read_weights(written)[1]
    assert metadata["source"].endswith("netG_streetview.pth") and metadata["generator"]["base_channels"] == BASE


@pytest.mark.parametrize(
    ("names", "kind", "bias", "verbs"),
    [
        (BOYUAN, "center", False, ["infer"]),
        (BOYUAN_D, "D", False, ["train"]),
        (OFFICIAL_D_WHOLE, "D whole", True, ["train"]),
    ],
    ids=["generator", "center", "whole"],
)
def test_next_commands_work(tmp_path, capsys, monkeypatch, follow, names, kind, bias, verbs):
    """From a path with a space."""
    (tmp_path / "my files").mkdir()
    tensors = files.weights(shapes(names, channels(kind), bias), 4)
    run(torch_file(tmp_path / "my files/a.pth", tensors), tmp_path / "my files/out.safetensors")
    for constant in ("PREVIEW_IMAGES", "VALIDATION_IMAGES", "FINAL_IMAGES"):
        monkeypatch.setattr(ce_train, constant, 1)
    told = capsys.readouterr().out
    commands = follow(told, "--base-channels", "4", "--bottleneck", "8")
    assert [command[2] for command in commands] == [f"context_encoder.{verb}" for verb in verbs]
    assert ("assumed: overlap of 4 px" if verbs == ["infer"] else "assumed: it judges") in told
