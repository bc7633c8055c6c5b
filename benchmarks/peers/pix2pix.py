"""pix2pix in PyTorch, with the article's ResNet generator."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import adam, fill, inference, tensor, training, update


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.norm1(self.conv1(functional.pad(x, [1, 1, 1, 1], mode="reflect")))
        y = functional.pad(functional.relu(y, inplace=True), [1, 1, 1, 1], mode="reflect")
        return x + self.norm2(self.conv2(y))


class Generator(nn.Module):
    def __init__(self, blocks, base_channels, source_channels, target_channels, **_):
        super().__init__()
        width = base_channels
        self.conv1 = nn.Conv2d(source_channels, width, 7, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width * 2, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width * 2)
        self.conv3 = nn.Conv2d(width * 2, width * 4, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width * 4)
        self.blocks = nn.Sequential(*(Residual(width * 4) for _ in range(blocks)))
        self.deconv1 = nn.ConvTranspose2d(width * 4, width * 2, 3, stride=2, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(width * 2)
        self.deconv2 = nn.ConvTranspose2d(width * 2, width, 3, stride=2, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(width)
        self.conv4 = nn.Conv2d(width, target_channels, 7)

    def forward(self, source):
        x = functional.pad(source, [3, 3, 3, 3], mode="reflect")
        for number in (1, 2, 3):
            x = functional.relu(getattr(self, f"norm{number}")(getattr(self, f"conv{number}")(x)), inplace=True)
        x = self.blocks(x)
        for deconv, norm in ((self.deconv1, self.norm4), (self.deconv2, self.norm5)):
            x = functional.pad(functional.relu(norm(deconv(x)), inplace=True), [0, 1, 0, 1])
        return torch.tanh(self.conv4(functional.pad(x, [3, 3, 3, 3], mode="reflect")))


class Discriminator(nn.Module):
    """Patches; instance normalisation with scale and shift after every convolution but the last, as in the article."""

    def __init__(self, strided, base_channels, source_channels, target_channels, **_):
        super().__init__()
        self.convs, channels = nn.Sequential(), source_channels + target_channels
        for n in range(strided + 1):
            width = base_channels * min(2**n, 8)
            parts = OrderedDict(
                conv=nn.Conv2d(channels, width, 4, stride=2 if n < strided else 1, padding=1, bias=n == 0),
                norm=nn.InstanceNorm2d(width, affine=True),
                relu=nn.LeakyReLU(0.2, inplace=True),
            )
            self.convs.append(nn.Sequential(parts))
            channels = width
        self.last = nn.Conv2d(channels, 1, 4, padding=1)

    def forward(self, source, image):
        return self.last(self.convs(torch.cat([source, image], dim=1)))


def train(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    generator = fill(Generator(**plan["generator"]), tensors, "generator")
    discriminator = fill(Discriminator(plan["strided_convs"], **plan["discriminator"]), tensors, "discriminator")
    optimizer_g = adam(generator, plan["adam"]["generator"])
    optimizer_d = adam(discriminator, plan["adam"]["discriminator"])
    source, real = tensor(tensors["source"]), tensor(tensors["real"])

    def step() -> dict:
        fake = generator(source)
        real_logits, fake_logits = discriminator(source, real), discriminator(source, fake.detach())
        loss_d = (functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()) / 2
        update(optimizer_d, loss_d)

        discriminator.requires_grad_(False)
        adversarial = functional.softplus(-discriminator(source, fake)).mean()
        discriminator.requires_grad_(True)
        l1 = functional.l1_loss(fake, real)
        update(optimizer_g, plan["l1_weight"] * l1 + adversarial)
        return {"discriminator": loss_d, "l1": l1, "adversarial": adversarial}

    return training(step, plan)


def infer(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    return inference(fill(Generator(**plan["generator"]), tensors, "network").train(), tensors)
