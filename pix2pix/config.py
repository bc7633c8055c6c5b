"""Every setting of pix2pix and its presets. Config itself holds the paper's values for label and photo pairs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import RunSettings, choose

GanMode = Literal["vanilla", "lsgan", "wgan-gp"]
Norm = Literal["batch", "instance", "instance-affine", "none"]
Dropout = Literal["paper", "pytorch", "none"]
Upsample = Literal["output-padding", "zero-pad"]
Patch = Literal[1, 16, 34, 70, 142, 286]
Direction = Literal["photo-to-label", "label-to-photo", "grey-to-colour"]
Objective = Literal["l1", "gan", "cgan", "l1+gan", "l1+cgan"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train pix2pix: one step of the discriminator, one of the generator, and so on (Sec. 3.3)."""

    # ---- data
    direction: Direction = "label-to-photo"
    """Direction of the translation; grey-to-colour makes its pairs from single photos, in an image folder [Sec. 4]"""
    photo_side: Literal["left", "right"] = "left"
    """Half of a pair (or A, B) that is the photo: left in cityscapes, facades and maps, right in edges [data sets]"""
    load_px: int = 286
    """Side in pixels to which images are resized (both of a pair) before a random square is cut; 0 keeps their own size
    [App. 6.2]"""
    image_px: int = 256
    """Side of the training images in pixels, which is that square's [App. 6.2]"""
    flip: bool = True
    """Mirror half of the images, each with its pair [App. 6.2]"""

    # ---- model
    generator: Literal["unet", "encoder-decoder", "resnet"] = "unet"
    """Kind of generator: the U-Net, encoder-decoder which is the same without skips, or the article's resnet [App.
    6.1.1]"""
    levels: int = 8
    """Number of downsamplings of unet and encoder-decoder; 8 is U-Net-256, 7 U-Net-128 [App. 6.1.1]"""
    blocks: int = 7
    """Number of residual blocks of resnet, 6 or 9 in the official code [article]"""
    upsample: Upsample = "output-padding"
    """How resnet's transposed convolutions come to even sizes, see model.ResnetGenerator [official code]"""
    base_channels: int = 64
    """Number of channels after the first layer (of the generator); all widths follow [App. 6.1.1]"""
    generator_norm: Norm = "batch"
    """Normalisation in the generator [Sec. 3.2]"""
    dropout: Dropout = "paper"
    """Where the generator drops half of its features, in training and afterwards, see model [App. 6.1.1]"""
    patch_px: Patch = 70
    """Side in pixels of the patches that the discriminator judges [Sec. 4.4]"""
    discriminator_channels: int = 64
    """Number of channels after the discriminator's first layer [App. 6.1.2]"""
    discriminator_norm: Norm = "batch"
    """Normalisation in the discriminator; batch cannot be used with wgan-gp [App. 6.1.2]"""
    first_norm: bool = False
    """Normalise after the discriminator's first layer too, as the article does [App. 6.1.2, D4]"""
    norm_deviation: float = 0.02
    """Standard deviation of the initial scales of batch normalisations around 1; the article has 0 [official code]"""
    init_generator: Path | None = None
    """Weights to start the generator from; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """Weights to start the discriminator from; its arguments come from the file [ours]"""

    # ---- optimisation
    total_steps: int = 0
    """Number of optimisation steps of the whole run; 0 is `epochs` times the pairs [App. 6.2]"""
    epochs: int = 200
    """Number of epochs in the schedule's count, whatever total_steps makes of it [App. 6.2]"""
    decay_epochs: int = 100
    """Number of last epochs over which the learning rate falls linearly to zero; 0 keeps it [official code]"""
    batch_size: int = 1
    """Number of images per step, each with its pair [App. 6.2]"""
    objective: Objective = "l1+cgan"
    """Losses to train with: with gan the discriminator does not see the source, with cgan it does, l1 has none [Sec.
    4.1]"""
    gan_mode: GanMode = "vanilla"
    """Adversarial loss: cross entropy, least squares, or Wasserstein with a gradient penalty [Sec. 3.1]"""
    l1_weight: float = 100.0
    """Weight of the L1 loss (lambda of Eq. 4) [App. 6.2]"""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty in wgan-gp [Gulrajani et al. 2017]"""
    learning_rate: float = 2e-4
    """Learning rate of the optimiser (Adam, both networks) [App. 6.2]"""
    beta1: float = 0.5
    """Decay rate beta1 of Adam; beta2 is 0.999 [App. 6.2]"""


PAPER_FACADES = Config(preview_steps=2_000)

PAPER_CITYSCAPES = replace(PAPER_FACADES)  # the same settings; 200 epochs of 2,975 pairs instead of 400

ARTICLE = replace(
    PAPER_FACADES,
    total_steps=50_000,
    decay_epochs=0,
    load_px=0,  # D6: native 256 px pairs, nothing resized
    image_px=224,
    flip=False,
    generator="resnet",
    upsample="zero-pad",
    dropout="none",
    discriminator_norm="instance-affine",
    first_norm=True,
    norm_deviation=0.0,
)

# Found by trial on two cores.
CPU = replace(
    PAPER_FACADES,
    direction="photo-to-label",
    total_steps=20_000,
    load_px=142,
    image_px=128,
    levels=7,
    base_channels=32,
    discriminator_channels=32,
    preview_steps=1_000,
)

QUICK = replace(  # D11: what learns most in three minutes
    CPU,
    total_steps=2_400,
    batch_size=4,
    load_px=72,
    image_px=64,
    levels=5,
    base_channels=40,
    generator_norm="instance",
    dropout="none",
    patch_px=34,
    discriminator_channels=16,
    discriminator_norm="instance",
    learning_rate=1e-3,
    l1_weight=500.0,
    preview_steps=400,
)

COLOUR = replace(
    PAPER_FACADES, direction="grey-to-colour", batch_size=4, load_px=256, flip=False, epochs=6, decay_epochs=0
)

TINY = replace(  # for tests: seconds
    CPU,
    total_steps=6,
    batch_size=2,
    load_px=36,
    image_px=32,
    levels=5,
    base_channels=4,
    discriminator_channels=4,
    patch_px=34,
)

PRESETS = {
    "quick": ("drawn streets at 64 px: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("Cityscapes or your own pairs at 128 px, smaller networks: under an hour on two cores", CPU),
    "article-scene2mask": (
        "the article's photo-to-label with its mistakes mended: 224 px, one GPU",
        replace(ARTICLE, direction="photo-to-label"),
    ),
    "article-mask2scene": (
        "the article's label-to-photo with its mistakes mended: 224 px, one GPU",
        replace(ARTICLE, total_steps=400_000),
    ),
    "paper-facades": ("the paper's settings for facades: 256 px, 200 epochs", PAPER_FACADES),
    "paper-cityscapes": ("the paper's settings for Cityscapes: 256 px, 200 epochs", PAPER_CITYSCAPES),
    "colour": ("the paper's settings for colouring grey photos: 256 px, any image folder", COLOUR),
}


def read_train(argv: list[str] | None, description: str) -> Config:
    """The command line of `train`: PRESET [--flag value …]."""
    return choose(PRESETS, argv, "python -m pix2pix.train", description, total_steps=0, base_channels=1)
