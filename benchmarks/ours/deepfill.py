"""DeepFill v2 at the article's sizes, and its contextual attention alone."""

from dataclasses import replace

import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.ours import SEED, Pictures, batch, inference, training
from deepfill.config import PRESETS
from deepfill.fast import contextual_attention
from deepfill.infer import faster
from deepfill.model import ATTENDED_ROWS, COARSE_ROWS, DILATED_ROWS, MATCHED_ROWS, MERGED_ROWS
from deepfill.train import build, sample_maker, to_tensors, train_step

import paddle

ROWS = {
    "coarse": COARSE_ROWS,
    "dilated": DILATED_ROWS,
    "matched": MATCHED_ROWS,
    "attended": ATTENDED_ROWS,
    "merged": MERGED_ROWS,
}


def settings(**changed):
    """The article's preset with some settings changed, its networks with their plan, and a batch."""
    cfg = replace(PRESETS["article"][1], **changed)
    nets, optimizers = build(cfg)
    plan = {
        "rows": ROWS,
        "generator": nets["generator"].arguments,
        "discriminator": nets["discriminator"].arguments,
        "adversarial_weight": cfg.adversarial_weight,
    }
    return cfg, nets, optimizers, plan, to_tensors(batch(sample_maker(Pictures(), cfg), cfg.batch_size), True)


def train(folder: str, **changed) -> Side:
    """A step of the discriminator and of the generator."""
    cfg, nets, optimizers, plan, (image, mask, edge) = settings(**changed)

    def step() -> dict:
        return train_step(nets, optimizers, image, mask, edge, False, cfg)

    inputs = {"image": image.numpy(), "mask": mask.numpy(), "edge": edge.numpy()}
    return training(folder, nets, optimizers, step, inputs, plan)


def infer(folder: str, **changed) -> Side:
    """The generator on a batch of images, both stages."""
    _, nets, _, plan, inputs = settings(**changed)
    return inference(folder, nets["generator"], plan, [each.numpy() for each in inputs], faster(nets["generator"]))


def attention(folder: str, side: int, channels: int) -> Side:
    """Contextual attention and its gradient, for one image's features with a hole in their middle."""
    rng = np.random.default_rng(SEED)
    arrays = {name: rng.standard_normal((1, channels, side, side)).astype(np.float32) for name in ("features", "slope")}
    arrays["mask"] = np.zeros((1, 1, side, side), np.float32)
    arrays["mask"][:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
    exchange.write(folder, {}, arrays)
    mask, slope = paddle.to_tensor(arrays["mask"]), paddle.to_tensor(arrays["slope"])
    features = paddle.to_tensor(arrays["features"], stop_gradient=False)

    def work() -> tuple:
        rebuilt = contextual_attention(features, mask)
        return rebuilt, paddle.grad((rebuilt * slope).sum(), features)[0]

    rebuilt, gradient = work()
    return Side(work, {"rebuilt": rebuilt.numpy(), "gradient": gradient.numpy()})
