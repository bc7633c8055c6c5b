"""A folder of photos, and one of results: what is a photo, where its result goes, what is done and what is left."""

import contextlib
import errno
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.checkpoint.atomic import replace_whole
from common.checkpoint.weights import weights_file
from common.errors import UserError
from common.imaging.folders import find_images, is_summary, same_name, survey
from common.imaging.io import read_bytes, with_pillow, write_image
from common.imaging.photo_file import Format, kept_suffix
from common.inpainting import finished_results
from common.inpainting.finished_results import digest
from common.inpainting.options import check_places
from common.masks.folder import bare_names
from common.runtime.strict_json import json_text

CHUNK, CHUNK_PIXELS = 16, 5_000_000  # photos of a folder held in memory at once, and their pixels
SUMMARY = "summary.json"


def write_result(path: Path, image: np.ndarray) -> None:
    """`images.write_image` under a temporary name, flushed and renamed: whole, or as it was before.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        replace_whole(path, lambda temporary: write_image(temporary, image))
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror or problem}") from problem
    except UserError as problem:  # by the name that the user knows
        raise UserError(str(problem).replace(f".writing-{path.name}", path.name)) from problem


def photos_in(
    folder: Path, output: Path | None, mask: str = "center", say: Callable[[str], None] | None = None
) -> list:
    """The photos of a folder, sorted: its images without results of ours and without the masks that lie among them.

    Args:
        output: what lies in it is a result, if it is inside the folder.
        mask: what lies in it is a mask, if it is a file or a folder inside the folder.
        say: is told what is passed over.
    """
    found = survey(folder)
    photos = found.images
    notes = [found.note()]
    for place, what in ((output, "the output"), (Path(mask), "the masks")):
        if place is None or not (place.is_dir() or place.is_file()):
            continue
        if place.is_dir() and place.samefile(folder):
            inside = set(masks_beside(photos)) if what == "the masks" else set()
        elif place.resolve().is_relative_to(folder.resolve()):
            real = place.resolve()
            inside = {photo for photo in photos if photo.resolve().is_relative_to(real)}
        else:
            continue
        if inside:
            photos = [photo for photo in photos if photo not in inside]
            notes.append(f"{len(inside):,} images are passed over: {place} is {what} of this command")
    for note in notes if say else []:
        if note:
            say(f"note: {note}")
    return photos


def masks_beside(images: list[Path]) -> list[Path]:
    """Those of a folder's images that are called as masks of others beside them, such as a_mask.png beside a.jpg."""
    stems = {(image.parent, same_name(image.stem)) for image in images}
    return [
        image for image in images if any((image.parent, same_name(name)) in stems for name in bare_names(image.stem))
    ]


def each_in_folder(
    folder: Path,
    output: Path,
    read: Callable[[Path, int], object],
    work: Callable[[list], list],
    weights: Path,
    skip_existing: bool = False,
    *,
    mask: str = "center",
    settings: object = None,
    depends: Callable[[Path, int], object] = lambda photo, index: None,
    chunk: int = CHUNK,
    unit: str = "photo",
    doing: str = "completing",
    done: str = "completed",
    write: Callable[[Path, object], object] | None = None,
    wanted: Format = "png",
) -> int:
    """Reads every image below a folder, works on those that can be read, writes the results, and a summary.

    Each result is written whole as soon as it is there. An image that cannot be read or written is named and counted,
    and the others are done. However the run ends, summary.json in the output says how far it came.

    Args:
        output: the results' folder, in the same sub-folders.
        read: (path, its place in the folder) -> what `work` needs of it; a UserError leaves this image out.
        work: turns up to `chunk` of these into as many results.
        weights: named in the summary; results depend on their content.
        skip_existing: leaves out images whose result is there, whole, and made of the same image and settings.
        mask: a folder or file of masks that may lie among the images.
        settings: JSON values that all results depend on.
        depends: (path, its place) -> JSON values that this one's result depends on.
        unit, doing, done: words of the progress bar and the summary.
        write: (path, result) -> writes it whole or not at all; without it results are images uint8 [h, w, 3].
        wanted: format of the results, see `photo_file.kept_suffix`.

    Returns:
        The number of images that failed.

    Raises:
        UserError: there is no image in the folder, a result would overwrite one, or the disk is full.
    """
    check_places(folder, output, mask)
    photos = photos_in(folder, output, mask, print)
    if not photos:
        raise UserError(f"there is no image in {folder}")
    targets = result_files(photos, folder, output, wanted)
    _refuse_overwriting(targets, find_images(mask) if Path(mask).is_dir() else [Path(mask)])
    common = [settings, digest(weights_file(weights)) if weights.exists() else str(weights)]

    def made_of(photo: Path, index: int) -> str:
        return finished_results.key(*common, depends(photo, index), digest(photo))

    run = _FolderRun(output, weights, done, len(photos))
    todo = list(enumerate(photos))
    try:
        if skip_existing:
            todo = [each for each in todo if not run.has(targets[each[1]], partial(made_of, each[1], each[0]))]
            run.say_what_is_made_again()
        with tqdm(total=len(todo), unit=unit, desc=doing) as bar:
            for part in _chunks(todo, chunk):
                ready = {}
                for index, photo in part:
                    with run.failure_of(photo):
                        ready[photo, index] = read(photo, index)
                results = work(list(ready.values())) if ready else []
                for (photo, index), result in zip(ready, results, strict=True):
                    with run.failure_of(photo):
                        (write or write_result)(targets[photo], result)
                        run.note(targets[photo], made_of(photo, index))
                bar.update(len(part))
    finally:
        run.report()
    return len(run.failed)


