"""Several goals of one model: losses of records that lack a label, probabilities of a funnel, metrics of each goal.

Dims: b rows, g goals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.baselines.classical import Classical, Prior, log_odds
from suite.baselines.estimators import RARE
from suite.contracts.baseline import Baseline, Rows
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.contracts.metric import MetricState
from suite.data.preprocessing.decision import EVEN
from suite.data.preprocessing.goals import GoalDecisions, Goals, shares_after
from suite.data.sources.memory import take
from suite.evaluation.losses import binary_cross_entropy, binary_distillation_loss
from suite.evaluation.metrics.events import click_scores
from suite.evaluation.metrics.numbers import number_scores

LEAST_LOG = -1e-6
"""Log of a probability above which its log odds would be rounding."""


def over_all_records(logits: jax.Array, chain: Sequence[int]) -> jax.Array:
    """Log odds (b, g) over all records, of log odds of each event of a funnel after the one before it: the probability
    of a later event is the product up to it.

    ESMM (`Ma et al., 2018 <https://arxiv.org/abs/1804.07931>`_): both are learnt from all records, so that the model of
    conversions is not one of clicked records alone.

    Args:
        logits: (b, g); other goals are left as they are.
        chain: places of the events of the funnel, the earliest first.
    """
    if not chain:
        return logits
    logs = jax.nn.log_sigmoid(logits[:, chain[0]])
    for place in chain[1:]:
        logs = logs + jax.nn.log_sigmoid(logits[:, place])
        bounded = jnp.minimum(logs, LEAST_LOG)
        logits = logits.at[:, place].set(bounded - jnp.log(-jnp.expm1(bounded)))
    return logits


def losses(logits: jax.Array, labels: jax.Array, events: np.ndarray) -> jax.Array:
    """The loss (b, g) of each goal: cross-entropy in nats of events, squared errors of numbers on the scale that is
    learnt."""
    logits = logits.astype(jnp.float32)
    return jnp.where(jnp.asarray(events), binary_cross_entropy(logits, labels), (logits - labels) ** 2)


def distances(ours: jax.Array, theirs: jax.Array, events: np.ndarray, temperature: float) -> jax.Array:
    """How far a student's answers (b, g) are from a teacher's."""
    divergence = binary_distillation_loss(ours, theirs, temperature)
    return jnp.where(jnp.asarray(events), divergence, (ours - theirs) ** 2)


def shares(goals: Goals, weights: Sequence[float]) -> np.ndarray:
    """What the loss of each goal (g,) is multiplied by: its weight over the share of training records that have its
    label, so that it is the mean over these."""
    own = np.array(weights or [1.0] * len(goals.goals), np.float64)
    return own * goals.records / np.array([max(goal.records, 1) for goal in goals.goals], np.float64)


def goal_scores(
    goals: Goals, decision: GoalDecisions, outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any]
) -> dict[str, MetricState]:
    """``GOAL.METRIC`` over the records that have the goal's label: those of `click_scores` or `number_scores`, and
    ``loss``; of an event of a funnel ``GOAL_after_BEFORE.METRIC``, over the records where the one before it happened.

    Args:
        goals: fitted.
        decision: what was learnt of each.
        outputs: calibrated ``logits`` (b, g).
        batch: ``labels``, ``known`` and ``mask``.
    """
    scores: dict[str, MetricState] = {}
    mask = np.asarray(batch["mask"])
    logits, labels = np.asarray(outputs["logits"], np.float64), np.asarray(batch["labels"], np.float64)
    for place, goal in enumerate(goals.goals):
        rows = mask & np.asarray(batch["known"])[:, place]
        own = {"labels": labels[:, place], "mask": rows}
        if goal.scale is None:
            of_goal = _event_scores(logits[:, place], own, decision.threshold_of(place))
        else:
            said, right = logits[rows, place], labels[rows, place]
            raw = goal.scale.raw(said), goal.scale.raw(right, bounded=False)
            of_goal = number_scores(*raw, goal.scale.centre)
            of_goal["loss"] = MetricState(((said - right) ** 2).sum(), len(said))
        scores |= {f"{goal.name}.{name}": state for name, state in of_goal.items()}
    for name, before, place in goals.steps:
        happened = mask & np.asarray(batch["known"])[:, place] & (labels[:, before] > 0.5)
        own = {"labels": labels[:, place], "mask": happened}
        conditional = _event_scores(log_odds(shares_after(logits, before, place)), own, EVEN)
        scores |= {f"{name}.{metric}": conditional[metric] for metric in ("auc", "loss", "calibration")}
    return scores


def _event_scores(logits: np.ndarray, own: Mapping[str, np.ndarray], threshold: float) -> dict[str, MetricState]:
    return click_scores({"logits": logits}, {"label": own["labels"], "mask": own["mask"]}, threshold=threshold)


class OfGoals(Baseline):
    """One classical model a goal, each fitted to the records that have its label.

    Args:
        goals: fitted.
        parts: of each goal; its outputs are ``{"logits": (b,)}``.
    """

    def __init__(self, goals: Goals, parts: Sequence[Baseline]):
        self._goals, self._parts = goals, parts
        self.most = min((part.most for part in parts if part.most), default=0)

    def add(self, columns: Columns, rows: Rows) -> None:
        for place, part in enumerate(self._parts):
            known = np.flatnonzero(rows["known"][:, place])
            if len(known):
                part.add({name: take(values, known) for name, values in columns.items()}, _of(rows, place, known))

    def fit(self) -> str:
        chosen = [part.fit() for part in self._parts]
        told = [f"{name}: {text}" for name, text in zip(self._goals.names, chosen, strict=True) if text]
        return "; ".join(told)

    def outputs(self, columns: Columns, rows: Rows) -> dict[str, np.ndarray]:
        count = len(rows["labels"])
        parts = [part.outputs(columns, _of(rows, place, np.arange(count))) for place, part in enumerate(self._parts)]
        return {"logits": np.stack([part["logits"] for part in parts], 1), "unseen": np.zeros(count)}


def _of(rows: Rows, place: int, known: np.ndarray) -> dict[str, Any]:
    """Some rows with the labels of one goal as ``label``."""
    own = {name: values[known] for name, values in rows.items() if isinstance(values, np.ndarray)}
    return {**own, "label": own["labels"][:, place]}


def goal_baselines(codec: Codec, goals: Goals) -> Mapping[str, Baseline]:
    """By title: the frequency of each event and the mean of each number, then the strongest cheap model of each."""

    def answer_of(place: int) -> Any:
        if goals.goals[place].is_event:
            return lambda chances: {"logits": log_odds(np.maximum(chances[:, 0], RARE))}
        return lambda values: {"logits": np.asarray(values, np.float64)}

    def part(kind: type[Prior] | type[Classical], place: int) -> Baseline:
        problem: Any = "binary" if goals.goals[place].is_event else "number"
        if kind is Prior:
            return Prior(problem, 1, "label", answer_of(place))
        return Classical(codec, problem, 1, "label", answer_of(place))

    places = range(len(goals.goals))
    strongest = [part(Classical, place) for place in places]
    titles = dict.fromkeys(one.title for one in strongest if isinstance(one, Classical))
    return {
        "frequency or mean of each label": OfGoals(goals, [part(Prior, place) for place in places]),
        f"{', '.join(titles)}, one a label": OfGoals(goals, strongest),
    }
