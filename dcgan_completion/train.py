"""Trains a DCGAN on faces, which completion then searches: one step of D, then G twice on the same z.

python -m dcgan_completion.train quick

python -m dcgan_completion.train cpu --data-dir DIR
"""

from pathlib import Path

import numpy as np

from common import processes
from common.batches import Batches
from common.checkpoint import build_network, load_network, read_weights
from common.config import ask_for_data, at_least, choose
from common.device import describe, open_device, upload
from common.errors import UserError, one_line_errors
from common.evaluation import cut_pictures
from common.gradients import frozen, update
from common.image_folder import open_pictures
from common.images import crop_square, from_network, grid, to_network
from common.runlog import Run
from data.synthetic import write_faces as draw_pictures
from dcgan_completion import evaluate, infer, losses
from dcgan_completion.config import PRESETS, Config
from dcgan_completion.model import MOMENTUM, Discriminator, Generator, initialise

import paddle

SAMPLES = 32  # pictures of a preview, from the same z throughout
SETTLING = 20  # batches of 64 z
FINAL_PICTURES = 8  # completed and scored at the end
MEAN_FACE_PICTURES = 1_000  # of training, whose mean a search must come nearer than
GATE_PICTURES = 32  # held-out faces that a search must be able to redraw


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): constant, and over the last cfg.decay_steps falling evenly towards zero (D10)."""
    return cfg.learning_rate * min(1.0, (cfg.total_steps - step) / max(1, cfg.decay_steps))


def train_step(nets: dict, optimizers: dict, image, z, cfg: Config) -> dict:
    """One step of the discriminator and cfg.generator_steps of the generator, on the same z (D4).

    Args:
        image: float32 [N, 3, H, W] in [-1, 1].
        z: float32 [N, z_channels] from U(-1, 1).

    Returns:
        The losses of this step, by name.
    """
    generator, discriminator = nets["generator"], nets["discriminator"]
    done = {}

    # Real and generated pictures pass through D in batches of their own.
    generated = generator(z)
    done["discriminator"] = losses.discriminator_loss(discriminator(image), discriminator(generated.detach()))
    update(discriminator, optimizers["discriminator"], done["discriminator"])

    for number in range(cfg.generator_steps):
        if number:
            generated = generator(z)  # the first step's pictures are still those of this G
        with frozen(discriminator):
            done["generator"] = losses.generator_loss(discriminator(generated))
        update(generator, optimizers["generator"], done["generator"])
    if "average" in nets:
        follow(nets["average"], generator, cfg.average_decay)
    return done


def follow(average: Generator, generator: Generator, decay: float) -> None:
    """Moves an average of the generator's weights towards them. Its statistics are `settle`d before it is used."""
    with paddle.no_grad():
        for mean, now in zip(average.parameters(), generator.parameters(), strict=True):
            if not now.stop_gradient:
                mean.set_value(decay * mean + (1 - decay) * now)


def settle(average: Generator, seed: int) -> None:
    """Measures the statistics of the normalisations of an averaged generator, on z of their own chance.

    Its layers give out other means and variances than the generator's at any step: with those its pictures are grey.
    """
    rng = np.random.default_rng((seed, 2))
    norms = [layer for layer in average.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    statistics = [value for norm in norms for value in (norm._mean, norm._variance)]
    average.train()
    with paddle.no_grad():
        for value in statistics:
            value.set_value(paddle.zeros_like(value))
        for _ in range(SETTLING):
            average(paddle.to_tensor(rng.uniform(-1, 1, (64, average.arguments["z_channels"])).astype(np.float32)))
        for value in statistics:  # as Adam does: what began at zero is that much too small
            value.set_value(value / (1 - MOMENTUM**SETTLING))
    average.eval()


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        nets = load_both(cfg.init_generator)
        if nets["generator"].arguments["image_px"] != cfg.image_px:
            raise UserError(
                f"{cfg.init_generator} makes pictures of {nets['generator'].arguments['image_px']} px; set --image-px"
            )
    else:
        nets = {
            "generator": Generator(cfg.variant, cfg.image_px, cfg.base_channels, cfg.z_channels),
            "discriminator": Discriminator(cfg.variant, cfg.image_px, cfg.base_channels),
        }
        for net in nets.values():
            initialise(net)
    optimizers = {
        name: paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, parameters=net.parameters())
        for name, net in nets.items()
    }
    if cfg.average_decay:
        nets["average"] = Generator(**nets["generator"].arguments)
        nets["average"].set_state_dict(nets["generator"].state_dict())
        nets["average"].eval()
    return nets, optimizers


def load_both(path: Path) -> dict:
    """Generator and discriminator of a weights file. Raises UserError where one is missing."""
    tensors, facts = read_weights(path)
    if facts.get("paper") != "dcgan_completion" or "discriminator" not in facts:
        raise UserError(f"{path} does not hold both networks of a DCGAN")
    kinds = {"generator": Generator, "discriminator": Discriminator}
    nets = {name: build_network(kind, facts[name], tensors, path) for name, kind in kinds.items()}
    for name, net in nets.items():
        load_network(net, tensors, name, path)
    return nets


