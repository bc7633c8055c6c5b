"""Drawn streets: Cityscapes' colours and proportions, labels that fit their photos, no class told by its colour."""

import numpy as np
import pytest

from data.streets import Canvas, draw_street, sample_street

CITYSCAPES = {  # from the data set's own table of labels
    **{"road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156)},
    **{"fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30)},
    **{"traffic sign": (220, 220, 0), "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180)},
    **{"person": (220, 20, 60), "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100)},
    **{"train": (0, 80, 100), "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32), "void": (0, 0, 0)},
}
NAMES = list(CITYSCAPES)
VOID = NAMES.index("void")

# Percent of all pixels. 900 real pairs (256 x 256, decoded to the nearest colour) have: road 34, building 20,
# vegetation 15, car 6.4, sidewalk 4.7, sky 3.3, fence 1.7, bicycle 1.7, terrain 1.3, wall 1.2, pole 1.0, person 0.7,
# traffic sign 0.4, traffic light 0.2, void 6.8.
BOUNDS = {
    **{"road": (26, 40), "building": (16, 28), "vegetation": (10, 21), "sidewalk": (3.5, 8.5), "car": (4, 9)},
    **{"sky": (2, 7), "fence": (0.3, 2), "wall": (0.2, 2), "pole": (0.6, 2), "traffic sign": (0.3, 1.5)},
    **{"traffic light": (0.05, 0.5), "terrain": (0.3, 3), "person": (0.4, 1.6), "rider": (0.03, 0.5)},
    **{"truck": (0.1, 1.5), "bicycle": (0.4, 2), "void": (3, 8)},
}


def classes(label: np.ndarray) -> np.ndarray:
    """Class numbers, in the order of CITYSCAPES, of a label that holds these colours and no others."""
    numbers = np.full(label.shape[:-1], -1)
    for number, colour in enumerate(CITYSCAPES.values()):
        numbers[(label == colour).all(-1)] = number
    return numbers


@pytest.fixture(scope="module")
def streets() -> tuple[np.ndarray, np.ndarray]:
    """Photos uint8 and class numbers of 60 streets: [60, 256, 256, 3] and [60, 256, 256]."""
    pairs = [draw_street(np.random.default_rng((11, index))) for index in range(60)]
    return np.stack([photo for photo, _ in pairs]), np.stack([classes(label) for _, label in pairs])


def test_one_seed_gives_one_street():
    first, again, other = (draw_street(np.random.default_rng(seed)) for seed in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        assert one.shape == (256, 256, 3) and one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
    assert (first[0] != other[0]).mean() > 0.9
    assert (first[1] != other[1]).mean() > 0.1


@pytest.mark.medium
def test_labels_hold_the_colours_of_cityscapes_and_no_others(streets):
    _, labels = streets
    assert labels.min() >= 0  # -1 is any other colour
    assert len(CITYSCAPES) == 20
    assert set(np.unique(labels)) == set(range(20))  # each class turns up somewhere in 60 streets


@pytest.mark.parametrize("name", BOUNDS)
def test_classes_are_about_as_frequent_as_in_real_streets(streets, name):
    percent = 100 * (streets[1] == NAMES.index(name)).mean()
    low, high = BOUNDS[name]
    assert low < percent < high


def test_most_streets_have_all_that_makes_a_street(streets):
    _, labels = streets
    fractions = {name: (labels == number).any((1, 2)).mean() for number, name in enumerate(NAMES)}
    for name in ("road", "building", "sidewalk", "vegetation"):
        assert fractions[name] > 0.95
    for name in ("sky", "car", "pole", "traffic sign", "person"):
        assert fractions[name] > 0.8
    for name in ("traffic light", "bicycle", "fence", "wall", "terrain"):
        assert fractions[name] > 0.3


def test_camera_projects_by_the_rules_of_perspective():
    street = sample_street(np.random.default_rng(0))
    straight = dict.fromkeys(("bend", "climb"), 0.0) | {"centre": 128.0, "horizon": 110.0, "height": 1.25}
    canvas = Canvas(type(street)(**(vars(street) | straight)))
    corners = np.array([(0, 1.25, 7), (2, 1.25, 40), (1, 0.25, 10), (1, 0.25, 20)], np.float64)
    u, v = ((canvas.project(corners, scale=1) + 8) / 16).T  # 4 fractional bits, pixel centres at whole numbers
    assert v[:2] == pytest.approx([110, 110], abs=0.07)  # whatever is as high as the camera lies on the horizon
    # Cityscapes' camera: focal length 2262 px for a frame of 2048 x 1024, here squashed to 256 x 256.
    assert u[2:] - 128 == pytest.approx([2262 / 8 / 10, 2262 / 8 / 20], abs=0.1)
    assert v[2:] - 110 == pytest.approx([2262 / 4 / 10, 2262 / 4 / 20], abs=0.1)


def test_sky_is_above_and_the_road_widens_towards_us(streets):
    _, labels = streets
    road, sky = labels == NAMES.index("road"), labels == NAMES.index("sky")
    rows = np.broadcast_to(np.arange(256)[:, None], (256, 256))
    for one_road, one_sky in zip(road, sky, strict=True):
        if one_sky.any():
            assert np.median(rows[one_sky]) < np.median(rows[one_road]) - 60
    widths = road.mean(0).sum(1)[[120, 140, 160, 180, 200, 220]]
    assert (np.diff(widths) > 8).all()
    assert road[:, 215, 128].mean() > 0.9  # right before the bonnet


@pytest.mark.parametrize("axis", [1, 2])
def test_edges_of_the_label_are_edges_of_the_photo(streets, axis):
    """To the pixel: a photo moved by one pixel against its label fits only half as well."""
    photos, labels = streets
    change = np.abs(np.diff(photos.astype(np.int16), axis=axis)).sum(3)
    border = np.diff(labels, axis=axis) != 0
    energy = {shift: np.roll(change, shift, axis)[border].mean() for shift in range(-3, 4)}
    assert energy[0] > 3 * change[~border].mean()  # measured: 4.2 and 4.6
    for shift in (-3, -2, -1, 1, 2, 3):
        assert energy[shift] < 0.65 * energy[0]  # measured: at most 0.53


def test_neither_colour_nor_place_alone_tells_the_class(streets):
    """Guesses learned from 40 streets, scored on the pixels of 20 others."""
    photos, labels = streets[0][:, ::4, ::4], streets[1][:, ::4, ::4]
    scored = labels[40:] != VOID

    def accuracy(guess):
        return (guess == labels[40:])[scored].mean()

    means = np.stack([photos[:40][labels[:40] == number].mean(0) for number in range(19)])
    distance = ((photos[40:, :, :, None] - means) ** 2).sum(-1)
    assert accuracy(distance.argmin(-1)) < 0.3  # the nearest mean colour; measured: 0.09

    cells = (photos // 16).astype(np.int64) @ (256, 16, 1)
    counts = np.zeros((4096, 20))
    np.add.at(counts, (cells[:40], labels[:40]), 1)
    assert accuracy(counts[cells[40:], :19].argmax(-1)) < 0.65  # the likeliest class of each colour; measured: 0.49

    likeliest = np.stack([(labels[:40] == number).sum(0) for number in range(19)]).argmax(0)
    assert 0.4 < accuracy(likeliest[None]) < 0.7  # the likeliest class of each place; measured: 0.56


def test_light_and_colours_vary(streets):
    photos, labels = streets
    for name, spread in (("road", 15), ("building", 15), ("sky", 25), ("car", 12)):
        chosen = labels == NAMES.index(name)
        levels = [photo[part].mean() for photo, part in zip(photos, chosen, strict=True) if part.sum() > 200]
        assert np.std(levels) > spread
