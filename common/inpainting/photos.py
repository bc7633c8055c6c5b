"""Photos from the command line: one with what is to be known of it, or a folder of them."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.imaging.photo_file import WRITABLE, Format, Photo, open_photo, write_photo
from common.inpainting import finished_results
from common.inpainting.folder_run import each_in_folder
from common.inpainting.mask_source import Masks
from common.inpainting.tiling import Window
from common.masks.reader import check_mask, checked_mask
from common.runtime.outputs import check_output

# Options that no result depends on, or that are taken into account for each result by themselves
NO_SETTINGS = {
    *("weights", "input", "output", "demo", "mask", "invert_mask", "skip_existing"),
    *("device", "disable_cpu_layers", "batch_size", "offsets", "every"),
}

# Images uint8 [h, w, 3] and masks bool [h, w] of any sizes -> the images completed
Complete = Callable[[list[np.ndarray], list[np.ndarray]], list[np.ndarray]]


def mask_for(
    photo: Path, image: np.ndarray, mask: str = "center", invert_mask: bool = False, seed: int = 0, index: int = 0
) -> np.ndarray:
    """The hole of one photo; see `Masks`."""
    return Masks(mask, photo, None, invert_mask, seed)(photo, image, index)


def report_file(output: Path, mask: Path | None) -> Path:
    """Where an image of a doubtful hole goes: beside the result, and never in the place of the mask itself."""
    path = output.with_name(f"{output.stem}-hole.png")
    if mask is None or path.resolve() != mask.resolve():
        return path
    return path.with_name(f"{output.stem}-hole-shown.png")


def read_mask_of(photo: Path, image: np.ndarray, find_mask: Masks, output: Path, index: int = 0) -> np.ndarray:
    """The hole of a photo; what an unclear mask may mean is shown beside the output.

    Raises:
        UserError: as `Masks`, naming that image.
    """
    report = report_file(output, find_mask.file(photo))
    return checked_mask(lambda: find_mask(photo, image, index), image, report)


# ---- one photo


def complete_file(
    photo: Path,
    output: Path,
    find_mask: Callable[..., np.ndarray],
    complete: Complete,
    windows: Callable[[np.ndarray], list[Window]],
    megabytes: Callable[[int, list[Window]], int] | None = None,
) -> None:
    """One photo: reads, says what the network will be given, completes, writes.

    Args:
        find_mask: `Masks` of the command's options, called with photo and image.
        complete: is given one image and one hole.
        windows: what the network will see of a photo with this hole, as `windows.plan` tells it.
        megabytes: estimate of the memory needed, from the photo's pixels and the windows; not told without it.

    Raises:
        UserError: the photo or the hole cannot be used, or the result cannot be written.
    """
    mask_file = find_mask.file(photo) if isinstance(find_mask, Masks) else None
    check_output(output, WRITABLE, [photo, *([mask_file] if mask_file else [])])
    opened = open_photo(photo)
    image = opened.image
    report = report_file(output, mask_file)
    mask = checked_mask(lambda: find_mask(photo, image), image, report)
    warning = check_mask(mask, image, report)
    seen = windows(mask)
    if warning:
        print(f"note: {warning}")
    need = f"; about {megabytes(mask.size, seen):,} MB of memory" if megabytes else ""
    print(f"{photo}: {image.shape[1]} x {image.shape[0]} px, hole {mask.mean():.2%}{need}")
    print("\n".join(f"  window {window}" for window in seen[:8]) + ("\n  …" if len(seen) > 8 else ""))
    lost = write_photo(output, opened, complete([image], [mask])[0], mask)
    print(f"written: {output}")
    for line in (*opened.notes, *lost):
        print(f"note: {line}")


# ---- a folder


def complete_folder(
    folder: Path,
    output: Path,
    find_mask: Callable[..., np.ndarray],
    complete: Complete,
    weights: Path,
    skip_existing: bool = False,
    wanted: Format = "png",
    *,
    mask: Masks | None = None,
    settings: object = None,
) -> int:
    """Completes a folder of photos, in batches. Returns the number that failed; see `each_in_folder`.

    Args:
        find_mask: `Masks` of the command's options, called with photo, image and the keyword index.
        complete: is given a chunk of images and their holes.
        wanted: format of the results, see `photo_file.kept_suffix`.
        mask: the `Masks` behind `find_mask`, if that is something else.
        settings: of the command, see `each_in_folder`.
    """
    if isinstance(find_mask, Masks):
        mask = find_mask

    notes: Counter[str] = Counter()

    def read(photo: Path, index: int) -> tuple[Photo, np.ndarray]:
        opened = open_photo(photo)
        report = report_file(output / photo.relative_to(folder), mask.file(photo) if mask else None)
        missing = checked_mask(lambda: find_mask(photo, opened.image, index=index), opened.image, report)
        warning = check_mask(missing, opened.image, report)
        if warning:
            tqdm.write(f"note: {photo}: {warning}")
        return opened, missing

    def work(ready: list) -> list[tuple]:
        completed = complete([opened.image for opened, _ in ready], [missing for _, missing in ready])
        return [(opened, image, missing) for (opened, missing), image in zip(ready, completed, strict=True)]

    def write(target: Path, result: tuple) -> None:
        notes.update((*result[0].notes, *write_photo(target, *result)))

    failed = each_in_folder(
        folder, output, read, work, weights, skip_existing, settings=settings, mask=mask.mask if mask else "center",
        depends=mask.identity if mask else lambda photo, index: index, write=write, wanted=wanted,
    )  # fmt: skip
    print_notes(notes)
    return failed


def print_notes(notes: Counter) -> None:
    """What was assumed or lost, once each, with the number of photos if there are more than one."""
    for note, count in notes.items():
        print(f"note: {f'{count:,} photos: ' * (count > 1)}{note}")


def settings_of(options) -> dict:
    """What all results of a command depend on, as JSON values: its options, and the content of the files they name."""
    return {name: _identity(value) for name, value in dataclasses.asdict(options).items() if name not in NO_SETTINGS}


def _identity(value):
    if isinstance(value, dict):
        return {name: _identity(each) for name, each in value.items()}
    if not isinstance(value, Path):
        return value
    if not value.is_dir():
        return finished_results.digest(value) if value.is_file() else str(value)
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(value.rglob("*"))]
