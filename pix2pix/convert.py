"""Published pix2pix weights become ours; the network that a file holds is recognised by the names of its tensors.

python -m pix2pix.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from our networks |
|---|---|---|
| `edges2shoes.pth`, `latest_net_G.pth`, `latest_net_D.pth`, … | junyanz/pytorch-CycleGAN-and-pix2pix | nothing |
| `Pix2Pix_cityscapes.pdparams`, … | PaddlePaddle/PaddleGAN | a discriminator without its first bias |
| `facades_label2image.t7`, … | phillipi/pix2pix | BGR; decoder before encoder in each skip; a bias everywhere |
"""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import tyro
from safetensors import SafetensorError

from common.checkpoint import load_network, save_weights
from common.errors import UserError, one_line_errors
from common.torch_weights import read_published
from pix2pix import encoding
from pix2pix.config import Direction
from pix2pix.model import STRIDED_CONVS, Dropout, Norm, PatchDiscriminator, build_generator

Tensors = dict[str, np.ndarray]
Row = tuple[str, str, str, str]
"""published convolution and normalisation ("" for none), ours"""

NEGLIGIBLE_BIAS = 1e-6  # of a convolution where our network has none
PARTS = {"weight", "bias", "running_mean", "running_var", "running_std"}  # of a layer of Torch7 that are no buffers
BATCH_NORM = {
    "weight": ("weight",),
    "bias": ("bias",),
    "_mean": ("running_mean", "_mean"),
    "_variance": ("running_var", "_variance"),
}
AFFINE_NORM = {"scale": ("weight", "scale"), "bias": ("bias",)}


@dataclass(frozen=True)
class Source:
    """What is known of a codebase beside its tensors."""

    codebase: str
    licence: str
    dropout: Dropout
    """of its U-Net: the file does not tell, for a dropout has no tensors"""


PYTORCH = Source("junyanz/pytorch-CycleGAN-and-pix2pix", "BSD 2-Clause", "pytorch")
PADDLEGAN = Source("PaddlePaddle/PaddleGAN", "Apache-2.0", "none")  # use_dropout is False in its configurations
TORCH7 = Source("phillipi/pix2pix", "BSD 2-Clause", "paper")

# Direction and photo's side of published weights, by a part of the name of their file or folder.
KNOWN: dict[str, tuple[Direction, str]] = {
    "edges2shoes": ("label-to-photo", "right"),
    "edges2handbags": ("label-to-photo", "right"),
    "sat2map": ("photo-to-label", "left"),
    "map2sat": ("label-to-photo", "left"),
    "facades_label2photo": ("label-to-photo", "left"),
    "facades_label2image": ("label-to-photo", "left"),
    "cityscapes_label2image": ("label-to-photo", "left"),
    "cityscapes_image2label": ("photo-to-label", "left"),
    "day2night": ("photo-to-label", "left"),  # from A to B
    "pix2pix_cityscapes.pdparams": ("label-to-photo", "left"),
    "pixel2pixel_facades.pdparams": ("label-to-photo", "left"),
}


@dataclass(frozen=True)
class Options:
    """Bring published weights over."""

    published: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PUBLISHED")]
    """a .pth, .pt, .pdparams, .t7 or .safetensors file"""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.safetensors")]
    """the .safetensors file to write; a discriminator beside a generator goes to OUT-discriminator.safetensors"""
    direction: Direction | None = None
    """what becomes what; if not given: told by the name of the file if that is a published one, else label-to-photo"""
    image_px: int | None = None
    """side of the pictures that the network was trained on; if not given: 256, and 128 for a U-Net of 7 levels"""
    dropout: Dropout | None = None
    """where the U-Net drops features, which the file does not tell; if not given: where its codebase does"""
    drop_biases: bool = False
    """leave out the biases of a .t7 for which our U-Net has no place, those of its outermost and innermost level"""


