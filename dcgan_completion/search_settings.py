"""How z is searched, and the ways of the article and of others. Imports no Paddle."""

from dataclasses import dataclass
from typing import Literal

from common.errors import UserError

PerceptualForm = Literal["non-saturating", "minimax"]


@dataclass(frozen=True)
class Settings:
    """How z is searched. Settings() is the article's."""

    optimizer: Literal["nesterov", "adam", "hmc"] = "nesterov"
    """Optimiser of z: descent with Nesterov's momentum, Adam, or Hamiltonian Monte Carlo, which samples [article: it
    says Adam, and shows Nesterov, D1]"""
    learning_rate: float = 0.01
    """Learning rate of nesterov and adam [article's code]"""
    momentum: float = 0.9
    """Momentum of nesterov [article's code]"""
    perceptual_weight: float = 0.1
    """Weight of the perceptual loss (lambda) against a contextual loss that is a sum; 0 leaves the discriminator out
    [article's code]"""
    perceptual_form: PerceptualForm = "non-saturating"
    """Perceptual loss: -log D(G(z)), or with minimax log(1 - D(G(z))) [article's code; its text has the other]"""
    weight_window: int = 0
    """Side in pixels, odd, of the neighbourhood whose missing fraction weighs a known pixel; 0 weighs all alike
    [article]"""
    steps: int = 1000
    """Number of updates of z, or of proposals of hmc [article's code]"""
    restarts: int = 1
    """Number of points that each image starts from; the one with the lowest loss at the end is kept [article: one]"""
    z_start: Literal["uniform", "normal"] = "uniform"
    """Distribution from which z starts: U(-1, 1) or N(0, 1); later it stays in [-1, 1] [article]"""
    statistics: Literal["batch", "running"] = "batch"
    """Statistics of batch normalisations: those of the batch at hand, by which images completed together change each
    other a little, or the averages of training [article's code, unstated]"""
    leapfrog_steps: int = 100
    """Number of leapfrog steps of one proposal of hmc, each with a gradient [bamos]"""
    step_size: float = 0.001
    """Step size epsilon of hmc's leapfrog steps [bamos]"""
    beta: float = 0.2
    """Factor of the loss in hmc's energy, an inverse temperature [bamos]"""
    anneal: float = 1.0
    """Factor of beta after each proposal of hmc [bamos]"""


PRESETS = {
    "suite": Settings(optimizer="adam", learning_rate=0.05, steps=500, restarts=4, statistics="running"),  # ours, D12
    "article": Settings(),
    "bamos": Settings(optimizer="adam", statistics="running"),  # the code's later revisions
    "yeh2017": Settings(
        optimizer="adam",
        learning_rate=0.01,  # the paper gives none: bamos's
        perceptual_weight=0.003,
        perceptual_form="minimax",
        weight_window=7,
        steps=1500,
        statistics="running",  # the paper does not say
    ),
    "authors-repo": Settings(
        learning_rate=0.0003,
        perceptual_weight=0.2,
        weight_window=15,
        steps=3000,
        z_start="normal",
        statistics="batch",  # the nodes that it takes from its frozen graph are those of training
    ),
}


def check(settings: Settings) -> None:
    """Raises UserError for settings that make no search."""
    for name in ("steps", "restarts", "leapfrog_steps"):
        if getattr(settings, name) < 1:
            raise UserError(f"{name} is {getattr(settings, name)}; it must be at least 1")
    for name in ("learning_rate", "step_size", "beta", "anneal"):
        if not getattr(settings, name) > 0:
            raise UserError(f"{name} is {getattr(settings, name)}; it must be more than 0")
    if settings.weight_window < 0 or (settings.weight_window and settings.weight_window % 2 == 0):
        raise UserError(f"weight_window is {settings.weight_window}; choose an odd side like 7, or 0 for equal weights")
    if not 0 <= settings.momentum < 1:
        raise UserError(f"momentum is {settings.momentum}; it must be in [0, 1)")
    if not settings.perceptual_weight >= 0:
        raise UserError(f"perceptual_weight is {settings.perceptual_weight}; it must not be negative")
