"""Published DCGAN weights become ours; what a file holds is recognised by the names and shapes of its tensors.

python -m dcgan_completion.convert PUBLISHED OUT.safetensors

python -m dcgan_completion.convert netG.pth OUT.safetensors --discriminator netD.pth

| published file | codebase | what differs from our networks |
|---|---|---|
| `DCGAN.model-60502`, one's own | bamos/dcgan-completion.tensorflow to June 2017 | TensorFlow's order of axes |
| one's own `DCGAN.model-…` | its last revision: variant `wide` | the same; other names |
| one's own `DCGAN.model-…` at 64 px | carpedm20/DCGAN-tensorflow | the same; other names |
| `netG….pth`, `netD….pth` | pytorch/examples: variant `4x4` | nothing; z comes from N(0, 1) |
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from common.checkpoint import build_network, load_network, save_published
from common.errors import UserError, one_line_errors
from common.tf_weights import checkpoint_files, is_checkpoint, read_checkpoint
from common.torch_weights import read_published
from dcgan_completion.model import Discriminator, Generator, doublings

Tensors = dict[str, np.ndarray]
Layers = dict[str, str]
"""our name of a layer -> the published one"""

NETWORKS = {"generator": Generator, "discriminator": Discriminator}
MOST_LEVELS = 8  # 1024 px

# Scopes came late to the TensorFlow codes; before, and since, all names of a network begin with its letter.
SCOPE = re.compile(r"^(generator|discriminator)/(?=[gd]_)")
TRAINING = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step)|.*\.num_batches_tracked")
NORM = {"weight": "gamma", "bias": "beta", "_mean": "moving_mean", "_variance": "moving_variance"}
TORCH = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}


@dataclass(frozen=True)
class Source:
    """What is known of a codebase beside its tensors."""

    codebase: str
    licence: str
    crop: str
    z: str
    """uniform from U(-1, 1), or normal from N(0, 1)"""


BAMOS = Source("bamos/dcgan-completion.tensorflow", "MIT", "center108", "uniform")
CARPEDM20 = Source("carpedm20/DCGAN-tensorflow", "MIT", "center108", "uniform")
PYTORCH = Source("pytorch/examples", "BSD-3-Clause", "center", "normal")


@dataclass(frozen=True)
class Options:
    """Bring published weights over."""

    published: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PUBLISHED")]
    """a TensorFlow checkpoint (DCGAN.model-60502, or one of its files), or a .pth, .pt or .safetensors file"""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.safetensors")]
    """the .safetensors file to write"""
    discriminator: Path | None = None
    """the discriminator's file, where it is another one (netD.pth)"""


