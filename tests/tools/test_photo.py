"""All papers on one photo, and the labelled image; the examples that come with the suite."""

from pathlib import Path

import numpy as np
import pytest

import weights
from common.datasets.paired_images import PALETTE
from common.errors import UserError
from common.imaging.folders import find_images
from common.imaging.io import read_image, write_image
from common.inpainting import baselines
from common.masks.reader import read_mask
from common.runtime.device import open_device
from compare import photo
from data import draw_examples
from data.faces import draw_face
from data.streets import draw_street

pytestmark = pytest.mark.medium

EXAMPLES = Path(__file__).parents[2] / "data/examples"
FAST = ("glcic", "deepfill")  # the others take their time


@pytest.fixture(scope="module")
def example():
    open_device("cpu")
    image = read_image(EXAMPLES / "faces/drawn_1.png")
    return image, read_mask(EXAMPLES / "masks/drawn_1.png", *image.shape[:2])


def test_every_method_gives_what_its_own_function_gives(example):
    from deepfill.infer import complete, load

    image, mask = example
    results = {one.name: one for one in photo.ask_all(photo.choose(FAST, ()), image, mask)}
    assert list(results) == ["navier_stokes", "telea", *FAST]
    assert np.array_equal(results["telea"].image, baselines.telea(image, mask))
    assert np.array_equal(results["deepfill"].image, complete(load(weights.find("deepfill_faces")), image, mask))
    for one in results.values():
        assert one.seconds > 0 and not one.problem and np.array_equal(one.image[~mask], image[~mask])


def test_options_reach_the_papers_that_know_them(example):
    from deepfill.infer import complete

    image, mask = example
    ((paper, file),) = photo.choose(("deepfill",), ()).items()
    lines = np.zeros_like(mask)
    lines[100:130, 88:90] = True
    given = {"blend": "poisson", "window": "mask", "lines": lines, "seed": 3}
    result = photo.ask_paper(paper, file, image, mask, **given)
    own = complete(photo.load(paper, file), image, mask, lines, "poisson", "mask")
    assert np.array_equal(result.image, own)


def test_networks_are_loaded_once():
    ((paper, file),) = photo.choose(("glcic",), ()).items()
    assert photo.load(paper, file) is photo.load(paper, file)


def test_networks_are_compiled_when_there_is_enough_work(example, eager_for_a_moment):
    image, mask = example
    ((paper, file),) = photo.choose(("glcic",), ()).items()
    photo.load.cache_clear()
    first, second = (photo.ask_paper(paper, file, image, mask).image.astype(int) for _ in range(2))
    photo.load.cache_clear()
    assert len(eager_for_a_moment()) == 1
    assert abs(first - second).max() <= 1  # a grey level, by rounding
    assert np.array_equal(second[~mask], image[~mask])


def test_what_a_paper_cannot_complete_is_told_in_its_cell(example):
    """A DCGAN of faces knows nothing outside the face's square: 108 of the 178 px of an aligned face."""
    image, _ = example
    mask = np.zeros(image.shape[:2], bool)
    mask[2:20, 2:20] = True
    ((paper, file),) = photo.choose(("dcgan_completion",), ()).items()
    result = photo.ask_paper(paper, file, image, mask)
    assert result.image is None and "beyond the face window" in result.problem
    assert photo.sheet(image, mask, [result]).shape[1] == 16 + 3 * (300 + 16)


def test_unknown_papers_are_named():
    with pytest.raises(UserError, match="'nothing'.*choose from"):
        photo.choose(("nothing",), ())
    with pytest.raises(UserError, match="'pix2pix'"):
        photo.choose(("pix2pix",), ())


def test_papers_stand_in_the_order_of_their_years():
    assert photo.in_order({"deepfill", "zzz", "glcic", "context_encoder"}) == [
        "context_encoder", "glcic", "deepfill", "zzz",
    ]  # fmt: skip


def test_a_small_hole_is_shown_close():
    """Twice the hole around its middle, at least 96 px, moved into the photo; a large hole with all of the photo."""
    mask = np.zeros((400, 600), bool)
    mask[190:260, 290:330] = True
    assert photo.view(mask) == (155, 240, 295, 380)
    corner = np.zeros((400, 600), bool)
    corner[395:, 595:] = True
    assert photo.view(corner) == (304, 504, 400, 600)
    mask[100:390] = True
    assert photo.view(mask) == photo.view(~(mask | True)) == (0, 0, 400, 600)


