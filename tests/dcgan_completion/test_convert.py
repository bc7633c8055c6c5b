"""Published weights brought over compute what their own networks compute.

The networks of the TensorFlow codes and of pytorch/examples are written here in numpy, by their codes' descriptions and
the frameworks' definitions of their layers, channels last. (TensorFlow 2.21 and PyTorch agree with them to 1e-5.) The
tests fill them from a seed at a few channels, write the tensors into files of the published formats, convert, compare.
"""

import hashlib
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.checkpoint.tensors import load_network
from common.checkpoint.weights import read_weights
from common.convert import mapping
from common.errors import UserError
from dcgan_completion import convert
from dcgan_completion.model import Discriminator, Generator
from dcgan_completion.train import load_both
from tests import helpers
from tests.helpers import module

import paddle

TESTS = Path(__file__).parents[1]


bundles = module(TESTS / "common/convert/test_tensorflow_checkpoints.py")  # which knows TensorFlow's files,
torches = module(TESTS / "glcic/fixtures/published_files.py")  # and PyTorch's

Z = 7


# ---- layers by their definitions, channels last


def conv(x, weight, stride, before, size):
    """weight: [height, width, inputs, outputs]. The first window starts `before` pixels outside."""
    out = np.zeros((len(x), size, size, weight.shape[3]))
    for i, j, a, b in np.ndindex(size, size, *weight.shape[:2]):
        row, column = stride * i + a - before, stride * j + b - before
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            out[:, i, j] += x[:, row, column] @ weight[a, b]
    return out


def transposed(x, weight, stride, before, size):
    """What `conv` does to gradients. weight: [height, width, outputs, inputs]."""
    out = np.zeros((len(x), size, size, weight.shape[2]))
    for i, j, a, b in np.ndindex(*x.shape[1:3], *weight.shape[:2]):
        row, column = stride * i + a - before, stride * j + b - before
        if 0 <= row < size and 0 <= column < size:
            out[:, row, column] += x[:, i, j] @ weight[a, b].T
    return out


