"""Trains GLCIC: Algorithm 1 of the paper.

python -m glcic.train quick

python -m glcic.train cpu --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime import commands
from glcic.config import Config, read_train

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
from glcic import evaluate, infer, losses, masks, model

import paddle

PREVIEW_IMAGES = 6
VALIDATION_IMAGES = 32
FINAL_IMAGES = 64
MEAN_COLOUR_IMAGES = 500
STATISTICS_BATCHES = 50  # over which the batch norm statistics of the averaged network are taken


def phase(step: int, cfg: Config) -> str:
    """Which part of Algorithm 1 a step (from 0) belongs to: completion, discriminator or joint."""
    if step < cfg.completion_steps:
        return "completion"
    return "discriminator" if step < cfg.completion_steps + cfg.discriminator_steps else "joint"


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): constant, and over the last cfg.decay_steps falling evenly towards zero (D11)."""
    return cfg.learning_rate * min(1.0, max(1, cfg.total_steps - step) / max(1, cfg.decay_steps))


@optim.in_micro_batches
def train_step(nets: dict, optimizers: dict, x, M_c, P_c, P_d, now: str, cfg: Config) -> dict:
    """Lines 4 to 12 of Algorithm 1, the body of its loop; `train` has the lines around it.

    In its symbols C is the completion network, D the discriminators with their fusion, T_C and T_D are
    cfg.completion_steps and cfg.discriminator_steps. M_d, the mask that is drawn for the real images, only says where
    D's local part looks, so that its place P_d is enough.

    Args:
        x: the images, float32 [N, 3, H, W] in [-1, 1].
        M_c: their masks, float32 [N, 1, H, W], 1 in the hole.
        P_c, P_d: int [N, 2], corners of the local patches around M_c and M_d.
        now: the phase.

    Returns:
        The losses of this step and what D says of the images, by name.
    """
    C, D = nets["completion"], nets["discriminator"]
    log = {}

    if now == "completion":  # line 4: t < T_C
        log["completion"] = losses.completion_loss(C(x, M_c), x, M_c, cfg.reconstruction)  # Eq. 2
        yield C, optimizers["completion"], log["completion"]  # line 5
    else:  # line 6
        with paddle.set_grad_enabled(cfg.accumulate == 1):  # micro-batches keep no graph for line 9
            completed = C(x, M_c) if now == "joint" else complete_fixed(C, x, M_c)
        fake = model.composite(x, completed.detach(), M_c)
        real_logits = D(x, model.cut_patches(x, P_d, cfg.local_px))
        fake_logits = D(fake, model.cut_patches(fake, P_c, cfg.local_px))
        parts = losses.discriminator_loss(real_logits, fake_logits)  # Eq. 3
        log |= gan_log.discriminator_log(parts, real_logits, fake_logits)
        yield D, optimizers["discriminator"], log["discriminator"]  # line 8

    if now == "joint":  # line 9: from t = T_C + T_D on C deceives D as well (D4)
        completed = completed if cfg.accumulate == 1 else C(x, M_c)
        log["completion"] = losses.completion_loss(completed, x, M_c, cfg.reconstruction)
        with optim.frozen(D):
            fake = model.composite(x, completed, M_c)
            fake_logits = D(fake, model.cut_patches(fake, P_c, cfg.local_px))
        log["adversarial"] = losses.adversarial_loss(fake_logits, cfg.minimax)
        joint_loss = log["completion"] + cfg.adversarial_weight * log["adversarial"]  # Eq. 4, alpha (D13)
        yield C, optimizers["completion"], joint_loss  # line 10
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
    if cfg.fill == "mean" and not cfg.init_generator:
        colour = mean_colour(images).reshape(1, 3, 1, 1)
        for name in nets.keys() & {"completion", "average"}:
            nets[name].mean_colour.set_value(colour)
    held_out = paired_images.open_photos(data_dir, "val", cfg.pairs)
    validation = protocol.fixed_set(held_out, cfg.image_px, cfg.crop, "random", VALIDATION_IMAGES)
    # Read as needed, in a new order every epoch; the article shuffles once and holds all images in memory (D15).
    batches = loader.Batches(len(images), sample_maker(images, cfg), cfg.batch_size, cfg.seed, cfg.workers, images.name)
    with run.Run(cfg, "glcic", nets, optimizers) as training:
        for step, batch in training.steps(batches):  # lines 1 to 3 and 7: x, M_c and M_d, until t = T_train
            now = phase(step, cfg)
            optim.set_rate(optimizers, learning_rate(step, training.schedule))
            training.record(train_step(nets, optimizers, *to_tensors(batch), now, cfg))
            if "average" in nets and now != "discriminator":
                averaging.update_average(nets["average"], nets["completion"], cfg.average_decay)
            if training.preview_due():
                completed = evaluate.complete_all(network_to_save(nets, batches), *validation)
                training.note_score(protocol.mean_scores(*validation, completed), score="hole_psnr_db")
                sheet = grid.completion_sheet(*validation, PREVIEW_IMAGES, 128, completed=completed)
                training.write_preview(sheet)
        nets["completion"].set_state_dict(network_to_save(nets, batches).state_dict())
        training.save_weights(["completion"], metadata(nets["completion"], cfg))
        training.report_early_stop()
    return training.weights


