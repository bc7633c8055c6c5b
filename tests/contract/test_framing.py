"""Bundled networks on faces of 178 x 218 px: each sees what it was trained on, and so its default beats Telea.

A default that shows the networks the whole photo fails here, and so does a blending that spoils what they predict.
"""

import importlib
import os
from dataclasses import replace

import numpy as np
import pytest

import weights
from common.datasets.celeba import CelebA
from common.evaluation import image_metrics
from common.imaging.transforms import crop_square
from common.inpainting import baselines
from common.inpainting.tiling import plan
from common.runtime.device import open_device
from compare import photo
from data.faces import draw_face
from dcgan_completion import infer as dcgan

pytestmark = pytest.mark.medium

FACE = 218, 178
BOXES = {  # top, left, bottom, right
    "eyes": (95, 44, 130, 134),
    "centre": (82, 62, 136, 116),
    "large": (69, 49, 149, 129),
    "cheek": (60, 20, 140, 100),
}
OF_WINDOWS = ("context_encoder", "deepfill", "glcic")


def mask_of(kind: str) -> np.ndarray:
    top, left, bottom, right = BOXES[kind]
    mask = np.zeros(FACE, bool)
    mask[top:bottom, left:right] = True
    return mask


def load(paper: str):
    open_device("cpu")
    module = importlib.import_module(f"{paper}.infer")
    return module, module.load(weights.find(weights.of_paper(paper)[0]))


def mean_psnr(images: list, results: list, mask: np.ndarray) -> float:
    return float(
        np.mean([image_metrics.score(*pair, mask)["hole_psnr_db"] for pair in zip(images, results, strict=True)])
    )


def against_telea(paper: str, images: list, kind: str, window: str = "auto") -> float:
    """Decibels by which a paper's defaults are ahead of Telea in the hole, mean of the images."""
    module, network = load(paper)
    mask = mask_of(kind)
    results = module.complete_batch(network, images, [mask] * len(images), window=window)
    classical = [baselines.telea(image, mask) for image in images]
    return mean_psnr(images, results, mask) - mean_psnr(images, classical, mask)


@pytest.mark.parametrize("paper", photo.completing_papers())
def test_the_window_is_the_square_that_training_cut(paper):
    """Found by cutting an image of coordinates as training did, at full size."""
    _, network = load(paper)
    metadata = network.metadata
    rows, columns = np.mgrid[: FACE[0], : FACE[1]].astype(np.uint8)
    side = {"square178": 178, "center108": 108}[metadata["crop"]]
    cut = crop_square(np.dstack([rows, columns, rows]), metadata["crop"], side, None)
    expected = (*cut[0, 0, :2].tolist(), *(cut[-1, -1, :2] + 1).tolist())
    mask = mask_of("eyes") & (columns >= expected[1]) & (columns < expected[3])
    if paper == "dcgan_completion":
        where = dcgan.prepare(network, np.zeros((*FACE, 3), np.uint8), mask, None, "face").where
        assert (where.top, where.left, where.top + where.side, where.left + where.side) == expected
        return
    (seen,) = plan(mask, **importlib.import_module(f"{paper}.infer").trained_on(network))
    assert (seen.top, seen.left, seen.bottom, seen.right) == expected
    assert (seen.height, seen.width) == (metadata["image_px"], metadata["image_px"])


DRAWN = {"glcic": ("eyes", "large"), "deepfill": ("eyes", "cheek"), "context_encoder": ("large",)}


@pytest.mark.parametrize(("paper", "kind"), [(paper, kind) for paper, kinds in DRAWN.items() for kind in kinds])
def test_on_drawn_faces_the_default_beats_telea(paper, kind):
    """Though the networks have seen photographs only."""
    faces = [draw_face(np.random.default_rng((5, n))) for n in range(4)]
    assert against_telea(paper, faces, kind) > 1


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("paper", "kind"),
    [(paper, kind) for paper in OF_WINDOWS for kind in ("eyes", "centre", "large")] + [("dcgan_completion", "eyes")],
)
def test_on_real_faces_the_default_beats_telea(paper, kind):
    """On eight validation faces, and by no less than with the whole photo shown to the network.

    DeepFill's frame has 108 px, of which a mask of 80 px leaves little: there the whole photo is as good.
    """
    data = os.environ.get("SUITE_DATA")
    if not data:
        pytest.skip("SUITE_DATA is not set")
    faces = CelebA(f"{data}/celeba", "val")
    images = [faces[n] for n in range(8)]
    if paper == "dcgan_completion":
        module, network = load(paper)
        short = replace(module.PRESETS["suite"], steps=100, restarts=1)
        results = [module.complete(network, image, mask_of("eyes"), short) for image in images[:2]]
        classical = [baselines.telea(image, mask_of("eyes")) for image in images[:2]]
        assert mean_psnr(images[:2], results, mask_of("eyes")) > mean_psnr(images[:2], classical, mask_of("eyes")) + 1
        return
    gain = against_telea(paper, images, kind)
    assert gain > 0.5 and gain > against_telea(paper, images, kind, "whole") - (1 if kind == "large" else 0)
