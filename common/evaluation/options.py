"""The flags of the `evaluate` commands of papers that complete images. Imports no Paddle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.config import EvaluateSettings, at_least
from common.errors import UserError

Resize = Literal["clean", "legacy"]


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """Flags of all commands that score images."""

    # ---- run
    perceptual: bool = False
    """Add KID-Lite0, LPD-Lite0, P-IDS, the sliced Wasserstein distance and, from 176 px on, MS-SSIM."""
    inception: Path | None = None
    """File with Inception, which adds FID and KID: pt_inception-2015-12-05 of pytorch-fid, or InceptionV3.pdparams of
    PaddleGAN."""
    fid_resize: Resize = "clean"
    """How FID and KID bring images to 299 px: clean (antialiased, as clean-fid) or legacy (as pytorch-fid)."""
    lpips_backbone: Path | None = None
    """File with AlexNet or VGG16 of torchvision, which adds LPIPS; its linear heads are those of the package lpips."""


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(MetricOptions, EvaluateSettings):
    """The flags that `evaluate` has in every paper that completes images."""

    # ---- data
    pairs: bool = False
    """Take the photos of pairs of photo and label (Cityscapes, facades)."""
    results: tuple[Path, ...] = ()
    """Folders of images that other methods wrote for this set, named as `--write-inputs` names it; each is a row."""
    write_inputs: Path | None = None
    """Folder for the set's images, masks and masked images, for other methods to complete."""
    references: Path | None = None
    """Folder or zip of images that FID and KID compare with in place of the originals, cropped alike: every image; of
    CelebA those of train."""
    html: bool = False
    """Write scores.html to the folder too: sortable scores, the worst and the best twenty images."""

    # ---- run
    baselines: Literal["all", "fast", "none"] = "all"
    """Baselines to score: fast has Telea, Navier-Stokes, mean colour and membrane; all has biharmonic and PatchMatch
    too."""
    linear_floor_images: int = 0
    """Number of training images on which ridge regression (one fixed mask) and PCA are fitted as baselines; 0 leaves
    them out."""

    def __post_init__(self):
        at_least(self, limit=1, seed=0)
        if self.html and not self.output:
            raise UserError("--html writes scores.html to the folder of the scores: give --output too")
        if self.references and not (self.perceptual or self.inception):
            raise UserError("--references are compared with by KID and FID alone: give --perceptual or --inception too")
