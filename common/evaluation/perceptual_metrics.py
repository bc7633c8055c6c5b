"""The metrics that need a network or a whole set, asked for by flags: KID, FID, LPIPS and their like, with protocols.

Values of single images join those of `image_metrics`; values of sets stand in the same rows, with a standard error
where there is one. Every value comes with one line on how it was taken; what had to be left out, with the reason.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from common.deploy.engine import compile_network
from common.errors import UserError
from common.evaluation import distribution_metrics as sets
from common.evaluation import efficientnet_lite0, image_metrics, perceptual_distance, sliced_wasserstein
from common.evaluation import inception as inception_v3
from common.evaluation.feature_images import BATCH, in_batches
from common.evaluation.options import MetricOptions

Features = Callable[[list[np.ndarray]], np.ndarray]


class PerceptualMetrics:
    """The metrics that some options ask for, their networks loaded.

    Attributes:
        notes: one line for each metric: its protocol, or why it was left out. Complete after `of_sets`.

    Raises:
        UserError: a file or a package is missing or of another network.
    """

    def __init__(self, options: MetricOptions):
        self.options = options
        self.notes: list[str] = []
        self.networks: dict[str, Features] = {}
        self.lite0 = self.lpips = None
        if options.perceptual:
            lite0 = efficientnet_lite0.load()
            compiled = compile_network(lite0, "batch")
            self.lite0 = compile_network(efficientnet_lite0.Stages(lite0), "batch")
            self.networks["lite0"] = lambda images: efficientnet_lite0.features(compiled, images)
        if options.inception:
            network = compile_network(inception_v3.load(options.inception), "batch")
            self.networks["inception"] = lambda images: inception_v3.features(network, images, options.fid_resize)
        if options.lpips_backbone:
            self.lpips = perceptual_distance.load_lpips(options.lpips_backbone)

    def of_images(self, truth: np.ndarray, completed: dict[str, np.ndarray]) -> dict[str, list[dict[str, float]]]:
        """Values of each image, uint8 [N, H, W, 3], by the method's name; empty if none is asked for."""
        scores: dict[str, list] = {name: [{} for _ in truth] for name in completed}
        measures = {}
        if self.lite0 is not None:
            measures["lpd_lite0"] = lambda a, *made: perceptual_distance.lpd_lite0(self.lite0, a, *made)
        if self.lpips is not None:
            measures[f"lpips_{self.lpips.kind}"] = self.lpips
        if self.options.perceptual and min(truth.shape[1:3]) >= image_metrics.MS_SSIM_PX:
            measures["ms_ssim"] = lambda a, *made: [[*map(image_metrics.ms_ssim, a, each)] for each in made]
        for name, measure in measures.items():
            batches = zip(in_batches(truth), *map(in_batches, completed.values()), strict=True)
            places = range(0, len(truth), BATCH)
            for first, batch in tqdm(zip(places, batches, strict=True), name, len(places), leave=False, delay=2):
                for rows, values in zip(scores.values(), measure(*batch), strict=True):
                    for each, value in zip(rows[first : first + BATCH], values, strict=True):
                        each[name] = float(value)
        return scores

    def of_sets(
        self, truth: np.ndarray, completed: dict[str, np.ndarray], references: Iterable[np.ndarray] | None = None
    ) -> dict[str, dict[str, tuple[float, float]]]:
        """Values of each method's whole set, by its name: (value, standard error, nan if there is none).

        Args:
            references: real images in place of the truth, for KID and FID; they may be a stream longer than memory.
        """
        rows: dict[str, dict] = {name: {} for name in completed}
        self.notes = list(self._notes_of_images(truth))
        for network, features in self.networks.items():
            truths = feature_set(features, truth)
            real = truths if references is None else feature_set(features, references)
            for name, images in tqdm(completed.items(), "scores of sets", leave=False, delay=2):
                made = feature_set(features, images)
                rows[name] |= dict(self._compare(network, truths, real, made, references is not None))
        if self.options.perceptual:
            self._add_swd(truth, completed, rows)
        self.notes = list(dict.fromkeys(self.notes))
        return rows

    def _compare(self, network: str, truths, real, made, other: bool) -> Iterator[tuple[str, tuple[float, float]]]:
        """Yields the values of one set by one network's features, and notes how they were taken."""
        how, side, name, key = self.options.fid_resize, inception_v3.SIDE_PX, "", ""
        if network == "lite0":
            how, side, name, key = "clean", efficientnet_lite0.SIDE_PX, "Lite0", "_lite0"
        against = f"{made.count:,} images against {real.count:,} " + ("references" if other else "originals")
        protocol = f"{against}, resized to {side} px ({how})"
        title = "KID" + f"-{name}" * bool(name)
        for value in self._try(lambda: sets.kid(real, made), title):
            self.notes.append(
                f"{title} x 1000: {protocol}; ± by {sets.SUBSETS} subsets of "
                f"{min(sets.SUBSET_SIZE, min(real.count, made.count) // 2):,}"
            )
            yield f"kid{key}_x1000", tuple(1000 * each for each in value)
        if not name:
            for value in self._try(lambda: sets.fid(real, made), "FID"):
                self.notes.append(f"FID: {protocol}")
                yield "fid", (value, float("nan"))
        title = "P-IDS and U-IDS" + f" ({name})" * bool(name)
        for paired, wrong in self._try(lambda: sets.discriminative_scores(truths, made), title):
            self.notes.append(f"{title}, %: {made.count:,} pairs, resized to {side} px ({how})")
            yield f"p_ids{key}_percent", (paired, float("nan"))
            yield f"u_ids{key}_percent", (wrong, float("nan"))

    def _try(self, measure: Callable, title: str) -> Iterator:
        """Yields the value, or notes why there is none: a run is not lost for one metric."""
        try:
            yield measure()
        except UserError as problem:
            self.notes.append(f"{title} left out: {problem}")

    def _notes_of_images(self, truth: np.ndarray) -> Iterator[str]:
        size = f"{truth.shape[2]} x {truth.shape[1]} px, not resized"
        if self.lite0 is not None:
            yield f"LPD-Lite0: {size}; mean over images"
        if self.lpips is not None:
            yield f"LPIPS ({self.lpips.kind}, v0.1): {size}; mean over images"
        if self.options.perceptual and min(truth.shape[1:3]) < image_metrics.MS_SSIM_PX:
            yield f"MS-SSIM left out: it needs {image_metrics.MS_SSIM_PX} px"

    def _add_swd(self, truth: np.ndarray, completed: dict[str, np.ndarray], rows: dict) -> None:
        real = sliced_wasserstein.PatchSet()
        real.add(truth)
        for name, images in completed.items():
            made = sliced_wasserstein.PatchSet()
            made.add(images)
            found = sliced_wasserstein.distances(real, made)
            rows[name]["swd_x1000"] = (float(np.mean(list(found.values()))), float("nan"))
        levels = ", ".join(map(str, found))
        self.notes.append(
            f"SWD x 1000: mean over the levels of {levels} px; {real.count:,} images, "
            f"{sliced_wasserstein.PATCHES_PER_IMAGE} patches each, the same places in both sets"
        )


def feature_set(features: Features, images: Iterable[np.ndarray]) -> sets.FeatureSet:
    """The features of a stream of uint8 images, in bounded memory."""
    found = sets.FeatureSet()
    for batch in in_batches(images):
        found.add(features(batch))
    return found
