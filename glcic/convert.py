"""Published GLCIC weights become ours; the network that a file holds is recognised by the names of its tensors.

python -m glcic.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from the paper's network |
|---|---|---|
| `completionnet_places2.t7`, `…_places2_freeform.t7`, `…_celeba.t7` | the authors' | nothing |
| `completionnet_places2.pth`, `.pt` | PyTorch ports (ganonymizer, yangwangx) | the mean colour is not in the file |
| `model_cn`, `model_cd` | otenim/GLCIC-PyTorch | ReLU before normalisation; the mean colour fills the hole |
| `gl_256x256_….pth` | MMagic, MMEditing | [-1, 1] and BGR; hole of 0, output clipped, no bias before a normalisation |
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from common.checkpoint import build_network, load_network, save_published
from common.errors import UserError, one_line_errors
from common.torch_weights import read_published
from glcic.model import COMPLETION_ROWS, STRIDE, CompletionNetwork, Discriminator

Tensors = dict[str, np.ndarray]

WRAPPERS = ("state_dict.", "model.modules.", "modules.", "model.", "module.")  # what may stand before a network's names
CONV = {"weight": "weight", "bias": "bias"}
NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}

# For each row of Table 1 the published names of its convolution and its normalisation.
FLAT = [(f"{3 * row}", f"{3 * row + 1}") for row in range(17)]  # every third layer of a sequence is a ReLU
NESTED = [(f"{row}.0", f"{row}.1") for row in range(16)] + [("16", "")]
OTENIM = [(f"deconv{n}" if n in (13, 15) else f"conv{n}", f"bn{n}") for n in range(1, 18)]
MMAGIC = [
    (f"generator.{part}.conv", f"generator.{part}.bn")
    for part in (
        *(f"encoder.enc{n}" for n in range(1, 7)),
        *(f"dilation_neck.dilation_convs.{n}" for n in range(4)),
        *(f"decoder.dec{n}" for n in range(1, 8)),
    )
]


@dataclass(frozen=True)
class Towers:
    """Published names of the two discriminators' layers, to be formatted with the tower's name and a number."""

    names: tuple[str, str]
    """of the global and the local one"""
    conv: str
    norm: str
    fc: tuple[str, ...]
    fusion: str
    local_first: bool
    """whether the fusion layer reads the local features first; ours reads the global ones first"""
    arguments: dict
    """of our Discriminator"""


@dataclass(frozen=True)
class Source:
    """What is known of a published network beside its tensors."""

    codebase: str
    licence: str
    rows: list[tuple[str, str]]
    arguments: dict
    """of our CompletionNetwork"""
    image_px: int
    crop: str
    largest_hole: float
    mean: tuple[float, ...] | None
    """the colour of "unknown", RGB in [0, 1]"""
    towers: Towers | None = None
    bgr: bool = False


AUTHORS = Source(
    codebase="satoshiiizuka/siggraph2017_inpainting",
    licence="CC BY-NC-SA 4.0: no commercial use, share alike",
    rows=FLAT,
    arguments={},
    image_px=256,
    crop="random",
    largest_hole=128 / 256,
    mean=(0.4560, 0.4472, 0.4155),  # of Places2: in the authors' file, and the same numbers in both ports
)
SOURCES = {
    "flat": AUTHORS,
    "nested": replace(AUTHORS, rows=NESTED),
    "otenim": Source(
        codebase="otenim/GLCIC-PyTorch",
        licence="MIT",
        rows=OTENIM,
        arguments={"norm_first": False, "subtract_mean": False},
        image_px=160,
        crop="random160",
        largest_hole=96 / 160,
        mean=None,
        towers=Towers(
            names=("model_gd", "model_ld"),
            conv="{tower}.conv{n}",
            norm="{tower}.bn{n}",
            fc=("{tower}.linear6", "{tower}.linear7"),
            fusion="linear1",
            local_first=True,
            arguments={"feature_relu": True, "norm_first": False, "unit_range": True},
        ),
    ),
    "mmagic": Source(
        codebase="open-mmlab/mmagic",
        licence="Apache-2.0",
        rows=MMAGIC,
        arguments={"output": "clamp"},
        image_px=256,
        crop="random",
        largest_hole=128 / 256,
        mean=(0.5, 0.5, 0.5),
        towers=Towers(
            names=("disc.global_disc", "disc.local_disc"),
            conv="{tower}.conv{n}.conv",
            norm="{tower}.conv{n}.bn",
            fc=("{tower}.fc.linear", "{tower}.fc"),
            fusion="disc.fc",
            local_first=False,
            arguments={"feature_relu": True},
        ),
        bgr=True,  # its configurations load pictures in OpenCV's order and leave it so (to_rgb=False)
    ),
}


@dataclass(frozen=True)
class Options:
    """Bring published weights over."""

    published: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PUBLISHED")]
    """a .t7, .pth, .pt, .pdparams or .safetensors file, or otenim's model_cn or model_cd"""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.safetensors")]
    """the .safetensors file to write; discriminators beside a completion network go to OUT-discriminator.safetensors"""
    image_px: int | None = None
    """side of the pictures that the network was trained on; none: as published"""
    mean: tuple[float, float, float] | None = None
    """mean colour of the training set, RGB in 0..1, where the file does not hold it (model_cn, the ports)"""
    config: Path | None = None
    """otenim's config.json, whose `mpv` is that mean; none: the one beside the published file, if there is one"""


