"""Any folder or zip of images, split into train, val and test; and the reader that fits a given folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.datasets.celeba import CelebA, find_celeba
from common.datasets.splits import SPLITS, divide, split_named
from common.errors import UserError, first_few, none_readable
from common.imaging.folders import is_litter, is_zip, member_bytes, open_zip, survey
from common.imaging.io import read_image
from common.runtime.commands import unpack_command

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
PAIR_SAMPLES = 20  # images whose shape is looked at


class ImageFolder:
    """One split of a folder of images, or of a zip, which is read in place.

    Folders named like splits are these splits (see `splits.divide`); what is missing is taken from train by number:
    every twentieth image in path order for test, the one before it for val. Fewer than 20 images are all of them at
    once, and `split` is then "unsplit". The split "all" has every image.

    Attributes:
        notes: lines on which images are what, and on what was passed over.

    Raises:
        UserError: there is no such folder or zip, or no image for this split in it.
    """

    def __init__(self, data_dir: str | Path, split: str):
        self.folder = Path(data_dir)
        seen = survey(self.folder)
        division = divide(seen.images, self.folder)
        self.paths = {**division.items, "all": seen.images}.get(split, [])
        self.split = division.name(split)
        self.notes = [line for line in (division.note * (split != "all"), seen.note()) if line]
        if not seen.images:
            raise UserError(nothing_in(self.folder, seen.note()))
        if not self.paths:
            raise UserError(f"there is no image to {_use(split)} in {self.folder}: it has {division.note}")
        self._members = seen.members
        self._zip = open_zip(self.folder) if seen.members else None

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path below the folder."""
        return str(self.paths[index].relative_to(self.folder))

    def path(self, index: int) -> Path | None:
        """The image's file, or None inside a zip."""
        return None if self._zip else self.paths[index]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [height, width, 3] RGB. Raises UserError for a corrupt file, naming it."""
        path = self.paths[index]
        if self._zip is None:
            return read_image(path)
        return read_image(member_bytes(self._zip, self._members[path], str(path)), str(path))


def _use(split: str) -> str:
    return {"train": "train on", "val": "validate with", "test": "test with"}[split]


def archives_in(folder: Path) -> list[Path]:
    """The archives that lie in a folder itself, sorted."""
    names = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(ARCHIVES)]
    return [path for path in names if not is_litter(path.name) and path.is_file()]


def nothing_in(folder: Path, note: str) -> str:
    """What to do about a folder or zip without an image."""
    if is_zip(folder):
        inside = [name for name in open_zip(folder).namelist() if name.lower().endswith(ARCHIVES)]
    else:
        inside = [path.name for path in archives_in(folder)]
    if inside:
        todo = f"`{unpack_command('images', folder)}` unpacks them"
        return f"there is no image in {folder}, but archives ({first_few(inside)}): {todo}"
    return f"there is no image in {folder}" + (f" ({note})" if note else "")


def open_images(data_dir: str | Path, split: str) -> CelebA | ImageFolder:
    """CelebA where its layout is found, else any folder or zip of images; a folder with nothing but a zip is that zip.

    Raises:
        UserError: there is no such split, or the folder is missing or holds no images; the text says what to do.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")
    if find_celeba(data_dir) is not None:
        return CelebA(data_dir, split)
    place = Path(data_dir)
    if place.is_file() and not is_zip(place):
        raise UserError(_no_folder(place))
    if not place.exists():
        raise UserError(
            f"there is no folder {data_dir}; --data-dir takes CelebA (`python -m data.prepare celeba --help`) or any "
            "folder or zip of images, and the preset `quick` needs neither"
        )
    if place.is_dir():
        archives = archives_in(place)
        if len(archives) == 1 and is_zip(archives[0]) and not survey(place).images:
            found = open_images(archives[0], split)
            found.notes = [f"read in place from {archives[0]}", *found.notes]
            return found
    return ImageFolder(place, split)


def _no_folder(place: Path) -> str:
    if place.name.lower().endswith(ARCHIVES):
        return f"{place} is an archive that is not read in place: `{unpack_command('images', place)}` unpacks it"
    return f"{place} is a single file; --data-dir takes a folder or a zip of images"


def announce(items, data_dir: str | Path, what: str) -> None:
    """Prints how many items were found, and what is to be known of them."""
    print(f"{len(items):,} {what} from {data_dir}")
    for note in items.notes:
        print(f"note: {note}")


def note_of_pairs(images: ImageFolder | CelebA) -> str:
    """A line for images that may be pairs of photo and label given as photos; "" for others."""
    if not isinstance(images, ImageFolder):
        return ""
    folders = {part for n in range(len(images)) for part in Path(images.name(n)).parts[:-1]}
    apart = [f for f in folders if f.endswith("A") and (f == "A" or split_named(f)) and f[:-1] + "B" in folders]
    if apart:
        return f"{apart[0]}/ and {apart[0][:-1]}B/ are how photos and labels are paired: --pairs takes the photos alone"
    numbers = sorted({round(n * (len(images) - 1) / (PAIR_SAMPLES - 1)) for n in range(PAIR_SAMPLES)})
    looked_at = set()
    for number in numbers:
        looked_at.add(_is_double(images, number))
        if False in looked_at:
            return ""
    if True in looked_at:
        return (
            "all images looked at are exactly twice as wide as high, as photo and label side by side are: if they are, "
            "--pairs takes the photos alone"
        )
    return ""


def _is_double(images: ImageFolder, index: int) -> bool | None:
    try:
        height, width = images[index].shape[:2]
    except UserError:  # told when it is trained on
        return None
    return width == 2 * height


def readable(dataset, limit: int, what: str = "image") -> Iterator[tuple[int, object]]:
    """Yields (index, item) of the first `limit` items that can be read, and names the others.

    Raises:
        UserError: none can be read.
    """
    done, problems = 0, []
    for index in range(len(dataset)):
        if done == limit:
            return
        try:
            item = dataset[index]
        except UserError as problem:
            print(f"skipped: {problem}")
            problems.append(str(problem))
            continue
        done += 1
        yield index, item
    if not done:
        raise none_readable(problems, what)
