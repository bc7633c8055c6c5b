"""Every setting of GLCIC and its presets. Config itself holds the paper's values for Places2."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import Crop, RunSettings, choose

Placement = Literal["paper", "window", "article", "bounding-box", "freeform"]
Output = Literal["sigmoid", "tanh", "clamp"]
Parts = Literal["both", "global", "local"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train GLCIC: completion network alone, then discriminators alone, then both (Algorithm 1)."""

    # ---- data
    image_px: int = 256
    """Side of the training images in pixels, a multiple of 4 [Sec. 3.3]"""
    crop: Crop = "random"
    """How an image becomes a square: random and random160 as in the paper, squash as in the article [Sec. 4]"""
    flip: bool = False
    """Mirror half of the images [ours]"""
    pairs: bool = False
    """Take the photos of pairs of photo and label (Cityscapes, facades) [ours]"""
    mask_px: tuple[int, int] = (96, 128)
    """Shortest and longest side of the training masks in pixels [Sec. 3.3]"""
    local_px: int = 128
    """Side in pixels of the patch that the local discriminator sees [Sec. 3.3]"""
    placement: Placement = "paper"
    """How masks and patches are placed, see masks.sample [Sec. 3.3]"""

    # ---- model
    base_channels: int = 64
    """Number of channels after the first layer (of each network); all widths follow [Table 1]"""
    global_convs: int = 6
    """Number of convolutions of the global discriminator, 5 or 6 [Table 2]"""
    discriminators: Parts = "both"
    """Discriminators that judge: both as in the paper, or for its ablation global or local alone [Sec. 3.3]"""
    output_activation: Output = "sigmoid"
    """Last function of the completion network [Sec. 3.2]"""
    mask_channel: bool = True
    """Give the mask to the completion network as its fourth input channel [Sec. 3.2]"""
    fill: Literal["mean", "grey"] = "mean"
    """Colour under the mask: the training set's mean, or mid grey [official code]"""
    norm_first: bool = True
    """Normalise before the ReLU as in the paper, instead of after it as otenim does [official weights]"""
    norm_momentum: float = 0.9
    """Fraction of its running statistics that a batch normalisation keeps in a step [official code: Torch's 0.1]"""
    norm_epsilon: float = 1e-5
    """Constant that batch normalisations add to the variance [official code]"""
    init_generator: Path | None = None
    """Weights to start the generator from, here the completion network; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """Weights to start the discriminator from [ours]"""

    # ---- optimisation
    total_steps: int = 500_000
    """Number of optimisation steps of the whole run, all three phases together [Sec. 4: T_train]"""
    completion_steps: int = 90_000
    """Number of first steps (T_C) that train the completion network alone, with the reconstruction loss [Sec. 4]"""
    discriminator_steps: int = 10_000
    """Number of next steps (T_D) that train the discriminators alone; the rest trains both [Sec. 4]"""
    batch_size: int = 96
    """Number of images per step [Sec. 4]"""
    optimizer: Literal["adadelta", "adam"] = "adadelta"
    """Optimiser of both networks; adadelta has rho 0.9 and epsilon 1e-6 [Sec. 4]"""
    learning_rate: float = 1.0
    """Learning rate of the optimiser; 1 is plain ADADELTA [Sec. 4]"""
    decay_steps: int = 0
    """Number of last steps over which the learning rate falls linearly to zero; 0 keeps it [ours, D11]"""
    reconstruction: Literal["mse", "l1"] = "mse"
    """Norm of the reconstruction loss: mse is Eq. 2, l1 its absolute value [Sec. 3.4, D17]"""
    average_decay: float = 0.0
    """Decay of a moving average of the generator, here the completion network, which is saved in its place; 0 keeps
    none [ours, D18]"""
    adversarial_weight: float = 4e-4
    """Weight of the adversarial loss (alpha of Eq. 4) [Sec. 4]"""
    minimax: bool = False
    """Train C to minimise log(1 - D) as in Eq. 4 instead of -log D [D8]"""


PAPER = Config()

PAPER_CELEBA = replace(
    PAPER,
    image_px=160,  # Sec. 4.4: short side 160..178, random 160 x 160
    crop="random160",
    mask_px=(48, 96),
    local_px=96,
    global_convs=5,
)

ARTICLE_EPOCH_STEPS = 192_469 // 64  # the article trains on 95 % of CelebA's 202,599 images and drops the rest of 64

ARTICLE = replace(
    PAPER,
    total_steps=146 * ARTICLE_EPOCH_STEPS,
    completion_steps=101 * ARTICLE_EPOCH_STEPS,  # its test `pass_id <= 100` makes 101 epochs of the completion network
    discriminator_steps=0,  # D10: the article has no phase of the discriminators alone
    batch_size=64,
    image_px=128,
    crop="squash",
    mask_px=(24, 48),
    local_px=64,
    placement="article",
    output_activation="tanh",
    fill="grey",  # with the mask as a fourth channel, which the article forgot (D7)
    norm_momentum=0.99,
    norm_epsilon=1e-3,
    optimizer="adam",
    learning_rate=1e-3,
)

# Found by trial on two cores: small batches, a long decay and aligned crops learn most in little time.
CPU = replace(
    PAPER_CELEBA,
    total_steps=3_600,
    completion_steps=3_400,
    discriminator_steps=60,
    batch_size=8,
    image_px=96,
    crop="square178",
    flip=True,
    mask_px=(28, 48),
    local_px=48,
    base_channels=24,
    optimizer="adam",  # D12
    learning_rate=1e-3,
    decay_steps=2_400,
    adversarial_weight=4e-5,  # D16: with 4e-4 a few hundred steps bring artefacts, and the paper's 400,000 do not fit
    preview_steps=250,
)

CPU_LONG = replace(  # what made the bundled network of one that `cpu` had trained, see docs/trials.md
    CPU,
    total_steps=7_800,
    completion_steps=7_000,
    discriminator_steps=100,
    batch_size=4,
    mask_px=(29, 58),  # 48 to 96 of 160 px, as in the paper
    local_px=60,
    learning_rate=5e-4,
    decay_steps=6_000,
    reconstruction="l1",  # D17
    average_decay=0.999,  # D18
    adversarial_weight=4e-4,
)

QUICK = replace(
    CPU,
    total_steps=1_000,
    completion_steps=900,
    discriminator_steps=40,
    image_px=64,
    mask_px=(16, 32),
    local_px=32,
    base_channels=20,
    decay_steps=700,
    preview_steps=100,
)

TINY = replace(  # for tests: seconds
    QUICK,
    total_steps=6,
    completion_steps=2,
    discriminator_steps=2,
    batch_size=4,
    image_px=32,
    mask_px=(8, 16),
    local_px=16,
    base_channels=8,
    decay_steps=2,
)

PRESETS = {
    "quick": ("drawn faces at 64 px: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own images at 96 px, small networks: under an hour on two cores", CPU),
    "cpu-long": ("a network of cpu trained on, given by --init-generator: two hours on one core", CPU_LONG),
    "article": ("the article's settings with its mistakes mended: CelebA at 128 px, one GPU", ARTICLE),
    "paper-celeba": ("the paper's settings for CelebA at 160 px", PAPER_CELEBA),
    "paper": ("the paper's settings for Places2 at 256 px", PAPER),
}


def read_train(argv: list[str] | None, description: str) -> Config:
    """The command line of `train`: PRESET [--flag value …]."""
    return choose(PRESETS, argv, "python -m glcic.train", description, base_channels=1)
