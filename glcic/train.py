"""Trains GLCIC: Algorithm 1 of the paper.

python -m glcic.train quick

python -m glcic.train cpu --data-dir DIR
"""

import contextlib
from pathlib import Path

import numpy as np

from common import evaluation, processes
from common.batches import Batches
from common.checkpoint import build_network, load_network, read_weights
from common.config import ask_for_data, choose
from common.device import describe, open_device, upload
from common.errors import UserError, one_line_errors
from common.gradients import frozen, update
from common.image_folder import open_pictures
from common.images import crop_square, grid, show_hole, to_network
from common.runlog import Run
from data.synthetic import write_faces as draw_pictures
from glcic import evaluate, holes, losses
from glcic.config import PRESETS, Config
from glcic.infer import load
from glcic.model import STRIDE, CompletionNetwork, Discriminator, composite, cut_patches

import paddle

PREVIEW_PICTURES = 6
VALIDATION_PICTURES = 32
FINAL_PICTURES = 64
MEAN_COLOUR_PICTURES = 500


def phase(step: int, cfg: Config) -> str:
    """Which part of Algorithm 1 a step (from 0) belongs to: completion, discriminator or joint."""
    if step < cfg.completion_steps:
        return "completion"
    return "discriminator" if step < cfg.completion_steps + cfg.discriminator_steps else "joint"


def learning_rate(step: int, cfg: Config) -> float:
    """Of a step (from 0): constant, and over the last cfg.decay_steps falling evenly towards zero (D11)."""
    return cfg.learning_rate * min(1.0, (cfg.total_steps - step) / max(1, cfg.decay_steps))


def train_step(nets: dict, optimizers: dict, image, mask, patch_corners, real_corners, now: str, cfg: Config) -> dict:
    """The loop body of Algorithm 1.

    Args:
        image: float32 [N, 3, H, W] in [-1, 1].
        mask: float32 [N, 1, H, W], 1 in the hole.
        patch_corners, real_corners: int [N, 2], where the local patches of completed and real pictures lie.
        now: the phase.

    Returns:
        The losses of this step, by name.
    """
    completion, discriminator = nets["completion"], nets["discriminator"]
    done = {}
    completed = complete_fixed(completion, image, mask) if now == "discriminator" else completion(image, mask)

    if now != "completion":  # D learns to tell real pictures from completed ones
        fake = composite(image, completed.detach(), mask)
        real_logits = discriminator(image, cut_patches(image, real_corners, cfg.local_px))
        fake_logits = discriminator(fake, cut_patches(fake, patch_corners, cfg.local_px))
        done["discriminator"] = losses.discriminator_loss(real_logits, fake_logits)
        update(discriminator, optimizers["discriminator"], done["discriminator"])

    if now != "discriminator":  # C learns to fill the hole, and in the end to deceive D (D4)
        done["completion"] = loss = losses.completion_loss(completed, image, mask)
        if now == "joint":
            with frozen(discriminator):
                fake = composite(image, completed, mask)
                fake_logits = discriminator(fake, cut_patches(fake, patch_corners, cfg.local_px))
            done["adversarial"] = losses.adversarial_loss(fake_logits, cfg.minimax)
            loss = loss + cfg.adversarial_weight * done["adversarial"]  # D13
        update(completion, optimizers["completion"], loss)
    return done


def complete_fixed(completion: CompletionNetwork, image, mask):
    """The completion of a network that is not being trained: no gradient, and its running statistics stay (D6)."""
    completion.eval()
    with paddle.no_grad():
        completed = completion(image, mask)
    completion.train()
    return completed


def build(cfg: Config) -> tuple[dict, dict]:
    """Networks and optimisers by name, initialised from cfg.seed."""
    paddle.seed(cfg.seed)
    if cfg.init_completion:
        completion = load(cfg.init_completion)
        completion.train()
    else:
        completion = CompletionNetwork(
            base_channels=cfg.base_channels, output=cfg.output, mask_channel=cfg.mask_channel,
            norm_first=cfg.norm_first, norm_momentum=cfg.norm_momentum, norm_epsilon=cfg.norm_epsilon,
        )  # fmt: skip
    if cfg.init_discriminator:
        discriminator = load_discriminator(cfg.init_discriminator, cfg)
    else:
        discriminator = Discriminator(cfg.image_px, cfg.local_px, cfg.global_convs, cfg.base_channels)
    nets = {"completion": completion, "discriminator": discriminator}
    return nets, {name: _optimizer(net, cfg) for name, net in nets.items()}


def _optimizer(network: paddle.nn.Layer, cfg: Config) -> paddle.optimizer.Optimizer:
    if cfg.optimizer == "adam":
        return paddle.optimizer.Adam(cfg.learning_rate, parameters=network.parameters())
    return paddle.optimizer.Adadelta(cfg.learning_rate, rho=0.9, epsilon=1e-6, parameters=network.parameters())


