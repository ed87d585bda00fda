"""Gradients of single records: clipped and summed, most of them without being made.

What a parameter meets in one product of a layer takes the form of `suite.nn.ghost`: from one backward pass come what
the product was given and the gradient by its result, from these the norm of each record's gradient, and then the sum,
scaled record by record. A parameter that is used in other ways, or more than once, has gradients of single records,
which are held where they are small, as of biases and norms, and otherwise made twice: for their norms, and summed up.

Dims: u units (records, or the records of one person), m rows of a unit.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from suite.contracts.batch import Batch
from suite.nn import ghost
from suite.tree import map_paths, paths

Value = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Any]]
"""(params, unit (m, ...), place) -> (loss of the unit, metrics)."""
HELD = 2**25
"""Most numbers that the gradients of all units of a part have where they are held: 128 MiB of float32."""


@dataclass(frozen=True)
class Uses:
    """How a loss uses parameters.

    Attributes:
        products: of parameters that are used in one product alone, by path.
        others: paths of parameters that are used otherwise. What is in neither isn't used.
    """

    products: Mapping[str, ghost.Report]
    others: frozenset[str]


def uses(value: Value, params: Any, units: Batch, places: jax.Array) -> Uses:
    """How ``value`` uses the parameters, found by tracing it for one unit.

    Args:
        value: see `Value`.
        params: nested dicts of arrays.
        units: (u, m, ...).
        places: (u,), of the units in the whole batch.
    """
    reports: dict[str, list[ghost.Report]] = {}

    def listened(flat: dict[str, jax.Array], unit: Batch, place: jax.Array) -> Any:
        with ghost.listening(flat, {}) as listener:
            outputs = value(map_paths(lambda name, _: flat[name], params), unit, place)
        reports.update(listener.reports)
        return outputs

    flat = paths(params)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (units, places))
    program = jax.make_jaxpr(listened)(flat, *shapes).jaxpr
    operands = Counter(id(operand) for step in program.eqns for operand in step.invars)
    operands.update(id(output) for output in program.outvars)
    counts = dict(zip(sorted(flat), (operands[id(variable)] for variable in program.invars), strict=False))
    once = {name: found[0] for name, found in reports.items() if len(found) == 1 and counts[name] == 1}
    return Uses(once, frozenset(name for name, count in counts.items() if count and name not in once))


def clipped_sum(
    value: Value, params: Any, units: Batch, places: jax.Array, clip_norm: float, uses: Uses
) -> tuple[Any, Any]:
    """The gradients of the units, each scaled down to ``clip_norm``, summed; a unit that is all padding has none.

    Args:
        value: see `Value`.
        params: nested dicts of arrays.
        units: (u, m, ...).
        places: (u,), of the units in the whole batch.
        clip_norm: largest norm of the gradient of a unit.
        uses: of the parameters by ``value``.

    Returns:
        The sum, of the structure of ``params``, and the metrics of the units (u, ...).
    """
    flat = paths(params)
    others = {name: flat[name] for name in uses.others}
    products = {name: report.product for name, report in uses.products.items()}
    probes = {name: jnp.zeros(report.result.shape, report.result.dtype) for name, report in uses.products.items()}

    def whole(others: Mapping[str, jax.Array]) -> Any:
        return map_paths(lambda name, leaf: others.get(name, leaf), params)

    def listened(probes: Any, others: Any, unit: Batch, place: jax.Array) -> Any:
        with ghost.listening({name: flat[name] for name in products}, probes) as listener:
            mean, metrics = value(whole(others), unit, place)
        return mean, (metrics, {name: listener.reports[name][0].given for name in products})

    differentiate = jax.vmap(jax.grad(listened, (0, 1), has_aux=True), (None, None, 0, 0))
    (by_result, by_others), (metrics, given) = differentiate(probes, others, units, places)
    squares = [product.squared_norms(given[name], by_result[name]) for name, product in products.items()]
    squares += [jnp.square(leaf).reshape(len(places), -1).sum(1) for leaf in by_others.values()]
    norms = jnp.sqrt(jnp.maximum(sum(squares), 0))  # rounded, inner products may add up to less than nothing
    scales = jnp.minimum(1, clip_norm / jnp.maximum(norms, 1e-12))
    scales = jnp.where(units["mask"].any(1), scales, 0)

    def scaled(leaf: jax.Array) -> jax.Array:
        factors = scales.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(factors > 0, factors * leaf, 0)  # a padded unit's loss may be no number

    def summed(others: Any) -> jax.Array:
        means, _ = jax.vmap(value, in_axes=(None, 0, 0))(whole(others), units, places)
        return scaled(means).sum()

    sums = {
        name: product.gradient(given[name], flat[name], scaled(by_result[name])) for name, product in products.items()
    }
    if len(places) * sum(leaf.size for leaf in others.values()) <= HELD:
        sums |= {name: scaled(leaf).sum(0) for name, leaf in by_others.items()}
    else:
        sums |= jax.grad(summed)(others)
    return map_paths(lambda name, leaf: sums[name] if name in sums else jnp.zeros_like(leaf), params), metrics