def test_the_sheet_shows_photo_hole_and_results(example):
    """In cells of 300 px, the photo's colours in the middle of theirs."""
    image = np.full((120, 100, 3), (10, 200, 30), np.uint8)
    mask = np.zeros((120, 100), bool)
    mask[40:80, 30:70] = True
    red = np.full_like(image, (250, 0, 0))
    sheet = photo.sheet(image, mask, [photo.Result("telea", red, 0.01)])
    assert sheet.shape == (16 + 360 + 52 + 16, 16 + 3 * (300 + 16), 3)
    middle = 16 + 180
    assert sheet[middle, 16 + 150].tolist() == [10, 200, 30] and sheet[middle, 16 + 2 * 316 + 150].tolist() == [
        250,
        0,
        0,
    ]
    seen = sheet[middle - 50 : middle + 50, 16 + 316 + 100 : 16 + 316 + 200].reshape(-1, 3)
    assert set(map(tuple, seen.tolist())) == {(200, 200, 200), (245, 245, 245)}


def test_command(tmp_path, capsys):
    face, mask = EXAMPLES / "faces/drawn_1.png", EXAMPLES / "masks/drawn_1.png"
    common, image = ["--device", "cpu", "--papers", *FAST], ["--image", str(face)]
    photo.main([*common, *image, "--output", str(tmp_path / "out.png"), "--mask", str(mask), "--blend", "poisson"])
    told = capsys.readouterr().out
    assert "GLCIC, 2017: " in told and "DeepFill v2, 2019: " in told and "hole 7.51%" in told
    assert read_image(tmp_path / "out.png").shape[1] == 16 + 4 * (300 + 16)
    for wrong in ([*image, "--mask", "nowhere.png"], ["--image", "nowhere.png"], [*image, "--seed", "-1"]):
        with pytest.raises(SystemExit) as stop:
            photo.main([*common, "--output", str(tmp_path / "no.png"), *wrong])
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_exit_status_when_no_paper_can(tmp_path):
    mask = np.zeros((218, 178), np.uint8)
    mask[2:20, 2:20] = 255
    write_image(tmp_path / "mask.png", mask)
    given = ["--image", str(EXAMPLES / "faces/drawn_1.png"), "--mask", str(tmp_path / "mask.png"), "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        photo.main([*given, "--papers", "dcgan_completion", "--output", str(tmp_path / "out.png")])
    assert stop.value.code == 1 and (tmp_path / "out.png").exists()


# ---- the examples


def test_examples_belong_together_and_are_small():
    for images, masks in (("faces", "masks"), ("photo", "photo_mask")):
        for image in find_images(EXAMPLES / images):
            mask = read_mask(EXAMPLES / masks / f"{image.stem}.png", *read_image(image).shape[:2])
            assert 0.005 < mask.mean() < 0.3
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file()) < 1_000_000
    told = (EXAMPLES / "README.md").read_text()
    assert all(f"{folder.name}/" in told for folder in EXAMPLES.iterdir() if folder.is_dir())


def test_drawn_examples_are_what_the_suite_draws():
    for place, number in enumerate(draw_examples.FACES, 1):
        drawn = draw_face(np.random.default_rng((0, number)))
        kept = read_image(EXAMPLES / f"faces/drawn_{place}.png")
        assert np.abs(drawn.astype(int) - kept).mean() < 1  # other builds of OpenCV round otherwise
    for place, number in enumerate(draw_examples.STREETS, 1):
        label = read_image(EXAMPLES / f"labels/drawn_{place}.png")
        assert (draw_street(np.random.default_rng((0, number)))[1] == label).all(axis=2).mean() > 0.99
        colours = {tuple(colour) for colour in np.unique(label.reshape(-1, 3), axis=0).tolist()}
        assert colours <= {tuple(colour) for colour in PALETTE.tolist()} | {(0, 0, 0)}


def test_the_portrait_is_turned_to_the_eyes_of_celeba(monkeypatch):
    """A dot on each eye comes to (69.5, 111.5) and (107.5, 111.5) of 178 x 218."""
    portrait = np.zeros((512, 512, 3), np.uint8)
    for x, y in draw_examples.EYES:
        portrait[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] = 255
    light = draw_examples.align(portrait)[..., 0].astype(float)
    rows, columns = np.mgrid[0:218, 0:178]
    for half, (x, y) in ((np.s_[:, :89], (69.5, 111.5)), (np.s_[:, 89:], (107.5, 111.5))):
        weight = light[half] / light[half].sum()
        assert abs((weight * columns[half]).sum() - x) < 0.7 and abs((weight * rows[half]).sum() - y) < 0.7
