"""One evaluation set, completed by networks, by baselines and by whoever left results in a folder, and scored alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.datasets.celeba import find_celeba
from common.datasets.image_folder import ImageFolder, announce
from common.datasets.paired_images import open_photos
from common.errors import UserError, first_few
from common.evaluation import linear_floors, protocol, results_folder
from common.evaluation.mask_files import masks_from_folder
from common.evaluation.options import ScoringSettings
from common.evaluation.perceptual_metrics import PerceptualMetrics
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
    return masked(open_images(dataset, side_px, crop, limit, seed), kind, shapes)


def open_images(dataset, side_px: int, crop: Crop, limit: int, seed: int = 0) -> EvaluationSet:
    """The first `limit` readable images of a set, nothing missing in them yet."""
    names, images = zip(*protocol.cut_each(dataset, side_px, crop, limit), strict=True)
    return EvaluationSet([*names], np.stack(images), np.zeros((len(images), side_px, side_px), bool), "", seed, crop)


def masked(test: EvaluationSet, kind: str, shapes: Shapes | None = None) -> EvaluationSet:
    """The set with numbered masks of a kind, or with those of a folder."""
    if kind not in benchmark_sets.KINDS and Path(kind).is_dir():
        return with_folder(test, Path(kind))
    side = test.images.shape[1]
    masks, _ = benchmark_sets.evaluation_masks(kind, len(test.images), side, side, test.seed, shapes)
    return with_masks(test, masks, kind)


def with_folder(test: EvaluationSet, folder: Path) -> EvaluationSet:
    """The set with the masks of a folder."""
    crop = protocol.evaluation_crop(test.crop)
    masks, note = masks_from_folder(folder, test.names, test.images.shape[1], crop, test.seed)
    print(note)
    return replace(test, masks=masks, kind=str(folder), note=note)


def with_masks(test: EvaluationSet, masks: np.ndarray, kind: str) -> EvaluationSet:
    """The set with a paper's own masks."""
    return replace(test, masks=masks, kind=kind, note="")


def open_data(options: ScoringSettings):
    """The images to score, announced."""
    dataset = open_photos(options.data_dir, options.split, options.pairs)
    announce(dataset, options.data_dir, f"{dataset.split} images")
    return dataset


def facts(options: ScoringSettings, metadata: dict, dataset) -> dict:
    """What a result says of the weights and the data, as JSON values."""
    return {
        "preset": metadata.get("preset", ""),
        "steps": metadata.get("step", 0),
        "data": str(options.data_dir),
        "split": dataset.split,
        "data_notes": dataset.notes,
    }


def check(test: EvaluationSet, options: ScoringSettings) -> None:
    """Reads the folders of results and looks at that of references, before the work, which may take long.

    Raises:
        UserError: as `results_folder.read_results`, or there are no references.
    """
    for folder in options.results:
        unused = results_folder.find_results(folder, test.names)[1]
        if unused:
            print(f"note: {len(unused)} images in {folder} are not of this set: {first_few([p.name for p in unused])}")
        results_folder.read_results(folder, test.names, test.images, test.masks)
    if options.references:
        announce(open_references(options.references), options.references, "references")


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
        results_folder.write_inputs(test.images, test.masks, options.write_inputs)
    for folder in options.results:
        made = results_folder.read_results(folder, test.names, test.images, test.masks)
        rows[row_name(folder, rows)] = made
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


def row_name(folder: Path, rows: Iterable[str]) -> str:
    """What the row of a folder of results is called: as the folder; by its whole path, if a row is called so."""
    name = folder.resolve().name
    return str(folder) if name in {*rows, *protocol.FAST, *protocol.SLOW} else name


def open_references(folder: Path):
    """The training images of CelebA, all images of any other folder or zip."""
    if not folder.exists():
        raise UserError(f"there is no folder of references {folder}")
    if find_celeba(folder):
        return open_photos(folder, "train", False)
    return ImageFolder(folder, "all")


def reference_images(options: ScoringSettings, test: EvaluationSet) -> Iterator[np.ndarray]:
    """Streams the reference images, cropped as the set is."""
    dataset = open_references(options.references)
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