def same_before(side):
    """TensorFlow's SAME for kernel 5, stride 2, on the larger side: the smaller half of what is missing."""
    return max(0, (-(-side // 2) - 1) * 2 + 5 - side) // 2


def normalise(x, mean, variance, scale, shift):
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def leaky(x):
    return np.maximum(x, 0.2 * x)


# ---- the TensorFlow codes


NORM = ("beta", "gamma", "moving_mean", "moving_variance")


def generator_shapes(channels: list[int], side: int = 4) -> dict[str, tuple]:
    """Of a generator whose images have these channels, from 4 x 4 on."""
    found = {"g_h0_lin/Matrix": (Z, side * side * channels[0]), "g_h0_lin/bias": (side * side * channels[0],)}
    for n, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
        found |= {f"g_bn{n}/{part}": (before,) for part in NORM}
        found |= {f"g_h{n + 1}/w": (5, 5, after, before), f"g_h{n + 1}/biases": (after,)}
    return {f"generator/{name}": shape for name, shape in found.items()}


def discriminator_shapes(base: int = 3, first: int = 1, linear: str = "d_h3_lin") -> dict[str, tuple]:
    """`first`: number of the first normalisation."""
    channels = [3, base, 2 * base, 4 * base, 8 * base]
    found = {f"{linear}/Matrix": (16 * 8 * base, 1), f"{linear}/bias": (1,)}
    for n, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
        found |= {f"d_h{n}_conv/w": (5, 5, before, after), f"d_h{n}_conv/biases": (after,)}
        found |= {f"d_bn{n - 1 + first}/{part}": (after,) for part in NORM if n}
    return {f"discriminator/{name}": shape for name, shape in found.items()}


ARTICLE, WIDE = [16, 8, 4, 2, 3], [16, 16, 8, 4, 3]
RELEASED = generator_shapes(ARTICLE) | discriminator_shapes()
HEAD = generator_shapes(WIDE) | discriminator_shapes(first=0, linear="d_h4_lin")
CARPEDM20 = generator_shapes(ARTICLE) | discriminator_shapes(linear="d_h4_lin")


def fill(shapes: dict[str, tuple], seed: int = 1) -> dict[str, np.ndarray]:
    """Weights that show every mistake: signals of size 1, biases and means that are not 0, scales that are not 1."""
    rng, filled = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        noise = rng.normal(0, 1, shape)
        if len(shape) > 1:
            inputs = prod(shape) / max(shape[-2:]) if "/g_h0" not in name and len(shape) == 4 else shape[0]
            noise *= (3 / max(1, inputs)) ** 0.5
        elif name.endswith(("variance", "running_var")):
            noise = 0.5 + np.abs(noise)
        else:
            noise = 0.4 * noise + (name.endswith("gamma") or "main" in name and name.endswith("weight"))
        filled[name] = noise.astype(np.float32)
    return filled


def points(normal: bool = False) -> np.ndarray:
    rng = np.random.default_rng(8)
    return np.float32(rng.normal(size=(2, Z)) if normal else rng.uniform(-1, 1, (2, Z)))


def images(side: int = 64) -> np.ndarray:
    return np.float32(np.random.default_rng(9).uniform(-1, 1, (2, 3, side, side)))


def tensorflow_generator(tensors, z):
    """[N, Z] -> [N, 3, H, W], with the averages of training."""
    given = {name.rpartition("generator/")[2]: np.float64(array) for name, array in tensors.items()}
    levels = sum(name.startswith("g_h") and name.endswith("/w") for name in given)
    x = z.astype(np.float64) @ given["g_h0_lin/Matrix"] + given["g_h0_lin/bias"]
    x = x.reshape(len(z), 4, 4, -1)
    for n in range(levels):
        shift, scale, mean, variance = (given[f"g_bn{n}/{part}"] for part in NORM)
        x, side = np.maximum(normalise(x, mean, variance, scale, shift), 0), 8 << n
        x = transposed(x, given[f"g_h{n + 1}/w"], 2, same_before(side), side) + given[f"g_h{n + 1}/biases"]
    return np.tanh(x).transpose(0, 3, 1, 2)


def tensorflow_discriminator(tensors, image, first=1, linear="d_h3_lin"):
    """[N, 3, 64, 64] -> logits [N, 1]."""
    given = {name.rpartition("discriminator/")[2]: np.float64(array) for name, array in tensors.items()}
    x = image.astype(np.float64).transpose(0, 2, 3, 1)
    for n in range(4):
        x = conv(x, given[f"d_h{n}_conv/w"], 2, same_before(64 >> n), 32 >> n) + given[f"d_h{n}_conv/biases"]
        if n:
            shift, scale, mean, variance = (given[f"d_bn{n - 1 + first}/{part}"] for part in NORM)
            x = normalise(x, mean, variance, scale, shift)
        x = leaky(x)
    return x.reshape(len(image), -1) @ given[f"{linear}/Matrix"] + given[f"{linear}/bias"]


# ---- pytorch/examples


def torch_shapes(kind: str, widths: list[int]) -> dict[str, tuple]:
    """Of netG ([Z, 8 base, …, 3]) or netD ([3, base, …, 1]): sequences of layers with and without tensors."""
    found, number = {}, 0
    for n, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        last = n == len(widths) - 2
        found[f"main.{number}.weight"] = (*((before, after) if kind == "G" else (after, before)), 4, 4)
        number += 1
        if not last and (kind == "G" or n):
            found |= {f"main.{number}.{part}": (after,) for part in ("weight", "bias", "running_mean", "running_var")}
            number += 1
        number += 1  # the activation
    return found


def torch_network(kind: str, tensors, x):
    """The published network, without the discriminator's sigmoid; [N, channels, H, W]."""
    x, number, count = x.astype(np.float64).transpose(0, 2, 3, 1), 0, sum(a.ndim == 4 for a in tensors.values())
    for n in range(count):
        weight = np.float64(tensors[f"main.{number}.weight"])
        if kind == "G":  # [inputs, outputs, height, width]
            x = transposed(x, weight.transpose(2, 3, 1, 0), 2 if n else 1, 1 if n else 0, 4 << n)
        else:
            last = n == count - 1
            x = conv(
                x, weight.transpose(2, 3, 1, 0), 1 if last else 2, 0 if last else 1, x.shape[1] // (4 - 2 * (not last))
            )
        number += 1
        if f"main.{number}.running_mean" in tensors:
            parts = ("running_mean", "running_var", "weight", "bias")
            x = normalise(x, *(np.float64(tensors[f"main.{number}.{part}"]) for part in parts))
            number += 1
        if n < count - 1:
            x = np.maximum(x, 0) if kind == "G" else leaky(x)
        number += 1
    return (np.tanh(x) if kind == "G" else x).transpose(0, 3, 1, 2)


NET_G, NET_D = torch_shapes("G", [Z, 16, 8, 4, 2, 3]), torch_shapes("D", [3, 3, 6, 12, 24, 1])


def torch_file(path: Path, tensors, legacy: bool = False) -> Path:
    content, storages = torches.state_dict(tensors, legacy)
    return (torches.write_legacy if legacy else torches.write_zip)(path, content, storages)


# ---- runs


def run(*arguments) -> Path:
    return convert.main([str(argument) for argument in arguments])


def bundle(folder: Path, tensors, name: str = "DCGAN.model-60502", crc: bool = False) -> Path:
    return bundles.write_bundle(folder / name, tensors, crc=crc)


def network(written: Path, kind: str):
    tensors, metadata = read_weights(written)
    found = {"generator": Generator, "discriminator": Discriminator}[kind](**metadata[kind])
    load_network(found, tensors, kind, written)
    found.eval()
    return found


def compute(written: Path, kind: str, x) -> np.ndarray:
    with paddle.no_grad():
        return network(written, kind)(paddle.to_tensor(x)).numpy()


def close(got, wanted):
    assert got.shape == wanted.shape and wanted.std() > 0.1, (got.shape, wanted.shape, wanted.std())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def refused(capsys, *arguments) -> str:
    return helpers.refused(capsys, convert.main, *arguments)


# ---- what is brought over


def test_released_checkpoint(tmp_path, capsys):
    tensors = fill(RELEASED)
    bundle(tmp_path, tensors, crc=True)
    written = run(tmp_path / "DCGAN.model-60502.index", tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    close(compute(written, "discriminator", images()), tensorflow_discriminator(tensors, images()))
    metadata = read_weights(written)[1]
    assert metadata["generator"] == {"variant": "article", "image_px": 64, "base_channels": 2, "z_channels": Z}
    assert metadata["discriminator"] == {"variant": "article", "image_px": 64, "base_channels": 3}
    assert (metadata["paper"], metadata["preset"], metadata["step"]) == ("dcgan_completion", "published", 60502)
    assert (metadata["image_px"], metadata["crop"], metadata["z"], metadata["licence"]) == (
        64,
        "center108",
        "uniform",
        "MIT",
    )
    names = ["DCGAN.model-60502.index", "DCGAN.model-60502.data-00000-of-00001"]
    assert metadata["source"] == f"bamos/dcgan-completion.tensorflow, {', '.join(names)}"
    content = b"".join((tmp_path / name).read_bytes() for name in names)
    assert metadata["source_sha256"] == hashlib.sha256(content).hexdigest()
    shown = capsys.readouterr().out
    assert "recognised: bamos" in shown and "mapped: 48 tensors; left out: none" in shown
    assert f"python -m dcgan_completion.infer --weights {written}" in shown and "U(-1, 1)" in shown
    assert "no discriminator" not in shown
    assert load_both(written).keys() == {"generator", "discriminator"}  # to train on from there


@pytest.mark.parametrize("name", ["DCGAN.model-502", "DCGAN.model-502.data-00000-of-00001", "DCGAN.model-502.meta"])
def test_step_from_any_name(tmp_path, name):
    bundle(tmp_path, fill(RELEASED), "DCGAN.model-502")
    assert read_weights(run(tmp_path / name, tmp_path / "a.safetensors"))[1]["step"] == 502


def test_last_revision(tmp_path, capsys):
    tensors = fill(HEAD, 2)
    written = run(bundle(tmp_path, tensors, "DCGAN.model"), tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    wanted = tensorflow_discriminator(tensors, images(), first=0, linear="d_h4_lin")
    close(compute(written, "discriminator", images()), wanted)
    metadata = read_weights(written)[1]
    assert metadata["generator"] == {"variant": "wide", "image_px": 64, "base_channels": 2, "z_channels": Z}
    assert metadata["discriminator"] == {"variant": "wide", "image_px": 64, "base_channels": 3}
    assert metadata["step"] == 0 and "recognised: bamos" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [[16, 16, 8, 3], [16, 16, 8, 4, 2, 3]], ids=["32 px", "128 px"])
def test_last_revision_at_other_sizes(tmp_path, capsys, channels):
    """Its discriminator is always that for 64 px."""
    tensors = fill(generator_shapes(channels) | discriminator_shapes(first=0, linear="d_h4_lin"), 3)
    written = run(bundle(tmp_path, tensors), tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    arrays, metadata = read_weights(written)
    px = 2 << len(channels)
    assert (metadata["image_px"], metadata["generator"]["image_px"], metadata["generator"]["variant"]) == (
        px,
        px,
        "wide",
    )
    assert "discriminator" not in metadata and not any(name.startswith("disc") for name in arrays)
    shown = capsys.readouterr().out
    assert f"made for 64 px and not for {px}" in shown and "contextual loss alone" in shown


def test_carpedm20(tmp_path, capsys):
    tensors = fill(CARPEDM20, 4)
    written = run(bundle(tmp_path, tensors, "DCGAN.model-9"), tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    close(compute(written, "discriminator", images()), tensorflow_discriminator(tensors, images(), 1, "d_h4_lin"))
    assert "recognised: carpedm20" in capsys.readouterr().out


def test_ones_own_training(tmp_path, capsys):
    """The article's code saves its optimiser too, and its first revisions have no scopes."""
    tensors = {name.partition("/")[2]: array for name, array in fill(RELEASED).items()}
    beside = {f"{name}/{slot}": array for name, array in tensors.items() for slot in ("Adam", "Adam_1")}
    beside |= {name: np.float32(0.5) for name in ("beta1_power", "beta2_power", "beta1_power_1", "beta2_power_1")}
    beside["global_step"] = np.array(502, np.int64)
    written = run(bundle(tmp_path, tensors | beside), tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    shown = capsys.readouterr().out
    kinds = "Adam, Adam_1, beta1_power, beta1_power_1, beta2_power, beta2_power_1, global_step"
    assert f"mapped: 48 tensors; left out: {kinds}" in shown


def test_generator_alone(tmp_path, capsys):
    tensors = fill(generator_shapes(ARTICLE))
    written = run(bundle(tmp_path, tensors), tmp_path / "faces.safetensors")
    close(compute(written, "generator", points()), tensorflow_generator(tensors, points()))
    assert "discriminator" not in read_weights(written)[1] and "no discriminator" in capsys.readouterr().out


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pytorch_examples(tmp_path, capsys, legacy, prefix):
    g, d = fill(NET_G, 5), fill(NET_D, 6)
    counter = {f"{prefix}main.4.num_batches_tracked": np.array(3, np.int64)}
    files = [
        torch_file(tmp_path / f"{name}.pth", {prefix + key: value for key, value in tensors.items()} | counter, legacy)
        for name, tensors in (("netG", g), ("netD", d))
    ]
    written = run(files[0], tmp_path / "a.safetensors", "--discriminator", files[1])
    wanted = torch_network("G", g, points(True)[:, :, None, None])
    close(compute(written, "generator", points(True)), wanted)
    close(compute(written, "discriminator", images()), torch_network("D", d, images())[..., 0, 0])
    metadata = read_weights(written)[1]
    assert metadata["generator"] == {"variant": "4x4", "image_px": 64, "base_channels": 2, "z_channels": Z}
    assert metadata["discriminator"] == {"variant": "4x4", "image_px": 64, "base_channels": 3}
    assert (metadata["step"], metadata["image_px"], metadata["crop"], metadata["z"]) == (0, 64, "center", "normal")
    assert metadata["source"] == "pytorch/examples, netG.pth, netD.pth" and metadata["licence"] == "BSD-3-Clause"
    assert metadata["source_sha256"] == hashlib.sha256(files[0].read_bytes() + files[1].read_bytes()).hexdigest()
    shown = capsys.readouterr().out
    assert "mapped: 21 tensors; left out: num_batches_tracked" in shown  # 5 and 4 x 4
    assert "mapped: 17 tensors" in shown and "N(0, 1)" in shown  # 5 and 3 x 4


@pytest.mark.parametrize("widths", [[Z, 16, 8, 3], [Z, 32, 16, 8, 4, 2, 3]], ids=["16 px", "128 px"])
def test_pytorch_examples_of_other_sizes(tmp_path, widths):
    tensors = fill(torch_shapes("G", widths), 7)
    save_file(tensors, tmp_path / "netG.safetensors")
    written = run(tmp_path / "netG.safetensors", tmp_path / "a.safetensors")
    close(compute(written, "generator", points(True)), torch_network("G", tensors, points(True)[:, :, None, None]))
    assert read_weights(written)[1]["image_px"] == 4 << len(widths) - 2


# ---- the released file at its size


SPEC = {  # as its index has them
    **{f"discriminator/d_bn{n}/{part}": (64 << n,) for n in (1, 2, 3) for part in NORM},
    "discriminator/d_h0_conv/biases": (64,),
    "discriminator/d_h0_conv/w": (5, 5, 3, 64),
    "discriminator/d_h1_conv/biases": (128,),
    "discriminator/d_h1_conv/w": (5, 5, 64, 128),
    "discriminator/d_h2_conv/biases": (256,),
    "discriminator/d_h2_conv/w": (5, 5, 128, 256),
    "discriminator/d_h3_conv/biases": (512,),
    "discriminator/d_h3_conv/w": (5, 5, 256, 512),
    "discriminator/d_h3_lin/Matrix": (8192, 1),
    "discriminator/d_h3_lin/bias": (1,),
    **{f"generator/g_bn{n}/{part}": (512 >> n,) for n in (0, 1, 2, 3) for part in NORM},
    "generator/g_h0_lin/Matrix": (100, 8192),
    "generator/g_h0_lin/bias": (8192,),
    "generator/g_h1/biases": (256,),
    "generator/g_h1/w": (5, 5, 256, 512),
    "generator/g_h2/biases": (128,),
    "generator/g_h2/w": (5, 5, 128, 256),
    "generator/g_h3/biases": (64,),
    "generator/g_h3/w": (5, 5, 64, 128),
    "generator/g_h4/biases": (3,),
    "generator/g_h4/w": (5, 5, 3, 64),
}


def test_the_released_file_at_its_size(tmp_path, capsys):
    assert len(SPEC) == 48 and 4 * sum(map(prod, SPEC.values())) == 37_822_480
    published = bundle(tmp_path, {name: np.zeros(shape, np.float32) for name, shape in SPEC.items()})
    assert (tmp_path / "DCGAN.model-60502.data-00000-of-00001").stat().st_size == 37_822_480
    metadata = read_weights(run(published, tmp_path / "a.safetensors"))[1]
    assert metadata["generator"] == Generator().arguments and metadata["discriminator"] == Discriminator().arguments
    shown = capsys.readouterr().out
    assert "generator, 5,135,363 parameters" in shown and "discriminator, 4,316,545 parameters" in shown


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
@pytest.mark.parametrize("variant", ["article", "wide", "4x4"])
@pytest.mark.parametrize("px", [8, 64, 256])
def test_shapes_are_the_networks(kind, variant, px):
    made = convert.NETWORKS[kind](variant, px, 2)
    wanted = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    assert mapping.shapes_of(convert.NETWORKS[kind], made.arguments, Path("a.file")) == wanted


# ---- what is refused


def test_every_missing_tensor_is_named(tmp_path):
    out, tensors = tmp_path / "a.safetensors", fill(RELEASED)
    for name in tensors:
        path = bundle(tmp_path, {key: value for key, value in tensors.items() if key != name})
        with pytest.raises(UserError) as problem:
            convert.convert(convert.Options(path, out))
        told = {
            "generator/g_h4/w": "g_h3/w has shape [5, 5, 2, 4], its place asks [5, 5, 3, 4]",  # as the last one
            "discriminator/d_h3_conv/w": "d_h3_lin has 384 features, where 4 x 4 of 12 channels are 192",
        }
        assert told.get(name, f"lacks the tensor {name.partition('/')[2]}") in str(problem.value)
        assert "\n" not in str(problem.value) and not out.exists()


def test_every_misshapen_tensor_is_named(tmp_path):
    out, tensors = tmp_path / "a.safetensors", fill(RELEASED)
    for name, array in tensors.items():
        path = bundle(tmp_path, tensors | {name: np.concatenate([array, array], -1)})
        with pytest.raises(UserError) as problem:
            convert.convert(convert.Options(path, out))
        assert "\n" not in str(problem.value) and not out.exists()
        # These tell what sizes others must have, which then have not.
        told = {
            "generator/g_h0_lin/Matrix": "g_h0_lin has 512 features",
            "generator/g_h1/w": "g_h0_lin has 256 features",
            "discriminator/d_h0_conv/w": "d_h0_conv/biases has shape [3], its place asks [6]",
            "discriminator/d_h3_conv/w": "d_h3_lin has 384 features",
        }
        assert told.get(name, f"{name.partition('/')[2]} has shape") in str(problem.value)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"generator/g_h5x/w": (2,)}, "belong to no layer: g_h5x/w"),
        ({"discriminator/d_h4_conv/w": (5, 5, 24, 24)}, "d_h"),  # a fifth
        ({"generator/g_bn9/ExponentialMovingAverage": (2,)}, "belong to no layer: g_bn9/"),
        ({"encoder/w": (2,)}, "belong to no layer: encoder/w"),
        ({"g_h1/biases": (8,)}, "two networks of the same names"),
        (generator_shapes(ARTICLE, side=7), "g_h0_lin has 784 features, where 4 x 4 of 16 channels are 256"),
        (
            {"generator/g_h4/w": (5, 5, 1, 2), "generator/g_h4/biases": (1,)},
            "[5, 5, 1, 2], its place asks [5, 5, 3, 2]",
        ),
        ({"generator/g_h1/w": (5, 5, 12, 16)}, "g_h1/w has shape [5, 5, 12, 16], its place asks [5, 5, 8, 16]"),
        ({"generator/g_h1/w": (4, 4, 8, 16)}, "g_h1/w has shape [4, 4, 8, 16]"),
        ({"generator/g_h1/w": (5, 5, 0, 16)}, "g_h1/w has shape [5, 5, 0, 16]"),
        ({"generator/g_h0_lin/Matrix": (Z * 256,)}, "g_h0_lin/Matrix has shape [1792], its place asks 2 dimensions"),
        ({f"generator/g_h{n}/w": (5, 5, 3, 3) for n in range(5, 12)}, "holds no DCGAN"),
    ],
)
def test_other_networks(tmp_path, capsys, change, told):
    path = bundle(tmp_path, fill(RELEASED | change))
    assert told in refused(capsys, path, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_gigantic_networks_are_not_built(tmp_path, capsys):
    """2 million channels in the first convolution alone: the others would take terabytes."""
    wrong = {"discriminator/d_h0_conv/w": (5, 5, 3, 20_000)}
    assert "d_h0_conv/biases" in refused(capsys, bundle(tmp_path, fill(RELEASED | wrong)), tmp_path / "a.safetensors")


def test_whole_numbers_are_no_weights(tmp_path, capsys):
    tensors = fill(RELEASED)
    tensors["generator/g_h2/biases"] = np.array([1, 2, 3, 4], np.int32)
    assert "g_h2/biases holds int32" in refused(capsys, bundle(tmp_path, tensors), tmp_path / "a.safetensors")


def test_files_that_do_not_belong_together(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    g, d = (torch_file(tmp_path / f"net{kind}.pth", fill(shapes)) for kind, shapes in (("G", NET_G), ("D", NET_D)))
    small = torch_file(tmp_path / "small.pth", fill(torch_shapes("D", [3, 3, 6, 12, 1])))
    own = bundle(tmp_path, fill(RELEASED))
    alone = bundle(tmp_path, fill(generator_shapes(ARTICLE)), "G.model-1")
    assert "name the generator's file first" in refused(capsys, d, out)
    assert "name the generator's file first" in refused(capsys, d, out, "--discriminator", g)
    assert "holds a generator of pytorch" in refused(capsys, g, out, "--discriminator", g)
    assert "already holds a generator and a discriminator" in refused(capsys, own, out, "--discriminator", d)
    assert "already holds a generator of bamos" in refused(capsys, alone, out, "--discriminator", d)
    assert "makes images of 64 px" in refused(capsys, g, out, "--discriminator", small)
    assert "cannot read" in refused(capsys, g, out, "--discriminator", tmp_path / "nothing.pth")
    assert not out.exists()


@pytest.mark.parametrize(
    "shapes, told",
    [
        (
            NET_G | {"main.12.weight": (2, 1, 4, 4)},
            "main.12.weight has shape [2, 1, 4, 4], its place asks [2, 3, 4, 4]",
        ),
        (NET_G | {"main.0.bias": (16,)}, "belong to no layer: main.0.bias"),
        (NET_G | {"main.0.weight": (Z, 16, 7, 7)}, "main.0.weight has shape"),
        (NET_G | {"head.weight": (3, 3)}, "belong to no layer: head.weight"),
        (NET_D | {"main.0.weight": (64, 1, 4, 4)}, "main.0.weight has shape [64, 1, 4, 4]"),
        (torch_shapes("D", [3, 3, 6, 12, 24, 48, 1]), "main.11.weight has shape [48, 24, 4, 4]"),  # grows on at 128 px
        ({"main.0.weight": (4, 3, 4, 4)}, "holds no DCGAN"),
        ({f"main.{n}.weight": (4, 4, 4, 4) for n in (0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29)}, "holds no DCGAN"),
        ({"conv1.weight": (4, 3, 4, 4)}, "none of the published DCGANs"),
        ({}, "its first tensors are none at all"),
    ],
)
def test_other_torch_networks(tmp_path, capsys, shapes, told):
    assert told in refused(capsys, torch_file(tmp_path / "net.pth", fill(shapes)), tmp_path / "a.safetensors")


def test_missing_parts_of_torch_networks(tmp_path, capsys):
    for name in ("main.4.running_var", "main.6.weight", "main.1.bias"):
        tensors = {key: value for key, value in fill(NET_G).items() if key != name}
        path = torch_file(tmp_path / "net.pth", tensors)
        assert f"lacks the tensor {name}" in refused(capsys, path, tmp_path / "a.safetensors")


def test_files_that_are_none(tmp_path, capsys):
    (tmp_path / "dcgan-100.pb").write_bytes(b"\n\x0f\n\x01z\x12\x0bPlaceholder")
    for path, told in [
        (tmp_path / "dcgan-100.pb", "no weights file of a known kind"),
        (tmp_path / "DCGAN.model-1", "cannot read"),
        (tmp_path / "DCGAN.model-1.index", "there is no"),
        (tmp_path, "there is no weights file in the folder"),
    ]:
        assert told in refused(capsys, path, tmp_path / "a.safetensors")
    published = bundle(tmp_path, fill(RELEASED))
    assert "ends in .safetensors" in refused(capsys, published, tmp_path / "a.pdparams")
    save_file(fill(NET_G), tmp_path / "g.safetensors")
    before = (tmp_path / "g.safetensors").read_bytes()
    assert "name another file" in refused(capsys, tmp_path / "g.safetensors", tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").read_bytes() == before
    (tmp_path / "file").touch()
    assert "cannot write" in refused(capsys, published, tmp_path / "file" / "a.safetensors")
    (tmp_path / "DCGAN.model-60502.data-00000-of-00001").unlink()
    assert "which holds the numbers" in refused(capsys, published, tmp_path / "a.safetensors")


# ---- folders, and what is printed to be done next


def test_folders(tmp_path, capsys):
    """A checkpoint's, by its list or its one index; one of pytorch/examples; with several files one has to be named."""
    tensors, own = fill(RELEASED), tmp_path / "checkpoint"
    own.mkdir()
    path = bundle(own, tensors, "DCGAN.model-60502")
    wanted, metadata = read_weights(run(path, tmp_path / "a.safetensors"))
    bundle(own, fill(RELEASED, 3), "DCGAN.model-9")
    assert "holds 2 checkpoints" in refused(capsys, own, tmp_path / "b.safetensors")
    (own / "checkpoint").write_text('model_checkpoint_path: "DCGAN.model-60502"')
    for published in (own, own / "checkpoint"):
        found, told = read_weights(run(published, tmp_path / "b.safetensors"))
        assert told == metadata and told["step"] == 60502
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted) and found.keys() == wanted.keys()
    for name, kind in (("G", NET_G), ("D", NET_D)):
        (tmp_path / name).mkdir()
        torch_file(tmp_path / name / f"net{name}_epoch_24.pth", fill(kind))
    both = run(tmp_path / "G", tmp_path / "c.safetensors", "--discriminator", tmp_path / "D")
    assert {"generator", "discriminator"} <= read_weights(both)[1].keys()
    torch_file(tmp_path / "G/netD_epoch_24.pth", fill(NET_D))
    told = refused(capsys, tmp_path / "G", tmp_path / "d.safetensors")
    assert "2 weights files (netD_epoch_24.pth, netG_epoch_24.pth)" in told
    (tmp_path / "empty").mkdir()
    assert "no weights file in the folder" in refused(capsys, tmp_path / "empty", tmp_path / "d.safetensors")


@pytest.mark.parametrize("shapes", [RELEASED, NET_G], ids=["bamos", "netG"])
def test_next_commands_work(tmp_path, capsys, follow, shapes):
    """From a path with a space; with a discriminator and without."""
    (tmp_path / "my files").mkdir()
    tensors, folder = fill(shapes), tmp_path / "my files"
    published = bundle(folder, tensors) if shapes is RELEASED else torch_file(folder / "netG.pth", tensors)
    run(published, folder / "a.safetensors")
    told = capsys.readouterr().out
    assert ("assumed: z drawn from U(-1, 1)" in told) is (shapes is RELEASED) and "assumed: trained on faces" in told
    assert [command[2] for command in follow(told, search=("--steps", "2"))] == ["dcgan_completion.infer"]
