"""Trains DeepFill v2: in each step the discriminator once, then the generator once.

python -m deepfill.train quick

python -m deepfill.train cpu --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime import commands
from deepfill.config import Config, read_train

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    commands.answer_first(read_train, __doc__)

import numpy as np

from common import config, errors
from common.datasets import image_folder, loader, paired_images
from common.evaluation import protocol
from common.imaging import grid, transforms
from common.runtime import device, distributed, optim
from common.training import gan_log, preparation, run
from data.synthetic import write_faces as draw_images
from deepfill import evaluate, infer, losses, masks, model, sketch

import paddle

PREVIEW_IMAGES = 6
VALIDATION_IMAGES = 32
FINAL_IMAGES = 64


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): over the first cfg.warmup_steps rising evenly, over the last cfg.decay_steps falling (D9)."""
    rising = (step + 1) / max(1, cfg.warmup_steps)
    falling = max(1, cfg.total_steps - step) / max(1, cfg.decay_steps)
    return cfg.learning_rate * min(1.0, rising, falling)


@optim.in_micro_batches
def train_step(nets: dict, optimizers: dict, x, mask, edge, plain: bool, cfg: Config) -> dict:
    """One step of the discriminator and one of the generator, on the same images and masks (Sec. 3.4, D7).

    Args:
        x: the images, float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W], 1 in the hole.
        edge: float32 [N, 1, H, W], 1 on the lines of the sketch, or None.
        plain: leave the discriminator out (D10).

    Returns:
        The losses of this step and what D says of the images, by name.
    """
    G, D = nets["generator"], nets["discriminator"]
    with paddle.set_grad_enabled(cfg.accumulate == 1 or plain):  # micro-batches keep no graph for G's update
        coarse, refined = G(x, mask, edge)
    completed = x * (1 - mask) + refined * mask
    log = {}

    if not plain:  # real and completed images pass through D in one call, which is one step of its spectral norms
        both = paddle.concat([x, completed.detach()])
        twice = [value if value is None else paddle.concat([value, value]) for value in (mask, edge)]
        real_logits, fake_logits = D(both, *twice).chunk(2)
        parts = losses.discriminator_loss(real_logits, fake_logits)  # Eq. 2: hinge
        log |= gan_log.discriminator_log(parts, real_logits, fake_logits, sigmoid=False)
        yield D, optimizers["discriminator"], log["discriminator"]
        if cfg.accumulate > 1:
            coarse, refined = G(x, mask, edge)
            completed = x * (1 - mask) + refined * mask

    log["reconstruction"] = loss = losses.reconstruction_loss(x, coarse, refined, mask, cfg.known_weight)
    if not plain:
        with optim.frozen(D):
            log["adversarial"] = losses.adversarial_loss(D(completed, mask, edge))  # - D(G(z))
        loss = loss + cfg.adversarial_weight * log["adversarial"]
    yield G, optimizers["generator"], loss
    return log


def train(cfg: Config) -> Path:
    """Trains (or goes on training) and returns the path of the weights.

    Raises:
        UserError: the data, the run folder or the settings cannot be used as they are.
        SystemExit: 130, 143 or 129, saved, after Ctrl-C, SIGTERM or SIGHUP.
    """
    check(cfg)
    data_dir = preparation.begin(cfg, draw_images, "runs/drawn_faces")
    images = paired_images.open_photos(data_dir, "train", cfg.pairs)
    image_folder.announce(images, data_dir, "training images")
    nets, optimizers = build(cfg)
    nets = preparation.prepare(nets, cfg)  # what changes the networks: CPU layers, AMP, sync batch norm, to_static
    known = metadata(nets, cfg)
    held_out = paired_images.open_photos(data_dir, "val", cfg.pairs)
    validation = protocol.fixed_set(held_out, cfg.image_px, cfg.crop, "freeform", VALIDATION_IMAGES)
    batches = loader.Batches(len(images), sample_maker(images, cfg), cfg.batch_size, cfg.seed, cfg.workers, images.name)
    with run.Run(cfg, "deepfill", nets, optimizers) as training:
        for step, batch in training.steps(batches):
            optim.set_rate(optimizers, learning_rate(step, training.schedule))
            tensors = to_tensors(batch, cfg.mask_per_batch)
            training.record(train_step(nets, optimizers, *tensors, step < cfg.plain_steps, cfg))
            if training.preview_due():
                coarse, completed = evaluate.complete_all(nets["generator"], *validation)
                training.note_score(protocol.mean_scores(*validation, completed), score="hole_psnr_db")
                training.write_preview(
                    grid.completion_sheet(*validation, PREVIEW_IMAGES, coarse=coarse, completed=completed)
                )
        training.save_weights(["generator", "discriminator"], known)
        training.report_early_stop()
    return training.weights


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        generator = infer.load(cfg.init_generator)
        generator.train()
        if generator.arguments["guided"] != cfg.guided:
            raise errors.UserError(
                f"{cfg.init_generator} {'takes a' if generator.arguments['guided'] else 'takes no'} sketch; set "
                f"--{'' if generator.arguments['guided'] else 'no-'}guided"
            )
    else:
        generator = model.Generator(
            base_channels=cfg.base_channels, layers=cfg.layers, inputs=cfg.inputs, guided=cfg.guided,
            gate_first=cfg.gate_first, padding=cfg.padding, residual=cfg.residual,
        )  # fmt: skip
        model.initialise(generator)
    if cfg.init_discriminator:
        discriminator = infer.load_discriminator(cfg.init_discriminator, cfg.guided)
    else:
        discriminator = model.Discriminator(cfg.discriminator_channels, cfg.guided, cfg.slope, cfg.padding)
    nets = {"generator": generator, "discriminator": discriminator}
    refuse_other_padding(nets, cfg)
    return nets, {name: _adam(net, cfg) for name, net in nets.items()}


