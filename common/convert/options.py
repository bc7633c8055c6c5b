"""The flags of the `convert` commands. Imports no Paddle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ConvertSettings:
    """Bring published weights over."""

    # ---- data
    published: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PUBLISHED")]
    """Published weights: a .pth, .pt, .pdparams, .t7 or .safetensors file, a TensorFlow checkpoint (or one of its
    files), or a folder that holds one of these."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.safetensors")]
    """The .safetensors file to write; where a paper keeps the discriminator apart, it goes to
    OUT-discriminator.safetensors."""
