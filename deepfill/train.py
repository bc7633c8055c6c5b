"""Trains DeepFill v2: in each step the discriminator once, then the generator once.

python -m deepfill.train quick

python -m deepfill.train cpu --data-dir DIR
"""

from pathlib import Path

import numpy as np

from common import evaluation, processes
from common.batches import Batches
from common.checkpoint import load_network, read_weights
from common.completion import LINE_SHARE
from common.config import ask_for_data, at_least, choose
from common.device import describe, open_device, upload
from common.errors import UserError, one_line_errors
from common.gradients import frozen, update
from common.images import crop_square, grid, show_hole, to_network
from common.runlog import Run
from data.synthetic import write_faces as draw_pictures
from deepfill import evaluate, losses, sketch
from deepfill.config import PRESETS, Config
from deepfill.holes import KINDS
from deepfill.infer import exchange_red_and_blue, load
from deepfill.model import Discriminator, Generator, initialise

import paddle

PREVIEW_PICTURES = 6
VALIDATION_PICTURES = 32
FINAL_PICTURES = 64


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): over the first cfg.warmup_steps rising evenly, over the last cfg.decay_steps falling (D9)."""
    rising, falling = (step + 1) / max(1, cfg.warmup_steps), (cfg.total_steps - step) / max(1, cfg.decay_steps)
    return cfg.learning_rate * min(1.0, rising, falling)


def train_step(nets: dict, optimizers: dict, image, mask, edge, plain: bool, cfg: Config) -> dict:
    """One step of the discriminator and one of the generator, on the same pictures and holes (D7).

    Args:
        image: float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W], 1 in the hole.
        edge: float32 [N, 1, H, W], 1 on the lines of the sketch, or None.
        plain: leave the discriminator out (D10).

    Returns:
        The losses of this step, by name.
    """
    generator, discriminator = nets["generator"], nets["discriminator"]
    coarse, refined = generator(image, mask, edge)
    completed = image * (1 - mask) + refined * mask
    done = {}

    if not plain:  # real and completed pictures pass through D in one call, which is one step of its spectral norms
        both = paddle.concat([image, completed.detach()])
        twice = [value if value is None else paddle.concat([value, value]) for value in (mask, edge)]
        real_logits, fake_logits = discriminator(both, *twice).chunk(2)
        done["discriminator"] = losses.discriminator_loss(real_logits, fake_logits)
        update(discriminator, optimizers["discriminator"], done["discriminator"])

    done["reconstruction"] = loss = losses.reconstruction_loss(image, coarse, refined, mask, cfg.known_weight)
    if not plain:
        with frozen(discriminator):
            done["adversarial"] = losses.adversarial_loss(discriminator(completed, mask, edge))
        loss = loss + cfg.adversarial_weight * done["adversarial"]
    update(generator, optimizers["generator"], loss)
    return done


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        generator = load(cfg.init_generator)
        generator.train()
        if generator.arguments["guided"] != cfg.guided:
            raise UserError(
                f"{cfg.init_generator} {'takes a' if generator.arguments['guided'] else 'takes no'} sketch; set "
                f"--{'' if generator.arguments['guided'] else 'no-'}guided"
            )
    else:
        generator = Generator(
            base_channels=cfg.base_channels, layers=cfg.layers, inputs=cfg.inputs, guided=cfg.guided,
            gate_first=cfg.gate_first, padding=cfg.padding, residual=cfg.residual,
        )  # fmt: skip
        initialise(generator)
    if cfg.init_discriminator:
        discriminator = load_discriminator(cfg.init_discriminator, cfg.guided)
    else:
        discriminator = Discriminator(cfg.discriminator_channels, cfg.guided, cfg.slope, cfg.padding)
    nets = {"generator": generator, "discriminator": discriminator}
    return nets, {name: _adam(net, cfg) for name, net in nets.items()}


def _adam(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Adam(cfg.learning_rate, beta1=cfg.beta1, beta2=cfg.beta2, parameters=network.parameters())


def load_discriminator(path: Path, guided: bool) -> Discriminator:
    """The discriminator of a weights file. Raises UserError when it judges something else than is trained."""
    tensors, facts = read_weights(path)
    arguments = facts.get("discriminator")
    if facts.get("paper") != "deepfill" or arguments is None:
        raise UserError(f"{path} holds no discriminator of DeepFill v2")
    if arguments["guided"] != guided:
        raise UserError(f"the discriminator in {path} {'takes a' if arguments['guided'] else 'takes no'} sketch")
    # Planned by `build_network` it cannot be: the spectral normalisation computes when it is made.
    last = tensors.get("discriminator.conv6.weight_orig")
    if last is None or last.shape[0] != 4 * arguments["base_channels"]:
        raise UserError(f"{path} describes a discriminator of {arguments['base_channels']} channels without its layers")
    discriminator = Discriminator(**arguments)
    load_network(discriminator, tensors, "discriminator", path)
    if facts.get("colours") == "BGR":
        first = discriminator.conv1
        exchange_red_and_blue(first.weight_orig, axis=1)
        exchange_red_and_blue(first.weight_v, axis=0, shape=(first.weight_orig.shape[1], -1))  # a filter, flattened
    return discriminator


# ---- data


def sample_maker(pictures, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], hole bool [H, W], and sketch bool [H, W] if cfg.guided."""

    def make(index: int, rng: np.random.Generator):
        image = pictures[index]
        lines = None
        if cfg.edges_dir:
            path = sketch.edge_file(pictures.path(index) or pictures.name(index), cfg.edges_dir)
            lines = sketch.read_sketch(path, *image.shape[:2])
            lines = np.repeat(lines[..., None], 3, axis=2).astype(np.uint8) * 255
        chance = int(rng.integers(2**31))  # the same crop for picture and edges
        image = crop_square(image, cfg.crop, cfg.image_px, np.random.default_rng(chance))
        hole = KINDS[cfg.holes](cfg.image_px, cfg.image_px, rng)
        flip = -1 if cfg.flip and rng.random() < 0.5 else 1
        if not cfg.guided:
            return image[:, ::flip], hole
        if lines is None:
            lines = sketch.edges(image)
        else:
            lines = crop_square(lines, cfg.crop, cfg.image_px, np.random.default_rng(chance))[..., 0] > 255 * LINE_SHARE
        lines = sketch.thicken(lines, rng)
        return image[:, ::flip], hole, sketch.drop(lines[:, ::flip], cfg.sketch_drop, rng)

    return make


