"""Published GLCIC weights become ours; the network that a file holds is recognised by the names of its tensors.

python -m glcic.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from the paper's network |
|---|---|---|
| `completionnet_places2.t7`, `…_places2_freeform.t7`, `…_celeba.t7` | the authors' | nothing |
| `completionnet_places2.pth`, `.pt` | PyTorch ports (ganonymizer, yangwangx) | the mean colour is not in the file |
| `model_cn`, `model_cd` | otenim/GLCIC-PyTorch | ReLU before normalisation; the mean colour fills the hole |
| `gl_256x256_….pth` | MMagic, MMEditing | [-1, 1] and BGR; hole of 0, output clipped, no bias before a normalisation |
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from glcic.options import ConvertOptions as Options
from glcic.options import read_convert

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_convert, __doc__)

import json
import math
from dataclasses import dataclass, replace

import numpy as np

from common.checkpoint.weights import build_network
from common.convert import mapping, own_files
from common.convert.mapping import CONV, NORM, Tensors, fill, inside, listing, shape_of, take_layer
from common.errors import UserError
from common.runtime.commands import next_command
from glcic.model import COMPLETION_ROWS, STRIDE, CompletionNetwork, Discriminator

WRAPPERS = ("state_dict.", "model.modules.", "modules.", "model.", "module.")  # what may stand before a network's names
OTENIM_NAMES = r"model_c[nd](_step\d+)?"  # of its files, which have no suffix

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
class Source(mapping.Source):
    """What is known of a published network beside its tensors."""

    rows: list[tuple[str, str]]
    arguments: dict
    """of our CompletionNetwork"""
    image_px: int
    crop: str
    largest_mask: float
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
    largest_mask=128 / 256,
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
        largest_mask=96 / 160,
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
        largest_mask=128 / 256,
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
        bgr=True,  # its configurations load images in OpenCV's order and leave it so (to_rgb=False)
    ),
}


def convert(options: Options) -> list[Path]:
    """Writes the networks that a published file holds, and prints what was recognised and mapped.

    Returns:
        The files written, the completion network's first.

    Raises:
        UserError: the file cannot be read or is of another network; a tensor is missing, left over or misshapen.
    """
    if own_files.is_own(options.published):
        return [own_files.rewrite_own(options.published, options.output, "glcic")]
    check(options)
    options = replace(options, published=mapping.published_file(options, OTENIM_NAMES))
    given, beside = unwrap(mapping.read_tensors(options.published))
    kind = recognise(given, options.published)
    source = SOURCES[kind]
    buffers = [name for name in given if is_buffer(name, kind)]
    given = {name: tensor for name, tensor in given.items() if name not in set(buffers)}
    mapping.print_recognised(source, len(given))
    networks, count = {}, len(given)
    if f"{source.rows[0][0]}.weight" in given:
        networks["completion"] = completion_network(given, source, options, beside)
    if source.towers and f"{source.towers.fusion}.weight" in given:
        networks["discriminator"] = discriminators(given, source, options.published)
    left_out = [name for name in [*buffers, *beside] if mapping.last_part(name) != "mean"]
    mapping.finish(given, count, left_out, options.published)
    return [write(name, network, source, options, len(networks)) for name, network in networks.items()]


def check(options: Options) -> None:
    """Raises UserError for options that cannot work."""
    if options.image_px is not None and (options.image_px <= 0 or options.image_px % STRIDE):
        raise UserError(f"--image-px {options.image_px} is no multiple of {STRIDE}")
    if options.mean and not all(0 <= value <= 1 for value in options.mean):
        raise UserError(f"--mean {' '.join(map(str, options.mean))}: three numbers between 0 and 1 are wanted")


def unwrap(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """(the network's tensors under its own names, the tensors beside them: the mean, an optimiser's …)."""
    beside: Tensors = {}
    for wrapper in WRAPPERS:
        if wrapped := inside(tensors, wrapper):
            beside |= {name: tensor for name, tensor in tensors.items() if not name.startswith(wrapper)}
            tensors = wrapped
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


# ---- networks


def completion_network(given: Tensors, source: Source, options: Options, beside: Tensors):
    """Takes the completion network's tensors out of `given`."""
    path, first = options.published, source.rows[0][0]
    bias = f"{first}.bias" in given
    width, channels, *_ = shape_of(given, f"{first}.weight", 4, path)
    tensors = {"mean_colour": mean_colour(source, options, beside)}
    for (name, *_), (conv, norm) in zip(COMPLETION_ROWS, source.rows, strict=True):
        if name == "conv11":
            tensors |= take_layer(given, conv, name, CONV, path)
        else:
            tensors |= take_layer(given, conv, f"{name}.conv", CONV if bias else {"weight": "weight"}, path)
            tensors |= take_layer(given, norm, f"{name}.norm", NORM, path)
    if source.bgr:
        tensors["conv1.conv.weight"] = tensors["conv1.conv.weight"][:, [2, 1, 0, 3][:channels]]  # the mask stays
        for name in ("conv11.weight", "conv11.bias"):
            tensors[name] = tensors[name][::-1]
        print("colours: BGR in the published network; its first and last layer were turned to RGB")
    arguments = {"base_channels": width, "mask_channel": channels == 4, "conv_bias": bias, **source.arguments}
    return fill(build_network(CompletionNetwork, arguments, tensors, path), "completion", tensors, path)


