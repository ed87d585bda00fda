"""Row-sparse parameters: tables of which a step reads and changes only the rows that its batch names.

A table of millions of rows has, in any one step, a gradient in a few thousand of them. Differentiating by the whole
table would write its size in zeros, and Adam would then walk over all of it. So the trainer differentiates by the
*picked* rows ``table[ids]`` of the batch, adds up the gradients of rows that were picked more than once, and updates
these rows in place: the cost of a step depends on the rows touched, not on the table.

The update is lazy: moments of rows that no example touched neither decay nor move their row (as in PyTorch's
``SparseAdam``). An id outside the table, as padding has, and the ids of padding rows touch nothing.

Dims: n rows of the table, d width, k rows picked (with repetitions).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from suite.contracts.batch import Batch
from suite.experiment.sections import Optim
from suite.parallel.layout import batch_rows, batch_sum, everywhere, on_mesh
from suite.tree import nest, paths

Update = Callable[[Any, Any, Any, Any, Batch, jax.Array], tuple[Any, Any]]
"""(gradients, optimiser state, parameters, the same as picked, batch, step) -> (parameters, optimiser state)."""


def split(params: Mapping[Any, Any], tables: Mapping[str, str]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The parameters without the tables, and the tables by path."""
    flat = paths(params)
    return nest({name: leaf for name, leaf in flat.items() if name not in tables}), {
        name: flat[name] for name in tables
    }


def pick(params: Any, batch: Batch, tables: Mapping[str, str]) -> Any:
    """The parameters with each table replaced by the rows of the batch, (b, ..., d): what a step differentiates by."""
    if not tables:
        return params
    picked = {
        name: leaf.at[batch[tables[name]]].get(mode="clip") if name in tables else leaf
        for name, leaf in paths(params).items()
    }
    return nest(picked)


def whole_gradients(grads: Any, tables: Mapping[str, str]) -> Any:
    """Gradients over the whole batch, from those by the rows that a device sees.

    Inside pmap gradients are added up, and those of picked rows lined up; on a mesh the latter go to all devices, each
    of which then updates the rows by itself. It is the least that must be sent where each device has the table.
    """
    held = {name: leaf for name, leaf in paths(grads).items() if name in tables}
    dense = nest({name: leaf for name, leaf in paths(grads).items() if name not in tables})
    return nest({**paths(batch_sum(dense)), **everywhere(held)})


def whole_rows(picked: Any, batch: Batch, tables: Mapping[str, str]) -> tuple[Any, Batch]:
    """The parameters as picked, and what of the batch decides about rows, of the whole batch."""
    decisive = {key: batch[key] for key in ("mask", *tables.values())}
    rows = {**paths(picked), **batch_rows(split(picked, tables)[1])}
    return nest(rows), everywhere(decisive)


def init(tx: optax.GradientTransformation, params: Any, tables: Mapping[str, str], optim: Optim) -> Any:
    """Optimiser state: optax's own where there are no tables."""
    if not tables:
        return tx.init(params)
    dense, held = split(params, tables)
    state = {"dense": tx.init(dense), "owner": {name: jnp.zeros(t.shape[0], jnp.int32) for name, t in held.items()}}
    moments = ("mu", "nu") if optim.tables == "adam" else ("nu",)
    for moment in moments:
        state[moment] = nest({name: jnp.zeros_like(table) for name, table in held.items()})
    state["owner"] = nest(state["owner"])
    return state


