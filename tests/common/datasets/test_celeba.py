"""CelebA's layouts, and any folder."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets.celeba import CelebA, read_partition
from common.datasets.image_folder import ImageFolder, open_images
from common.errors import UserError


def jpeg(level):
    data = io.BytesIO()
    Image.fromarray(np.full((218, 178, 3), level, np.uint8)).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def celeba(tmp_path):
    """Ten images, image n of grey level 10n; 1-6 train, 7-8 val, 9-10 test."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = []
    for n in range(1, 11):
        (folder / f"img_align_celeba/{n:06d}.jpg").write_bytes(jpeg(10 * n))
        lines.append(f"{n:06d}.jpg {0 if n <= 6 else 1 if n <= 8 else 2}")
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_splits(celeba):
    assert [len(CelebA(celeba, split)) for split in ("train", "val", "test")] == [6, 2, 2]
    image = CelebA(celeba, "val")[1]
    assert image.shape == (218, 178, 3) and abs(int(image.mean()) - 80) <= 1


def test_zip_is_read_in_place(celeba, tmp_path):
    mount = tmp_path / "data12345"
    mount.mkdir()
    with zipfile.ZipFile(mount / "img_align_celeba.zip", "w") as archive:
        for path in sorted((celeba / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    (mount / "list_eval_partition.txt").write_text((celeba / "list_eval_partition.txt").read_text())
    for place in (mount, mount / "img_align_celeba.zip"):
        images = open_images(place, "test")
        assert isinstance(images, CelebA) and abs(int(images[0].mean()) - 90) <= 1


def test_a_download_that_is_a_web_page(tmp_path):
    (tmp_path / "img_align_celeba.zip").write_text("<html>quota exceeded</html>")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(UserError, match="web page"):
        CelebA(tmp_path, "train")


@pytest.mark.parametrize("line", ["000002.jpg", "000002.jpg 3", "000002.jpg,1", "../x.jpg 0", "/etc/x.jpg 0"])
def test_a_bad_line_of_the_list_is_named_by_number(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"000001.jpg 0\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        read_partition(tmp_path / "list.txt")


def test_missing_list_missing_folder_missing_split(celeba, tmp_path):
    (celeba / "list_eval_partition.txt").unlink()
    with pytest.raises(UserError, match="list_eval_partition.txt.*data.prepare"):
        CelebA(celeba, "train")
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 1\n")
    with pytest.raises(UserError, match="names no image of the train split"):
        CelebA(celeba, "train")
    with pytest.raises(UserError, match="there is no folder .*nowhere.*quick"):
        open_images(tmp_path / "nowhere", "train")


def test_a_missing_file_is_named(celeba):
    (celeba / "img_align_celeba/000003.jpg").unlink()
    with pytest.raises(UserError, match="000003.jpg"):
        CelebA(celeba, "train")[2]


def test_any_folder_is_split_twentieths(tmp_path):
    for n in range(60):
        Image.new("RGB", (40, 30), (n, n, n)).save(tmp_path / f"{n:03d}.png")
    parts = {split: ImageFolder(tmp_path, split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [54, 3, 3]
    assert not set(parts["train"].paths) & set(parts["test"].paths)
    assert isinstance(open_images(tmp_path, "train"), ImageFolder)
    for n in range(19, 60):
        (tmp_path / f"{n:03d}.png").unlink()
    assert len(ImageFolder(tmp_path, "val")) == 19  # too few to divide


def test_named_splits_and_empty_folder(tmp_path):
    for split, level in (("train", 1), ("val", 2), ("test", 3)):
        (tmp_path / split).mkdir()
        Image.new("RGB", (40, 30), (level,) * 3).save(tmp_path / split / "a.png")
    assert ImageFolder(tmp_path, "val")[0][0, 0, 0] == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image"):
        ImageFolder(tmp_path / "empty", "train")


def test_a_split_that_the_list_lacks_is_taken_from_train_by_number(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "list_eval_partition.txt").write_text(
        "".join(f"{n:06d}.jpg {int(n > 40)}\n" for n in range(1, 46))  # 40 of train, 5 of val
    )
    train, val, test = (CelebA(tmp_path, split) for split in ("train", "val", "test"))
    assert test.names == ["000020.jpg", "000040.jpg"] and test.split == "test"
    assert len(train) == 38 and not set(train.names) & set(test.names)
    assert val.names == [f"0000{n}.jpg" for n in range(41, 46)]
    assert "every 20th" in train.notes[0]
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n")
    few = CelebA(tmp_path, "test")
    assert few.names == ["000001.jpg"] and few.split == "unsplit" and "too few" in few.notes[0]


@pytest.mark.medium
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
def test_the_whole_of_celeba_opens_in_seconds_and_little_memory(tmp_path):
    """202,599 lines, as in the official list; the first batch comes from the eighty images that exist."""
    (tmp_path / "img_align_celeba").mkdir()
    image = jpeg(90)
    lines = [f"{n:06d}.jpg {(n > 162_770) + (n > 182_637)}\n" for n in range(1, 202_600)]
    (tmp_path / "list_eval_partition.txt").write_text("".join(lines))
    code = f"""
import time
start = time.process_time()
from benchmarks.worker import peak_megabytes
from common.datasets.loader import Batches, image_order
from common.datasets.image_folder import open_images
images = open_images({str(tmp_path)!r}, "train")
assert len(images) == 162_770
for index in image_order(len(images), 0, 0)[:80]:
    (images.images / images.name(int(index))).write_bytes({image!r})
batch = next(Batches(len(images), lambda n, rng: (images[n],), 16, seed=0)(0))
assert batch[0].shape == (16, 218, 178, 3)
print(time.process_time() - start, peak_megabytes())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 20 and megabytes < 500


@pytest.mark.realdata
def test_real_celeba():
    if "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder with real images")
    folder = Path(os.environ["SUITE_DATA"], "celeba")
    assert [len(CelebA(folder, split)) for split in ("train", "val", "test")] == [4500, 250, 250]
    assert CelebA(folder, "test")[0].shape == (218, 178, 3)
