"""Published pix2pix weights become ours; the network that a file holds is recognised by the names of its tensors.

python -m pix2pix.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from our networks |
|---|---|---|
| `edges2shoes.pth`, `latest_net_G.pth`, `latest_net_D.pth`, … | junyanz/pytorch-CycleGAN-and-pix2pix | nothing |
| `Pix2Pix_cityscapes.pdparams`, … | PaddlePaddle/PaddleGAN | a discriminator without its first bias |
| `facades_label2image.t7`, … | phillipi/pix2pix | BGR; decoder before encoder in skips; biases before normalisations |
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from pix2pix.options import ConvertOptions as Options
from pix2pix.options import read_convert

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_convert, __doc__)

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from common.checkpoint.weights import build_network
from common.convert import mapping, own_files
from common.convert.mapping import TORCH7_PARTS, Tensors, fill, inside, last_part, listing, refuse_strays, shape_of
from common.errors import UserError
from common.runtime.commands import next_command
from pix2pix import encoding
from pix2pix.config import Direction
from pix2pix.model import STRIDED_CONVS, Dropout, Norm, PatchDiscriminator, build_generator

Row = tuple[str, str, str, str]
"""published convolution and normalisation ("" for none), ours"""

SCALE, MEAN = ("weight", "scale"), ("running_mean", "_mean")
# For each tensor of ours its published names.
BATCH_NORM = {"weight": ("weight",), "bias": ("bias",), "_mean": MEAN, "_variance": ("running_var", "_variance")}
AFFINE_NORM = {"scale": SCALE, "bias": ("bias",)}


@dataclass(frozen=True)
class Source(mapping.Source):
    """What is known of a codebase beside its tensors."""

    dropout: Dropout
    """of its U-Net: the file does not tell, for a dropout has no tensors"""


PYTORCH = Source("junyanz/pytorch-CycleGAN-and-pix2pix", "BSD 2-Clause", "pytorch")
PADDLEGAN = Source("PaddlePaddle/PaddleGAN", "Apache-2.0", "none")  # use_dropout is False in its configurations
TORCH7 = Source("phillipi/pix2pix", "BSD 2-Clause", "paper")

# What a network is called here, and some of its tensors' names.
SIGNATURES = [
    ("unet", ("model.model.0.weight", "model.model.1.model.1.weight")),
    ("resnet", ("model.1.weight", "model.10.conv_block.1.weight")),
    ("discriminator", ("model.0.weight", "model.2.weight")),
    ("discriminator", ("net.0.weight", "net.2.weight")),
]

# Direction and photo's side of published weights, and parts of the names of their files or folders.
KNOWN: dict[tuple[Direction, str], tuple[str, ...]] = {
    ("label-to-photo", "right"): ("edges2shoes", "edges2handbags"),
    ("label-to-photo", "left"): (
        *("map2sat", "facades_label2photo", "facades_label2image", "cityscapes_label2image"),
        *("pix2pix_cityscapes.pdparams", "pixel2pixel_facades.pdparams"),
    ),
    ("photo-to-label", "left"): ("sat2map", "cityscapes_image2label", "day2night"),  # night is no label, but B
}


def convert(options: Options) -> list[Path]:
    """Writes the networks that a published file holds, and prints what was recognised and mapped.

    Returns:
        The files written, the generator's first.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    if own_files.is_own(options.published):
        return [own_files.rewrite_own(options.published, options.output, "pix2pix")]
    if options.image_px is not None and options.image_px <= 0:
        raise UserError(f"--image-px {options.image_px}: a positive number is wanted")
    options = replace(options, published=mapping.published_file(options))
    source, parts, left_out = unwrap(mapping.read_tensors(options.published), options.published)
    count = sum(len(given) for _, given in parts)
    mapping.print_recognised(source, count)
    networks, direction = {}, None
    for kind, given in parts:
        if kind == "discriminator":
            direction = direction or direction_of(options)
            networks[kind] = discriminator(given, source, direction, options)
        else:
            networks["generator"] = generator(kind, given, source, options)
            direction = direction_of(options, networks["generator"])
        refuse_strays(given, options.published)
    for name, network in networks.items():
        mapping.print_arguments(name, network.arguments)
    mapping.finish({}, count, left_out, options.published)
    written = {
        name: write(name, network, direction, source, options, len(networks)) for name, network in networks.items()
    }
    print_next(networks, written, direction, options)
    return list(written.values())


# ---- files


