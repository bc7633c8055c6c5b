"""Readers as paddle.io.Dataset: every item once, in a DataLoader, in its worker processes, and shared by two ranks."""

import zipfile

import numpy as np
import pytest

from common.datasets.image_folder import open_images
from common.datasets.paddle_dataset import PaddleDataset
from common.datasets.paired_images import open_pairs
from common.imaging.io import write_image
from common.imaging.transforms import to_network
from data.synthetic import write_faces

import paddle
from paddle.io import DataLoader, DistributedBatchSampler

COUNT, SIDE = 24, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 training images of one colour each, whose red is ten times their number; and a zip of them."""
    folder = tmp_path_factory.mktemp("images")
    for n in range(COUNT):
        for split in ("train", "val", "test"):
            write_image(folder / split / f"{n:02}.png", np.full([SIDE, SIDE, 3], 10 * n, np.uint8))
    with zipfile.ZipFile(folder.parent / "images.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    return folder


def alone(batch):
    """The one tensor of a batch, which some Paddles bring in a list."""
    return batch[0] if isinstance(batch, list) else batch


def numbers(batch):
    return [round(float(x)) // 10 for x in np.asarray(batch)[:, 0, 0, 0]]


def dataset(place, transform=None):
    return PaddleDataset(lambda: open_images(place, "train"), transform)


def test_it_is_a_dataset_and_transforms_each_item(folder):
    images = dataset(folder, lambda image: to_network(image[None])[0])
    assert isinstance(images, paddle.io.Dataset) and len(images) == COUNT
    assert images[3].dtype == np.float32 and images[3].max() == pytest.approx(30 / 127.5 - 1)
    np.testing.assert_array_equal(dataset(folder)[3], np.full([SIDE, SIDE, 3], 30, np.uint8))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_loader_brings_every_image_once(folder, kind, workers):
    place = folder if kind == "folder" else folder.parent / "images.zip"
    loader = DataLoader(dataset(place), batch_size=5, shuffle=True, num_workers=workers, use_shared_memory=False)
    batches = [numbers(alone(batch)) for batch in loader]
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    assert sorted(sum(batches, [])) == list(range(COUNT))


def test_two_processes_share_the_images_without_overlap(folder):
    images, seen = dataset(folder), []
    for rank in (0, 1):
        sampler = DistributedBatchSampler(images, batch_size=4, num_replicas=2, rank=rank, shuffle=True)
        sampler.set_epoch(1)
        loader = DataLoader(images, batch_sampler=sampler, num_workers=0)
        seen.append(sum((numbers(alone(batch)) for batch in loader), []))
    assert len(seen[0]) == len(seen[1]) == COUNT // 2
    assert sorted(seen[0] + seen[1]) == list(range(COUNT)) and seen[0] != sorted(seen[0])


def test_photo_and_label_move_together(tmp_path):
    for n in range(6):
        left = np.random.default_rng(n).integers(0, 256, [SIDE, SIDE, 3], np.uint8)
        write_image(tmp_path / f"train/{n}.png", np.concatenate([left, 255 - left], axis=1))
    pairs = PaddleDataset(lambda: open_pairs(tmp_path, "train"), lambda pair: tuple(x[:, ::-1].copy() for x in pair))
    for photo, label in DataLoader(pairs, batch_size=3, num_workers=0):
        assert list(photo.shape) == [3, SIDE, SIDE, 3]
        np.testing.assert_array_equal(label.numpy(), 255 - photo.numpy())


def test_celeba(tmp_path):
    write_faces(tmp_path, count=24)
    faces = PaddleDataset(lambda: open_images(tmp_path, "train"))
    batch = alone(next(iter(DataLoader(faces, batch_size=2))))
    assert list(batch.shape) == [2, 218, 178, 3]


def test_another_process_opens_its_own_reader_once(folder, monkeypatch):
    """Two processes that read one open zip move each other's place in it."""
    opened = []
    images = PaddleDataset(lambda: opened.append(1) or open_images(folder.parent / "images.zip", "train"))
    assert [images[n][0, 0, 0] for n in (0, 1)] == [0, 10]
    assert len(opened) == 1
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert [images[n][0, 0, 0] for n in (0, 1)] == [0, 10]
    assert len(opened) == 2
