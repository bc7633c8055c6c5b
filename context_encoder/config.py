"""Every setting of the Context Encoder and its presets. Config itself holds the paper's values for the centre hole."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import Crop, RunSettings, choose

Kind = Literal["center", "blocks", "regions", "noise"]
Output = Literal["center", "whole"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train a Context Encoder: a generator that fills a hole, and a discriminator that judges what it put there."""

    # ---- data
    image_px: int = 128
    """Side of the training images in pixels, a power of two from 32 [official code: fineSize]"""
    load_px: int = 350
    """Side in pixels to which images are resized (the shorter one) before a random square is cut; 0 cuts as --crop says
    [official code]"""
    crop: Crop = "center"
    """How an image becomes a square (if --load-px is 0, and always in evaluation) [ours]"""
    flip: bool = True
    """Mirror half of the images [official code]"""
    pairs: bool = False
    """Take the photos of pairs of photo and label (Cityscapes, facades) [ours]"""
    mask: Kind = "center"
    """Kind of the training masks: center, blocks, regions or noise, see masks.sampler [Sec. 3.3]"""
    shapes_dir: Path | None = None
    """Folder with PASCAL VOC 2012, whose object shapes make the regions [none: drawn shapes; Sec. 3.3]"""
    overlap_px: int = 4
    """Width in pixels of the ring of the predicted square that is shown to the network [official code; the paper's
    text: 7]"""
    mean_colour: Literal["release", "imagenet"] = "release"
    """Mean colour that fills the mask: RGB (117, 104, 123) as in the release, or (123, 117, 104) of ImageNet [D3]"""

    # ---- model
    predicted_region: Output = "center"
    """Region that the generator predicts: the square in the middle, or the whole image [Sec. 3.3]"""
    base_channels: int = 64
    """Number of channels after the first layer (of each network); all widths follow [official code: nef, ngf, ndf]"""
    bottleneck: int = 4_000
    """Number of units of the bottleneck [official README; the code's own default is 100]"""
    noise_channels: int = 0
    """Dimension of the noise vector concatenated to the bottleneck; 100 is the release's noiseGen [official code]"""
    conditional: bool = False
    """Show the discriminator the surroundings too: the release's conditionAdv, centre only [Sec. 3.2]"""
    conv_bias: bool = False
    """Give the convolutions a bias [D4]"""
    bottleneck_relu: bool = False
    """Use a ReLU after the bottleneck instead of a leaky ReLU [D2]"""
    init_generator: Path | None = None
    """Weights to start the generator from; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """Weights to start the discriminator from [ours]"""

    # ---- optimisation
    total_steps: int = 500 * 14_900 // 64
    """Number of optimisation steps of the whole run: 500 epochs of the 14,900 images of Paris StreetView [official
    README]"""
    batch_size: int = 64
    """Number of images per step [official code]"""
    reconstruction_weight: float = 0.999
    """Weight of the reconstruction loss (lambda_rec of Eq. 3); the adversarial loss has the rest of 1 [Sec. 5.1]"""
    known_weight: float = 10.0
    """Weight of a known pixel in the reconstruction loss; a missing one has 1 [Sec. 5.1]"""
    learning_rate: float = 2e-4
    """Learning rate of the optimiser (Adam, betas 0.5 and 0.999) [official code]"""
    generator_rate_factor: float = 10.0
    """Factor of the generator's learning rate over learning_rate [Sec. 5.1]"""
    decay_steps: int = 0
    """Number of last steps over which the learning rate falls linearly to zero; 0 keeps it [ours, D9]"""


PAPER_CENTER = Config()

PAPER_RANDOM_REGION = replace(
    PAPER_CENTER,
    predicted_region="whole",
    mask="regions",
    overlap_px=0,
    known_weight=1.0,  # the release: a plain mean over the whole image; 0 is Eq. 1 to the letter (D8)
)

ARTICLE = replace(
    PAPER_CENTER,
    total_steps=100 * 14_900 // 64,  # 100 epochs; its images are not named, those of its source are
    load_px=0,  # the middle square of the image at 128 px, not mirrored (D10)
    flip=False,
    conv_bias=True,
    bottleneck_relu=True,
    generator_rate_factor=1.0,  # D5
)

CPU = replace(
    PAPER_CENTER,
    total_steps=3_600,
    batch_size=16,
    load_px=0,
    crop="square178",
    base_channels=32,
    bottleneck=1_000,
    reconstruction_weight=0.9998,  # D11: with 0.999 a few thousand steps leave speckles
    decay_steps=3_000,
    preview_steps=400,
)

QUICK = replace(CPU, total_steps=800, base_channels=20, bottleneck=256, decay_steps=600, preview_steps=100)

TINY = replace(  # for tests: seconds
    QUICK, total_steps=6, batch_size=4, image_px=32, overlap_px=2, base_channels=8, bottleneck=16, decay_steps=2
)

PRESETS = {
    "quick": ("drawn faces, centre hole, small networks: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own images, small networks: under an hour on two cores", CPU),
    "article": ("the article's settings with its mistakes mended: centre hole, one GPU", ARTICLE),
    "paper-center": ("the paper's centre hole, as its code trains it", PAPER_CENTER),
    "paper-random-region": ("the paper's random regions: any hole, whole image", PAPER_RANDOM_REGION),
}


def read_train(argv: list[str] | None, description: str) -> Config:
    """The command line of `train`: PRESET [--flag value …]."""
    return choose(PRESETS, argv, "python -m context_encoder.train", description)
