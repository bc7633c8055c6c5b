"""GLCIC in PyTorch."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import adam, fill, inference, tensor, training, update


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs, outputs, kernel, dilation, stride, momentum, epsilon):
        super().__init__()
        if stride == 1 / 2:
            self.conv = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1)
        else:
            padding = dilation * (kernel - 1) // 2
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)
        self.norm = nn.BatchNorm2d(outputs, eps=epsilon, momentum=1 - momentum)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x)), inplace=True)


class Completion(nn.Module):
    def __init__(self, rows, base_channels, norm_momentum, norm_epsilon, **_):
        super().__init__()
        self.register_buffer("mean_colour", torch.zeros(1, 3, 1, 1))
        self.names, channels = [row[0] for row in rows], 4
        for name, kernel, dilation, stride, outputs in rows[:-1]:
            width = outputs * base_channels // 64
            setattr(self, name, Block(channels, width, kernel, dilation, stride, norm_momentum, norm_epsilon))
            channels = width
        self.conv11 = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, image, mask):
        x = torch.cat([(image - self.mean_colour) * (1 - mask), mask], dim=1)
        for name in self.names:
            x = getattr(self, name)(x)
        return torch.tanh(x)


class Tower(nn.Module):
    def __init__(self, side, outputs, base_channels):
        super().__init__()
        blocks, channels = [], 3
        for each in outputs:
            width = each * base_channels // 64
            parts = OrderedDict(
                conv=nn.Conv2d(channels, width, 5, stride=2, padding=2),
                norm=nn.BatchNorm2d(width),
                relu=nn.ReLU(inplace=True),
            )
            blocks.append(nn.Sequential(parts))
            channels, side = width, (side + 1) // 2
        self.convs = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels * side * side, 16 * base_channels)

    def forward(self, x):
        return self.fc(self.convs(x).flatten(1))


class Discriminator(nn.Module):
    def __init__(self, outputs, image_px, local_px, global_convs, base_channels):
        super().__init__()
        self.global_tower = Tower(image_px, outputs[:global_convs], base_channels)
        self.local_tower = Tower(local_px, outputs[:5], base_channels)
        self.fusion = nn.Linear(2 * 16 * base_channels, 1)

    def forward(self, image, patch):
        return self.fusion(torch.cat([self.global_tower(image), self.local_tower(patch)], dim=1))


def train(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    completion = fill(Completion(plan["completion_rows"], **plan["completion"]), tensors, "completion")
    discriminator = Discriminator(plan["discriminator_outputs"], **plan["discriminator"])
    fill(discriminator, tensors, "discriminator")
    optimizer_c = adam(completion, plan["adam"]["completion"])
    optimizer_d = adam(discriminator, plan["adam"]["discriminator"])
    image, mask = tensor(tensors["image"]), tensor(tensors["mask"])
    patch_corners, real_corners = tensors["patch_corners"], tensors["real_corners"]
    local_px = plan["discriminator"]["local_px"]

    def cut(images, corners):
        places = enumerate(corners.tolist())
        return torch.stack([images[n, :, top : top + local_px, left : left + local_px] for n, (top, left) in places])

    def step() -> dict:
        completed = completion(image, mask)
        fake = image * (1 - mask) + completed.detach() * mask
        real_logits = discriminator(image, cut(image, real_corners))
        fake_logits = discriminator(fake, cut(fake, patch_corners))
        loss_d = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        update(optimizer_d, loss_d)

        discriminator.requires_grad_(False)
        fake = image * (1 - mask) + completed * mask
        fake_logits = discriminator(fake, cut(fake, patch_corners))
        discriminator.requires_grad_(True)
        mse = ((completed - image) * mask).square().mean() / 4
        adversarial = functional.softplus(-fake_logits).mean()
        update(optimizer_c, mse + plan["adversarial_weight"] * adversarial)
        return {"discriminator": loss_d, "completion": mse, "adversarial": adversarial}

    return training(step, plan)


def infer(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    network = fill(Completion(plan["completion_rows"], **plan["completion"]), tensors, "network")
    return inference(network.eval(), tensors)
