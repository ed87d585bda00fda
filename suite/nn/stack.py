"""Equal layers one after the other: unrolled or scanned, their insides kept for the backward pass or computed again."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from suite.nn.rngs import streams
from suite.parallel.layout import edge

Remat = Literal["none", "full", "dots"]
"""Activations that the backward pass recomputes: none; each layer, of which only the input is kept; or all but the
results of products with a matrix of parameters."""


def run_layers(
    layers: Sequence[nnx.Module],
    x: Any,
    *args: Any,
    rngs: nnx.Rngs | None = None,
    remat: Remat = "none",
    scan: bool = False,
) -> Any:
    """``x`` through ``layer(x, *args, rngs)`` for each layer; `edge` holds it where they meet.

    The numbers are the same in all forms. Scanning compiles one layer however many there are, and stacks their
    parameters in each call; on a CPU it runs slower than the unrolled form, which is the default.

    Args:
        layers: modules of one structure.
        x: what the layers pass on.
        args: what each of them is given besides, arrays or None.
        rngs: of dropout, in training; each layer has a key of its own.
        remat: see `Remat`.
        scan: by `jax.lax.scan`.
    """
    if not layers:
        return x
    keys = [None] * len(layers) if rngs is None else list(jax.random.split(rngs.dropout(), len(layers)))
    if not scan and remat == "none":
        for layer, key in zip(layers, keys, strict=True):
            x = layer(edge(x), *args, _rngs(key))
        return x
    parts = [nnx.split(layer) for layer in layers]
    inside = lambda graph, state, x, key: nnx.merge(graph, state)(edge(x), *args, _rngs(key))
    apply = _checkpointed(inside, remat)
    if not scan:
        for (graph, state), key in zip(parts, keys, strict=True):
            x = apply(graph, state, x, key)
        return x
    graph = parts[0][0]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in parts))
    stacked = None if rngs is None else jnp.stack([key for key in keys if key is not None])
    return jax.lax.scan(lambda x, item: (apply(graph, item[0], x, item[1]), None), x, (states, stacked))[0]


def _rngs(key: Any) -> nnx.Rngs | None:
    return None if key is None else streams(dropout=key)


def _checkpointed(apply: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    if remat == "none":
        return apply
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(apply, policy=policy, static_argnums=(0,))
