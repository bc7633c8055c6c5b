"""Any folder of pictures, split into train, val and test; and the reader that fits a given folder."""

from pathlib import Path

import numpy as np

from common.celeba import CelebA, find_celeba
from common.errors import UserError
from common.images import find_images, read_image

SPLITS = ("train", "val", "test")


class ImageFolder:
    """One split of a folder of pictures.

    Sub-folders named train, val and test are the splits where all three are there. Otherwise every twentieth picture
    in path order goes to test and the one before it to val; a folder of fewer than 20 pictures is all of them at once.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """

    def __init__(self, data_dir: str | Path, split: str):
        self.folder = Path(data_dir)
        if all((self.folder / name).is_dir() for name in SPLITS):
            self.folder = self.folder / split
            self.paths = find_images(self.folder)
        else:
            self.paths = share(find_images(self.folder), split)
        if not self.paths:
            raise UserError(f"there is no picture in {self.folder}")

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The picture's path below the folder."""
        return str(self.paths[index].relative_to(self.folder))

    def path(self, index: int) -> Path:
        """The picture's file."""
        return self.paths[index]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [height, width, 3] RGB. Raises UserError for a broken file, naming it."""
        return read_image(self.paths[index])


def share(paths: list[Path], split: str) -> list[Path]:
    if len(paths) < 20:
        return paths
    place = {19: "test", 18: "val"}
    return [path for index, path in enumerate(paths) if place.get(index % 20, "train") == split]


def open_pictures(data_dir: str | Path, split: str) -> CelebA | ImageFolder:
    """CelebA where its layout is found, else any folder of pictures.

    Raises:
        UserError: there is no such split, or the folder is missing or holds no pictures; the text says what to do.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")
    if find_celeba(data_dir) is not None:
        return CelebA(data_dir, split)
    if not Path(data_dir).is_dir():
        raise UserError(
            f"there is no folder {data_dir}; --data-dir takes CelebA (`python -m data.prepare celeba --help`) or any "
            "folder of pictures, and the preset `quick` needs neither"
        )
    return ImageFolder(data_dir, split)
