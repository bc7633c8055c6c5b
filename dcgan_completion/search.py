"""The search for z: the latent code whose image G(z) matches the known pixels of an image y.

z starts at random and descends the gradient of `contextual + weight * perceptual`; the networks are frozen. All
restarts of all images are searched side by side, as rows of a batch.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.imaging.transforms import from_network
from common.runtime.optim import frozen
from dcgan_completion.losses import contextual_loss, importance_weights, lowres_loss, perceptual_loss
from dcgan_completion.search_settings import Settings, check

import paddle
from paddle import nn

BATCH = 64  # the article's, in training and in completion


# ---- updates of z; every one ends in [-1, 1]


def nesterov_step(z, v, grad, learning_rate: float, momentum: float):
    """The article's loop: v' = mu v - lr g, then z - mu v + (1 + mu) v', clipped. Returns (z, v')."""
    after = momentum * v - learning_rate * grad
    return paddle.clip(z - momentum * v + (1 + momentum) * after, -1, 1), after


def adam_step(z, m, v, grad, learning_rate: float, t: int):
    """Adam with beta 0.9 and 0.999, epsilon 1e-8 beside the root; t counts from 1. Returns (z, m, v), z clipped."""
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * paddle.square(grad)
    step = (m / (1 - 0.9**t)) / (paddle.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return paddle.clip(z - learning_rate * step, -1, 1), m, v


def hmc_step(
    z, loss, grad, velocity, uniform, loss_and_gradient, *, step_size: float, leapfrog_steps: int, beta: float
):
    """One proposal of Hamiltonian Monte Carlo with the energy H = beta loss + |v|^2 / 2, accepted or not for each row.

    As in bamos's code z is clipped inside the leapfrog, which the theory does not know.

    Args:
        z, velocity: float32 [N, z_channels]; velocities are sampled from N(0, 1).
        loss, grad: float32 [N] and [N, z_channels] at z.
        uniform: float32 [N] from U(0, 1). A proposal is accepted if it is less than exp(H before - H after).
        loss_and_gradient: z -> (loss, grad).

    Returns:
        (z, bool [N]: whether the proposal was accepted).
    """
    before = beta * loss + paddle.square(velocity).sum(1) / 2
    moved = z
    for _ in range(leapfrog_steps):
        velocity = velocity - step_size / 2 * beta * grad
        moved = paddle.clip(moved + step_size * velocity, -1, 1)
        loss, grad = loss_and_gradient(moved)
        velocity = velocity - step_size / 2 * beta * grad
    after = beta * loss + paddle.square(velocity).sum(1) / 2
    taken = paddle.log(uniform) < before - after  # not true if the loss is no number
    return paddle.where(taken.unsqueeze(1).expand_as(z), moved, z), taken


# ---- what is minimised


class Point(NamedTuple):
    """The losses at z of a batch: all float32 [N] but generated [N, 3, H, W] and grad [N, z_channels]."""

    loss: paddle.Tensor
    grad: paddle.Tensor | None
    contextual: paddle.Tensor
    perceptual: paddle.Tensor
    generated: paddle.Tensor


def objective(
    generator: nn.Layer,
    discriminator: nn.Layer | None,
    image,
    mask,
    settings: Settings,
    lowres: bool = False,
    companions=None,
) -> Callable[..., Point]:
    """The loss of images as a function of z, with its gradient.

    Args:
        image, mask: tensors [N, 3, H, W] in [-1, 1] and [N, 1, H, W], 1 where the image is missing; see `search`.
        companions: [n, z_channels], points that pass through the networks after z. They have no loss.

    Returns:
        (z [N, z_channels], gradient=True) -> Point. The gradient is that of the sum of all losses; so with running
        statistics each row's is that of its own loss.
    """
    weight = importance_weights(mask, settings.weight_window) if settings.weight_window else None
    judged = discriminator is not None and settings.perceptual_weight > 0

    def losses(z) -> tuple:
        generated = everything = generator(z if companions is None else paddle.concat([z, companions]))
        if companions is not None:
            generated = everything[: len(image)]
        far = lowres_loss(generated, image) if lowres else contextual_loss(generated, image, mask, weight)
        if not judged:
            return far, paddle.zeros_like(far), generated
        logits = discriminator(everything)[: len(image)]
        return far, perceptual_loss(logits, settings.perceptual_form), generated

    def evaluate(z, gradient: bool = True) -> Point:
        with paddle.set_grad_enabled(gradient):
            z = z.detach()
            z.stop_gradient = not gradient
            contextual, perceptual, generated = losses(z)
            loss = contextual + settings.perceptual_weight * perceptual
            grad = paddle.grad(loss.sum(), z)[0] if gradient else None
        return Point(loss.detach(), grad, contextual.detach(), perceptual.detach(), generated.detach())

    return evaluate


@contextlib.contextmanager
def batch_statistics(network: nn.Layer, on: bool):
    """Sets a network up for normalising by the batch (on) or by the averages of training, and leaves it as it was.

    The averages do not move. In the article's code, which completes with the network of training, they go on moving
    towards the images of the search (D3).
    """
    layers = network.sublayers(include_self=True)
    training = [layer.training for layer in layers]
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2D)]
    averages = [(value, value.clone()) for norm in norms for value in (norm._mean, norm._variance)]
    if on:
        network.train()
    else:
        network.eval()
    try:
        yield
    finally:
        with paddle.no_grad():
            for value, before in averages:
                paddle.assign(before, value)
        for layer, was in zip(layers, training, strict=True):
            layer.training = was


# ---- the search


@dataclass(frozen=True)
class Found:
    """Results of `search` for N images: of each, the restart whose final loss is the lowest."""

    z: np.ndarray
    """float32 [N, z_channels]"""
    loss: np.ndarray
    """float32 [N], at z"""
    generated: np.ndarray
    """float32 [N, 3, H, W] in [-1, 1]: G(z), not yet composited"""
    contextual: np.ndarray
    """float32 [steps, N], row t after t updates: row 0 is the start, and the result comes after the last row"""
    perceptual: np.ndarray
    """float32 [steps, N], likewise, without its weight; 0 without a discriminator"""
    accepted: np.ndarray
    """float32 [N], fraction of hmc's proposals that were accepted; 1 for descents"""
    restart: np.ndarray
    """int [N], which restart was kept"""
    losses: np.ndarray
    """float32 [restarts, N], the final loss of each"""
    frames: np.ndarray
    """uint8 [F, N, H, W, 3]: G(z) after `frame_steps` updates"""
    frame_steps: list[int]
    """F steps: 0, every, 2 every, … and the last step; none if `every` is 0"""


