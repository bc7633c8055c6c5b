"""Membrane, biharmonic and PatchMatch baselines: known pixels stay, hidden ones are not read, and what each is for."""

import sys

import numpy as np
import pytest

from common.errors import UserError
from common.inpainting import baselines, blending

NEEDS = {"biharmonic": "skimage", "patchmatch": "patchmatch"}
METHODS = {
    "membrane": blending.membrane,
    "biharmonic": baselines.biharmonic,
    "patchmatch": baselines.patchmatch,
}


@pytest.fixture(params=METHODS)
def method(request):
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    return METHODS[request.param]


def square(side=48, low=16, high=32):
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def image(side=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_known_pixels_stay_hidden_ones_are_not_read_and_again_is_the_same(method):
    photo, mask = image(), square() | (np.random.default_rng(1).random((48, 48)) < 0.1)
    other = photo.copy()
    other[mask] = 255 - other[mask]
    filled = method(photo, mask)
    np.testing.assert_array_equal(filled[~mask], photo[~mask])
    np.testing.assert_array_equal(method(other, mask), filled)
    assert filled.dtype == np.uint8 and filled is not photo


@pytest.mark.parametrize("everything", [False, True])
def test_empty_and_full_masks(method, everything):
    photo = image()
    filled = method(photo, np.full((48, 48), everything))
    np.testing.assert_array_equal(filled, np.full_like(photo, 128) if everything else photo)


def test_a_plane_is_continued_by_both_surfaces():
    """A linear function solves Laplace's and the biharmonic equation alike."""
    pytest.importorskip("skimage")
    rows, columns = np.mgrid[:48, :48]
    plane = np.repeat((20 + 2 * rows + 2 * columns)[..., None], 3, 2).astype(np.uint8)
    for fill in (blending.membrane, baselines.biharmonic):
        assert np.abs(fill(plane, square()).astype(int) - plane).max() <= 1


def test_only_the_biharmonic_surface_continues_a_bend():
    """A parabola is no solution of Laplace's equation; a surface of least bending keeps its slope at the rim."""
    pytest.importorskip("skimage")
    columns = np.linspace(-1, 1, 48)
    bowl = np.repeat(np.rint(220 * columns**2).astype(np.uint8)[None, :, None].repeat(48, 0), 3, 2)
    mask = square(48, 14, 34)
    errors = [
        np.abs(fill(bowl, mask).astype(float) - bowl)[mask].mean() for fill in (blending.membrane, baselines.biharmonic)
    ]
    assert errors[1] < errors[0] / 3


def test_patchmatch_continues_a_texture_where_surfaces_blur_it():
    pytest.importorskip("patchmatch")
    stripes = np.repeat((np.arange(64) % 8 < 4)[:, None] * np.uint8(200), 64, 1)
    photo = np.repeat(stripes[..., None], 3, 2)
    mask = square(64, 22, 42)
    errors = [
        np.abs(fill(photo, mask).astype(float) - photo)[mask].mean()
        for fill in (baselines.patchmatch, blending.membrane)
    ]
    assert errors[0] < 10 < 60 < errors[1]


@pytest.mark.parametrize("name, module, package", [("biharmonic", "skimage.restoration", "scikit-image"),
                                                   ("patchmatch", "patchmatch", "PyPatchMatch")])  # fmt: skip
def test_a_missing_package_is_named(monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'needs the package {package}: pip install -e "\.\[metrics\]"'):
        METHODS[name](image(), square())
