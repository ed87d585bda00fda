"""Private gradient: the gradients of single records, clipped and summed, with noise that hides any one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from suite.contracts.batch import Batch
from suite.contracts.gradient import Context, Gradient, GradientRule, Loss
from suite.training.record_gradients import clipped_sum, uses


@dataclass(frozen=True, kw_only=True)
class Private(GradientRule):
    """DP-SGD's gradient (`Abadi et al., 2016 <https://arxiv.org/abs/1607.00133>`_): of each unit the gradient of the
    mean loss of its rows, scaled down to ``clip_norm``; their sum with Gaussian noise, over the *expected* number of
    units, since the number of those that were drawn is itself private.

    Dims: u units of a batch on this device, m rows of a unit.
    """

    clip_norm: float = 1.0
    """Largest norm of the gradient of a unit."""
    noise: float = 0.0
    """Standard deviation of the noise, in units of ``clip_norm``."""
    expected: int = 1
    """Units of a batch on average."""
    parts: int = 1
    """Parts that a batch is computed in, one after another, as memory asks for."""
    rows: int = 1
    """Rows of a unit, which lie side by side."""
    key: tuple[int, int] = (0, 0)
    """Words of 32 bits that the noise of all steps is drawn from."""

    spent: Callable[[int], float] | None = field(default=None, compare=False)
    """Steps -> what they may tell of one record."""

    def told(self, steps: int) -> Mapping[str, float]:
        return {} if self.spent is None else {"epsilon": self.spent(steps)}

    def init(self, params: Any) -> Any:
        return {"key": jnp.array(self.key, jnp.uint32), "steps": jnp.uint32(0)}

    def __call__(self, loss: Loss, params: Any, model_state: Any, batch: Batch, key: Any, context: Context) -> Gradient:
        devices = context.devices
        units = batch["mask"].shape[0] // self.rows

        def value(params: Any, unit: Batch, place: jax.Array) -> Any:
            """The mean loss of the rows (m, ...) of one unit, and its metrics."""
            with devices.alone():
                mean, (metrics, _) = loss(params, model_state, unit, jax.random.fold_in(key, place))
            return mean, metrics

        def add(total: Any, part: Any) -> Any:
            units, places = part
            grads, metrics = clipped_sum(value, params, units, places, self.clip_norm, found)
            return jax.tree.map(jnp.add, total, grads), jax.tree.map(lambda a: a.sum(0), metrics)

        def split(a: jax.Array, *rows: int) -> jax.Array:
            """Parts (p, u / p, ...), of which each has rows of every device."""
            return a.reshape(units // self.parts, self.parts, *rows, *a.shape[1:]).swapaxes(0, 1)

        places = split(jnp.asarray(devices.places(units)))
        items = (jax.tree.map(lambda a: split(a, self.rows), batch), places)
        found = uses(value, params, *jax.tree.map(lambda a: a[0], items))
        total, metrics = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), items)
        metrics = jax.tree.map(lambda a: a.sum(0), metrics)
        state = context.state
        noisy = self._noisy(devices.gradients(total), state)
        grads = jax.tree.map(lambda g: g / self.expected, noisy)
        return Gradient(grads, devices.sum(metrics), model_state, state | {"steps": state["steps"] + 1})

    def _noisy(self, grads: Any, state: Any) -> Any:
        """The sums with the noise of this step; the same on every device."""
        if not self.noise:
            return grads
        leaves, tree = jax.tree.flatten(grads)
        keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["steps"]), len(leaves))
        scale = self.noise * self.clip_norm
        drawn = [scale * jax.random.normal(k, g.shape, g.dtype) for k, g in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, [g + n for g, n in zip(leaves, drawn, strict=True)])