def convert(options: Options) -> list[Path]:
    """Writes the networks that a published file holds, and prints what was recognised and mapped.

    Returns:
        The files written, the generator's first.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    check(options)
    source, parts, left_out = unwrap(read(options.published), options.published)
    print(f"recognised: {source.codebase}, {sum(map(len, parts))} tensors; licence: {source.licence}")
    networks, direction, count = {}, None, 0
    for given in parts:
        count += len(given)
        if is_discriminator(given):
            direction = direction or direction_of(options)
            networks["discriminator"] = discriminator(given, source, direction, options)
        else:
            networks["generator"] = generator(given, source, options)
            direction = direction_of(options, networks["generator"])
        if given:
            raise UserError(f"{options.published} holds tensors that belong to no layer: {listing(given)}")
    for name, network in networks.items():
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in network.arguments.items())}")
    print(f"mapped: {count} tensors; left out: {listing(sorted(left_out)) or 'none'}")
    return [write(name, network, direction, source, options, len(networks)) for name, network in networks.items()]


def check(options: Options) -> None:
    """Raises UserError for options that cannot work."""
    if options.output.suffix != ".safetensors" or options.output == options.published:
        raise UserError(f"cannot write {options.output}: name another file, one that ends in .safetensors")
    if options.image_px is not None and options.image_px <= 0:
        raise UserError(f"--image-px {options.image_px}: a positive number is wanted")


# ---- files


def read(path: Path) -> Tensors:
    """`read_published`, where a node of Torch7's nngraph counts as the layer that it runs.

    The graph itself leads to every layer by thousands of ways, which nobody could list.
    """
    with contextlib.suppress(ImportError):  # read_published says what is missing
        import torchfile

        torchfile.register_handler(b"nngraph.Node")(lambda reader, _: reader.read_obj()[b"data"].get(b"module"))
        torchfile.register_handler(b"graph.Graph")(read_over)
    return read_published(path)


def read_over(reader, _version) -> None:
    """Nothing of an object of Torch7."""
    reader.read_obj()


def unwrap(tensors: Tensors, path: Path) -> tuple[Source, list[Tensors], set[str]]:
    """(codebase, the tensors of each network under its own names, kinds of tensors that are no weights).

    Raises:
        UserError: the file holds none of the networks known here.
    """
    layers = inside(tensors, "forwardnodes.") or inside(tensors, "modules.")  # the same twice, or one of them
    if layers:
        buffers = [name for name in layers if name.rpartition(".")[2] not in PARTS]
        return TORCH7, [without(layers, buffers)], {name.rpartition(".")[2] for name in buffers}
    networks = [given for given in (inside(tensors, "netG."), inside(tensors, "netD.")) if given]
    paddle = networks or path.suffix == ".pdparams" or any(name.endswith("._mean") for name in tensors)
    beside = [name for name in tensors if networks and not name.startswith(("netG.", "netD."))]
    parts = []
    for given in networks or [tensors]:
        if all(name.startswith("module.") for name in given):  # of a DataParallel
            given = inside(given, "module.")
        counters = [name for name in given if name.endswith(".num_batches_tracked")]
        parts.append(without(given, counters))
        beside += counters
    for given in parts:
        if not (is_unet(given) or is_resnet(given) or is_discriminator(given)):
            raise UserError(
                f"{path} holds none of the published pix2pix networks (PyTorch's, PaddleGAN's, or the authors' .t7); "
                f"its first tensors are {listing(given) or 'none at all'}"
            )
    return PADDLEGAN if paddle else PYTORCH, parts, {name.rpartition(".")[2] for name in beside}


def without(tensors: Tensors, names: list[str]) -> Tensors:
    """The other ones."""
    drop = set(names)
    return {name: value for name, value in tensors.items() if name not in drop}


def inside(tensors: Tensors, prefix: str) -> Tensors:
    """Those below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def is_unet(given: Tensors) -> bool:
    return "model.model.0.weight" in given and "model.model.1.model.1.weight" in given


