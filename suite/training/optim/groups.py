"""Optimisers of groups of parameters, where the gradient rule has several; else the one optimiser of all."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax

from suite.contracts.batch import Batch
from suite.errors import InputError
from suite.experiment.sections import Optim
from suite.surgery.freezing import check_named
from suite.training.gradients import Group
from suite.training.optim import optimizer
from suite.tree import map_paths, nest, paths


@dataclass(frozen=True)
class Optimizers:
    """What updates parameters.

    Attributes:
        init: parameters -> optimiser state.
        update: (group, gradients, optimiser state, parameters, the same as picked, rows of the batch, step) ->
            (parameters, optimiser state). Gradients by path.
    """

    init: Callable[[Any], Any]
    update: Callable[[str, Mapping[str, Any], Any, Any, Any, Batch, jax.Array], tuple[Any, Any]]


def build(
    optim: Optim,
    params: Mapping[Any, Any],
    groups: Mapping[str, Group],
    steps: int,
    layer_of: Callable[[str], int],
    depth: int,
) -> Optimizers:
    """One optimiser a group; its state lies under the group's name.

    Args:
        optim: what the groups' own fields are changes to.
        params: of the whole model, arrays or shapes.
        groups: by name.
        steps: of the whole run. A group of several rounds a step moves that much faster along its schedule.
        layer_of, depth: see `suite.training.optim.optimizer.build`.

    Raises:
        InputError: a field is out of range or doesn't exist.
    """
    check_named("rates", [pattern for pattern, _ in optim.rates], params)
    transforms: dict[str, optax.GradientTransformation] = {}
    for name, group in groups.items():
        unknown = sorted(group.optim.keys() - {field.name for field in dataclasses.fields(Optim)})
        if unknown:
            known = ", ".join(field.name for field in dataclasses.fields(Optim))
            problem = f'group "{name}": optim has no field {", ".join(unknown)}.'
            raise InputError("field gradient", problem, found=known)
        own = dataclasses.replace(optim, frozen=(), **group.optim)
        used = tuple(rate for rate in own.rates if any(re.search(rate[0], path) for path in group.names))
        own = dataclasses.replace(own, rates=used)
        transforms[name] = optimizer.build(own, _subset(params, group), steps * group.rounds, layer_of, depth)

    def init(params: Any) -> Any:
        return {name: transform.init(_subset(params, groups[name])) for name, transform in transforms.items()}

    def update(
        group: str, grads: Mapping[str, Any], opt: Any, params: Any, picked: Any, batch: Batch, step: jax.Array
    ) -> tuple[Any, Any]:
        own = _subset(params, groups[group])
        updates, state = transforms[group].update(nest(dict(grads)), opt[group], own)
        moved = paths(optax.apply_updates(own, updates))
        return map_paths(lambda path, leaf: moved.get(path, leaf), params), {**opt, group: state}

    return Optimizers(init, update)


def _subset(params: Mapping[Any, Any], group: Group) -> dict[Any, Any]:
    return nest({name: leaf for name, leaf in paths(params).items() if name in group.names})
