"""DeepFill v2 in PyTorch, with gated convolutions, and its contextual attention alone."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.peers.networks import adam, fill, inference, tensor, training, update


class Gated(nn.Module):
    def __init__(self, inputs, row, base_channels, gate_first):
        super().__init__()
        name, kernel, dilation, times = row
        self.enlarges, self.gate_first = name.endswith("_upsample"), gate_first
        self.activation = functional.relu if name == "pmconv6" else functional.elu
        stride = 2 if name.endswith("_downsample") else 1
        outputs = 2 * int(times * base_channels)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel - 1) // 2, dilation)

    def forward(self, x):
        if self.enlarges:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        first, second = self.conv(x).chunk(2, dim=1)
        features, gates = (second, first) if self.gate_first else (first, second)
        return self.activation(features) * torch.sigmoid(gates)


class Stage(nn.Module):
    """Layers of several tables under their names, and the last one, to RGB."""

    def add(self, inputs, rows, base_channels, gate_first):
        for row in rows:
            setattr(self, row[0], Gated(inputs, row, base_channels, gate_first))
            inputs = int(row[3] * base_channels)
        return inputs

    def run(self, rows, x):
        for row in rows:
            x = getattr(self, row[0])(x)
        return x


class Coarse(Stage):
    def __init__(self, rows, *shape):
        super().__init__()
        self.rows = rows
        self.conv17 = nn.Conv2d(self.add(5, rows, *shape), 3, 3, padding=1)

    def forward(self, x):
        return torch.tanh(self.conv17(self.run(self.rows, x)))


class Refine(Stage):
    def __init__(self, rows, *shape):
        super().__init__()
        self.rows = rows
        dilated = self.add(3, rows["dilated"], *shape)
        attended = self.add(self.add(3, rows["matched"], *shape), rows["attended"], *shape)
        self.allconv17 = nn.Conv2d(self.add(dilated + attended, rows["merged"], *shape), 3, 3, padding=1)

    def forward(self, image, mask):
        x = self.run(self.rows["dilated"], image)
        y = contextual_attention(self.run(self.rows["matched"], image), mask)
        y = self.run(self.rows["attended"], y)
        return torch.tanh(self.allconv17(self.run(self.rows["merged"], torch.cat([x, y], dim=1))))


class Generator(nn.Module):
    """Both stages, with the article's inputs: image, mask, edges."""

    def __init__(self, rows, base_channels, gate_first, **_):
        super().__init__()
        self.coarse = Coarse(rows["coarse"], base_channels, gate_first)
        self.refine = Refine(rows, base_channels, gate_first)

    def forward(self, image, mask, edge):
        incomplete = image * (1 - mask)
        coarse = self.coarse(torch.cat([incomplete, mask, edge * mask], dim=1))
        return coarse, self.refine(incomplete + coarse * mask, mask)


class Discriminator(nn.Module):
    def __init__(self, base_channels, slope, **_):
        super().__init__()
        self.slope, channels = slope, 5
        for n, times in enumerate([1, 2, 4, 4, 4, 4], 1):
            conv = nn.Conv2d(channels, times * base_channels, 5, stride=2, padding=2)
            setattr(self, f"conv{n}", nn.utils.spectral_norm(conv))
            channels = times * base_channels

    def forward(self, image, mask, edge):
        x = torch.cat([image, mask, edge * mask], dim=1)
        for n in range(1, 7):
            x = functional.leaky_relu(getattr(self, f"conv{n}")(x), self.slope, inplace=True)
        return x.flatten(1)


# ---- contextual attention


