"""Every setting of DeepFill v2 and its presets. Config itself holds the values of the release for Places2."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import Crop, RunSettings, choose

Kind = Literal["official", "rectangle", "freeform", "algorithm1", "mmagic", "bands"]
Layers = Literal["gated", "partial", "vanilla"]
Inputs = Literal["official", "article"]
Padding = Literal["same", "symmetric"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train DeepFill v2: coarse and refining generator against a spectrally normalised discriminator of patches."""

    # ---- data
    image_px: int = 256
    """Side of the training images in pixels, a multiple of 8 [Sec. 4]"""
    crop: Crop = "random"
    """How an image becomes a square: random for Places2, squash for CelebA-HQ [release]"""
    flip: bool = False
    """Mirror half of the images [ours]"""
    pairs: bool = False
    """Take the photos of pairs of photo and label (Cityscapes, facades) [ours]"""
    mask: Kind = "official"
    """Kind of the training masks: official (strokes and a rectangle), rectangle, freeform, algorithm1 of the paper,
    mmagic, or bands of area [release]"""
    mask_per_batch: bool = False
    """Sample one mask for all images of a step as the release does, instead of one for each [ours, D6]"""
    edges_dir: Path | None = None
    """Folder with the images' edges, named as they are or NAME_edge [none: Canny's; release: HED, D8]"""
    sketch_drop: float = 0.0
    """Fraction of the images whose sketch is left out, so that one network serves with and without [ours]"""

    # ---- model
    layers: Layers = "gated"
    """Kind of convolutions: the paper's gated ones, or partial or vanilla ones to compare [Sec. 3.1]"""
    base_channels: int = 24
    """Number of channels after the first layer (of the generator); all widths follow [release; the article has 48,
    D1]"""
    inputs: Inputs = "official"
    """Input channels of the generator: official has image, edges if guided, ones and mask, article has image, mask and
    edges [release]"""
    gate_first: bool = False
    """Take the first half of a gated convolution's channels as the gate, as the article's code does [release, D2]"""
    padding: Padding = "same"
    """Padding of layers with stride 2: same as TensorFlow's, which official weights need, or symmetric [release]"""
    residual: bool = False
    """Let each stage add to what it is given, the first one to the known colours continued under the mask [ours,
    D12]"""
    guided: bool = False
    """Give the networks a sketch of the missing region [Sec. 3.5]"""
    discriminator_channels: int = 64
    """Number of channels after the discriminator's first layer [release]"""
    slope: float = 0.2
    """Negative slope of the discriminator's leaky ReLU [release; the article's code has 0.01, D3]"""
    init_generator: Path | None = None
    """Weights to start the generator from; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """Weights to start the discriminator from [ours]"""

    # ---- optimisation
    total_steps: int = 1_000_000
    """Number of optimisation steps of the whole run; the release trains until it looks right [nipponjo's limit]"""
    batch_size: int = 16
    """Number of images per step [release]"""
    learning_rate: float = 1e-4
    """Learning rate of the optimiser (Adam, both networks) [release]"""
    beta1: float = 0.5
    """Decay rate beta1 of Adam [release; the article's code has 0.9, D4]"""
    beta2: float = 0.999
    """Decay rate beta2 of Adam [release]"""
    warmup_steps: int = 0
    """Number of first steps over which the learning rate rises linearly from zero [ours, D9]"""
    decay_steps: int = 0
    """Number of last steps over which the learning rate falls linearly to zero; 0 keeps it [ours, D9]"""
    plain_steps: int = 0
    """Number of first steps that train the generator without the discriminator [ours, D10]"""
    adversarial_weight: float = 1.0
    """Weight of the adversarial loss (against the L1 losses of both stages) [release]"""
    known_weight: float = 1.0
    """Weight of a known pixel in the reconstruction loss; a missing one has 1 [release; D11]"""


PLACES2 = Config()

CELEBA_HQ = replace(PLACES2, crop="squash")

GUIDED = replace(PLACES2, guided=True)

ARTICLE = replace(
    PLACES2,
    total_steps=99 * 100_000 // 2,  # the code it follows: 99 epochs of 100,000 faces, two at a time
    batch_size=2,
    crop="square178",  # D14
    base_channels=48,
    inputs="article",
    gate_first=True,
    padding="symmetric",
    guided=True,
    mask_per_batch=True,
    beta1=0.9,  # D4
    slope=0.01,  # D3
)

CPU = replace(
    PLACES2,
    total_steps=3_000,
    batch_size=8,
    image_px=96,
    crop="center108",
    flip=True,
    mask="freeform",
    base_channels=12,
    guided=True,
    sketch_drop=0.7,
    learning_rate=1e-3,
    decay_steps=2_400,
    plain_steps=2_850,
    adversarial_weight=0.01,
    residual=True,
    known_weight=0.0,
    discriminator_channels=16,
    preview_steps=250,
)

QUICK = replace(
    CPU, total_steps=600, image_px=64, beta2=0.99, warmup_steps=100, decay_steps=450, plain_steps=500, preview_steps=100
)

TINY = replace(  # for tests: seconds
    QUICK,
    total_steps=4,
    batch_size=4,
    image_px=32,
    base_channels=4,
    discriminator_channels=4,
    warmup_steps=1,
    decay_steps=2,
    plain_steps=2,
)

PRESETS = {
    "quick": ("drawn faces at 64 px: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own images at 96 px, small networks: under an hour on two cores", CPU),
    "article": ("the article's networks with its mistakes mended: CelebA at 256 px, one GPU", ARTICLE),
    "paper-places2": ("the release's settings for Places2", PLACES2),
    "paper-celebahq": ("the release's settings for CelebA-HQ", CELEBA_HQ),
    "paper-guided": ("the release's settings with sketches", GUIDED),
}


def read_train(argv: list[str] | None, description: str) -> Config:
    """The command line of `train`: PRESET [--flag value …]."""
    return choose(PRESETS, argv, "python -m deepfill.train", description)
