"""Leaves out a step whose loss or gradient is no number: nothing of it stays but that it was skipped."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric


def sound(tallies: Mapping[str, MetricState], grads: Any) -> jax.Array:
    """() bool: the loss and the norm of the gradient are finite."""
    return jnp.isfinite(tallies["loss"].total) & jnp.isfinite(optax.global_norm(grads))


def either(good: jax.Array, new: Any, old: Any) -> Any:
    """``new`` where ``good``, else ``old``; trees of equal structure."""
    return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)


def tallied(good: jax.Array, tallies: Mapping[str, MetricState]) -> dict[str, MetricState]:
    """The tallies, zero where the step was skipped, and ``skipped``: the share of steps that were."""
    counted = jax.tree.map(lambda t: jnp.where(good, t, jnp.zeros_like(t)), dict(tallies))
    return {**counted, "skipped": MetricState(1 - good.astype(jnp.float32), jnp.float32(1))}


register_metric(
    "skipped",
    "Share of steps that were left out, since loss or gradient was no number.",
    "lower",
    title="skipped steps",
    share=True,
)
