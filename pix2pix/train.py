"""Trains pix2pix: the discriminator and the generator take steps in turn (Sec. 3.3).

python -m pix2pix.train quick

python -m pix2pix.train cpu --data-dir DIR --direction label-to-photo
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common import evaluation, processes
from common.batches import Batches
from common.cityscapes import crop_pair
from common.config import ask_for_data, choose
from common.device import describe, open_device
from common.errors import UserError, one_line_errors
from common.gradients import frozen, update
from common.images import read_image
from common.runlog import Run
from data.synthetic import write_streets as draw_pictures
from pix2pix import encoding, evaluate, losses
from pix2pix.config import PRESETS, Config
from pix2pix.infer import load, translate_all
from pix2pix.model import STRIDED_CONVS, PatchDiscriminator, ResnetGenerator, UnetGenerator, initialise

import paddle

PREVIEW_PAIRS = 6
VALIDATION_PAIRS = 32
FINAL_PAIRS = 150
DRAWN = Path("runs/drawn_streets")


def learning_rate(step: int, total_steps: int, cfg: Config) -> float:
    """Of a step (from 0): constant, then falling once an epoch, by the official port's formula (D8).

    An epoch here is 1 / cfg.epochs of the run, so a shorter run goes through the same schedule.
    """
    epoch = step * cfg.epochs // total_steps + 1
    late = max(0, epoch - (cfg.epochs - cfg.decay_epochs))
    return cfg.learning_rate * (1 - late / (cfg.decay_epochs + 1))


def train_step(nets: dict, optimizers: dict, source, real, cfg: Config) -> dict:
    """One step of each network (Sec. 3.3), for every objective of Sec. 4.1.

    Args:
        source: float32 [N, C, H, W] in [-1, 1], what the generator is given.
        real: float32 [N, C, H, W] in [-1, 1], the truth.

    Returns:
        The losses of this step, by name.
    """
    generator, discriminator = nets["generator"], nets.get("discriminator")
    done = {}
    fake = generator(source)  # once (D9)

    if discriminator is not None:  # D learns to tell; the fake is cut from its generator, whose gradient it is not (D1)
        real_logits, fake_logits = discriminator(source, real), discriminator(source, fake.detach())
        done["discriminator"] = loss = losses.discriminator_loss(real_logits, fake_logits, cfg.gan_mode)
        if cfg.gan_mode == "wgan-gp":
            mix = paddle.uniform([real.shape[0], 1, 1, 1], min=0.0, max=1.0)
            done["penalty"] = losses.gradient_penalty(discriminator, source, real, fake.detach(), mix)
            loss = loss + cfg.penalty_weight * done["penalty"]
        update(discriminator, optimizers["discriminator"], loss)

    done["l1"] = losses.l1_loss(fake, real)  # G learns to be near the truth, and to deceive D
    loss = cfg.l1_weight * done["l1"] if "l1" in cfg.objective else 0
    if discriminator is not None:
        with frozen(discriminator):
            done["adversarial"] = losses.adversarial_loss(discriminator(source, fake), cfg.gan_mode)
        loss = loss + done["adversarial"]
    update(generator, optimizers["generator"], loss)
    return done


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed. Without a GAN term there is no discriminator."""
    paddle.seed(cfg.seed)
    source_channels, target_channels = encoding.channels(cfg.direction)
    ends = {"source_channels": source_channels, "target_channels": target_channels}
    shape = {"base_channels": cfg.generator_channels, "norm": cfg.generator_norm, "dropout": cfg.dropout, **ends}
    if cfg.init_generator:
        generator = load(cfg.init_generator)
        generator.train()
    elif cfg.generator == "resnet":
        generator = ResnetGenerator(cfg.blocks, upsample=cfg.upsample, **shape)
    else:
        generator = UnetGenerator(cfg.levels, skips=cfg.generator == "unet", **shape)
    nets = {"generator": generator}
    if not cfg.init_generator:
        initialise(generator, cfg.norm_deviation)
    if "gan" in cfg.objective:
        nets["discriminator"] = PatchDiscriminator(
            cfg.patch_px, cfg.discriminator_channels, cfg.discriminator_norm, cfg.first_norm,
            conditional="cgan" in cfg.objective, **ends,
        )  # fmt: skip
        initialise(nets["discriminator"], cfg.norm_deviation)
    return nets, {
        name: paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, beta2=0.999, parameters=net.parameters())
        for name, net in nets.items()
    }


# ---- data


def sample_maker(data, cfg: Config):
    """(index, rng) -> source and target, uint8 [H, W, 3], cropped and mirrored together."""

    def make(index: int, rng: np.random.Generator):
        source, target = encoding.as_pair(data[index], cfg.direction)
        return crop_pair(source, target, cfg.load_px, cfg.image_px, cfg.flip, rng)

    return make


# ---- the run


