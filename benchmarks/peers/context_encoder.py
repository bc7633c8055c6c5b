"""The Context Encoder in PyTorch."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import adam, fill, inference, tensor, training, update


def block(conv: nn.Module, relu: nn.Module, norm: int = 0) -> nn.Sequential:
    parts = [("conv", conv), *([("norm", nn.BatchNorm2d(norm))] if norm else []), ("relu", relu)]
    return nn.Sequential(OrderedDict(parts))


def encoder(outputs: list[int], bias: bool) -> tuple[nn.Sequential, int]:
    blocks, channels = [], 3
    for n, width in enumerate(outputs):
        conv = nn.Conv2d(channels, width, 4, 2, 1, bias=bias)
        blocks.append(block(conv, nn.LeakyReLU(0.2, inplace=True), width if n else 0))
        channels = width
    return nn.Sequential(*blocks), channels


class Generator(nn.Module):
    def __init__(self, plan):
        super().__init__()
        arguments = plan["generator"]
        bias, units = arguments["conv_bias"], arguments["bottleneck"]
        fill_colour = torch.tensor(arguments["mean_colour"]) / 127.5 - 1
        self.register_buffer("colour", fill_colour.reshape(1, 3, 1, 1), persistent=False)
        self.encoder, channels = encoder(plan["encoder_outputs"], bias)
        self.bottleneck = nn.Conv2d(channels, units, 4, bias=bias)
        self.bottleneck_norm = nn.BatchNorm2d(units)
        relu = nn.ReLU(inplace=True) if arguments["bottleneck_relu"] else nn.LeakyReLU(0.2, inplace=True)
        self.bottleneck_relu = relu
        blocks, channels = [], units
        for n, width in enumerate(plan["decoder_outputs"]):
            size = (2, 1) if n else (1, 0)
            conv = nn.ConvTranspose2d(channels, width, 4, *size, bias=bias)
            blocks.append(block(conv, nn.ReLU(inplace=True), width))
            channels = width
        self.decoder = nn.Sequential(*blocks)
        self.to_picture = nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=bias)

    def forward(self, image, mask):
        x = self.encoder(image * (1 - mask) + self.colour * mask)
        x = self.bottleneck_relu(self.bottleneck_norm(self.bottleneck(x)))
        return torch.tanh(self.to_picture(self.decoder(x)))


class Discriminator(nn.Module):
    def __init__(self, plan):
        super().__init__()
        bias = plan["discriminator"]["conv_bias"]
        self.convs, channels = encoder(plan["discriminator_outputs"], bias)
        self.score = nn.Conv2d(channels, 1, 4, bias=bias)

    def forward(self, patch):
        return self.score(self.convs(patch)).flatten(1)


def train(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    generator = fill(Generator(plan), tensors, "generator")
    discriminator = fill(Discriminator(plan), tensors, "discriminator")
    optimizer_g = adam(generator, plan["adam"]["generator"])
    optimizer_d = adam(discriminator, plan["adam"]["discriminator"])
    image, mask = tensor(tensors["image"]), tensor(tensors["mask"])
    side = image.shape[2]
    middle = slice(side // 4, side * 3 // 4)
    real, target_mask = image[:, :, middle, middle], mask[:, :, middle, middle]
    fraction = plan["reconstruction_weight"]

    def step() -> dict:
        predicted = generator(image, mask)
        real_logits, fake_logits = discriminator(real), discriminator(predicted.detach())
        loss_d = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        update(optimizer_d, loss_d)

        discriminator.requires_grad_(False)
        adversarial = functional.softplus(-discriminator(predicted)).mean()
        discriminator.requires_grad_(True)
        weight = target_mask + plan["known_weight"] * (1 - target_mask)
        reconstruction = (weight * (predicted - real).square()).mean()
        update(optimizer_g, fraction * reconstruction + (1 - fraction) * adversarial)
        return {"discriminator": loss_d, "adversarial": adversarial, "reconstruction": reconstruction}

    return training(step, plan)


def infer(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    return inference(fill(Generator(plan), tensors, "network").eval(), tensors)
