"""Published Context Encoder weights become ours; what a file holds is recognised by its layers' names and shapes.

python -m context_encoder.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from our networks |
|---|---|---|
| `paris_inpaintCenter.t7`, one's own `.t7` | pathak22/context-encoder | in old files: 1 / deviations, flat kernels |
| `netG_streetview.pth`, `netlocalD.pth` | BoyuanJiang/context_encoder_pytorch | convolutions have no biases |
| a state dict of the article's classes, mended (D1) | the article | ReLU after the bottleneck |

All of them are plain sequences of layers, as ours are: the n-th published layer is our n-th. Their number tells the
image's side and what is predicted, their widths tell the rest.
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from context_encoder.options import ConvertOptions as Options
from context_encoder.options import read_convert

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_convert, __doc__)

import re
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from common.checkpoint.weights import build_network
from common.convert import mapping, own_files
from common.convert.mapping import NORM, TORCH7_PARTS, Shapes, Tensors, fill, last_part, listing, refuse_strays
from common.errors import UserError
from common.runtime.commands import next_command
from context_encoder.model import SMALLEST_SIDE, ContextEncoder, Discriminator, widths
from context_encoder.train import MEAN_COLOURS

Layers = dict[str, Tensors]
"""a network's published layers in the order of their work: name -> tensors"""

OVERLAP_PX = 4  # of the published centre networks
EPSILON = 1e-5  # of every normalisation, published and ours
NETWORKS = {"generator": ContextEncoder, "discriminator": Discriminator}

LAYER = re.compile(
    r"(?P<network>(?:[^.]+\.)*?)"  # state_dict., netG. …
    r"(?P<layer>modules\.\d{1,4}(?:\.modules\.\d{1,4})*|main(?:_encode|_decode)?\.\d{1,4}|t\d{1,4}\.\d{1,4})\.(?P<part>[^.]+)"
)


@dataclass(frozen=True)
class Source(mapping.Source):
    """What is known of a codebase beside its tensors."""

    bottleneck_relu: bool = False
    """of its generator: the file does not tell, for an activation has no tensors"""


SOURCES = {
    "modules": Source("pathak22/context-encoder", "UC Berkeley: education and research, not for profit"),
    "main": Source("BoyuanJiang/context_encoder_pytorch", "MIT"),
    "t": Source("the article", "not stated", bottleneck_relu=True),
}


def convert(options: Options) -> Path:
    """Writes the networks that a published file holds into one file, and prints what was recognised and mapped.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    if own_files.is_own(options.published):
        return own_files.rewrite_own(options.published, options.output, "context_encoder")
    path = mapping.published_file(options)
    tensors = mapping.read_tensors(path)
    weights = set(find_weights(tensors, path))
    found, strays = find_networks({name: tensors[name] for name in tensors if name in weights}, path)
    source = source_of(found[0])
    mapping.print_recognised(source, len(weights))
    networks = {}
    for layers in found:
        kind, arguments = recognise(layers, replace(options, published=path))
        if kind in networks:
            raise UserError(f"{path} holds more than one {kind}; save each in a file of its own")
        mapping.print_arguments(kind, arguments)
        renamed = rename(layers, mapping.shapes_of(NETWORKS[kind], arguments, path), path)
        networks[kind] = fill(build_network(NETWORKS[kind], arguments, renamed, path), kind, renamed, path)
    mapping.finish(strays, len(weights), tensors.keys() - weights, path)
    return write(networks, source, replace(options, published=path))


# ---- what the file holds


def find_weights(tensors: Tensors, path: Path) -> list[str]:
    """Names of the tensors that are weights: Torch7 saves each layer's working memory too, PyTorch a counter."""
    if path.suffix.lower() == ".t7":
        return [name for name in tensors if last_part(name) in TORCH7_PARTS]
    wrapper = "state_dict." if any(name.startswith("state_dict.") for name in tensors) else ""  # an optimiser's beside
    return [name for name in tensors if name.startswith(wrapper) and not name.endswith(".num_batches_tracked")]


