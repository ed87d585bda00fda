"""Optimisers and learning-rate schedules, from ``Optim`` to one optax transformation.

The chain is: clip -> scale_by_* -> decoupled weight decay -> factors by layer and by path -> learning rate. Frozen
parameters are outside it: their updates are zero, they hold no state and they don't count in the clipped norm. Pruning
of single weights is around it all.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from optax import contrib

from suite.experiment.sections import Optim
from suite.surgery.freezing import check_named, frozen_paths, matches
from suite.training.optim import sparsity
from suite.training.optim.schedules import schedule
from suite.tree import map_paths

MUON_RMS = 0.2
"""Root mean square of a Muon update, the one AdamW has in practice, so that one learning rate fits both
(Liu et al. 2025, arXiv:2502.16982)."""


def build(
    optim: Optim, params: Mapping[Any, Any], steps: int, layer_of: Callable[[str], int] = lambda path: 0, depth: int = 0
) -> optax.GradientTransformation:
    """The transformation from gradients to updates that ``optax.apply_updates`` adds.

    Args:
        optim: what to build.
        params: nested plain dicts of arrays or ShapeDtypeStructs; the result acts on trees of this structure.
        steps: optimiser steps of the whole run, the end of the schedule.
        layer_of: layer of a parameter path: 0 nearest the input, ``depth`` the head (see ModelConfig).
        depth: the largest value of ``layer_of``.

    Raises:
        InputError: a value is out of range, a pattern of ``frozen`` or ``rates`` matches no parameter, or
            ``sparsity`` leaves nothing to prune.
    """
    rate = schedule(optim, steps)
    frozen = frozen_paths(optim, params)
    check_named("rates", [pattern for pattern, _ in optim.rates], params)
    chain = [_direction(optim, params)]
    if optim.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(optim.clip_norm))
    if optim.weight_decay:
        decayed = map_paths(lambda path, _: not matches(optim.no_decay, path), params)
        # A function, since inside a partition the tree has holes where parameters are frozen.
        chain.append(optax.add_decayed_weights(optim.weight_decay, lambda tree: _like(decayed, tree)))
    if optim.layer_decay != 1.0 or optim.rates:
        factors = map_paths(lambda path, _: optim.layer_decay ** (depth - layer_of(path)) * _rate(optim, path), params)
        chain.append(_scale_by(factors))
    chain.append(optax.scale_by_learning_rate(rate))
    transform = optax.chain(*chain)
    if frozen:
        labels = map_paths(lambda path, _: "frozen" if path in frozen else "trained", params)
        transform = optax.partition({"trained": transform, "frozen": optax.set_to_zero()}, labels)
    pruned = sparsity.pruned_paths(optim.sparsity, params, frozen, layer_of, depth)
    return sparsity.masked(transform, optim.sparsity, pruned, steps) if pruned else transform


def _direction(optim: Optim, params: Mapping[Any, Any]) -> optax.GradientTransformation:
    """The optimiser proper: gradients to a direction of ascent, without decay and learning rate."""
    adam = optax.scale_by_adam(optim.beta1, optim.beta2, optim.epsilon)
    if optim.name == "adamw":
        return adam
    if optim.name == "sgd":
        return optax.trace(optim.beta1, nesterov=True)
    if optim.name == "lion":
        return optax.scale_by_lion(optim.beta1, optim.beta2)
    if optim.name == "adafactor":
        # No scaling by the parameter's own size: the learning rate then means what it means for AdamW.
        return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    labels = map_paths(lambda path, leaf: "muon" if _is_matrix(path, leaf) else "adam", params)
    widths = map_paths(lambda path, leaf: MUON_RMS * math.sqrt(max(leaf.shape)) if leaf.shape else 1.0, params)
    matrices = contrib.scale_by_muon(
        beta=optim.beta1,
        eps=optim.epsilon,
        weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: contrib.MuonDimensionNumbers(), tree),
    )
    muon = optax.chain(matrices, _scale_by(widths))
    return optax.partition({"muon": muon, "adam": adam}, lambda tree: _like(labels, tree))


def _is_matrix(path: str, leaf: Any) -> bool:
    """Whether Muon takes it: an embedding is a table of rows, each with gradients of its own, and no linear map."""
    return len(leaf.shape) == 2 and not re.search(r"embed", path)


def _scale_by(factors: Mapping[Any, Any]) -> optax.GradientTransformation:
    """Multiply each leaf by its own constant."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda factor, leaf: leaf * factor, _like(factors, updates), updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _like(values: Any, tree: Any) -> Any:
    """``values`` with holes where ``tree`` has them (optax masks a leaf by putting an empty node in its place)."""
    if isinstance(tree, optax.MaskedNode):
        return tree
    if isinstance(tree, Mapping):
        return {key: _like(values[key], child) for key, child in tree.items()}
    return values


def _rate(optim: Optim, path: str) -> float:
    """Factor on the learning rate of a parameter: that of the first pattern that matches, else 1."""
    return next((factor for pattern, factor in optim.rates if re.search(pattern, path)), 1.0)
