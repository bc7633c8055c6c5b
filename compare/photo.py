"""Completes one photo with every paper and with the classical methods, and writes one labelled image.

python -m compare photo --image PHOTO --mask MASK --output OUT.png
"""

import functools
import importlib
import inspect
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import weights
from common.checkpoint.weights import read_weights
from common.errors import UserError
from common.imaging.io import SUFFIXES, read_image
from common.imaging.transforms import resize
from common.inpainting import baselines, folder_run, mask_source, photos
from common.masks import reader as mask_reader
from common.runtime.commands import one_line_errors
from common.runtime.device import describe, open_device
from common.runtime.outputs import check_output
from compare.options import read_photo

# How they are called in images, in the order of their years; a paper that is not here goes by its folder's name.
LABELS = {
    "navier_stokes": "Navier-Stokes, 2001",
    "telea": "Telea, 2004",
    "context_encoder": "Context Encoder, 2016",
    "dcgan_completion": "DCGAN completion, 2017",
    "glcic": "GLCIC, 2017",
    "deepfill": "DeepFill v2, 2019",
}
CLASSICAL = {"navier_stokes": baselines.navier_stokes, "telea": baselines.telea}
COLUMNS, CELL_PX, GAP_PX, TEXT_PX, CAPTION_PX = 4, 300, 16, 17, 52
INK, PALE, FRAME = (20, 20, 20), (120, 120, 120), (230, 30, 90)


@dataclass(frozen=True)
class Result:
    """What one method made of a photo."""

    name: str
    image: np.ndarray | None
    """uint8 [height, width, 3]; None if the method cannot complete this photo"""
    seconds: float
    problem: str = ""
    """why it cannot"""

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name)


# ---- the papers


def completing_papers() -> list[str]:
    """Folders of the papers that complete and have weights in weights/, by their years."""
    known = {about["paper"] for about in weights.read_manifest().values()}
    found = [paper for paper in sorted(known) if hasattr(importlib.import_module(f"{paper}.infer"), "complete")]
    return in_order(found)


def in_order(papers) -> list[str]:
    """Folders' names by the papers' years, those that LABELS does not have at the end."""
    return sorted(papers, key=lambda paper: [*LABELS, paper].index(paper))


def choose(papers: tuple[str, ...], files: tuple[Path, ...]) -> dict[str, Path]:
    """Which weights each paper completes with.

    Args:
        papers: folders; none given: those of `completing_papers` and of the files.
        files: weights in place of those in weights/.

    Raises:
        UserError: there is no such paper, it completes nothing, or it has no weights.
    """
    own = {read_weights(file)[1].get("paper", "unknown"): file for file in files}
    known = completing_papers()
    chosen = {}
    for paper in papers or in_order({*known, *own}):
        if paper not in known and paper not in own:
            choice = ", ".join(known) or "none: weights/ is empty"
            raise UserError(
                f"there are no weights to complete with of {paper!r}; choose from {choice}, or give --weights"
            )
        chosen[paper] = own.get(paper) or weights.find(weights.of_paper(paper)[0])
    return chosen


@functools.cache
def load(paper: str, file: Path):
    """The network of a paper, loaded once."""
    module = importlib.import_module(f"{paper}.infer")
    if not hasattr(module, "complete"):
        raise UserError(f"{file} is of {paper}, which completes no photos")
    network = module.load(file)
    if hasattr(module, "faster"):
        network = module.faster(network)
    return network


def ask_paper(paper: str, file: Path, image: np.ndarray, mask: np.ndarray, **options) -> Result:
    """What a paper makes of a photo, by its own `complete`.

    Args:
        options: of `complete`, such as blend and seed; what is None, or not known to this paper, is left out.

    Raises:
        UserError: the weights cannot be loaded. What `complete` objects to is told in the result.
    """
    network, verb = load(paper, file), importlib.import_module(f"{paper}.infer").complete
    known = inspect.signature(verb).parameters
    options = {name: value for name, value in options.items() if value is not None and name in known}
    return _timed(paper, lambda: verb(network, image, mask, **options))


def ask_all(files: dict[str, Path], image: np.ndarray, mask: np.ndarray, **options):
    """Yields a `Result` of each classical method, then of each paper; see `ask_paper`."""
    for name, method in CLASSICAL.items():
        yield _timed(name, functools.partial(method, image, mask))
    for paper, file in files.items():
        yield ask_paper(paper, file, image, mask, **options)


def _timed(name: str, work: Callable[[], np.ndarray]) -> Result:
    start = time.perf_counter()
    try:
        image, problem = work(), ""
    except UserError as mistake:
        image, problem = None, str(mistake)
    return Result(name, image, time.perf_counter() - start, problem)


# ---- the image