# ---- data


def sample_maker(pictures, cfg: Config):
    """(index, rng) -> (image uint8 [H, W, 3], z float32 [z_channels])."""

    def make(index: int, rng: np.random.Generator):
        image = crop_square(pictures[index], cfg.crop, cfg.image_px, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, rng.uniform(-1, 1, cfg.z_channels).astype(np.float32)

    return make


# ---- the run


def train(cfg: Config) -> Path:
    """Trains (or goes on training) and returns the path of the weights.

    Raises:
        UserError: the data, the run folder or the settings cannot be used as they are.
        SystemExit: 130 or 143, saved, after Ctrl-C or SIGTERM.
    """
    check(cfg)
    print(describe(open_device(cfg.device, cfg.plain)))
    with processes.first_alone():
        data_dir = cfg.data_dir or draw_pictures(Path("runs/drawn_faces"))
    pictures = open_pictures(data_dir, "train")
    print(f"{len(pictures):,} training pictures from {data_dir}")
    nets, optimizers = build(cfg)
    fixed = np.random.default_rng((cfg.seed, 1)).uniform(-1, 1, (SAMPLES, cfg.z_channels)).astype(np.float32)
    # In a new order every epoch; the article's code shuffles once and then lists the folder anew (D11).
    batches = Batches(len(pictures), sample_maker(pictures, cfg), cfg.batch_size, cfg.seed, cfg.workers, pictures.name)
    with Run(cfg, "dcgan_completion", nets, optimizers) as run:
        for step, (image, z) in run.steps(batches):
            for optimizer in optimizers.values():
                optimizer.set_lr(learning_rate(step, cfg))
            image, z = upload(to_network(image)), upload(z)
            run.record(train_step(nets, optimizers, image, z, cfg))
            if run.preview_due():
                if "average" in nets:
                    settle(nets["average"], cfg.seed)
                run.write_preview(samples(nets.get("average", nets["generator"]), fixed))
        if "average" in nets:
            settle(nets["average"], cfg.seed)
            nets["generator"].set_state_dict(nets["average"].state_dict())
        known = facts(nets, cfg)
        if run.complete:
            held_out = cut_pictures(open_pictures(data_dir, "val"), cfg.image_px, cfg.crop, GATE_PICTURES)
            training = cut_pictures(pictures, cfg.image_px, cfg.crop, MEAN_FACE_PICTURES)
            known["gate"] = evaluate.gate(nets["generator"], held_out, training)
        run.save_weights(["generator", "discriminator"], known)
        run.farewell()
    return run.weights


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    at_least(cfg, base_channels=1, z_channels=1, generator_steps=1, decay_steps=0)
    px = cfg.image_px
    if px < 8 or px & (px - 1):
        raise UserError(f"--image-px {px} is no power of two from 8 up; the networks double 4 x 4 until they are there")
    if not 0 <= cfg.average_decay < 1:
        raise UserError(f"--average-decay {cfg.average_decay} is not from 0 up to, without, 1")
    ask_for_data(cfg)


def facts(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "z": "uniform",
    }


def samples(generator: Generator, z: np.ndarray) -> np.ndarray:
    """A sheet of what a generator makes of fixed z, with its running statistics."""
    was_training = generator.training
    generator.eval()
    with paddle.no_grad():
        made = from_network(generator(paddle.to_tensor(z)).numpy())
    if was_training:
        generator.train()
    return grid([list(made[start : start + 8]) for start in range(0, len(made), 8)], cell_px=96)


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = choose(PRESETS, argv, "python -m dcgan_completion.train", __doc__)
    weights = train(cfg)
    if processes.rank():
        return weights
    nets = infer.load(weights)
    if "gate" not in nets.facts:  # --max-minutes ended the run early
        return weights
    print("with nothing missing, G(z) comes within {psnr_db:.1f} dB of {pictures} held-out faces; the mean face: "
          "{mean_face_psnr_db:.1f} dB".format(**nets.facts["gate"]))  # fmt: skip
    data_dir = cfg.data_dir or "runs/drawn_faces"
    options = evaluate.Options(weights, data_dir, split="val", masks=("center",), limit=FINAL_PICTURES)
    result = evaluate.evaluate(options)
    print(evaluate.table(result))
    evaluate.write(result, weights.parent)
    print(f"\npictures: {weights.parent / 'pictures.png'}; weights: {weights}")
    photo = open_pictures(data_dir, "val").path(0) or "PHOTO"
    print("complete a face, this one or your own, with")
    print(f"  python -m dcgan_completion.infer --weights {weights} --input {photo} --output completed.png")
    return weights


if __name__ == "__main__":
    main()
