"""The readers, the first batch of a large set, and checkpoints."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.ours import Pictures, glcic
from common.checkpoint.state import load_state, save_state
from common.datasets.image_folder import ImageFolder, open_images
from common.datasets.loader import Batches
from common.imaging.io import write_image
from common.imaging.transforms import crop_square
from data.synthetic import write_faces

BATCH = 16
DRAWN_FACES = 480
MOST_LINKS = 30_000  # names that one file of a set may have; ext4's limit is 65,000


def readers(folder: str, data_dir: str | None, images: int, workers: int, crop: bool) -> Side:
    """One epoch of images through our reader, decoded, or also cropped and resized to 96 px as training has them."""
    found = open_images(data_dir or write_faces(Path(folder) / "faces", DRAWN_FACES), "train")
    count = min(images, len(found)) // BATCH * BATCH
    paths = [str(found.path(index)) for index in range(count)]
    exchange.write(folder, {"paths": paths, "workers": workers}, {})

    def make(index: int, rng: np.random.Generator) -> tuple:
        return (crop_square(found[index], "random160", 96, rng) if crop else found[index],)

    batches = Batches(count, make, BATCH, 0, workers)

    def work() -> None:
        stream = batches(0)
        for _ in range(count // BATCH):
            next(stream)
        stream.close()

    return Side(work, {"pictures": np.float64(count)})


def first_batch(folder: str, files: int) -> Side:
    """From a folder of so many files to the first batch. The files are names of a few images."""
    images = Path(folder) / "pictures"
    images.mkdir()
    for number in range(files):
        kind, name = number // MOST_LINKS, images / f"{number:06d}.jpg"
        if number % MOST_LINKS:
            name.hardlink_to(images / f"{kind * MOST_LINKS:06d}.jpg")
        else:
            write_image(name, Pictures()[kind])
    exchange.write(folder, {"folder": str(images), "batch": BATCH}, {})

    def work() -> None:
        found = ImageFolder(images, "train")
        stream = Batches(len(found), lambda index, rng: (found[index],), BATCH, 0, workers=2)(0)
        next(stream)
        stream.close()

    return Side(work, {"files": np.float64(files)})


# ---- checkpoints


def checkpoint(folder: str, load: bool, **changed) -> Side:
    """Saving, or loading, all of a run's state: GLCIC's networks and Adam's moments after one step."""
    cfg, nets, optimizers, _ = glcic.settings(**changed)
    step, _ = glcic.stepper(cfg, nets, optimizers)
    step()
    states = tempfile.mkdtemp(dir=folder)
    saved = save_state(states, nets, optimizers, {"step": 1})
    tensors = load_file(saved / "state.safetensors")
    exchange.write(folder, {}, tensors)
    steps = itertools.count(2)

    def save() -> None:
        save_state(states, nets, optimizers, {"step": next(steps)})

    check = {
        "count": np.float64(len(tensors)),
        "sum": np.float64(sum(np.abs(value).sum() for value in tensors.values())),
    }
    return Side((lambda: load_state(saved, nets, optimizers)) if load else save, check)