def to_tensors(batch: tuple[np.ndarray, ...], per_batch: bool) -> tuple:
    """A batch from the readers as image, mask and edge or None."""
    image, hole, *lines = batch
    if per_batch:
        hole = np.broadcast_to(hole[:1], hole.shape)
    maps = [upload(np.ascontiguousarray(each[:, None], dtype=np.float32)) for each in (hole, *lines)]
    return upload(to_network(image)), maps[0], maps[1] if lines else None


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
    pictures = evaluate.open_photos(data_dir, "train", cfg.pairs)
    print(f"{len(pictures):,} training pictures from {data_dir}")
    nets, optimizers = build(cfg)
    known = facts(nets, cfg)
    held_out = evaluate.open_photos(data_dir, "val", cfg.pairs)
    validation = evaluation.fixed_set(held_out, cfg.image_px, cfg.crop, "freeform", VALIDATION_PICTURES)
    batches = Batches(len(pictures), sample_maker(pictures, cfg), cfg.batch_size, cfg.seed, cfg.workers, pictures.name)
    with Run(cfg, "deepfill", nets, optimizers) as run:
        for step, batch in run.steps(batches):
            for optimizer in optimizers.values():
                optimizer.set_lr(learning_rate(step, cfg))
            tensors = to_tensors(batch, cfg.hole_per_batch)
            run.record(train_step(nets, optimizers, *tensors, step < cfg.plain_steps, cfg))
            if run.preview_due():
                coarse, completed = evaluate.complete_all(nets["generator"], *validation)
                run.note_score(evaluation.mean_scores(*validation, completed), score="hole_psnr_db")
                run.write_preview(preview(*validation, coarse, completed))
        run.save_weights(["generator", "discriminator"], known)
        run.farewell()
    return run.weights


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    at_least(
        cfg, base_channels=2, discriminator_channels=1, warmup_steps=0, decay_steps=0, plain_steps=0,
        adversarial_weight=0, known_weight=0,
    )  # fmt: skip
    if cfg.image_px < 32 or cfg.image_px % 8:
        raise UserError(f"--image-px {cfg.image_px} is no multiple of 8 from 32 up")
    if cfg.base_channels % 2:
        raise UserError(f"--base-channels {cfg.base_channels} is odd; the last layers have half as many")
    if not 0 <= cfg.sketch_drop <= 1:
        raise UserError(f"--sketch-drop {cfg.sketch_drop} is no share from 0 to 1")
    if not cfg.guided and cfg.edges_dir:
        raise UserError("--edges-dir is for --guided, which is off")
    if cfg.edges_dir and not cfg.edges_dir.is_dir():
        raise UserError(f"there is no folder of edges {cfg.edges_dir}")
    ask_for_data(cfg)


def facts(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "holes": cfg.holes,
        "colours": "RGB",
    }


def preview(images: np.ndarray, holes: np.ndarray, coarse: np.ndarray, completed: np.ndarray) -> np.ndarray:
    """A sheet of the first few pictures: input, coarse, completed, truth."""
    rows = [[show_hole(images[n], holes[n]), coarse[n], completed[n], images[n]] for n in range(len(images))]
    return grid(rows[:PREVIEW_PICTURES], ["input", "coarse", "completed", "truth"])


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = choose(PRESETS, argv, "python -m deepfill.train", __doc__)
    weights = train(cfg)
    if processes.rank():
        return weights
    data_dir = cfg.data_dir or "runs/drawn_faces"
    result = evaluate.evaluate(evaluate.Options((weights,), data_dir, limit=FINAL_PICTURES, pairs=cfg.pairs))
    print(evaluate.table(result))
    evaluate.write(result, weights.parent)
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["Telea"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above Telea: {gain:+.2f} dB; pictures: {weights.parent / 'pictures.png'}")
    photo = evaluate.open_photos(data_dir, "test", cfg.pairs).path(0) or "PHOTO"
    print(f"\nweights: {weights}\ncomplete a picture, this one or your own, with")
    print(f"  python -m deepfill.infer --weights {weights} --input {photo} --mask freeform --output completed.png")
    return weights


if __name__ == "__main__":
    main()
