"""Writes small data sets in the official layouts, so that every machine has something to train on.

`write_faces` makes a CelebA of drawn faces; `data.faces` draws them.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from common.errors import UserError, one_line_errors
from data.faces import VERSION, draw_face

PICTURES, PARTITION, MARKER = "img_align_celeba", "list_eval_partition.txt", "synthetic.json"
JPEG_QUALITY = 92


def partition_code(index: int, count: int) -> int:
    """CelebA's code for picture `index` (from 0) of `count`: 2 test (last 5 %), 1 validation (5 % before), 0 train."""
    held_out = max(1, count // 20)
    return 2 if index >= count - held_out else 1 if index >= count - 2 * held_out else 0


def write_faces(folder: str | Path, count: int = 1200, seed: int = 0) -> Path:
    """Writes `count` faces in CelebA's official layout, or finds them there already.

    Picture i depends on (seed, i) alone. The set is drawn beside `folder` and renamed when it is whole, so an
    interrupted run leaves nothing half done.

    Returns:
        the folder, with `img_align_celeba/000001.jpg` … and `list_eval_partition.txt`.

    Raises:
        UserError: the folder holds anything but a synthetic set, or cannot be written.
    """
    folder = Path(folder).resolve()
    if count < 1 or seed < 0:
        raise UserError(f"cannot draw {count} faces from seed {seed}: the count must be 1 or more, the seed 0 or more")
    made_by = json.dumps({"kind": "faces", "count": count, "seed": seed, "version": VERSION}) + "\n"
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        if _finished(folder, made_by):
            return folder
        (draft / PICTURES).mkdir(parents=True)
        _write_pictures(draft / PICTURES, count, seed)
        names = [f"{index + 1:06d}.jpg {partition_code(index, count)}\n" for index in range(count)]
        (draft / PARTITION).write_text("".join(names))
        (draft / MARKER).write_text(made_by)
        if not _finished(folder, made_by):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
    except OSError as problem:
        raise UserError(f"cannot write {folder}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _finished(folder: Path, made_by: str) -> bool:
    """Whether the folder holds this very set; refuses a folder that holds anything not drawn here."""
    if not folder.exists():
        return False
    marker = folder / MARKER
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if held and (not marker.is_file() or held - {PICTURES, PARTITION, MARKER}):
        raise UserError(f"{folder} holds something else: name a new folder for the synthetic faces")
    return bool(held) and marker.read_text() == made_by


def _write_pictures(folder: Path, count: int, seed: int) -> None:
    for index in tqdm(
        range(count), "drawing faces", unit=" faces", leave=False, disable=None
    ):  # threads would be no faster
        face = draw_face(np.random.default_rng((seed, index)))
        Image.fromarray(face).save(folder / f"{index + 1:06d}.jpg", quality=JPEG_QUALITY)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    def draw(output: Path, count: int = 1200, seed: int = 0) -> None:
        """Draws a data set of faces in CelebA's official layout.

        Args:
            output: the folder to make.
            count: number of pictures; the last 5 % are for testing, the 5 % before them for validation.
            seed: another seed draws other people.
        """
        print(f"{count} drawn faces are in {write_faces(output, count, seed)}")

    tyro.cli(draw, args=argv, prog="python -m data.synthetic")


if __name__ == "__main__":
    main()
