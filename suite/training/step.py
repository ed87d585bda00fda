"""The pure step: gradients of a batch, and what they change."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.experiment.sections import Train
from suite.parallel.layout import Layout, batch_sum, laid_out, share
from suite.surgery import lora
from suite.training import nan_guard
from suite.training.optim import sparse_embeddings
from suite.tree import map_paths, paths


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that training changes. Nested dicts of arrays, so that a step costs little Python.

    Attributes:
        step: () int32, optimiser steps taken.
        params: trainable parameters, float32.
        rest: the model's other variables (running statistics).
        opt: optimiser state.
        ema: moving average of ``params``, or None.
    """

    step: Any
    params: Any
    rest: Any
    opt: Any
    ema: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gradient:
    """What a step finds out about a batch before anything changes.

    Attributes:
        grads: by path, of all parameters but frozen ones; of row-sparse tables, those of the rows of the batch.
        tallies: what the task logs.
        rest: the model's other variables, as this batch leaves them.
        picked: the parameters as `rows.pick` gives them; None where there are no row-sparse tables.
        seen: what of the batch decides about rows.
    """

    grads: Any
    tallies: Any
    rest: Any
    picked: Any
    seen: Any


@dataclass(frozen=True)
class Step:
    """One optimiser step, as a function of (State, batches (steps, b, ...)) that takes one for each leading entry.

    Attributes:
        differentiate: (State, batch) -> Gradient; looks at no state of the optimiser.
        apply: (State, Gradient) -> (State, {name: MetricState}).
        layout: how it is spread over devices.
    """

    differentiate: Callable[[State, Batch], Gradient]
    apply: Callable[[State, Gradient], tuple[State, dict[str, MetricState]]]
    layout: Layout

    def __call__(self, state: State, batches: Batch) -> tuple[State, dict[str, MetricState]]:
        one = lambda state, batch: self.apply(state, self.differentiate(state, batch))
        with laid_out(self.layout):
            if batches["mask"].shape[0] == 1:
                return one(state, jax.tree.map(lambda a: a[0], batches))
            state, tallies = jax.lax.scan(one, state, batches)
            return state, jax.tree.map(lambda t: t.sum(0), tallies)

    def halved(self) -> "Halves":
        """The same of one batch, as two programs."""

        def differentiate(params: Any, rest: Any, step: jax.Array, batches: Batch) -> Gradient:
            with laid_out(self.layout):
                batch = jax.tree.map(lambda a: a[0], batches)
                return self.differentiate(State(step, params, rest, None, None), batch)

        def apply(state: State, rest: Any, found: Gradient) -> tuple[State, dict[str, MetricState]]:
            with laid_out(self.layout):
                return self.apply(replace(state, rest=rest), found)

        return Halves(jax.jit(differentiate), jax.jit(apply, donate_argnums=0))


@dataclass(frozen=True)
class Halves:
    """A step over (State, batches (1, b, ...)) as two programs. Where batches are of many lengths, only the first is
    compiled for each of them; the second, half of the work of compiling, is about the parameters alone.

    Attributes:
        differentiate: (params, rest, step, batches) -> Gradient. Jitted.
        apply: (State without rest, rest, Gradient) -> (State, {name: MetricState}); donates the state. Jitted. What no
            batch changes of ``rest``, such as a teacher's weights, is the same buffer in the gradient, and must stay.
    """

    differentiate: Any
    apply: Any

    def __call__(self, state: State, batches: Batch) -> tuple[State, dict[str, MetricState]]:
        found = self.differentiate(state.params, state.rest, state.step, batches)
        changed: tuple[State, dict[str, MetricState]] = self.apply(replace(state, rest=None), state.rest, found)
        return changed


def make_step(
    graph: Any,
    task: Task,
    update: sparse_embeddings.Update,
    train: Train,
    tables: Mapping[str, str],
    frozen: Collection[str] = (),
    pruned: Collection[str] = (),
    layout: Layout = Layout(),
) -> Step:
    """The pure step.

    The gradient of ``frozen`` parameters (by path) is used nowhere, so the compiler leaves out the work for it. A zero
    of a ``pruned`` parameter is one of its moving average too.
    """

    def loss(
        params: Any, rest: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, MetricState], Any]]:
        model = nnx.merge(graph, params, rest)
        with lora.training(key):
            value, tallies = task.loss(model, batch, nnx.Rngs(dropout=key))
        value = value * share(tallies["loss"].count)
        return value, (tallies, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param))))

    gradient = jax.grad(loss, has_aux=True)

    def accumulated(params: Any, rest: Any, batch: Batch, key: jax.Array) -> Any:
        """The gradient of the mean over the whole batch, from micro-batches weighted by what their means are over."""
        micro = jax.tree.map(lambda a: a.reshape(train.accumulate, -1, *a.shape[1:]), batch)

        def add(carry: Any, item: Any) -> Any:
            total, rest = carry
            i, part = item
            grads, (tallies, rest) = gradient(params, rest, part, jax.random.fold_in(key, i))
            return (jax.tree.map(lambda t, g: t + tallies["loss"].count * g, total, grads), rest), tallies

        zero = jax.tree.map(jnp.zeros_like, params)
        (total, rest), tallies = jax.lax.scan(add, (zero, rest), (jnp.arange(train.accumulate), micro))
        tallies = jax.tree.map(lambda t: t.sum(0), tallies)
        return jax.tree.map(lambda t: t / jnp.maximum(tallies["loss"].count, 1), total), (tallies, rest)

    def differentiate(state: State, batch: Batch) -> Gradient:
        key = jax.random.fold_in(jax.random.key(train.seed), state.step)
        picked = sparse_embeddings.pick(state.params, batch, tables)
        grads, (tallies, rest) = (accumulated if train.accumulate > 1 else gradient)(picked, state.rest, batch, key)
        tallies = batch_sum(tallies)
        grads, picked, seen = sparse_embeddings.whole(grads, picked, batch, tables)
        counting = {name: leaf for name, leaf in paths(grads).items() if name not in frozen}
        return Gradient(counting, tallies, rest, picked if tables else None, seen)

    def apply(state: State, found: Gradient) -> tuple[State, dict[str, MetricState]]:
        picked = found.picked if tables else state.params
        grads = map_paths(lambda name, leaf: found.grads.get(name, jnp.zeros_like(leaf)), picked)
        params, opt = update(grads, state.opt, state.params, picked, found.seen, state.step)
        ema = _average(state.ema, params, state.step, train.ema, frozen, pruned) if train.ema else None
        changed, tallies = (params, found.rest, opt, ema), found.tallies
        if train.on_nan == "skip":
            good = nan_guard.sound(tallies, found.grads)
            changed = nan_guard.either(good, changed, (state.params, state.rest, state.opt, state.ema))
            tallies = nan_guard.tallied(good, tallies)
        return State(state.step + 1, *changed), tallies

    return Step(differentiate, apply, layout)


def _average(
    ema: Any, params: Any, step: jax.Array, decay: float, frozen: Collection[str], pruned: Collection[str]
) -> Any:
    """The moving average; early on its decay is (1 + step) / (10 + step), so that it forgets the initial values."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    now = paths(params)

    def moved(name: str, e: jax.Array) -> jax.Array:
        if name in frozen:
            return e
        average = e + (1 - kept) * (now[name] - e)
        return jnp.where(now[name] == 0, 0, average) if name in pruned else average

    return map_paths(moved, ema)
