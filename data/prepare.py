"""Brings a downloaded data set (zip, tar, folder, AI Studio mount) into the layout that the readers expect; checks it.

Nothing is downloaded and nothing given is changed: archives are unpacked beside `--output`, which appears when it is
whole.
"""

import os
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import tyro
from tqdm import tqdm

from common.datasets.celeba import MEMBER, PARTITION, CelebA, find_celeba, members_by_stem, read_partition
from common.datasets.image_folder import nothing_in
from common.datasets.paired_images import split_folders
from common.datasets.splits import SPLITS, divide
from common.errors import UserError, first_few, first_line
from common.imaging.folders import READABLE, find_images, is_litter, member_bytes, open_zip, survey
from common.imaging.io import is_file, read_image
from common.runtime.commands import next_command, one_line_errors
from common.runtime.outputs import check_output
from data.synthetic import partition_code

CELEBA_COUNTS = {"train": 162_770, "val": 19_867, "test": 19_962}
CITYSCAPES_COUNTS = {"train": 2_975, "val": 500}
FACADES_COUNTS = {"train": 400, "val": 100, "test": 106}
VOC_COUNTS = {"train": 1_464, "val": 1_449}

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Images hardly shrink in an archive; one that would grow beyond this is a bomb.
UNPACKED_BYTES, UNPACKED_FACTOR = 2**30, 20
BLOCK_BYTES = 4096  # that any file takes, an empty one too
# Notes of a tar on its next member, such as a long name, are read into memory: real ones have some hundred bytes.
NOTES, NOTE_BYTES = (*b"LKxgX",), 2**16
SAMPLES = 200  # images whose size is looked at by the checks; `verify` decodes all

Source = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Pairs = dict[str, list[tuple[Path, ...]]]


# ---------------------------------------------------------------- archives


def unpack(archive: Path, folder: Path, packed: int | None = None, unpacked: int = 0) -> int:
    """Unpacks a zip or tar.

    Args:
        packed, unpacked: bytes of the download that it is part of, and those unpacked from it before.

    Returns:
        Bytes unpacked from that download till now.

    Raises:
        UserError: it is no archive (a saved web page is called so), it is corrupt, one of its names leads out of the
            folder, two of its files would be one, it is encrypted, it holds links or devices, or it unpacks to far
            more than images would.
    """
    # A plain tar that ends with a zip passes for a zip, so tar is asked first.
    members = _tar_members if _is_tar(archive) else _zip_members
    if members is _zip_members and not zipfile.is_zipfile(archive):
        raise UserError(_why_no_archive(archive))
    limit = UNPACKED_BYTES + UNPACKED_FACTOR * (packed or archive.stat().st_size)
    written: dict[Path, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, size, stream in tqdm(members(archive), f"unpacking {archive.name}", unit=" files", leave=False):
            parts = _safe_parts(name, archive)
            unpacked += size + BLOCK_BYTES
            if unpacked > limit:
                raise UserError(f"{archive} unpacks to more than {limit / 1e9:.1f} GB: these are not just images")
            if any(map(is_litter, parts)):
                continue
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and written.get(target) != name:  # a\\b.png and a/b.png; a.zip and a.tar of one folder
                raise UserError(
                    f"{archive} holds {name[:100]!r}, which would take the place of another file that was unpacked: "
                    "refused, nothing was kept; unpack it yourself, to a folder of its own"
                )
            written[target] = name
            with target.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
        return unpacked
    except UserError:
        raise
    except OSError as problem:
        raise UserError(f"cannot unpack {archive} into {folder}: {problem.strerror or problem}") from None
    except Exception as problem:  # a corrupt archive can raise anything
        raise UserError(f"cannot unpack {archive}: {first_line(problem)}; download it again") from None


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UserError(f"{archive} holds a link, {info.filename[:100]!r}: refused, nothing was kept")
            if info.flag_bits & 1:
                raise UserError(f"{archive} is encrypted: unpack it yourself, with its password")
            if not info.is_dir():
                with opened.open(info) as stream:
                    yield info.filename, info.file_size, stream


class _Member(tarfile.TarInfo):
    """A member of a tar, refused where reading its header would take endless memory or time."""

    def _proc_member(self, opened):
        if self.size < 0 or (self.type[0] in NOTES and self.size > NOTE_BYTES):
            raise tarfile.ReadError(f"a header tells of {self.size:,} bytes")
        return super()._proc_member(opened)

    def _sparse(self, *_):
        raise tarfile.ReadError("a sparse file, which no image is")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


def _is_tar(archive: Path) -> bool:
    try:
        with tarfile.open(archive, tarinfo=_Member):
            return True
    except Exception:  # what is none can raise anything
        return False


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive, tarinfo=_Member) as opened:
        for member in opened:
            if member.size < 0:  # the next member would be this one again
                raise tarfile.ReadError(f"a member of {member.size:,} bytes")
            if member.isfile():
                yield member.name, member.size, opened.extractfile(member)
            elif not member.isdir():
                raise UserError(f"{archive} holds a link or device, {member.name[:100]!r}: refused, nothing was kept")


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or not path.parts or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise UserError(f"{archive} holds {name[:100]!r}, which leads out of the folder: refused, nothing was kept")
    return path.parts


