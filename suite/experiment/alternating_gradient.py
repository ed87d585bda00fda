"""Alternating gradient: two parts of a model that are trained against each other, each by a loss of its own."""

from dataclasses import dataclass
from typing import Any

from suite.contracts.gradient import Round
from suite.experiment.mean_gradient import Mean


@dataclass(frozen=True, kw_only=True)
class Alternating(Mean):
    """Discriminator and generator in turn, as of generative adversarial networks
    (`Goodfellow et al., 2014 <https://arxiv.org/abs/1406.2661>`_), whatever they make.

    In a step the discriminator's parameters are updated by its loss first; then all others by the task's ``loss``,
    against the new discriminator. Neither loss moves the other's parameters, and each part has an optimiser of its own.
    """

    discriminator: str = "discriminators/"
    """Regular expression for the start of the paths of the discriminator's parameters."""
    discriminator_loss: str = "discriminator_loss"
    """Name of the task's method that the discriminator learns by, of the form of ``loss``."""
    discriminator_rate: float = 0.0
    """Peak learning rate of the discriminator. 0: that of the generator."""
    updates: int = 1
    """Updates of the discriminator for each one of the generator, all on the batch of the step."""

    @property
    def rounds(self) -> tuple[Round, ...]:
        rate: dict[str, Any] = {"learning_rate": self.discriminator_rate} if self.discriminator_rate else {}
        inner = Round("discriminator", (f"^(?:{self.discriminator})",), self.discriminator_loss, rate)
        return (*[inner] * self.updates, Round("generator", (f"^(?!{self.discriminator})",)))