def unwrap(tensors: Tensors, path: Path) -> tuple[Source, list[tuple[str, Tensors]], set[str]]:
    """(codebase, kind and tensors under their own names of each network, kinds of tensors that are no weights).

    Raises:
        UserError: the file holds none of the networks known here.
    """
    layers = inside(tensors, "forwardnodes.") or inside(tensors, "modules.")  # the same twice, or one of them
    if layers:
        given = {name: value for name, value in layers.items() if last_part(name) in TORCH7_PARTS}
        return TORCH7, [("unet", given)], {last_part(name) for name in layers.keys() - given.keys()}
    networks = [given for given in (inside(tensors, "netG."), inside(tensors, "netD.")) if given]
    paddle = networks or path.suffix == ".pdparams" or any(name.endswith("._mean") for name in tensors)
    left_out = {last_part(name) for name in tensors if networks and not name.startswith(("netG.", "netD."))}
    parts = []
    for given in networks or [tensors]:
        if all(name.startswith("module.") for name in given):  # of a DataParallel
            given = inside(given, "module.")
        weights = {name: value for name, value in given.items() if last_part(name) != "num_batches_tracked"}
        left_out |= {last_part(name) for name in given.keys() - weights.keys()}
        parts.append((recognise(weights, path), weights))
    return PADDLEGAN if paddle else PYTORCH, parts, left_out


def recognise(given: Tensors, path: Path) -> str:
    """Which of SIGNATURES a network has. Raises UserError if none."""
    for kind, names in SIGNATURES:
        if all(name in given for name in names):
            return kind
    raise UserError(
        f"{path} holds none of the published pix2pix networks (PyTorch's, PaddleGAN's, or the authors' .t7); "
        f"its first tensors are {listing(given) or 'none at all'}"
    )


# ---- networks


def generator(kind: str, given: Tensors, source: Source, options: Options):
    """Takes the generator's tensors out of `given`."""
    if kind == "resnet":
        rows, arguments = resnet(given, options.published)
        if options.dropout:
            raise UserError(f"--dropout {options.dropout} is for a U-Net; a ResNet's file tells by itself")
    else:
        rows, arguments = unet(given, chain(given) if source is TORCH7 else nested(given), options.published)
        arguments |= {"dropout": options.dropout or source.dropout, "bare_bias": source is TORCH7}
        if not options.dropout:
            print(f"assumed: dropout {source.dropout}, as in its code; --dropout if it was trained with another")
    arguments["norm"] = norm_of(given, rows)
    network = build_network(build_generator, arguments, given, options.published)
    tensors = bring(given, rows, network, options.published)
    if source is TORCH7:
        tensors = rearrange(tensors, network.arguments)
    return fill(network, "generator", tensors, options.published)


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
    if len(layers) < 10 or len(layers) % 2:
        raise UserError(
            f"the .t7 holds no pix2pix generator but {len(layers)} convolutions in a row; of Torch7's files only "
            "generators (U-Net and encoder-decoder) are known here"
        )
    return layers


def unet(given: Tensors, layers: list[tuple[str, str]], path: Path) -> tuple[list[Row], dict]:
    """(rows, our arguments but for norm, dropout and bare_bias)."""
    levels = len(layers) // 2
    ours = [(f"down.{n}.conv", f"down.{n}.norm") for n in range(levels)]
    ours += [(f"up.{n}.deconv", f"up.{n}.norm") for n in range(levels)]
    width, source_channels, *_ = shape_of(given, f"{layers[0][0]}.weight", 4, path)
    joined, target_channels, *_ = shape_of(given, f"{layers[-1][0]}.weight", 4, path)
    return [(*theirs, *our) for theirs, our in zip(layers, ours, strict=True)], {
        "kind": "unet", "levels": levels, "base_channels": width, "skips": joined == 2 * width,
        "bottleneck_norm": bool(layers[levels - 1][1]),
        "source_channels": source_channels, "target_channels": target_channels,
    }  # fmt: skip


def resnet(given: Tensors, path: Path) -> tuple[list[Row], dict]:
    """(rows, our arguments but for norm)."""
    blocks = len({name.split(".")[1] for name in given if ".conv_block." in name})
    second = 5 if "model.10.conv_block.5.weight" in given else 6  # a dropout comes between the convolutions
    rows = [(f"model.{3 * n + 1}", f"model.{3 * n + 2}", f"conv{n + 1}", f"norm{n + 1}") for n in range(3)]
    for n in range(blocks):
        block = f"model.{10 + n}.conv_block"
        rows.append((f"{block}.1", f"{block}.2", f"blocks.{n}.conv1", f"blocks.{n}.norm1"))
        rows.append((f"{block}.{second}", f"{block}.{second + 1}", f"blocks.{n}.conv2", f"blocks.{n}.norm2"))
    for n, at in enumerate((10 + blocks, 13 + blocks)):
        rows.append((f"model.{at}", f"model.{at + 1}", f"deconv{n + 1}", f"norm{n + 4}"))
    last = f"model.{17 + blocks}"
    width, source_channels, *_ = shape_of(given, "model.1.weight", 4, path)
    return [*rows, (last, "", "conv4", "")], {
        "kind": "resnet", "blocks": blocks, "base_channels": width, "upsample": "output-padding",
        "dropout": "pytorch" if second == 6 else "none",
        "source_channels": source_channels, "target_channels": shape_of(given, f"{last}.weight", 4, path)[0],
    }  # fmt: skip