def _why_no_archive(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip().lower()
    except OSError as problem:
        return f"cannot read {path}: {problem.strerror or problem}"
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return (
            f"{path} is a web page, not an archive: the site answered with a page (a quota, a confirmation) instead of "
            "the file; download it again in a browser"
        )
    if start.startswith((b"pk\x03\x04", b"\x1f\x8b")):
        return f"{path} is an archive cut short ({path.stat().st_size:,} bytes): download it again"
    return f"{path} is neither a zip nor a tar"


@contextmanager
def _draft(output: Path) -> Iterator[Path]:
    """A working folder beside `output`, gone afterwards; its `ready/` becomes `output` if nothing was raised."""
    output = output.resolve()
    check_output(output.parent)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} holds something else: name a new or empty folder with --output")
    work = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        work.mkdir(parents=True)
        yield work
        if output.exists():
            output.rmdir()
        (work / "ready").rename(output)
    except OSError as problem:
        raise UserError(f"cannot write {output}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _archives_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name.lower().endswith(ARCHIVES) and path.is_file())


def _unpack_all(source: Path, folder: Path) -> None:
    """Unpacks an archive, or every archive of a folder, and then the archives that were inside."""
    archives = _archives_in(source) if source.is_dir() else [source]
    packed, unpacked = sum(archive.stat().st_size for archive in archives), 0
    for archive in archives:
        above = archive.parent.relative_to(source) if source.is_dir() else Path()
        unpacked = unpack(archive, folder / above / _without_suffix(archive.name), packed, unpacked)
    for archive in _archives_in(folder):
        unpacked = unpack(archive, archive.with_name(archive.name + ".unpacked"), packed, unpacked)
        archive.unlink()


def _without_suffix(name: str) -> str:
    """`data.v1` of `data.v1.tar.gz`, so that data.v1.zip and data.v2.zip do not go to one folder."""
    return name[: -max(len(suffix) for suffix in ARCHIVES if name.lower().endswith(suffix))]


def _bring(folder: Path, target: Path, work: Path) -> None:
    """Moves a folder of the draft, or hard-links (at worst copies) one of the user's."""
    if folder.is_relative_to(work):
        folder.rename(target)
    else:
        shutil.copytree(folder, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _exists(source: Path) -> None:
    if not source.exists():
        raise UserError(
            f"there is no file or folder {source}; nothing is downloaded here, data/README.md says from where"
        )


# ---------------------------------------------------------------- CelebA


def celeba(source: Source, output: Path | None = None, make_partition: bool = False) -> None:
    """CelebA, aligned and cropped (img_align_celeba).

    Args:
        source: img_align_celeba.zip, a folder with it or with the images, any archive of these, or an AI Studio
            mount data/data<id>. The zip may stay as it is: the reader takes images straight from it.
        output: folder to unpack to; without it, the source is only checked.
        make_partition: writes a missing list_eval_partition.txt (90 % train, 5 % val, 5 % test): not the official one.
    """
    _exists(source)
    data_dir = source
    if output is not None and find_celeba(output) is not None:
        print(f"{output} is prepared already; nothing was unpacked")
        data_dir = output
    elif output is not None:
        _build_celeba(source, output)
        data_dir = output
    elif source.is_file() and not (zipfile.is_zipfile(source) or _is_tar(source)):
        raise UserError(_why_no_archive(source))
    elif find_celeba(source) is None:
        raise UserError(f"{source} is not in CelebA's layout: add --output DIR, and it will be brought into it there")
    check_celeba(data_dir, make_partition)


def _build_celeba(source: Path, output: Path) -> None:
    with _draft(output) as work:
        images, listed = _celeba_parts(source) if source.is_dir() else (None, None)
        if images is None:
            _unpack_all(source, work / "in")
            images, inside = _celeba_parts(work / "in")
            beside = [source.parent / PARTITION, source.parent / "Eval" / PARTITION]
            listed = inside or listed or next((path for path in beside if path.is_file()), None)
        if images is None:
            raise UserError(
                f"there is no image named like 000001.jpg in {source}: this is not aligned CelebA; a folder or zip "
                "of other images needs no preparing, give it as --data-dir"
            )
        (work / "ready").mkdir()
        _bring(images, work / "ready" / "img_align_celeba", work)
        if listed is not None:  # some mirrors have commas and a heading: image_id,partition
            lines = listed.read_text("utf-8-sig", errors="replace").replace(",", " ").splitlines()
            lines = [line for line in lines if not line.startswith("image_id")]
            (work / "ready" / PARTITION).write_text("\n".join(lines) + "\n")


def _celeba_parts(tree: Path) -> tuple[Path | None, Path | None]:
    """The folder with the aligned images and the partition list, wherever they are in the tree."""
    images, listed = [], []
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if not is_litter(name)]
        if any(MEMBER.fullmatch(name) for name in names[:1000]):
            images.append(Path(folder))
        listed += [Path(folder, name) for name in (PARTITION, Path(PARTITION).stem + ".csv") if name in names]
    images.sort(key=lambda path: (path.name != "img_align_celeba", path))
    listed.sort(key=lambda path: (path.suffix != ".txt", path))
    return (images or [None])[0], next((path for path in listed if path.is_file()), None)  # not a pipe


def check_celeba(data_dir: Path, make_partition: bool = False) -> None:
    """Checks names, counts and sizes, and prints what is there and what to do next."""
    images, partition = find_celeba(data_dir)
    present = _images_by_stem(images)
    if make_partition:
        _write_partition(partition, set(present.values()))
    if not partition.is_file():
        raise UserError(
            f"{partition} is missing: put CelebA's official Eval/{PARTITION} there (--output DIR takes one out of the "
            "archive), or add --make-partition to write a list that is not the official one"
        )
    splits = read_partition(partition)
    listed = {Path(name).stem: name for split in SPLITS for name in splits[split]}  # .jpg, whatever is there
    missing = [listed[stem] for stem in sorted(listed.keys() - present.keys())]
    _complain(partition, "names {} that are not there", missing)
    counts = {split: len(splits[split]) for split in SPLITS}
    _check_celeba_sizes(data_dir, counts)
    total, official, spare = len(listed), sum(CELEBA_COUNTS.values()), sorted(present.keys() - listed.keys())
    if spare:
        print(f"{len(spare):,} images are not in the list and will not be used, {present[spare[0]]} first")
    if counts == CELEBA_COUNTS:
        print(f"CelebA is complete: {official:,} images, {_fractions(counts)} as published")
    else:
        print(f"a subset of CelebA: {total:,} images of {official:,}; {_fractions(counts)}, not the official split")
    print(f"next: {next_command('glcic.train', 'cpu', '--data-dir', data_dir)}")


def _images_by_stem(images: Path) -> dict[str, str]:
    """`000001` -> the image's name."""
    if images.is_dir():
        names = [path.name for path in images.iterdir()]
    elif zipfile.is_zipfile(images):
        try:
            with zipfile.ZipFile(images) as opened:
                names = opened.namelist()
        except Exception as problem:  # a corrupt archive can raise anything
            raise UserError(f"cannot read {images}: {problem}; download it again") from None
    else:
        raise UserError(_why_no_archive(images))
    found = {stem: name.rpartition("/")[2] for stem, name in members_by_stem(names).items()}
    if not found:
        raise UserError(f"there is no .jpg or .png in {images}")
    return found


def _write_partition(path: Path, names: set[str]) -> None:
    if path.exists() or path.is_symlink():  # writing to a link might write anywhere
        raise UserError(f"{path} is there already; --make-partition only writes a missing one")
    lines = [f"{name} {partition_code(index, len(names))}\n" for index, name in enumerate(sorted(names))]
    try:
        path.write_text("".join(lines))
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror or problem}") from None
    print(f"{path} was written here and is not the official split: do not compare with published tables")