def find_networks(tensors: Tensors, path: Path) -> tuple[list[Layers], list[str]]:
    """(the layers of each network, names of tensors that are in none).

    Raises:
        UserError: no names of a published Context Encoder.
    """
    refuse_pytorch_gan(tensors, path)
    networks, strays = {}, []
    for name, tensor in tensors.items():
        # DataParallel puts `module` before the names of what it runs.
        match = LAYER.fullmatch(".".join(part for part in name.split(".") if part != "module"))
        if match:
            networks.setdefault(match["network"], {}).setdefault(match["layer"], {})[match["part"]] = tensor
        else:
            strays.append(name)
    if not networks:
        raise UserError(
            f"{path} holds none of the published Context Encoders (the official .t7, BoyuanJiang's .pth, the "
            f"article's state dict); its first tensors are {listing(tensors) or 'none at all'}"
        )
    return [{name: layers[name] for name in sorted(layers, key=_place)} for layers in networks.values()], strays


def _place(layer: str) -> tuple:
    return layer.startswith("main_decode"), *map(int, re.findall(r"\d+", layer))


def source_of(layers: Layers) -> Source:
    return SOURCES[re.match("[a-z]+", next(iter(layers)))[0]]


def refuse_pytorch_gan(tensors: Tensors, path: Path) -> None:
    """Raises UserError for the networks of eriklindernoren/PyTorch-GAN, which are others than the paper's."""
    kernels = {name[max(0, name.find("model.")) :]: tensor.shape[2:] for name, tensor in tensors.items()}
    if kernels.get("model.14.weight") == (1, 1) and kernels.get("model.27.weight") == (3, 3):
        differs = "its bottleneck is a 1 x 1 convolution of the 4 x 4 map, where the paper's sees all of the map"
    elif kernels.get("model.0.weight") == kernels.get("model.11.weight") == (3, 3):
        differs = "its discriminator judges 8 x 8 patches with 3 x 3 convolutions and instance normalisation"
    else:
        return
    raise UserError(f"{path} is PyTorch-GAN's context encoder, another network than the paper's: {differs}")


# ---- networks


def recognise(layers: Layers, options: Options) -> tuple[str, dict]:
    """(generator or discriminator, arguments of our class), from the number of layers and their outputs.

    Raises:
        UserError: no Context Encoder has so many layers of these kinds.
    """
    convs = [name for name in layers if not _is_norm(layers[name])]
    outputs = [_outputs(layers, name) for name in convs]
    # Convolutions without normalisation beside the first and the last one: 1 for the noise's, or for the patch's in a
    # conditional discriminator.
    extra = len(convs) - (len(layers) - len(convs)) - 2
    is_discriminator = outputs[-1:] == [1]
    halvings, least = (len(convs) - extra - 1) // 2, 3
    if is_discriminator:
        halvings, least = len(convs) - 1 - 2 * extra, 2
    if extra not in (0, 1) or halvings < least:
        raise UserError(
            f"{options.published} holds no Context Encoder: {len(convs)} convolutions and {len(layers) - len(convs)} "
            "normalisations do not make one"
        )
    side = SMALLEST_SIDE << halvings
    biased = sum("bias" in layers[name] for name in convs) > len(convs) / 2  # so that the odd one out is named
    base = outputs[0] * 64 // widths(side)[0]
    if is_discriminator:
        sizes = {"side_px": side, "base_channels": base, "conv_bias": biased, "context_px": 0}
        if extra:
            sizes |= {"base_channels": outputs[0], "context_px": 2 * side}
        return "discriminator", sizes
    refuse_article_as_printed(layers, options.published)
    output = "center" if (len(convs) - extra) % 2 else "whole"  # a whole image takes one step more
    return "generator", {
        "image_px": side,
        "output": output,
        "base_channels": base,
        "bottleneck": outputs[halvings],
        "noise_channels": outputs[halvings + 1] if extra else 0,
        "overlap_px": OVERLAP_PX if output == "center" else 0,
        "mean_colour": list(MEAN_COLOURS[options.mean_colour]),
        "conv_bias": biased,
        "bottleneck_relu": source_of(layers).bottleneck_relu,
    }


def refuse_article_as_printed(layers: Layers, path: Path) -> None:
    """Raises UserError if nothing leads from the article's bottleneck, t6, to 4 x 4, which t7 takes (D1)."""
    around = [name for name in layers if name.startswith(("t6.", "t7.")) and not _is_norm(layers[name])]
    if list(layers)[-1] != "t10.0" or around != ["t6.0", "t7.0"]:
        return
    units, taken = (_outputs(layers, name) for name in around)
    if units != taken:
        raise UserError(
            f"{path} is the article's network as printed, which cannot run: t6 gives {units} channels, t7 takes "
            f"{taken}; the layer that leads from the bottleneck to 4 x 4 is missing"
        )


