"""Holes for photos, one photo, and folders of them: what is written, what is told, and what is left alone."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.imaging.io import read_image, write_image
from common.inpainting import folder_run, mask_source, photos
from common.inpainting.tiling import plan

windows = partial(plan, network_px=32)


def photo(path, height=40, width=50):
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_image(path, image)
    return image


def negative(images, masks):
    """A network: the hole becomes the photo's negative, so that every result tells whose it is."""
    return [np.where(mask[..., None], 255 - image, image) for image, mask in zip(images, masks, strict=True)]


def drawn_mask(path, shape=(40, 50), value=255):
    """An image with a hole of 15 x 20 px, rows 5 to 20 and columns 10 to 30."""
    drawn = np.zeros(shape, np.uint8)
    drawn[5:20, 10:30] = value
    write_image(path, drawn)
    return drawn > 0


# ---- masks

IMAGE = np.zeros((64, 96, 3), np.uint8)
PHOTO = Path("photos/face.jpg")


@pytest.mark.parametrize("kind", mask_source.SAMPLED)
def test_every_kind_of_hole_fits_the_photo_and_depends_on_seed_and_place(kind):
    def mask(seed, index):
        return photos.mask_for(PHOTO, IMAGE, kind, False, seed, index)

    assert mask(0, 0).shape == (64, 96) and mask(0, 0).dtype == bool and 0 < mask(0, 0).mean() < 1
    np.testing.assert_array_equal(mask(3, 4), mask(3, 4))
    assert (mask(3, 4) == mask(3, 5)).all() == (mask(3, 4) == mask(4, 4)).all() == (kind == "center")


@pytest.mark.parametrize("kind", mask_source.SAMPLED)
@pytest.mark.parametrize("height, width", [(33, 61), (61, 33), (7, 5)])
def test_every_kind_of_hole_fits_small_and_oblong_photos(kind, height, width):
    image = np.zeros((height, width, 3), np.uint8)
    for seed in range(20):
        assert photos.mask_for(PHOTO, image, kind, False, seed, 0).shape == (height, width)


def test_random_holes_are_rectangles_of_three_to_four_eighths_of_the_short_side():
    sides = set()
    for index in range(300):
        mask = photos.mask_for(PHOTO, IMAGE, "random", index=index)
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
        sides |= {rows, columns}
    assert (min(sides), max(sides)) == (24, 32)


def test_the_center_hole_is_half_of_each_side():
    mask = photos.mask_for(PHOTO, IMAGE, "center")
    assert mask.sum() == 32 * 48 and mask[16:48, 24:72].all()


def test_a_mask_may_be_a_picture_or_stand_in_a_folder_under_the_photos_name(tmp_path):
    image, drawn = np.zeros((40, 50, 3), np.uint8), drawn_mask(tmp_path / "masks/face.png")
    drawn_mask(tmp_path / "masks/face-2.png", value=0)
    for given in (tmp_path / "masks", tmp_path / "masks/face.png"):
        np.testing.assert_array_equal(photos.mask_for(PHOTO, image, str(given)), drawn)
    np.testing.assert_array_equal(photos.mask_for(PHOTO, image, str(tmp_path / "masks"), invert_mask=True), ~drawn)
    with pytest.raises(UserError, match="no mask named other in .*masks"):
        photos.mask_for(Path("other.png"), image, str(tmp_path / "masks"))
    with pytest.raises(
        UserError, match="nowhere.png; give an image, a folder, or one of center, random, freeform, blocks,"
    ):
        photos.mask_for(PHOTO, image, str(tmp_path / "nowhere.png"))


# ---- one photo


def file(tmp_path, output="out.png", kind="center", complete=negative, **options):
    find_mask = partial(photos.mask_for, mask=str(kind))
    photos.complete_file(tmp_path / "in.png", tmp_path / output, find_mask, complete, windows, **options)


def test_one_photo_is_told_of_and_written(tmp_path, capsys):
    image = photo(tmp_path / "in.png")
    drawn = drawn_mask(tmp_path / "mask.png")
    seen = []
    file(tmp_path, "new/out.png", tmp_path / "mask.png", megabytes=lambda pixels, found: seen.append(found) or pixels)
    done = read_image(tmp_path / "new/out.png")
    np.testing.assert_array_equal(done, np.where(drawn[..., None], 255 - image, image))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'in.png'}: 50 x 40 px, hole 15.00%; about 2,000 MB of memory"  # 300 of 2,000 px
    assert lines[1:-1] == [f"  window {window}" for window in seen[0]] and len(seen[0]) == 1
    assert lines[-1] == f"written: {tmp_path / 'new/out.png'}"


