"""CelebA in its official layout: 178x218 JPEGs and `list_eval_partition.txt`, in a folder or in the official zip.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from common.datasets.splits import SPLITS, complete
from common.errors import UserError
from common.imaging.folders import is_litter, is_zip, member_bytes, open_zip
from common.imaging.io import read_image

PARTITION = "list_eval_partition.txt"  # 0, 1 and 2 in it are train, val and test
ALIGNED = "img_align_celeba"
FOLDERS = (ALIGNED, "img_align_celeba_png")
SUFFIXES = (".jpg", ".JPG", ".png", ".PNG", ".jpeg", ".JPEG")  # the list says .jpg, whatever the images are
MEMBER = re.compile(r"\d{6}\.(jpe?g|png)", re.IGNORECASE)


def find_celeba(data_dir: str | Path) -> tuple[Path, Path] | None:
    """Finds the images and the partition list.

    Args:
        data_dir: the folder that holds `img_align_celeba/` or `img_align_celeba.zip` (or `celeba/` or `Img/` with
            them), or that zip itself.

    Returns:
        (folder or zip with the images, partition list, which may be missing on disk), or None: this is no CelebA.
    """
    data_dir = Path(data_dir)
    if is_zip(data_dir):
        partition = _partition_beside(data_dir.parent)
        if _is_celeba_zip(data_dir, partition.is_file()):
            return (data_dir, partition)
        return None
    for base in (data_dir, data_dir / "celeba", data_dir / "Img"):
        for name in FOLDERS:  # some archives wrap the folder once more
            for images in (base / name / name, base / name, base / f"{name}.zip"):
                if images.is_dir() or images.is_file():  # not a pipe, which would be waited for
                    return images, _partition_beside(data_dir, base)
    if data_dir.name in FOLDERS and data_dir.is_dir():
        return (data_dir, _partition_beside(data_dir.parent))
    return None


def _is_celeba_zip(path: Path, listed: bool) -> bool:
    """Whether a zip holds CelebA's images, by its name or theirs; a zip of images of another name is just images."""
    if path.name.lower().startswith(ALIGNED):
        return True
    try:
        with open_zip(path) as opened:
            names = opened.namelist()
    except UserError:  # told by what opens it
        return False
    return any(MEMBER.fullmatch(name.rpartition("/")[2]) and (listed or ALIGNED in name) for name in names)


def _partition_beside(*folders: Path) -> Path:
    names = [
        Path(above, name) for name in (PARTITION, PARTITION.replace(".txt", ".csv")) for above in ("", "Eval", "eval")
    ]
    places = [folder / name for folder in folders for name in names]
    return next((place for place in places if place.is_file()), places[0])


def read_partition(path: Path) -> dict[str, list[str]]:
    """Names of each split, in the list's order, from lines `000001.jpg 0` (0 train, 1 val, 2 test).

    A list called .csv, as some mirrors have it, has commas and a heading.

    Raises:
        UserError: the list is missing, or a line is not of that form (its number is named).
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(path)  # or a pipe, which would be waited for
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"cannot read {path}: CelebA needs its official {PARTITION} beside the images; "
            "`python -m data.prepare celeba --help` says how to get or make one"
        ) from None
    if path.suffix.lower() == ".csv":
        lines = [line.replace(",", " ") if not line.startswith("image_id") else "" for line in lines]
    names = {split: [] for split in SPLITS}
    for number, line in enumerate(lines, 1):
        name, _, split = line.strip().partition(" ")
        if not name:
            continue
        if split.strip() not in ("0", "1", "2") or "/" in name or "\\" in name or not name.isprintable():
            raise UserError(f"{path}, line {number}: expected `000001.jpg 0` with 0, 1 or 2, found {line[:60]!r}")
        names[SPLITS[int(split)]].append(name)
    return names


class CelebA:
    """One split of CelebA. Holds names only: memory does not grow with the images.

    Args:
        data_dir: see `find_celeba`.
        split: train, val or test. One that the list lacks is taken from train, by number (`splits.complete`).

    Raises:
        UserError: there is no CelebA in data_dir, its list is missing or corrupt, or it names nothing to train on.
    """

    def __init__(self, data_dir: str | Path, split: str):
        found = find_celeba(data_dir)
        if found is None:
            raise UserError(
                f"there is no CelebA in {data_dir}: expected img_align_celeba/ or img_align_celeba.zip in it"
            )
        self.images, partition = found
        division = complete(read_partition(partition))
        self.names, self.split = division.items.get(split, []), division.name(split)
        self.notes = [f"{division.note} (CelebA, by {partition})"]
        if not self.names:
            raise UserError(f"{partition} names no image of the {split} split")
        self._zip, self._members = None, {}
        if self.images.suffix.lower() == ".zip":
            self._zip = open_zip(self.images)
            self._members = members_by_stem(self._zip.namelist())
            if not self._members:
                raise UserError(f"there is no image named like 000001.jpg in {self.images}")

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The image's file name in the list."""
        return self.names[index]

    def path(self, index: int) -> Path | None:
        """The image's file, or None inside a zip."""
        if self._zip:
            return None
        listed = self.images / self.names[index]
        return next((file for file in (listed, *map(listed.with_suffix, SUFFIXES)) if file.exists()), listed)

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [218, 178, 3] RGB. Raises UserError for a missing or corrupt file, naming it."""
        if self._zip is None:
            return read_image(self.path(index))
        name = self.names[index]
        member = self._members.get(name.rpartition(".")[0], name)
        return read_image(member_bytes(self._zip, member, f"{name} in {self.images}"), f"{self.images}:{name}")


def members_by_stem(names: list[str]) -> dict[str, str]:
    """`000001` -> its name in a zip, of the folder there that holds most of them; not what macOS packs along."""
    found = [name for name in names if name.lower().endswith(SUFFIXES) and not any(map(is_litter, name.split("/")))]
    if not found:
        return {}
    most, _ = Counter(name.rpartition("/")[0] for name in found).most_common(1)[0]
    return {PurePosixPath(name).stem: name for name in found if name.rpartition("/")[0] == most}
