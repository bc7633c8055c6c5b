"""Trains a Context Encoder (Sec. 3): one step of the discriminator, one of the generator.

python -m context_encoder.train quick

python -m context_encoder.train cpu --data-dir DIR
"""

from pathlib import Path

import numpy as np

from common import processes
from common.batches import Batches
from common.checkpoint import build_network, load_network, read_weights
from common.config import ask_for_data, at_least, choose
from common.device import describe, open_device, upload
from common.errors import UserError, one_line_errors
from common.evaluation import mean_scores
from common.gradients import frozen, update
from common.images import crop_square, grid, resize, show_hole, to_network
from common.runlog import Run
from context_encoder import evaluate, holes, losses
from context_encoder.config import PRESETS, Config
from context_encoder.infer import load
from context_encoder.model import ContextEncoder, Discriminator
from data.synthetic import write_faces as draw_pictures

import paddle

PREVIEW_PICTURES = 6
VALIDATION_PICTURES = 32
FINAL_PICTURES = 64
MEAN_COLOURS = {"release": (117.0, 104.0, 123.0), "imagenet": (123.0, 117.0, 104.0)}  # RGB (D3)


def learning_rate(step: int, cfg: Config) -> float:
    """The discriminator's of a step (from 0): constant, and falling evenly towards zero in the end (D9)."""
    return cfg.learning_rate * min(1.0, (cfg.total_steps - step) / max(1, cfg.decay_steps))


def train_step(nets: dict, optimizers: dict, image, mask, cfg: Config) -> dict:
    """One step of both networks.

    Args:
        image: float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W], 1 in the hole.

    Returns:
        The losses of this step, by name.
    """
    generator, discriminator = nets["generator"], nets["discriminator"]
    noise = paddle.randn([len(image), generator.noise_channels]) if generator.noise_channels else None
    context = generator.masked(image, mask) if discriminator.conditional else None
    real, hole = generator.target(image), generator.target(mask)
    predicted = generator(image, mask, noise)
    done = {}

    # D learns to tell the truth from the prediction, real and predicted pictures in batches of their own.
    real_logits, fake_logits = discriminator(real, context), discriminator(predicted.detach(), context)
    done["discriminator"] = losses.discriminator_loss(real_logits, fake_logits)
    update(discriminator, optimizers["discriminator"], done["discriminator"])

    # F learns to predict the truth, and to deceive the D that has just learnt (D6).
    with frozen(discriminator):
        done["adversarial"] = losses.adversarial_loss(discriminator(predicted, context))
    done["reconstruction"] = losses.reconstruction_loss(predicted, real, hole, cfg.known_weight)
    weight = cfg.reconstruction_weight
    update(generator, optimizers["generator"], weight * done["reconstruction"] + (1 - weight) * done["adversarial"])
    return done


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        generator = load(cfg.init_generator)
        if (generator.image_px, generator.output) != (cfg.image_px, cfg.output):
            raise UserError(
                f"{cfg.init_generator} completes the {generator.output} of pictures of {generator.image_px} px; "
                f"set --image-px {generator.image_px} --output {generator.output}"
            )
        generator.train()
    else:
        generator = ContextEncoder(
            cfg.image_px, cfg.output, cfg.base_channels, cfg.bottleneck, cfg.noise_channels, cfg.overlap_px,
            MEAN_COLOURS[cfg.mean_colour], cfg.conv_bias, cfg.bottleneck_relu,
        )  # fmt: skip
    arguments = {
        "side_px": generator.output_px,
        "base_channels": cfg.base_channels,
        "conv_bias": cfg.conv_bias,
        "context_px": cfg.image_px if cfg.conditional else 0,
    }
    if cfg.init_discriminator:
        discriminator = load_discriminator(cfg.init_discriminator, arguments)
    else:
        discriminator = Discriminator(**arguments)
    nets = {"generator": generator, "discriminator": discriminator}
    return nets, {name: _adam(net, cfg) for name, net in nets.items()}


