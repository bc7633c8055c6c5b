"""Drawn sets: the same everywhere and in the official layouts; faces varied, and telling about what a hole hides."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from common.datasets.celeba import CelebA
from common.datasets.paired_images import PALETTE, open_pairs
from common.errors import UserError
from data import synthetic
from data.faces import draw_face
from data.streets import draw_street
from data.synthetic import main, partition_code, street_name, write_faces, write_streets

PARTS = ("img_align_celeba", "list_eval_partition.txt")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """uint8 [150, 218, 178, 3]"""
    return np.stack([draw_face(np.random.default_rng((11, index))) for index in range(150)])


def images(folder):
    return {path.name: path.read_bytes() for path in (folder / "img_align_celeba").iterdir()}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def patch(faces: np.ndarray, x: int, y: int, side: int = 10) -> np.ndarray:
    """Mean colour around a point, float64 [n, 3]."""
    half = side // 2
    return faces[:, y - half : y + half, x - half : x + half].astype(np.float64).mean((1, 2))


@pytest.mark.medium
def test_one_seed_gives_one_set_whatever_its_size(tmp_path):
    small, large = write_faces(tmp_path / "small", 4, seed=3), write_faces(tmp_path / "large", 9, seed=3)
    first, second = images(small), images(large)
    assert sorted(first) == ["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg"]
    assert all(second[name] == content for name, content in first.items())
    assert images(write_faces(tmp_path / "other", 4, seed=4))["000001.jpg"] != first["000001.jpg"]


def test_a_file_is_the_drawn_face_at_quality_92(tmp_path):
    folder = write_faces(tmp_path / "faces", 2, seed=5)
    buffer = io.BytesIO()
    Image.fromarray(draw_face(np.random.default_rng((5, 1)))).save(buffer, "JPEG", quality=92)
    assert images(folder)["000002.jpg"] == buffer.getvalue()


@pytest.mark.medium
def test_layout_is_read_by_the_ordinary_reader(tmp_path):
    folder = write_faces(tmp_path / "faces", 40, seed=0)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*PARTS, synthetic.MARKER])
    train, val, test = (CelebA(folder, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (36, 2, 2)
    assert train.name(0) == "000001.jpg"
    assert [val.name(0), val.name(1), test.name(0), test.name(1)] == [f"0000{n}.jpg" for n in (37, 38, 39, 40)]
    assert train[0].shape == (218, 178, 3)
    assert train[0].dtype == np.uint8


@pytest.mark.parametrize(("count", "fractions"), [(1200, (1080, 60, 60)), (100, (90, 5, 5)), (7, (5, 1, 1))])
def test_partition_is_90_5_5_in_order(count, fractions):
    codes = [partition_code(index, count) for index in range(count)]
    assert tuple(codes.count(code) for code in (0, 1, 2)) == fractions
    assert codes == sorted(codes)


def test_a_finished_set_is_left_alone_and_another_replaces_it(tmp_path):
    folder = write_faces(tmp_path / "faces", 3, seed=1)
    first = folder / "img_align_celeba" / "000001.jpg"
    stamp, content = first.stat().st_mtime_ns, first.read_bytes()
    assert write_faces(tmp_path / "faces", 3, seed=1) == folder
    assert first.stat().st_mtime_ns == stamp
    write_faces(tmp_path / "faces", 3, seed=2)
    assert first.read_bytes() != content
    assert json.loads((folder / synthetic.MARKER).read_text())["seed"] == 2


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    calls = iter([draw_face, draw_face])

    def interrupted(rng):
        draw = next(calls, None)
        if draw is None:
            raise KeyboardInterrupt
        return draw(rng)

    monkeypatch.setattr(synthetic, "draw_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_faces(tmp_path / "faces", 5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("marked", [False, True])
def test_other_peoples_files_are_never_removed(tmp_path, marked):
    folder = tmp_path / "faces"
    if marked:
        write_faces(folder, 1, seed=0)
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("three years of work")
    with pytest.raises(UserError, match="holds something else"):
        write_faces(folder, 1, seed=1)
    assert (folder / "thesis.txt").read_text() == "three years of work"


def test_command(tmp_path, capsys):
    main(["--output", str(tmp_path / "faces"), "--count", "2", "--seed", "7"])
    assert f"2 drawn faces are in {tmp_path / 'faces'}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["--output", str(tmp_path / "none"), "--count", "0"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: cannot draw 0 faces")


# ---------------------------------------------------------------- streets


@pytest.mark.medium
def test_streets_are_laid_out_as_prepared_pairs(tmp_path):
    folder = write_streets(tmp_path / "streets", 12, seed=3)
    assert sorted(path.name for path in folder.iterdir()) == ["synthetic.json", "train", "val"]
    assert {path.name for path in (folder / "train").iterdir()} == {f"{number}.jpg" for number in range(1, 12)}
    assert [path.name for path in (folder / "val").iterdir()] == ["1.jpg"]
    train, val = open_pairs(folder, "train"), open_pairs(folder, "val")  # the ordinary reader
    assert (len(train), len(val), train.name(1), val.name(0)) == (11, 1, "train/2.jpg", "val/1.jpg")
    assert [half.shape for half in train[0]] == [(256, 256, 3), (256, 256, 3)]
    marker = json.loads((folder / "synthetic.json").read_text())
    assert (marker["kind"], marker["count"], marker["seed"]) == ("streets", 12, 3)


@pytest.mark.parametrize(("count", "val"), [(800, 80), (25, 2), (10, 1), (2, 1)])
def test_last_tenth_of_the_streets_is_for_validation(count, val):
    names = [street_name(index, count) for index in range(count)]
    assert names[: count - val] == [f"train/{number}.jpg" for number in range(1, count - val + 1)]
    assert names[count - val :] == [f"val/{number}.jpg" for number in range(1, val + 1)]


@pytest.mark.medium
def test_a_street_depends_on_seed_and_number_alone(tmp_path):
    small, large = write_streets(tmp_path / "small", 3, seed=4), write_streets(tmp_path / "large", 6, seed=4)
    for name in ("train/1.jpg", "train/2.jpg"):
        assert (small / name).read_bytes() == (large / name).read_bytes()
    assert (small / "val/1.jpg").read_bytes() == (large / "train/3.jpg").read_bytes()
    other = write_streets(tmp_path / "other", 2, seed=5)
    assert (other / "train/1.jpg").read_bytes() != (small / "train/1.jpg").read_bytes()


@pytest.mark.medium
def test_labels_survive_the_jpeg(tmp_path):
    """Decoded by nearest colour, as the second paper scores them, the label is the drawn one."""
    folder, palette = write_streets(tmp_path / "streets", 4, seed=6), np.vstack([PALETTE, [[0, 0, 0]]])
    for index in range(4):
        with Image.open(folder / street_name(index, 4)) as opened:
            assert opened.size == (512, 256)
            assert opened.layer[0][1:3] == opened.layer[1][1:3] == (1, 1)  # no chroma subsampling
            pair = np.asarray(opened).astype(np.int32)
        photo, label = draw_street(np.random.default_rng((6, index)))
        assert np.abs(pair[:, :256] - photo).mean() < 1
        decoded = palette[((pair[:, 256:, None] - palette) ** 2).sum(-1).argmin(-1)]
        assert (decoded == label).all(-1).mean() > 0.98  # measured: 1.0


def test_streets_replace_streets_and_nothing_else(tmp_path, monkeypatch):
    folder = write_streets(tmp_path / "set", 2, seed=0)
    first = (folder / "train/1.jpg").read_bytes()
    monkeypatch.setattr(synthetic, "draw_street", None)  # a finished set is not drawn again
    assert write_streets(tmp_path / "set", 2, seed=0) == folder
    monkeypatch.undo()
    assert (write_streets(tmp_path / "set", 2, seed=1) / "train/1.jpg").read_bytes() != first
    with pytest.raises(UserError, match="holds something else: name a new folder for the synthetic faces"):
        write_faces(folder, 2)
    (folder / "val" / "1.jpg").rename(folder / "mine.jpg")
    with pytest.raises(UserError, match="holds something else: name a new folder for the synthetic streets"):
        write_streets(folder, 2, seed=0)
    assert (folder / "mine.jpg").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # no draft is left


def test_command_for_streets(tmp_path, capsys):
    main(["--output", str(tmp_path / "streets"), "--kind", "streets", "--count", "2"])
    assert f"2 drawn streets are in {tmp_path / 'streets'}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["--output", str(tmp_path / "none"), "--kind", "streets", "--count", "1"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: cannot draw 1 streets from seed 0: the count must be 2 or more, the seed 0 or more\n"
    )


# ---------------------------------------------------------------- faces


@pytest.mark.medium
def test_faces_differ_everywhere(faces):
    grey = faces.astype(np.float64).mean(3)
    spread = grey.std(0)
    assert spread[92:132, 50:130].mean() > 25  # eyes and brows
    assert spread[20:60].mean() > 25  # hair and background
    assert spread[140:165, 69:110].mean() > 25  # mouth
    distance = np.abs(grey[:, None, ::6, ::6] - grey[None, :, ::6, ::6]).mean((2, 3))
    assert distance[~np.eye(len(faces), dtype=bool)].min() > 6  # no two alike: identical ones differ by 0


def test_visible_skin_tells_the_hidden_skin(faces):
    left, right = patch(faces, 64, 138), patch(faces, 114, 138)
    for channel in range(3):
        assert correlation(left[:, channel], right[:, channel]) > 0.8
        background = patch(faces, 8, 40)[:, channel]
        assert abs(correlation(left[:, channel], background)) < 0.4  # skin and background are chosen apart


def test_both_eyes_match_and_sit_where_celeba_has_them(faces):
    eyes = [faces[:, 104:120, x - 10 : x + 11].astype(np.float64) for x in (69, 109)]
    cheeks = [faces[:, 126:136, x - 10 : x + 11].astype(np.float64) for x in (69, 109)]
    for eye, cheek in zip(eyes, cheeks, strict=True):  # white, iris and lashes against plain skin
        assert np.median(eye.mean(3).std((1, 2)) / cheek.mean(3).std((1, 2))) > 2.5
    assert correlation(eyes[0].mean((1, 2, 3)), eyes[1].mean((1, 2, 3))) > 0.8


def test_light_falls_from_both_sides(faces):
    difference = patch(faces, 62, 130).mean(1) - patch(faces, 116, 130).mean(1)
    assert (difference > 5).mean() > 0.2
    assert (difference < -5).mean() > 0.2
