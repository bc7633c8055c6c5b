"""How fast DCGAN's latent search goes, eager beside compiled, in the same run.

    python -m benchmarks.completion

A step is the losses of 64 rows, their gradient and Adam's update of z; the networks are the article's for 64 px, with
running statistics. The speed does not depend on what they learned, so that their weights are random. The peer is the
loop of `dcgan_completion.search`. Its compiled double has the losses, and with them their gradient, go through
`paddle.jit.to_static`. Rounds alternate between all, because machines drift.
"""

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from common.runtime.commands import one_line_errors
from common.runtime.device import describe, open_device, paddle
from common.runtime.optim import frozen
from common.runtime.strict_json import json_text
from dcgan_completion.losses import contextual_loss, perceptual_loss
from dcgan_completion.model import Discriminator, Generator
from dcgan_completion.search import BATCH, Settings, adam_step, batch_statistics, objective

SETTINGS = Settings(optimizer="adam", learning_rate=0.05, perceptual_weight=0.1, statistics="running")


@dataclass(frozen=True)
class Options:
    """Measure the latent search."""

    steps: int = 3
    """per measurement"""
    rounds: int = 7
    """measurements of each row of the table"""
    device: str = "auto"
    """Device to compute on: auto, cpu, gpu, gpu:N, or another type that Paddle lists (xpu, npu, mlu)."""
    json: Path | None = None
    """file for the result"""


def measure(options: Options) -> dict:
    """Steps per second and ratios (compiled / eager) of each round, as medians with their range."""
    place = open_device(options.device)
    paddle.seed(0)
    generator, discriminator = Generator(), Discriminator()
    px, rng = generator.arguments["image_px"], np.random.default_rng(0)
    image = paddle.to_tensor(rng.uniform(-1, 1, (BATCH, 3, px, px)).astype(np.float32))
    mask = paddle.zeros([BATCH, 1, px, px])
    mask[:, :, px // 4 : -px // 4, px // 4 : -px // 4] = 1
    z = paddle.to_tensor(rng.uniform(-1, 1, (BATCH, generator.arguments["z_channels"])).astype(np.float32))
    result = {"rows": BATCH, "steps": options.steps, "rounds": options.rounds, "device": describe(place)}
    with contextlib.ExitStack() as restored:
        for network in (generator, discriminator):
            restored.enter_context(batch_statistics(network, False))
            restored.enter_context(frozen(network))
        gradients = {}
        for name, judge in (("with the discriminator", discriminator), ("without", None)):
            evaluate = objective(generator, judge, image, mask, SETTINGS)
            gradients[f"{name}, eager"] = lambda z, evaluate=evaluate: evaluate(z).grad
            gradients[f"{name}, compiled"] = compile_gradient(generator, judge, image, mask)
        rates = {name: [] for name in gradients}
        for _ in range(options.rounds + 1):  # the first round compiles
            for name, gradient in gradients.items():
                seconds = timed(lambda gradient=gradient: descend(gradient, z, options.steps))
                rates[name].append(options.steps / seconds)
        slopes = {name: gradient(z).numpy() for name, gradient in gradients.items()}
    for name, values in rates.items():
        peer = name.replace("compiled", "eager")
        ratios = [ours / eager for ours, eager in zip(values[1:], rates[peer][1:], strict=True)]
        result[name] = {
            "steps_per_second": round(statistics.median(values[1:]), 2),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
            "gradient_difference": float(abs(slopes[name] - slopes[peer]).max() / abs(slopes[peer]).max()),
        }
    return result


class Loss(paddle.nn.Layer):
    """The sum of all losses as one layer, because Paddle 2.6 does not compile a function that closes over networks."""

    def __init__(self, generator: Generator, discriminator: Discriminator | None):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, z, image, mask):
        """float32 [N, z_channels], [N, 3, H, W] and [N, 1, H, W] -> one number."""
        generated = self.generator(z)
        loss = contextual_loss(generated, image, mask)
        if self.discriminator is not None:
            loss = loss + SETTINGS.perceptual_weight * perceptual_loss(self.discriminator(generated))
        return loss.sum()


def compile_gradient(generator: Generator, discriminator: Discriminator | None, image, mask) -> Callable:
    """z -> gradient like that of `objective`, from a compiled graph."""
    compiled = paddle.jit.to_static(Loss(generator, discriminator), full_graph=True)  # in eval() it has no gradient

    def gradient(z):
        z = z.detach()
        z.stop_gradient = False
        return paddle.grad(compiled(z, image, mask), z)[0]

    return gradient


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def descend(gradient: Callable, z, steps: int) -> None:
    """Some updates of z, and waits until the last is there."""
    m = v = paddle.zeros_like(z)
    for step in range(steps):
        z, m, v = adam_step(z, m, v, gradient(z), SETTINGS.learning_rate, step + 1)
    z.numpy()


@one_line_errors
def main(argv: list[str] | None = None) -> dict:
    """The command line."""
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.completion", description=__doc__)
    result = measure(options)
    print(f"{result['rows']} rows, {result['rounds']} rounds of {result['steps']} steps, {result['device']}")
    print("| | steps per second | ratio to eager | range |\n|---|---|---|---|")
    for name, row in result.items():
        if isinstance(row, dict):
            span = f"{row['ratio_min']} .. {row['ratio_max']}"
            print(f"| {name} | {row['steps_per_second']} | {row['ratio_median']} | {span} |")
    if options.json:
        options.json.write_text(json_text(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