def convert(options: Options) -> list[Path]:
    """Writes the networks that a published file holds, and prints what was recognised and mapped.

    Returns:
        The files written, the completion network's first.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    check(options)
    given, beside = unwrap(read_published(options.published))
    kind = recognise(given, options.published)
    source = SOURCES[kind]
    buffers = [name for name in given if is_buffer(name, kind)]
    given = {name: tensor for name, tensor in given.items() if name not in set(buffers)}
    print(f"recognised: {source.codebase}, {len(given)} tensors; licence: {source.licence}")
    networks, count = {}, len(given)
    if f"{source.rows[0][0]}.weight" in given:
        networks["completion"] = completion_network(given, source, options, beside)
    if source.towers and f"{source.towers.fusion}.weight" in given:
        networks["discriminator"] = discriminators(given, source, options)
    if given:
        raise UserError(f"{options.published} holds tensors that belong to no layer: {listing(given)}")
    unused = sorted({name.rpartition(".")[2] for name in [*buffers, *beside] if name != "mean"})
    print(f"mapped: {count} tensors; left out: {listing(unused) or 'none'}")
    return [write(name, *found, source, options, len(networks)) for name, found in networks.items()]


def check(options: Options) -> None:
    """Raises UserError for options that cannot work."""
    if options.output.suffix != ".safetensors" or options.output == options.published:
        raise UserError(f"cannot write {options.output}: name another file, one that ends in .safetensors")
    if options.image_px is not None and (options.image_px <= 0 or options.image_px % STRIDE):
        raise UserError(f"--image-px {options.image_px} is no multiple of {STRIDE}")
    if options.mean and not all(0 <= value <= 1 for value in options.mean):
        raise UserError(f"--mean {' '.join(map(str, options.mean))}: three numbers between 0 and 1 are wanted")


def unwrap(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """(the network's tensors under its own names, the tensors beside them: the mean, an optimiser's …)."""
    beside: Tensors = {}
    for wrapper in WRAPPERS:
        inside = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items() if name.startswith(wrapper)}
        if inside:
            beside |= {name: tensor for name, tensor in tensors.items() if not name.startswith(wrapper)}
            tensors = inside
    return tensors, beside


def recognise(tensors: Tensors, path: Path) -> str:
    """Which of SOURCES a file is of. Raises UserError if of none."""
    signatures = [
        ("flat", ("0.weight", "48.weight")),
        ("nested", ("0.0.weight", "16.weight")),
        ("otenim", ("conv1.weight", "deconv13.weight")),
        ("otenim", ("model_ld.conv1.weight", "model_gd.conv1.weight")),
        ("mmagic", ("generator.encoder.enc1.conv.weight",)),
    ]
    for kind, names in signatures:
        if all(name in tensors for name in names):
            return kind
    raise UserError(
        f"{path} holds none of the published GLCIC networks (the authors' .t7 or a port of it, otenim, MMagic); "
        f"its first tensors are {listing(tensors) or 'none at all'}"
    )


def is_buffer(name: str, kind: str) -> bool:
    """Whether a tensor is no weight: Torch7 saves each layer's gradients and last output too."""
    part = name.rpartition(".")[2]
    if kind in ("flat", "nested"):
        return part not in NORM
    return part == "num_batches_tracked" or name.startswith("data_preprocessor.")


