"""Trains pix2pix: the discriminator and the generator take steps in turn (Sec. 3.3).

python -m pix2pix.train quick

python -m pix2pix.train cpu --data-dir DIR --direction label-to-photo
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime import commands
from pix2pix.config import Config, read_train

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    commands.answer_first(read_train, __doc__)

from dataclasses import replace

import numpy as np

from common import config, errors
from common.datasets import image_folder, loader, paired_images
from common.imaging import io
from common.runtime import distributed, optim
from common.training import gan_log, preparation, run
from data.synthetic import write_streets as draw_images
from pix2pix import encoding, evaluate, infer, losses, model

import paddle

PREVIEW_PAIRS = 6
VALIDATION_PAIRS = 32
FINAL_PAIRS = 150
DRAWN = Path("runs/drawn_streets")


def learning_rate(step: int, total_steps: int, cfg: Config) -> float:
    """Of a step (from 0): constant, then falling once an epoch, by the official port's formula (D8).

    An epoch here is 1 / cfg.epochs of the run, so a shorter run goes through the same schedule.
    """
    epoch = min(step, total_steps - 1) * cfg.epochs // total_steps + 1
    late = max(0, epoch - (cfg.epochs - cfg.decay_epochs))
    return cfg.learning_rate * (1 - late / (cfg.decay_epochs + 1))


@optim.in_micro_batches
def train_step(nets: dict, optimizers: dict, x, y, cfg: Config) -> dict:
    """One gradient step on D, then one on G (Sec. 3.3), for every objective of Sec. 4.1.

    Args:
        x: what the generator is given, float32 [N, C, H, W] in [-1, 1].
        y: the truth, float32 [N, C, H, W] in [-1, 1].

    Returns:
        The losses of this step and what D says of the images, by name.
    """
    G, D, log = nets["generator"], nets.get("discriminator"), {}
    with paddle.set_grad_enabled(cfg.accumulate == 1 or D is None):  # micro-batches keep no graph for G's update
        fake = G(x)  # once (D9)

    if D is not None:  # Eq. 1, or Eq. 2 where D does not see x; the fake is detached, so that G gets no gradient (D1)
        real_logits, fake_logits = D(x, y), D(x, fake.detach())
        parts = losses.discriminator_loss(real_logits, fake_logits, cfg.gan_mode)
        log |= gan_log.discriminator_log(parts, real_logits, fake_logits, sigmoid=cfg.gan_mode == "vanilla")
        loss = log["discriminator"]
        if cfg.gan_mode == "wgan-gp":
            log["penalty"] = losses.gradient_penalty(D, x, y, fake.detach(), paddle.rand([len(y), 1, 1, 1]))
            loss = loss + cfg.penalty_weight * log["penalty"]
        yield D, optimizers["discriminator"], loss
        fake = fake if cfg.accumulate == 1 else G(x)

    log["l1"] = losses.l1_loss(fake, y)  # Eq. 3
    loss = cfg.l1_weight * log["l1"] if "l1" in cfg.objective else 0
    if D is not None:  # Eq. 4: lambda times the L1 loss, and the term that deceives D
        with optim.frozen(D):
            log["adversarial"] = losses.adversarial_loss(D(x, fake), cfg.gan_mode)
        loss = loss + log["adversarial"]
    yield G, optimizers["generator"], loss
    return log


def train(cfg: Config) -> Path:
    """Trains (or goes on training) and returns the path of the weights.

    Raises:
        UserError: the data, the run folder or the settings cannot be used as they are.
        SystemExit: 130, 143 or 129, saved, after Ctrl-C, SIGTERM or SIGHUP.
    """
    check(cfg)
    if cfg.gan_mode == "wgan-gp":  # not all of the layers that are faster on a CPU have second derivatives
        cfg = replace(cfg, disable_cpu_layers=True)
    data_dir = preparation.begin(cfg, draw_images, DRAWN)
    data = evaluate.open_data(data_dir, "train", cfg.direction, cfg.photo_side)
    image_folder.announce(data, data_dir, f"training pairs, {cfg.direction},")
    for _, item in image_folder.readable(data, 1, "pair"):  # told now, not once for every pair of the set
        paired_images.crop_pair(
            *encoding.as_pair(item, cfg.direction), cfg.load_px, cfg.image_px, False, np.random.default_rng(0)
        )
    cfg = replace(cfg, total_steps=cfg.total_steps or -(-cfg.epochs * len(data) // cfg.batch_size))
    nets, optimizers = build(cfg)
    nets = preparation.prepare(nets, cfg)  # what changes the networks: CPU layers, AMP, sync batch norm, to_static
    held_out = evaluate.open_data(data_dir, "val", cfg.direction, cfg.photo_side)
    validation = evaluate.fixed_set(held_out, cfg.direction, cfg.image_px, VALIDATION_PAIRS)
    batches = loader.Batches(len(data), sample_maker(data, cfg), cfg.batch_size, cfg.seed, cfg.workers, data.name)
    # Run saves by the clock and at the end, whatever the length of an epoch (D2).
    with run.Run(cfg, "pix2pix", nets, optimizers) as training:
        for step, (source, target) in training.steps(batches):
            optim.set_rate(optimizers, learning_rate(step, training.schedule.total_steps, cfg))
            training.record(train_step(nets, optimizers, *encoding.to_networks(source, target, cfg.direction), cfg))
            if training.preview_due():
                translated = infer.translate_all(nets["generator"], validation.sources, cfg.direction, seed=0)
                scores = evaluate.fixed_scores(validation, translated)
                training.note_score(scores, score=evaluate.ranked_by(scores))
                columns = {"source": validation.sources, "translated": translated, "truth": validation.targets}
                training.write_preview(evaluate.sheet(columns, PREVIEW_PAIRS))
        training.save_weights(["generator"], metadata(nets["generator"], cfg))
        training.report_early_stop()
    return training.weights


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed. Without a GAN term there is no discriminator."""
    paddle.seed(cfg.seed)
    source_channels, target_channels = encoding.channels(cfg.direction)
    ends = {"source_channels": source_channels, "target_channels": target_channels}
    shape = {"base_channels": cfg.base_channels, "norm": cfg.generator_norm, "dropout": cfg.dropout, **ends}
    if cfg.init_generator:
        generator = load_generator(cfg.init_generator, cfg)
    elif cfg.generator == "resnet":
        generator = model.ResnetGenerator(cfg.blocks, upsample=cfg.upsample, **shape)
    else:
        generator = model.UnetGenerator(cfg.levels, skips=cfg.generator == "unet", **shape)
    nets = {"generator": generator}
    if not cfg.init_generator:
        model.initialise(generator, cfg.norm_deviation)
    if cfg.init_discriminator:
        nets["discriminator"] = load_discriminator(cfg.init_discriminator, cfg)
    elif "gan" in cfg.objective:
        nets["discriminator"] = model.PatchDiscriminator(
            cfg.patch_px, cfg.discriminator_channels, cfg.discriminator_norm, cfg.first_norm,
            conditional="cgan" in cfg.objective, **ends,
        )  # fmt: skip
        model.initialise(nets["discriminator"], cfg.norm_deviation)
    return nets, {
        name: paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, beta2=0.999, parameters=net.parameters())
        for name, net in nets.items()
    }


