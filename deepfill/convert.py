"""Published DeepFill v2 weights become ours; what a file holds is recognised by the names and shapes of its tensors.

python -m deepfill.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from our networks |
|---|---|---|
| folder `release_places2_256_deepfill_v2`, `snap-0` | JiahuiYu/generative_inpainting | TensorFlow's axes; BGR |
| `states_tf_places2.pth`, one's own | nipponjo/deepfillv2-pytorch, networks_tf | attention: not fused, other mask |
| `states_pt_places2.pth`, one's own | the same, networks | names; symmetric padding; attention: other places |
| a state dict of the article's classes | KeyKy/generative-inpainting-2.0-pytorch | gates first; padding; attention |
| the discriminator of MMagic's file, alone | MMagic, MMEditing | symmetric padding; BGR |

How each code's attention differs is told by ATTENTIONS; the networks keep it, and so do files that are trained on.
nipponjo's code feeds RGB; whether its files made from the release, which is BGR, were adapted to that is not verified:
`--colours BGR` tries the other order, and `--attention release` the attention that those weights were trained with.
KeyKy's code saves whole modules, which are refused: save their `state_dict()`. It is taken at its word for the PyTorch
that it asks for, 1.0.1; from 1.3 on its attention loses the last row and column. MMagic's and csqiangwen's generators
are other networks.
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from deepfill.options import Attention, read_convert
from deepfill.options import ConvertOptions as Options

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_convert, __doc__)

import re
from dataclasses import dataclass, replace

import numpy as np

from common.convert import mapping, own_files
from common.convert.mapping import Tensors, fill, listing, take
from common.errors import UserError
from common.runtime.commands import next_command
from deepfill.config import PRESETS
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

Place = tuple[str, tuple[int, ...]]
"""name and shape of a published tensor"""

NETWORKS = {"generator": Generator, "discriminator": Discriminator}
TRAINING_PX = 256  # of every published network

# nipponjo's code saves {G: …, D: …, G_optim: …}, MMagic's {state_dict: {generator: …, disc: …}}; `module.` is
# DataParallel's.
WRAPPER = re.compile(r"^(state_dict\.)?([GD]\.|disc\.)?(module\.)?")
TRAINING = re.compile(r"(.*/)?(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step|lr)|[GD]_optim\..*")
CONSTANT = ".contextual_attention.fuse_weight"  # an identity matrix that some of nipponjo's files hold

# Our convolutions in the order of the tables.
LAYERS = [f"coarse.{name}" for name, *_ in COARSE_ROWS] + ["coarse.conv17"]
LAYERS += [f"refine.{name}" for name, *_ in (*DILATED_ROWS, *MATCHED_ROWS, *ATTENDED_ROWS, *MERGED_ROWS)]
LAYERS += ["refine.allconv17"]

# Of nipponjo's networks: the beginning of a branch, and the end.
DOWN = ["conv1", *(f"down_block{n}.{part}" for n in (1, 2) for part in ("conv1_downsample", "conv2"))]
UP = [*(f"up_block{n}.{part}" for n in (1, 2) for part in ("conv1_upsample", "conv2")), "conv_to_rgb"]


# Where a code's attention is not the release's; see `attention.contextual_attention`.
ATTENTIONS = {
    "release": {},
    "article": {"normalise": "channel"},
    "networks_tf": {"fuse": False, "downsample": "one-step"},
    "networks": {"downsample": "strided"},
}


@dataclass(frozen=True)
class Source(mapping.Source):
    """What is known of a codebase beside its tensors."""

    colours: str = "RGB"
    inputs: Inputs = "official"
    gate_first: bool = False
    padding: Padding = "same"
    slope: float = 0.2
    attention: Attention = "release"
    mark: str = "."  # between a layer and its part
    kernel: str = "weight"
    axes: tuple[int, int, int, int] = (0, 1, 2, 3)  # of a kernel: where ours are found


RELEASE = Source(
    "JiahuiYu/generative_inpainting", "CC BY-NC 4.0", colours="BGR", mark="/", kernel="kernel", axes=(3, 2, 0, 1)
)
NIPPONJO_TF = Source(
    "nipponjo/deepfillv2-pytorch, networks_tf", "not stated; CC BY-NC 4.0 if made from the release",
    attention="networks_tf",
)  # fmt: skip
NIPPONJO = replace(
    NIPPONJO_TF, codebase="nipponjo/deepfillv2-pytorch, networks", padding="symmetric", attention="networks"
)
ARTICLE = Source(
    "the article, KeyKy/generative-inpainting-2.0-pytorch", "not stated", inputs="article", gate_first=True,
    padding="symmetric", slope=0.01, attention="article",
)  # fmt: skip
MMAGIC = Source("open-mmlab/mmagic, MMagic or MMEditing", "Apache-2.0", colours="BGR", padding="symmetric")

# What any tensor's name tells. The discriminators of nipponjo's two codes have the same names, but for a time.
MARKS = [
    ("generator", RELEASE, re.compile(r"inpaint_net/")),
    ("generator", ARTICLE, re.compile(r"stage_[12]\.")),
    ("generator", NIPPONJO, re.compile(r"stage[12]\.")),
    ("generator", NIPPONJO_TF, re.compile(r"((x|pm|all)conv\d+(_\w+)?|conv(\d+_\w+|[7-9]|1\d))\.conv\.")),
    ("discriminator", RELEASE, re.compile(r"discriminator/sn_patch_gan/")),
    ("discriminator", ARTICLE, re.compile(r"dislayer\.")),
    ("discriminator", NIPPONJO, re.compile(r"conv\d+\.conv_sn\.parametrizations\.")),
    ("discriminator", NIPPONJO_TF, re.compile(r"conv\d+\.conv_sn\.weight")),
    ("discriminator", MMAGIC, re.compile(r"conv\d+\.conv\.weight_orig")),
]

OTHERS = {
    r"\b(dilation_neck|encoder_conv|encoder_attention|encoder\.enc\d)\b": (
        "MMagic's DeepFill v2, another network than the paper's: its padding reflects, its second stage takes 5 "
        "channels and has a decoder of full width, and its RGB outputs are gated; its discriminator is the paper's: "
        "save that one's state dict alone"
    ),
    r"\b(mask_conv2d|refine_atten_\d)\b": (
        "csqiangwen's DeepFill v2, another network than the paper's: it takes 4 channels, its gates have convolutions "
        "of their own, and its discriminator gives one map"
    ),
}


def convert(options: Options) -> Path:
    """Writes the networks that a published file holds into one file, and prints what was recognised and mapped.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    if own_files.is_own(options.published):
        return own_files.rewrite_own(options.published, options.output, "deepfill")
    path = mapping.published_file(options)
    if not path.suffix and not path.exists():  # snap-0, of which nothing is there: its index is missed
        path = path.with_name(f"{path.name}.index")
    networks, source = read(path, options)
    if options.colours != "auto":
        source = replace(source, colours=options.colours)
    else:
        print(f"assumed: colours {source.colours}, as in that code; --colours if they were trained with another order")
    return write(networks, source, path, options.output)


