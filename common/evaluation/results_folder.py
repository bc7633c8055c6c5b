"""Folders by which other methods take part: the inputs that they complete, and the results that they leave."""

from pathlib import Path, PurePath

import numpy as np

from common.errors import UserError, first_few
from common.imaging.folders import find_images
from common.imaging.io import read_image, write_image


def file_name(index: int) -> str:
    return f"{index:05}.png"


def write_inputs(images: np.ndarray, masks: np.ndarray, folder: Path) -> None:
    """Writes images/00000.png …, masks/ (white is missing) and masked/ (the mask grey), for other methods to read."""
    try:
        for part in ("images", "masks", "masked"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"cannot write to {folder}: {problem.strerror or problem}") from None
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        write_image(folder / "images" / file_name(n), image)
        write_image(folder / "masks" / file_name(n), np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255)
        write_image(folder / "masked" / file_name(n), np.where(mask[..., None], np.uint8(128), image))
    print(f"written: {len(images)} images, masks and masked images to {folder}; name results as they are named")


def find_results(folder: Path, names: list[str]) -> tuple[list[Path], list[Path]]:
    """The file of each image, and the images of the folder that belong to none.

    All files go by the numbers of the images (00000.png, any suffix), or all by their names.

    Args:
        names: of the images below their folder; "" where the data have none.

    Raises:
        UserError: there is no such folder, results are missing (they are listed), there are two for an image, or
            numbers and names lead to different files.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder of results {folder}")
    files = find_images(folder)
    ways = [([Path(file_name(n)).stem for n in range(len(names))], lambda path: path.stem)]
    stems = [PurePath(name).stem for name in names]
    if all(names):
        whole = [PurePath(name).with_suffix("").as_posix() for name in names]
        ways.append((whole, lambda path: path.relative_to(folder).with_suffix("").as_posix()))
    if all(names) and len(set(stems)) == len(stems):
        ways.append((stems, lambda path: path.stem))
    tried = []
    for wanted, key in ways:
        found: dict[str, list[Path]] = {}
        for path in files:
            found.setdefault(key(path), []).append(path)
        tried.append((wanted, [found.get(each, []) for each in wanted]))
    wanted, chosen = max(tried, key=lambda each: sum(map(bool, each[1])))
    complete = [each for _, each in tried if all(each)]
    if any(each != complete[0] for each in complete):
        raise UserError(f"results in {folder} have both the numbers and the names of images; leave those of one kind")
    unused = sorted({*files} - {path for paths in chosen for path in paths})
    problems = []
    for name, paths in zip(wanted, chosen, strict=True):
        if len(paths) != 1:
            problems.append(f"{name} has {len(paths)} files" if paths else f"{name} is missing")
    if problems and unused:
        problems[min(len(problems), 5) - 1] += f" (the folder has {first_few([path.name for path in unused])})"
    refuse(folder, problems, len(names))
    return [path for (path,) in chosen], unused


def read_results(folder: Path, names: list[str], images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Completions from a folder, uint8 [N, side, side, 3], known pixels set to the originals; grey ones become RGB.

    Raises:
        UserError: as `find_results`; or results are corrupt, or of other sizes: all such are listed.
    """
    results, problems = [], []
    for path, image, mask in zip(find_results(folder, names)[0], images, masks, strict=True):
        try:
            result = read_image(path)
        except UserError as problem:
            problems.append(str(problem))
            continue
        if result.shape == image.shape:
            results.append(np.where(mask[..., None], result, image))
        else:
            height, width = image.shape[:2]
            problems.append(f"{path.name} has {result.shape[1]} x {result.shape[0]} px, not {width} x {height}")
    refuse(folder, problems, len(names))
    return np.stack(results)


def refuse(folder: Path, problems: list[str], count: int) -> None:
    """Raises UserError if there are problems, and lists the first five."""
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(
            f"{len(problems)} of {count} results in {folder} cannot be scored: {', '.join(problems[:5])}{more}; "
            "--write-inputs writes the images, masks and names of this set"
        )