def _is_norm(tensors: Tensors) -> bool:
    if "weight" in tensors:
        return tensors["weight"].ndim == 1
    return "running_mean" in tensors


def _outputs(layers: Layers, name: str) -> int:
    """Length of a convolution's weight, flat or not. Raises UserError if it is missing or of no convolution."""
    weight = layers[name].get("weight")
    if weight is None or weight.ndim not in (2, 4) or not weight.size:
        raise UserError(f"the published tensor {name}.weight is missing or of no convolution")
    return len(weight)


def rename(layers: Layers, shapes: Shapes, path: Path) -> Tensors:
    """The published layers' tensors under our names.

    Args:
        shapes: of all our tensors; the n-th published layer is our n-th.

    Raises:
        UserError: a layer lacks a tensor, has one too many, or its weight is not of our shape.
    """
    ours: dict[str, list[str]] = {}
    for name in shapes:
        ours.setdefault(name.rpartition(".")[0], []).append(last_part(name))
    tensors, strays = {}, []
    for (published, given), (layer, wanted) in zip(layers.items(), ours.items(), strict=True):
        given, shape = with_variance(given, published), shapes[f"{layer}.weight"]
        parts = {old: new for old, new in NORM.items() if new in wanted}
        weight = given.get("weight")
        if weight is not None and weight.ndim == 2 and weight.shape == (shape[0], prod(shape[1:])):
            given["weight"] = weight.reshape(shape)  # old versions of Torch7 keep a matrix
        elif weight is not None and weight.shape != shape:
            raise UserError(f"{path}: {published}.weight has shape {list(weight.shape)}, its place asks {list(shape)}")
        missing = [part for part in parts if part not in given]
        if missing:
            raise UserError(f"{path} lacks the tensor {published}.{missing[0]}")
        tensors |= {f"{layer}.{new}": given[old] for old, new in parts.items()}
        strays += [f"{published}.{part}" for part in given if part not in parts]
    refuse_strays(strays, path)
    return tensors


def with_variance(given: Tensors, published: str) -> Tensors:
    """A layer's tensors with the variance in place of 1 / sqrt(variance + epsilon), Torch7's until 2016."""
    given = dict(given)
    if "running_std" in given and "running_var" not in given:
        inverse = given.pop("running_std").astype(np.float64)
        if not (inverse > 0).all():
            raise UserError(f"the published tensor {published}.running_std is not above 0 everywhere")
        given["running_var"] = inverse**-2 - EPSILON
    return given


# ---- what is not a weight


def write(networks: dict, source: Source, options: Options) -> Path:
    """Writes the networks with what `infer`, `evaluate` and `train` must know, and prints how to use them."""
    path, generator, discriminator = options.output, networks.get("generator"), networks.get("discriminator")
    metadata = {}
    if generator:
        masks = {"center": "center", "whole": "noise"}[generator.output]  # what the release trains on
        metadata = {"image_px": generator.image_px, "crop": "center", "holes": masks}
        colour = " ".join(f"{value:g}" for value in generator.arguments["mean_colour"])
        print(f"assumed: colour in the hole RGB {colour} ({options.mean_colour}); --mean-colour if another")
        overlap = generator.arguments["overlap_px"]
        print(f"assumed: overlap of {overlap} px, crop center, holes {masks}, as in the published trainings")
    mapping.write(path, "context_encoder", networks, metadata, source, options.published)
    if generator:
        mapping.print_infer("context_encoder", path)
    if discriminator:
        side = discriminator.arguments["side_px"]
        whole = generator.output == "whole" if generator else side == 128
        if not generator:
            print(f"assumed: it judges {'whole images' if whole else 'the centres of images'}, by its {side} px")
        preset, image_px = ("paper-random-region", side) if whole else ("paper-center", 2 * side)
        words = [preset, "--image-px", str(image_px), *(["--conditional"] if discriminator.conditional else [])]
        words += ["--data-dir", "DIR", "--init-discriminator"]
        print("next: " + next_command("context_encoder.train", *words, path))
    return path


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(read_convert(argv, __doc__))


if __name__ == "__main__":
    main()