def is_resnet(given: Tensors) -> bool:
    return "model.1.weight" in given and bool(inside(given, "model.10.conv_block."))


def is_discriminator(given: Tensors) -> bool:
    return all(f"model.{n}.weight" in given for n in (0, 2)) or all(f"net.{n}.weight" in given for n in (0, 2))


def listing(names) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# ---- networks


def generator(given: Tensors, source: Source, options: Options):
    """Takes the generator's tensors out of `given`."""
    if is_resnet(given):
        rows, arguments = resnet(given)
        if options.dropout:
            raise UserError(f"--dropout {options.dropout} is for a U-Net; a ResNet's file tells by itself")
    else:
        rows, arguments = unet(given, chain(given) if source is TORCH7 else nested(given))
        arguments["dropout"] = options.dropout or source.dropout
    network = build_generator(**arguments, norm=norm_of(given, rows))
    tensors = bring(given, rows, network, source, options)
    if source is TORCH7:
        tensors = rearrange(tensors, network.arguments)
    fill(network, tensors, "generator", options.published)
    return network


def nested(given: Tensors) -> list[tuple[str, str]]:
    """(convolution, normalisation) of a U-Net whose levels are modules in one another, in the order of their work."""
    down, up, block = [("model.model.0", "")], [("model.model.3", "")], "model.model.1.model"
    while inside(given, f"{block}.3.model."):
        down.append((f"{block}.1", f"{block}.2"))
        up.append((f"{block}.5", f"{block}.6"))
        block += ".3.model"
    return [*down, (f"{block}.1", ""), (f"{block}.3", f"{block}.4"), *up[::-1]]


def chain(given: Tensors) -> list[tuple[str, str]]:
    """(convolution, normalisation) of Torch7's U-Net, whose layers are numbered in the order of their work.

    Raises:
        UserError: it is no such network.
    """
    layers: list[tuple[str, str]] = []
    for name in sorted({name.partition(".")[0] for name in given}, key=lambda name: name.zfill(9)):
        if f"{name}.weight" in given and given[f"{name}.weight"].ndim == 4:
            layers.append((name, ""))
        elif layers:
            layers[-1] = (layers[-1][0], name)
    levels = len(layers) // 2
    if levels < 5 or len(layers) % 2:
        raise UserError(
            f"the .t7 holds no pix2pix generator but {len(layers)} convolutions in a row; of Torch7's files only "
            "generators (U-Net and encoder-decoder) are known here"
        )
    for place, (name, norm) in enumerate(layers):
        if bool(norm) != (place not in (0, levels - 1, 2 * levels - 1)):
            found = "a normalisation, as in the authors' first code" if norm else "no normalisation"
            raise UserError(
                f"layer {name} (convolution {place + 1} of {len(layers)}) is followed by {found}; our network differs"
            )
    return layers


def unet(given: Tensors, layers: list[tuple[str, str]]) -> tuple[list[Row], dict]:
    """(rows, our arguments but for norm and dropout)."""
    levels = len(layers) // 2
    ours = [(f"down.{n}.conv", f"down.{n}.norm") for n in range(levels)]
    ours += [(f"up.{n}.deconv", f"up.{n}.norm") for n in range(levels)]
    width, source_channels, *_ = shape_of(given, layers[0][0])
    joined, target_channels, *_ = shape_of(given, layers[-1][0])
    return [(*theirs, *our) for theirs, our in zip(layers, ours, strict=True)], {
        "kind": "unet", "levels": levels, "base_channels": width, "skips": joined == 2 * width,
        "source_channels": source_channels, "target_channels": target_channels,
    }  # fmt: skip


