"""Trains a DCGAN on faces, which completion then searches: one step of D, then G twice on the same z.

python -m dcgan_completion.train quick

python -m dcgan_completion.train cpu --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime import commands
from dcgan_completion.config import Config, read_train

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    commands.answer_first(read_train, __doc__)

import numpy as np

from common import config, errors
from common.datasets import image_folder, loader, paired_images
from common.evaluation import protocol
from common.imaging import grid, transforms
from common.runtime import device, distributed, optim
from common.training import averaging, gan_log, preparation, run
from data.synthetic import write_faces as draw_images
from dcgan_completion import evaluate, infer, losses, model

import paddle

SAMPLES = 32  # images of a preview, from the same z throughout
SETTLING = 20  # batches of 64 z
FINAL_IMAGES = 8  # completed and scored at the end
MEAN_FACE_IMAGES = 1_000  # of training, whose mean a search must come nearer than
GATE_IMAGES = 32  # held-out faces that a search must be able to redraw


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): constant, and over the last cfg.decay_steps falling evenly towards zero (D10)."""
    return cfg.learning_rate * min(1.0, max(1, cfg.total_steps - step) / max(1, cfg.decay_steps))


@optim.in_micro_batches
def train_step(nets: dict, optimizers: dict, y, z, cfg: Config) -> dict:
    """One step of the discriminator and cfg.generator_steps of the generator, on the same z (D4).

    Args:
        y: the images, float32 [N, 3, H, W] in [-1, 1].
        z: float32 [N, z_channels] from U(-1, 1).

    Returns:
        The losses of this step and what D says of the images, by name.
    """
    G, D = nets["generator"], nets["discriminator"]
    log = {}

    # Real and generated images pass through D in batches of their own.
    with paddle.set_grad_enabled(cfg.accumulate == 1):  # micro-batches keep no graph for G's update
        generated = G(z)
    real_logits, fake_logits = D(y), D(generated.detach())
    parts = losses.discriminator_loss(real_logits, fake_logits)
    log |= gan_log.discriminator_log(parts, real_logits, fake_logits)
    yield D, optimizers["discriminator"], log["discriminator"]

    for number in range(cfg.generator_steps):
        if number or cfg.accumulate > 1:
            generated = G(z)  # the first step's images are still those of this G
        with optim.frozen(D):
            log["generator"] = losses.generator_loss(D(generated))
        yield G, optimizers["generator"], log["generator"]
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
    fixed = np.random.default_rng((cfg.seed, 1)).uniform(-1, 1, (SAMPLES, cfg.z_channels)).astype(np.float32)
    # In a new order every epoch; the article's code shuffles once and then lists the folder anew (D11).
    batches = loader.Batches(len(images), sample_maker(images, cfg), cfg.batch_size, cfg.seed, cfg.workers, images.name)
    with run.Run(cfg, "dcgan_completion", nets, optimizers) as training:
        for step, (image, z) in training.steps(batches):
            optim.set_rate(optimizers, learning_rate(step, training.schedule))
            image, z = device.upload(transforms.to_network(image)), device.upload(z)
            training.record(train_step(nets, optimizers, image, z, cfg))
            if "average" in nets:
                averaging.update_average(nets["average"], nets["generator"], cfg.average_decay)
            if training.preview_due():
                if "average" in nets:
                    settle(nets["average"], cfg.seed)
                training.write_preview(samples(nets.get("average", nets["generator"]), fixed))
        if "average" in nets:
            settle(nets["average"], cfg.seed)
            nets["generator"].set_state_dict(nets["average"].state_dict())
        known = metadata(nets, cfg)
        if training.complete:
            held_out = protocol.cut_images(
                paired_images.open_photos(data_dir, "val", cfg.pairs), cfg.image_px, cfg.crop, GATE_IMAGES
            )
            seen = protocol.cut_images(images, cfg.image_px, cfg.crop, MEAN_FACE_IMAGES)
            known["gate"] = evaluate.gate(nets["generator"], held_out, seen)
        training.save_weights(["generator", "discriminator"], known)
        training.report_early_stop()
    return training.weights


