"""Means of what several models say: of probabilities, from logits to logits, and of numbers.

Dims: b rows, c classes or labels. Weights add up to 1.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Arrays = Sequence[Any]
"""Of each model the same array (b, ...)."""


def mean(values: Arrays, weights: Sequence[float]) -> jax.Array:
    """Weighted mean (b, ...)."""
    return sum(weight * jnp.asarray(value, jnp.float32) for value, weight in zip(values, weights, strict=True))  # type: ignore[return-value]


def mean_log_probabilities(logits: Arrays, weights: Sequence[float]) -> jax.Array:
    """Log of the mean probabilities (b, c) of classes, of ``logits`` (b, c)."""
    return _log_mean([jax.nn.log_softmax(jnp.asarray(one, jnp.float32)) for one in logits], weights)


def mean_log_odds(logits: Arrays, weights: Sequence[float]) -> jax.Array:
    """Log odds (b, ...) of the mean probabilities, of log odds (b, ...)."""
    floats = [jnp.asarray(one, jnp.float32) for one in logits]
    has, lacks = (_log_mean([jax.nn.log_sigmoid(sign * one) for one in floats], weights) for sign in (1, -1))
    return has - lacks


def _log_mean(logs: Arrays, weights: Sequence[float]) -> jax.Array:
    scaled = jnp.stack([log + jnp.log(jnp.float32(weight)) for log, weight in zip(logs, weights, strict=True)])
    return jax.nn.logsumexp(scaled, 0)