def discriminators(given: Tensors, source: Source, path: Path):
    """Takes the discriminators' tensors out of `given`."""
    towers, arguments, tensors = source.towers, dict(source.towers.arguments), {}
    for ours, tower in zip(("global", "local"), towers.names, strict=True):
        names = [towers.conv.format(tower=tower, n=n) for n in range(1, 7)]
        count = 6 if f"{names[5]}.weight" in given else 5
        width, bias = shape_of(given, f"{names[0]}.weight", 4, path)[0], f"{names[0]}.bias" in given
        channels = shape_of(given, f"{names[count - 1]}.weight", 4, path)[0]
        for n, name in enumerate(names[:count]):
            layer = f"{ours}_tower.convs.{n}"
            tensors |= take_layer(given, name, f"{layer}.conv", CONV if bias else {"weight": "weight"}, path)
            tensors |= take_layer(given, towers.norm.format(tower=tower, n=n + 1), f"{layer}.norm", NORM, path)
        if source.bgr:
            tensors[f"{ours}_tower.convs.0.conv.weight"] = tensors[f"{ours}_tower.convs.0.conv.weight"][:, ::-1]
        fc = [name.format(tower=tower) for name in towers.fc]
        fc = next((name for name in fc if f"{name}.weight" in given), fc[0])
        side = math.isqrt(shape_of(given, f"{fc}.weight", 2, path)[1] // channels)  # of the last convolution's output
        tensors |= take_layer(given, fc, f"{ours}_tower.fc", CONV, path)
        arguments |= {f"{ours}_px": max(side, 1) * 2**count, "base_channels": width, "conv_bias": bias}
        if ours == "global":
            arguments["global_convs"] = count
    features = shape_of(given, f"{towers.fusion}.weight", 2, path)[1]
    tensors |= take_layer(given, towers.fusion, "fusion", CONV, path)
    if towers.local_first:
        tensors["fusion.weight"] = np.roll(tensors["fusion.weight"], features // 2, axis=1)
    for name in ("global_tower.fc.weight", "local_tower.fc.weight", "fusion.weight"):
        tensors[name] = tensors[name].T  # Paddle keeps [inputs, outputs]
    return fill(build_network(Discriminator, arguments, tensors, path), "discriminator", tensors, path)


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
    shown = " ".join(f"{value:.4f}" for value in mean)
    known = origin.startswith(("as given", "from"))
    print(f"mean colour: {shown} ({origin})" if known else f"assumed: mean colour {shown} ({origin})")
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
    metadata = {"image_px": source.image_px, "crop": source.crop, "largest_hole": source.largest_mask}
    if source.codebase == AUTHORS.codebase and "celeba" in options.published.name.lower():
        metadata = {"image_px": 160, "crop": "random160", "largest_hole": 96 / 160}
    if options.image_px:
        metadata["image_px"] = options.image_px
    else:
        print(f"assumed: trained on images of {metadata['image_px']} px, as published; --image-px for other weights")
    largest = f"{metadata['largest_hole']:.2f}"
    print(f"assumed: cut by the crop {metadata['crop']}, holes up to {largest} of the side, as published")
    return metadata


def write(name: str, network, source: Source, options: Options, count: int) -> Path:
    """Writes one network with its metadata and origin, and prints how to use it."""
    path, metadata = options.output, {"preset": "converted"}
    if name == "completion":
        mapping.write(path, "glcic", {name: network}, metadata | training(source, options), source, options.published)
        mapping.print_infer("glcic", path)
        return path
    if count > 1:
        path = path.with_name(f"{path.stem}-discriminator.safetensors")
    mapping.write(path, "glcic", {name: network}, metadata, source, options.published)
    sides = network.arguments
    sizes = "--image-px", str(sides["global_px"]), "--local-px", str(sides["local_px"])
    preset = "paper-celeba" if sides["global_px"] == 160 else "paper"
    print("next: " + next_command("glcic.train", preset, "--data-dir", "DIR", "--init-discriminator", path, *sizes))
    return path


@one_line_errors
def main(argv: list[str] | None = None) -> list[Path]:
    """The command line: PUBLISHED OUT.safetensors [--flag value …]."""
    return convert(read_convert(argv, __doc__))


if __name__ == "__main__":
    main()