def resnet(given: Tensors) -> tuple[list[Row], dict]:
    """(rows, our arguments but for norm)."""
    blocks = 0
    while inside(given, f"model.{10 + blocks}.conv_block."):
        blocks += 1
    second = 5 if "model.10.conv_block.5.weight" in given else 6  # a dropout comes between the convolutions
    rows = [(f"model.{3 * n + 1}", f"model.{3 * n + 2}", f"conv{n + 1}", f"norm{n + 1}") for n in range(3)]
    for n in range(blocks):
        block = f"model.{10 + n}.conv_block"
        rows.append((f"{block}.1", f"{block}.2", f"blocks.{n}.conv1", f"blocks.{n}.norm1"))
        rows.append((f"{block}.{second}", f"{block}.{second + 1}", f"blocks.{n}.conv2", f"blocks.{n}.norm2"))
    for n, at in enumerate((10 + blocks, 13 + blocks)):
        rows.append((f"model.{at}", f"model.{at + 1}", f"deconv{n + 1}", f"norm{n + 4}"))
    last = f"model.{17 + blocks}"
    width, source_channels, *_ = shape_of(given, "model.1")
    return [*rows, (last, "", "conv4", "")], {
        "kind": "resnet", "blocks": blocks, "base_channels": width, "upsample": "output-padding",
        "dropout": "pytorch" if second == 6 else "none",
        "source_channels": source_channels, "target_channels": shape_of(given, last)[0],
    }  # fmt: skip


def discriminator(given: Tensors, source: Source, direction: Direction, options: Options):
    """Takes the discriminator's tensors out of `given`; how many layers it has says how much it sees."""
    if "net.0.weight" in given:
        names, last, patch_px = [("net.0", ""), ("net.2", "net.3")], "net.5", 1
    else:
        convs = 1
        while inside(given, f"model.{3 * convs + 2}.") or inside(given, f"model.{3 * convs + 3}."):
            convs += 1
        patch_px = next((side for side, count in STRIDED_CONVS.items() if count == convs - 1), None)
        if patch_px is None:
            raise UserError(f"{options.published} holds a discriminator of {convs - 1} layers; 1 to 5 are known here")
        names = [("model.0", ""), *((f"model.{3 * n - 1}", f"model.{3 * n}") for n in range(1, convs))]
        last = f"model.{3 * convs - 1}"
    rows = [(*theirs, f"convs.{n}.conv", f"convs.{n}.norm") for n, theirs in enumerate(names)]
    rows.append((last, "", "last", ""))
    width, seen, *_ = shape_of(given, names[0][0])
    source_channels, target_channels = encoding.channels(direction)
    if seen not in (target_channels, source_channels + target_channels):
        raise UserError(f"the discriminator sees {seen} channels, which is not {direction}; give --direction")
    network = PatchDiscriminator(
        patch_px, width, norm_of(given, rows), conditional=seen != target_channels,
        source_channels=source_channels, target_channels=target_channels,
    )  # fmt: skip
    fill(network, bring(given, rows, network, source, options), "discriminator", options.published)
    return network


# ---- layers


def norm_of(given: Tensors, rows: list[Row]) -> Norm:
    """The kind of normalisation of a network.

    The official instance normalisation has no tensors, but a bias before it; PaddleGAN's has scales of 1 and shifts of
    0 that are never trained. Before PyTorch 0.4 it carried running statistics, which were never used either.
    """
    rows = [row for row in rows if row[1]]
    biased = any(f"{conv}.bias" in given for conv, *_ in rows)
    names = [f"{norm}.{part}" for _, norm, *_ in rows for part in AFFINE_NORM["scale"]]
    scales = [given[name] for name in names if name in given]
    shifts = [given[f"{norm}.bias"] for _, norm, *_ in rows if f"{norm}.bias" in given]
    if not scales:
        return "instance" if biased else "none"
    if any(f"{norm}.{part}" in given for _, norm, *_ in rows for part in BATCH_NORM["_mean"]):
        return "batch"
    untrained = all((scale == 1).all() for scale in scales) and all((shift == 0).all() for shift in shifts)
    return "instance" if biased and untrained else "instance-affine"


