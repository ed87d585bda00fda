"""Differentiation of a task's loss as the gradient rule asks: rounds, the parameters of each, and the devices' sums."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.gradient import Devices, GradientRule, Loss, Round
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.errors import InputError, closest
from suite.experiment.sections import Optim
from suite.nn.rngs import streams
from suite.parallel.layout import alone, batch_sum, first_row, share
from suite.surgery import lora
from suite.training.optim import sparse_embeddings
from suite.tree import map_paths, nest, paths


@dataclass(frozen=True)
class Group:
    """Parameters that one optimiser updates.

    Attributes:
        names: paths of those that are trained.
        optim: fields of ``experiment.optim`` that differ.
        rounds: updates in one step.
    """

    names: frozenset[str]
    optim: Mapping[str, Any]
    rounds: int


def is_whole(rule: GradientRule) -> bool:
    """Whether one optimiser updates all parameters, as it does without a rule that says otherwise."""
    return all(round == Round(loss=round.loss) for round in rule.rounds)


def groups(rule: GradientRule, names: Collection[str], frozen: Collection[str]) -> dict[str, Group]:
    """The groups of parameters that the rounds of ``rule`` name.

    Args:
        rule: of an experiment.
        names: paths of all parameters.
        frozen: those that are not trained.

    Raises:
        InputError: a pattern matches no parameter, a parameter is in two groups, two rounds describe one group
            differently, or a group has nothing to train.
    """
    described: dict[str, list[Round]] = {}
    for round in rule.rounds:
        described.setdefault(round.group, []).append(round)
    owners: dict[str, str] = {}
    result: dict[str, Group] = {}
    for group, rounds in described.items():
        first = rounds[0]
        if any((round.parameters, round.optim) != (first.parameters, first.optim) for round in rounds):
            raise InputError(
                "field gradient", f'the rounds of group "{group}" differ in their parameters or their optimiser.'
            )
        for pattern in first.parameters:
            if not any(re.search(pattern, name) for name in names):
                listed = ", ".join(list(names)[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
                problem = f'"{pattern}" of group "{group}" matches no parameter.'
                raise InputError("field gradient", problem, found=listed, fix=closest(pattern, names))
        chosen = {name for name in names if not first.parameters or any(re.search(p, name) for p in first.parameters)}
        for name in sorted(chosen):
            if name in owners:
                raise InputError("field gradient", f'{name} is in group "{owners[name]}" and in group "{group}".')
            owners[name] = group
        if not chosen - set(frozen):
            raise InputError("field gradient", f'group "{group}" has nothing to train: all of it is frozen.')
        result[group] = Group(frozenset(chosen - set(frozen)), first.optim, len(rounds))
    return result


def check_sparsity(rule: GradientRule, optim: Optim) -> None:
    """Pruning counts the updates of its one optimiser as steps, so it takes a rule of one round."""
    if optim.sparsity.share and not (is_whole(rule) and len(rule.rounds) == 1):
        raise InputError(
            "field optim.sparsity.share",
            f"prunes weights of one optimiser with one update a step; {type(rule).__name__} has several rounds.",
            found=", ".join(f'"{round.group}"' for round in rule.rounds),
            fix="--optim.sparsity.share 0",
        )


def make_loss(graph: Any, task: Task, name: str = "loss") -> Loss:
    """The method ``name`` of the task as a function of the model's variables.

    Raises:
        InputError: the task has no such method.
    """
    if not callable(getattr(task, name, None)):
        known = [other for other in dir(task) if other.endswith("loss") and not other.startswith("_")]
        raise InputError(
            "field gradient",
            f'asks for the loss "{name}", which {type(task).__name__} does not have.',
            found=", ".join(known),
            fix=closest(name, known),
        )

    def loss(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> tuple[Any, tuple[dict[str, Any], Any]]:
        model = nnx.merge(graph, params, model_state)
        with lora.training(key):
            value, metrics = getattr(task, name)(model, batch, streams(dropout=key))
        return value, (metrics, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param))))

    return loss


def split_trained(loss: Loss, params: Any, names: Collection[str]) -> tuple[Loss, Any]:
    """The loss as a function of the parameters ``names`` alone, and these parameters; the others are constants."""
    flat = paths(params)
    if len(names) == len(flat):
        return loss, params

    def partial(trained: Any, model_state: Any, batch: Batch, key: jax.Array) -> Any:
        values = paths(trained)
        whole = map_paths(lambda name, leaf: values.get(name, leaf), params)
        return loss(whole, model_state, batch, key)

    return partial, nest({name: leaf for name, leaf in flat.items() if name in names})


def make_devices(tables: Mapping[str, str]) -> Devices:
    """The devices of the layout that is being traced; ``tables`` are the row-sparse ones."""
    return Devices(
        sum=batch_sum,
        gradients=lambda grads: sparse_embeddings.whole_gradients(grads, tables),
        share=share,
        places=lambda rows: first_row(rows) + jnp.arange(rows),
        alone=alone,
    )


def joined_metrics(rounds: tuple[Round, ...], metrics: list[dict[str, MetricState]]) -> dict[str, MetricState]:
    """The metrics of a step: of one round its own; of several by group, ``"critic/loss"``, rounds of a group added up,
    and ``loss`` over all of them."""
    if len(rounds) == 1:
        return metrics[0]
    total: dict[str, MetricState] = {}
    for round, own in zip(rounds, metrics, strict=True):
        for name, value in {**{f"{round.group}/{name}": own[name] for name in own}, "loss": own["loss"]}.items():
            total[name] = total[name] + value if name in total else value
    return total