def read(path: Path, options: Options) -> tuple[dict, Source]:
    """The networks that a file holds. Every tensor finds its place, or is known to serve training only."""
    tensors = mapping.read_tensors(path)
    left_out = [name for name in tensors if TRAINING.fullmatch(name) or name.endswith(CONSTANT)]
    bare = {name: WRAPPER.sub("", name) for name in tensors if name not in left_out}
    given = {bare[name]: tensors[name] for name in bare}
    if len(given) < len(bare):
        raise UserError(f"{path} holds two networks of the same names")
    sources = settle(recognise(given, path), options)
    source, count = next(iter(sources.values())), len(given)
    mapping.print_recognised(source, count)
    attention = source.attention if options.attention == "auto" else options.attention
    networks = {kind: build(kind, source, given, path, ATTENTIONS[attention]) for kind in sources}
    mapping.finish(given, count, left_out, path)
    return networks, source


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


def settle(sources: dict[str, Source], options: Options) -> dict[str, Source]:
    """The codebases with what the tensors do not tell: the flags' word for it, or what is assumed, which is printed.

    Raises:
        UserError: a flag contradicts what is known of a codebase, or is for a network that is not there.
    """
    source = next(iter(sources.values()))
    if sources == {"discriminator": NIPPONJO_TF}:  # both of nipponjo's codes name their tensors so
        if options.padding == "symmetric":
            sources = {"discriminator": NIPPONJO}
        elif options.padding == "auto":
            print("assumed: padding same, of networks_tf; --padding symmetric if the discriminator is of networks")
    elif options.padding not in ("auto", source.padding):
        raise UserError(f"--padding {options.padding}: the layers of {source.codebase} have {source.padding}")
    if options.attention != "auto":
        if "generator" not in sources:
            raise UserError(f"--attention {options.attention}: a discriminator has no attention")
    elif "generator" in sources and source.attention == "networks_tf":
        print(
            "assumed: attention as networks_tf computes it, neighbours not fused and the mask reduced in one step; "
            "--attention release if the weights were made from the release, which trained with its own"
        )
    return sources