def bring(given: Tensors, rows: list[Row], network, source: Source, options: Options) -> Tensors:
    """Takes the tensors of `rows` out of `given`, under our names; biases that ours has no place for go elsewhere.

    Raises:
        UserError: a tensor is missing, or a bias would be lost.
    """
    tensors, wanted = {}, network.state_dict()
    for conv, norm, our_conv, our_norm in rows:
        tensors[f"{our_conv}.weight"] = weight = take(given, conv, "weight")
        normalisation = take_norm(given, norm, our_norm, network.arguments["norm"]) if norm else {}
        if f"{our_conv}.bias" in wanted:
            if f"{conv}.bias" not in given and source is PADDLEGAN and our_conv == "convs.0.conv":
                tensors[f"{our_conv}.bias"] = np.zeros(weight.shape[0], np.float32)
                print("bias: the published discriminator's first convolution has none; ours is set to 0")
            else:
                tensors[f"{our_conv}.bias"] = take(given, conv, "bias")
        elif f"{conv}.bias" in given:
            absorb(take(given, conv, "bias"), conv, normalisation, f"{our_norm}._mean", norm, options)
        tensors |= normalisation
    return tensors


def absorb(bias: np.ndarray, conv: str, normalisation: Tensors, mean: str, norm: str, options: Options) -> None:
    """Makes up for a bias that our convolution does not have.

    A normalisation takes the mean off, and a bias with it; only the running average must learn of it. Where none
    follows, a bias that counts is refused.
    """
    if mean in normalisation:
        if bias.shape != normalisation[mean].shape:
            raise UserError(f"the published tensor {conv}.bias is misshapen: {list(bias.shape)}")
        normalisation[mean] = normalisation[mean] - bias
    largest = float(np.abs(bias).max(initial=0))
    if norm or largest < NEGLIGIBLE_BIAS:
        return
    if not options.drop_biases:
        raise UserError(
            f"{conv}.bias reaches {largest:.2g}, but our network has no bias there (no normalisation follows); "
            "--drop-biases leaves it out (the authors' training sets it back to 0 before each step)"
        )
    print(f"bias: {conv}.bias, up to {largest:.2g}, is left out; results differ a little from the published network's")


def take(given: Tensors, layer: str, *parts: str) -> np.ndarray:
    """Removes a layer's tensor from `given`, by the first name that is there. Raises UserError if none is."""
    name = next((f"{layer}.{part}" for part in parts if f"{layer}.{part}" in given), f"{layer}.{parts[0]}")
    if name not in given:
        raise UserError(f"the published file lacks the tensor {name}")
    return given.pop(name)


def take_norm(given: Tensors, layer: str, ours: str, norm: Norm) -> Tensors:
    """Removes a normalisation's tensors from `given`, and names those that ours has."""
    parts = {"batch": BATCH_NORM, "instance-affine": AFFINE_NORM}.get(norm, {})
    tensors = {f"{ours}.{part}": take(given, layer, *names) for part, names in parts.items()}
    if norm == "instance":
        for part in ("weight", "scale", "bias", "running_mean", "running_var"):
            given.pop(f"{layer}.{part}", None)  # untrained, unused
    return tensors


