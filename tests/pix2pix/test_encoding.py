"""What the networks see, against CIELAB computed from its definition, and back."""

import numpy as np
import pytest

from pix2pix import encoding


def lab_by_definition(rgb):
    """sRGB in [0, 1] -> CIE XYZ (D65) -> CIELAB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    xyz = linear @ np.transpose(matrix) / [0.950456, 1.0, 1.088754]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def test_grey_to_colour_sees_lightness_and_learns_the_colour_axes(photo):
    grey, truth = encoding.as_pair(photo, "grey-to-colour")
    assert (np.ptp(grey.astype(int), axis=2) <= 1).all()
    source, target = encoding.to_networks(grey[None], truth[None], "grey-to-colour")
    assert source.shape == [1, 1, 12, 10] and target.shape == [1, 2, 12, 10]
    lab = lab_by_definition(photo / 255)
    np.testing.assert_allclose(source.numpy()[0, 0], lab[..., 0] / 50 - 1, atol=0.02)  # grey is rounded to 8 bit
    np.testing.assert_allclose(target.numpy()[0].transpose(1, 2, 0), lab[..., 1:] / 110, atol=0.02)


def test_colour_comes_back(photo):
    grey, truth = encoding.as_pair(photo, "grey-to-colour")
    _, target = encoding.to_networks(grey[None], truth[None], "grey-to-colour")
    back = encoding.decode(target.numpy()[0], grey, "grey-to-colour")
    assert np.abs(back.astype(int) - photo).mean() < 1.5  # what is lost is the grey image's rounding


def test_coloured_photos_keep_the_lightness_of_their_source_at_its_size(photo):
    source = np.kron(encoding.grey(photo), np.ones((9, 9, 1), np.uint8))
    output = np.zeros((2, 5, 5), np.float32)
    output[0] = 0.1
    done = encoding.decode(output, source, "grey-to-colour")
    assert done.shape == source.shape
    wanted = lab_by_definition(source / 255.0)[..., 0]
    middle = (wanted > 25) & (wanted < 85)  # where the colour lies inside RGB
    assert np.abs(lab_by_definition(done / 255.0)[..., 0] - wanted)[middle].max() < 1.5


def test_directions_by_name():
    photo, label = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    for direction, first in (("photo-to-label", 0), ("label-to-photo", 255)):
        source, target = encoding.as_pair((photo, label), direction)
        assert source[0, 0, 0] == first and target[0, 0, 0] == 255 - first
        a, b = encoding.to_networks(source[None], target[None], direction)
        assert float(a.mean()) == first / 127.5 - 1 == -float(b.mean())
        assert encoding.channels(direction) == (3, 3)


def test_labels_are_enlarged_without_blending():
    output = np.float32([[[-1, 1], [1, -1]]]).repeat(3, 0)
    label = encoding.decode(output, np.zeros((7, 9, 3), np.uint8), "photo-to-label")
    assert label.shape == (7, 9, 3) and set(np.unique(label)) == {0, 255}
    photo = encoding.decode(output, np.zeros((7, 9, 3), np.uint8), "label-to-photo")
    assert len(np.unique(photo)) > 2
