"""Every setting of DCGAN's training and its presets. Config itself holds the article's values.

How an image is completed with the trained networks is set in `search.Settings`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import Crop, RunSettings, choose

Variant = Literal["article", "wide", "4x4"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train a DCGAN on faces: the generator whose images completion searches, and its discriminator."""

    # ---- data
    image_px: int = 64
    """Side of the training images in pixels, a power of two from 8 [article]"""
    crop: Crop = "center108"
    """How an image becomes a square: center108 cuts the face out of aligned CelebA, at any scale [Yeh et al.; the
    article aligns with OpenFace, D9]"""
    flip: bool = False
    """Mirror half of the images [Yeh et al.]"""
    pairs: bool = False
    """Take the photos of pairs of photo and label (Cityscapes, facades) [ours]"""

    # ---- model
    variant: Variant = "article"
    """Family of networks: article with TensorFlow's 5x5 kernels, wide as the last revision of its code, 4x4 as
    pytorch/examples [article]"""
    base_channels: int = 64
    """Number of channels after the first layer (of the discriminator); all widths follow [article]"""
    z_channels: int = 100
    """Dimension of the latent code z, sampled from U(-1, 1) [article]"""
    init_generator: Path | None = None
    """Weights to start the generator from, and the discriminator; their arguments come from the file [ours]"""

    # ---- optimisation
    total_steps: int = 25 * 202_599 // 64
    """Number of optimisation steps of the whole run: 25 epochs of CelebA [article's code]"""
    batch_size: int = 64
    """Number of images per step [article]"""
    learning_rate: float = 2e-4
    """Learning rate of the optimiser (Adam, both networks) [article]"""
    beta1: float = 0.5
    """Decay rate beta1 of Adam [article]"""
    generator_steps: int = 2
    """Number of generator steps after each step of the discriminator, on the same z [article's code; its text omits the
    second, D4]"""
    decay_steps: int = 0
    """Number of last steps over which the learning rate falls linearly to zero; 0 keeps it [ours, D10]"""
    average_decay: float = 0.0
    """Decay of a moving average of the generator, which is saved as the generator; 0 keeps none [ours, D13]"""


ARTICLE = Config()

PAPER = replace(ARTICLE, flip=True, generator_steps=1)  # Yeh et al.: "the DCGAN of Radford et al.", flips

CPU = replace(
    ARTICLE,
    total_steps=6_000,
    batch_size=32,
    flip=True,
    base_channels=32,
    generator_steps=1,
    decay_steps=3_000,
    average_decay=0.998,
    preview_steps=500,
)

QUICK = replace(
    CPU, total_steps=900, batch_size=16, base_channels=16, decay_steps=400, average_decay=0.995, preview_steps=200
)

TINY = replace(  # for tests: seconds
    QUICK, total_steps=4, batch_size=4, image_px=32, base_channels=8, z_channels=12, decay_steps=2
)

PRESETS = {
    "quick": ("drawn faces at 64 px, small networks: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own faces at 64 px, half the width: under an hour on two cores", CPU),
    "article": ("the article's settings: CelebA at 64 px, 25 epochs, one GPU", ARTICLE),
    "paper": ("Yeh et al.'s: mirrored faces, one step of each network", PAPER),
}


def read_train(argv: list[str] | None, description: str) -> Config:
    """The command line of `train`: PRESET [--flag value …]."""
    return choose(PRESETS, argv, "python -m dcgan_completion.train", description)