def recognise_arguments(kind: str, source: Source, given: Tensors, path: Path) -> dict:
    """Arguments of one of our networks, from its first convolution. Raises UserError if no network begins with it."""
    first, second = first_convolutions(kind, source, given)
    if first not in given:
        raise UserError(f"{path} lacks the tensor {first}")
    shape = given[first].shape
    if len(shape) != 4 or min(shape) < 1:
        raise UserError(f"{path}: {first} has shape {list(shape)}, its place asks 4 dimensions")
    outputs, inputs = (shape[axis] for axis in source.axes[:2])
    if kind == "discriminator":
        guided = inputs == 5
        return {"base_channels": outputs, "guided": guided, "slope": source.slope, "padding": source.padding}
    if second in given and given[second].ndim == 4 and given[second].shape[source.axes[1]] == outputs:
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
    names, weight = generator_names(source, given), source.mark + source.kernel
    return names["coarse.conv1"] + weight, names["coarse.conv2_downsample"] + weight


# ---- names and shapes


def generator_names(source: Source, given: Tensors) -> dict[str, str]:
    """Our convolutions -> the published ones."""
    published = [layer.partition(".")[2] for layer in LAYERS]
    if source is RELEASE:
        inside = [f"/{name}_conv" if name.endswith("_upsample") else "" for name in published]
        return {layer: f"inpaint_net/{a}{b}" for layer, a, b in zip(LAYERS, published, inside, strict=True)}
    if source is NIPPONJO:
        published = nipponjo_names(given)
    elif source is ARTICLE:
        published = [article_name(layer) for layer in LAYERS]
    inside = [".conv.conv" if layer.endswith("_upsample") else ".conv" for layer in LAYERS]
    if source is ARTICLE:  # convolves to RGB without a layer of its own
        inside = [part * (not layer.endswith("conv17")) for layer, part in zip(LAYERS, inside, strict=True)]
    return {layer: a + b for layer, a, b in zip(LAYERS, published, inside, strict=True)}


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
    elif source is MMAGIC:
        layer, parts = "conv{}.conv.", ("weight_orig", "bias", "weight_u", "weight_v")
    elif any(".parametrizations." in name for name in given):
        layer, inside = "conv{}.conv_sn.", "parametrizations.weight."
        parts = (f"{inside}original", "bias", f"{inside}0._u", f"{inside}0._v")
    else:
        layer, parts = "conv{}.conv_sn.", ("weight", "bias", "weight_u")
    ours = ("weight_orig", "bias", "weight_u", "weight_v")
    return [{our: layer.format(n) + part for our, part in zip(ours, parts, strict=False)} for n in range(1, 7)]


