"""Which data sets lie in a folder, and whether they can be trained on."""

from __future__ import annotations

import contextlib
import re
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SAMPLED = 20  # pictures of a data set that are decoded
LOOKED_INTO = 20  # folders in a folder that are searched for data
PAIR_SIGNS = ("trainA", "trainB", "leftImg8bit", "gtFine", "*train_list*")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")


@dataclass(frozen=True)
class DataSet:
    """A data set that was found.

    Args:
        place: what --data-dir takes.
        pairs: of photo and label, not single pictures.
        title: what it is, and its size.
        problem: why it cannot be trained on, and what to do; "" when it can.
        note: a smaller trouble.
    """

    place: Path
    pairs: bool
    title: str
    problem: str = ""
    note: str = ""


def find_data(given: Path | None) -> list[DataSet]:
    """The data sets in the folder given; else in data/, here and in the clone, and in AI Studio's mounts."""
    if given:
        return explore(given)
    from common.celeba import find_celeba

    places = []
    for folder in (Path("data"), ROOT / "data"):
        places += [folder] if find_celeba(folder) else _folders(folder) + _archives(folder)
    places += sorted(Path.home().glob("data/data[0-9]*"))
    found = {}
    for place in places:
        found.setdefault(place.resolve(), place)
    return [each for place in found.values() for each in explore(place)]


def explore(place: Path) -> list[DataSet]:
    """The data set that a folder is; else those in its folders; else its pictures; else its archives; or an archive."""
    from common.image_folder import ImageFolder
    from common.images import find_images

    if place.is_file():
        return [_archive(place)]
    own = [_published(place)]
    found = [each for each in own if each] or [each for each in map(_published, _folders(place)) if each]
    if not found and place.is_dir() and find_images(place):
        found = [_opened(place, "pictures", ImageFolder, pairs=False)]
    return found or [_archive(path) for path in _archives(place)]


def _folders(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!._]*")) if path.is_dir()][:LOOKED_INTO]


def _archives(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!.]*")) if path.name.lower().endswith(ARCHIVES) and path.is_file()]


def _published(place: Path) -> DataSet | None:
    """CelebA or a set of pairs, as the readers find them; a spoilt one is told as such."""
    from common.celeba import find_celeba
    from common.cityscapes import open_pairs
    from common.image_folder import open_pictures

    if find_celeba(place):
        return _opened(place, "CelebA", open_pictures, pairs=False)
    with contextlib.suppress(UserError):
        open_pairs(place, "train")
        return _opened(place, "pairs of photo and label", open_pairs, pairs=True)
    if any(next(place.glob(sign), None) for sign in PAIR_SIGNS):
        return _opened(place, "pairs of photo and label", open_pairs, pairs=True)
    return None


def _opened(place: Path, title: str, opener, pairs: bool) -> DataSet:
    """A set opened as training does, with SAMPLED items spread over it decoded."""
    try:
        items, held_out = opener(place, "train"), opener(place, "val")
    except UserError as problem:
        return DataSet(place, pairs, title, problem=str(problem))
    title = f"{title}, {len(items):,} for training and {len(held_out):,} for validation"
    numbers = sorted({round(n * (len(items) - 1) / (SAMPLED - 1)) for n in range(SAMPLED)})
    broken = []
    for number in numbers:
        try:
            items[number]
        except UserError as problem:
            broken.append(str(problem))
    if not broken:
        return DataSet(place, pairs, f"{title}; {len(numbers)} of them decoded")
    names = f": `python -m data.prepare verify {shlex.quote(str(place))}` names all" if place.is_dir() else ""
    said = f"broken: {len(broken)} of {len(numbers)} tried ({broken[0]}); training"
    if len(broken) > 1:  # of a set with 1 % broken, once in sixty times
        return DataSet(place, pairs, title, problem=f"{said} stops at more than 1 %{names}")
    return DataSet(place, pairs, title, note=f"{said} passes over up to 1 %{names}")


def _archive(path: Path) -> DataSet:
    """CelebA's zip with its list beside it is read as it is; other archives are to be unpacked."""
    if not path.name.lower().endswith(ARCHIVES):
        return DataSet(path, False, "a file", problem="--data-dir takes a folder of pictures, or CelebA's zip")
    from common.celeba import find_celeba
    from common.image_folder import open_pictures

    verb = f"--help` says how to unpack {shlex.quote(str(path))}"
    if path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as opened:
                parts = {part for name in opened.namelist() for part in name.split("/")}
        except (OSError, zipfile.BadZipFile):
            again = "a failed download is often a web page of that name; download it again"
            return DataSet(path, False, "no zip", problem=again)
        faces = any(re.fullmatch(r"\d{6}\.jpg", part) for part in parts)
        if faces and find_celeba(path)[1].is_file():
            return _opened(path, "CelebA", open_pictures, pairs=False)
        pairs = parts & {*PAIR_SIGNS, "train"}
        if pairs or faces:
            verb = f"{'cityscapes' if pairs else 'celeba'} {shlex.quote(str(path))} --output DIR` unpacks it"
    return DataSet(path, False, "an archive", problem=f"`python -m data.prepare {verb}")