def image_rng(seed: int, image: int) -> np.random.Generator:
    """The random generator of one image for `search`, independent of the other images."""
    return np.random.default_rng([seed, image])


def search(
    generator: nn.Layer,
    discriminator: nn.Layer | None,
    images: np.ndarray,
    masks: np.ndarray,
    settings: Settings,
    rng: np.random.Generator | Sequence[np.random.Generator],
    *,
    lowres: bool = False,
    batch: int = BATCH,
    every: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> Found:
    """Searches z for each image. The networks are left as they were, and collect no gradients.

    With running statistics an image's result depends on its own rng only (but for rounding), and `batch` bounds
    the memory. With batch statistics the rows of a batch belong together. So a batch holds different images before it
    holds restarts of one, and always `batch` rows: missing ones are companions, random points that are not searched
    and stand for the batches that the networks were trained on. (The article's code fills up with searches for grey.)

    Args:
        generator, discriminator: of one size; without a discriminator the contextual loss is alone.
        images: float32 [N, 3, H, W] in [-1, 1], of the generator's size. Colours under the mask are ignored.
        masks: float32 [N, 1, H, W], 1 where the image is missing. If all of it is, only the perceptual loss is left.
        settings: see `Settings`.
        rng: one for each image, see `image_rng`; or one for all, whose next child each image gets in turn.
        lowres: super-resolution: the 8 x 8 block means of the images are compared, and the masks are ignored.
        batch: rows at once, a row being one restart of one image.
        every: keep G(z) every so many steps, in `Found.frames`.
        on_step: called with (updates done, updates in all) after each update of a batch.

    Raises:
        UserError: settings that make no search.
        ValueError: images, masks, rng and generator do not fit each other.
    """
    check(settings)
    count, px = len(images), generator.arguments["image_px"]
    if not count or images.shape != (count, 3, px, px) or masks.shape != (count, 1, px, px):
        raise ValueError(f"images {images.shape} and masks {masks.shape} for a generator of {px} px")
    each = rng.spawn(count) if isinstance(rng, np.random.Generator) else list(rng)
    if len(each) != count:
        raise ValueError(f"{len(each)} random generators for {count} images")
    children = [one.spawn(settings.restarts) for one in each]
    rows = [(index, children[index][restart]) for restart in range(settings.restarts) for index in range(count)]
    chunks = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    ticks = iter(range(1, settings.steps * len(chunks) + 1))

    def tick() -> None:
        if on_step is not None:
            on_step(next(ticks), settings.steps * len(chunks))

    parts = []
    with contextlib.ExitStack() as restored:
        for network in (generator, discriminator):
            if network is not None:
                restored.enter_context(batch_statistics(network, settings.statistics == "batch"))
                restored.enter_context(frozen(network))
        for chunk in chunks:
            chosen, rngs = map(list, zip(*chunk, strict=True))
            image, mask = (paddle.to_tensor(values[chosen].astype(np.float32)) for values in (images, masks))
            z = start(settings, generator.arguments["z_channels"], rngs)
            missing = batch - len(chunk) if settings.statistics == "batch" else 0
            companions = start(settings, z.shape[1], rngs[:1] * missing) if missing > 0 else None
            evaluate = objective(generator, discriminator, image, mask, settings, lowres, companions)
            parts.append(_update_all(evaluate, z, rngs, settings, every, tick))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    frame_steps = [*range(0, settings.steps, every), settings.steps] if every else []
    return _best(found, settings.restarts, frame_steps)


def start(settings: Settings, z_channels: int, rngs: list[np.random.Generator]):
    """Starting points, float32 [N, z_channels], each from its own rng."""
    if settings.z_start == "normal":
        points = [one.standard_normal(z_channels) for one in rngs]
    else:
        points = [one.uniform(-1, 1, z_channels) for one in rngs]
    return paddle.to_tensor(np.float32(points))


def _update_all(
    evaluate: Callable[..., Point],
    z,
    rngs: list[np.random.Generator],
    settings: Settings,
    every: int,
    tick: Callable[[], None],
) -> dict[str, np.ndarray]:
    """All updates of one batch: the fields of `Found`, rows first. Nothing waits for the device but frames."""
    history, frames, takes = [], [], []
    m = v = paddle.zeros_like(z)
    for step in range(settings.steps):
        now = evaluate(z)
        history.append(paddle.stack([now.contextual, now.perceptual]))
        if every and step % every == 0:
            frames.append(from_network(now.generated.numpy()))
        if settings.optimizer == "nesterov":
            z, v = nesterov_step(z, v, now.grad, settings.learning_rate, settings.momentum)
        elif settings.optimizer == "adam":
            z, m, v = adam_step(z, m, v, now.grad, settings.learning_rate, step + 1)
        else:
            z, taken = _propose(evaluate, z, now, rngs, settings, step)
            takes.append(taken)
        tick()
    last = evaluate(z, gradient=False)
    if every:
        frames.append(from_network(last.generated.numpy()))
    contextual, perceptual = paddle.stack(history).transpose([1, 2, 0]).numpy()
    accepted = paddle.stack(takes).astype("float32").mean(0).numpy() if takes else np.ones(len(z), np.float32)
    frames = np.stack(frames, 1) if frames else np.zeros((len(z), 0, *last.generated.shape[2:], 3), np.uint8)
    return {
        "z": z.numpy(), "loss": last.loss.numpy(), "generated": last.generated.numpy(), "contextual": contextual,
        "perceptual": perceptual, "accepted": accepted, "frames": frames,
    }  # fmt: skip


def _propose(evaluate: Callable[..., Point], z, now: Point, rngs: list, settings: Settings, step: int) -> tuple:
    """One `hmc_step`, with velocities and thresholds from each row's own rng."""
    velocity = paddle.to_tensor(np.float32([one.standard_normal(z.shape[1]) for one in rngs]))
    uniform = paddle.to_tensor(np.float32([one.uniform() for one in rngs]))
    return hmc_step(
        z, now.loss, now.grad, velocity, uniform, lambda moved: evaluate(moved)[:2],
        step_size=settings.step_size, leapfrog_steps=settings.leapfrog_steps,
        beta=settings.beta * settings.anneal**step,
    )  # fmt: skip


def _best(rows: dict[str, np.ndarray], restarts: int, frame_steps: list[int]) -> Found:
    """Keeps of each image the restart that ends with the lowest loss."""
    losses = rows["loss"].reshape(restarts, -1)
    restart = np.where(np.isnan(losses), np.inf, losses).argmin(0)
    kept = {name: values[restart * losses.shape[1] + np.arange(losses.shape[1])] for name, values in rows.items()}
    for name in ("contextual", "perceptual", "frames"):
        kept[name] = np.ascontiguousarray(kept[name].swapaxes(0, 1))
    return Found(**kept, restart=restart, losses=losses, frame_steps=frame_steps)


@contextlib.contextmanager
def progress(what: str):
    """A progress bar; yields the `on_step` of `search` that moves it."""
    with tqdm(
        unit="step", desc=what, leave=False, mininterval=0.2 if sys.stderr.isatty() else 30, dynamic_ncols=True
    ) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_step
