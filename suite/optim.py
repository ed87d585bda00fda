"""Optimisers and learning-rate schedules, from ``Optim`` to one optax transformation.

The chain is: clip -> scale_by_* -> decoupled weight decay -> factors by layer and by path -> learning rate. Frozen
parameters are outside it: their updates are zero, they hold no state and they don't count in the clipped norm. Pruning
of single weights is around it all.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from suite.compression import sparse
from suite.config import Optim
from suite.errors import InputError, closest
from suite.tree import map_paths, paths

MUON_RMS = 0.2
"""Root mean square of a Muon update, the one AdamW has in practice, so that one learning rate fits both
(Liu et al. 2025, arXiv:2502.16982)."""

SCHEDULES = ("cosine", "linear", "constant")


def schedule(optim: Optim, steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over the warm-up, then down to ``end_fraction`` of the peak at ``steps``.

    Raises:
        InputError: the warm-up does not end before ``steps``, or a value is out of range.
    """
    _check(optim, steps)
    warmup, peak, end = optim.warmup_steps, optim.learning_rate, optim.end_fraction
    if optim.schedule == "constant" and not warmup:
        return optax.constant_schedule(peak)

    def at(count: Any) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        done = jnp.clip((count - warmup) / (steps - warmup), 0.0, 1.0)
        if optim.schedule == "cosine":
            fraction = end + (1 - end) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        elif optim.schedule == "linear":
            fraction = 1 - (1 - end) * done
        else:
            fraction = jnp.ones_like(done)
        return peak * jnp.where(count < warmup, count / max(warmup, 1), fraction)

    return at


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
    _check_named("rates", [pattern for pattern, _ in optim.rates], params)
    chain = [_direction(optim, params)]
    if optim.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(optim.clip_norm))
    if optim.weight_decay:
        decayed = map_paths(lambda path, _: not _matches(optim.no_decay, path), params)
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
    pruned = sparse.pruned_paths(optim.sparsity, params, frozen, layer_of, depth)
    return sparse.masked(transform, optim.sparsity, pruned, steps) if pruned else transform


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


def _matches(patterns: tuple[str, ...], path: str) -> bool:
    return any(re.search(pattern, path) for pattern in patterns)


def _rate(optim: Optim, path: str) -> float:
    """Factor on the learning rate of a parameter: that of the first pattern that matches, else 1."""
    return next((factor for pattern, factor in optim.rates if re.search(pattern, path)), 1.0)


def frozen_paths(optim: Optim, params: Mapping[Any, Any]) -> set[str]:
    """Paths that training leaves alone.

    Raises:
        InputError: a pattern matches no parameter.
    """
    _check_named("frozen", optim.frozen, params)
    return {name for name in paths(params) if _matches(optim.frozen, name)}


def _check_named(field: str, patterns: Sequence[str], params: Mapping[Any, Any]) -> None:
    names = list(paths(params))
    for pattern in patterns:
        if any(re.search(pattern, name) for name in names):
            continue
        near = closest(pattern, names)
        raise InputError(
            f"field optim.{field}",
            f'"{pattern}" matches no parameter.',
            found=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""),
            fix=f'--optim.{field} "{near}"' if near else "",
        )


def _check(optim: Optim, steps: int) -> None:
    """Refuse what would only show as a strange loss later."""
    if optim.schedule not in SCHEDULES:
        raise InputError(
            "field optim.schedule", f'there is no schedule "{optim.schedule}".', found=", ".join(SCHEDULES)
        )
    if optim.name not in ("adamw", "sgd", "lion", "muon", "adafactor"):
        raise InputError("field optim.name", f'there is no optimiser "{optim.name}".')
    _check_range("learning_rate", optim.learning_rate, 0.0)
    _check_range("end_fraction", optim.end_fraction, 0.0)
    _check_range("weight_decay", optim.weight_decay, 0.0)
    _check_range("clip_norm", optim.clip_norm, 0.0)
    _check_range("epsilon", optim.epsilon, 0.0)
    _check_range("beta1", optim.beta1, 0.0, below=1.0)
    _check_range("beta2", optim.beta2, 0.0, below=1.0)
    if not 0.0 < optim.layer_decay <= 1.0:
        raise InputError("field optim.layer_decay", "must be above 0 and at most 1.", found=str(optim.layer_decay))
    if not 0 <= optim.warmup_steps < max(steps, 1):
        raise InputError(
            "field optim.warmup_steps",
            "the warm-up must end before the run does.",
            found=f"warmup_steps {optim.warmup_steps}, steps {steps}",
            fix=f"--optim.warmup_steps {steps // 10}",
        )
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
