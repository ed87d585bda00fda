"""Pictures out of noise: rectified flow and EDM as processes, and samplers that follow their ODE in one compiled loop.

A process says what a network is given and learns, and which way a sample moves. The sampler knows neither. What is
computed of a row depends on its own noise, number of steps and guidance alone, so a picture is the same alone and in
company.

Dims: b rows, h w height and width, c channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from suite.errors import InputError

Network = Callable[[Float[Array, "b h w c"], Float[Array, "b"]], Float[Array, "b h w c"]]
"""(noisy pictures as the network takes them, time) -> what it predicts."""
Method = Literal["heun", "euler"]
"""How a step is taken: by the slope where it begins (euler), or by the mean of that and the slope where it ends (heun),
for twice the evaluations."""


class Process(ABC):
    """How noise becomes a picture: a frozen dataclass. Pictures are of about -1 to 1."""

    @abstractmethod
    def example(
        self, picture: Float[Array, "b h w c"], noise: Float[Array, "b h w c"], level: Float[Array, "b"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b"], Float[Array, "b h w c"]]:
        """What the network is given, its time, and what it is to predict, in the mean square.

        Args:
            picture: clean.
            noise, level: standard normal; ``level`` decides how much of the noise there is.
        """

    @abstractmethod
    def times(self, share: Float[Array, "b"]) -> Float[Array, "b"]:
        """The time at which so much of the way from noise (0) to the picture (1) has been gone."""

    @abstractmethod
    def start(self, noise: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Where the way begins."""

    @abstractmethod
    def slope(self, network: Network, sample: Float[Array, "b h w c"], time: Float[Array, "b"]) -> Array:
        """The derivative of the sample (b, h, w, c) by time."""


@dataclass(frozen=True)
class Flow(Process):
    """Rectified flow: straight lines from noise to picture (`Liu et al., 2022 <https://arxiv.org/abs/2209.03003>`_,
    `Lipman et al., 2022 <https://arxiv.org/abs/2210.02747>`_), with times drawn logit-normal
    (`Esser et al., 2024 <https://arxiv.org/abs/2403.03206>`_). The network predicts the velocity."""

    mean: float = 0.0
    """Mean of the logit of a time in training: below 0 there is more noise."""
    deviation: float = 1.0
    """Deviation of it."""

    def __post_init__(self) -> None:
        _check_above("deviation", self.deviation)

    def example(self, picture: Array, noise: Array, level: Array) -> tuple[Array, Array, Array]:
        time = jax.nn.sigmoid(self.mean + self.deviation * level)
        share = _rows(time)
        return (1 - share) * noise + share * picture, time, picture - noise

    def times(self, share: Array) -> Array:
        return share

    def start(self, noise: Array) -> Array:
        return noise

    def slope(self, network: Network, sample: Array, time: Array) -> Array:
        return network(sample, time)


@dataclass(frozen=True)
class Edm(Process):
    """Noise of growing deviation, with inputs and targets of unit deviation whatever it is (EDM's preconditioning,
    `Karras et al., 2022 <https://arxiv.org/abs/2206.00364>`_). Time is the deviation, and runs down."""

    mean: float = -1.2
    """Mean of the logarithm of the deviation in training."""
    deviation: float = 1.2
    """Deviation of it."""
    data: float = 0.5
    """Deviation of the pictures."""
    low: float = 0.002
    """Least deviation that a sample passes through; after it there is none."""
    high: float = 80.0
    """Deviation at which sampling begins."""
    curve: float = 7.0
    """Exponent of the course between them: above 1, steps are short where there is little noise."""

    def __post_init__(self) -> None:
        for name in ("deviation", "data", "low", "curve"):
            _check_above(name, getattr(self, name))
        _check_above("high", self.high, self.low)

    def example(self, picture: Array, noise: Array, level: Array) -> tuple[Array, Array, Array]:
        sigma = jnp.exp(self.mean + self.deviation * level)
        kept, outside, inside, time = self._factors(sigma)
        noisy = picture + _rows(sigma) * noise
        return inside * noisy, time, (picture - kept * noisy) / outside

    def times(self, share: Array) -> Array:
        first, last = self.high ** (1 / self.curve), self.low ** (1 / self.curve)
        return jnp.where(share >= 1, 0, (first + share * (last - first)) ** self.curve)

    def start(self, noise: Array) -> Array:
        return self.high * noise

    def slope(self, network: Network, sample: Array, time: Array) -> Array:
        sigma = jnp.maximum(time, self.low)
        kept, outside, inside, about = self._factors(sigma)
        picture = kept * sample + outside * network(inside * sample, about)
        return (sample - picture) / _rows(sigma)

    def _factors(self, sigma: Float[Array, "b"]) -> tuple[Array, Array, Array, Array]:
        """The share of the noisy picture that is kept, the factors of the network's output and input, and its time."""
        whole = jnp.square(sigma) + self.data**2
        kept, outside, inside = self.data**2 / whole, sigma * self.data / jnp.sqrt(whole), 1 / jnp.sqrt(whole)
        return _rows(kept), _rows(outside), _rows(inside), jnp.log(sigma) / 4