def complete_fixed(completion: model.CompletionNetwork, image, mask):
    """The completion of a network that is not being trained: no gradient, and its running statistics stay (D6)."""
    completion.eval()
    with paddle.no_grad():
        completed = completion(image, mask)
    completion.train()
    return completed


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_generator:
        completion = infer.load(cfg.init_generator)
        completion.train()
    else:
        completion = model.CompletionNetwork(
            base_channels=cfg.base_channels, output=cfg.output_activation, mask_channel=cfg.mask_channel,
            norm_first=cfg.norm_first, norm_momentum=cfg.norm_momentum, norm_epsilon=cfg.norm_epsilon,
        )  # fmt: skip
    if cfg.init_discriminator:
        discriminator = load_discriminator(cfg.init_discriminator, cfg)
    else:
        discriminator = model.Discriminator(
            cfg.image_px, cfg.local_px, cfg.global_convs, cfg.base_channels,
            norm_momentum=cfg.norm_momentum, norm_epsilon=cfg.norm_epsilon, parts=cfg.discriminators,
        )  # fmt: skip
    nets = {"completion": completion, "discriminator": discriminator}
    optimizers = {name: _optimizer(net, cfg) for name, net in nets.items()}
    if cfg.average_decay:
        nets["average"] = averaging.average_of(completion)
    return nets, optimizers


def _optimizer(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    if cfg.optimizer == "adam":
        return paddle.optimizer.Adam(cfg.learning_rate, parameters=network.parameters())
    return paddle.optimizer.Adadelta(cfg.learning_rate, rho=0.9, epsilon=1e-6, parameters=network.parameters())


def load_discriminator(path: Path, cfg: Config) -> model.Discriminator:
    """The discriminators of a weights file. Raises UserError when they judge images of another size."""
    discriminator = preparation.load_initial(path, "glcic", "discriminator", model.Discriminator)
    arguments = discriminator.arguments
    if (arguments["global_px"], arguments["local_px"]) != (cfg.image_px, cfg.local_px):
        raise errors.UserError(
            f"{path} judges images of {arguments['global_px']} px and patches of {arguments['local_px']} px; "
            f"set --image-px {arguments['global_px']} --local-px {arguments['local_px']}"
        )
    return discriminator


# ---- data


def sample_maker(images, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], mask bool [H, W], patch corner [2], real corner [2]."""

    def make(index: int, rng: np.random.Generator):
        image = transforms.crop_square(images[index], cfg.crop, cfg.image_px, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, *masks.sample(cfg.placement, cfg.image_px, cfg.local_px, cfg.mask_px, rng)

    return make


def mean_colour(images, count: int = MEAN_COLOUR_IMAGES) -> np.ndarray:
    """Mean colour of up to `count` images spread evenly over the set: float32 [3], RGB in [-1, 1]."""
    colours, problems = [], []
    for index in np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)):
        try:
            colours.append(images[int(index)].reshape(-1, 3).mean(0))
        except errors.UserError as problem:  # named again when training reads it
            problems.append(str(problem))
    if not colours:
        raise errors.none_readable(problems)
    return (np.mean(colours, 0) / 127.5 - 1).astype(np.float32)


def to_tensors(batch: tuple[np.ndarray, ...]) -> tuple:
    """A batch from the readers as image, mask (tensors) and the two corners (on the host)."""
    image, mask, patch_corners, real_corners = batch
    float_mask = mask[:, None].astype(np.float32)
    return device.upload(transforms.to_network(image)), device.upload(float_mask), patch_corners, real_corners


def network_to_save(nets: dict, batches: loader.Batches) -> model.CompletionNetwork:
    """The completion network, or its average with batch norm's statistics re-estimated on training images (D18)."""
    if "average" not in nets:
        return nets["completion"]
    inputs = (to_tensors(batch)[:2] for _, batch in zip(range(STATISTICS_BATCHES), batches(0), strict=False))
    averaging.recompute_batch_norm_stats(nets["average"], inputs)
    return nets["average"]


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    masks.check(cfg.image_px, cfg.local_px, cfg.mask_px)
    if cfg.image_px % model.STRIDE:
        raise errors.UserError(f"--image-px {cfg.image_px} is no multiple of {model.STRIDE}")
    if not 0 <= cfg.average_decay < 1:
        raise errors.UserError(f"--average-decay {cfg.average_decay} is not from 0 up to, without, 1")
    config.ask_for_data(cfg)


def metadata(completion: model.CompletionNetwork, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of a trained network."""
    return {
        "completion": completion.arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "largest_hole": cfg.mask_px[1] / cfg.image_px,
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
        evaluate.Options(weights, data_dir, limit=FINAL_IMAGES, baselines="fast", pairs=cfg.pairs)
    )
    print(protocol.table(result, evaluate.PUBLISHED))
    protocol.write(result, weights.parent)
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["mean colour"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above the mean colour: {gain:+.2f} dB; images: {weights.parent / 'images.png'}")
    photo = paired_images.open_photos(data_dir, "test", cfg.pairs).path(0)
    print(f"\nweights: {weights}\ncomplete an image, this one or your own, with")
    words = "--mask", "center", "--output", "completed.png"
    print(f"  {commands.example_command('glcic.infer', weights, photo, *words)}")
    return weights


if __name__ == "__main__":
    main()