def test_memory_is_told_of_only_where_it_is_known(tmp_path, capsys):
    photo(tmp_path / "in.png")
    file(tmp_path)
    assert capsys.readouterr().out.splitlines()[0].endswith("50 x 40 px, hole 25.00%")


@pytest.mark.parametrize("name, told", [("out.png", 0), ("out.jpg", 1), ("out.JPEG", 1), ("out.webp", 0)])
def test_formats_that_change_known_pixels_are_told_of(tmp_path, capsys, name, told):
    photo(tmp_path / "in.png")
    file(tmp_path, name)
    assert capsys.readouterr().out.count("changes known pixels") == told and (tmp_path / name).exists()


@pytest.mark.parametrize("parts, dots", [(8, 0), (9, 1)])
def test_no_more_than_eight_windows_are_listed(tmp_path, capsys, parts, dots):
    """A long photo with holes too far apart for one window of 32 px."""
    photo(tmp_path / "in.png", 100, 1000)
    drawn = np.zeros((100, 1000), np.uint8)
    for n in range(parts):
        drawn[40:50, 50 + 100 * n :][:, :10] = 255
    write_image(tmp_path / "mask.png", drawn)
    file(tmp_path, kind=tmp_path / "mask.png")
    told = capsys.readouterr().out
    assert told.count("  window ") == 8 and told.count("  …") == dots


def test_mask_mistakes(tmp_path):
    photo(tmp_path / "in.png", 64, 64)

    def told(kind):
        with pytest.raises(UserError) as mistake:
            file(tmp_path, kind=tmp_path / kind)
        return str(mistake.value)

    write_image(tmp_path / "small.png", np.full((30, 20), 255, np.uint8))
    assert "20 x 30 px" in told("small.png") and "64 x 64 px" in told("small.png")
    write_image(tmp_path / "empty.png", np.zeros((64, 64), np.uint8))
    assert "0.00%" in told("empty.png")
    write_image(tmp_path / "full.png", np.full((64, 64), 255, np.uint8))
    assert "100.00%" in told("full.png")
    assert (tmp_path / "out-hole.png").exists()
    (tmp_path / "text.jpg").write_text("no image")
    assert "text.jpg" in told("text.jpg")
    assert "nowhere" in told("nowhere.png")
    assert not (tmp_path / "out.png").exists()


def test_a_hole_like_a_scratch_is_completed_with_a_note(tmp_path, capsys):
    photo(tmp_path / "in.png")
    drawn = np.zeros((40, 50), np.uint8)
    drawn[3, 3] = 255
    write_image(tmp_path / "mask.png", drawn)
    file(tmp_path, kind=tmp_path / "mask.png")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("note: the hole covers 0.05% of the image") and "out-hole.png" in first
    assert (tmp_path / "out.png").exists() and (tmp_path / "out-hole.png").exists()


# ---- a folder


def folder(tmp_path, kind="random", complete=negative, **options):
    find_mask = partial(photos.mask_for, mask=str(kind))
    return photos.complete_folder(tmp_path / "in", tmp_path / "out", find_mask, complete, Path("w"), **options)


def summary(tmp_path):
    return json.loads((tmp_path / "out/summary.json").read_text())


def check(tmp_path, name, image, index, kind="random"):
    """The result under this name is this photo's, with the hole of this place."""
    (done,) = negative([image], [photos.mask_for(Path(name), image, kind, index=index)])
    np.testing.assert_array_equal(read_image(tmp_path / "out" / name), done)


