"""Published DeepFill v2 weights become ours; what a file holds is recognised by the names and shapes of its tensors.

python -m deepfill.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from our networks |
|---|---|---|
| folder `release_places2_256_deepfill_v2`, `snap-0` | JiahuiYu/generative_inpainting | TensorFlow's axes; BGR |
| `states_tf_places2.pth`, one's own | nipponjo/deepfillv2-pytorch, networks_tf | nothing |
| `states_pt_places2.pth`, one's own | the same, networks | other names; symmetric padding |
| a state dict of the article's classes | KeyKy/generative-inpainting-2.0-pytorch | gates first; symmetric padding |

nipponjo's code feeds RGB; whether its files made from the release, which is BGR, were adapted to that is not verified:
`--colours BGR` tries the other order. KeyKy's code saves whole modules, which are refused: save their `state_dict()`.
MMagic's and csqiangwen's files hold other networks.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from common.checkpoint import load_network, save_published
from common.errors import UserError, one_line_errors
from common.tf_weights import checkpoint_files, is_checkpoint, read_checkpoint
from common.torch_weights import read_published
from deepfill.model import (
    ATTENDED_ROWS,
    COARSE_ROWS,
    DILATED_ROWS,
    MATCHED_ROWS,
    MERGED_ROWS,
    Discriminator,
    Generator,
    Inputs,
    Padding,
)

Tensors = dict[str, np.ndarray]
Place = tuple[str, tuple[int, ...]]
"""name and shape of a published tensor"""

NETWORKS = {"generator": Generator, "discriminator": Discriminator}
TRAINING_PX = 256  # of every published network
LISTS = ("checkpoint", "checkpoint.txt")  # TensorFlow's list of checkpoints, and what the release calls it

# nipponjo's code saves {G: …, D: …, G_optim: …}; `module.` is DataParallel's.
WRAPPER = re.compile(r"^([GD]\.)?(module\.)?")
TRAINING = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step|lr)|[GD]_optim\..*")
CONSTANT = ".contextual_attention.fuse_weight"  # an identity matrix that some of nipponjo's files hold

# Of nipponjo's networks: the beginning of a branch, and the end.
DOWN = ["conv1", *(f"down_block{n}.{part}" for n in (1, 2) for part in ("conv1_downsample", "conv2"))]
UP = [*(f"up_block{n}.{part}" for n in (1, 2) for part in ("conv1_upsample", "conv2")), "conv_to_rgb"]


@dataclass(frozen=True)
class Source:
    """What is known of a codebase beside its tensors."""

    codebase: str
    licence: str
    colours: str = "RGB"
    inputs: Inputs = "official"
    gate_first: bool = False
    padding: Padding = "same"
    slope: float = 0.2


RELEASE = Source("JiahuiYu/generative_inpainting", "CC BY-NC 4.0", colours="BGR")
NIPPONJO_TF = Source("nipponjo/deepfillv2-pytorch, networks_tf", "not stated; CC BY-NC 4.0 if made from the release")
NIPPONJO = replace(NIPPONJO_TF, codebase="nipponjo/deepfillv2-pytorch, networks", padding="symmetric")
ARTICLE = Source(
    "the article, KeyKy/generative-inpainting-2.0-pytorch", "not stated", inputs="article", gate_first=True,
    padding="symmetric", slope=0.01,
)  # fmt: skip

# What any tensor's name tells. The discriminators of nipponjo's two codes have the same names, but for a time.
MARKS = [
    ("generator", RELEASE, re.compile(r"inpaint_net/")),
    ("generator", ARTICLE, re.compile(r"stage_[12]\.")),
    ("generator", NIPPONJO, re.compile(r"stage[12]\.")),
    ("generator", NIPPONJO_TF, re.compile(r"(x|pm|all)?conv\d+(_\w+)?\.conv\.")),
    ("discriminator", RELEASE, re.compile(r"discriminator/sn_patch_gan/")),
    ("discriminator", ARTICLE, re.compile(r"dislayer\.")),
    ("discriminator", NIPPONJO, re.compile(r"conv\d+\.conv_sn\.parametrizations\.")),
    ("discriminator", NIPPONJO_TF, re.compile(r"conv\d+\.conv_sn\.weight")),
]

OTHERS = {
    r"\b(dilation_neck|encoder_conv|encoder_attention|encoder\.enc\d)\b": (
        "MMagic's DeepFill v2, another network than the paper's: its padding reflects, its second stage takes 5 "
        "channels and has a decoder of full width, and its RGB outputs are gated"
    ),
    r"\b(mask_conv2d|refine_atten_\d)\b": (
        "csqiangwen's DeepFill v2, another network than the paper's: it takes 4 channels, its gates have convolutions "
        "of their own, and its discriminator gives one map"
    ),
}


@dataclass(frozen=True)
class Options:
    """Bring published weights over."""

    published: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PUBLISHED")]
    """a TensorFlow checkpoint (its folder, snap-0, or one of its files), or a .pth, .pt or .safetensors file"""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.safetensors")]
    """the .safetensors file to write"""
    colours: Literal["auto", "RGB", "BGR"] = "auto"
    """order of colours that the networks were trained with; auto: BGR for the release, RGB for all others"""


def convert(options: Options) -> Path:
    """Writes the networks that a published file holds into one file, and prints what was recognised and mapped.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    path = checkpoint_in(options.published)
    if options.output.suffix != ".safetensors" or options.output in (path, options.published):
        raise UserError(f"cannot write {options.output}: name another file, one that ends in .safetensors")
    networks, source = read(path)
    if options.colours != "auto":
        source = replace(source, colours=options.colours)
    return write(networks, source, path, options.output)


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a folder, or the list in it, stands for; any other path as it is.

    Raises:
        UserError: the folder holds no index, or more than one and no list.
    """
    folder = path.parent if path.name in LISTS and not path.is_dir() else path
    if not folder.is_dir():
        return path
    for text in (folder / name for name in LISTS if (folder / name).is_file()):
        listed = re.search(r'^model_checkpoint_path: *"(.*[/\\])?(.+)"', text.read_text(errors="replace"), re.MULTILINE)
        if listed:
            return folder / f"{listed[2]}.index"
    found = sorted(folder.glob("*.index"))
    if not found:
        raise UserError(
            f"there is no .index file in {folder}, such as snap-0.index; a TensorFlow checkpoint has one beside its "
            ".data files"
        )
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} checkpoints; name one of them, such as {found[-1]}")
    return found[0]


def read(path: Path) -> tuple[dict, Source]:
    """The networks that a file holds. Every tensor finds its place, or is known to serve training only."""
    missing_index = not path.suffix and not path.exists()  # snap-0
    tensors = read_checkpoint(path) if is_checkpoint(path) or missing_index else read_published(path)
    left_out = [name for name in tensors if TRAINING.fullmatch(name) or name.endswith(CONSTANT)]
    bare = {name: WRAPPER.sub("", name) for name in tensors if name not in left_out}
    given = {bare[name]: tensors[name] for name in bare}
    if len(given) < len(bare):
        raise UserError(f"{path} holds two networks of the same names")
    sources = recognise(given, path)
    source, number = next(iter(sources.values())), len(given)
    print(f"recognised: {source.codebase}, {number} tensors; licence: {source.licence}")
    networks = {kind: build(kind, source, given, path) for kind in sources}
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


def recognise(given: Tensors, path: Path) -> dict[str, Source]:
    """Codebase of each network. Raises UserError if there is no published DeepFill v2, or networks of several codes."""
    for pattern, told in OTHERS.items():
        if any(re.search(pattern, name) for name in given):
            raise UserError(f"{path} is {told}")
    found = {}
    for kind, source, mark in MARKS:
        if any(mark.match(name) for name in given):
            if kind in found:
                raise UserError(f"{path} holds a {kind} of {found[kind].codebase} and one of {source.codebase}")
            found[kind] = source
    if not found:
        raise UserError(
            f"{path} holds none of the published DeepFill v2 (the release's snap-0, nipponjo's .pth, the article's "
            f"state dicts); its first tensors are {listing(given) or 'none at all'}"
        )
    if found.get("generator") == NIPPONJO and found.get("discriminator") == NIPPONJO_TF:
        found["discriminator"] = NIPPONJO
    if len(set(found.values())) > 1:
        raise UserError(f"{path} holds networks of {' and of '.join(source.codebase for source in found.values())}")
    return found


def recognise_arguments(kind: str, source: Source, given: Tensors, path: Path) -> dict:
    """Arguments of one of our networks, from its first convolution. Raises UserError if no network begins with it."""
    first, second = first_convolutions(kind, source, given)
    if first not in given:
        raise UserError(f"{path} lacks the tensor {first}")
    shape = given[first].shape
    if len(shape) != 4 or min(shape) < 1:
        raise UserError(f"{path}: {first} has shape {list(shape)}, its place asks 4 dimensions")
    outputs, inputs = (shape[3], shape[2]) if source is RELEASE else shape[:2]
    if kind == "discriminator":
        guided = inputs == 5
        return {"base_channels": outputs, "guided": guided, "slope": source.slope, "padding": source.padding}
    if second in given and given[second].ndim == 4 and given[second].shape[-2 if source is RELEASE else 1] == outputs:
        raise UserError(
            f"{path} is no DeepFill v2: its convolutions have no gates, as those of DeepFill v1, the release's other "
            "network; that of v2 is called release_places2_256_deepfill_v2"
        )
    if outputs % 4:
        raise UserError(f"{path}: {first} has {outputs} outputs; features and gates of even widths make multiples of 4")
    return {
        "base_channels": outputs // 2,
        "inputs": source.inputs,
        "guided": source.inputs == "article" or inputs == 6,
        "gate_first": source.gate_first,
        "padding": source.padding,
    }


def first_convolutions(kind: str, source: Source, given: Tensors) -> tuple[str, str]:
    """Published names of a network's first two weights."""
    if kind == "discriminator":
        names = discriminator_names(source, given)
        return names[0]["weight_orig"], names[1]["weight_orig"]
    weight = "/kernel" if source is RELEASE else ".weight"
    names = generator_names(source, given)
    return names["coarse.conv1"] + weight, names["coarse.conv2_downsample"] + weight