def convert(options: Options) -> Path:
    """Writes the networks that published files hold into one file, and prints what was recognised and mapped.

    Raises:
        UserError: a file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    path, beside = options.published, options.discriminator
    if options.output.suffix != ".safetensors" or options.output in (path, beside):
        raise UserError(f"cannot write {options.output}: name another file, one that ends in .safetensors")
    networks, source = read(path)
    if "generator" not in networks:
        raise UserError(f"{path} holds a discriminator; name the generator's file first, and it with --discriminator")
    if beside:
        others, other = read(beside)
        if "discriminator" in networks or list(others) != ["discriminator"] or other.codebase != source.codebase:
            raise UserError(
                f"--discriminator {beside} holds {named(others)} of {other.codebase}; {path} already holds "
                f"{named(networks)} of {source.codebase}"
            )
        networks |= others
    sides = {kind: network.arguments["image_px"] for kind, network in networks.items()}
    if len(set(sides.values())) > 1:
        if source is PYTORCH:
            raise UserError(f"the generator makes pictures of {sides['generator']} px, the discriminator judges others")
        # The code's discriminator has four convolutions at every size, and then takes any 8192 features for a picture.
        del networks["discriminator"]
        print(f"left out: the discriminator, which is made for 64 px and not for {sides['generator']}")
    return write(networks, source, options)


def named(networks: Iterable[str]) -> str:
    return " and ".join(f"a {kind}" for kind in networks)


def read(path: Path) -> tuple[dict, Source]:
    """The networks that a file holds. Every tensor finds its place, or is known to serve training only."""
    tensors = read_checkpoint(path) if is_checkpoint(path) else read_published(path)
    left_out = [name for name in tensors if TRAINING.fullmatch(name)]
    bare = [SCOPE.sub("", name).removeprefix("module.") for name in tensors]  # `module.` is DataParallel's
    if len(set(bare)) < len(bare):
        raise UserError(f"{path} holds two networks of the same names")
    given = {name: array for name, array in zip(bare, tensors.values(), strict=True) if not TRAINING.fullmatch(name)}
    source, found = recognise(given, path)
    number = len(given)
    print(f"recognised: {source.codebase}, {number} tensors; licence: {source.licence}")
    networks = {kind: build(kind, *found[kind], given, path) for kind in found}
    if given:
        raise UserError(f"{path} holds tensors that belong to no layer: {listing(given)}")
    left_out = sorted({re.split(r"[./]", name)[-1] for name in left_out})
    print(f"mapped: {number} tensors; left out: {', '.join(left_out) or 'none'}")
    return networks, source


def listing(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# ---- what the file holds


def recognise(given: Tensors, path: Path) -> tuple[Source, dict[str, tuple[dict, Layers]]]:
    """(codebase, arguments and layers of each network). Raises UserError if it is no published DCGAN."""
    if "main.0.weight" in given:
        return PYTORCH, pytorch_network(given, path)
    found = {}
    if any(name.startswith("g_") for name in given):
        found["generator"] = tensorflow_generator(given, path)
    if any(name.startswith("d_") for name in given):
        found["discriminator"] = tensorflow_discriminator(given, path)
    if not found:
        raise UserError(
            f"{path} holds none of the published DCGANs (DCGAN.model-60502 and its like, pytorch/examples' netG and "
            f"netD); its first tensors are {listing(given) or 'none at all'}"
        )
    layers = found.get("discriminator", ({}, {}))[1]
    late_names = layers.get("linear") == "d_h4_lin" and layers.get("norm1") == "d_bn1"
    return CARPEDM20 if late_names else BAMOS, found


def tensorflow_generator(given: Tensors, path: Path) -> tuple[dict, Layers]:
    """(arguments of our Generator, its layers), from TensorFlow's names."""
    levels = how_many(given, "g_h{}/w", 1, path)
    _, _, outputs, inputs = shape_of(given, "g_h1/w", 4, path)
    numbers, features = shape_of(given, "g_h0_lin/Matrix", 2, path)
    refuse_other_start("g_h0_lin", features, inputs, path)
    layers = {"linear": "g_h0_lin"}
    for level in range(levels):
        layers |= {f"norm{level}": f"g_bn{level}", f"deconv{level + 1}": f"g_h{level + 1}"}
    return {
        "variant": "wide" if levels > 1 and outputs == inputs else "article",
        "image_px": 4 << levels,
        "base_channels": inputs // 8,
        "z_channels": numbers,
    }, layers


def tensorflow_discriminator(given: Tensors, path: Path) -> tuple[dict, Layers]:
    """(arguments of our Discriminator, its layers), from TensorFlow's names."""
    levels = how_many(given, "d_h{}_conv/w", 0, path)
    *_, base = shape_of(given, "d_h0_conv/w", 4, path)
    *_, outputs = shape_of(given, f"d_h{levels - 1}_conv/w", 4, path)
    # The released checkpoint's last layer has the number of the one before it; later revisions count on.
    linear = f"d_h{levels}_lin" if f"d_h{levels}_lin/Matrix" in given else f"d_h{levels - 1}_lin"
    features, _ = shape_of(given, f"{linear}/Matrix", 2, path)
    refuse_other_start(linear, features, outputs, path)
    first = 0 if "d_bn0/gamma" in given else 1  # of the normalisations, in the last revision and before
    layers = {f"conv{level}": f"d_h{level}_conv" for level in range(levels)} | {"linear": linear}
    layers |= {f"norm{level}": f"d_bn{level - 1 + first}" for level in range(1, levels)}
    return {"variant": "article" if first else "wide", "image_px": 4 << levels, "base_channels": base}, layers