def load_generator(path: Path, cfg: Config) -> paddle.nn.Layer:
    """The generator of a weights file. Raises UserError when it cannot learn from the images that the settings ask."""
    generator = infer.load(path)
    ends = tuple(generator.arguments[end] for end in ("source_channels", "target_channels"))
    if ends != encoding.channels(cfg.direction):
        raise errors.UserError(
            f"{path} turns {ends[0]} channels into {ends[1]}, which is not --direction {cfg.direction}"
        )
    if cfg.image_px % generator.stride:
        raise errors.UserError(
            f"--image-px {cfg.image_px}: the generator in {path} needs a multiple of {generator.stride}"
        )
    generator.train()
    return generator


def load_discriminator(path: Path, cfg: Config) -> model.PatchDiscriminator:
    """The discriminator of a weights file. Raises UserError when it judges something else than is trained."""
    discriminator = preparation.load_initial(path, "pix2pix", "discriminator", model.PatchDiscriminator)
    arguments = discriminator.arguments
    ends = arguments["source_channels"], arguments["target_channels"]
    if ends != encoding.channels(cfg.direction):
        raise errors.UserError(
            f"{path} judges {ends[1]} channels made of {ends[0]}, which is not --direction {cfg.direction}"
        )
    if arguments["patch_px"] != cfg.patch_px:
        raise errors.UserError(
            f"{path} judges patches of {arguments['patch_px']} px; set --patch-px {arguments['patch_px']}"
        )
    if arguments["conditional"] != ("cgan" in cfg.objective):
        sees, objective = ("sees", "l1+cgan") if arguments["conditional"] else ("does not see", "l1+gan")
        raise errors.UserError(f"--objective {cfg.objective}: {path} {sees} the source; set --objective {objective}")
    if cfg.gan_mode == "wgan-gp" and arguments["norm"] == "batch":
        raise errors.UserError(f"--gan-mode wgan-gp cannot be used with {path}, which has batch normalisation")
    return discriminator


