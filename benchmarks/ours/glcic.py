"""GLCIC at the article's sizes."""

from dataclasses import replace

from benchmarks.exchange import Side
from benchmarks.ours import Pictures, batch, inference, training
from glcic.config import PRESETS
from glcic.infer import faster
from glcic.model import COMPLETION_ROWS, DISCRIMINATOR_OUTPUTS
from glcic.train import build, sample_maker, to_tensors, train_step


def settings(**changed):
    """The article's preset with some settings changed, and the plan of its networks."""
    cfg = replace(PRESETS["article"][1], **changed)
    nets, optimizers = build(cfg)
    discriminator = {name: getattr(cfg, name) for name in ("image_px", "local_px", "global_convs", "base_channels")}
    plan = {
        "completion_rows": COMPLETION_ROWS,
        "completion": nets["completion"].arguments,
        "discriminator_outputs": DISCRIMINATOR_OUTPUTS,
        "discriminator": discriminator,
        "adversarial_weight": cfg.adversarial_weight,
    }
    return cfg, nets, optimizers, plan


def stepper(cfg, nets: dict, optimizers: dict):
    """A step of the last phase, on one batch, and that batch."""
    image, mask, *corners = to_tensors(batch(sample_maker(Pictures(), cfg), cfg.batch_size))

    def step() -> dict:
        return train_step(nets, optimizers, image, mask, *corners, "joint", cfg)

    return step, {
        "image": image.numpy(),
        "mask": mask.numpy(),
        "patch_corners": corners[0],
        "real_corners": corners[1],
    }


def train(folder: str, **changed) -> Side:
    """A step of the last phase: completion network and both discriminators."""
    cfg, nets, optimizers, plan = settings(**changed)
    return training(folder, nets, optimizers, *stepper(cfg, nets, optimizers), plan)


def infer(folder: str, **changed) -> Side:
    """The completion network on a batch of images."""
    cfg, nets, _, plan = settings(**changed)
    image, mask, *_ = to_tensors(batch(sample_maker(Pictures(), cfg), cfg.batch_size))
    return inference(folder, nets["completion"], plan, [image.numpy(), mask.numpy()], faster(nets["completion"]))
