"""Every setting of the Context Encoder and its presets. Config itself holds the paper's values for the centre hole."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.config import RunSettings
from common.images import Crop
from context_encoder.holes import Kind
from context_encoder.model import Output


@dataclass(frozen=True)
class Config(RunSettings):
    """Train a Context Encoder: a generator that fills a hole, and a discriminator that judges what it put there."""

    total_steps: int = 500 * 14_900 // 64
    """500 epochs of the 14,900 pictures of Paris StreetView [official README]"""
    batch_size: int = 64
    """pictures per step [official code]"""

    image_px: int = 128
    """side of the training pictures, a power of two from 32 [official code: fineSize]"""
    load_px: int = 350
    """shorter side to which a picture is brought before a random square is cut from it; 0: see crop [official code]"""
    crop: Crop = "center"
    """how a picture becomes a square if load_px is 0, and always in evaluation [ours]"""
    flip: bool = True
    """mirror half of the pictures [official code]"""
    pairs: bool = False
    """the data are pairs of photo and label (Cityscapes, facades): take their photos [ours]"""

    output: Output = "center"
    """center predicts the square in the middle, whole the whole picture [Sec. 3.3]"""
    holes: Kind = "center"
    """center, blocks, regions or noise; see holes.sampler [Sec. 3.3]"""
    shapes_dir: Path | None = None
    """PASCAL VOC 2012, whose object shapes make the regions; none: drawn shapes [Sec. 3.3]"""
    overlap_px: int = 4
    """ring of the predicted square that is shown to the network [official code; the paper's text: 7]"""
    mean_colour: Literal["release", "imagenet"] = "release"
    """colour in the hole: RGB (117, 104, 123) as the release has it, or (123, 117, 104), ImageNet's mean [D3]"""

    base_channels: int = 64
    """outputs of each network's first layer; all widths follow [official code: nef, ngf, ndf]"""
    bottleneck: int = 4_000
    """units of the bottleneck [official README; the code's own default is 100]"""
    noise_channels: int = 0
    """numbers of chance joined to the bottleneck; 100 is the release's noiseGen [official code]"""
    conditional: bool = False
    """show the discriminator the surroundings too: the release's conditionAdv, centre only [Sec. 3.2]"""
    conv_bias: bool = False
    """give the convolutions a bias [D4]"""
    bottleneck_relu: bool = False
    """ReLU after the bottleneck instead of leaky ReLU [D2]"""

    reconstruction_weight: float = 0.999
    """lambda_rec of Eq. 3; the adversarial loss has the rest of 1 [Sec. 5.1]"""
    known_weight: float = 10.0
    """weight of a target pixel that the network was shown, 1 being one in the hole [Sec. 5.1]"""
    learning_rate: float = 2e-4
    """of Adam (0.5, 0.999) [official code]"""
    generator_rate_factor: float = 10.0
    """the generator's rate is so many times learning_rate [Sec. 5.1]"""
    decay_steps: int = 0
    """last steps, over which both rates fall evenly to zero; 0 keeps them [ours, D9]"""
    init_generator: Path | None = None
    """weights to start the generator from; its arguments come from the file [ours]"""
    init_discriminator: Path | None = None
    """weights to start the discriminator from [ours]"""


PAPER_CENTER = Config()

PAPER_RANDOM_REGION = replace(
    PAPER_CENTER,
    output="whole",
    holes="regions",
    overlap_px=0,
    known_weight=1.0,  # the release: a plain mean over the whole picture; 0 is Eq. 1 to the letter (D8)
)

ARTICLE = replace(
    PAPER_CENTER,
    total_steps=100 * 14_900 // 64,  # 100 epochs; its pictures are not named, those of its source are
    load_px=0,  # the middle square of the picture at 128 px, not mirrored (D10)
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

QUICK = replace(
    CPU,
    total_steps=800,
    base_channels=20,
    bottleneck=256,
    decay_steps=600,
    preview_steps=100,
)

TINY = replace(  # for tests: seconds
    QUICK,
    total_steps=6,
    batch_size=4,
    image_px=32,
    overlap_px=2,
    base_channels=8,
    bottleneck=16,
    decay_steps=2,
)

PRESETS = {
    "quick": ("drawn faces, centre hole, small networks: minutes on two processor cores, needs no data", QUICK),
    "cpu": ("CelebA or your own pictures, small networks: under an hour on two cores", CPU),
    "article": ("the article's settings with its mistakes mended: centre hole, one GPU", ARTICLE),
    "paper-center": ("the paper's centre hole, as its code trains it", PAPER_CENTER),
    "paper-random-region": ("the paper's random regions: any hole, whole picture", PAPER_RANDOM_REGION),
}
