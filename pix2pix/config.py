"""Every setting of pix2pix and its presets. Config itself holds the paper's values for label and photo pairs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import RunSettings
from pix2pix.losses import GanMode
from pix2pix.model import Dropout, Norm, Patch, Upsample

Direction = Literal["photo-to-label", "label-to-photo", "grey-to-colour"]
Objective = Literal["l1", "gan", "cgan", "l1+gan", "l1+cgan"]


@dataclass(frozen=True)
class Config(RunSettings):
    """Train pix2pix: one step of the discriminator, one of the generator, and so on (Sec. 3.3)."""

    direction: Direction = "label-to-photo"
    """what becomes what; grey-to-colour makes its pairs from single photos, in an image folder [Sec. 4]"""
    photo_side: Literal["left", "right"] = "left"
    """which half of a pair (or A, B) is the photo: left in cityscapes, facades and maps, right in edges [data sets]"""
    total_steps: int = 0
    """optimisation steps of the whole run; 0 is `epochs` times the pairs [App. 6.2]"""
    epochs: int = 200
    """the run in the schedule's count, whatever total_steps makes of it [App. 6.2]"""
    decay_epochs: int = 100
    """last epochs, over which the learning rate falls evenly; 0 keeps it [official code]"""
    batch_size: int = 1
    """pairs per step [App. 6.2]"""

    load_px: int = 286
    """side to which both pictures are resized before a random square is cut; 0 keeps their own size [App. 6.2]"""
    image_px: int = 256
    """side of that square [App. 6.2]"""
    flip: bool = True
    """mirror half of the pairs [App. 6.2]"""

    generator: Literal["unet", "encoder-decoder", "resnet"] = "unet"
    """encoder-decoder is the U-Net without its skips; resnet is the article's [App. 6.1.1]"""
    levels: int = 8
    """of unet and encoder-decoder: halvings down to the bottleneck; 8 is U-Net-256, 7 U-Net-128 [App. 6.1.1]"""
    blocks: int = 7
    """of resnet: residual blocks, 6 or 9 in the official code [article]"""
    upsample: Upsample = "output-padding"
    """of resnet: how transposed convolutions come to even sizes, see model.ResnetGenerator [official code]"""
    generator_channels: int = 64
    """outputs of the generator's first layer; all widths follow [App. 6.1.1]"""
    generator_norm: Norm = "batch"
    """normalisation in the generator [Sec. 3.2]"""
    dropout: Dropout = "paper"
    """where the generator drops half of its features, in training and afterwards; see model [App. 6.1.1]"""
    patch_px: Patch = 70
    """side of the patches that the discriminator judges [Sec. 4.4]"""
    discriminator_channels: int = 64
    """outputs of the discriminator's first layer [App. 6.1.2]"""
    discriminator_norm: Norm = "batch"
    """normalisation in the discriminator; batch cannot be used with wgan-gp [App. 6.1.2]"""
    first_norm: bool = False
    """normalise after the discriminator's first layer too, as the article does (D4) [App. 6.1.2]"""
    norm_deviation: float = 0.02
    """of the scales of batch normalisations around 1 at the start; the article has 0 [official code]"""

    objective: Objective = "l1+cgan"
    """gan: the discriminator does not see the source; cgan: it does; l1: no discriminator [Sec. 4.1]"""
    gan_mode: GanMode = "vanilla"
    """cross entropy, least squares, or Wasserstein with a gradient penalty [Sec. 3.1]"""
    l1_weight: float = 100.0
    """lambda of Eq. 4 [App. 6.2]"""
    penalty_weight: float = 10.0
    """of the gradient penalty in wgan-gp [Gulrajani et al. 2017]"""
    learning_rate: float = 2e-4
    """of both Adam optimisers [App. 6.2]"""
    beta1: float = 0.5
    """Adam's first momentum; the second is 0.999 [App. 6.2]"""
    init_generator: Path | None = None
    """weights to start the generator from; its arguments come from the file [ours]"""


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
    generator_channels=32,
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
    generator_channels=40,
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
    generator_channels=4,
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
