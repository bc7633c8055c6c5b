"""DCGAN and the search for z in PyTorch, with the article's 5x5 kernels laid as TensorFlow's SAME."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import adam, fill, inference, tensor, training, update


class Generator(nn.Module):
    def __init__(self, z_channels, inputs):
        super().__init__()
        self.linear = nn.Linear(z_channels, inputs[0] * 4 * 4)
        self.inputs = inputs
        for level, outputs in enumerate([*inputs[1:], 3]):
            setattr(self, f"norm{level}", nn.BatchNorm2d(inputs[level]))
            setattr(self, f"deconv{level + 1}", nn.ConvTranspose2d(inputs[level], outputs, 5, stride=2, padding=1))

    def forward(self, z):
        x = self.linear(z).view(-1, self.inputs[0], 4, 4)
        for level in range(len(self.inputs)):
            x = functional.relu(getattr(self, f"norm{level}")(x), inplace=True)
            x = getattr(self, f"deconv{level + 1}")(x)[:, :, :-1, :-1]
        return torch.tanh(x)


class Discriminator(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.levels, inputs = len(outputs), 3
        for level, width in enumerate(outputs):
            setattr(self, f"conv{level}", nn.Conv2d(inputs, width, 5, stride=2))
            if level:
                setattr(self, f"norm{level}", nn.BatchNorm2d(width))
            inputs = width
        self.linear = nn.Linear(inputs * 4 * 4, 1)

    def forward(self, x):
        for level in range(self.levels):
            x = getattr(self, f"conv{level}")(functional.pad(x, [1, 2, 1, 2]))
            if level:
                x = getattr(self, f"norm{level}")(x)
            x = functional.leaky_relu(x, 0.2, inplace=True)
        return self.linear(x.flatten(1))


def networks(plan: dict, tensors: dict[str, np.ndarray]) -> tuple[Generator, Discriminator]:
    generator = fill(Generator(plan["z_channels"], plan["generator_inputs"]), tensors, "generator")
    return generator, fill(Discriminator(plan["discriminator_outputs"]), tensors, "discriminator")


def train(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    generator, discriminator = networks(plan, tensors)
    optimizer_g = adam(generator, plan["adam"]["generator"])
    optimizer_d = adam(discriminator, plan["adam"]["discriminator"])
    image, z = tensor(tensors["image"]), tensor(tensors["z"])

    def step() -> dict:
        generated = generator(z)
        real_logits, fake_logits = discriminator(image), discriminator(generated.detach())
        loss_d = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        update(optimizer_d, loss_d)

        discriminator.requires_grad_(False)
        for number in range(plan["generator_steps"]):
            if number:
                generated = generator(z)
            loss_g = functional.softplus(-discriminator(generated)).mean()
            update(optimizer_g, loss_g)
        discriminator.requires_grad_(True)
        return {"discriminator": loss_d, "generator": loss_g}

    return training(step, plan)


def infer(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    network = fill(Generator(plan["z_channels"], plan["generator_inputs"]), tensors, "network")
    return inference(network.eval(), tensors)


def completion(folder: str, **_) -> Side:
    """Some updates of z by Adam, with running statistics."""
    plan, tensors = exchange.read(folder)
    generator, discriminator = (net.eval().requires_grad_(False) for net in networks(plan, tensors))
    image, known, start = tensor(tensors["image"]), 1 - tensor(tensors["mask"]), tensor(tensors["z"])

    def losses(z) -> tuple:
        generated = generator(z)
        contextual = (known * (generated - image)).abs().sum([1, 2, 3])
        return contextual, functional.softplus(-discriminator(generated)).flatten(), generated

    def work() -> dict:
        z = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=plan["learning_rate"])
        history = []
        for _ in range(plan["steps"]):
            contextual, perceptual, _ = losses(z)
            update(optimizer, (contextual + plan["perceptual_weight"] * perceptual).sum())
            with torch.no_grad():
                z.clamp_(-1, 1)
            history.append((contextual.detach(), perceptual.detach()))
        with torch.no_grad():
            contextual, perceptual, generated = losses(z)
        loss = contextual + plan["perceptual_weight"] * perceptual
        contextual, perceptual = (torch.stack(column).cpu().numpy() for column in zip(*history, strict=True))
        return {
            "loss": loss.cpu().numpy(),
            "contextual": contextual,
            "perceptual": perceptual,
            f"{exchange.LATER}generated": generated.cpu().numpy(),
        }

    return Side(work, work())