def refuse_other_start(layer: str, features: int, channels: int, path: Path) -> None:
    """Raises UserError if a linear layer does not lead to, or from, 4 x 4."""
    if features != 16 * channels:
        raise UserError(
            f"{path}: {layer} has {features} features, where 4 x 4 of {channels} channels are {16 * channels}; these "
            "networks were trained for pictures of another size than 64 px, or with labels, and have no like here"
        )


def pytorch_network(given: Tensors, path: Path) -> dict[str, tuple[dict, Layers]]:
    """The one network of a file of pytorch/examples: a sequence of layers, `main.0` and so on.

    A generator's are convolution, normalisation, ReLU, … convolution; a discriminator's first convolution has no
    normalisation.
    """
    if "main.1.weight" in given:
        levels = how_many(given, "main.{}.weight", 3, path, 3)
        numbers, outputs, *_ = shape_of(given, "main.0.weight", 4, path)
        layers = {f"deconv{level}": f"main.{3 * level}" for level in range(levels + 1)}
        layers |= {f"norm{level}": f"main.{3 * level + 1}" for level in range(levels)}
        arguments = {"image_px": 4 << levels, "base_channels": outputs // 8, "z_channels": numbers}
        return {"generator": ({"variant": "4x4", **arguments}, layers)}
    levels = how_many(given, "main.{}.weight", 2, path, 3)
    base, *_ = shape_of(given, "main.0.weight", 4, path)
    layers = {"conv0": "main.0"} | {f"conv{level}": f"main.{3 * level - 1}" for level in range(1, levels + 1)}
    layers |= {f"norm{level}": f"main.{3 * level}" for level in range(1, levels)}
    return {"discriminator": ({"variant": "4x4", "image_px": 4 << levels, "base_channels": base}, layers)}


def how_many(given: Tensors, name: str, first: int, path: Path, step: int = 1) -> int:
    """Layers with tensors of names numbered `first`, `first + step`, … Raises UserError if no network has so many."""
    found = [n for n in range(MOST_LEVELS + 1) if name.format(first + n * step) in given]
    levels = found[-1] + 1 if found else 0
    if not 1 <= levels <= MOST_LEVELS:
        many = f"more than {MOST_LEVELS}" if found else "no"
        raise UserError(f"{path} holds no DCGAN: it has {many} tensors {name.format('N')}")
    return levels


def shape_of(given: Tensors, name: str, dimensions: int, path: Path) -> tuple[int, ...]:
    """Raises UserError if the tensor is missing, empty or has another number of dimensions."""
    if name not in given:
        raise UserError(f"{path} lacks the tensor {name}")
    shape = given[name].shape
    if len(shape) != dimensions or min(shape) < 1:
        raise UserError(f"{path}: {name} has shape {list(shape)}, its place asks {dimensions} dimensions")
    return shape


# ---- networks


def shapes(kind: str, arguments: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of one of our networks, without building it: what is wrong may be wrong by gigabytes."""
    variant, base, levels = arguments["variant"], arguments["base_channels"], doublings(arguments["image_px"])
    kernel, found = (4, 4) if variant == "4x4" else (5, 5), {}

    def conv(name: str, *ends: int) -> None:
        found[f"{name}.weight"] = (*ends, *kernel)
        if variant != "4x4":
            found[f"{name}.bias"] = (ends[kind == "generator"],)

    def norm(name: str, channels: int) -> None:
        found.update({f"{name}.{part}": (channels,) for part in NORM})

    if kind == "generator":
        widths = [max(1, 8 * base >> max(0, level - (variant == "wide"))) for level in range(levels)]
        z_channels = arguments["z_channels"]
        if variant == "4x4":
            conv("deconv0", z_channels, widths[0])
        else:
            found |= {"linear.weight": (z_channels, 16 * widths[0]), "linear.bias": (16 * widths[0],)}
        for level, (before, after) in enumerate(pairwise([*widths, 3])):
            norm(f"norm{level}", before)
            conv(f"deconv{level + 1}", before, after)
        return found
    widths = [base * min(8, 1 << level) for level in range(levels)]
    for level, (before, after) in enumerate(pairwise([3, *widths])):
        conv(f"conv{level}", after, before)
        if level:
            norm(f"norm{level}", after)
    if variant == "4x4":
        conv(f"conv{levels}", 1, widths[-1])
    else:
        found |= {"linear.weight": (16 * widths[-1], 1), "linear.bias": (1,)}
    return found


def build(kind: str, arguments: dict, layers: Layers, given: Tensors, path: Path):
    """One of our networks from its tensors, which are taken out of `given`.

    Raises:
        UserError: a tensor is missing or misshapen.
    """
    print(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in arguments.items()))
    tensors = {}
    for ours, shape in shapes(kind, arguments).items():
        layer, _, part = ours.rpartition(".")
        published = published_name(layers[layer], layer, part)
        if published not in given:
            raise UserError(f"{path} lacks the tensor {published}")
        array, wanted = given.pop(published), published_shape(layers[layer], shape)
        if array.shape != wanted:
            raise UserError(f"{path}: {published} has shape {list(array.shape)}, its place asks {list(wanted)}")
        if array.dtype.kind != "f":
            raise UserError(f"{path}: {published} holds {array.dtype} numbers, which no weights are")
        if not layers[layer].startswith("main."):
            array = to_our_layout(kind, layer, array)
        tensors[f"{kind}.{ours}"] = np.ascontiguousarray(array)
    network = build_network(NETWORKS[kind], arguments, tensors, path)
    load_network(network, tensors, kind, path)
    return network


def published_name(published: str, layer: str, part: str) -> str:
    """Of a part of a layer: `g_bn0/gamma`, `g_h0_lin/Matrix`, `g_h1/biases`, `main.1.running_mean` …"""
    if published.startswith("main."):
        return f"{published}.{TORCH[part]}"
    if layer.startswith("norm"):
        return f"{published}/{NORM[part]}"
    linear = layer == "linear"
    return f"{published}/" + {"weight": "Matrix" if linear else "w", "bias": "bias" if linear else "biases"}[part]


def published_shape(published: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the shape of one of our tensors is in its file."""
    if published.startswith("main.") or len(shape) != 4:
        return shape
    first, second, *kernel = shape
    return (*kernel, second, first)


def to_our_layout(kind: str, layer: str, array: np.ndarray) -> np.ndarray:
    """TensorFlow's order of axes becomes ours.

    Kernels of both kinds of convolution are [height, width, second, first of ours], and not turned around. TensorFlow's
    pictures have their channels last: so the features between a linear layer and 4 x 4 are counted, by both of the
    generator's tensors and by the discriminator's weight.
    """
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if layer != "linear" or array.shape == (1,):
        return array
    channels = (array.shape[-1] if kind == "generator" else array.shape[0]) // 16
    return array.reshape(-1, 4, 4, channels).transpose(0, 3, 1, 2).reshape(array.shape)


# ---- what is not a weight


def write(networks: dict, source: Source, options: Options) -> Path:
    """Writes the networks with what `infer`, `evaluate` and `train` must know, and prints how to use them."""
    path, published = options.output, options.published
    files = checkpoint_files(published) if is_checkpoint(published) else [published]
    files += [options.discriminator] if options.discriminator else []
    step = re.search(r"-(\d{1,12})(\.index|\.meta|\.data-.*)?$", published.name)
    facts = {"paper": "dcgan_completion", "preset": "published", "step": int(step[1]) if step else 0}
    facts |= {kind: network.arguments for kind, network in networks.items()}
    facts |= {"image_px": networks["generator"].arguments["image_px"], "crop": source.crop, "z": source.z}
    save_published(path, networks, facts, source.codebase, source.licence, files)
    if "discriminator" not in networks:
        print("no discriminator: completion goes by the contextual loss alone; --discriminator FILE adds one")
    drawn = {"uniform": "U(-1, 1)", "normal": "N(0, 1)"}[source.z]
    print(f"not in the file: z, which that code draws from {drawn}")
    print(f"next: python -m dcgan_completion.infer --weights {path} --input PHOTO --mask HOLE --output OUT.png")
    return path


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(tyro.cli(Options, args=argv, prog="python -m dcgan_completion.convert", description=__doc__))


if __name__ == "__main__":
    main()