def updater(
    tx: optax.GradientTransformation, tables: Mapping[str, str], optim: Optim, rate: Callable[[Any], Any]
) -> Update:
    """What applies one step's gradients. ``rate`` gives the learning rate of a step.

    Weight decay reaches a row when the row is touched, unless ``optim.no_decay`` names its table. Clipping and the
    factors of ``layer_decay`` and ``rates`` are about dense parameters alone.
    """

    def dense_only(grads: Any, opt: Any, params: Any, picked: Any, batch: Batch, step: jax.Array) -> tuple[Any, Any]:
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt

    def update(grads: Any, opt: Any, params: Any, picked: Any, batch: Batch, step: jax.Array) -> tuple[Any, Any]:
        dense_grads, row_grads = split(grads, tables)
        dense, held = split(params, tables)
        updates, dense_state = tx.update(dense_grads, opt["dense"], dense)
        moved = paths(optax.apply_updates(dense, updates))
        state = {part: dict(paths(opt[part])) for part in opt if part != "dense"}
        old = split(picked, tables)[1]
        for name, key in tables.items():
            own = {part: values[name] for part, values in state.items()}
            decayed = not any(re.search(pattern, name) for pattern in optim.no_decay)
            moved[name], own = update_rows(
                held[name],
                own,
                batch[key],
                held[name].at[batch[key]].get(mode="clip") if on_mesh() else old[name],  # which sends nothing
                row_grads[name],
                batch["mask"],
                step,
                optim,
                rate=rate(step),
                decay=optim.weight_decay if decayed else 0.0,
            )
            for part, value in own.items():
                state[part][name] = value
        return nest(moved), {"dense": dense_state, **{part: nest(values) for part, values in state.items()}}

    return update if tables else dense_only


def update_rows(
    table: Float[Array, "n d"],
    state: Mapping[str, Array],
    ids: Int[Array, "b ..."],
    picked: Float[Array, "b ... d"],
    grads: Float[Array, "b ... d"],
    mask: Bool[Array, "b"],
    step: Int[Array, ""],
    optim: Optim,
    *,
    rate: Any,
    decay: float,
) -> tuple[Array, dict[str, Array]]:
    """One lazy step of Adam (with decoupled weight decay) or Adagrad on the rows ``ids``: the table and its state.

    Args:
        table: all rows; changed in place where the caller donates it.
        state: ``nu`` and, for Adam, ``mu``, of the table's shape; ``owner`` (n,) is scratch space: every picked row
            writes its place to its id and reads back who won, so that repetitions find one another without a sort.
            Its content between steps means nothing.
        ids: rows of the table.
        picked: ``table[ids]``.
        grads: of ``picked``.
        mask: False for padding rows.
        step: steps taken before.
        optim: the rule and its constants.
        rate: learning rate.
        decay: weight decay.
    """
    n, d = table.shape
    k = ids.size
    real = jnp.broadcast_to(mask.reshape(-1, *[1] * (ids.ndim - 1)), ids.shape) & (ids >= 0) & (ids < n)
    real, ids = real.reshape(-1), jnp.where(real, ids, n).reshape(-1)  # n lies past the end: such writes are dropped
    place = jnp.arange(k, dtype=jnp.int32)
    owner = state["owner"].at[ids].set(place, mode="drop")
    leader = jnp.where(real, owner.at[ids].get(mode="clip"), k)
    grad = jnp.zeros((k, d), grads.dtype).at[leader].add(grads.reshape(k, d), mode="drop")
    # Each distinct row is written once, by its leader.
    target = jnp.where(leader == place, ids, n)
    old, updated = picked.reshape(k, d), {"owner": owner}
    nu = state["nu"].at[ids].get(mode="clip")
    if optim.tables == "adam":
        count = (step + 1).astype(jnp.float32)
        mu = optim.beta1 * state["mu"].at[ids].get(mode="clip") + (1 - optim.beta1) * grad
        nu = optim.beta2 * nu + (1 - optim.beta2) * grad**2
        direction = (mu / (1 - optim.beta1**count)) / (jnp.sqrt(nu / (1 - optim.beta2**count)) + optim.epsilon)
        updated["mu"] = state["mu"].at[target].set(mu, mode="drop")
    else:
        nu = nu + grad**2
        direction = grad / (jnp.sqrt(nu) + optim.epsilon)
    updated["nu"] = state["nu"].at[target].set(nu, mode="drop")
    new = old - rate * (direction + decay * old)
    return table.at[target].set(new, mode="drop"), updated