def listing(names) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# ---- networks


def completion_network(given: Tensors, source: Source, options: Options, beside: Tensors):
    """Takes the completion network's tensors out of `given`. Returns (network, what `infer` must know of it)."""
    first = source.rows[0][0]
    bias = f"{first}.bias" in given
    width, channels, *_ = shape_of(given, first, 4)
    tensors = {"mean_colour": mean_colour(source, options, beside)}
    for (name, *_), (conv, norm) in zip(COMPLETION_ROWS, source.rows, strict=True):
        if name == "conv11":
            tensors |= take(given, conv, name, CONV)
        else:
            tensors |= take(given, conv, f"{name}.conv", CONV if bias else {"weight": "weight"})
            tensors |= take(given, norm, f"{name}.norm", NORM)
    if source.bgr:
        tensors["conv1.conv.weight"] = tensors["conv1.conv.weight"][:, [2, 1, 0, 3][:channels]]  # the mask stays
        for name in ("conv11.weight", "conv11.bias"):
            tensors[name] = tensors[name][::-1]
        print("colours: BGR in the published network; its first and last layer were turned to RGB")
    arguments = {"base_channels": width, "mask_channel": channels == 4, "conv_bias": bias, **source.arguments}
    network = build_network(CompletionNetwork, arguments, tensors, options.published)
    fill(network, tensors, "completion", options.published)
    return network, {"completion": network.arguments, **training(source, options)}