# ---- data


def sample_maker(data, cfg: Config):
    """(index, rng) -> source and target, uint8 [H, W, 3], cropped and mirrored together."""

    def make(index: int, rng: np.random.Generator):
        source, target = encoding.as_pair(data[index], cfg.direction)
        return paired_images.crop_pair(source, target, cfg.load_px, cfg.image_px, cfg.flip, rng)

    return make


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    config.at_least(cfg, total_steps=0, epochs=1)
    stride = 4 if cfg.generator == "resnet" else 2**cfg.levels
    if cfg.generator != "resnet" and not 5 <= cfg.levels <= 10:
        raise errors.UserError(f"--levels {cfg.levels}: a U-Net has 5 to 10; 8 is the paper's, for images of 256 px")
    if cfg.image_px % stride:
        below = cfg.image_px // stride * stride
        near = f"{below} or {below + stride}" if below else f"{stride}"
        raise errors.UserError(
            f"--image-px {cfg.image_px}: this {cfg.generator} needs a multiple of {stride}, such as {near}; with fewer "
            "--levels it needs less, and --generator resnet needs a multiple of 4"
        )
    if cfg.load_px and cfg.load_px < cfg.image_px:
        raise errors.UserError(
            f"--image-px {cfg.image_px} cannot be cut from --load-px {cfg.load_px}: the crop is larger"
        )
    if cfg.init_discriminator and "gan" not in cfg.objective:
        raise errors.UserError(f"--init-discriminator {cfg.init_discriminator}: --objective {cfg.objective} has none")
    halvings = model.STRIDED_CONVS.get(cfg.patch_px, 0)
    if "gan" in cfg.objective and cfg.image_px < 3 * 2**halvings:
        raise errors.UserError(
            f"--patch-px {cfg.patch_px}: this discriminator needs images of {3 * 2**halvings} px or more, "
            f"--image-px is {cfg.image_px}; take smaller patches"
        )
    if cfg.gan_mode == "wgan-gp" and cfg.discriminator_norm == "batch":
        raise errors.UserError(
            "--gan-mode wgan-gp penalises the gradient of each image, and batch normalisation mixes images; add "
            "--discriminator-norm instance (or none)"
        )
    if not 0 <= cfg.decay_epochs <= cfg.epochs:
        raise errors.UserError(
            f"--decay-epochs {cfg.decay_epochs} of --epochs {cfg.epochs}: the decay is part of the run"
        )
    config.ask_for_data(cfg)


def metadata(generator: paddle.nn.Layer, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of a trained network."""
    return {"generator": generator.arguments, "image_px": cfg.image_px, "direction": cfg.direction,
            "photo_side": cfg.photo_side, "objective": cfg.objective}  # fmt: skip


def example(weights: Path, data_dir: Path, cfg: Config) -> str:
    """An infer command that works: with a held-out image, or the half of a pair that is the source."""
    held_out = evaluate.open_data(data_dir, "val", cfg.direction, cfg.photo_side)
    path, half = held_out.path(0), []
    source, _ = encoding.as_pair(held_out[0], cfg.direction)
    if path and io.read_image(path).shape[1] == 2 * source.shape[1]:
        left = (cfg.direction == "photo-to-label") == (cfg.photo_side == "left")
        half = ["--half", "left" if left else "right"]
    return commands.example_command("pix2pix.infer", weights, path, *half, "--output", "translated.png")


@commands.one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = read_train(argv, __doc__)  # 0 steps: as many as the epochs make
    weights = train(cfg)
    if distributed.rank():
        return weights
    data_dir = cfg.data_dir or DRAWN
    result = evaluate.evaluate(evaluate.Options((weights,), data_dir, limit=FINAL_PAIRS))
    print(evaluate.table(result))
    evaluate.write(result, weights.parent)
    print(f"\nimages: {weights.parent / 'images.png'}\n\nweights: {weights}")
    print(f"translate an image, this one or your own, with\n  {example(weights, data_dir, cfg)}")
    return weights


if __name__ == "__main__":
    main()
