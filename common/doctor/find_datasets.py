"""Which data sets lie in a folder, and whether they can be trained on."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.runtime.commands import next_command, unpack_command

ROOT = Path(__file__).resolve().parents[2]
SAMPLED = 20  # images of a data set that are decoded
LOOKED_INTO = 20  # folders in a folder that are searched for data
PAIR_SIGNS = ("trainA", "trainB", "leftImg8bit", "gtFine", "*train_list*")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")


class DataSet(NamedTuple):
    """A data set that was found: what --data-dir takes, and whether training on pairs or on single images takes it."""

    place: Path
    pairs: bool
    title: str  # what it is, and its size
    problem: str = ""  # why it cannot be trained on, and what to do
    note: str = ""  # a smaller trouble


def find_data(given: Path | None) -> list[DataSet]:
    """The data sets in the folder given; else in data/, here and in the clone, and in AI Studio's mounts."""
    from common.datasets.celeba import find_celeba

    if given:
        return explore(given)
    places = []
    for folder in (Path("data"), ROOT / "data"):
        places += [folder] if find_celeba(folder) else _folders(folder) + _archives(folder)
    with contextlib.suppress(RuntimeError):  # this user has no home
        places += sorted(Path.home().glob("data/data[0-9]*"))
    different = {place.resolve(): place for place in reversed(places) if not is_example(place)}
    return [each for place in reversed(different.values()) for each in explore(place)]


def explore(place: Path) -> list[DataSet]:
    """The data set that a folder is; else those in its folders; else its images; else its archives; or an archive."""
    from common.datasets.image_folder import ImageFolder
    from common.imaging.folders import find_images

    if place.is_file():
        return [_archive(place)]
    if is_example(place):
        return [_examples(place)]
    inside = [folder for folder in _folders(place) if not is_example(folder)]
    found = [_published(place)] if _published(place) else [each for each in map(_published, inside) if each]
    images = find_images(place) if not found and place.is_dir() else []
    if not all(map(is_example, images)):
        found = [_opened(place, "images", ImageFolder)]
    return found or [_archive(path) for path in _archives(place)] or ([_examples(place)] if images else [])


def _examples(place: Path) -> DataSet:
    todo = "the preset quick, without --data-dir, draws its own images; data/README.md says where to get others"
    return DataSet(place, False, "the examples that `infer --demo` shows, masks among them", problem=todo)


def is_example(place: Path) -> bool:
    """Whether this is data/examples of a clone of this suite, or lies in it: too few images, and half are masks."""
    folders = (place.resolve(), *place.resolve().parents)
    return any(each.name == "examples" and (each.parent / "draw_examples.py").is_file() for each in folders)


def _folders(place: Path) -> list[Path]:
    from common.imaging.folders import is_litter

    return [path for path in sorted(place.glob("[!_]*")) if path.is_dir() and not is_litter(path.name)][:LOOKED_INTO]


def _archives(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!.]*")) if path.name.lower().endswith(ARCHIVES) and path.is_file()]


def _published(place: Path) -> DataSet | None:
    """CelebA or a set of pairs, as the readers find them; a spoilt one is told as such."""
    from common.datasets.celeba import find_celeba
    from common.datasets.image_folder import open_images
    from common.datasets.paired_images import open_pairs

    if find_celeba(place):
        return _opened(place, "CelebA", open_images)
    opener = partial(open_pairs, wanted=("train", "val"))  # what training on pairs asks for
    pairs = any(next(place.glob(sign), None) for sign in PAIR_SIGNS)
    with contextlib.suppress(UserError):
        opener(place, "train")
        pairs = True
    return _opened(place, "pairs of photo and label", opener, pairs=True) if pairs else None


def _opened(place: Path, title: str, opener, pairs: bool = False) -> DataSet:
    """A set opened as training does, with SAMPLED items spread over it decoded."""
    try:
        items, held_out = opener(place, "train"), opener(place, "val")
    except UserError as problem:
        return DataSet(place, pairs, title, problem=str(problem))
    title = f"{title}, {len(items):,} for training and {len(held_out):,} for validation"
    numbers, corrupt = {round(n * (len(items) - 1) / (SAMPLED - 1)) for n in range(SAMPLED)}, []
    for number in sorted(numbers):
        try:
            items[number]
        except UserError as problem:
            corrupt.append(str(problem))
    if not corrupt:
        notes = items.notes[1:] if held_out.split != "unsplit" else items.notes
        return DataSet(place, pairs, f"{title}; {len(numbers)} of them decoded", note="; ".join(notes))
    names = f": `{next_command('data.prepare', 'verify', place)}` names all" if place.is_dir() else ""
    said = f"corrupt: {len(corrupt)} of {len(numbers)} tried ({corrupt[0]}); training"
    if len(corrupt) > 1:  # of a set with 1 % corrupt, once in sixty times
        return DataSet(place, pairs, title, problem=f"{said} stops at more than 1 %{names}")
    return DataSet(place, pairs, title, note=f"{said} passes over up to 1 %{names}")


def _archive(path: Path) -> DataSet:
    """Images in a zip are read as they are, CelebA's with its list beside it; other archives are to be unpacked."""
    from common.datasets.celeba import PARTITION, find_celeba
    from common.datasets.image_folder import ImageFolder, note_of_pairs, open_images
    from common.imaging.folders import is_zip, open_zip, survey

    if not path.name.lower().endswith(ARCHIVES):
        return DataSet(path, False, "a file", problem="--data-dir takes a folder or a zip of images")
    if not is_zip(path):
        todo = f"`{next_command('data.prepare', '--help')}` says how to unpack it"
        return DataSet(path, False, "an archive", problem=todo)
    try:
        images = survey(path).images
    except UserError as problem:
        return DataSet(path, False, "no zip", problem=f"{problem}; download it again")
    celeba, more = find_celeba(path), ""
    if celeba and celeba[1].is_file():
        return _opened(path, "CelebA", open_images)
    parts = {part for image in images for part in image.relative_to(path).parts}
    kind = "celeba" if celeba else "images"
    if not celeba and images:
        if not parts & {*PAIR_SIGNS} and not note_of_pairs(ImageFolder(path, "train")):
            return _opened(path, "images in a zip", open_images)
        kind = "cityscapes"
    if celeba:
        with open_zip(path) as opened:
            listed = any(member.rpartition("/")[2] == PARTITION for member in opened.namelist())
        more = "" if listed else " --make-partition"
    beside = f"; with CelebA's {PARTITION} beside it, it is read as it is" if more else ""
    return DataSet(path, False, "an archive", problem=f"`{unpack_command(kind, path)}{more}` unpacks it{beside}")
