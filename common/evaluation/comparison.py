"""One evaluation set, completed by networks, by baselines and by whoever left results in a folder, and scored alike."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.datasets.image_folder import announce
from common.datasets.paired_images import open_photos
from common.errors import UserError
from common.evaluation import linear_floors, protocol
from common.evaluation.mask_files import masks_from_folder
from common.evaluation.options import ScoringSettings
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.folders import find_images
from common.imaging.io import read_image, write_image
from common.imaging.transforms import Crop
from common.masks import benchmark_sets
from common.masks.irregular import Shapes

VALIDATION_IMAGES = 100  # on which the linear baselines choose their regularisation


@dataclass(frozen=True)
class EvaluationSet:
    """Images cut to one size, uint8 [N, side, side, 3], with a mask each, bool [N, side, side].

    Attributes:
        names: of the images below their folder; "" where the data have none.
        kind: the masks' kind, or their folder.
        note: one line on masks from a folder.
    """

    names: list[str]
    images: np.ndarray
    masks: np.ndarray
    kind: str
    seed: int
    crop: Crop
    note: str = ""


def open_set(
    dataset, side_px: int, crop: Crop, kind: str, limit: int, seed: int = 0, shapes: Shapes | None = None
) -> EvaluationSet:
    """The first `limit` readable images of a set with their numbered masks, or with those of a folder.

    Args:
        kind, seed, shapes: see `benchmark_sets.evaluation_masks`; `kind` may be a folder of mask files.

    Raises:
        UserError: no image can be read, or there are no masks of that kind.
    """
    named = list(protocol.cut_each(dataset, side_px, crop, limit))
    names, images = [name for name, _ in named], np.stack([image for _, image in named])
    test = EvaluationSet(names, images, np.zeros(images.shape[:3], bool), kind, seed, crop)
    if kind not in benchmark_sets.KINDS and Path(kind).is_dir():
        return with_folder(test, Path(kind))
    return with_masks(test, benchmark_sets.evaluation_masks(kind, len(images), side_px, side_px, seed, shapes)[0], kind)


def with_folder(test: EvaluationSet, folder: Path) -> EvaluationSet:
    """The set with the masks of a folder."""
    crop = protocol.evaluation_crop(test.crop)
    masks, note = masks_from_folder(folder, test.names, test.images.shape[1], crop, test.seed)
    print(note)
    return replace(test, masks=masks, kind=str(folder), note=note)


def with_masks(test: EvaluationSet, masks: np.ndarray, kind: str) -> EvaluationSet:
    """The set with a paper's own masks."""
    return replace(test, masks=masks, kind=kind, note="")


def compare(
    test: EvaluationSet,
    completed: dict[str, np.ndarray],
    options: ScoringSettings,
    metrics: PerceptualMetrics,
    data_dir: Path,
    classical: dict[str, np.ndarray] | None = None,
) -> dict:
    """Scores completions beside the baselines and the folders of results that the options ask for.

    Args:
        completed: uint8 [N, side, side, 3] by the method's name: the learned ones.
        classical: likewise of the baselines; None computes them.

    Returns:
        `protocol.scored`, with the names of the baselines, the metrics' protocols and each image's scores.
    """
    rows = dict(completed)
    if options.write_inputs:
        write_inputs(test, options.write_inputs)
    for folder in options.results:
        rows[_row_name(folder, rows)] = read_results(folder, test)
    baselines, notes = dict(classical or {}), []
    if classical is None:
        baselines, notes = protocol.complete_with_baselines(test.images, test.masks, options.baselines)
    if options.linear_floor_images:
        baselines |= linear_baselines(test, data_dir, options)
    rows |= baselines
    references = None
    if options.references:
        references = reference_images(options, test)
    result = protocol.scored(test.images, test.masks, rows, test.kind, test.seed, metrics, references)
    result["metric_notes"] += notes
    return result | {"names": test.names, "learned": [*completed], "baselines": [*baselines], "masks_note": test.note}


def reference_images(options: ScoringSettings, test: EvaluationSet) -> Iterator[np.ndarray]:
    """Streams the reference images, cropped as the set is."""
    dataset = open_photos(options.references, "train", False)
    announce(dataset, options.references, "references")
    return (image for _, image in protocol.cut_each(dataset, test.images.shape[1], test.crop, len(dataset)))


def linear_baselines(test: EvaluationSet, data_dir: Path, options: ScoringSettings) -> dict[str, np.ndarray]:
    """Completions by PCA and, where all masks are one, by ridge regression, fitted on the train and val splits."""
    side, count = test.images.shape[1], options.linear_floor_images
    train, held_out = (
        protocol.cut_images(open_photos(data_dir, split, options.pairs), side, test.crop, limit)
        for split, limit in (("train", count), ("val", VALIDATION_IMAGES))
    )
    pca = linear_floors.PCA(train, held_out, [test.masks[n % len(test.masks)] for n in range(len(held_out))])
    pairs = list(zip(test.images, test.masks, strict=True))
    found = {
        f"PCA ({len(pca.components)})": np.stack([pca.complete(*pair) for pair in tqdm(pairs, "PCA", leave=False)])
    }
    if (test.masks == test.masks[0]).all():
        ridge = linear_floors.Ridge(train, held_out, test.masks[0])
        found["ridge regression"] = np.stack([ridge.complete(image) for image in test.images])
    return found


# ---- other methods' results


def file_name(index: int) -> str:
    return f"{index:05}.png"


def write_inputs(test: EvaluationSet, folder: Path) -> None:
    """Writes images/00000.png …, masks/ (white is missing) and masked/ (the mask grey), for other methods to read."""
    try:
        for part in ("images", "masks", "masked"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"cannot write to {folder}: {problem.strerror or problem}") from None
    for n, (image, mask) in enumerate(zip(test.images, test.masks, strict=True)):
        write_image(folder / "images" / file_name(n), image)
        write_image(folder / "masks" / file_name(n), np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255)
        write_image(folder / "masked" / file_name(n), np.where(mask[..., None], np.uint8(128), image))
    print(f"written: {len(test.images)} images, masks and masked images to {folder}; name results as they are named")


def read_results(folder: Path, test: EvaluationSet) -> np.ndarray:
    """Completions from a folder, uint8 [N, side, side, 3], known pixels set to the originals.

    A result has the number of its image (00000.png, any suffix) or the name of the image; grey ones are read as RGB.

    Raises:
        UserError: results are missing, there are two for an image, they are corrupt, or their sizes differ; all such
            are listed.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder of results {folder}")
    found: dict[str, list[Path]] = {}
    for path in find_images(folder):
        found.setdefault(path.stem, []).append(path)
    chosen, problems = [], []
    for n, name in enumerate(test.names):
        stems = [Path(file_name(n)).stem, *([Path(name).stem] if name else [])]
        files = next((found[stem] for stem in stems if stem in found), [])
        if len(files) != 1:
            problems.append(f"{stems[0]} {'has ' + str(len(files)) + ' files' if files else 'is missing'}")
        chosen.append(files[0] if files else None)
    _raise_listed(folder, problems)
    results = []
    for path, image, mask in zip(chosen, test.images, test.masks, strict=True):
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
    _raise_listed(folder, problems)
    return np.stack(results)


def _raise_listed(folder: Path, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(
            f"{len(problems)} results in {folder} cannot be scored: {', '.join(problems[:5])}{more}; "
            "--write-inputs writes the images, masks and names of this set"
        )


def _row_name(folder: Path, rows: dict) -> str:
    name = folder.resolve().name
    return name if name not in rows else str(folder)
