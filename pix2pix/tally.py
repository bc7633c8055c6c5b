"""Sums of one row of an evaluation's table: classes of pixels over the set, and the nearness of each image."""

import numpy as np

from common.datasets.paired_images import CLASSES
from common.evaluation import image_metrics


class Tally:
    """Sums of one row of the table: a histogram of classes, and the nearness of images."""

    def __init__(self):
        self.histogram = 0
        self.nearness = []

    def count(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds one image's class ids."""
        self.histogram = self.histogram + image_metrics.class_histogram(truth, found)

    def compare(self, truth: np.ndarray, image: np.ndarray) -> None:
        """Adds one image's L1, PSNR and SSIM."""
        scores = {"l1_percent": image_metrics.l1(truth, image), "psnr_db": image_metrics.psnr(truth, image)}
        self.nearness.append({**scores, "ssim": image_metrics.ssim(truth, image)})

    def scores(self) -> dict:
        """JSON values: score name -> value, or [mean, standard error] where images are averaged."""
        found = image_metrics.segmentation_scores(self.histogram) if isinstance(self.histogram, np.ndarray) else {}
        return {**found, **(image_metrics.summarise(self.nearness) if self.nearness else {})}


def majority(frequency: np.ndarray) -> Tally:
    """The row of a network that sees one class everywhere."""
    tally = Tally()
    tally.histogram = np.zeros((len(CLASSES), len(CLASSES) + 1), np.int64)
    tally.histogram[:, int(np.argmax(frequency))] = frequency
    return tally
