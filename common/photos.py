"""Photos from the command line: holes for them, one photo with what is to be known of it, and a folder of photos."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common import masks
from common.errors import UserError
from common.images import find_images, read_image, write_image
from common.windows import Window

CHUNK = 16  # photos of a folder held in memory at once
LOSSY = (".jpg", ".jpeg", ".webp")

# Pictures uint8 [h, w, 3] and holes bool [h, w] of any sizes -> the pictures completed
Complete = Callable[[list[np.ndarray], list[np.ndarray]], list[np.ndarray]]


# ---- holes


def _center(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return masks.center(height, width)


def _random(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    side = min(height, width)
    return masks.rectangle(height, width, (max(1, side * 3 // 8), max(1, side // 2)), rng)


# Holes that need no file: (height, width, rng) -> bool [height, width]
SAMPLED = {
    "center": _center,
    "random": _random,
    "freeform": masks.freeform,
    **{kind: partial(masks.irregular, kind) for kind in ("blocks", "regions", "noise")},
}


def hole_for(
    photo: Path, image: np.ndarray, mask: str = "center", invert_mask: bool = False, seed: int = 0, index: int = 0
) -> np.ndarray:
    """The hole of a photo, bool [height, width]: sampled, or read from the mask file or folder.

    Args:
        photo: its file; in a folder of masks the one of the same name, suffix aside, belongs to it.
        image: uint8 [height, width, 3], the photo.
        mask: one of SAMPLED, a picture, or a folder of pictures.
        invert_mask: black is hole in a picture.
        seed, index: of a sampled hole; index is the photo's place in its folder.

    Raises:
        UserError: there is no such mask, or it cannot be read as a hole of this photo.
    """
    height, width = image.shape[:2]
    if mask in SAMPLED:
        return SAMPLED[mask](height, width, np.random.default_rng((seed, index)))
    path = Path(mask)
    if path.is_dir():
        found = [file for file in find_images(path) if file.stem == photo.stem]
        if not found:
            raise UserError(f"there is no mask named {photo.stem} in {path}")
        path = found[0]
    elif not path.exists():
        raise UserError(f"there is no mask {path}; give a picture, a folder, or one of {', '.join(SAMPLED)}")
    return masks.read_hole(path, height, width, invert_mask)


# ---- one photo


def complete_file(
    photo: Path,
    output: Path,
    find_hole: Callable[..., np.ndarray],
    complete: Complete,
    windows: Callable[[np.ndarray], list[Window]],
    megabytes: Callable[[int, list[Window]], int] | None = None,
) -> None:
    """One photo: reads, says what the network will be given, completes, writes.

    Args:
        find_hole: `hole_for` with the command's options, called with photo and image.
        complete: is given one picture and one hole.
        windows: what the network will see of a photo with this hole, as `windows.plan` tells it.
        megabytes: estimate of the memory needed, from the photo's pixels and the windows; not told without it.

    Raises:
        UserError: the photo or the hole cannot be used, or the result cannot be written.
    """
    image = read_image(photo)
    hole = find_hole(photo, image)
    warning = masks.check_hole(hole, image, output.with_name(output.stem + "-hole.png"))
    seen = windows(hole)
    if warning:
        print(f"note: {warning}")
    need = f"; about {megabytes(hole.size, seen):,} MB of memory" if megabytes else ""
    print(f"{photo}: {image.shape[1]} x {image.shape[0]} px, hole {hole.mean():.2%}{need}")
    print("\n".join(f"  window {window}" for window in seen[:8]) + ("\n  …" if len(seen) > 8 else ""))
    write_image(output, complete([image], [hole])[0])
    print(f"written: {output}")
    if output.suffix.lower() in LOSSY:
        print("note: this format changes known pixels a little; write a .png to keep them exactly")


# ---- a folder


def complete_folder(
    folder: Path,
    output: Path,
    find_hole: Callable[..., np.ndarray],
    complete: Complete,
    weights: Path,
    skip_existing: bool = False,
) -> int:
    """Completes a folder of photos, in batches. Returns the number that failed; see `each_in_folder`.

    Args:
        find_hole: `hole_for` with the command's options, called with photo, image and the keyword index.
        complete: is given a chunk of pictures and their holes.
    """

    def read(photo: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(photo)
        hole = find_hole(photo, image, index=index)
        warning = masks.check_hole(hole, image, output / f"{photo.stem}-hole.png")
        if warning:
            tqdm.write(f"note: {photo}: {warning}")
        return image, hole

    def work(ready: list) -> list[np.ndarray]:
        return complete([image for image, _ in ready], [hole for _, hole in ready])

    return each_in_folder(folder, output, read, work, weights, skip_existing)


def each_in_folder(
    folder: Path,
    output: Path,
    read: Callable[[Path, int], object],
    work: Callable[[list], list[np.ndarray]],
    weights: Path,
    skip_existing: bool = False,
    *,
    chunk: int = CHUNK,
    unit: str = "photo",
    doing: str = "completing",
    done: str = "completed",
) -> int:
    """Reads every picture below a folder, works on those that can be read, writes the results as PNG, and a summary.

    Args:
        output: the results' folder, in the same sub-folders; summary.json in it counts, and names those that failed.
        read: (path, its place in the folder) -> what `work` needs of it; a UserError leaves this picture out.
        work: turns up to `chunk` of these into as many pictures uint8 [h, w, 3].
        weights: named in the summary.
        skip_existing: leaves out pictures whose result is there already.
        unit, doing, done: words of the progress bar and the summary.

    Returns:
        The number of pictures that failed.

    Raises:
        UserError: there is no picture in the folder, or a result cannot be written.
    """
    photos = find_images(folder)
    if not photos:
        raise UserError(f"there is no picture in {folder}")
    targets = result_files(photos, folder, output)
    todo = [(n, photo) for n, photo in enumerate(photos) if not (skip_existing and targets[photo].exists())]
    failed: dict[str, str] = {}
    with tqdm(total=len(todo), unit=unit, desc=doing) as bar:
        for start in range(0, len(todo), chunk):
            ready = {}
            for index, photo in todo[start : start + chunk]:
                try:
                    ready[photo] = read(photo, index)
                except UserError as problem:
                    failed[str(photo)] = str(problem)
            results = work(list(ready.values())) if ready else []
            for photo, picture in zip(ready, results, strict=True):
                write_image(targets[photo], picture)
            bar.update(len(todo[start : start + chunk]))
    counts = {done: len(todo) - len(failed), "skipped": len(photos) - len(todo)}
    output.mkdir(parents=True, exist_ok=True)
    summary = {**counts, "failed": failed, "weights": str(weights)}
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{counts[done]} {done}, {counts['skipped']} skipped, {len(failed)} failed")
    print("\n".join(f"  {reason}" for reason in failed.values()))
    return len(failed)


def result_files(photos: list[Path], folder: Path, output: Path) -> dict[Path, Path]:
    """Where each photo's result goes: a.jpg to a.png, or to a.jpg.png if two would go to one file."""
    targets = {photo: output / photo.relative_to(folder).with_suffix(".png") for photo in photos}
    if len(set(targets.values())) < len(photos):  # a.jpg and a.png side by side
        targets = {photo: target.with_name(photo.name + ".png") for photo, target in targets.items()}
    return targets