def rearrange(tensors: Tensors, arguments: dict) -> Tensors:
    """Torch7's U-Net as ours: the encoder's half of each skip comes first, and pictures are RGB instead of BGR."""
    tensors, last = dict(tensors), f"up.{arguments['levels'] - 1}.deconv"
    if arguments["skips"]:
        for step in range(1, arguments["levels"]):
            weight = tensors[f"up.{step}.deconv.weight"]
            tensors[f"up.{step}.deconv.weight"] = np.roll(weight, len(weight) // 2, axis=0)
    if arguments["source_channels"] == 3:
        tensors["down.0.conv.weight"] = tensors["down.0.conv.weight"][:, ::-1]
    if arguments["target_channels"] == 3:
        tensors[f"{last}.weight"] = tensors[f"{last}.weight"][:, ::-1]
        tensors[f"{last}.bias"] = tensors[f"{last}.bias"][::-1]
        print("colours: BGR in the published network; its first and last layer were turned to RGB")
    return tensors


def shape_of(given: Tensors, layer: str) -> tuple[int, ...]:
    """Of a published convolution's weight. Raises UserError if it is missing or has another number of dimensions."""
    if f"{layer}.weight" not in given:
        raise UserError(f"the published file lacks the tensor {layer}.weight")
    shape = given[f"{layer}.weight"].shape
    if len(shape) != 4 or min(shape) < 1:
        raise UserError(f"the published tensor {layer}.weight is misshapen: {list(shape)}")
    return shape


def fill(network, tensors: Tensors, name: str, path: Path) -> None:
    """Strict: every tensor of the network, in its shape, and no other."""
    load_network(network, {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}, name, path)


# ---- what is not a weight


def known(path: Path) -> tuple[Direction, str] | None:
    """Direction and photo's side of published weights: the official script keeps them in folders of their name."""
    name = "/".join(path.absolute().parts[-2:]).lower()
    return next((value for key, value in KNOWN.items() if key in name), None)


def direction_of(options: Options, network=None) -> Direction:
    """As given, as the generator's channels allow, as the file's name says, or label-to-photo, which is printed.

    Raises:
        UserError: the generator's channels are of no direction, or not of the one given.
    """
    possible = get_args(Direction)
    if network is not None:
        ends = network.arguments["source_channels"], network.arguments["target_channels"]
        possible = [direction for direction in possible if encoding.channels(direction) == ends]
        if not possible or (options.direction or possible[0]) not in possible:
            raise UserError(
                f"the generator turns {ends[0]} channels into {ends[1]}, which is not "
                f"{options.direction or 'one of ' + ', '.join(get_args(Direction))}"
            )
    named = known(options.published)
    if options.direction:
        direction, origin = options.direction, "as given"
    elif len(possible) == 1:
        direction, origin = possible[0], "from its channels"
    elif named:
        direction, origin = named[0], "from the file's name"
    else:
        direction, origin = "label-to-photo", "assumed: the file does not tell; --direction if it is another"
    print(f"direction: {direction} ({origin})")
    return direction


def trained_px(network, options: Options) -> int:
    """Side of the pictures that a generator was trained on. Raises UserError if --image-px does not fit it."""
    if options.image_px:
        if options.image_px % network.stride:
            raise UserError(f"--image-px {options.image_px} is no multiple of {network.stride}")
        return options.image_px
    levels = network.arguments.get("levels", 8)
    side = 128 if levels == 7 else max(256, 2**levels)
    print(f"trained on: pictures of {side} px, as published; --image-px if these weights were not")
    return side


def write(name: str, network, direction: Direction, source: Source, options: Options, count: int) -> Path:
    """Writes one network with its facts and origin, and prints how to use it."""
    path = options.output
    facts = {"paper": "pix2pix", "preset": "published", "step": 0, name: network.arguments, "direction": direction}
    if name == "generator":
        facts["image_px"] = trained_px(network, options)
    elif count > 1:
        path = path.with_name(f"{path.stem}-discriminator.safetensors")
    if known(options.published):
        facts["photo_side"] = known(options.published)[1]
    origin = {
        "source": f"{source.codebase}, {options.published.name}",
        "source_sha256": hashlib.sha256(options.published.read_bytes()).hexdigest(),
        "licence": source.licence,
    }
    try:
        save_weights(path, {name: network}, {**facts, **origin})
    except (OSError, SafetensorError) as problem:
        raise UserError(f"cannot write {path}: {getattr(problem, 'strerror', None) or problem}") from None
    size = sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
    print(f"written: {path}, {name}, {size:,} parameters")
    if name == "generator":
        print(f"next: python -m pix2pix.infer --weights {path} --input PICTURE --output OUT.png")
    return path


@one_line_errors
def main(argv: list[str] | None = None) -> list[Path]:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(tyro.cli(Options, args=argv, prog="python -m pix2pix.convert", description=__doc__))


if __name__ == "__main__":
    main()
