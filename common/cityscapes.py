"""Pairs of photo and label, in the layouts they are published in; Cityscapes' class colours.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016. Other paired sets
(facades, maps, edges, day and night) come in the same layouts.
"""

import re
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.image_folder import SPLITS, open_pictures, share
from common.images import find_images, is_file, read_image, resize

STAND_IN = {"val": "test", "test": "val"}  # held-out pairs go by either name
SPLIT_FOLDERS = {split + half for split in SPLITS for half in ("", "A", "B")}
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


def classify(picture: np.ndarray, void: bool) -> np.ndarray:
    """The class whose colour is nearest to each pixel, by Euclidean distance in RGB.

    Args:
        picture: uint8 [H, W, 3], a label with blended borders and JPEG noise, or a network's idea of one.
        void: whether the ignored colours are candidates too, as they must be in ground truth; they give VOID.

    Returns:
        uint8 [H, W], ids 0..18 or VOID; of equally near colours the first.
    """
    candidates = np.concatenate([PALETTE, VOID_COLOURS]) if void else PALETTE
    packed = picture.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    colours, where = np.unique(packed, return_inverse=True)  # a label has few thousand different colours
    colours = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.float32)
    candidates = candidates.astype(np.float32)
    # |colour - candidate|^2 without |colour|^2, the same for all candidates: whole numbers below 2^24, exact in float32
    nearest = (np.square(candidates).sum(1) - 2 * colours @ candidates.T).argmin(1)
    ids = np.where(nearest < len(PALETTE), nearest, VOID).astype(np.uint8)
    return ids[where].reshape(picture.shape[:2])


def colourise(ids: np.ndarray) -> np.ndarray:
    """uint8 [H, W] class ids -> uint8 [H, W, 3] label; anything that is no class is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[ids]


# ---- cutting a pair


def crop_pair(
    photo: np.ndarray, label: np.ndarray, load_px: int, crop_px: int, flip: bool, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """The same square of both pictures.

    Args:
        load_px: side to which both are resized first, bicubic where they grow; 0 keeps their own pixels.
        crop_px: side of the square, at an offset of 0..size - crop_px, each equally likely.
        flip: mirror both, half of the time.
        rng: None resizes both to crop_px without any chance, nothing cut off: the rule at test time.

    Returns:
        Two uint8 [crop_px, crop_px, 3].

    Raises:
        UserError: the pictures are smaller than the square.
    """
    if rng is None:
        return resize(photo, crop_px, crop_px), resize(label, crop_px, crop_px)
    if load_px:
        photo, label = resize(photo, load_px, load_px), resize(label, load_px, load_px)
    height, width = photo.shape[:2]
    if crop_px > min(height, width):
        raise UserError(
            f"cannot cut {crop_px} x {crop_px} px from a picture of {width} x {height}; give a smaller --image-px, or "
            "a --load-px to resize pictures to"
        )
    top = int(rng.integers(0, height - crop_px, endpoint=True))
    left = int(rng.integers(0, width - crop_px, endpoint=True))
    cut = (slice(top, top + crop_px), slice(left, left + crop_px))
    photo, label = photo[cut], label[cut]
    return (photo[:, ::-1], label[:, ::-1]) if flip and rng.random() < 0.5 else (photo, label)


# ---- reading


class Pairs:
    """One split of a set of pairs. Holds names only: memory does not grow with the pictures.

    Args:
        files: one path for each pair that stands side by side in one file, two (A, B) for others.
        photo_side: which of the two is the photo: left (or A), or right (or B).
    """

    def __init__(self, folder: Path, files: list[tuple[Path, ...]], photo_side: str = "left"):
        self.folder, self.files, self.photo_side = folder, files, photo_side

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The path of the pair (or of its photo) below the folder."""
        path = self.path(index)
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def path(self, index: int) -> Path:
        """The file of the pair, or of its photo where it has one of its own."""
        files = self.files[index]
        return files[-1] if self.photo_side == "right" else files[0]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(photo, label), uint8 [H, W, 3] both. Raises UserError for a broken file or sizes that do not go together."""
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
    """The photos of pairs, as a set of pictures of its own (see `image_folder.open_pictures`)."""

    def __init__(self, pairs: Pairs):
        self.pairs = pairs

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


def open_pairs(data_dir: str | Path, split: str, photo_side: str = "left") -> Pairs:
    """The pairs of a folder, whichever layout it has:

    leftImg8bit/train/CITY/*_leftImg8bit.png + gtFine/train/CITY/*_gtFine_color.png   Cityscapes' own
    *train_list* with lines A<tab>B                                                  Paddle's
    trainA/ + trainB/, or A/train/ + B/train/, the same names in both                before the halves are joined
    train/1.jpg, twice as wide as high; or such pictures in the folder itself        the papers' downloads

    Where only one of val and test is there it serves as both; a folder without splits is shared out.

    Args:
        photo_side: left where the photo is the left half, or in A; right where it is the right half, or in B.
            Cityscapes' own layout says by its names which is the photo.

    Raises:
        UserError: there is no folder, no pair in it, names without a partner, or a list with a missing column.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {data_dir}; --data-dir takes a folder of pairs, and the preset `quick` needs none; "
            f"{UNDERSTOOD}"
        )
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose from {', '.join(SPLITS)}")
    names = (split, STAND_IN[split]) if split in STAND_IN else (split,)
    for layout in (_official, _listed, _apart, _side_by_side):
        for name in names:
            files = layout(folder, name)
            if files:
                return Pairs(folder, files, "left" if layout is _official else photo_side)
    signs = _signs_of_splits(folder)
    files = [] if signs else [(path,) for path in share(sorted(find_images(folder), key=_natural), split)]
    if not files:
        there = f" (it has {', '.join(signs[:3])}{', …' if len(signs) > 3 else ''})" if signs else ""
        raise UserError(f"there are no pairs for {' or '.join(names)} in {folder}{there}; {UNDERSTOOD}")
    _check_joined(files[0][0])
    return Pairs(folder, files, photo_side)


def open_photos(data_dir: str | Path, split: str, pairs: bool):
    """The pictures of a split; with `pairs` the photos of pairs of photo and label (Cityscapes, facades)."""
    return Photos(open_pairs(data_dir, split)) if pairs else open_pictures(data_dir, split)


def _signs_of_splits(folder: Path) -> list[str]:
    """Folders and lists of any split, at any depth.

    A set that has some is never shared out anew: that would mix its splits, and where photos and labels are apart and
    twice as wide as high it would take the halves of each for a pair.
    """
    folders = [path for path in folder.rglob("*") if path.name in SPLIT_FOLDERS and path.is_dir()]
    lists = [path for split in SPLITS for path in _lists(folder, split)]
    return [str(path.relative_to(folder)) for path in sorted(folders) + lists]


def _check_joined(path: Path) -> None:
    """Raises UserError if this picture, the first of a set, shows that it holds no pairs side by side."""
    if {"leftImg8bit", "gtFine"} & set(path.resolve().parts):  # twice as wide as high too, but one picture
        raise UserError(f"{path} is half a pair of Cityscapes; --data-dir is the folder with leftImg8bit/ and gtFine/")
    halves(read_image(path), path)


def _official(folder: Path, split: str) -> list[tuple[Path, ...]]:
    photos, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if not photos.is_dir():
        return []
    ends = ("_leftImg8bit.png", "_gtFine_color.png")
    found = [
        {str(path.relative_to(root))[: -len(end)]: path for path in root.glob(f"*/*{end}")}
        for root, end in zip((photos, labels), ends, strict=True)
    ]
    return _match(*found, photos, labels)


