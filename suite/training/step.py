"""The pure step: gradients of a batch, and what they change."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

import suite.evaluation.metric_pytree  # noqa: F401 (a step returns metric states)
from suite.contracts.batch import Batch
from suite.contracts.gradient import Context, GradientRule
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.experiment.sections import Train
from suite.parallel.layout import Layout, laid_out
from suite.training import gradients, nan_guard
from suite.training.optim import sparse_embeddings
from suite.training.optim.groups import Optimizers
from suite.training.state import State
from suite.tree import map_paths, paths

Metrics = dict[str, MetricState]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Differentiated:
    """What one round of a step finds out about a batch before anything changes.

    Attributes:
        grads: by path, of the parameters that the round trains; of row-sparse tables, those of the rows of the batch.
        metrics: what the task logs.
        model_state: the model's other variables, as this batch leaves them.
        rule_state: state of the gradient rule, as this round leaves it.
        picked: the parameters as `sparse_embeddings.pick` gives them; None where there are no row-sparse tables.
        seen: what of the batch decides about rows.
    """

    grads: Any
    metrics: Any
    model_state: Any
    rule_state: Any
    picked: Any
    seen: Any


@dataclass(frozen=True)
class Step:
    """One step, as a function of (State, batches (steps, b, ...)) that takes one for each leading entry.

    Attributes:
        differentiate: (State, batch, number of the round) -> Differentiated; looks at no state of an optimiser.
        advance: (State, Differentiated, number of the round) -> State with that round's parameters updated.
        finish: (State before the step, State after its rounds, their Differentiated) -> (State, {name: MetricState}).
        rounds: how many.
        layout: how it is spread over devices.
    """

    differentiate: Callable[[State, Batch, int], Differentiated]
    advance: Callable[[State, Differentiated, int], State]
    finish: Callable[[State, State, Sequence[Differentiated]], tuple[State, Metrics]]
    rounds: int
    layout: Layout

    def __call__(self, state: State, batches: Batch) -> tuple[State, Metrics]:
        with laid_out(self.layout):
            if batches["mask"].shape[0] == 1:
                return self._one(state, jax.tree.map(lambda a: a[0], batches))
            state, metrics = jax.lax.scan(self._one, state, batches)
            return state, jax.tree.map(lambda t: t.sum(0), metrics)

    def _one(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        now, results = state, []
        for number in range(self.rounds):
            results.append(self.differentiate(now, batch, number))
            now = self.advance(now, results[-1], number)
        return self.finish(state, now, results)

    def halved(self) -> "Halves":
        """The same of one batch and one round, as two programs."""

        def differentiate(params: Any, others: Any, step: jax.Array, batches: Batch) -> Differentiated:
            with laid_out(self.layout):
                batch = jax.tree.map(lambda a: a[0], batches)
                model_state, rule_state = others
                return self.differentiate(State(step, params, model_state, None, None, rule_state), batch, 0)

        def apply(state: State, others: Any, result: Differentiated) -> tuple[State, Metrics]:
            with laid_out(self.layout):
                state = replace(state, model_state=others[0], rule_state=others[1])
                return self.finish(state, self.advance(state, result, 0), [result])

        return Halves(jax.jit(differentiate), jax.jit(apply, donate_argnums=0))


@dataclass(frozen=True)
class Halves:
    """A step over (State, batches (1, b, ...)) as two programs. Where batches are of many lengths, only the first is
    compiled for each of them; the second, half of the work of compiling, is about the parameters alone.

    Attributes:
        differentiate: (params, (model_state, rule_state), step, batches) -> Differentiated. Jitted.
        apply: (State without model_state and rule_state, these two, Differentiated) -> (State, {name: MetricState});
            donates the state. Jitted. What no batch changes of ``model_state``, such as a teacher's weights, is the
            same buffer in the result of ``differentiate``, and must stay.
    """

    differentiate: Any
    apply: Any

    def __call__(self, state: State, batches: Batch) -> tuple[State, Metrics]:
        first = _first_half(state, batches)
        changed: tuple[State, Metrics] = self.apply(*_second_half(state, self.differentiate(*first)))
        return changed

    def lower_first(self, state: State, batches: Batch) -> Any:
        """``differentiate``, lowered for arguments of these shapes."""
        return self.differentiate.lower(*_first_half(state, batches))

    def lower_second(self, state: State, batches: Batch) -> Any:
        """The same of ``apply``."""
        result = jax.eval_shape(self.differentiate, *_first_half(state, batches))
        return self.apply.lower(*_second_half(state, result))


def _first_half(state: State, batches: Batch) -> tuple[Any, ...]:
    return state.params, (state.model_state, state.rule_state), state.step, batches


def _second_half(state: State, result: Any) -> tuple[Any, ...]:
    return replace(state, model_state=None, rule_state=None), (state.model_state, state.rule_state), result


def make_step(
    graph: Any,
    task: Task,
    rule: GradientRule,
    optimizers: Optimizers,
    train: Train,
    tables: Mapping[str, str],
    trained: Mapping[str, Collection[str]],
    pruned: Collection[str] = (),
    layout: Layout = Layout(),
) -> Step:
    """The pure step.

    Args:
        graph: the model's static part.
        task: what is learnt.
        rule: what makes gradients of the task's loss.
        optimizers: what updates parameters by them.
        train: seed, moving average, and what a loss does that is not finite.
        tables: the row-sparse parameters, and the key of the batch that names their rows.
        trained: group of parameters -> paths of those that are trained. Others are constants of the loss.
        pruned: paths of parameters of which a zero is one of the moving average too.
        layout: how the step is spread over devices.
    """
    rounds, devices = rule.rounds, gradients.make_devices(tables)
    losses = [gradients.make_loss(graph, task, round.loss) for round in rounds]
    moving = set().union(*trained.values())

    def differentiate(state: State, batch: Batch, number: int) -> Differentiated:
        round = rounds[number]
        key = jax.random.fold_in(jax.random.key(train.seed), state.step)
        key = jax.random.fold_in(key, number) if len(rounds) > 1 else key
        picked = sparse_embeddings.pick(state.params, batch, tables)
        loss, params = gradients.split_trained(losses[number], picked, trained[round.group])
        context = Context(round, state.rule_state, devices)
        result = rule(loss, params, state.model_state, batch, key, context)
        rows, seen = sparse_embeddings.whole_rows(picked, batch, tables)
        return Differentiated(
            paths(result.grads), result.metrics, result.model_state, result.state, rows if tables else None, seen
        )

    def advance(state: State, result: Differentiated, number: int) -> State:
        picked = result.picked if tables else state.params
        group = rounds[number].group
        params, opt = optimizers.update(group, result.grads, state.opt, state.params, picked, result.seen, state.step)
        return replace(state, params=params, model_state=result.model_state, opt=opt, rule_state=result.rule_state)

    def finish(before: State, after: State, results: Sequence[Differentiated]) -> tuple[State, Metrics]:
        if train.ema:
            after = replace(after, ema=_average(before.ema, after.params, before.step, train.ema, moving, pruned))
        metrics = gradients.joined_metrics(rounds, [result.metrics for result in results])
        if train.on_nan == "skip":
            good = nan_guard.sound(metrics, [result.grads for result in results])
            after, metrics = nan_guard.either(good, after, before), nan_guard.tallied(good, metrics)
        return replace(after, step=before.step + 1), metrics

    return Step(differentiate, advance, finish, len(rounds), layout)


def _average(
    ema: Any, params: Any, step: jax.Array, decay: float, trained: Collection[str], pruned: Collection[str]
) -> Any:
    """The moving average; early on its decay is (1 + step) / (10 + step), so that it forgets the initial values."""
    decay_now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    now = paths(params)

    def moved(name: str, e: jax.Array) -> jax.Array:
        if name not in trained:
            return e
        average = e + (1 - decay_now) * (now[name] - e)
        return jnp.where(now[name] == 0, 0, average) if name in pruned else average

    return map_paths(moved, ema)
