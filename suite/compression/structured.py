"""Structured pruning: units are taken out of a model's layers whole, so that its matrices really get smaller.

What a unit is, the PRUNING table of the family says (see `suite.surgery.units`). All layers of a kind keep the same
number, which one field of the ModelConfig then says; which units a layer keeps, their importance decides:

- magnitude: the norm of what makes a unit times the norm of what uses it.
- taylor: how much the loss would change, to first order, without the unit (`Molchanov et al., 2019
  <https://arxiv.org/abs/1906.10771>`_): its weight times the loss's derivative by it, summed over where it is used, the
  sizes of these sums added up over batches of training records.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.model import ModelConfig
from suite.contracts.task import Task
from suite.contracts.units import Axis
from suite.errors import InputError, closest
from suite.nn.rngs import streams
from suite.surgery.units import Layer, layers
from suite.tree import nest, paths


@dataclass(frozen=True)
class Smaller:
    """A model without some of its units.

    Attributes:
        config: of the smaller model.
        params, model_state: its variables.
        kept: layer -> the units that it kept, rising.
    """

    config: ModelConfig
    params: Any
    model_state: Any
    kept: dict[str, np.ndarray]


def find(config: ModelConfig, params: Any, model_state: Any, kinds: Sequence[str] = ()) -> list[Layer]:
    """The layers whose units may be taken out.

    Args:
        config: the model's.
        params, model_state: its variables, or their shapes.
        kinds: which units; empty: all but attention heads, of which half is more than most models can spare.

    Raises:
        InputError: the model has no such units.
    """
    prunable = layers(
        config, {name: tuple(leaf.shape) for name, leaf in {**paths(params), **paths(model_state)}.items()}
    )
    known = list(dict.fromkeys(layer.units.kind for layer in prunable))
    if not known:
        family = type(config).__module__
        problem = f"the model of {family} has no units that could be taken out."
        raise InputError("field compression.prune.pattern", problem, found="structured", fix="--pattern unstructured")
    for kind in kinds:
        if kind not in known:
            raise InputError(
                "field compression.prune.units",
                f'"{kind}" is no kind of units of this model.',
                found=", ".join(known),
                fix=f"--units {shlex.quote(closest(kind, known) or known[0])}",
            )
    chosen = kinds or [kind for kind in known if kind != "heads"] or known
    return [layer for layer in prunable if layer.units.kind in chosen]


def remaining(layer: Layer, rate: float) -> int:
    """How many units of a layer stay when the share ``rate`` of them goes: at least one, and many in multiples."""
    multiple, exact = layer.units.multiple, layer.count * (1 - rate)
    if exact < multiple:
        return max(round(exact), 1)
    return min(multiple * round(exact / multiple), layer.count)


def magnitude(prunable: Sequence[Layer], params: Any) -> list[np.ndarray]:
    """(units,) importance of each layer's units by their size."""
    flat = paths(params)

    def norm(axes: Sequence[Axis], count: int) -> np.ndarray:
        squares = [
            np.square(_by_unit(np.asarray(flat[path], np.float64), axis, count)).sum(1)
            for path, axis in axes
            if path in flat
        ]
        return np.sqrt(sum(squares))

    return [norm(layer.made, layer.count) * norm(layer.used, layer.count) for layer in prunable]


def taylor(
    prunable: Sequence[Layer], graph: Any, params: Any, model_state: Any, task: Task, batches: Iterable[Batch]
) -> list[np.ndarray]:
    """(units,) importance of each layer's units by the first order of the loss on ``batches``; see the module."""
    flat = paths(params)
    used = {path: flat[path] for layer in prunable for path, _ in layer.used}

    def loss(used: dict[str, Any], batch: Batch) -> jax.Array:
        model = nnx.merge(graph, nest({**flat, **used}), model_state)
        return task.loss(model, batch, None)[0]

    @jax.jit
    def changes(used: dict[str, Any], batch: Batch) -> list[jax.Array]:
        grads = jax.grad(loss)(used, batch)
        sums = lambda layer: sum(
            _by_unit(used[path] * grads[path], axis, layer.count).sum(1) for path, axis in layer.used
        )
        return [jnp.abs(sums(layer)) for layer in prunable]

    totals = [np.zeros(layer.count) for layer in prunable]
    for batch in batches:
        totals = [
            total + np.asarray(change, np.float64) for total, change in zip(totals, changes(used, batch), strict=True)
        ]
    return totals


def _by_unit(array: Any, axis: int, count: int) -> Any:
    """(units, values of a unit) of an array that has a slice for each unit along ``axis``."""
    library = np if isinstance(array, np.ndarray) else jnp
    return library.moveaxis(array, axis, 0).reshape(count, -1)


def narrowed(config: ModelConfig, prunable: Sequence[Layer], rate: float) -> ModelConfig:
    """The config of the model without the share ``rate`` of each layer's units.

    Raises:
        InputError: so few units are to go that none would.
    """
    if all(remaining(layer, rate) == layer.count for layer in prunable):
        raise InputError(
            "flag --prune",
            f"{rate:g} takes out no unit.",
            found=", ".join(sorted({f"{layer.count} {layer.units.kind}" for layer in prunable})),
            fix="--prune 0.5",
        )
    for layer in prunable:
        config = layer.narrowed(config, remaining(layer, rate))
    return config


def without(
    config: ModelConfig,
    params: Any,
    model_state: Any,
    prunable: Sequence[Layer],
    scores: Sequence[np.ndarray],
    rate: float,
) -> Smaller:
    """The model without the share ``rate`` of each layer's units, those with the lowest scores.

    Raises:
        InputError: so few units are to go that none would.
    """
    remaining_units = {
        layer.name: np.sort(np.argsort(-score, kind="stable")[: remaining(layer, rate)])
        for layer, score in zip(prunable, scores, strict=True)
    }
    params_by_path, rest_by_path = dict(paths(params)), dict(paths(model_state))
    for layer in prunable:
        for path, axis in (*layer.made, *layer.used):
            arrays = params_by_path if path in params_by_path else rest_by_path
            arrays[path] = _slice(arrays[path], axis, remaining_units[layer.name], layer.count)
    smaller = Smaller(narrowed(config, prunable, rate), nest(params_by_path), nest(rest_by_path), remaining_units)
    _check_whole(smaller)
    return smaller


def _slice(array: Any, axis: int, remaining_units: np.ndarray, count: int) -> Any:
    """The entries of the kept units along ``axis``."""
    size = array.shape[axis] // count
    entries = (remaining_units[:, None] * size + np.arange(size)).reshape(-1)
    return jnp.take(jnp.asarray(array), entries, axis)


def _check_whole(smaller: Smaller) -> None:
    """ValueError where the arrays are not those that the config builds: the family's table lacks one."""
    _, params, model_state = nnx.split(nnx.eval_shape(lambda: smaller.config.build(rngs=streams(0))), nnx.Param, ...)
    wanted = _shapes(nnx.to_pure_dict(params), nnx.to_pure_dict(model_state))
    ours = _shapes(smaller.params, smaller.model_state)
    wrong = [
        f"{name} {ours.get(name)}, not {wanted.get(name)}"
        for name in sorted(ours.keys() | wanted.keys())
        if ours.get(name) != wanted.get(name)
    ]
    if wrong:
        raise ValueError(f"the PRUNING table of {type(smaller.config).__module__} leaves {'; '.join(wrong[:5])}")


def _shapes(params: Mapping[Any, Any], model_state: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in {**paths(params), **paths(model_state)}.items()}
