"""Pairs of photo and label, in the layouts they are published in; Cityscapes' class colours.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016. Other paired sets
(facades, maps, edges, day and night) come in the same layouts.
"""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.datasets.image_folder import archives_in, note_of_pairs, open_images
from common.datasets.splits import SPLITS, complete, split_named
from common.errors import UserError, first_few
from common.imaging.folders import Survey, find_images, is_litter, same_name, survey
from common.imaging.io import is_file, read_image
from common.imaging.transforms import resize
from common.runtime.commands import unpack_command

UNDERSTOOD = (
    "understood are train/*.jpg twice as wide as high, trainA/ and trainB/, a *train_list*, and leftImg8bit/ with "
    "gtFine/ (`python -m data.prepare cityscapes --help`)"
)

# The 19 classes that are scored, in the order of their train ids.
CLASSES = (
    *(
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
    ),
    *("sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
PALETTE = np.array(
    [
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
        *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ],
    np.uint8,
)
# What the benchmark ignores: unlabelled and static, dynamic, ground, parking, rail track, guard rail, bridge, tunnel,
# caravan, trailer.
VOID_COLOURS = np.array(
    [
        *((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180)),
        *((150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110)),
    ],
    np.uint8,
)
VOID = 255


# ---- class colours


def classify(image: np.ndarray, void: bool) -> np.ndarray:
    """The class whose colour is nearest to each pixel, by Euclidean distance in RGB.

    Args:
        image: uint8 [H, W, 3], a label with blended borders and JPEG noise, or a network's idea of one.
        void: whether the ignored colours are candidates too, as they must be in ground truth; they give VOID.

    Returns:
        uint8 [H, W], ids 0..18 or VOID; of equally near colours the first.
    """
    candidates = np.concatenate([PALETTE, VOID_COLOURS]) if void else PALETTE
    packed = image.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    colours, where = np.unique(packed, return_inverse=True)  # a label has few thousand different colours
    colours = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.float32)
    candidates = candidates.astype(np.float32)
    # |colour - candidate|^2 without |colour|^2, the same for all candidates: whole numbers below 2^24, exact in float32
    nearest = (np.square(candidates).sum(1) - 2 * colours @ candidates.T).argmin(1)
    ids = np.where(nearest < len(PALETTE), nearest, VOID).astype(np.uint8)
    return ids[where].reshape(image.shape[:2])


def colourise(ids: np.ndarray) -> np.ndarray:
    """uint8 [H, W] class ids -> uint8 [H, W, 3] label; anything that is no class is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[ids]


# ---- cutting a pair


def crop_pair(
    photo: np.ndarray, label: np.ndarray, load_px: int, crop_px: int, flip: bool, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """The same square of both images.

    Args:
        load_px: side to which both are resized first, bicubic where they grow; 0 keeps their own pixels.
        crop_px: side of the square, at an offset of 0..size - crop_px, each equally likely.
        flip: mirror both, half of the time.
        rng: None resizes both to crop_px without any chance, nothing cut off: the rule at test time.

    Returns:
        Two uint8 [crop_px, crop_px, 3].

    Raises:
        UserError: the images are smaller than the square.
    """
    if rng is None:
        return resize(photo, crop_px, crop_px), resize(label, crop_px, crop_px)
    if load_px:
        photo, label = resize(photo, load_px, load_px), resize(label, load_px, load_px)
    height, width = photo.shape[:2]
    if crop_px > min(height, width):
        raise UserError(
            f"cannot cut {crop_px} x {crop_px} px from an image of {width} x {height}; give a smaller --image-px, or "
            "a --load-px to resize images to"
        )
    top = int(rng.integers(0, height - crop_px, endpoint=True))
    left = int(rng.integers(0, width - crop_px, endpoint=True))
    cut = (slice(top, top + crop_px), slice(left, left + crop_px))
    photo, label = photo[cut], label[cut]
    return (photo[:, ::-1], label[:, ::-1]) if flip and rng.random() < 0.5 else (photo, label)


# ---- reading


class Pairs:
    """One split of a set of pairs. Holds names only: memory does not grow with the images.

    Args:
        files: one path for each pair that stands side by side in one file, two (A, B) for others.
        photo_side: which of the two is the photo: left (or A), or right (or B).
        split: what a score on it is called, see `splits.Division.name`.
        notes: lines on which pairs are what, and on what was passed over.
    """

    def __init__(
        self,
        folder: Path,
        files: list[tuple[Path, ...]],
        photo_side: str = "left",
        split: str = "",
        notes: tuple[str, ...] = (),
    ):
        self.folder, self.files, self.photo_side = folder, files, photo_side
        self.split, self.notes = split, list(notes)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The path of the pair (or of its photo) below the folder."""
        path = self.path(index)
        if path.is_relative_to(self.folder):
            return str(path.relative_to(self.folder))
        return str(path)

    def path(self, index: int) -> Path:
        """The file of the pair, or of its photo where it has one of its own."""
        files = self.files[index]
        return files[-1] if self.photo_side == "right" else files[0]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(photo, label), uint8 [H, W, 3] both. Raises UserError for a corrupt file or sizes that differ."""
        files = self.files[index]
        if len(files) == 1:
            a, b = halves(read_image(files[0]), files[0])
        else:
            a, b = read_image(files[0]), read_image(files[1])
            if a.shape != b.shape:
                sizes = [f"{image.shape[1]} x {image.shape[0]} px" for image in (a, b)]
                raise UserError(f"{files[0]} is {sizes[0]}, its partner {files[1]} {sizes[1]}; a pair needs one size")
        return (b, a) if self.photo_side == "right" else (a, b)


class Photos:
    """The photos of pairs, as a set of images of its own (see `image_folder.open_images`)."""

    def __init__(self, pairs: Pairs):
        self.pairs, self.split, self.notes = pairs, pairs.split, pairs.notes

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """As of the pair."""
        return self.pairs.name(index)

    def path(self, index: int) -> Path:
        """The file that the photo is in."""
        return self.pairs.path(index)

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [height, width, 3]. Raises UserError as the pair does."""
        return self.pairs[index][0]


def halves(image: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Left and right half of a pair. Raises UserError unless it is twice as wide as high."""
    height, width = image.shape[:2]
    if width != 2 * height:
        raise UserError(
            f"{path} is {width} x {height} px; a pair side by side is twice as wide as high. Photos and labels apart "
            "go into trainA/ and trainB/; a folder of single photos is read as an image folder with --direction "
            "grey-to-colour"
        )
    return image[:, :height], image[:, height:]


def open_pairs(data_dir: str | Path, split: str, photo_side: str = "left", wanted: tuple[str, ...] = SPLITS) -> Pairs:
    """The pairs of a folder, whichever layout it has:

    leftImg8bit/train/CITY/*_leftImg8bit.png + gtFine/train/CITY/*_gtFine_color.png   Cityscapes' own
    *train_list* with lines A<tab>B                                                  Paddle's
    trainA/ + trainB/, A/train/ + B/train/, train/A/ + train/B/, the same names in both   before halves are joined
    A/ + B/, the same names in both                                                  before they are split
    train/1.jpg, twice as wide as high; or such images in the folder itself        the papers' downloads

    Folders of splits go by any usual spelling (see `splits.split_named`). Splits that are wanted and missing are taken
    from train by number, as of single images.

    Args:
        photo_side: left where the photo is the left half, or in A; right where it is the right half, or in B.
            Cityscapes' own layout says by its names which is the photo.
        wanted: the splits that are in use; nothing is set aside for others.

    Raises:
        UserError: there is no folder, no pair in it, names without a partner, or a list with a missing column.
    """
    if not Path(data_dir).is_dir():
        raise UserError(_no_pairs_folder(Path(data_dir)))
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")
    folder = _innermost(Path(data_dir))
    found = {name: _find(folder, name) for name in SPLITS}
    signs, seen = [], None if found["train"].layout in (_official, _listed) else survey(folder)
    if not any(each.files or each.problem for each in found.values()):
        signs = _signs_of_splits(folder)
        if not signs:
            found["train"] = _unsorted(seen)
    division = complete(
        {name: each.files for name, each in found.items()},
        {name: each.title for name, each in found.items()},
        wanted=tuple(name for name in wanted if not found[name].problem),
    )
    files = division.items.get(split)
    if not files:
        raise (
            found[split].problem or found["train"].problem or UserError(_no_pairs(folder, split, signs, division.note))
        )
    origin = found[split] if found[split].files else found["train"]  # taken from it
    side = "left" if origin.layout is _official else photo_side
    notes = tuple(filter(None, (division.note, seen.note() if seen else "")))
    return Pairs(folder, files, side, division.name(split), notes)


class _Found(NamedTuple):
    """The pairs of one split, by which layout, and from where; or why they cannot be matched."""

    files: list[tuple[Path, ...]]
    title: str = ""
    layout: Callable | None = None
    problem: UserError | None = None


def _find(folder: Path, split: str) -> _Found:
    for layout in (_official, _listed, _apart, _side_by_side):
        try:
            files, title = layout(folder, split)
        except UserError as problem:  # of no concern to who asked for another split
            return _Found([], problem=problem)
        if files:
            return _Found(files, title, layout)
    return _Found([])


def _unsorted(seen: Survey) -> _Found:
    """All images below a folder without splits: pairs side by side."""
    paths = sorted(seen.images, key=_natural)
    if paths:
        _check_joined(paths, seen.folder)
    return _Found([(path,) for path in paths])


def _innermost(folder: Path) -> Path:
    """The folder itself, or the only one in it (and so on), as archives wrap them; none that a layout names."""
    inside = [path for path in folder.iterdir() if not is_litter(path.name)]
    if len(inside) != 1 or not inside[0].is_dir() or inside[0].is_symlink():
        return folder
    name = inside[0].name
    if split_named(name) or name in ("leftImg8bit", "gtFine", "A", "B"):
        return folder
    return _innermost(inside[0])


def _no_pairs_folder(folder: Path) -> str:
    if folder.is_file():
        return f"{folder} is a file: `{unpack_command('cityscapes', folder)}` unpacks an archive of pairs"
    return (
        f"there is no folder {folder}; --data-dir takes a folder of pairs, and the preset `quick` needs none; "
        f"{UNDERSTOOD}"
    )


def _no_pairs(folder: Path, split: str, signs: list[str], note: str) -> str:
    has = first_few(signs) or note
    there = f" (it has {has})" if has else ""
    archives = [path.name for path in archives_in(folder)]
    if archives and not there:
        return (
            f"there are no pairs in {folder}, but archives ({', '.join(archives[:3])}): "
            f"`{unpack_command('cityscapes', folder)}` unpacks them"
        )
    return f"there are no pairs for {split} in {folder}{there}; {UNDERSTOOD}"


def open_photos(data_dir: str | Path, split: str, pairs: bool):
    """The images of a split; with `pairs` the photos of pairs of photo and label (Cityscapes, facades)."""
    if pairs:
        return Photos(open_pairs(data_dir, split))
    images = open_images(data_dir, split)
    images.notes = [*images.notes, *filter(None, [note_of_pairs(images)])]
    return images


def refuse_withheld(pairs: Pairs, count: int = 3) -> None:
    """Raises UserError if the first labels are black all over, as those of Cityscapes' test split are."""
    labels = [pairs[index][1] for index in range(min(count, len(pairs)))]
    if all(label.max() <= 4 for label in labels):  # black, and JPEG's noise
        raise UserError(
            f"the labels of {pairs.split} in {pairs.folder} are empty ({pairs.name(0)} first): Cityscapes does not "
            "publish those of its test split, so nothing can be scored there; --split val has labels"
        )


def _signs_of_splits(folder: Path) -> list[str]:
    """Folders and lists of any split, at any depth.

    A set that has some is never shared out anew: that would mix its splits, and where photos and labels are apart and
    twice as wide as high it would take the halves of each for a pair.
    """
    folders = [path for path in folder.rglob("*") if split_named(path.name) and path.is_dir()]
    lists = [path for split in SPLITS for path in _lists(folder, split)]
    return [str(path.relative_to(folder)) for path in sorted(folders) + lists]


def _check_joined(paths: list[Path], root: Path) -> None:
    """Raises UserError if the first image of a set, or its folders, show that it holds no pairs side by side."""
    names: dict[str, list[str]] = {}
    for each in paths:
        first, *rest = each.relative_to(root).with_suffix("").parts
        names.setdefault(first if rest else "", []).append("/".join(rest) or first)
    if len(names) == 2 and len({tuple(sorted(each)) for each in names.values()}) == 1:
        a, b = sorted(names)
        raise UserError(
            f"{root} has the same names in {a}/ and {b}/, as photos and labels apart have; call them trainA/ and "
            "trainB/ (and valA/, valB/), or A/ and B/"
        )
    path = paths[0]
    if {"leftImg8bit", "gtFine"} & set(path.resolve().parts):  # twice as wide as high too, but one image
        raise UserError(f"{path} is half a pair of Cityscapes; --data-dir is the folder with leftImg8bit/ and gtFine/")
    halves(read_image(path), path)


def split_folders(folder: Path, split: str, end: str = "") -> list[Path]:
    """The folders in a folder that are called like a split, in any usual spelling; with an end such as `A`."""
    if not folder.is_dir():
        return []
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_litter(path.name)]
    names = {path: path.name.removesuffix(end) for path in inside if path.name.endswith(end)}
    if not end:
        names = {path: name for path, name in names.items() if not re.search("[a-z][AB]$", name)}
    return [path for path, name in names.items() if split_named(name) == split]


def _official(folder: Path, split: str) -> tuple[list[tuple[Path, ...]], str]:
    photos, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if not photos.is_dir():
        return [], ""
    ends = ("_leftImg8bit.png", "_gtFine_color.png")
    found = [
        [path for path in root.glob(f"*/*{end}") if not is_litter(path.name)]
        for root, end in zip((photos, labels), ends, strict=True)
    ]
    return _match(*found, photos, labels, ends), f"leftImg8bit/{split}/"


def _apart(folder: Path, split: str) -> tuple[list[tuple[Path, ...]], str]:
    inside = [split_folders(folder, split, "A"), split_folders(folder, split, "B")]
    above = [split_folders(folder / "A", split), split_folders(folder / "B", split)]
    below = [[one / side for one in split_folders(folder, split) if (one / side).is_dir()] for side in "AB"]
    plain = [[folder / side] if split == "train" and _only_sides(folder) else [] for side in "AB"]
    for a, b in (inside, above, below, plain):
        if a and b:
            title = f"{a[0].relative_to(folder)}/ and {b[0].relative_to(folder)}/"
            return _match(find_images(a[0]), find_images(b[0]), a[0], b[0], ("_A", "_B")), title
    return [], ""


def _only_sides(folder: Path) -> bool:
    """Whether there is A/ and B/, and no split in them or beside them."""
    sides = [folder / "A", folder / "B"]
    return all(side.is_dir() for side in sides) and not _signs_of_splits(folder)


def _match(a: list[Path], b: list[Path], a_root: Path, b_root: Path, ends: tuple[str, str]) -> list[tuple[Path, ...]]:
    """Pairs of the same path below the roots, suffix aside, and aside the ends that preparations append.

    Raises:
        UserError: images without a partner, or several that could be it.
    """
    sides = [_by_name(a, a_root, ends[0]), _by_name(b, b_root, ends[1])]
    alone = []
    for mine, other, root in ((*sides, a_root), (*sides[::-1], b_root)):
        names = sorted(mine.keys() - other.keys(), key=_natural)
        if names:
            alone.append(f"{len(names)} in {root} ({first_few(names)})")
    if alone:
        raise UserError(f"images without a partner of the same name: {'; '.join(alone)}")
    return [pair for name in sorted(sides[0], key=_natural) for pair in _partners(sides[0][name], sides[1][name])]


def _by_name(paths: list[Path], root: Path, end: str) -> dict[str, list[Path]]:
    named = {}
    for path in paths:
        name = same_name(path.relative_to(root).as_posix())
        name = name.removesuffix(end) if end.endswith(".png") else name[: -len(path.suffix)].removesuffix(end)
        named.setdefault(name, []).append(path)
    return named


def _partners(a: list[Path], b: list[Path]) -> list[tuple[Path, ...]]:
    """Images of one name: a pair, or, where a.jpg and a.png are both there, pairs of the same suffix."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    suffixes = [{path.suffix.lower(): path for path in side} for side in (a, b)]
    if len(suffixes[0]) == len(a) and len(suffixes[1]) == len(b) and suffixes[0].keys() == suffixes[1].keys():
        return [(path, suffixes[1][suffix]) for suffix, path in sorted(suffixes[0].items())]
    raise UserError(
        f"which of these belong together? {', '.join(map(str, a))} and {', '.join(map(str, b))}: leave one of each name"
    )


def _lists(folder: Path, split: str) -> list[Path]:
    found = sorted(folder.rglob(f"*{split}_list*"))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]  # macOS packs ._twins


def _listed(folder: Path, split: str) -> tuple[list[tuple[Path, ...]], str]:
    lists = _lists(folder, split)
    if not lists:
        return [], ""
    pairs = []
    for number, line in enumerate(lists[0].read_text("utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split("\t")]
        if len(names) < 2 or not all(names[:2]):
            raise UserError(
                f"{lists[0]}, line {number}: expected two paths with a tab between them, found {line[:60]!r}"
            )
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names[:2]):
            raise UserError(f"{lists[0]}, line {number}: {line[:60]!r} leads out of the folder: refused")
        pairs.append(names[:2])
    if not pairs:
        return [], ""
    inner = [path for path in sorted(folder.rglob("*")) if path.is_dir()]
    for root in (lists[0].parent, folder, *inner):
        if _on_disk(root, pairs[0][0]):
            files = [tuple(_on_disk(root, name) or root / name for name in pair) for pair in pairs]
            return files, str(lists[0].relative_to(folder))
    raise UserError(f"{lists[0]} names {pairs[0][0][:100]}, which is nowhere below {folder}")


def _on_disk(root: Path, name: str) -> Path | None:
    """The file that a list names, whether its system composes letters with accents or not."""
    forms = (name,) if name.isascii() else (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    return next((root / form for form in forms if is_file(root / form)), None)


def _side_by_side(folder: Path, split: str) -> tuple[list[tuple[Path, ...]], str]:
    folders = split_folders(folder, split)
    paths = sorted((path for one in folders for path in find_images(one)), key=_natural)
    if paths:
        _check_joined([path for path in paths if path.is_relative_to(folders[0])], folders[0])
    return [(path,) for path in paths], ", ".join(f"{one.name}/" for one in folders)


def _natural(name) -> list:
    """Sorts 2.jpg before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(name))]
