"""Writes small data sets in the official layouts, so that every machine has something to train on.

`write_faces` makes a CelebA of drawn faces, `write_streets` a prepared Cityscapes of drawn streets with their labels;
`data.faces` and `data.streets` draw them.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from common.errors import UserError
from common.runtime.commands import one_line_errors
from data.faces import VERSION, draw_face
from data.streets import VERSION as STREETS_VERSION
from data.streets import draw_street

IMAGES, PARTITION, MARKER = "img_align_celeba", "list_eval_partition.txt", "synthetic.json"
JPEG_QUALITY = 92
FACES, STREETS = 1200, 800  # how many, unless told otherwise


def partition_code(index: int, count: int) -> int:
    """CelebA's code for image `index` (from 0) of `count`: 2 test (last 5 %), 1 validation (5 % before), 0 train."""
    held_out = max(1, count // 20)
    return int(index >= count - 2 * held_out) + int(index >= count - held_out)


def street_name(index: int, count: int) -> str:
    """The file of street `index` (from 0) of `count`: the last tenth is for validation, where numbers start anew."""
    train = count - max(1, count // 10)
    if index < train:
        return f"train/{index + 1}.jpg"
    return f"val/{index - train + 1}.jpg"


def write_faces(folder: str | Path, count: int = FACES, seed: int = 0) -> Path:
    """Writes `count` faces in CelebA's official layout, or finds them there already.

    Image i depends on (seed, i) alone. The set is drawn beside `folder` and renamed when it is whole, so an
    interrupted run leaves nothing half done.

    Returns:
        the folder, with `img_align_celeba/000001.jpg` … and `list_eval_partition.txt`.

    Raises:
        UserError: the folder holds anything but a synthetic set, or cannot be written.
    """

    def draw(draft: Path) -> None:
        (draft / IMAGES).mkdir(parents=True)
        for index, rng in _images("faces", count, seed):
            Image.fromarray(draw_face(rng)).save(draft / IMAGES / f"{index + 1:06d}.jpg", quality=JPEG_QUALITY)
        names = [f"{index + 1:06d}.jpg {partition_code(index, count)}\n" for index in range(count)]
        (draft / PARTITION).write_text("".join(names))

    made_by = {"kind": "faces", "count": count, "seed": seed, "version": VERSION}
    return _write(Path(folder).resolve(), made_by, 1, {IMAGES, PARTITION}, draw)


def write_streets(folder: str | Path, count: int = STREETS, seed: int = 0) -> Path:
    """Writes `count` streets as the prepared pairs of Cityscapes, or finds them there already.

    Street i depends on (seed, i) alone. Like `write_faces`, it leaves a whole set or none. Photo left, label right,
    512 x 256, JPEG at quality 100 without chroma subsampling, as the official script of the second paper saves them.

    Returns:
        the folder, with `train/1.jpg` … and `val/1.jpg` … (the last tenth, at least one).

    Raises:
        UserError: the folder holds anything but synthetic streets, or cannot be written.
    """

    def draw(draft: Path) -> None:
        for split in ("train", "val"):
            (draft / split).mkdir(parents=True)
        for index, rng in _images("streets", count, seed):
            pair = Image.fromarray(np.hstack(draw_street(rng)))
            pair.save(draft / street_name(index, count), quality=100, subsampling=0)

    made_by = {"kind": "streets", "count": count, "seed": seed, "version": STREETS_VERSION}
    return _write(Path(folder).resolve(), made_by, 2, {"train", "val"}, draw)


def _write(folder: Path, made_by: dict, least: int, parts: set[str], draw: Callable[[Path], None]) -> Path:
    """Draws a set beside the folder and puts it in place when it is whole, unless it is there already.

    Args:
        made_by: what tells one set from another; it goes into the marker.
        least: the smallest set that makes sense.
        parts: the files and folders that `draw` makes in the folder it is given.
    """
    kind, count, seed = made_by["kind"], made_by["count"], made_by["seed"]
    if count < least or seed < 0:
        limits = f"the count must be {least} or more, the seed 0 or more"
        raise UserError(f"cannot draw {count} {kind} from seed {seed}: {limits}")
    marker = json.dumps(made_by) + "\n"
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        if _finished(folder, kind, marker, parts):
            return folder
        draw(draft)
        (draft / MARKER).write_text(marker)
        if not _finished(folder, kind, marker, parts):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
    except OSError as problem:
        raise UserError(f"cannot write {folder}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _finished(folder: Path, kind: str, made_by: str, parts: set[str]) -> bool:
    """Whether the folder holds this very set; refuses a folder that holds anything not drawn here, or another kind."""
    if not folder.exists():
        return False
    marker = folder / MARKER
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if held and (not marker.is_file() or held - parts - {MARKER}):
        raise UserError(f"{folder} holds something else: name a new folder for the synthetic {kind}")
    return bool(held) and marker.read_text() == made_by


def _images(kind: str, count: int, seed: int) -> Iterator[tuple[int, np.random.Generator]]:
    """(index, its source of chance) of each image, with a progress bar; threads would be no faster."""
    for index in tqdm(range(count), f"drawing {kind}", unit=f" {kind}", leave=False, disable=None):
        yield index, np.random.default_rng((seed, index))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    def draw(
        output: Path, kind: Literal["faces", "streets"] = "faces", count: int | None = None, seed: int = 0
    ) -> None:
        """Draws a data set: faces in CelebA's official layout, or street scenes as the prepared pairs of Cityscapes.

        Args:
            output: the folder to make.
            kind: what to draw.
            count: number of images, 1200 faces or 800 streets unless given. Of the faces, the last 5 % are for
                testing and the 5 % before them for validation; of the streets, the last tenth is for validation.
            seed: another seed draws other people, or other places.
        """
        write, usual = (write_faces, FACES) if kind == "faces" else (write_streets, STREETS)
        if count is None:
            count = usual
        print(f"{count} drawn {kind} are in {write(output, count, seed)}")

    tyro.cli(draw, args=argv, prog="python -m data.synthetic")


if __name__ == "__main__":
    main()
