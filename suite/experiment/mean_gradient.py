"""Mean gradient: the rule of every experiment that names no other, with micro-batches where memory is short.

This module loads JAX only where the rule is called: an experiment names its rule where JAX may be missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suite.contracts.batch import Batch
from suite.contracts.gradient import Context, Gradient, GradientRule, Loss, Metrics


@dataclass(frozen=True, kw_only=True)
class Mean(GradientRule):
    """The gradient of the mean loss over the batch."""

    accumulate: int = 1
    """Micro-batches a step is split into, to save memory."""

    @property
    def microbatches(self) -> int:
        return self.accumulate

    @property
    def row_sparse(self) -> bool:
        return self.accumulate == 1

    def __call__(self, loss: Loss, params: Any, model_state: Any, batch: Batch, key: Any, context: Context) -> Gradient:
        import jax

        devices = context.devices

        def shared(params: Any, model_state: Any, batch: Batch, key: Any) -> tuple[Any, tuple[Metrics, Any]]:
            value, (metrics, model_state) = loss(params, model_state, batch, key)
            return value * devices.share(metrics["loss"].count), (metrics, model_state)

        gradient = jax.grad(shared, has_aux=True)
        compute = gradient if self.accumulate == 1 else _accumulated(gradient, self.accumulate)
        grads, (metrics, model_state) = compute(params, model_state, batch, key)
        return Gradient(devices.gradients(grads), devices.sum(metrics), model_state)


def _accumulated(gradient: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """The gradient of the mean over the whole batch, from micro-batches weighted by what their means are over."""
    import jax
    import jax.numpy as jnp

    def compute(params: Any, model_state: Any, batch: Batch, key: Any) -> Any:
        micro = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)

        def add(carry: Any, item: Any) -> Any:
            total, model_state = carry
            i, part = item
            grads, (metrics, model_state) = gradient(params, model_state, part, jax.random.fold_in(key, i))
            return (jax.tree.map(lambda t, g: t + metrics["loss"].count * g, total, grads), model_state), metrics

        zero = jax.tree.map(jnp.zeros_like, params)
        (total, model_state), metrics = jax.lax.scan(add, (zero, model_state), (jnp.arange(parts), micro))
        metrics = jax.tree.map(lambda t: t.sum(0), metrics)
        grads = jax.tree.map(lambda t: t / jnp.maximum(metrics["loss"].count, 1), total)
        return grads, (metrics, model_state)

    return compute