def test_a_folder_is_done_in_chunks_past_its_broken_photos(tmp_path, capsys):
    """20 photos of several sizes, the fourth corrupt: chunks of 16 files, and no other photo's hole moves."""
    names = [f"{n:02d}.png" for n in range(19)] + ["sub/last.png"]
    images = {name: photo(tmp_path / "in" / name, 40 + n, 50) for n, name in enumerate(names)}
    (tmp_path / "in/03.png").write_bytes((tmp_path / "in/03.png").read_bytes()[:500])
    given = []

    def complete(images, masks):
        given.append(len(images))
        return negative(images, masks)

    assert folder(tmp_path, complete=complete) == 1 and given == [15, 4]
    for index, name in enumerate(names):
        if index != 3:
            check(tmp_path, name, images[name], index)
    assert not (tmp_path / "out/03.png").exists()
    corrupt = str(tmp_path / "in/03.png")
    found = summary(tmp_path)
    assert list(found) == ["completed", "skipped", "failed", "weights"]
    assert (found["completed"], found["skipped"], found["weights"]) == (19, 0, "w") and list(found["failed"]) == [
        corrupt
    ]
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "19 completed, 0 skipped, 1 failed" and corrupt in lines[1] and len(lines) == 2
    assert "completing" in told.err and "20/20" in told.err


def test_photos_of_one_name_get_results_of_their_own(tmp_path):
    """a.jpg beside a.png, and in another folder a.png again."""
    for n, name in enumerate(("a.jpg", "a.png", "sub/a.png")):
        photo(tmp_path / "in" / name, 40 + n, 50)
    assert folder(tmp_path) == 0
    results = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert results == ["a.jpg.png", "a.png.png", "sub/a.png"]
    sizes = [read_image(tmp_path / "out" / name).shape[0] for name in results]
    assert sizes == [40, 41, 42] and summary(tmp_path)["completed"] == 3


def test_results_are_png_under_the_photos_names(tmp_path):
    for name in ("a.jpg", "sub/a.png", "sub/b.bmp"):
        photo(tmp_path / "in" / name)
    folder(tmp_path)
    results = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert results == ["a.png", "sub/a.png", "sub/b.png"]


def test_a_folder_with_its_masks(tmp_path, capsys):
    """One mask is missing, one too large, one is a scratch: two photos fail, one has a note."""
    for name in "abcd":
        photo(tmp_path / f"in/{name}.jpg")
    images = {name: read_image(tmp_path / f"in/{name}.jpg") for name in "abcd"}  # as JPEG changed them
    drawn = drawn_mask(tmp_path / "masks/a.png")
    write_image(tmp_path / "masks/b.png", np.full((40, 50), 255, np.uint8))
    scratch = np.zeros((40, 50), np.uint8)
    scratch[3, 3] = 255
    write_image(tmp_path / "masks/d.png", scratch)
    assert folder(tmp_path, tmp_path / "masks") == 2
    for name, where in (("a", drawn), ("d", scratch > 0)):
        (done,) = negative([images[name]], [where])
        np.testing.assert_array_equal(read_image(tmp_path / f"out/{name}.png"), done)
    failed = summary(tmp_path)["failed"]
    assert "100.00%" in failed[str(tmp_path / "in/b.jpg")] and "b-hole.png" in failed[str(tmp_path / "in/b.jpg")]
    assert "no mask named c" in failed[str(tmp_path / "in/c.jpg")]
    assert f"note: {tmp_path / 'in/d.jpg'}: the hole covers 0.05%" in capsys.readouterr().out


def test_a_folder_without_a_readable_photo_never_reaches_the_network(tmp_path):
    def complete(images, masks):
        raise AssertionError

    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no image in"):
        folder(tmp_path, complete=complete)
    assert not (tmp_path / "out").exists()
    (tmp_path / "in/a.png").write_text("no image")
    assert folder(tmp_path, complete=complete) == 1 and summary(tmp_path)["completed"] == 0


def test_other_verbs_have_their_own_words_and_chunks(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    given = []

    def work(ready):
        given.append(ready)
        return [np.full((8, 8, 3), 10 * index, np.uint8) for index in ready]

    words = {"unit": "sheet", "doing": "greying", "done": "greyed"}
    arguments = tmp_path / "in", tmp_path / "out", lambda path, index: index, work, Path("w")
    assert folder_run.each_in_folder(*arguments, chunk=1, **words) == 0 and given == [[0], [1]]
    assert read_image(tmp_path / "out/b.png").max() == 10 and summary(tmp_path)["greyed"] == 2
    told = capsys.readouterr()
    assert told.out.startswith("2 greyed, 0 skipped, 0 failed\n") and "greying" in told.err
