"""pix2pix at the article's sizes."""

from dataclasses import replace

import numpy as np

from benchmarks.exchange import Side
from benchmarks.ours import SEED, Pictures, batch, inference, training
from pix2pix import encoding
from pix2pix.config import PRESETS
from pix2pix.infer import faster, test_time
from pix2pix.model import STRIDED_CONVS
from pix2pix.train import build, sample_maker, train_step


class Pairs:
    """An endless set of pairs of images, 256 px as in Cityscapes."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        images = Pictures(256, 256)
        return images[2 * index], images[2 * index + 1]


def settings(**changed):
    """The article's preset with some settings changed, its networks with their plan, and a batch."""
    cfg = replace(PRESETS["article-scene2mask"][1], **changed)
    nets, optimizers = build(cfg)
    plan = {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "strided_convs": STRIDED_CONVS[cfg.patch_px],
        "l1_weight": cfg.l1_weight,
    }
    pair = encoding.to_networks(*batch(sample_maker(Pairs(), cfg), cfg.batch_size), cfg.direction)
    return cfg, nets, optimizers, plan, pair


def train(folder: str, **changed) -> Side:
    """A step of the discriminator and of the generator."""
    cfg, nets, optimizers, plan, (source, real) = settings(**changed)

    def step() -> dict:
        return train_step(nets, optimizers, source, real, cfg)

    return training(folder, nets, optimizers, step, {"source": source.numpy(), "real": real.numpy()}, plan)


def infer(folder: str, **changed) -> Side:
    """The generator on one image, normalised by its own statistics (Sec. 3.3)."""
    _, nets, _, plan, (source, _) = settings(**changed)
    generator = nets["generator"]
    generator.metadata = {"generator": generator.arguments}
    fast = faster(generator, "paper")
    return inference(folder, generator, plan, [source.numpy()], fast, lambda: test_time(generator, "paper", SEED))
