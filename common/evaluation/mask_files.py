"""A folder of mask files as the masks of an evaluation set: each image's own, or files in a seeded order."""

from pathlib import Path, PurePath

import cv2
import numpy as np

from common.errors import UserError, none_readable
from common.imaging.folders import find_images
from common.imaging.transforms import Crop, crop_square
from common.masks.folder import match_masks
from common.masks.reader import read_mask


def masks_from_folder(folder: Path, names: list[str], side_px: int, crop: Crop, seed: int) -> tuple[np.ndarray, str]:
    """One mask for each image from the files of a folder.

    If every image has a file of its own name, that one, cropped as the image is. Otherwise, as for the NVIDIA
    irregular masks, whole files in an order that the seed decides, each once before any comes again. Files whose mask
    is empty or full at this size are passed over.

    Args:
        names: of the images, below their folder.

    Returns:
        (bool [N, side, side], one line on what was taken)

    Raises:
        UserError: the folder holds no mask that can be read.
    """
    files = [PurePath(path.relative_to(folder)) for path in find_images(folder)]
    if not files:
        raise UserError(f"there is no mask file in the folder {folder}")
    matched = match_masks([PurePath(name) for name in names], files) if all(names) else {}
    own = [matched.get(PurePath(name)) for name in names]
    named = sum(isinstance(mask, PurePath) for mask in own)
    if own and named == len(own):
        masks = [_fit(read_mask(folder / mask), side_px, crop) for mask in own]
        bad = [name for name, mask in zip(names, masks, strict=True) if not mask.any() or mask.all()]
        if bad:
            raise UserError(f"the masks of {len(bad)} images are empty or full at {side_px} px: {', '.join(bad[:5])}")
        return np.stack(masks), f"masks: {folder}, each image's own file"
    masks, problems = [], []
    for place in np.random.default_rng(seed).permutation(len(files)):
        if len(masks) == len(names):
            break
        try:
            mask = _shrink(read_mask(folder / files[place]), side_px)
            if not mask.any() or mask.all():
                raise UserError(f"{files[place]} is empty or full at {side_px} px")
            masks.append(mask)
        except UserError as problem:
            print(f"skipped: {problem}")
            problems.append(str(problem))
    if not masks:
        raise none_readable(problems, "mask")
    found = len(masks)
    note = f"masks: {found} of {len(files)} files in {folder}, in an order drawn with seed {seed}"
    if found < len(names):
        note += f", taken again for the other {len(names) - found} images"
    if named:
        note += f"; only {named} of {len(names)} images have a file of their own name, which all would need to get it"
    return np.stack([masks[n % found] for n in range(len(names))]), note


def _fit(mask: np.ndarray, side_px: int, crop: Crop) -> np.ndarray:
    """The mask cropped and resized as its image is; a pixel is missing if half of it is."""
    levels = np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255
    return crop_square(levels, crop, side_px, np.random.default_rng(0))[..., 0] >= 128


def _shrink(mask: np.ndarray, side_px: int) -> np.ndarray:
    """The whole mask as a square; a pixel is missing if half of it is."""
    levels = mask.astype(np.uint8) * 255
    return cv2.resize(levels, (side_px, side_px), interpolation=cv2.INTER_AREA) >= 128