def refuse_other_padding(nets: dict, cfg: Config) -> None:
    """Raises UserError if generator and discriminator are padded in different ways: each sees the image shifted."""
    generator, discriminator = (nets[name].arguments["padding"] for name in ("generator", "discriminator"))
    if generator == discriminator:
        return
    if cfg.init_generator and cfg.init_discriminator:
        raise errors.UserError(
            f"the generator in {cfg.init_generator} is padded {generator}, the discriminator in "
            f"{cfg.init_discriminator} {discriminator}; take both of one codebase (`convert --padding` if it guessed)"
        )
    started = cfg.init_generator or cfg.init_discriminator
    padding = generator if cfg.init_generator else discriminator
    raise errors.UserError(f"the network in {started} is padded {padding}; set --padding {padding}")


def _adam(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, beta2=cfg.beta2, parameters=network.parameters())


# ---- data


def sample_maker(images, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], mask bool [H, W], and sketch bool [H, W] if cfg.guided."""

    def make(index: int, rng: np.random.Generator):
        image, lines = images[index], None
        if cfg.edges_dir:
            path = sketch.edge_file(images.path(index) or images.name(index), cfg.edges_dir)
            lines = sketch.read_sketch(path, *image.shape[:2])
        crop_seed = int(rng.integers(2**31))  # the same crop for image and edges
        image = transforms.crop_square(image, cfg.crop, cfg.image_px, np.random.default_rng(crop_seed))
        mask = masks.KINDS[cfg.mask](cfg.image_px, cfg.image_px, rng)
        flip = -1 if cfg.flip and rng.random() < 0.5 else 1
        if not cfg.guided:
            return image[:, ::flip], mask
        if lines is None:
            lines = sketch.edges(image)
        else:
            lines = sketch.crop(lines, cfg.crop, cfg.image_px, np.random.default_rng(crop_seed))
        lines = sketch.thicken(lines, rng)
        return image[:, ::flip], mask, sketch.drop(lines[:, ::flip], cfg.sketch_drop, rng)

    return make


def to_tensors(batch: tuple[np.ndarray, ...], per_batch: bool) -> tuple:
    """A batch from the readers as image, mask and edge or None."""
    image, mask, *lines = batch
    if per_batch:
        mask = np.broadcast_to(mask[:1], mask.shape)
    maps = [device.upload(np.ascontiguousarray(each[:, None], dtype=np.float32)) for each in (mask, *lines)]
    return device.upload(transforms.to_network(image)), maps[0], maps[1] if lines else None


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    config.at_least(
        cfg, base_channels=2, discriminator_channels=1, warmup_steps=0, decay_steps=0, plain_steps=0,
        adversarial_weight=0, known_weight=0,
    )  # fmt: skip
    if cfg.image_px < 32 or cfg.image_px % 8:
        raise errors.UserError(f"--image-px {cfg.image_px} is no multiple of 8 from 32 up")
    if cfg.base_channels % 2:
        raise errors.UserError(f"--base-channels {cfg.base_channels} is odd; the last layers have half as many")
    if not 0 <= cfg.sketch_drop <= 1:
        raise errors.UserError(f"--sketch-drop {cfg.sketch_drop} is no share from 0 to 1")
    if not cfg.guided and cfg.edges_dir:
        raise errors.UserError("--edges-dir is for --guided, which is off")
    if cfg.edges_dir and not cfg.edges_dir.is_dir():
        raise errors.UserError(f"there is no folder of edges {cfg.edges_dir}")
    config.ask_for_data(cfg)


def metadata(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "holes": cfg.mask,
        "colours": "RGB",
    }


@commands.one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = read_train(argv, __doc__)
    weights = train(cfg)
    if distributed.rank():
        return weights
    data_dir = cfg.data_dir or "runs/drawn_faces"
    result = evaluate.evaluate(
        evaluate.Options((weights,), data_dir, limit=FINAL_IMAGES, baselines="fast", pairs=cfg.pairs)
    )
    print(evaluate.table(result))
    protocol.write(result, weights.parent)
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["Telea"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above Telea: {gain:+.2f} dB; images: {weights.parent / 'images.png'}")
    photo = paired_images.open_photos(data_dir, "test", cfg.pairs).path(0)
    print(f"\nweights: {weights}\ncomplete an image, this one or your own, with")
    words = "--mask", "freeform", "--output", "completed.png"
    print(f"  {commands.example_command('deepfill.infer', weights, photo, *words)}")
    return weights


if __name__ == "__main__":
    main()