def train(cfg: Config) -> Path:
    """Trains (or goes on training) and returns the path of the weights.

    Raises:
        UserError: the data, the run folder or the settings cannot be used as they are.
        SystemExit: 130 or 143, saved, after Ctrl-C or SIGTERM.
    """
    check(cfg)
    if cfg.gan_mode == "wgan-gp":  # not all of the layers that are faster on a CPU have second derivatives
        cfg = replace(cfg, plain=True)
    print(describe(open_device(cfg.device, cfg.plain)))
    with processes.first_alone():
        data_dir = cfg.data_dir or draw_pictures(DRAWN)
    data = evaluate.open_data(data_dir, "train", cfg.direction, cfg.photo_side)
    print(f"{len(data):,} training pairs from {data_dir}, {cfg.direction}")
    for _, item in evaluate.readable(data, 1):  # told now, not once for every pair of the set
        crop_pair(*encoding.as_pair(item, cfg.direction), cfg.load_px, cfg.image_px, False, np.random.default_rng(0))
    cfg = replace(cfg, total_steps=cfg.total_steps or -(-cfg.epochs * len(data) // cfg.batch_size))
    nets, optimizers = build(cfg)
    held_out = evaluate.open_data(data_dir, "val", cfg.direction, cfg.photo_side)
    validation = evaluate.fixed_set(held_out, cfg.direction, cfg.image_px, VALIDATION_PAIRS)
    batches = Batches(len(data), sample_maker(data, cfg), cfg.batch_size, cfg.seed, cfg.workers, data.name)
    # Run saves by the clock and at the end, whatever the length of an epoch (D2).
    with Run(cfg, "pix2pix", nets, optimizers) as run:
        for step, (source, target) in run.steps(batches):
            for optimizer in optimizers.values():
                optimizer.set_lr(learning_rate(step, cfg.total_steps, cfg))
            run.record(train_step(nets, optimizers, *encoding.to_networks(source, target, cfg.direction), cfg))
            if run.preview_due():
                translated = translate_all(nets["generator"], validation.sources, cfg.direction, seed=0)
                scores = evaluate.fixed_scores(validation, translated)
                run.note_score(scores, score=evaluate.ranked_by(scores))
                columns = {"source": validation.sources, "translated": translated, "truth": validation.targets}
                run.write_preview(evaluate.sheet(columns, PREVIEW_PAIRS))
        run.save_weights(["generator"], facts(nets["generator"], cfg))
        run.farewell()
    return run.weights


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    stride = 4 if cfg.generator == "resnet" else 2**cfg.levels
    if cfg.generator != "resnet" and not 5 <= cfg.levels <= 10:
        raise UserError(f"--levels {cfg.levels}: a U-Net has 5 to 10; 8 is the paper's, for pictures of 256 px")
    if cfg.image_px % stride:
        below = cfg.image_px // stride * stride
        near = f"{below} or {below + stride}" if below else f"{stride}"
        raise UserError(
            f"--image-px {cfg.image_px}: this {cfg.generator} needs a multiple of {stride}, such as {near}; with fewer "
            "--levels it needs less, and --generator resnet needs a multiple of 4"
        )
    if cfg.load_px and cfg.load_px < cfg.image_px:
        raise UserError(f"--image-px {cfg.image_px} cannot be cut from --load-px {cfg.load_px}: the crop is larger")
    halvings = STRIDED_CONVS.get(cfg.patch_px, 0)
    if "gan" in cfg.objective and cfg.image_px < 3 * 2**halvings:
        raise UserError(
            f"--patch-px {cfg.patch_px}: this discriminator needs pictures of {3 * 2**halvings} px or more, "
            f"--image-px is {cfg.image_px}; take smaller patches"
        )
    if cfg.gan_mode == "wgan-gp" and cfg.discriminator_norm == "batch":
        raise UserError(
            "--gan-mode wgan-gp penalises the gradient of each picture, and batch normalisation mixes pictures; add "
            "--discriminator-norm instance (or none)"
        )
    if not 0 <= cfg.decay_epochs <= cfg.epochs:
        raise UserError(f"--decay-epochs {cfg.decay_epochs} of --epochs {cfg.epochs}: the decay is part of the run")
    ask_for_data(cfg)


def facts(generator: paddle.nn.Layer, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of a trained network."""
    return {"generator": generator.arguments, "image_px": cfg.image_px, "direction": cfg.direction,
            "photo_side": cfg.photo_side, "objective": cfg.objective}  # fmt: skip


def example(weights: Path, data_dir: Path, cfg: Config) -> str:
    """An infer command that works: with a held-out picture, or the half of a pair that is the source."""
    held_out = evaluate.open_data(data_dir, "val", cfg.direction, cfg.photo_side)
    path, half = held_out.path(0), ""
    source, _ = encoding.as_pair(held_out[0], cfg.direction)
    if path and read_image(path).shape[1] == 2 * source.shape[1]:
        left = (cfg.direction == "photo-to-label") == (cfg.photo_side == "left")
        half = f" --half {'left' if left else 'right'}"
    return f"python -m pix2pix.infer --weights {weights} --input {path or 'PICTURE'}{half} --output translated.png"


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = choose(PRESETS, argv, "python -m pix2pix.train", __doc__)
    weights = train(cfg)
    if processes.rank():
        return weights
    data_dir = cfg.data_dir or DRAWN
    result = evaluate.evaluate(evaluate.Options((weights,), data_dir, limit=FINAL_PAIRS))
    print(evaluate.table(result))
    evaluation.write(result, weights.parent, evaluate.sheet(result["pictures"]))
    print(f"\npictures: {weights.parent / 'pictures.png'}")
    print(f"\nweights: {weights}\ntranslate a picture, this one or your own, with\n  {example(weights, data_dir, cfg)}")
    return weights


if __name__ == "__main__":
    main()
