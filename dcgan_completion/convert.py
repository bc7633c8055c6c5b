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

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from dcgan_completion.options import ConvertOptions as Options
from dcgan_completion.options import read_convert

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_convert, __doc__)

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.checkpoint.weights import build_network
from common.convert import mapping, own_files
from common.convert.mapping import Tensors, fill, listing, shape_of, take
from common.convert.tensorflow_checkpoints import checkpoint_in
from common.convert.torch_files import weights_file_in
from common.errors import UserError
from dcgan_completion.model import Discriminator, Generator

Layers = dict[str, str]
"""our name of a layer -> the published one"""

NETWORKS = {"generator": Generator, "discriminator": Discriminator}
MOST_LEVELS = 8  # 1024 px

# Scopes came late to the TensorFlow codes; before, and since, all names of a network begin with its letter.
SCOPE = re.compile(r"^(generator|discriminator)/(?=[gd]_)")
TRAINING = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step)|.*\.num_batches_tracked")
NORM = {"weight": "gamma", "bias": "beta", "_mean": "moving_mean", "_variance": "moving_variance"}
TORCH = {ours: theirs for theirs, ours in mapping.NORM.items()}


@dataclass(frozen=True)
class Source(mapping.Source):
    """What is known of a codebase beside its tensors."""

    crop: str
    z: str
    """uniform from U(-1, 1), or normal from N(0, 1)"""


BAMOS = Source("bamos/dcgan-completion.tensorflow", "MIT", "center108", "uniform")
CARPEDM20 = Source("carpedm20/DCGAN-tensorflow", "MIT", "center108", "uniform")
PYTORCH = Source("pytorch/examples", "BSD-3-Clause", "center", "normal")


def convert(options: Options) -> Path:
    """Writes the networks that published files hold into one file, and prints what was recognised and mapped.

    Raises:
        UserError: a file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    if own_files.is_own(options.published):
        return own_files.rewrite_own(options.published, options.output, "dcgan_completion")
    beside = [weights_file_in(checkpoint_in(file)) for file in (options.discriminator,) if file]
    path = mapping.published_file(options, beside=beside)
    networks, source = read(path)
    if "generator" not in networks:
        raise UserError(f"{path} holds a discriminator; name the generator's file first, and it with --discriminator")
    for file in beside:
        others, other = read(file)
        if "discriminator" in networks or list(others) != ["discriminator"] or other.codebase != source.codebase:
            raise UserError(
                f"--discriminator {file} holds {named(others)} of {other.codebase}; {path} already holds "
                f"{named(networks)} of {source.codebase}"
            )
        networks |= others
    sides = {kind: network.arguments["image_px"] for kind, network in networks.items()}
    if len(set(sides.values())) > 1:
        if source is PYTORCH:
            raise UserError(f"the generator makes images of {sides['generator']} px, the discriminator judges others")
        # The code's discriminator has four convolutions at every size, and then takes any 8192 features for an image.
        del networks["discriminator"]
        print(f"left out: the discriminator, which is made for 64 px and not for {sides['generator']}")
    return write(networks, source, options.output, path, beside)


def named(networks: Iterable[str]) -> str:
    return " and ".join(f"a {kind}" for kind in networks)


def read(path: Path) -> tuple[dict, Source]:
    """The networks that a file holds. Every tensor finds its place, or is known to serve training only."""
    tensors = mapping.read_tensors(path)
    left_out = [name for name in tensors if TRAINING.fullmatch(name)]
    bare = [SCOPE.sub("", name).removeprefix("module.") for name in tensors]  # `module.` is DataParallel's
    if len(set(bare)) < len(bare):
        raise UserError(f"{path} holds two networks of the same names")
    given = {name: array for name, array in zip(bare, tensors.values(), strict=True) if not TRAINING.fullmatch(name)}
    source, found = recognise(given, path)
    count = len(given)
    mapping.print_recognised(source, count)
    networks = {kind: build(kind, *found[kind], given, path) for kind in found}
    mapping.finish(given, count, left_out, path)
    return networks, source


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
            "networks were trained for images of another size than 64 px, or with labels, and have no like here"
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


# ---- networks


def build(kind: str, arguments: dict, layers: Layers, given: Tensors, path: Path):
    """One of our networks from its tensors, which are taken out of `given`.

    Raises:
        UserError: a tensor is missing or misshapen.
    """
    mapping.print_arguments(kind, arguments)
    tensors = {}
    for ours, shape in mapping.shapes_of(NETWORKS[kind], arguments, path).items():
        layer, _, part = ours.rpartition(".")
        array = take(
            given, published_name(layers[layer], layer, part), path, published_shape(layers[layer], shape)
        )  # fmt: skip
        tensors[ours] = array if layers[layer].startswith("main.") else to_our_layout(kind, layer, array)
    return fill(build_network(NETWORKS[kind], arguments, tensors, path), kind, tensors, path)


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
    images have their channels last: so the features between a linear layer and 4 x 4 are counted, by both of the
    generator's tensors and by the discriminator's weight.
    """
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if layer != "linear" or array.shape == (1,):
        return array
    channels = (array.shape[-1] if kind == "generator" else array.shape[0]) // 16
    return array.reshape(-1, 4, 4, channels).transpose(0, 3, 1, 2).reshape(array.shape)


# ---- what is not a weight


def write(networks: dict, source: Source, output: Path, path: Path, beside: list[Path]) -> Path:
    """Writes the networks with what `infer`, `evaluate` and `train` must know, and prints how to use them."""
    metadata = {"image_px": networks["generator"].arguments["image_px"], "crop": source.crop, "z": source.z}
    mapping.write(output, "dcgan_completion", networks, metadata, source, path, beside)
    if "discriminator" not in networks:
        print("no discriminator: completion goes by the contextual loss alone; --discriminator FILE adds one")
    drawn = {"uniform": "U(-1, 1)", "normal": "N(0, 1)"}[source.z]
    print(f"assumed: z drawn from {drawn}, as in that code")
    print(f"assumed: trained on faces cut by the crop {source.crop}, as in that code")
    mapping.print_infer("dcgan_completion", output)
    return output


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(read_convert(argv, __doc__))


if __name__ == "__main__":
    main()