def settle(average: model.Generator, seed: int) -> None:
    """Re-estimates the batch norm statistics of an averaged generator, on z of its own."""
    rng = np.random.default_rng((seed, 2))
    size = 64, average.arguments["z_channels"]
    batches = ((paddle.to_tensor(rng.uniform(-1, 1, size).astype(np.float32)),) for _ in range(SETTLING))
    averaging.recompute_batch_norm_stats(average, batches)


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        nets = load_both(cfg.init_generator)
        if nets["generator"].arguments["image_px"] != cfg.image_px:
            raise errors.UserError(
                f"{cfg.init_generator} makes images of {nets['generator'].arguments['image_px']} px; set --image-px"
            )
    else:
        nets = {
            "generator": model.Generator(cfg.variant, cfg.image_px, cfg.base_channels, cfg.z_channels),
            "discriminator": model.Discriminator(cfg.variant, cfg.image_px, cfg.base_channels),
        }
        for net in nets.values():
            model.initialise(net)
    optimizers = {
        name: paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, parameters=net.parameters())
        for name, net in nets.items()
    }
    if cfg.average_decay:
        nets["average"] = averaging.average_of(nets["generator"])
    return nets, optimizers


def load_both(path: Path) -> dict:
    """Generator and discriminator of a weights file. Raises UserError where one is missing."""
    kinds = {"generator": model.Generator, "discriminator": model.Discriminator}
    return {name: preparation.load_initial(path, "dcgan_completion", name, kind) for name, kind in kinds.items()}


# ---- data


def sample_maker(images, cfg: Config):
    """(index, rng) -> (image uint8 [H, W, 3], z float32 [z_channels])."""

    def make(index: int, rng: np.random.Generator):
        image = transforms.crop_square(images[index], cfg.crop, cfg.image_px, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, rng.uniform(-1, 1, cfg.z_channels).astype(np.float32)

    return make


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    config.at_least(cfg, base_channels=1, z_channels=1, generator_steps=1, decay_steps=0)
    px = cfg.image_px
    if px < 8 or px & (px - 1):
        raise errors.UserError(
            f"--image-px {px} is no power of two from 8 up; the networks double 4 x 4 until they are there"
        )
    if not 0 <= cfg.average_decay < 1:
        raise errors.UserError(f"--average-decay {cfg.average_decay} is not from 0 up to, without, 1")
    config.ask_for_data(cfg)


def metadata(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "z": "uniform",
    }


def samples(generator: model.Generator, z: np.ndarray) -> np.ndarray:
    """A sheet of what a generator makes of fixed z, with its running statistics."""
    was_training = generator.training
    generator.eval()
    with paddle.no_grad():
        made = transforms.from_network(generator(paddle.to_tensor(z)).numpy())
    if was_training:
        generator.train()
    return grid.grid([list(made[start : start + 8]) for start in range(0, len(made), 8)], cell_px=96)


@commands.one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = read_train(argv, __doc__)
    weights = train(cfg)
    if distributed.rank():
        return weights
    nets = infer.load(weights)
    if "gate" not in nets.metadata:  # --max-minutes ended the run early
        return weights
    print("with nothing missing, G(z) comes within {psnr_db:.1f} dB of {pictures} held-out faces; the mean face: "
          "{mean_face_psnr_db:.1f} dB".format(**nets.metadata["gate"]))  # fmt: skip
    data_dir = cfg.data_dir or "runs/drawn_faces"
    final = {"split": "val", "mask": ("center",), "limit": FINAL_IMAGES, "baselines": "fast", "pairs": cfg.pairs}
    options = evaluate.Options(weights, data_dir, **final)
    result = evaluate.evaluate(options)
    print(evaluate.table(result))
    evaluate.write(result, weights.parent)
    print(f"\nimages: {weights.parent / 'images.png'}; weights: {weights}")
    photo = paired_images.open_photos(data_dir, "val", cfg.pairs).path(0)
    print("complete a face, this one or your own, with")
    print(f"  {commands.example_command('dcgan_completion.infer', weights, photo, '--output', 'completed.png')}")
    return weights


if __name__ == "__main__":
    main()
