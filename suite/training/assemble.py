"""Assembly: an experiment turned into the functions of its training, nothing allocated yet."""

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from suite.contracts.gradient import GradientRule
from suite.errors import InputError
from suite.evaluation.evaluate import make_answer, make_evaluate, make_predict
from suite.experiment.sections import Experiment, Optim
from suite.nn.cpu import switch, threefry
from suite.nn.rngs import streams
from suite.parallel import sharding
from suite.parallel.layout import Layout
from suite.surgery import lora, quantize
from suite.surgery.freezing import frozen_paths
from suite.training import gradients, precision
from suite.training.initial_state import InitialState, replayed
from suite.training.optim import groups, optimizer, schedules, sparse_embeddings, sparsity
from suite.training.privacy import check_model, is_private
from suite.training.private_gradient import Private
from suite.training.state import State
from suite.training.step import Halves, make_step
from suite.tree import map_paths, paths


@dataclass(frozen=True)
class Program:
    """An experiment turned into functions, nothing allocated yet.

    Attributes:
        graph: the model's static part.
        abstract: shapes, dtypes and shardings of the state.
        mesh: the device mesh.
        init: () -> State.
        step: (State, batches (steps, b, ...)) -> (State, {name: MetricState}); donates the state. Jitted.
        halves: the same as two programs, see `Halves`; None where more than one device or round takes part.
        predict: (params, model_state, batch, reference) -> outputs that requests are answered with. Jitted.
        evaluate: the same for outputs that a split is scored by.
        embed: (params, model_state, batch) -> what is kept of reference records. Jitted.
        layout: how ``predict`` computes.
        learning_rate: step -> learning rate.
        rule: what makes the gradients.
    """

    graph: Any
    abstract: State
    mesh: Mesh
    init: InitialState
    step: Any
    halves: Halves | None
    predict: Any
    evaluate: Any
    embed: Any
    layout: Layout
    learning_rate: Callable[[int], Any]
    rule: GradientRule

    def stepper(self, shapes: int, at_once: int) -> Any:
        """What takes the steps of a training: ``step``, or ``halves`` where batches are of several shapes.

        Args:
            shapes: of batches.
            at_once: steps a dispatch.
        """
        return self.halves if self.halves is not None and shapes > 1 and at_once == 1 else self.step


