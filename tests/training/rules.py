"""Gradient rules that a user may write, outside the suite: gradients clipped by record, and two losses in turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from suite.contracts.batch import Batch
from suite.contracts.gradient import Context, Gradient, GradientRule, Loss, Round
from suite.contracts.metric import MetricState
from suite.contracts.model import ModelConfig
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.metrics.classification import classification_scores
from suite.experiment.mean_gradient import Mean
from suite.experiment.sections import Experiment, Optim, Pipeline, Train, replace
from suite.nn import Linear
from suite.training.assemble import assemble
from suite.training.private_gradient import Private as SuitePrivate
from suite.tree import paths
from tests import toy


@dataclass(frozen=True, kw_only=True)
class Private(GradientRule):
    """Gradients of single records, clipped and summed; noise is added once a step."""

    clip: float = 0.1
    """Largest norm of a record's gradient."""
    noise: float = 0.0
    """Standard deviation of the noise, in units of ``clip``."""

    def init(self, params: Any) -> Any:
        return {"steps": jnp.int32(0)}

    def __call__(self, loss: Loss, params: Any, model_state: Any, batch: Batch, key: Any, context: Context) -> Gradient:
        devices, rows = context.devices, batch["mask"].shape[0]

        def record(row: Batch, place: jax.Array) -> Any:
            def value(params: Any) -> Any:
                with devices.alone():
                    one = jax.tree.map(lambda a: a[None], row)
                    mean, (metrics, _) = loss(params, model_state, one, jax.random.fold_in(key, place))
                return mean, metrics

            grads, metrics = jax.grad(value, has_aux=True)(params)
            factor = row["mask"] * jnp.minimum(1, self.clip / jnp.maximum(optax.global_norm(grads), 1e-12))
            return jax.tree.map(lambda g: factor * g, grads), metrics

        grads, metrics = jax.tree.map(lambda a: a.sum(0), jax.vmap(record)(batch, devices.places(rows)))
        grads, expected = devices.gradients(grads), devices.sum(jnp.float32(rows))
        leaves, tree = jax.tree.flatten(grads)
        keys = jax.random.split(jax.random.fold_in(key, 2**31), len(leaves))
        drawn = [self.noise * self.clip * jax.random.normal(k, g.shape) for k, g in zip(keys, leaves, strict=True)]
        grads = jax.tree.unflatten(tree, [(g + n) / expected for g, n in zip(leaves, drawn, strict=True)])
        return Gradient(grads, devices.sum(metrics), model_state, {"steps": context.state["steps"] + 1})


@dataclass(frozen=True, kw_only=True)
class Alternating(Mean):
    """The critic is updated twice, then the maker, each by its own loss and optimiser."""

    critic_rate: float = 2e-2
    """Peak learning rate of the critic."""

    @property
    def rounds(self) -> tuple[Round, ...]:
        critic = Round("critic", ("^critic",), "critic_loss", {"learning_rate": self.critic_rate, "beta1": 0.5})
        return critic, critic, Round("maker", ("^maker",), "maker_loss")


@dataclass(frozen=True, kw_only=True)
class DuelConfig(ModelConfig):
    """A maker of counts of digits, and a critic of them."""

    def build(self, *, rngs: nnx.Rngs) -> "Duel":
        return Duel(rngs)

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return ()


class Duel(nnx.Module):
    """Maker and critic."""

    def __init__(self, rngs: nnx.Rngs):
        self.maker = Linear(4, 4, rngs=rngs)
        self.critic = Linear(4, 2, rngs=rngs)
        self.unused = Linear(2, 2, rngs=rngs)

    def __call__(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        real = (jax.nn.one_hot(batch["digits"], 4) * batch["digits_mask"][..., None]).sum(1)
        return self.critic(real), self.critic(self.maker(real[:, ::-1]))


@dataclass(frozen=True, kw_only=True)
class DuelTask(toy.Parity):
    """Tell real counts from those that the maker makes; or make such as are not told."""

    def _loss(self, batch: Batch, *parts: tuple[jax.Array, int]) -> tuple[jax.Array, dict[str, MetricState]]:
        losses = sum(-jax.nn.log_softmax(logits)[:, label] for logits, label in parts)
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def critic_loss(self, model: Any, batch: Batch, rngs: Any) -> tuple[jax.Array, dict[str, MetricState]]:
        real, false = model(batch)
        return self._loss(batch, (real, 1), (false, 0))

    def maker_loss(self, model: Any, batch: Batch, rngs: Any) -> tuple[jax.Array, dict[str, MetricState]]:
        return self._loss(batch, (model(batch)[1], 1))

    def predict(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        return {"logits": model(batch)[0]}

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Any = None) -> dict[str, MetricState]:
        return classification_scores(outputs, batch)


def private(**fields: Any) -> Experiment:
    """Steps of plain gradient descent with rate 1, so that a step shows its gradient."""
    return Experiment(
        name="rules.private",
        task=toy.Parity(),
        model=toy.Config(dropout=0.5),
        optim=Optim(name="sgd", learning_rate=1.0, beta1=0.0, schedule="constant"),
        train=Train(steps=20, batch_size=16, log_every=5, eval_every=10),
        pipeline=Pipeline(buckets=(12,)),
        gradient=Private(**fields),
    )


def duel(**train: Any) -> Experiment:
    """The alternating rule on its task."""
    return Experiment(
        name="rules.duel",
        task=DuelTask(),
        model=DuelConfig(),
        optim=Optim(learning_rate=1e-2, schedule="constant"),
        train=Train(**{"steps": 20, "batch_size": 16, "log_every": 5, "eval_every": 10, **train}),
        pipeline=Pipeline(buckets=(12,)),
        gradient=Alternating(),
    )


def privately() -> tuple[Experiment, SuitePrivate]:
    """The suite's own private rule, on the task of `private`."""
    rule = SuitePrivate(clip_norm=0.1, noise=0.5, expected=16, parts=2, key=(1, 2))
    return replace(private(), {"gradient": Mean(), "privacy.epsilon": 1.0}), rule


def trained(experiment: Experiment, steps: int = 13, rule: GradientRule | None = None) -> tuple[Any, list[Any]]:
    """The state after an epoch, of which one batch is short, and the metrics of each step."""
    from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan, to_device
    from suite.parallel.batch_shards import placer

    source = experiment.task.source("train")
    plan = make_plan(experiment.task, source, experiment.train.batch_size, seed=0, buckets=experiment.pipeline.buckets)
    program, encoder = assemble(experiment, steps, rule), Encoder(experiment.task, source, plan, augment=True)
    state, logged = program.init(), []
    for _, batch in to_device(dispatches(encoder, 0, steps), placer(program.mesh, None, leading=1)):
        state, metrics = program.step(state, batch)
        logged.append({name: metric.value() for name, metric in metrics.items()})
    return state, logged


def summary(experiment: Experiment, rule: GradientRule | None = None) -> dict[str, Any]:
    """What training leaves, as JSON."""
    state, logged = trained(experiment, rule=rule)
    values = {name: np.asarray(leaf, np.float64).ravel().tolist() for name, leaf in paths(state.params).items()}
    rule = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), state.rule_state)
    return {"params": values, "rule": rule, "losses": [metrics["loss"] for metrics in logged]}