# ---- names and shapes


def generator_layers(base: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """Our convolutions and the shapes of their weights, without building them: what is wrong may be so by gigabytes."""
    found = {}

    def add(stage: str, rows: list, channels: int) -> int:
        for name, kernel, _, times in rows:
            width = int(times * base)
            found[f"{stage}.{name}"] = (2 * width, channels, kernel, kernel)
            channels = width
        return channels

    found["coarse.conv17"] = (3, add("coarse", COARSE_ROWS, inputs), 3, 3)
    dilated, matched = add("refine", DILATED_ROWS, 3), add("refine", MATCHED_ROWS, 3)
    attended = add("refine", ATTENDED_ROWS, matched)
    found["refine.allconv17"] = (3, add("refine", MERGED_ROWS, dilated + attended), 3, 3)
    return found


def generator_names(source: Source, given: Tensors) -> dict[str, str]:
    """Our convolutions -> the published ones."""
    layers = list(generator_layers(2, 5))
    published = [layer.partition(".")[2] for layer in layers]
    if source is RELEASE:
        inside = [f"/{name}_conv" if name.endswith("_upsample") else "" for name in published]
        return {layer: f"inpaint_net/{a}{b}" for layer, a, b in zip(layers, published, inside, strict=True)}
    if source is NIPPONJO:
        published = nipponjo_names(given)
    elif source is ARTICLE:
        published = [article_name(layer) for layer in layers]
    inside = [".conv.conv" if layer.endswith("_upsample") else ".conv" for layer in layers]
    if source is ARTICLE:  # convolves to RGB without a layer of its own
        inside = [part * (not layer.endswith("conv17")) for layer, part in zip(layers, inside, strict=True)]
    return {layer: a + b for layer, a, b in zip(layers, published, inside, strict=True)}


def nipponjo_names(given: Tensors) -> list[str]:
    """Those of networks, which once called the branches b1 and b2, in the order of our layers."""
    old = any(name.startswith(("stage2.b1_", "stage2.b2_")) for name in given)
    dilated, matched = ("b1_", "b2_") if old else ("conv_", "ca_")
    middle = [f"conv_bn{n}" for n in range(1, 8)]
    return [
        *(f"stage1.{name}" for name in (*DOWN, *middle, *UP)),
        *(f"stage2.{dilated}{name}" for name in (*DOWN, *middle[:5])),
        *(f"stage2.{matched}{name}" for name in (*DOWN, middle[0], middle[3], middle[4])),
        *(f"stage2.{name}" for name in (*middle[5:], *UP)),
    ]


def article_name(layer: str) -> str:
    """`stage_1.conv2_down`, `stage_2.xlayer.xconv7_atrous` …"""
    stage, _, name = layer.partition(".")
    short = name.replace("_downsample", "_down").replace("_upsample", "_up")
    if stage == "coarse":
        return f"stage_1.{short.removesuffix('_atrous')}"
    number = int(re.search(r"\d+", name)[0])
    branch = {"x": "xlayer", "p": "pmlayer1" if number < 9 else "pmlayer2", "a": "colayer"}[name[0]]
    return f"stage_2.{branch}.{short}"


def discriminator_names(source: Source, given: Tensors) -> list[dict[str, str]]:
    """Published names of each convolution's parts, by ours."""
    if source is RELEASE:
        layer, parts = "discriminator/sn_patch_gan/conv{}/", ("kernel", "bias", "kernel_sn/u")
    elif source is ARTICLE:
        layer, parts = "dislayer.conv{}.snconv.module.", ("weight_bar", "bias", "weight_u", "weight_v")
    elif any(".parametrizations." in name for name in given):
        layer, inside = "conv{}.conv_sn.", "parametrizations.weight."
        parts = (f"{inside}original", "bias", f"{inside}0._u", f"{inside}0._v")
    else:
        layer, parts = "conv{}.conv_sn.", ("weight", "bias", "weight_u")
    ours = ("weight_orig", "bias", "weight_u", "weight_v")
    return [{our: layer.format(n) + part for our, part in zip(ours, parts, strict=False)} for n in range(1, 7)]


def places(kind: str, source: Source, arguments: dict, given: Tensors) -> dict[str, Place]:
    """Our tensors -> the published ones."""
    base, guided, found = arguments["base_channels"], arguments["guided"], {}
    if kind == "generator":
        weight, bias = ("/kernel", "/bias") if source is RELEASE else (".weight", ".bias")
        names = generator_names(source, given)
        for layer, shape in generator_layers(base, 6 if guided and source.inputs == "official" else 5).items():
            ours = layer if layer.endswith("conv17") else f"{layer}.conv"
            found[f"{ours}.weight"] = names[layer] + weight, published_shape(source, shape)
            found[f"{ours}.bias"] = names[layer] + bias, shape[:1]
        return found
    channels = 5 if guided else 4
    for n, (times, names) in enumerate(zip((1, 2, 4, 4, 4, 4), discriminator_names(source, given), strict=True), 1):
        width = times * base
        shapes = {
            "weight_orig": published_shape(source, (width, channels, 5, 5)),
            "bias": (width,),
            "weight_u": (1, width) if source is RELEASE else (width,) if "weight_v" in names else (width, 1),
            "weight_v": (channels * 25,),
        }
        found |= {f"conv{n}.{part}": (name, shapes[part]) for part, name in names.items()}
        channels = width
    return found


def published_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the shape of one of our kernels is in its file."""
    return (*shape[2:], shape[1], shape[0]) if source is RELEASE else shape


# ---- networks


def build(kind: str, source: Source, given: Tensors, path: Path):
    """One of our networks from its tensors, which are taken out of `given`.

    Raises:
        UserError: a tensor is missing or misshapen.
    """
    arguments = recognise_arguments(kind, source, given, path)
    print(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in arguments.items()))
    tensors = {}
    for ours, (published, wanted) in places(kind, source, arguments, given).items():
        if published not in given:
            raise UserError(f"{path} lacks the tensor {published}")
        array = given.pop(published)
        if array.shape != wanted:
            raise UserError(f"{path}: {published} has shape {list(array.shape)}, its place asks {list(wanted)}")
        if array.dtype.kind != "f":
            raise UserError(f"{path}: {published} holds {array.dtype} numbers, which no weights are")
        if source is RELEASE and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        tensors[ours] = np.ascontiguousarray(array.ravel() if ours.endswith(("_u", "_v")) else array)
    if kind == "discriminator":
        complete_norms(tensors)
    network = NETWORKS[kind](**arguments)
    load_network(network, {f"{kind}.{name}": array for name, array in tensors.items()}, kind, path)
    return network


def complete_norms(tensors: Tensors) -> None:
    """Adds the right singular vectors that some codes compute from the left ones, v = W' u / |W' u|, at every step."""
    for n in range(1, 7):
        weight, u = tensors[f"conv{n}.weight_orig"], tensors[f"conv{n}.weight_u"]
        u = tensors[f"conv{n}.weight_u"] = u / max(np.linalg.norm(u), 1e-12)  # before training it is of any length
        v = weight.reshape(len(weight), -1).T @ u
        tensors.setdefault(f"conv{n}.weight_v", v / max(np.linalg.norm(v), 1e-12))


# ---- what is not a weight


def write(networks: dict, source: Source, path: Path, output: Path) -> Path:
    """Writes the networks with what `infer`, `evaluate` and `train` must know, and prints how to use them."""
    files = checkpoint_files(path) if is_checkpoint(path) else [path]
    step = re.search(r"-(\d{1,12})(\.index|\.meta|\.data-.*)?$", path.name)
    facts = {"paper": "deepfill", "preset": "", "step": int(step[1]) if step else 0}
    facts |= {kind: network.arguments for kind, network in networks.items()}
    facts |= {"image_px": TRAINING_PX, "crop": "center", "holes": "official", "colours": source.colours}
    save_published(output, networks, facts, source.codebase, source.licence, files)
    print(f"not in the file: the order of colours, taken as {source.colours}; --colours if another")
    if "generator" in networks:
        print(f"next: python -m deepfill.infer --weights {output} --input PHOTO --mask HOLE --output OUT.png")
    guided = next(iter(networks.values())).arguments["guided"]
    preset = "article" if source.gate_first else "paper-guided" if guided else "paper-places2"
    starts = " ".join(f"--init-{kind} {output}" for kind in networks)
    print(f"next: python -m deepfill.train {preset} --data-dir DIR {starts}")
    return output


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(tyro.cli(Options, args=argv, prog="python -m deepfill.convert", description=__doc__))


if __name__ == "__main__":
    main()