def discriminator(given: Tensors, source: Source, direction: Direction, options: Options):
    """Takes the discriminator's tensors out of `given`; how many layers it has says how much it sees."""
    if "net.0.weight" in given:
        names, patch_px = [("net.0", ""), ("net.2", "net.3"), ("net.5", "")], 1
    else:
        layers = max(n for n in range(1, 99) if inside(given, f"model.{3 * n - 1}.")) - 1  # as its authors count
        patch_px = next((side for side, count in STRIDED_CONVS.items() if count == layers), None)
        if patch_px is None:
            raise UserError(f"{options.published} holds a discriminator of {layers} layers; 1 to 5 are known here")
        names = [("model.0", ""), *((f"model.{3 * n + 2}", f"model.{3 * n + 3}") for n in range(layers))]
        names.append((f"model.{3 * layers + 2}", ""))
    rows = [(*theirs, f"convs.{n}.conv", f"convs.{n}.norm") for n, theirs in enumerate(names[:-1])]
    rows.append((*names[-1], "last", ""))
    width, seen, *_ = shape_of(given, f"{names[0][0]}.weight", 4, options.published)
    source_channels, target_channels = encoding.channels(direction)
    if seen not in (target_channels, source_channels + target_channels):
        raise UserError(f"the discriminator sees {seen} channels, which is not {direction}; give --direction")
    if source is PADDLEGAN and f"{names[0][0]}.bias" not in given:
        given[f"{names[0][0]}.bias"] = np.zeros(width, np.float32)
        print("bias: the published discriminator's first convolution has none; ours is set to 0")
    arguments = {
        "patch_px": patch_px, "base_channels": width, "norm": norm_of(given, rows),
        "conditional": seen != target_channels,
        "source_channels": source_channels, "target_channels": target_channels,
    }  # fmt: skip
    network = build_network(PatchDiscriminator, arguments, given, options.published)
    return fill(network, "discriminator", bring(given, rows, network, options.published), options.published)


# ---- layers


def norm_of(given: Tensors, rows: list[Row]) -> Norm:
    """The kind of normalisation of a network.

    The official instance normalisation has no tensors, but a bias before it; PaddleGAN's has scales of 1 and shifts of
    0 that are never trained. Before PyTorch 0.4 it carried running statistics, which were never used either.
    """
    rows = [row for row in rows if row[1]]
    biased = any(f"{conv}.bias" in given for conv, *_ in rows)
    scales, shifts, means = (
        [given[f"{norm}.{part}"] for _, norm, *_ in rows for part in parts if f"{norm}.{part}" in given]
        for parts in (SCALE, ("bias",), MEAN)
    )
    if scales and means:
        return "batch"
    if biased and all((scale == 1).all() for scale in scales) and not any(shift.any() for shift in shifts):
        return "instance"
    return "instance-affine" if scales else "none"


def bring(given: Tensors, rows: list[Row], network, path: Path) -> Tensors:
    """Takes the tensors of `rows` out of `given`, under our names.

    A normalisation takes the mean off, and with it a bias for which ours has no place: only the average must learn of
    it. Where no normalisation follows, such a bias stays in `given`.

    Raises:
        UserError: a tensor is missing.
    """
    tensors, wanted = {}, network.state_dict()
    for conv, norm, our_conv, our_norm in rows:
        tensors[f"{our_conv}.weight"] = take(given, conv, path, "weight")
        if norm:
            tensors |= take_norm(given, norm, our_norm, network.arguments["norm"], path)
        if f"{our_conv}.bias" in wanted:
            tensors[f"{our_conv}.bias"] = take(given, conv, path, "bias")
        elif norm and f"{conv}.bias" in given:
            bias, mean = take(given, conv, path, "bias"), f"{our_norm}._mean"
            if bias.shape != tensors.get(mean, bias).shape:
                raise UserError(f"{path}: {conv}.bias is misshapen: {list(bias.shape)}")
            if mean in tensors:
                tensors[mean] = tensors[mean] - bias
    return tensors


