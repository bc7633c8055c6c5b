"""CelebA in its official layout: 178x218 JPEGs and `list_eval_partition.txt`, in a folder or in the official zip.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015.
"""

import zipfile
from pathlib import Path

import numpy as np

from common.errors import UserError, first_line
from common.images import read_image

PARTITION = "list_eval_partition.txt"
SPLITS = ("train", "val", "test")  # 0, 1 and 2 in the partition list
MEMBER_BYTES = 2**26  # of a picture in the zip, where aligned ones have 10,000: more is a decompression bomb


def find_celeba(data_dir: str | Path) -> tuple[Path, Path] | None:
    """Finds the pictures and the partition list.

    Args:
        data_dir: the folder that holds `img_align_celeba/` or `img_align_celeba.zip`, or that zip itself.

    Returns:
        (folder or zip with the pictures, partition list, which may be missing on disk), or None: this is no CelebA.
    """
    data_dir = Path(data_dir)
    if data_dir.suffix.lower() == ".zip":
        return (data_dir, _partition_beside(data_dir.parent)) if data_dir.is_file() else None
    inside = data_dir / "img_align_celeba"
    nested = inside / "img_align_celeba"  # some archives wrap the folder once more
    for pictures in (nested, inside, data_dir / "img_align_celeba.zip"):
        if pictures.is_dir() or pictures.is_file():  # not a pipe, which would be waited for
            return pictures, _partition_beside(data_dir)
    return (data_dir, data_dir.parent / PARTITION) if data_dir.name == "img_align_celeba" else None


def _partition_beside(folder: Path) -> Path:
    places = (folder / PARTITION, folder / "Eval" / PARTITION, folder / "eval" / PARTITION)
    return next((place for place in places if place.is_file()), places[0])


def read_partition(path: Path) -> dict[str, list[str]]:
    """Names of each split, in the list's order, from lines `000001.jpg 0` (0 train, 1 val, 2 test).

    Raises:
        UserError: the list is missing, or a line is not of that form (its number is named).
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(path)  # or a pipe, which would be waited for
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"cannot read {path}: CelebA needs its official {PARTITION} beside the pictures; "
            "`python -m data.prepare celeba --help` says how to get or make one"
        ) from None
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
    """One split of CelebA. Holds names only: memory does not grow with the pictures.

    Args:
        data_dir: see `find_celeba`.
        split: train, val or test.

    Raises:
        UserError: there is no CelebA in data_dir, its list is missing or broken, or the split is empty.
    """

    def __init__(self, data_dir: str | Path, split: str):
        found = find_celeba(data_dir)
        if found is None:
            raise UserError(
                f"there is no CelebA in {data_dir}: expected img_align_celeba/ or img_align_celeba.zip in it"
            )
        self.pictures, partition = found
        self.names = read_partition(partition)[split]
        if not self.names:
            raise UserError(f"{partition} names no picture of the {split} split")
        self._zip, self._prefix = None, ""
        if self.pictures.suffix.lower() == ".zip":
            self._open_zip()

    def _open_zip(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self.pictures)
            first = next(name for name in self._zip.namelist() if name.lower().endswith(".jpg"))
        except Exception:  # a broken zip can raise anything
            raise UserError(
                f"{self.pictures} is no zip with pictures; a failed download is often a web page of that name"
            ) from None
        self._prefix = first.rpartition("/")[0] + "/" if "/" in first else ""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The picture's file name."""
        return self.names[index]

    def path(self, index: int) -> Path | None:
        """The picture's file, or None inside a zip."""
        return None if self._zip else self.pictures / self.names[index]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [218, 178, 3] RGB. Raises UserError for a missing or broken file, naming it."""
        name = self.names[index]
        if self._zip is None:
            return read_image(self.pictures / name)
        try:
            size = self._zip.getinfo(self._prefix + name).file_size
            if size > MEMBER_BYTES:
                raise UserError(f"{name} in {self.pictures} has {size:,} bytes; the limit is {MEMBER_BYTES:,}")
            data = self._zip.read(self._prefix + name)
        except UserError:
            raise
        except Exception as problem:  # a broken zip can raise anything
            raise UserError(f"cannot read {name} in {self.pictures}: {first_line(problem)}") from None
        return read_image(data, f"{self.pictures}:{name}")
