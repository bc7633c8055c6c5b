"""DCGAN and the search for z at the article's sizes."""

from dataclasses import replace

import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.ours import SEED, Pictures, batch, inference, training, weights
from common.cpu_layers.layers import accelerate
from common.deploy.engine import compile_network
from common.imaging.transforms import to_network
from dcgan_completion.config import PRESETS
from dcgan_completion.search import rng, search, start
from dcgan_completion.search_settings import PRESETS as SEARCHES
from dcgan_completion.train import build, sample_maker, train_step

import paddle


def settings(**changed):
    """The article's preset with some settings changed, and its networks with their plan."""
    cfg = replace(PRESETS["article"][1], **changed)
    nets, optimizers = build(cfg)
    generator, discriminator = nets["generator"], nets["discriminator"]
    plan = {
        "z_channels": cfg.z_channels,
        "generator_inputs": [getattr(generator, f"norm{n}").weight.shape[0] for n in range(generator.levels)],
        "discriminator_outputs": [getattr(discriminator, f"conv{n}").weight.shape[0] for n in range(generator.levels)],
        "generator_steps": cfg.generator_steps,
    }
    return cfg, nets, optimizers, plan


def train(folder: str, **changed) -> Side:
    """A step of the discriminator and cfg.generator_steps of the generator."""
    cfg, nets, optimizers, plan = settings(**changed)
    image, z = batch(sample_maker(Pictures(), cfg), cfg.batch_size)
    inputs = {"image": to_network(image), "z": z}
    image, z = (paddle.to_tensor(each) for each in inputs.values())

    def step() -> dict:
        return train_step(nets, optimizers, image, z, cfg)

    return training(folder, nets, optimizers, step, inputs, plan, after_updates=["generator"])


def infer(folder: str, **changed) -> Side:
    """The generator on a batch of z, compiled."""
    cfg, nets, _, plan = settings(**changed)
    z = np.random.default_rng(SEED).uniform(-1, 1, (cfg.batch_size, cfg.z_channels)).astype(np.float32)
    return inference(folder, nets["generator"], plan, [z], compile_network(nets["generator"], "batch"))


def completion(folder: str, steps: int, **changed) -> Side:
    """Some updates of z, one for each image, with the suite's settings of the search."""
    cfg, nets, _, plan = settings(**changed)
    how = replace(SEARCHES["suite"], steps=steps, restarts=1)
    images = to_network(batch(sample_maker(Pictures(), cfg), cfg.batch_size)[0])
    masks = np.zeros_like(images[:, :1])
    quarter = cfg.image_px // 4
    masks[:, :, quarter:-quarter, quarter:-quarter] = 1
    z = start(how, cfg.z_channels, [rng(SEED, image).spawn(1)[0] for image in range(len(images))]).numpy()
    plan |= {"steps": steps, "learning_rate": how.learning_rate, "perceptual_weight": how.perceptual_weight}
    exchange.write(folder, plan, {**weights(nets), "image": images, "mask": masks, "z": z})

    def work():
        rngs = [rng(SEED, image) for image in range(len(images))]
        return search(nets["generator"], nets["discriminator"], images, masks, how, rngs)

    for network in nets.values():
        network.eval()
        accelerate(network)
    found = work()
    check = {name: getattr(found, name) for name in ("loss", "contextual", "perceptual")}
    return Side(work, {**check, f"{exchange.LATER}generated": found.generated})
