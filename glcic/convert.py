"""Published GLCIC weights become ours; which network a file holds is recognised by the names of its tensors.

python -m glcic.convert PUBLISHED OUT.safetensors

| published file | codebase | what differs from the paper's network |
|---|---|---|
| `completionnet_places2.t7`, `…_freeform.t7`, `completionnet_celeba.t7` | the authors' | nothing |
| `completionnet_places2.pth`, `.pt` | PyTorch ports of the first (ganonymizer, yangwangx) | the mean is not in the file |
| `model_cn`, `model_cd` | otenim/GLCIC-PyTorch | ReLU before normalisation; the hole holds the mean colour |
| `gl_256x256_….pth` | MMagic, MMEditing | works in [-1, 1] and in BGR; grey hole, output clipped, no bias before BN |
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from safetensors import SafetensorError

from common.checkpoint import load_network, save_weights
from common.errors import UserError, one_line_errors
from common.torch_weights import read_published
from glcic.model import COMPLETION_ROWS, CompletionNetwork, Discriminator

Tensors = dict[str, np.ndarray]

PLACES2_MEAN = (0.4560, 0.4472, 0.4155)  # `mean` of the authors' Places2 file; the ports state the same numbers
WRAPPERS = ("state_dict.", "model.modules.", "modules.", "model.", "module.")  # around a network's own names
NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
RGB = [2, 1, 0]  # BGR -> RGB

# For each row of Table 1, the published names of its convolution and its normalisation.
FLAT = [(f"{3 * row}", f"{3 * row + 1}") for row in range(17)]
NESTED = [(f"{row}.0", f"{row}.1") for row in range(16)] + [("16", "")]
OTENIM = [("deconv" if row in (13, 15) else "conv") + f"{row}" for row in range(1, 18)]
OTENIM = [(name, name.replace("deconv", "bn").replace("conv", "bn")) for name in OTENIM]
MMAGIC = [f"encoder.enc{row}" for row in range(1, 7)] + [f"dilation_neck.dilation_convs.{row}" for row in range(4)]
MMAGIC = [(f"{name}.conv", f"{name}.bn") for name in MMAGIC + [f"decoder.dec{row}" for row in range(1, 8)]]


@dataclass(frozen=True)
class Options:
    """Bring published weights over."""

    published: tyro.conf.Positional[Path]
    """the .t7, .pth, .pt, .pdparams or .safetensors file, or otenim's model_cn or model_cd"""
    output: tyro.conf.Positional[Path]
    """the .safetensors file to write; discriminators in the same file go to OUT-discriminator.safetensors"""
    image_px: int | None = None
    """side of the pictures that the network was trained on; none: as published"""
    mean: tuple[float, float, float] | None = None
    """the training set's mean colour, RGB in 0..1, if the file does not hold it (otenim's model_cn)"""
    config: Path | None = None
    """otenim's config.json, whose `mpv` is that mean; none: the one beside the published file, if any"""


@dataclass(frozen=True)
class Source:
    """What is known of a published network beside its tensors.

    Attributes:
        arguments: of our CompletionNetwork.
        image_px, crop, largest_hole: how it was trained.
        mean: colour of "unknown", RGB in [0, 1]; None if it is not known.
    """

    codebase: str
    licence: str
    rows: list[tuple[str, str]]
    arguments: dict
    image_px: int = 256
    crop: str = "random"
    largest_hole: float = 0.5
    mean: tuple[float, ...] | None = None


AUTHORS = "satoshiiizuka/siggraph2017_inpainting"
AUTHORS_LICENCE = "CC BY-NC-SA 4.0: no commercial use, share alike"
SOURCES = {
    "flat": Source(AUTHORS, AUTHORS_LICENCE, FLAT, {}, mean=PLACES2_MEAN),
    "nested": Source(f"a port of {AUTHORS}", AUTHORS_LICENCE, NESTED, {}, mean=PLACES2_MEAN),
    "otenim": Source(
        "otenim/GLCIC-PyTorch", "MIT", OTENIM, {"norm_first": False, "subtract_mean": False}, 160, "random160", 96 / 160
    ),
    "mmagic": Source("open-mmlab/mmagic", "Apache-2.0", MMAGIC, {"output": "clamp"}, mean=(0.5, 0.5, 0.5)),
}


def convert(options: Options) -> list[Path]:
    """Writes what the published file holds, and says what was recognised and mapped.

    Returns:
        The weights files written: completion network, discriminators or both.

    Raises:
        UserError: the file cannot be read, is of another network, or its tensors do not fit to the last one.
    """
    if options.output.suffix != ".safetensors" or options.output == options.published:
        raise UserError(f"cannot write {options.output}: name a new file that ends in .safetensors")
    tensors, outside = unwrap(read_published(options.published))
    kind, parts = recognise(tensors, options.published)
    source = SOURCES[kind]
    print(
        f"recognised: {options.published} holds the {' and '.join(parts)} of {source.codebase}\nlicence: {source.licence}"
    )
    dropped = [name for name in tensors if is_buffer(name, kind)]
    left = {name: tensor for name, tensor in tensors.items() if name not in set(dropped)}
    total, written = len(left), []
    networks = {}
    if "completion network" in parts:
        networks["completion"] = completion_of(left, kind, options, outside)
    if "discriminators" in parts:
        networks["discriminator"] = discriminator_of(left, kind, options)
    if left:
        raise UserError(f"{options.published} holds tensors that no part of the network takes: {_listing(left)}")
    print(f"mapped: {total} tensors, all that the network has")
    if dropped or set(outside) - {"mean"}:
        print(f"left out: {len(dropped) + len(set(outside) - {'mean'})} tensors that only training uses")
    for name, network in networks.items():
        written.append(write(network, name, source, options, alone=len(networks) == 1))
    return written


def unwrap(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """(the network's tensors without the names of what surrounds it, what lay beside it)."""
    outside: Tensors = {}
    for wrapper in WRAPPERS:
        inside = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items() if name.startswith(wrapper)}
        if inside:
            outside |= {name: tensor for name, tensor in tensors.items() if not name.startswith(wrapper)}
            tensors = inside
    return tensors, outside