def _check_celeba_sizes(data_dir: Path, counts: dict[str, int]) -> None:
    for split in SPLITS:
        if not counts[split]:
            print(f"the list names no image of the {split} split")
            continue
        faces = CelebA(data_dir, split)
        for index in range(0, len(faces), max(1, 3 * len(faces) // SAMPLES)):
            height, width = faces[index].shape[:2]
            if (width, height) != (178, 218):
                raise UserError(f"{faces.name(index)} is {width} x {height} px; aligned CelebA has 178 x 218")


def _complain(where: Path, what: str, names: list[str]) -> None:
    if names:
        first = first_few([name[:100] for name in names])
        raise UserError(f"{where} {what.format(f'{len(names):,} images')}: {first}")


def _fractions(counts: dict[str, int]) -> str:
    return " / ".join(f"{count:,} {split}" for split, count in counts.items())


# ---------------------------------------------------------------- pairs and label maps


def cityscapes(source: Source, output: Path | None = None) -> None:
    """Cityscapes as photo and label images, in any of three layouts.

    Args:
        source: a folder or archive with train/ and val/ (photo and label side by side), or with trainA/, trainB/ and
            pix2pix_train_list, or with the official leftImg8bit/ and gtFine/.
        output: folder to unpack to; without it, the source is only checked.
    """
    _check_pairs("Cityscapes", _prepare(source, output, find_pairs), CITYSCAPES_COUNTS)


def facades(source: Source, output: Path | None = None) -> None:
    """CMP facades, photo and label side by side.

    Args:
        source: a folder or archive with train/ and val/ or test/.
        output: folder to unpack to; without it, the source is only checked.
    """
    _check_pairs("CMP facades", _prepare(source, output, _side_by_side), FACADES_COUNTS, "paper-facades")


def voc(source: Source, output: Path | None = None) -> None:
    """PASCAL VOC 2012 segmentation masks.

    Args:
        source: a folder or archive with SegmentationClass/ and ImageSets/Segmentation/.
        output: folder to unpack to; without it, the source is only checked.
    """
    root = _prepare(source, output, _voc_masks)
    masks = _voc_masks(root)
    for split, paths in masks.items():
        missing = [path.name for (path,) in paths if not is_file(path)]
        _complain(root / "ImageSets" / "Segmentation" / f"{split}.txt", "names {} that are not there", missing)
    _report("PASCAL VOC", {split: len(paths) for split, paths in masks.items()}, VOC_COUNTS, "masks")
    command = next_command(
        "context_encoder.train", "quick", "--predicted-region", "whole", "--mask", "regions", "--shapes-dir", root
    )
    print(f"next: region-shaped holes like its objects: {command}")


def _prepare(source: Path, output: Path | None, find: Callable[[Path], Pairs | None]) -> Path:
    """The folder in the layout that `find` knows: the source itself, or `output` made from it."""
    _exists(source)
    root = _search(source, find) if source.is_dir() else None
    if root is not None and (output is None or output.resolve() == root.resolve()):
        return root
    if output is None:
        raise UserError(f"{source} is not in a layout known here: an archive needs --output DIR to unpack to")
    if output.is_dir() and find(output):
        print(f"{output} is prepared already; nothing was unpacked")
        return output
    with _draft(output) as work:
        if root is None:
            _unpack_all(source, work / "in")
            root = _search(work / "in", find)
        if root is None:
            raise UserError(f"{source} holds none of the layouts known here; data/README.md shows them")
        _bring(root, work / "ready", work)
    return output


def _search(tree: Path, find: Callable[[Path], Pairs | None]) -> Path | None:
    """The topmost folder of the tree, at most four levels down, that `find` recognises."""
    level = [tree]
    for _ in range(5):
        for folder in level:
            if find(folder):
                return folder
        level = [path for folder in level if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()]
    return None


def find_pairs(root: Path) -> Pairs | None:
    """Photo-label pairs of each split: one path where they share an image, else two; None in an unknown layout."""
    return _listed_pairs(root) or _official_pairs(root) or _side_by_side(root)


def _side_by_side(root: Path) -> Pairs | None:
    splits = {}
    for split in SPLITS:
        inside = [path for folder in split_folders(root, split) for path in sorted(folder.iterdir())]
        images = [path for path in inside if path.suffix.lower() in READABLE and not is_litter(path.name)]
        if images:
            splits[split] = [(path,) for path in images]
    return splits if "train" in splits else None


def _listed_pairs(root: Path) -> Pairs | None:
    splits = {}
    for path in sorted(path for path in root.glob("pix2pix_*_list*") if path.is_file()):
        pairs = splits.setdefault(path.name.split("_")[1], [])
        for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), 1):
            names = line.split("\t")
            if line.strip() and len(names) != 2:
                raise UserError(f"{path}, line {number}: expected two names with a tab between, found {line[:60]!r}")
            if line.strip():
                pairs.append(tuple(root.joinpath(*_safe_parts(name.strip(), path)) for name in names))
    return splits or None