def sample(
    process: Process,
    network: Callable[[Array, Array, bool], Array],
    noise: Float[Array, "b h w c"],
    steps: Int[Array, "b"],
    guidance: Float[Array, "b"],
    method: Method = "heun",
) -> Float[Array, "b h w c"]:
    """Pictures of about -1 to 1. A pure function, to be jitted; one program takes any number of steps.

    With guidance g the network's answer is that without condition plus g times the difference that the condition makes
    (`Ho & Salimans, 2022 <https://arxiv.org/abs/2207.12598>`_). Where it is 1 for all rows, which is the condition
    alone, the network is asked once, otherwise twice.

    Args:
        process: says where a sample begins and which way it moves.
        network: (noisy pictures (n, h, w, c), time (n,), doubled) -> prediction. Doubled, it is given all rows twice,
            and answers them first with their condition and then without.
        noise: standard normal.
        steps: of each row, at least 1; rows that are through wait for the others.
        guidance: of each row.
        method: see `Method`. The last step is always Euler's, as the slope of a finished picture says nothing.
    """
    evaluations = 2 if method == "heun" else 1

    def guided(noisy: Array, time: Array) -> Array:
        both = network(jnp.concatenate([noisy, noisy]), jnp.concatenate([time, time]), True)
        conditional, free = jnp.split(both, 2)
        return free + _rows(guidance) * (conditional - free)

    def plain(noisy: Array, time: Array) -> Array:
        return network(noisy, time, False)

    def ask(noisy: Array, time: Array) -> Array:
        return lax.cond((guidance == 1).all(), plain, guided, noisy, time)

    def time_of(step: Array) -> Float[Array, "b"]:
        return process.times(jnp.minimum(step / steps, 1.0).astype(jnp.float32))

    def body(state: tuple) -> tuple:
        count, at, first, where = state
        step, second = count // evaluations, count % evaluations
        begin, end = time_of(step), time_of(step + 1)
        slope = process.slope(ask, where, jnp.where(second, end, begin))
        length = _rows(end - begin)
        corrected = at + length * (first + slope) / 2
        moved = at + length * slope
        running, last = _rows(step < steps), _rows(step + 1 >= steps)
        # Of two evaluations the first leads to where the second is made; of the last step there is no second.
        after = jnp.where(second, jnp.where(last, where, corrected), moved)
        where = jnp.where(running, after, where)
        finished = second == evaluations - 1
        return count + 1, jnp.where(finished, where, at), slope, where

    begun = process.start(noise)
    total = evaluations * (steps.max() - 1) + 1  # the last step has one evaluation
    state = jnp.int32(0), begun, jnp.zeros_like(begun), begun
    return lax.while_loop(lambda state: state[0] < total, body, state)[3]


def _rows(values: Array) -> Array:
    """Values (b,) beside pictures (b, h, w, c)."""
    return values[:, None, None, None]


def _check_above(name: str, value: float, low: float = 0.0) -> None:
    if not value > low:
        raise InputError(f"field task.process.{name}", f"must be above {low:g}", found=f"{value:g}")