def view(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The part of a photo that is worth showing: all of it, or the surroundings of a hole that is small in it.

    Returns:
        top, left, bottom, right, the ends excluded.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, height, width
    side = max(96, 2 * (rows[-1] - rows[0] + 1), 2 * (columns[-1] - columns[0] + 1))
    if 2 * side > min(height, width):
        return 0, 0, height, width
    top = min(max(0, (rows[0] + rows[-1] + 1 - side) // 2), height - side)
    left = min(max(0, (columns[0] + columns[-1] + 1 - side) // 2), width - side)
    return int(top), int(left), int(top + side), int(left + side)


def sheet(image: np.ndarray, mask: np.ndarray, results: list[Result]) -> np.ndarray:
    """The photo, the hole and each result, in captioned cells.

    Args:
        image: uint8 [height, width, 3].
        mask: bool [height, width].

    Returns:
        uint8 [height, width, 3]
    """
    top, left, bottom, right = view(mask)
    part = np.s_[top:bottom, left:right]
    height = round(CELL_PX * min(1.5, (bottom - top) / (right - left)))
    photo = Image.fromarray(_fit(image, height))
    if (bottom - top, right - left) != mask.shape:
        scale = min(CELL_PX / mask.shape[1], height / mask.shape[0])
        corner = [
            (length - round(scale * side)) // 2 for length, side in ((CELL_PX, mask.shape[1]), (height, mask.shape[0]))
        ]
        box = [corner[n % 2] + round(scale * place) for n, place in enumerate((left, top, right, bottom))]
        ImageDraw.Draw(photo).rectangle(box, outline=FRAME, width=3)
    shown = _fit(image[part], height).copy()
    missing = _fit(np.repeat(mask[part][..., None], 3, 2).astype(np.uint8) * 255, height)[..., 0] >= 128
    shown[missing] = checkers(height, CELL_PX)[missing]
    fraction = f"{mask.mean():.0%}" if mask.mean() >= 0.01 else f"{mask.mean():.2%}"
    cells = [
        (np.asarray(photo), "Photo", f"{mask.shape[1]} × {mask.shape[0]} px"),
        (shown, "Hole", f"{fraction} of the photo"),
    ]
    for result in results:
        if result.image is None:
            cells.append((_say(result.problem, height), result.label, "not for this photo"))
        else:
            cells.append((_fit(result.image[part], height), result.label, told_seconds(result.seconds)))
    return _lay_out(cells, height)


def _fit(image: np.ndarray, height: int) -> np.ndarray:
    """The image as large as it can be in a cell, on white."""
    scale = min(CELL_PX / image.shape[1], height / image.shape[0])
    rows, columns = (max(1, round(scale * side)) for side in image.shape[:2])
    cell = np.full((height, CELL_PX, 3), 255, np.uint8)
    top, left = (height - rows) // 2, (CELL_PX - columns) // 2
    cell[top : top + rows, left : left + columns] = resize(image, rows, columns)
    return cell


def checkers(height: int, width: int, side: int = 10) -> np.ndarray:
    """The grey squares by which image editors show that nothing is there: uint8 [height, width, 3]."""
    dark = np.add.outer(np.arange(height) // side, np.arange(width) // side) % 2 == 1
    return np.where(dark[..., None], np.uint8([200] * 3), np.uint8([245] * 3))


def told_seconds(seconds: float) -> str:
    """`1.3 s`, or `40 ms` of what is faster than a tenth of a second."""
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(str(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)


def _say(text: str, height: int) -> np.ndarray:
    cell = Image.new("RGB", (CELL_PX, height), (240, 240, 240))
    lines = textwrap.wrap(text, 34)
    lines = lines[:9] + ["…"] * (len(lines) > 9)
    ImageDraw.Draw(cell).multiline_text((14, 14), "\n".join(lines), INK, _font(TEXT_PX - 3), spacing=5)
    return np.asarray(cell)


def _lay_out(cells: list[tuple[np.ndarray, str, str]], height: int) -> np.ndarray:
    """Cells of (image, name, note) in rows."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    size = (GAP_PX + columns * (CELL_PX + GAP_PX), GAP_PX + rows * (height + CAPTION_PX + GAP_PX))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for n, (image, name, note) in enumerate(cells):
        left = GAP_PX + n % columns * (CELL_PX + GAP_PX)
        top = GAP_PX + n // columns * (height + CAPTION_PX + GAP_PX)
        page.paste(Image.fromarray(image), (left, top))
        draw.text((left, top + height + 8), name, INK, _font(TEXT_PX, bold=True))
        draw.text((left, top + height + 30), note, PALE, _font(TEXT_PX - 3))
    return np.asarray(page)


# ---- command line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if no paper could complete the photo."""
    options = read_photo(argv, __doc__)
    check_output(options.output, SUFFIXES, [options.image, Path(options.mask), *options.weights])
    image = read_image(options.image)
    find_mask = mask_source.Masks(options.mask, options.image, None, options.invert_mask, options.seed)
    mask = photos.read_mask_of(options.image, image, find_mask, options.output)
    report = photos.report_file(options.output, find_mask.file(options.image))
    warning = mask_reader.check_mask(mask, image, report)
    place = open_device(options.device)
    files = choose(options.papers, options.weights)
    print(describe(place))
    if warning:
        print(f"note: {warning}")
    print(f"{options.image}: {image.shape[1]} x {image.shape[0]} px, hole {mask.mean():.2%}")
    for paper, file in files.items():
        load(paper, file)  # apart from what is timed
    results = []
    for result in ask_all(files, image, mask, blend=options.blend, window=options.window, seed=options.seed):
        results.append(result)
        print(f"  {result.label}: {told_seconds(result.seconds) if not result.problem else 'note: ' + result.problem}")
    folder_run.write_result(options.output, sheet(image, mask, results))
    print(f"written: {options.output}")
    if not any(result.image is not None for result in results if result.name in files):
        raise SystemExit(1)