def assemble(experiment: Experiment, total_steps: int = 0, rule: GradientRule | None = None) -> Program:
    """The program of a bound experiment (see assets.bind).

    Args:
        experiment: bound.
        total_steps: optimiser steps of the whole run; 0: any number that the schedule takes, for a program that is
            not trained.
        rule: of gradients. None: that of the experiment; of a private one as it is but for noise and the batch.
    """
    train, model_config = experiment.train, experiment.model
    total_steps = total_steps or max(train.steps, experiment.optim.warmup_steps + 1)
    mesh = sharding.check(experiment)
    layout = sharding.layout(experiment.parallel, mesh)

    own_draws = layout.platform == "cpu" and switch.enabled()

    def build() -> nnx.Module:
        rngs = streams(threefry.key(train.seed) if own_draws else train.seed)
        model = lora.attach(model_config.build(rngs=rngs), experiment.finetune, rngs)
        model = quantize.attach(model, experiment.compression)
        model = precision.apply(model, experiment.precision)
        return threefry.with_own_keys(model) if own_draws else model

    graphs: list[Any] = []

    def variables() -> tuple[Any, Any]:
        graph, params, model_state = nnx.split(build(), nnx.Param, ...)
        if is_private(experiment):
            check_model(model_state)
        graphs.append(graph)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)

    built, (params, _) = replayed(variables)  # Python builds the model once
    rule, names, graph = rule or _rule(experiment), paths(params), graphs[0]
    whole = experiment.finetune.kind == "full"  # else a table is frozen like the rest of the body
    tables = model_config.tables if whole and experiment.optim.tables != "dense" else {}
    _check_tables(tables, experiment, rule)
    dense, _ = sparse_embeddings.split(params, tables)
    settings = lora.freeze(experiment.optim, experiment.finetune, dense)
    frozen = frozen_paths(settings, dense)
    layer_of, depth = model_config.layer_of, model_config.depth
    gradients.check_sparsity(rule, settings)
    trained: dict[str, Collection[str]]
    if experiment.task.solved:  # an optimiser's state may be twice as large as the model
        optimizers, trained = groups.Optimizers(lambda params: {}, lambda *_: ({}, {})), {}
    elif gradients.is_whole(rule):
        optimizers = _one_optimizer(settings, experiment, dense, tables, total_steps * len(rule.rounds))
        trained = {rule.rounds[0].group: names.keys() - frozen}
    else:
        members = gradients.groups(rule, names, frozen)
        optimizers = groups.build(settings, dense, members, total_steps, layer_of, depth)
        trained = {name: group.names for name, group in members.items()}

    def init() -> State:
        params, model_state = built()
        # Copies: two names for one buffer could not both be donated.
        ema = jax.tree.map(jnp.copy, params) if train.ema else None
        rule_state = jax.tree.map(jnp.copy, rule.init(params))
        return State(jnp.int32(0), params, model_state, optimizers.init(params), ema, rule_state)

    initial = InitialState(init)
    placed = sharding.state_shardings(initial.abstract, model_config.sharding, mesh)
    abstract = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), initial.abstract, placed)
    shardings = placed if mesh.size > 1 else None  # on one device they would only cost time at each call
    replicated = experiment.parallel.engine == "pmap" and mesh.size > 1
    pruned = sparsity.pruned_paths(settings.sparsity, dense, frozen, layer_of, depth)
    where = Layout(axis=sharding.REPLICAS, platform=layout.platform) if replicated else layout
    step = make_step(graph, experiment.task, rule, optimizers, train, tables, trained, pruned, where)
    halves = step.halved() if mesh.size == 1 and step.rounds == 1 else None
    whole_step = sharding.replicate(step, mesh) if replicated else step
    predict = make_predict(graph, experiment.task, layout)
    return Program(
        graph=graph,
        abstract=abstract,
        mesh=mesh,
        init=initial.placed(shardings, on_host=layout.platform == "cpu" and mesh.size == 1),
        step=jax.jit(whole_step, donate_argnums=0, out_shardings=None if shardings is None else (shardings, None)),
        halves=halves,
        predict=predict,
        evaluate=make_evaluate(graph, experiment.task, predict, layout),
        embed=make_answer(graph, experiment.task.embed, layout),
        layout=layout,
        learning_rate=jax.jit(schedules.schedule(experiment.optim, total_steps)),
        rule=rule,
    )


def _one_optimizer(
    settings: Optim, experiment: Experiment, dense: Any, tables: Mapping[str, str], total_steps: int
) -> groups.Optimizers:
    """The optimiser of all parameters, row-sparse tables included; ``total_steps`` are its updates."""
    model = experiment.model
    tx = optimizer.build(settings, dense, total_steps, model.layer_of, model.depth)
    apply = sparse_embeddings.updater(tx, tables, settings, schedules.schedule(settings, total_steps))

    def update(
        group: str, grads: Mapping[str, Any], opt: Any, params: Any, picked: Any, batch: Any, step: jax.Array
    ) -> tuple[Any, Any]:
        whole = map_paths(lambda name, leaf: grads.get(name, jnp.zeros_like(leaf)), picked)
        return apply(whole, opt, params, picked, batch, step)

    return groups.Optimizers(lambda params: sparse_embeddings.init(tx, params, tables, settings), update)


def _rule(experiment: Experiment) -> GradientRule:
    return Private(clip_norm=experiment.privacy.clip_norm) if is_private(experiment) else experiment.gradient


def _check_tables(tables: Mapping[str, str], experiment: Experiment, rule: GradientRule) -> None:
    """What would cost a table's whole size at each step is refused where tables are row-sparse."""
    train = experiment.train
    for name, value, off in (
        ("train.ema", train.ema, 0.0),
        ("gradient.accumulate", rule.microbatches, 1),
        ("train.on_nan", train.on_nan, "stop"),
    ):
        if tables and value != off:
            plain = off if isinstance(off, str) else f"{off:g}"
            raise InputError(
                f"field {name}",
                f"is {value}, but {', '.join(tables)} is updated by rows.",
                found="optim.tables other than dense",
                fix=f"--{name} {shlex.quote(plain)}",
            )
    if tables and not (rule.row_sparse and gradients.is_whole(rule) and len(rule.rounds) == 1):
        named = "private training" if is_private(experiment) else f"gradient rule {type(rule).__name__}"
        problem = f"updates the rows of a batch alone in {', '.join(tables)}, and {named} changes all rows."
        raise InputError("field optim.tables", problem, found=experiment.optim.tables, fix="--optim.tables dense")