def contextual_attention(features, mask):
    """With matrix products, which on a CPU is faster than the release's convolutions with patches as kernels."""
    height, width = features.shape[2:]
    rows, columns = height // 2, width // 2
    small = reduce(features, rows, columns)
    queries = functional.unfold(small, 3, padding=1)
    patches = queries / queries.norm(dim=1, keepdim=True).clamp(min=1e-4)
    missing = functional.max_pool2d(reduce(reduce(mask, height, width), rows, columns), 3, stride=1, padding=1)
    known = (missing == 0).to(features.dtype).flatten(2)
    scores = diagonal_sum(torch.bmm(queries.transpose(1, 2), patches))
    scores = exchange_axes(diagonal_sum(exchange_axes(scores, rows, columns)), columns, rows)
    weights = functional.softmax(scores * (known * 10), dim=2) * known
    sources = functional.unfold(features, 4, padding=1, stride=2)
    pasted = torch.bmm(sources, weights.transpose(1, 2))
    return functional.fold(pasted, (height, width), 4, padding=1, stride=2) / 4


def reduce(x, height, width):
    """TensorFlow's nearest with corners aligned."""
    for axis, (size, smaller) in ((2, (x.shape[2], height)), (3, (x.shape[3], width))):
        step = (size - 1) / (smaller - 1) if smaller > 1 else 0.0
        x = x.index_select(
            axis, torch.floor(torch.arange(smaller, dtype=torch.float32, device=x.device) * step + 0.5).long()
        )
    return x


def diagonal_sum(scores):
    """Of each score, itself and its two neighbours along the diagonal: [N, queries, patches]."""
    total = scores.clone()
    total[:, 1:, 1:] += scores[:, :-1, :-1]
    total[:, :-1, :-1] += scores[:, 1:, 1:]
    return total


def exchange_axes(scores, rows, columns):
    """Places row after row -> column after column, of queries and of patches."""
    count, places = len(scores), rows * columns
    scores = scores.view(count, rows, columns, rows, columns).permute(0, 2, 1, 4, 3)
    return scores.reshape(count, places, places)


# ---- rows


def train(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    generator = fill(Generator(plan["rows"], **plan["generator"]), tensors, "generator")
    discriminator = fill(Discriminator(**plan["discriminator"]), tensors, "discriminator")
    optimizer_g = adam(generator, plan["adam"]["generator"])
    optimizer_d = adam(discriminator, plan["adam"]["discriminator"])
    image, mask, edge = (tensor(tensors[name]) for name in ("image", "mask", "edge"))

    def step() -> dict:
        coarse, refined = generator(image, mask, edge)
        completed = image * (1 - mask) + refined * mask
        both = torch.cat([image, completed.detach()])
        real_logits, fake_logits = discriminator(both, mask.repeat(2, 1, 1, 1), edge.repeat(2, 1, 1, 1)).chunk(2)
        loss_d = 0.5 * (functional.relu(1 - real_logits).mean() + functional.relu(1 + fake_logits).mean())
        update(optimizer_d, loss_d)

        discriminator.requires_grad_(False)
        adversarial = -discriminator(completed, mask, edge).mean()
        discriminator.requires_grad_(True)
        l1 = functional.l1_loss(coarse, image) + functional.l1_loss(refined, image)
        update(optimizer_g, l1 + plan["adversarial_weight"] * adversarial)
        return {"discriminator": loss_d, "reconstruction": l1, "adversarial": adversarial}

    return training(step, plan)


def infer(folder: str, **_) -> Side:
    plan, tensors = exchange.read(folder)
    return inference(fill(Generator(plan["rows"], **plan["generator"]), tensors, "network").eval(), tensors)


def attention(folder: str, **_) -> Side:
    _, tensors = exchange.read(folder)
    features, mask, slope = (tensor(tensors[name]) for name in ("features", "mask", "slope"))
    features.requires_grad_()

    def work() -> tuple:
        rebuilt = contextual_attention(features, mask)
        return rebuilt, torch.autograd.grad((rebuilt * slope).sum(), features)[0]

    rebuilt, gradient = work()
    return Side(work, {"rebuilt": rebuilt.detach().numpy(), "gradient": gradient.numpy()})
