"""The Context Encoder at the article's sizes."""

from dataclasses import replace

from benchmarks.exchange import Side
from benchmarks.ours import Pictures, batch, inference, training
from context_encoder.config import PRESETS
from context_encoder.infer import faster
from context_encoder.train import build, sample_maker, to_tensors, train_step


def settings(**changed):
    """The article's preset with some settings changed, its networks with their plan, and a batch."""
    cfg = replace(PRESETS["article"][1], **changed)
    nets, optimizers = build(cfg)
    generator, discriminator = nets["generator"], nets["discriminator"]
    plan = {
        "generator": generator.arguments,
        "encoder_outputs": [block.conv.weight.shape[0] for block in generator.encoder],
        "decoder_outputs": [block.conv.weight.shape[1] for block in generator.decoder],
        "discriminator": discriminator.arguments,
        "discriminator_outputs": [block.conv.weight.shape[0] for block in discriminator.convs],
        "reconstruction_weight": cfg.reconstruction_weight,
        "known_weight": cfg.known_weight,
    }
    return cfg, nets, optimizers, plan, to_tensors(batch(sample_maker(Pictures(), cfg), cfg.batch_size))


def train(folder: str, **changed) -> Side:
    """A step of the discriminator and of the generator."""
    cfg, nets, optimizers, plan, (image, mask) = settings(**changed)

    def step() -> dict:
        return train_step(nets, optimizers, image, mask, cfg)

    return training(folder, nets, optimizers, step, {"image": image.numpy(), "mask": mask.numpy()}, plan)


def infer(folder: str, **changed) -> Side:
    """The generator on a batch of images."""
    _, nets, _, plan, inputs = settings(**changed)
    return inference(folder, nets["generator"], plan, [each.numpy() for each in inputs], faster(nets["generator"]))
