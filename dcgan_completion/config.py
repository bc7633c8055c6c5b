"""Every setting of DCGAN's training and its presets. Config itself holds the article's values.

How a picture is completed with the trained networks is set in `search.Settings`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from common.config import RunSettings
from common.images import Crop
from dcgan_completion.model import Variant


@dataclass(frozen=True)
class Config(RunSettings):
    """Train a DCGAN on faces: the generator whose pictures completion searches, and its discriminator."""

    total_steps: int = 25 * 202_599 // 64
    """25 epochs of CelebA [article's code]"""
    batch_size: int = 64
    """pictures per step [article]"""

    image_px: int = 64
    """side of the pictures, a power of two from 8 [article]"""
    crop: Crop = "center108"
    """how a picture becomes a square: center108 cuts the face out of aligned CelebA, at any scale
    [Yeh et al.; the article aligns with OpenFace, D9]"""
    flip: bool = False
    """mirror half of the pictures [Yeh et al.]"""

    variant: Variant = "article"
    """article: 5x5 kernels as TensorFlow lays them; wide: the last revision of its code; 4x4: pytorch/examples
    [article]"""
    base_channels: int = 64
    """outputs of the discriminator's first layer; all widths follow [article]"""
    z_channels: int = 100
    """numbers in one z, drawn from U(-1, 1) [article]"""

    learning_rate: float = 2e-4
    """of Adam, both networks [article]"""
    beta1: float = 0.5
    """of Adam [article]"""
    generator_steps: int = 2
    """steps of the generator after each of the discriminator, on the same z
    [article's code; its text omits the second, D4]"""
    decay_steps: int = 0
    """last steps, over which the learning rate falls evenly to zero; 0 keeps it [ours, D10]"""
    average_decay: float = 0.0
    """keep a moving average of the generator with this decay and save it as the generator; 0 keeps none [ours, D13]"""
    init_generator: Path | None = None
    """weights to start both networks from; their arguments come from the file [ours]"""


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
    CPU,
    total_steps=900,
    batch_size=16,
    base_channels=16,
    decay_steps=400,
    average_decay=0.995,
    preview_steps=200,
)

TINY = replace(  # for tests: seconds
    QUICK,
    total_steps=4,
    batch_size=4,
    image_px=32,
    base_channels=8,
    z_channels=12,
    decay_steps=2,
)

PRESETS = {
    "quick": ("drawn faces at 64 px, small networks: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own faces at 64 px, half the width: under an hour on two cores", CPU),
    "article": ("the article's settings: CelebA at 64 px, 25 epochs, one GPU", ARTICLE),
    "paper": ("Yeh et al.'s: mirrored faces, one step of each network", PAPER),
}
