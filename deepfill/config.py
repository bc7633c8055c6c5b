"""Every setting of DeepFill v2 and its presets. Config itself holds the values of the release for Places2."""

from dataclasses import dataclass, replace
from pathlib import Path

from common.config import RunSettings
from common.images import Crop
from deepfill.holes import Kind
from deepfill.model import Inputs, Layers, Padding


@dataclass(frozen=True)
class Config(RunSettings):
    """Train DeepFill v2: coarse and refining generator against a spectrally normalised discriminator of patches."""

    total_steps: int = 1_000_000
    """the release trains until it looks right [nipponjo's limit]"""
    batch_size: int = 16
    """pictures per step [release]"""

    image_px: int = 256
    """side of the training pictures, a multiple of 8 [Sec. 4]"""
    crop: Crop = "random"
    """how a picture becomes a square: random for Places2, squash for CelebA-HQ [release]"""
    flip: bool = False
    """mirror half of the pictures [ours]"""
    pairs: bool = False
    """the data are pairs of photo and label (Cityscapes, facades): take their photos [ours]"""
    holes: Kind = "official"
    """official: brush strokes and a rectangle; rectangle, freeform, algorithm1 of the paper, mmagic, bands of area
    [release]"""
    hole_per_batch: bool = False
    """one hole for all pictures of a step, as the release has it; else each its own [ours, D6]"""

    layers: Layers = "gated"
    """gated convolutions of the paper, or partial or vanilla ones in their place, to compare [Sec. 3.1]"""
    base_channels: int = 24
    """channels after the first gated convolution; all widths follow [release; the article has 48, D1]"""
    inputs: Inputs = "official"
    """official: picture, edges if guided, ones, mask; article: picture, mask, edges [release]"""
    gate_first: bool = False
    """which half of a gated convolution's channels is the gate: the first in the article's code [release, D2]"""
    padding: Padding = "same"
    """of layers with stride 2: same as TensorFlow's, which official weights need, or symmetric [release]"""

    residual: bool = False
    """each stage adds to what it is given, the first one to the known colours continued under the hole [ours, D12]"""

    guided: bool = False
    """give the networks a sketch of the hole [Sec. 3.5]"""
    edges_dir: Path | None = None
    """folder with the pictures' edges, named as they are or NAME_edge; none: Canny's [release: HED, D8]"""
    sketch_drop: float = 0.0
    """share of the pictures whose sketch is left out, so that one network serves with and without [ours]"""

    learning_rate: float = 1e-4
    """of Adam, both networks [release]"""
    beta1: float = 0.5
    """of Adam [release; the article's code has 0.9, D4]"""
    beta2: float = 0.999
    """of Adam [release]"""
    warmup_steps: int = 0
    """first steps, over which the learning rate rises evenly from zero; 0 begins with all of it [ours, D9]"""
    decay_steps: int = 0
    """last steps, over which the learning rate falls evenly to zero; 0 keeps it [ours, D9]"""
    plain_steps: int = 0
    """first steps, without the discriminator [ours, D10]"""
    adversarial_weight: float = 1.0
    """of the adversarial loss against the L1 losses of both stages [release]"""
    known_weight: float = 1.0
    """of a known pixel's L1 loss, a pixel of the hole having 1 [release; D11]"""
    discriminator_channels: int = 64
    """outputs of the discriminator's first layer [release]"""
    slope: float = 0.2
    """of the discriminator's leaky ReLU [release; the article's code has 0.01, D3]"""
    init_generator: Path | None = None
    """weights to start the generator from; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """weights to start the discriminator from [ours]"""


PLACES2 = Config()

CELEBA_HQ = replace(PLACES2, crop="squash")

GUIDED = replace(PLACES2, guided=True)

ARTICLE = replace(
    PLACES2,
    total_steps=99 * 100_000 // 2,  # the code it follows: 99 epochs of 100,000 faces, two at a time
    batch_size=2,
    crop="square178",
    base_channels=48,
    inputs="article",
    gate_first=True,
    padding="symmetric",
    guided=True,
    hole_per_batch=True,
)

CPU = replace(
    PLACES2,
    total_steps=3_000,
    batch_size=8,
    image_px=96,
    crop="center108",
    flip=True,
    holes="freeform",
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
    CPU,
    total_steps=600,
    image_px=64,
    beta2=0.99,
    warmup_steps=100,
    decay_steps=450,
    plain_steps=500,
    preview_steps=100,
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
    "cpu": ("CelebA or your own pictures at 96 px, small networks: under an hour on two cores", CPU),
    "article": ("the article's networks with its mistakes mended: CelebA at 256 px, one GPU", ARTICLE),
    "paper-places2": ("the release's settings for Places2", PLACES2),
    "paper-celebahq": ("the release's settings for CelebA-HQ", CELEBA_HQ),
    "paper-guided": ("the release's settings with sketches", GUIDED),
}
