"""Pruning of single weights while training: more and more of each matrix is zero, and stays zero.

An optax transformation around the whole optimiser. Masks and scores are part of its state, so that checkpoints,
resumption and meshes need nothing else. After each update, parameters times mask.

- The share that is zero rises along a cubic curve (`Zhu & Gupta, 2017 <https://arxiv.org/abs/1710.01878>`_).
- magnitude keeps the largest weights; movement those that training moves away from zero (`Sanh et al., 2020
  <https://arxiv.org/abs/2005.07683>`_): the sum over steps of minus weight times gradient; taylor those whose loss
  would change the loss most (`Molchanov et al., 2019 <https://arxiv.org/abs/1906.10771>`_): the sum of the sizes.
- unstructured: any weights of a matrix. n:m: of each m weights in a row along the inputs n stay, for processors with
  products for 2:4.

A weight that was masked may come back, from zero, when its score rises above another's.
"""

import math
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from suite.errors import InputError
from suite.experiment.compression import Sparsity
from suite.tree import map_paths, nest, paths

INPUTS = -2
"""The axis of a kernel along which its inputs lie, in linear layers and in convolutions."""


class Masked(NamedTuple):
    """Optimiser state.

    Attributes:
        count: () int32, updates so far.
        masks: True where a weight lives, of the pruned parameters alone.
        scores: sums over updates, of the same; empty where magnitude decides.
        inner: state of the optimiser.
    """

    count: Array
    masks: Any
    scores: Any
    inner: Any


def pruned_paths(
    sparsity: Sparsity,
    params: Mapping[Any, Any],
    frozen: Collection[str] = (),
    layer_of: Callable[[str], int] = lambda path: 0,
    depth: int = 0,
) -> tuple[str, ...]:
    """Paths of the parameters that are pruned: kernels, but for the head's, frozen ones and what is excluded.

    Args:
        sparsity: see `Sparsity`.
        params: arrays or their shapes.
        frozen: paths that training does not change.
        layer_of, depth: see ModelConfig; the layer ``depth`` is the head.

    Raises:
        InputError: a value is out of range, nothing is left to prune, or the pattern does not divide the inputs.
    """
    if not sparsity.share:
        return ()
    _check(sparsity)
    kernels = {
        name: leaf.shape
        for name, leaf in paths(params).items()
        if re.search(r"(^|/)kernel$", name) and len(leaf.shape) >= 2
    }
    chosen = tuple(
        name
        for name in kernels
        if name not in frozen
        and not (depth and layer_of(name) == depth)
        and not any(re.search(pattern, name) for pattern in sparsity.exclude)
    )
    if not chosen:
        raise InputError(
            "field optim.sparsity",
            "leaves nothing to prune.",
            found=", ".join(list(kernels)[:8]) or "no kernels",
            fix='--optim.sparsity.exclude "^head"',
        )
    group = group_of(sparsity.pattern)[1]
    wrong = [name for name in chosen if kernels[name][INPUTS] % group]
    if wrong:
        problem = f"is {sparsity.pattern}, and {group} does not divide the inputs of {', '.join(wrong[:5])}."
        raise InputError(
            "field optim.sparsity.pattern",
            problem,
            found=f"{kernels[wrong[0]][INPUTS]} inputs",
            fix=f"--optim.sparsity.exclude '^head' {shlex.quote(wrong[0])}",
        )
    return chosen


def masked(
    inner: optax.GradientTransformation, sparsity: Sparsity, chosen: Collection[str], steps: int
) -> optax.GradientTransformation:
    """``inner`` with the parameters at the paths ``chosen`` pruned.

    Args:
        inner: the whole optimiser; what it makes of the gradients of masked weights is not used.
        sparsity: how.
        chosen: see `pruned_paths`.
        steps: optimiser steps of the whole run.
    """
    begin, end = settling(sparsity, steps)
    every = max(math.ceil((end - begin) / max(sparsity.updates, 1)), 1)
    scored = sparsity.criterion != "magnitude"

    def of(tree: Mapping[Any, Any]) -> dict[str, Any]:
        flat = paths(tree)
        return {name: flat[name] for name in chosen}

    def init(params: Any) -> Masked:
        weights = of(params)
        masks = {name: jnp.ones(leaf.shape, bool) for name, leaf in weights.items()}
        scores = {name: jnp.zeros_like(leaf) for name, leaf in weights.items()} if scored else {}
        return Masked(jnp.int32(0), nest(masks), nest(scores), inner.init(params))

    def update(grads: Any, state: Masked, params: Any = None) -> tuple[Any, Masked]:
        weights, masks, slopes = of(params), of(state.masks), of(grads)
        scores = {}
        if scored:
            sums = paths(state.scores)
            moved = {name: -weights[name] * slopes[name] for name in chosen}
            scores = {
                name: sums[name] + (jnp.abs(m) if sparsity.criterion == "taylor" else m) for name, m in moved.items()
            }
        known = scores or {name: jnp.abs(weights[name]) for name in chosen}
        due = (state.count == end) | (
            (state.count < end) & (state.count >= begin) & ((state.count - begin) % every == 0)
        )
        share = _share(sparsity, state.count, begin, end)
        masks = jax.lax.cond(
            due, lambda: {name: living(known[name], share, sparsity) for name in chosen}, lambda: masks
        )
        live = map_paths(lambda name, g: jnp.where(masks[name], g, 0) if name in masks else g, grads)
        updates, held = inner.update(live, state.inner, params)
        updates = map_paths(lambda name, u: jnp.where(masks[name], u, -weights[name]) if name in masks else u, updates)
        return updates, Masked(state.count + 1, nest(masks), nest(scores), held)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def settling(sparsity: Sparsity, steps: int) -> tuple[int, int]:
    """First and last step that change masks, of a run of ``steps``; the last one is below it."""
    end = min(round(sparsity.end * steps), steps - 1)
    return min(round(sparsity.begin * steps), end), end