def _apart(folder: Path, split: str) -> list[tuple[Path, ...]]:
    for a, b in ((folder / f"{split}A", folder / f"{split}B"), (folder / "A" / split, folder / "B" / split)):
        if a.is_dir() and b.is_dir():
            return _match(_by_name(a, "_A"), _by_name(b, "_B"), a, b)
    return []


def _by_name(root: Path, mark: str) -> dict[str, Path]:
    """Pictures by path below root, without suffix and the `_A` or `_B` that Cityscapes' usual preparation appends."""
    return {str(path.relative_to(root).with_suffix("")).removesuffix(mark): path for path in find_images(root)}


def _match(a: dict[str, Path], b: dict[str, Path], a_root: Path, b_root: Path) -> list[tuple[Path, ...]]:
    alone = []
    for mine, other, root in ((a, b, a_root), (b, a, b_root)):
        names = sorted(mine.keys() - other.keys(), key=_natural)
        alone += [f"{len(names)} in {root} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"] if names else []
    if alone:
        raise UserError(f"pictures without a partner of the same name: {'; '.join(alone)}")
    return [(a[name], b[name]) for name in sorted(a, key=_natural)]


def _lists(folder: Path, split: str) -> list[Path]:
    found = sorted(folder.rglob(f"*{split}_list*"))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]  # macOS packs ._twins


def _listed(folder: Path, split: str) -> list[tuple[Path, ...]]:
    lists = _lists(folder, split)
    if not lists:
        return []
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
        return []
    inner = [path for path in sorted(folder.rglob("*")) if path.is_dir()]
    roots = [root for root in (lists[0].parent, folder, *inner) if is_file(root / pairs[0][0])]
    if not roots:
        raise UserError(f"{lists[0]} names {pairs[0][0][:100]}, which is nowhere below {folder}")
    return [(roots[0] / a, roots[0] / b) for a, b in pairs]


def _side_by_side(folder: Path, split: str) -> list[tuple[Path, ...]]:
    if not (folder / split).is_dir():
        return []
    paths = sorted(find_images(folder / split), key=_natural)
    if paths:
        _check_joined(paths[0])
    return [(path,) for path in paths]


def _natural(name) -> list:
    """Sorts 2.jpg before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(name))]