def _adam(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Adam(cfg.learning_rate, beta1=0.5, beta2=0.999, parameters=network.parameters())


def load_discriminator(path: Path, wanted: dict) -> Discriminator:
    """The discriminator of a weights file. Raises UserError when it judges something else than is trained."""
    tensors, facts = read_weights(path)
    arguments = facts.get("discriminator")
    if facts.get("paper") != "context_encoder" or arguments is None:
        raise UserError(f"{path} holds no discriminator of a Context Encoder")
    for key in ("side_px", "context_px"):
        if arguments[key] != wanted[key]:
            raise UserError(f"the discriminator in {path} has {key} {arguments[key]}, the settings ask {wanted[key]}")
    discriminator = build_network(Discriminator, arguments, tensors, path)
    load_network(discriminator, tensors, "discriminator", path)
    return discriminator


# ---- data


def sample_maker(pictures, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], hole bool [H, W]."""
    draw_hole = holes.sampler(cfg.holes, cfg.image_px, cfg.overlap_px, cfg.shapes_dir)

    def make(index: int, rng: np.random.Generator):
        image = cut(pictures[index], cfg, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, draw_hole(rng)

    return make


def cut(image: np.ndarray, cfg: Config, rng: np.random.Generator) -> np.ndarray:
    """A training square: anywhere in the picture at a shorter side of load_px (release), or by the crop's name."""
    if not cfg.load_px:
        return crop_square(image, cfg.crop, cfg.image_px, rng)
    scale = cfg.load_px / min(image.shape[:2])
    image = resize(image, *(max(cfg.load_px, round(side * scale)) for side in image.shape[:2]))
    top, left = (int(rng.integers(0, side - cfg.image_px, endpoint=True)) for side in image.shape[:2])
    return image[top : top + cfg.image_px, left : left + cfg.image_px]


def to_tensors(batch: tuple[np.ndarray, ...]) -> tuple:
    """A batch from the readers as image and mask."""
    image, hole = batch
    return upload(to_network(image)), upload(hole[:, None].astype(np.float32))


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
    held_out = evaluate.open_photos(data_dir, "val", cfg.pairs)
    validation = evaluate.fixed_set(held_out, facts(nets, cfg), cfg.holes, VALIDATION_PICTURES, cfg.shapes_dir)
    # Every picture once an epoch, each with a hole of its own (D14). A last, smaller batch does not arise.
    batches = Batches(len(pictures), sample_maker(pictures, cfg), cfg.batch_size, cfg.seed, cfg.workers, pictures.name)
    with Run(cfg, "context_encoder", nets, optimizers) as run:
        for step, batch in run.steps(batches):
            optimizers["discriminator"].set_lr(learning_rate(step, cfg))
            optimizers["generator"].set_lr(learning_rate(step, cfg) * cfg.generator_rate_factor)
            run.record(train_step(nets, optimizers, *to_tensors(batch), cfg))
            if run.preview_due():
                completed = evaluate.complete_all(nets["generator"], *validation)
                run.note_score(mean_scores(*validation, completed), score="hole_psnr_db")
                run.write_preview(preview(*validation, completed))
        run.save_weights(["generator", "discriminator"], facts(nets, cfg))
        run.farewell()
    return run.weights


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    at_least(cfg, base_channels=1, bottleneck=1, noise_channels=0)
    px = cfg.image_px
    if px < 32 or px & (px - 1):
        raise UserError(f"--image-px {px} is no power of two from 32 up; the networks halve it down to 4")
    if cfg.output == "center" and cfg.holes != "center":
        raise UserError(f"--output center predicts the centre alone; --holes {cfg.holes} needs --output whole")
    if not 0 <= cfg.overlap_px < px // 4:
        raise UserError(f"--overlap-px {cfg.overlap_px} leaves no hole; choose 0 to {px // 4 - 1}")
    if cfg.load_px and cfg.load_px < px:
        raise UserError(f"--load-px {cfg.load_px} is less than --image-px {px}; raise it, or give 0")
    if not 0 < cfg.reconstruction_weight <= 1:
        raise UserError(f"--reconstruction-weight {cfg.reconstruction_weight} is not above 0 and up to 1")
    if cfg.conditional and cfg.output == "whole":
        raise UserError("--conditional is for the centre; the whole picture has its surroundings in it")
    if cfg.shapes_dir and cfg.holes != "regions":
        raise UserError(f"--shapes-dir is for --holes regions, not {cfg.holes}")
    ask_for_data(cfg)


def facts(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "holes": cfg.holes,
    }


def preview(images: np.ndarray, hole: np.ndarray, completed: np.ndarray) -> np.ndarray:
    """A sheet of the first few pictures: input, completed, truth."""
    rows = [[show_hole(images[n], hole[n]), completed[n], images[n]] for n in range(min(PREVIEW_PICTURES, len(images)))]
    return grid(rows, ["input", "completed", "truth"])


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = choose(PRESETS, argv, "python -m context_encoder.train", __doc__)
    weights = train(cfg)
    if processes.rank():
        return weights
    data_dir = cfg.data_dir or "runs/drawn_faces"
    options = evaluate.Options(weights, data_dir, limit=FINAL_PICTURES, pairs=cfg.pairs, shapes_dir=cfg.shapes_dir)
    result = evaluate.evaluate(options)
    print(evaluate.table(result))
    evaluate.write(result, weights.parent)
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["mean colour"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above the mean colour: {gain:+.2f} dB; pictures: {weights.parent / 'pictures.png'}")
    photo = evaluate.open_photos(data_dir, "test", cfg.pairs).path(0) or "PHOTO"
    print(f"\nweights: {weights}\ncomplete a picture, this one or your own, with")
    print(f"  python -m context_encoder.infer --weights {weights} --input {photo} --mask center --output completed.png")
    return weights


if __name__ == "__main__":
    main()
