"""Where the masks of photos come from: sampled, one mask file, or a folder of mask files."""

from functools import partial
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.inpainting import finished_results
from common.inpainting.folder_run import masks_beside, photos_in
from common.masks import benchmark_sets, generators
from common.masks.folder import match_masks
from common.masks.reader import read_mask


def _center(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return generators.center(height, width)


# Holes that need no file: (height, width, rng) -> bool [height, width]
SAMPLED = {
    "center": _center,
    "random": generators.anywhere,
    "freeform": generators.freeform,
    **{kind: partial(benchmark_sets.irregular_mask, kind) for kind in ("blocks", "regions", "noise")},
}


class Masks:
    """Where the masks of photos come from: sampled, one mask file, or a folder of them, which is read once.

    Args:
        mask: one of SAMPLED, an image, or a folder of images; `mask_folder.match_masks` says which is whose.
        source: the photo, or the folder of photos, that is completed.
        output: where results go, so that they are not taken for photos.
        invert_mask: black is hole in an image.
        seed: of sampled masks.

    Raises:
        UserError: there is no such mask.
    """

    def __init__(self, mask: str, source: Path, output: Path | None = None, invert_mask: bool = False, seed: int = 0):
        self.mask, self.invert_mask, self.seed = mask, invert_mask, seed
        self.sampled = mask in SAMPLED
        self._files: dict[Path, Path | str] | None = None
        if self.sampled or Path(mask).is_file():
            return
        if not Path(mask).is_dir():
            raise UserError(f"there is no mask {mask}; give an image, a folder, or one of {', '.join(SAMPLED)}")
        photos = photos_in(source, output, mask) if source.is_dir() else [source]
        root = source if source.is_dir() else source.parent
        found = photos_in(Path(mask), output)
        found = [file for file in found if file.name != source.name or not file.samefile(source)]
        if source.is_dir() and source.samefile(mask):
            found = masks_beside(found)
        matched = match_masks([photo.relative_to(root) for photo in photos], [file.relative_to(mask) for file in found])
        self._files = {
            root / photo: file if isinstance(file, str) else Path(mask, file) for photo, file in matched.items()
        }

    def file(self, photo: Path) -> Path | None:
        """The photo's mask file; None if its hole is sampled.

        Raises:
            UserError: no mask, or more than one, may be the photo's.
        """
        if self.sampled:
            return None
        if self._files is None:
            return Path(self.mask)
        found = self._files.get(photo, "")
        if not found:
            raise UserError(f"there is no mask named {photo.stem} in {self.mask}")
        if isinstance(found, str):
            raise UserError(found)
        return found

    def __call__(self, photo: Path, image: np.ndarray, index: int = 0) -> np.ndarray:
        """The hole of a photo, bool [height, width].

        Args:
            photo: its file.
            image: uint8 [height, width, 3], the photo.
            index: the photo's place in its folder, for sampled masks.

        Raises:
            UserError: there is no mask for it, or it cannot be read as a hole of this photo.
        """
        path = self.file(photo)
        if path is None:
            return SAMPLED[self.mask](*image.shape[:2], np.random.default_rng((self.seed, index)))
        return read_mask(path, invert=self.invert_mask, photo=image, photo_file=photo)

    def identity(self, photo: Path, index: int = 0) -> list:
        """What the photo's hole depends on, as JSON values: the mask file's content, or the seed and the place."""
        try:
            path = self.file(photo)
            if path is None:
                return [self.mask, self.seed, index]
            return [self.invert_mask, finished_results.digest(path)]
        except UserError:  # told when the hole is asked for
            return ["no mask"]
