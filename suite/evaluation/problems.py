"""Losses and outputs of each problem of `suite.data.preprocessing.target`, jitted.

Dims: b rows, o outputs of the model, c classes or labels, k members of an ensemble, each of which learns by itself.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from suite.data.preprocessing.target_problem import Problem
from suite.evaluation.losses import binary_cross_entropy, binary_distillation_loss, cross_entropy, distillation_loss

Regression = Literal["squared", "absolute", "huber"]


def members(logits: jax.Array) -> jax.Array:
    """``(b, k, o)`` of ``(b, o)`` or ``(b, k, o)``, float32."""
    logits = logits.astype(jnp.float32)
    return logits[:, None] if logits.ndim == 2 else logits


def row_losses(
    problem: Problem, logits: jax.Array, targets: jax.Array, regression: Regression = "squared"
) -> jax.Array:
    """The loss of each row and member (b, k); of labels (b, k, c), a label.

    Args:
        problem: which.
        logits: (b, k, o).
        targets: (b,), of labels (b, c).
        regression: of numbers.
    """
    by_member: Callable[[Callable[[jax.Array], jax.Array]], jax.Array] = lambda f: jax.vmap(f, 1, 1)(logits)
    if problem == "number":
        return regression_loss(logits[..., 0] - targets[:, None], regression)
    if problem == "binary":
        return binary_cross_entropy(logits[..., 0], targets[:, None].astype(jnp.float32))
    if problem == "labels":
        return binary_cross_entropy(logits, targets[:, None])
    if problem == "ordered":
        return by_member(lambda one: cross_entropy(ordered_log_probabilities(one), targets))
    return by_member(lambda one: cross_entropy(one, targets))


def regression_loss(errors: Any, kind: Regression, of: Any = jnp) -> Any:
    """Of errors (...), on the scale that is learnt: their squares, their sizes, or Huber's between the two, which is
    quadratic up to one deviation of the target (1964, doi 10.1214/aoms/1177703732). ``of`` is the array module."""
    sizes = of.abs(errors)
    if kind == "absolute":
        return sizes
    if kind == "huber":
        near = of.minimum(sizes, 1.0)
        return near * (sizes - 0.5 * near)
    return errors**2


def ordered_log_probabilities(logits: jax.Array) -> jax.Array:
    """Log probabilities (..., c) of ordered classes from c - 1 log odds (...): each says whether a record lies above a
    class that it is not below.

    Their likelihood is the conditional training of CORN (Shi, Cao and Raschka, 2023, arXiv 2111.08851), which keeps
    probabilities in order without tying the weights of the classes.
    """
    passed, stopped = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    reached = jnp.cumsum(passed, -1)
    before = jnp.concatenate([jnp.zeros_like(reached[..., :1]), reached[..., :-1]], -1)
    return jnp.concatenate([before + stopped, reached[..., -1:]], -1)


def outputs(problem: Problem, logits: jax.Array) -> dict[str, jax.Array]:
    """What answers are made of: of a number ``value`` (b,), on the scale that is learnt, the members' mean; otherwise
    ``logits`` (b, c): log probabilities of classes, log odds of labels, of the mean of the members' probabilities.

    Args:
        problem: which.
        logits: (b, k, o).
    """
    if problem == "number":
        return {"value": logits[..., 0].mean(1)}
    if problem == "labels":
        has, lacks = _mean(jax.nn.log_sigmoid(logits)), _mean(jax.nn.log_sigmoid(-logits))
        return {"logits": has - lacks}
    return {"logits": _mean(log_probabilities(problem, logits))}


def log_probabilities(problem: Problem, logits: jax.Array) -> jax.Array:
    """Of the classes (..., c), of ``logits`` (..., o)."""
    if problem == "binary":
        return jnp.concatenate([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], -1)
    if problem == "ordered":
        return ordered_log_probabilities(logits)
    return jax.nn.log_softmax(logits)


def _mean(logs: jax.Array) -> jax.Array:
    """Log of the mean probability of the members, of ``logs`` (b, k, c)."""
    return jax.nn.logsumexp(logs, 1) - jnp.log(logs.shape[1])


def distances(problem: Problem, ours: jax.Array, theirs: jax.Array, temperature: float) -> jax.Array:
    """How far a student's answers lie from a teacher's (b,): divergence in nats of classes, a label on average; of
    numbers the squared distance. Both are ``logits`` (b, k, o); each member learns the teacher's mean."""
    taught = outputs(problem, theirs)
    if problem == "number":
        return ((ours[..., 0] - taught["value"][:, None]) ** 2).mean(-1)
    if problem == "labels":
        return binary_distillation_loss(ours, taught["logits"][:, None], temperature).mean((-2, -1))
    mine = log_probabilities(problem, ours)
    return distillation_loss(mine, taught["logits"][:, None], temperature).mean(-1)