def settled(sparsity: Sparsity, steps: int) -> int:
    """Steps after which all zeros are there; 0 where nothing is pruned."""
    return settling(sparsity, steps)[1] + 1 if sparsity.share else 0


def complete(sparsity: Sparsity, steps: int, opt: Any) -> bool:
    """Whether all zeros are there, by the state of the optimiser: a step that was skipped changed no mask.

    Args:
        sparsity: how.
        steps: optimiser steps of the whole run.
        opt: the optimiser's state; with row-sparse tables, what holds it.
    """
    if not sparsity.share:
        return True
    held = opt if isinstance(opt, Masked) else opt["dense"]
    return bool(held.count >= settled(sparsity, steps))


def check_spare(sparsity: Sparsity, steps: int) -> None:
    """To be called where steps may be skipped, of a run of ``steps``.

    Raises:
        InputError: a single skipped step would leave the run without its last zeros.
    """
    if settled(sparsity, steps) >= steps:
        raise InputError(
            "field optim.sparsity.end",
            f"is the last of {steps} steps, and none is left to make up for one that train.on_nan skips.",
            found=f"{sparsity.end:g}",
            fix="--optim.sparsity.end 0.7",
        )


def _share(sparsity: Sparsity, count: Int[Array, ""], begin: int, end: int) -> Float[Array, ""]:
    done = jnp.where(count >= end, 1.0, (count - begin) / max(end - begin, 1))
    return sparsity.share * (1 - (1 - jnp.clip(done, 0.0, 1.0)) ** 3)


def living(scores: Float[Array, "..."], share: Float[Array, ""], sparsity: Sparsity) -> Bool[Array, "..."]:
    """Which weights stay when ``share`` of them go, those with the lowest scores."""
    fewest, group = group_of(sparsity.pattern)
    if group == 1:
        count = jnp.maximum(scores.size - jnp.round(share * scores.size).astype(jnp.int32), 1)
        return _largest(scores, count)
    # Rounded up, and for rounding of the share a hair down: at the end just so many stay.
    count = jnp.maximum(jnp.ceil(group * (1 - share) - 1e-3).astype(jnp.int32), fewest)
    rows = scores.reshape(*scores.shape[:INPUTS], -1, group, scores.shape[-1])
    rank = jnp.argsort(jnp.argsort(-rows, INPUTS), INPUTS)
    return (rank < count).reshape(scores.shape)


def _largest(scores: Float[Array, "..."], count: Int[Array, ""]) -> Bool[Array, "..."]:
    """The ``count`` largest; of those that equal the last of them the first, as weights of an input that is always
    zero have equal scores.

    The last one is found bit by bit: 32 sums over the array, which devices that share it make of their own parts, and
    less work than sorting.
    """
    bits = jax.lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    # As unsigned numbers in the order of the floats: negative ones are turned round, positive ones come above them.
    order = jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))

    def bit(place: Array, least: Array) -> Array:
        higher = least | (jnp.uint32(1) << (31 - place).astype(jnp.uint32))
        return jnp.where((order >= higher).sum(dtype=jnp.int32) >= count, higher, least)

    last = jax.lax.fori_loop(0, 32, bit, jnp.uint32(0))
    above, equal = order > last, order == last
    place = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(equal.shape)
    return above | (equal & (place <= count - above.sum(dtype=jnp.int32)))


def group_of(pattern: str) -> tuple[int, int]:
    """(n, m) of an n:m pattern; (1, 1) where any weights may go.

    Raises:
        InputError: the pattern is none.
    """
    if pattern == "unstructured":
        return 1, 1
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    if match is None or not 0 < int(match[1]) < int(match[2]):
        raise InputError(
            f'pattern "{pattern}"', "is none of weights.", fix="unstructured, or 2:4: two of each four weights stay"
        )
    return int(match[1]), int(match[2])


def fitting_share(pattern: str, share: float) -> float:
    """The share of weights that an n:m pattern takes out, whatever ``share`` was asked for; else that one.

    Raises:
        InputError: the pattern is none.
    """
    remaining, group = group_of(pattern)
    return share if group == 1 else 1 - remaining / group


def _check(sparsity: Sparsity) -> None:
    if not 0 < sparsity.share < 1:
        raise InputError("field optim.sparsity.share", "must be at least 0 and below 1.", found=str(sparsity.share))
    if not 0 <= sparsity.begin <= sparsity.end <= 1:
        raise InputError(
            "field optim.sparsity.begin",
            "must be at least 0 and at most end, which is at most 1.",
            found=f"begin {sparsity.begin}, end {sparsity.end}",
        )
    if sparsity.criterion not in ("magnitude", "movement", "taylor"):
        raise InputError(
            "field optim.sparsity.criterion",
            f'there is no criterion "{sparsity.criterion}".',
            fix="magnitude, movement or taylor",
        )
    fitting = fitting_share(sparsity.pattern, sparsity.share)
    if not math.isclose(sparsity.share, fitting):
        raise InputError(
            "field optim.sparsity.share",
            f"is {sparsity.share:g}, but {sparsity.pattern} prunes another.",
            fix=f"--optim.sparsity.share {fitting:g}",
        )
    for pattern in sparsity.exclude:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(
                "field optim.sparsity.exclude", f"not a regular expression: {error}.", found=pattern
            ) from None