def places(kind: str, source: Source, arguments: dict, given: Tensors, path: Path) -> dict[str, Place]:
    """Our tensors -> the published ones."""
    base, guided, found = arguments["base_channels"], arguments["guided"], {}
    if kind == "generator":
        names, parts = generator_names(source, given), {"weight": source.kernel, "bias": "bias"}
        for ours, shape in mapping.shapes_of(Generator, arguments, path).items():
            layer, _, part = ours.rpartition(".")
            name = names[layer.removesuffix(".conv")] + source.mark + parts[part]
            found[ours] = name, published_shape(source, shape)
        return found
    channels = 5 if guided else 4
    for n, (times, names) in enumerate(zip((1, 2, 4, 4, 4, 4), discriminator_names(source, given), strict=True), 1):
        width = times * base
        left = (width,)
        if source is RELEASE:
            left = (1, width)
        elif "weight_v" not in names:
            left = (width, 1)
        shapes = {
            "weight_orig": published_shape(source, (width, channels, 5, 5)),
            "bias": (width,),
            "weight_u": left,
            "weight_v": (channels * 25,),
        }
        found |= {f"conv{n}.{part}": (name, shapes[part]) for part, name in names.items()}
        channels = width
    return found


def published_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What the shape of one of our kernels is in its file."""
    order = np.argsort(source.axes) if len(shape) == 4 else range(len(shape))
    return tuple(shape[axis] for axis in order)


# ---- networks


def build(kind: str, source: Source, given: Tensors, path: Path, attention: dict):
    """One of our networks from its tensors, which are taken out of `given`.

    Args:
        attention: the generator's arguments for it.

    Raises:
        UserError: a tensor is missing or misshapen.
    """
    arguments = recognise_arguments(kind, source, given, path) | (attention if kind == "generator" else {})
    mapping.print_arguments(kind, arguments)
    tensors = {}
    for ours, (published, wanted) in places(kind, source, arguments, given, path).items():
        array = take(given, published, path, wanted)
        if array.ndim == 4:
            array = array.transpose(source.axes)
        tensors[ours] = array.ravel() if ours.endswith(("_u", "_v")) else array
    if kind == "discriminator":
        complete_norms(tensors)
    return fill(NETWORKS[kind](**arguments), kind, tensors, path)


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
    metadata = {"image_px": TRAINING_PX, "crop": "center", "holes": "official", "colours": source.colours}
    mapping.write(output, "deepfill", networks, {"preset": "", **metadata}, source, path)
    print(f"assumed: trained on images of {TRAINING_PX} px, as every published network")
    if "generator" in networks:
        mapping.print_infer("deepfill", output)
    print(f"next: {train_command(networks, output)}")
    return output


def train_command(networks: dict, output: Path) -> str:
    """A `train` command that starts from the converted networks, with the flags in which they differ from its preset.

    Networks of which one takes a sketch and the other none cannot be trained together: then the generator alone.
    """
    arguments = next(iter(networks.values())).arguments
    fits = [kind for kind, network in networks.items() if network.arguments["guided"] == arguments["guided"]]
    article = arguments.get("gate_first", arguments.get("slope") == ARTICLE.slope)
    preset = "paper-guided" if arguments["guided"] else "paper-places2"
    if article:
        preset = "article"
    flags = []
    if arguments["guided"] != PRESETS[preset][1].guided:
        flags.append("--guided" if arguments["guided"] else "--no-guided")
    if arguments["padding"] != PRESETS[preset][1].padding:
        flags += ["--padding", arguments["padding"]]
    starts = [word for kind in fits for word in (f"--init-{kind}", output)]
    return next_command("deepfill.train", preset, "--data-dir", "DIR", *flags, *starts)


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(read_convert(argv, __doc__))


if __name__ == "__main__":
    main()