def discriminators(given: Tensors, source: Source, options: Options):
    """Takes the discriminators' tensors out of `given`. Returns (network, what `train` must know of it)."""
    towers, arguments, tensors = source.towers, dict(source.towers.arguments), {}
    for ours, tower in zip(("global", "local"), towers.names, strict=True):
        names = [towers.conv.format(tower=tower, n=n) for n in range(1, 7)]
        count = 6 if f"{names[5]}.weight" in given else 5
        width, bias = shape_of(given, names[0], 4)[0], f"{names[0]}.bias" in given
        channels = shape_of(given, names[count - 1], 4)[0]
        for n, name in enumerate(names[:count]):
            layer = f"{ours}_tower.convs.{n}"
            tensors |= take(given, name, f"{layer}.conv", CONV if bias else {"weight": "weight"})
            tensors |= take(given, towers.norm.format(tower=tower, n=n + 1), f"{layer}.norm", NORM)
        if source.bgr:
            tensors[f"{ours}_tower.convs.0.conv.weight"] = tensors[f"{ours}_tower.convs.0.conv.weight"][:, ::-1]
        fc = [name.format(tower=tower) for name in towers.fc]
        fc = next((name for name in fc if f"{name}.weight" in given), fc[0])
        side = math.isqrt(shape_of(given, fc, 2)[1] // channels)  # of the last convolution's output
        tensors |= take(given, fc, f"{ours}_tower.fc", CONV)
        arguments |= {f"{ours}_px": max(side, 1) * 2**count, "base_channels": width, "conv_bias": bias}
        arguments |= {"global_convs": count} if ours == "global" else {}
    features = shape_of(given, towers.fusion, 2)[1]
    tensors |= take(given, towers.fusion, "fusion", CONV)
    if towers.local_first:
        tensors["fusion.weight"] = np.roll(tensors["fusion.weight"], features // 2, axis=1)
    for name in ("global_tower.fc.weight", "local_tower.fc.weight", "fusion.weight"):
        tensors[name] = tensors[name].T  # Paddle keeps [inputs, outputs]
    network = build_network(Discriminator, arguments, tensors, options.published)
    fill(network, tensors, "discriminator", options.published)
    return network, {"discriminator": arguments}


def take(given: Tensors, published: str, ours: str, parts: dict[str, str]) -> Tensors:
    """Removes a layer's tensors from `given` and names them as ours. Raises UserError if one is missing."""
    missing = [f"{published}.{part}" for part in parts if f"{published}.{part}" not in given]
    if missing:
        raise UserError(f"the published file lacks the tensor {missing[0]}")
    return {f"{ours}.{new}": given.pop(f"{published}.{old}") for old, new in parts.items()}


def shape_of(given: Tensors, layer: str, dimensions: int) -> tuple[int, ...]:
    """Of a published layer's weight. Raises UserError if it is missing or has another number of dimensions."""
    shape = given[f"{layer}.weight"].shape if f"{layer}.weight" in given else None
    if shape is None or len(shape) != dimensions or min(shape) < 1 or (dimensions == 4 and shape[0] < 2):
        raise UserError(f"the published tensor {layer}.weight is missing or misshapen: {shape and list(shape)}")
    return shape


def fill(network, tensors: Tensors, name: str, path: Path) -> None:
    """Strict: every tensor of the network, in its shape, and no other."""
    load_network(network, {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}, name, path)


# ---- what is not a weight


def mean_colour(source: Source, options: Options, beside: Tensors) -> np.ndarray:
    """float32 [1, 3, 1, 1], RGB in [-1, 1]: the colour of "unknown", from the best place that knows it."""
    config = options.config or options.published.with_name("config.json")
    if options.mean:
        mean, origin = options.mean, "as given"
    elif source.mean is None and (options.config or config.is_file()):
        mean, origin = read_mpv(config), f"from {config}"
    elif "mean" in beside:
        mean, origin = np.ravel(beside["mean"]), "from the file"
    elif source.mean:
        mean, origin = source.mean, "as published; --mean if these weights have another"
    else:
        mean, origin = (0.5, 0.5, 0.5), "WARNING: mid grey instead, for the file does not hold the colour that its "
        origin += "network expects in the hole; give --config config.json or --mean R G B"
    if len(mean) != 3 or not np.isfinite(mean).all():
        raise UserError(f"the mean colour must be three numbers, not {list(mean)[:5]}")
    print("mean colour: " + " ".join(f"{value:.4f}" for value in mean) + f" ({origin})")
    return (np.asarray(mean, np.float32) * 2 - 1).reshape(1, 3, 1, 1)


def read_mpv(path: Path) -> list[float]:
    """The mean pixel value, RGB in [0, 1], that otenim's training noted. Raises UserError if the file has none."""
    try:
        mean = np.array(json.loads(path.read_text())["mpv"], np.float64).ravel()
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no config.json of otenim's training: there is no `mpv` in it") from None
    return list(mean if mean.size == 3 else np.repeat(mean, 3))  # early versions noted one number


def training(source: Source, options: Options) -> dict:
    """How the network was trained, as far as `infer` and `evaluate` must know."""
    facts = {"image_px": source.image_px, "crop": source.crop, "largest_hole": source.largest_hole}
    if source.codebase == AUTHORS.codebase and "celeba" in options.published.name.lower():
        facts = {"image_px": 160, "crop": "random160", "largest_hole": 96 / 160}
    if options.image_px:
        facts["image_px"] = options.image_px
    else:
        print(f"trained on: pictures of {facts['image_px']} px, as published; --image-px if these weights were not")
    return facts


def write(name: str, network, facts: dict, source: Source, options: Options, count: int) -> Path:
    """Writes one network with its facts and origin, and prints how to use it."""
    path = options.output
    if name == "discriminator" and count > 1:
        path = path.with_name(f"{path.stem}-discriminator.safetensors")
    metadata = {"paper": "glcic", "preset": "converted", "step": 0, **facts}
    save_published(path, {name: network}, metadata, source.codebase, source.licence, [options.published])
    if name == "completion":
        print(f"next: python -m glcic.infer --weights {path} --input PHOTO --mask HOLE --output OUT.png")
    else:
        sizes = f"--image-px {facts[name]['global_px']} --local-px {facts[name]['local_px']}"
        preset = "paper-celeba" if facts[name]["global_px"] == 160 else "paper"
        print(f"next: python -m glcic.train {preset} --data-dir DIR --init-discriminator {path} {sizes}")
    return path


@one_line_errors
def main(argv: list[str] | None = None) -> list[Path]:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(tyro.cli(Options, args=argv, prog="python -m glcic.convert", description=__doc__))


if __name__ == "__main__":
    main()
