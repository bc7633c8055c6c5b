"""Order, chance and corrupt images: the same whatever reads them."""

import itertools
import threading

import numpy as np
import pytest

from common.datasets import loader as batches_module
from common.datasets.loader import Batches
from common.errors import UserError


def sample(index, rng):
    return np.int64(index), rng.random(2)


def take(batches, first, count):
    stream = batches(first)
    taken = list(itertools.islice(stream, count))
    stream.close()
    return taken


def test_every_epoch_holds_every_picture_once_in_a_new_order():
    numbers = np.concatenate([batch[0] for batch in take(Batches(12, sample, 4, seed=3), 0, 9)])
    epochs = numbers.reshape(3, 12)
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_neither_workers_nor_the_first_step_change_the_data(workers):
    whole = take(Batches(10, sample, 4, seed=3, workers=0), 0, 9)
    parts = take(Batches(10, sample, 4, seed=3, workers=workers), 5, 4)
    for expected, got in zip(whole[5:], parts, strict=True):
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_array_equal(one, other)


def test_chance_differs_between_epochs_and_seeds():
    def first(seed, step):
        return take(Batches(4, sample, 4, seed=seed), step, 1)[0][1]

    assert (np.sort(first(0, 0).ravel()) != np.sort(first(0, 1).ravel())).all()
    assert (np.sort(first(0, 0).ravel()) != np.sort(first(1, 0).ravel())).all()


def breaking(bad):
    def make(index, rng):
        if index in bad:
            raise UserError(f"cannot read image {index}")
        return sample(index, rng)

    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_named_skipped_and_counted(workers, capsys):
    batches = Batches(300, breaking({7, 8, 100}), 10, seed=0, workers=workers)
    numbers = np.concatenate([batch[0] for batch in take(batches, 0, 30)])
    assert len(numbers) == 300 and not {7, 8, 100} & set(numbers)
    assert set(batches.corrupt) == {7, 8, 100}
    told = capsys.readouterr().err
    assert all(told.count(f"cannot read image {n} ") == 1 for n in (7, 8, 100))


def test_more_than_a_hundredth_broken_stops_with_the_list():
    with pytest.raises(UserError, match="3 of 200 images are corrupt.*image 1; .*image 2; .*image 3"):
        take(Batches(200, breaking({1, 2, 3}), 10, seed=0), 0, 20)


def test_all_broken_stops():
    with pytest.raises(UserError):
        take(Batches(2, breaking({0, 1}), 2, seed=0), 0, 1)


def test_a_picture_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(batches_module, "PATIENCE_SECONDS", 0.3)
    release = threading.Event()

    def make(index, rng):
        if index == 7:
            release.wait(20)
        return sample(index, rng)

    batches = Batches(10, make, 4, seed=3, workers=2, name="image {:03d}".format)
    with pytest.raises(UserError, match="nothing came .* being read: image 007"):
        take(batches, 0, 3)
    release.set()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch_without_a_gap(monkeypatch, count):
    whole = take(Batches(10, sample, 8, seed=3), 2, 3)
    monkeypatch.setattr(batches_module.distributed, "count", lambda: count)
    fractions = []
    for rank in range(count):
        monkeypatch.setattr(batches_module.distributed, "rank", lambda rank=rank: rank)
        fractions.append(take(Batches(10, sample, 8, seed=3), 2, 3))
    for step, batch in enumerate(whole):
        for column, values in enumerate(batch):
            np.testing.assert_array_equal(values, np.concatenate([fraction[step][column] for fraction in fractions]))
    with pytest.raises(UserError, match=f"--batch-size 9 cannot be shared evenly by {count}"):
        Batches(10, sample, 9, seed=3)


def test_no_thread_outlives_its_stream():
    before = threading.active_count()
    take(Batches(10, sample, 4, seed=0, workers=3), 0, 2)
    assert threading.active_count() == before
