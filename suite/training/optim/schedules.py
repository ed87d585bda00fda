"""Learning-rate schedules: the rate by step, with its warm-up."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from suite.errors import InputError
from suite.experiment.sections import Optim

SCHEDULES = ("cosine", "linear", "constant")
SHORT = 0.1
"""Warm-up of a run that is no longer than the warm-up it was given, as a share of its steps."""


def warmup(optim: Optim, steps: int) -> int:
    """Steps of warm-up in a run of ``steps``: ``warmup_steps``, else a share of the run."""
    if 0 < optim.warmup_steps < steps:
        return optim.warmup_steps
    return int(steps * (SHORT if optim.warmup_steps else optim.warmup_fraction))


def schedule(optim: Optim, steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over the warm-up, then down to ``end_fraction`` of the peak at ``steps``.

    Raises:
        InputError: a value is out of range.
    """
    _check(optim)
    rising, peak, end = warmup(optim, steps), optim.learning_rate, optim.end_fraction
    if optim.schedule == "constant" and not rising:
        return optax.constant_schedule(peak)

    def at(count: Any) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        done = jnp.clip((count - rising) / (steps - rising), 0.0, 1.0)
        if optim.schedule == "cosine":
            fraction = end + (1 - end) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        elif optim.schedule == "linear":
            fraction = 1 - (1 - end) * done
        else:
            fraction = jnp.ones_like(done)
        return peak * jnp.where(count < rising, count / max(rising, 1), fraction)

    return at


def _check(optim: Optim) -> None:
    """Refuse what would only show as a strange loss later."""
    if optim.schedule not in SCHEDULES:
        raise InputError(
            "field optim.schedule", f'there is no schedule "{optim.schedule}".', found=", ".join(SCHEDULES)
        )
    if optim.name not in ("adamw", "sgd", "lion", "muon", "adafactor"):
        raise InputError("field optim.name", f'there is no optimiser "{optim.name}".')
    _check_range("learning_rate", optim.learning_rate, 0.0)
    _check_range("end_fraction", optim.end_fraction, 0.0)
    _check_range("warmup_fraction", optim.warmup_fraction, 0.0, below=1.0)
    _check_range("weight_decay", optim.weight_decay, 0.0)
    _check_range("clip_norm", optim.clip_norm, 0.0)
    _check_range("epsilon", optim.epsilon, 0.0)
    _check_range("beta1", optim.beta1, 0.0, below=1.0)
    _check_range("beta2", optim.beta2, 0.0, below=1.0)
    if not 0.0 < optim.layer_decay <= 1.0:
        raise InputError("field optim.layer_decay", "must be above 0 and at most 1.", found=str(optim.layer_decay))
    if optim.warmup_steps < 0:
        raise InputError("field optim.warmup_steps", "must be at least 0.", found=str(optim.warmup_steps))
    named = {"no_decay": optim.no_decay, "frozen": optim.frozen, "rates": [pattern for pattern, _ in optim.rates]}
    for name, patterns in named.items():
        for pattern in patterns:
            _check_pattern(name, pattern)
    for pattern, factor in optim.rates:
        if not 0 <= factor < math.inf:
            raise InputError("field optim.rates", f'the factor of "{pattern}" must be at least 0.', found=str(factor))


def _check_range(name: str, value: float, least: float, below: float = math.inf) -> None:
    if least <= value < below:  # also refuses nan
        return
    bound = f"at least {least:g}" + (f" and below {below:g}" if below < math.inf else "")
    raise InputError(f"field optim.{name}", f"must be {bound}.", found=str(value))


def _check_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"field optim.{name}", f"not a regular expression: {error}.", found=pattern) from None