def load_discriminator(path: Path, cfg: Config) -> Discriminator:
    """The discriminators of a weights file. Raises UserError when they judge pictures of another size."""
    tensors, facts = read_weights(path)
    arguments = facts.get("discriminator")
    if facts.get("paper") != "glcic" or arguments is None:
        raise UserError(f"{path} holds no GLCIC discriminator")
    if (arguments["global_px"], arguments["local_px"]) != (cfg.image_px, cfg.local_px):
        raise UserError(
            f"{path} judges pictures of {arguments['global_px']} px and patches of {arguments['local_px']} px; "
            f"set --image-px {arguments['global_px']} --local-px {arguments['local_px']}"
        )
    discriminator = build_network(Discriminator, arguments, tensors, path)
    load_network(discriminator, tensors, "discriminator", path)
    return discriminator


# ---- data


def sample_maker(pictures, cfg: Config):
    """(index, rng) -> image uint8 [H, W, 3], hole bool [H, W], patch corner [2], real corner [2]."""

    def make(index: int, rng: np.random.Generator):
        image = crop_square(pictures[index], cfg.crop, cfg.image_px, rng)
        if cfg.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        return image, *holes.sample(cfg.placement, cfg.image_px, cfg.local_px, cfg.hole_px, rng)

    return make


def mean_colour(pictures, count: int = MEAN_COLOUR_PICTURES) -> np.ndarray:
    """Mean colour of up to `count` pictures spread evenly over the set: float32 [3], RGB in [-1, 1]."""
    colours = []
    for index in np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int)):
        with contextlib.suppress(UserError):  # a broken picture is named when training reads it
            colours.append(pictures[int(index)].reshape(-1, 3).mean(0))
    if not colours:
        raise UserError("no picture of the training set can be read")
    return (np.mean(colours, 0) / 127.5 - 1).astype(np.float32)


def to_tensors(batch: tuple[np.ndarray, ...]) -> tuple:
    """A batch from the readers as image, mask (tensors) and the two corners (on the host)."""
    image, hole, patch_corners, real_corners = batch
    mask = hole[:, None].astype(np.float32)
    return upload(to_network(image)), upload(mask), patch_corners, real_corners


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
    if cfg.fill == "mean" and not cfg.init_completion:
        nets["completion"].mean_colour.set_value(mean_colour(pictures).reshape(1, 3, 1, 1))
    held_out = open_pictures(data_dir, "val")
    validation = evaluation.fixed_set(held_out, cfg.image_px, cfg.crop, "random", VALIDATION_PICTURES)
    # Read as needed, in a new order every epoch; the article shuffles once and holds all pictures in memory (D15).
    batches = Batches(len(pictures), sample_maker(pictures, cfg), cfg.batch_size, cfg.seed, cfg.workers, pictures.name)
    with Run(cfg, "glcic", nets, optimizers) as run:
        for step, batch in run.steps(batches):
            now = phase(step, cfg)
            for optimizer in optimizers.values():
                optimizer.set_lr(learning_rate(step, cfg))
            run.record(train_step(nets, optimizers, *to_tensors(batch), now, cfg))
            if run.preview_due():
                completed = evaluate.complete_all(nets["completion"], *validation)
                run.note_score(evaluation.mean_scores(*validation, completed), score="hole_psnr_db")
                run.write_preview(preview(*validation, completed))
        run.save_weights(["completion"], facts(nets["completion"], cfg))
        run.farewell()
    return run.weights


def check(cfg: Config) -> None:
    """Raises UserError for settings that cannot work, before anything is written."""
    holes.check(cfg.image_px, cfg.local_px, cfg.hole_px)
    if cfg.image_px % STRIDE:
        raise UserError(f"--image-px {cfg.image_px} is no multiple of {STRIDE}")
    ask_for_data(cfg)


def facts(completion: CompletionNetwork, cfg: Config) -> dict:
    """What `infer` and `evaluate` must know of a trained network."""
    return {
        "completion": completion.arguments,
        "image_px": cfg.image_px,
        "crop": cfg.crop,
        "largest_hole": cfg.hole_px[1] / cfg.image_px,
    }


def preview(images: np.ndarray, hole: np.ndarray, completed: np.ndarray) -> np.ndarray:
    """A sheet of the first few pictures: input, completed, truth."""
    rows = [[show_hole(images[n], hole[n]), completed[n], images[n]] for n in range(min(PREVIEW_PICTURES, len(images)))]
    return grid(rows, ["input", "completed", "truth"], cell_px=128)


@one_line_errors
def main(argv: list[str] | None = None) -> Path:
    """The command line: PRESET [--flag value …]."""
    cfg = choose(PRESETS, argv, "python -m glcic.train", __doc__)
    weights = train(cfg)
    if processes.rank():
        return weights
    data_dir = cfg.data_dir or "runs/drawn_faces"
    result = evaluate.evaluate(evaluate.Options(weights, data_dir, limit=FINAL_PICTURES))
    print(evaluation.table(result, evaluate.PUBLISHED))
    evaluation.write(result, weights.parent, evaluation.sheet(result))
    gain = result["rows"]["ours"]["hole_psnr_db"][0] - result["rows"]["mean colour"]["hole_psnr_db"][0]
    print(f"\nhole PSNR above the mean colour: {gain:+.2f} dB; pictures: {weights.parent / 'pictures.png'}")
    photo = open_pictures(data_dir, "test").path(0) or "PHOTO"
    print(f"\nweights: {weights}\ncomplete a picture, this one or your own, with")
    print(f"  python -m glcic.infer --weights {weights} --input {photo} --mask center --output completed.png")
    return weights


if __name__ == "__main__":
    main()