def _chunks(todo: list[tuple[int, Path]], most: int):
    """Yields parts of a list of (place, photo): at most so many, and of CHUNK_PIXELS in all, or one larger photo."""
    part, pixels = [], 0
    for place, photo in todo:
        own = 0
        with contextlib.suppress(Exception):  # what is wrong with the photo is told when it is read
            own = math.prod(with_pillow(read_bytes(photo), lambda image: image.size, str(photo)))
        if part and (len(part) == most or pixels + own > CHUNK_PIXELS):
            yield part
            part, pixels = [], 0
        part.append((place, photo))
        pixels += own
    if part:
        yield part


class _FolderRun:
    """What a run over a folder has done, and its summary.json."""

    def __init__(self, output: Path, weights: Path, done: str, total: int):
        self.output, self.weights, self.verb, self.total = output, weights, done, total
        self.written = self.skipped = 0
        self.failed: dict[str, str] = {}
        self.again: Counter[str] = Counter()
        self.record = finished_results.read_record(output)

    def has(self, target: Path, made_of: Callable[[], str]) -> bool:
        """Whether a result is there that can be trusted."""
        if not target.is_file():
            return False
        try:
            problem = finished_results.why_not(self.output, target, made_of(), self.record)
        except UserError:  # of the photo, told when it is read
            return False
        self.again[problem] += bool(problem)
        self.skipped += not problem
        return not problem

    def say_what_is_made_again(self) -> None:
        """One line on results that are there but not trusted."""
        told = [f"{count:,} {problem}" for problem, count in self.again.items() if count]
        if told:
            print(f"note: of the results that are there these are made again: {', '.join(told)}")

    @contextlib.contextmanager
    def failure_of(self, photo: Path):
        """A UserError within is this photo's failure; but a full disk ends the run."""
        try:
            yield
        except UserError as problem:
            self.failed[str(photo)] = str(problem)
            if _disk_is_full(problem):
                raise UserError(
                    f"the disk is full: {problem}; make room, and the same command with --skip-existing goes on"
                ) from None

    def note(self, target: Path, made_of: str) -> None:
        """Counts and records a result that was just written."""
        try:
            finished_results.note(self.output, target, made_of)
        except OSError as problem:
            raise UserError(f"cannot write {self.output}: {problem.strerror or problem}") from problem
        self.written += 1

    def report(self) -> None:
        """Writes the counts to summary.json, or beside it where that is somebody else's, and prints them."""
        left = self.total - self.written - self.skipped - len(self.failed)
        summary = {
            self.verb: self.written,
            "skipped": self.skipped,
            "failed": self.failed,
            "weights": str(self.weights),
        }
        if left:
            summary["not_done"] = left
        path, problem = summary_file(self.output), None
        try:
            replace_whole(path, lambda temporary: temporary.write_text(json_text(summary, indent=1) + "\n"))
        except OSError as mistake:
            problem = mistake.strerror or mistake
        rest = f", {left} not done" if left else ""
        print(f"{self.written} {self.verb}, {self.skipped} skipped, {len(self.failed)} failed{rest}")
        for reason in self.failed.values():
            print(f"  {reason}")
        if problem:
            print(f"note: cannot write {path}: {problem}")
        elif path.name != SUMMARY:
            print(f"note: {self.output / SUMMARY} was not written by this suite and stays; the summary is {path.name}")


def summary_file(output: Path) -> Path:
    """summary.json of a folder of results; summary-2.json … where a file of that name is not ours."""
    names = itertools.chain([SUMMARY], (f"summary-{number}.json" for number in itertools.count(2)))
    return next(path for name in names if not os.path.lexists(path := output / name) or is_summary(path))


def _disk_is_full(problem: BaseException | None) -> bool:
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _refuse_overwriting(targets: dict[Path, Path], masks: list[Path]) -> None:
    """Raises UserError if a result would take the place of a photo or a mask, as when they lie in the output."""
    places = {(about.st_dev, about.st_ino): file for file in (*masks, *targets) if (about := _stat(file))}
    for photo, target in targets.items():
        about = _stat(target)
        if about and (about.st_dev, about.st_ino) in places:
            other = places[about.st_dev, about.st_ino]
            raise UserError(f"the result of {photo} would overwrite {other}; choose another --output")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def result_files(photos: list[Path], folder: Path, output: Path, wanted: Format = "png") -> dict[Path, Path]:
    """Where each photo's result goes: a.jpg to a.png (if kept, a.jpg); to a.jpg.png if two would go to one file.

    Names that differ only in case, or in how an é is written, are one file on some systems, so they count as equal.
    """

    def key(place: Path) -> str:
        return same_name(place.as_posix()).casefold()

    places = {photo: photo.relative_to(folder).with_suffix(kept_suffix(photo, wanted)) for photo in photos}
    claims = Counter(map(key, places.values()))
    targets, used = {}, set()
    for photo, target in places.items():
        stem, number = photo.name, 1
        while key(target) in used or (number == 1 and claims[key(target)] > 1):
            target = target.with_name(f"{stem}{f'-{number}' * (number > 1)}{target.suffix}")
            number += 1
        used.add(key(target))
        targets[photo] = output / target
    return targets
