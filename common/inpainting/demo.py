"""What `infer --demo` is in every paper: options filled in with bundled weights and images, and a sheet."""

from pathlib import Path

import numpy as np

from common.imaging.folders import find_images
from common.imaging.grid import grid, show_mask
from common.imaging.io import read_image, write_image
from common.inpainting.folder_run import result_files
from common.inpainting.photos import mask_for

SHEET = "side_by_side.png"
CELL_PX = 178  # of the sheet: a bundled face at its own size


def show_completed(photos: Path, masks: Path | str, output: Path) -> None:
    """Writes the sheet of completed photos, and says where everything is.

    Args:
        photos, masks: folders of the photos and of their masks.
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
