"""Which data sets lie in a folder, and whether they can be trained on."""

import contextlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common.datasets.celeba import find_celeba
from common.datasets.image_folder import ImageFolder, archives_in, note_of_pairs, open_images
from common.datasets.paired_images import open_pairs
from common.errors import UserError
from common.imaging.folders import find_images, is_litter, is_zip
from common.runtime.commands import ROOT, next_command, unpack_command

AI_STUDIO = Path("/home/aistudio")  # its home folder, whoever the process runs as
MOUNTED = "data[0-9]*"  # AI Studio's name for the folder of a data set
SAMPLED = 20  # images of a data set that are decoded
PAIR_SIGNS = ("trainA", "trainB", "leftImg8bit", "gtFine", "*train_list*")


class DataSet(NamedTuple):
    """A data set that was found: what --data-dir takes, and whether training on pairs or on single images takes it."""

    place: Path
    pairs: bool
    title: str  # what it is, and its size
    problem: str = ""  # why it cannot be trained on, and what to do
    note: str = ""  # a smaller trouble


def find_data(given: Path | None) -> list[DataSet]:
    """The data sets in the folder given; else in data/, here and in the clone, and in AI Studio's mounts."""
    if given:
        return explore(given)
    places = []
    for folder in (Path("data"), ROOT / "data", AI_STUDIO / "data"):
        if find_celeba(folder):
            places.append(folder)
        elif folder.is_dir():
            places += _folders(folder) + archives_in(folder)
    with contextlib.suppress(RuntimeError):  # this user has no home
        places += sorted(Path.home().glob(f"data/{MOUNTED}"))
    for folder in (Path.cwd(), *Path.cwd().parents):  # of script jobs, beside or above the code
        places += sorted(folder.glob(f"train_data/datasets/{MOUNTED}"))
    different = {place.resolve(): place for place in reversed(places) if not is_example(place)}
    return [each for place in reversed(different.values()) for each in explore(place)]


def explore(place: Path) -> list[DataSet]:
    """The data set that a folder is; else those in its folders; else its images; else its archives; or an archive."""
    if place.is_file():
        return [_archive(place)]
    todo = "the preset quick, without --data-dir, draws its own images; data/README.md says where to get others"
    examples = DataSet(place, False, "the examples that `infer --demo` shows, masks among them", problem=todo)
    if is_example(place):
        return [examples]
    inside = [folder for folder in _folders(place) if not is_example(folder)]
    whole = _published(place)
    found = [whole] if whole else list(filter(None, map(_published, inside)))
    if found or not place.is_dir():
        return found
    images = find_images(place)
    if not all(map(is_example, images)):
        return [_opened(place, "images", ImageFolder)]
    return list(map(_archive, archives_in(place))) or [examples] * bool(images)


def is_example(place: Path) -> bool:
    """Whether this is data/examples of a clone of this suite, or lies in it: too few images, and half are masks."""
    folders = (place.resolve(), *place.resolve().parents)
    return any(each.name == "examples" and (each.parent / "draw_examples.py").is_file() for each in folders)


def _folders(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!_]*")) if path.is_dir() and not is_litter(path.name)][:20]


def _published(place: Path) -> DataSet | None:
    """CelebA or a set of pairs, as the readers find them; a spoilt one is told as such."""
    if find_celeba(place):
        return _opened(place, "CelebA", open_images)
    opener = partial(open_pairs, wanted=("train", "val"))  # what training on pairs asks for
    if not any(next(place.glob(sign), None) for sign in PAIR_SIGNS):
        try:
            opener(place, "train")
        except UserError:
            return None
    return _opened(place, "pairs of photo and label", opener, pairs=True)


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
    if len(corrupt) == 1:
        return DataSet(place, pairs, title, note=f"{said} passes over up to 1 %{names}")
    return DataSet(place, pairs, title, problem=f"{said} stops at more than 1 %{names}")


def _archive(path: Path) -> DataSet:
    """Images in a zip are read as they are, CelebA's with its list beside it; other archives are to be unpacked."""
    celeba = find_celeba(path)
    kind = "celeba" if celeba and not celeba[1].is_file() else ""
    with contextlib.suppress(UserError):  # told when it is opened
        if is_zip(path) and not celeba:
            images = ImageFolder(path, "train")
            inside = {part for n in range(len(images)) for part in Path(images.name(n)).parts}
            kind = "cityscapes" if inside & {*PAIR_SIGNS} or note_of_pairs(images) else ""
    if kind:
        return DataSet(path, False, "an archive", problem=f"`{unpack_command(kind, path)}` unpacks it")
    return _opened(path, "CelebA" if celeba else ("a file", "images in a zip")[is_zip(path)], open_images)