def take(given: Tensors, layer: str, path: Path, *parts: str) -> np.ndarray:
    """Removes a layer's tensor from `given`, by the first name that is there. Raises UserError if none is."""
    name = next((f"{layer}.{part}" for part in parts if f"{layer}.{part}" in given), f"{layer}.{parts[0]}")
    return mapping.take(given, name, path)


def take_norm(given: Tensors, layer: str, ours: str, norm: Norm, path: Path) -> Tensors:
    """Removes a normalisation's tensors from `given`, and names those that ours has."""
    parts = {"batch": BATCH_NORM, "instance-affine": AFFINE_NORM}.get(norm, {})
    tensors = {f"{ours}.{part}": take(given, layer, path, *names) for part, names in parts.items()}
    if norm == "instance":
        for part in ("weight", "scale", "bias", "running_mean", "running_var"):
            given.pop(f"{layer}.{part}", None)  # untrained, unused
    return tensors


def rearrange(tensors: Tensors, arguments: dict) -> Tensors:
    """Torch7's U-Net as ours: the encoder's half of each skip comes first, and images are RGB instead of BGR."""
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


# ---- what is not a weight


def known(path: Path) -> tuple[Direction | None, str | None]:
    """Direction and photo's side of published weights: the official script keeps them in folders of their name."""
    name = "/".join(path.absolute().parts[-2:]).lower()
    return next((metadata for metadata, names in KNOWN.items() if any(part in name for part in names)), (None, None))


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
    choices = [
        (options.direction, "as given"),
        (possible[0] if len(possible) == 1 else None, "from its channels"),
        (known(options.published)[0], "from the file's name"),
        ("label-to-photo", ""),
    ]
    direction, origin = next(choice for choice in choices if choice[0])
    if origin:
        print(f"direction: {direction} ({origin})")
    else:
        print(f"assumed: direction {direction}, for the file does not tell; --direction if it is another")
    return direction


def trained_px(network, options: Options) -> int:
    """Side of the images that a generator was trained on. Raises UserError if --image-px does not fit it."""
    if options.image_px:
        if options.image_px % network.stride:
            raise UserError(f"--image-px {options.image_px} is no multiple of {network.stride}")
        return options.image_px
    side = published_px(network)
    print(f"assumed: trained on images of {side} px, as published; --image-px if these weights were not")
    return side


def published_px(generator) -> int:
    """Side of the images that published generators of this depth were trained on."""
    levels = generator.arguments.get("levels", 8)
    return 128 if levels == 7 else max(256, 2**levels)


def write(name: str, network, direction: Direction, source: Source, options: Options, count: int) -> Path:
    """Writes one network with its facts and origin, and prints how to use it."""
    path = options.output
    metadata = {"direction": direction}
    if name == "generator":
        metadata["image_px"] = trained_px(network, options)
    elif count > 1:
        path = path.with_name(f"{path.stem}-discriminator.safetensors")
    photo_side = known(options.published)[1]
    if photo_side:
        metadata["photo_side"] = photo_side
    if name == "generator" and not photo_side and direction != "grey-to-colour":
        print("assumed: the photo is the left half of a pair; give `train` and `evaluate` --photo-side right if not")
    return mapping.write(path, "pix2pix", {name: network}, metadata, source, options.published)


def print_next(networks: dict, written: dict[str, Path], direction: Direction, options: Options) -> None:
    """Prints commands that use what was written: `infer`, and a `train` that starts from it with the flags it needs."""
    flags = [word for name, path in written.items() for word in (f"--init-{name}", path)]
    if "generator" in networks:
        files = "--input", "IMAGE", "--output", "OUT.png"
        print("next: " + next_command("pix2pix.infer", "--weights", written["generator"], *files))
        side = options.image_px or published_px(networks["generator"])
        if side != 256:  # the presets' side; 286 px are cut down to it
            flags += ["--image-px", str(side), "--load-px", str(side * 286 // 256)]
    if "discriminator" in networks:
        arguments = networks["discriminator"].arguments
        if arguments["patch_px"] != 70:
            flags += ["--patch-px", str(arguments["patch_px"])]
        if not arguments["conditional"]:
            flags += ["--objective", "l1+gan"]
    if known(options.published)[1] == "right":
        flags += ["--photo-side", "right"]
    start = ["colour"] if direction == "grey-to-colour" else ["paper-facades", "--direction", direction]
    print("next: " + next_command("pix2pix.train", *start, "--data-dir", "DIR", *flags))


@one_line_errors
def main(argv: list[str] | None = None) -> list[Path]:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(read_convert(argv, __doc__))


if __name__ == "__main__":
    main()
