"""What `infer --demo` is in every paper: options filled in with bundled weights and images, and a sheet."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from common.errors import UserError
from common.imaging.folders import find_images
from common.imaging.grid import grid, show_mask
from common.imaging.io import SUFFIXES, read_image, write_image
from common.inpainting.folder_run import result_files
from common.inpainting.photos import mask_for

SHEET = "side_by_side.png"
NEEDED = ("weights", "input", "output")  # options that a command cannot do without
CELL_PX = 178  # of the sheet: a bundled face at its own size

T = TypeVar("T")


def fill(options: T, paper: str, bundled: Callable[[str], list[Path]], **brought) -> T:
    """The options of an `infer` command, complete: as they were given, or, with --demo, with what it brings.

    Args:
        options: a dataclass with `demo`, and None in what is left out of NEEDED.
        paper: the folder's name.
        bundled: the files of a paper's weights; asked only where none are given.
        brought: by --demo, options by their names. None of them may be given beside it.

    Raises:
        UserError: without --demo something is missing; with it, something is given that it brings, the output is no
            folder, or no weights are bundled.
    """
    if not options.demo:
        missing = [_flag(name) for name in NEEDED if getattr(options, name) is None]
        if missing:
            few = " and ".join([", ".join(missing[:-1]), missing[-1]] if missing[1:] else missing)
            raise UserError(f"{few} must be given; or try --demo, which needs nothing else")
        return options
    usual = {field.name: field.default for field in dataclasses.fields(options)}
    for name in brought:
        if getattr(options, name) != usual[name]:
            raise UserError(f"--demo brings its own images: give --demo or {_flag(name)}, not both")
    output = options.output or Path(f"demo_{paper}")
    if output.is_file() or output.suffix.lower() in SUFFIXES:
        raise UserError(f"--output {output}: --demo writes several images; name a folder")
    return dataclasses.replace(options, weights=options.weights or bundled(paper)[0], output=output, **brought)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def show_completed(photos: Path, masks: Path | str, output: Path) -> None:
    """Writes the sheet of completed photos, and says where everything is.

    Args:
        photos, masks: folders of the photos and of their holes.
        output: folder of the results, see `photos.complete_folder`; photos without a result are left out.
    """
    rows = []
    for photo, result in result_files(find_images(photos), photos, output).items():
        if result.exists():
            image = read_image(photo)
            rows.append([show_mask(image, mask_for(photo, image, str(masks))), read_image(result), image])
    write_sheet(output, rows, ["input", "ours", "truth"])


def write_sheet(folder: Path, rows: list[list[np.ndarray]], titles: list[str]) -> None:
    """Writes the sheet of a folder of results, if there are any, and says where everything is; see `images.grid`."""
    if rows:
        write_image(folder / SHEET, grid(rows, titles, cell_px=CELL_PX))
        print(f"{folder}: {len(rows)} result{'s' * (len(rows) > 1)}; {SHEET} in it shows {', '.join(titles)}")