def _official_pairs(root: Path) -> Pairs | None:
    splits = {}
    for split in SPLITS if (root / "gtFine").is_dir() else ():
        photos = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        labels = [root / "gtFine" / split / path.parent.name / _label_name(path) for path in photos]
        if photos:
            splits[split] = list(zip(photos, labels, strict=True))
    return splits or None


def _label_name(photo: Path) -> str:
    return photo.name.replace("_leftImg8bit.png", "_gtFine_color.png")


def _voc_masks(root: Path) -> Pairs | None:
    lists, masks = root / "ImageSets" / "Segmentation", root / "SegmentationClass"
    if not lists.is_dir() or not masks.is_dir():
        return None
    names = {split: lists / f"{split}.txt" for split in ("train", "val")}
    return {
        split: [
            (masks.joinpath(*_safe_parts(f"{name}.png", path)),)
            for name in path.read_text("utf-8-sig", errors="replace").split()
        ]
        for split, path in names.items()
        if path.is_file()
    } or None


def _check_pairs(title: str, root: Path, official: dict[str, int], preset: str = "cpu") -> None:
    splits = find_pairs(root)
    for pairs in splits.values():
        missing = [str(path.relative_to(root)) for pair in pairs for path in pair if not is_file(path)]
        _complain(root, "lacks {} that belong to a pair", missing)
        for pair in pairs[:: max(1, 3 * len(pairs) // SAMPLES)]:
            shapes = [read_image(path).shape[:2] for path in pair]
            if len(pair) == 2 and shapes[0] != shapes[1]:
                raise UserError(f"{pair[0]} and {pair[1]} differ in size")
            if len(pair) == 1 and shapes[0][1] != 2 * shapes[0][0]:
                height, width = shapes[0]
                raise UserError(
                    f"{pair[0]} is {width} x {height} px; photo and label side by side are twice as wide as high"
                )
    _report(title, {split: len(pairs) for split, pairs in splits.items()}, official, "pairs")
    print(f"next: {next_command('pix2pix.train', preset, '--data-dir', root)}")


def _report(title: str, counts: dict[str, int], official: dict[str, int], what: str) -> None:
    complete = all(counts.get(split) == count for split, count in official.items())
    verdict = "as published" if complete else f"a subset; published are {_fractions(official)}"
    print(f"{title}: {_fractions(counts)} {what}, {verdict}")


# ---------------------------------------------------------------- your own images


def own_images(source: Source, output: Path | None = None) -> None:
    """Your own images: says which are what, and unpacks archives that are not read in place.

    Args:
        source: a folder or zip of images (either may be given as --data-dir as it is), a tar, or a folder of archives.
        output: folder to unpack to, each archive into a folder of its name; without it, the source is only looked at.
    """
    _exists(source)
    if output is not None:
        with _draft(output) as work:
            _unpack_all(source, work / "ready")
            for path in find_images(source) if source.is_dir() else []:
                (work / "ready" / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                _link(str(path), str(work / "ready" / path.relative_to(source)))
    elif source.is_file() and not zipfile.is_zipfile(source):
        raise UserError(f"{source} is not read in place: add --output DIR, and it is unpacked there")
    place = output or source
    seen = survey(place)
    if not seen.images:
        raise UserError(nothing_in(place, seen.note()))
    print(seen.note() or f"{place}: {len(seen.images):,} images")
    print(divide(seen.images, place).note)
    print(f"next: {next_command('glcic.train', 'cpu', '--data-dir', place)}")


# ---------------------------------------------------------------- verify


def verify(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Decodes every image below a folder or in a zip and names the corrupt ones; exit status 1 if there are any.

    Args:
        folder: any folder or zip of images.
    """
    seen = survey(folder)
    paths = seen.images
    if not paths:
        raise UserError(nothing_in(folder, seen.note()))
    if seen.note():
        print(f"note: {seen.note()}")
    opened = open_zip(folder) if seen.members else None

    def decode(path: Path) -> tuple[int, int] | UserError:
        try:
            source = member_bytes(opened, seen.members[path], str(path)) if opened else path
            height, width = read_image(source, str(path)).shape[:2]
        except UserError as problem:
            return problem
        return width, height

    sizes, corrupt = Counter(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in tqdm(pool.map(decode, paths, chunksize=1), "decoding", len(paths), unit=" images", leave=False):
            if isinstance(outcome, UserError):
                corrupt.append(outcome)
            else:
                sizes[outcome] += 1
    for problem in corrupt:
        print(problem)
    common = ", ".join(f"{count:,} of {width} x {height} px" for (width, height), count in sizes.most_common(3))
    rest = f", {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    print(f"{len(paths):,} images in {folder}: {len(corrupt):,} corrupt; {common or 'none whole'}{rest}")
    if corrupt:
        raise SystemExit(1)


COMMANDS = {
    **{"celeba": celeba, "cityscapes": cityscapes, "facades": facades, "voc": voc},
    **{"images": own_images, "verify": verify},
}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    tyro.extras.subcommand_cli_from_dict(COMMANDS, args=argv, prog="python -m data.prepare", description=__doc__)


if __name__ == "__main__":
    main()
