"""Trains a Context Encoder (Sec. 3): one step of the discriminator, one of the generator.

python -m context_encoder.train quick

python -m context_encoder.train cpu --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime import commands
from context_encoder.config import Config, read_train

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    commands.answer_first(read_train, __doc__)

import numpy as np

from common import config, errors
from common.datasets import image_folder, loader, paired_images
from common.evaluation import protocol
from common.imaging import grid, transforms
from common.runtime import device, distributed, optim
from common.training import gan_log, preparation, run
from context_encoder import evaluate, infer, losses, masks, model
from data.synthetic import write_faces as draw_images

import paddle

PREVIEW_IMAGES = 6
VALIDATION_IMAGES = 32
FINAL_IMAGES = 64
MEAN_COLOURS = {"release": (117.0, 104.0, 123.0), "imagenet": (123.0, 117.0, 104.0)}  # RGB (D3)


def learning_rate(step: int, cfg: Config) -> float:
    """The discriminator's of a step (from 0): constant, and falling evenly towards zero in the end (D9)."""
    return cfg.learning_rate * min(1.0, max(1, cfg.total_steps - step) / max(1, cfg.decay_steps))


@optim.in_micro_batches
def train_step(nets: dict, optimizers: dict, x, M, cfg: Config) -> dict:
    """One step of the discriminator D, then one of the generator F (Sec. 3.2).

    Args:
        x: the images, float32 [N, 3, H, W] in [-1, 1].
        M: their masks, float32 [N, 1, H, W], 1 in the hole (the paper's M with a hat).

    Returns:
        The losses of this step and what D says of the images, by name.
    """
    F, D = nets["generator"], nets["discriminator"]
    noise = paddle.randn([len(x), F.noise_channels]) if F.noise_channels else None
    context = F.masked(x, M) if D.conditional else None
    with paddle.set_grad_enabled(cfg.accumulate == 1):  # micro-batches keep no graph for F's update
        real, predicted = F.target(x), F(x, M, noise)
    log = {}

    # D learns to tell the truth from the prediction, real and predicted images in batches of their own.
    real_logits, fake_logits = D(real, context), D(predicted.detach(), context)
    parts = losses.discriminator_loss(real_logits, fake_logits)  # Eq. 2
    log |= gan_log.discriminator_log(parts, real_logits, fake_logits)
    yield D, optimizers["discriminator"], log["discriminator"]

    # F learns to predict the truth, and to deceive the D that has just learnt (D6).
    predicted = predicted if cfg.accumulate == 1 else F(x, M, noise)
    with optim.frozen(D):
        log["adversarial"] = losses.adversarial_loss(D(predicted, context))
    log["reconstruction"] = losses.reconstruction_loss(predicted, real, F.target(M), cfg.known_weight)  # Eq. 1
    weight = cfg.reconstruction_weight  # lambda_rec; lambda_adv is the rest
    joint_loss = weight * log["reconstruction"] + (1 - weight) * log["adversarial"]  # Eq. 3
    yield F, optimizers["generator"], joint_loss
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
    held_out = paired_images.open_photos(data_dir, "val", cfg.pairs)
    test = evaluate.fixed_set(held_out, metadata(nets, cfg), cfg.mask, VALIDATION_IMAGES, cfg.shapes_dir)
    validation = test.images, test.masks
    # Every image once an epoch, each with a hole of its own (D14). A last, smaller batch does not arise.
    batches = loader.Batches(len(images), sample_maker(images, cfg), cfg.batch_size, cfg.seed, cfg.workers, images.name)
    with run.Run(cfg, "context_encoder", nets, optimizers) as training:
        for step, batch in training.steps(batches):
            optimizers["discriminator"].set_lr(learning_rate(step, training.schedule))
            optimizers["generator"].set_lr(learning_rate(step, training.schedule) * cfg.generator_rate_factor)
            training.record(train_step(nets, optimizers, *to_tensors(batch), cfg))
            if training.preview_due():
                completed = evaluate.complete_all(nets["generator"], *validation)
                training.note_score(protocol.mean_scores(*validation, completed), score="hole_psnr_db")
                training.write_preview(grid.completion_sheet(*validation, PREVIEW_IMAGES, completed=completed))
        training.save_weights(["generator", "discriminator"], metadata(nets, cfg))
        training.report_early_stop()
    return training.weights


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        generator = infer.load(cfg.init_generator)
        if (generator.image_px, generator.output) != (cfg.image_px, cfg.predicted_region):
            raise errors.UserError(
                f"{cfg.init_generator} completes the {generator.output} of images of {generator.image_px} px; "
                f"set --image-px {generator.image_px} --predicted-region {generator.output}"
            )
        generator.train()
    else:
        generator = model.ContextEncoder(
            cfg.image_px, cfg.predicted_region, cfg.base_channels, cfg.bottleneck, cfg.noise_channels, cfg.overlap_px,
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
        discriminator = model.Discriminator(**arguments)
    nets = {"generator": generator, "discriminator": discriminator}
    return nets, {name: _adam(net, cfg) for name, net in nets.items()}


def _adam(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Adam(cfg.learning_rate, beta1=0.5, beta2=0.999, parameters=network.parameters())


def load_discriminator(path: Path, wanted: dict) -> model.Discriminator:
    """The discriminator of a weights file. Raises UserError when it judges something else than is trained."""
    discriminator = preparation.load_initial(path, "context_encoder", "discriminator", model.Discriminator)
    arguments = discriminator.arguments
    for key in ("side_px", "context_px"):
        if arguments[key] != wanted[key]:
            raise errors.UserError(
                f"the discriminator in {path} has {key} {arguments[key]}, the settings ask {wanted[key]}"
            )
    return discriminator


# ---- data


def sample_maker(images, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], mask bool [H, W]."""
    draw_mask = masks.sampler(cfg.mask, cfg.image_px, cfg.overlap_px, cfg.shapes_dir)

    def make(index: int, rng: np.random.Generator):
        image = cut(images[index], cfg, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, draw_mask(rng)

    return make


def cut(image: np.ndarray, cfg: Config, rng: np.random.Generator) -> np.ndarray:
    """A training square: anywhere in the image at a shorter side of load_px (release), or by the crop's name."""
    if not cfg.load_px:
        return transforms.crop_square(image, cfg.crop, cfg.image_px, rng)
    scale = cfg.load_px / min(image.shape[:2])
    image = transforms.resize(image, *(max(cfg.load_px, round(side * scale)) for side in image.shape[:2]))
    top, left = (int(rng.integers(0, side - cfg.image_px, endpoint=True)) for side in image.shape[:2])
    return image[top : top + cfg.image_px, left : left + cfg.image_px]


def to_tensors(batch: tuple[np.ndarray, ...]) -> tuple:
    """A batch from the readers as image and mask."""
    image, mask = batch
    return device.upload(transforms.to_network(image)), device.upload(mask[:, None].astype(np.float32))


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    config.at_least(cfg, base_channels=1, bottleneck=1, noise_channels=0)
    px = cfg.image_px
    if px < 32 or px & (px - 1):
        raise errors.UserError(f"--image-px {px} is no power of two from 32 up; the networks halve it down to 4")
    if cfg.predicted_region == "center" and cfg.mask != "center":
        raise errors.UserError(
            f"--predicted-region center predicts the centre alone; --mask {cfg.mask} needs --predicted-region whole"
        )
    if not 0 <= cfg.overlap_px < px // 4:
        raise errors.UserError(f"--overlap-px {cfg.overlap_px} leaves no hole; choose 0 to {px // 4 - 1}")
    if cfg.load_px and cfg.load_px < px:
        raise errors.UserError(f"--load-px {cfg.load_px} is less than --image-px {px}; raise it, or give 0")
    if not 0 < cfg.reconstruction_weight <= 1:
        raise errors.UserError(f"--reconstruction-weight {cfg.reconstruction_weight} is not above 0 and up to 1")
    if cfg.conditional and cfg.predicted_region == "whole":
        raise errors.UserError("--conditional is for the centre; the whole image has its surroundings in it")
    if cfg.shapes_dir and cfg.mask != "regions":
        raise errors.UserError(f"--shapes-dir is for --mask regions, not {cfg.mask}")
    config.ask_for_data(cfg)


def metadata(nets: dict, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of trained networks."""
    return {
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "holes": cfg.mask,
    }


@commands.one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = read_train(argv, __doc__)
    weights = train(cfg)
    if distributed.rank():
        return weights
    data_dir = cfg.data_dir or "runs/drawn_faces"
    final = {"limit": FINAL_IMAGES, "baselines": "fast", "pairs": cfg.pairs, "shapes_dir": cfg.shapes_dir}
    options = evaluate.Options(weights, data_dir, **final)
    result = evaluate.evaluate(options)
    print(evaluate.table(result))
    protocol.write(result, weights.parent)
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["mean colour"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above the mean colour: {gain:+.2f} dB; images: {weights.parent / 'images.png'}")
    photo = paired_images.open_photos(data_dir, "test", cfg.pairs).path(0)
    print(f"\nweights: {weights}\ncomplete an image, this one or your own, with")
    words = "--mask", "center", "--output", "completed.png"
    print(f"  {commands.example_command('context_encoder.infer', weights, photo, *words)}")
    return weights


if __name__ == "__main__":
    main()
