"""Probes (jitted): how well classes are told by vectors that were learnt without them. No parameter is trained.

Dims: b rows, n reference records, d size of a vector, c classes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.contrast import unit

TEMPERATURE = 0.07
"""What cosines are divided by in the votes of neighbours (Wu et al., 2018)."""
RIDGE = 1e-2
"""Penalty of the linear probe, beside the mean variance of a feature, which is 1."""


def neighbour_classes(
    vectors: jax.Array, reference: jax.Array, labels: jax.Array, classes: int, neighbours: int
) -> jax.Array:
    """The class (b,) int32 that the nearest labelled reference records vote for, each with ``exp(cosine / 0.07)``
    (`Wu et al., 2018 <https://arxiv.org/abs/1805.01978>`_).

    Args:
        vectors: (b, d).
        reference: (n, d).
        labels: (n,) classes of the reference records; below 0: it has none, and no vote.
        classes: c.
        neighbours: records that vote.
    """
    cosines = jnp.where(labels >= 0, unit(vectors) @ unit(reference).T, -jnp.inf)
    nearest, places = jax.lax.top_k(cosines, min(neighbours, len(labels)))
    votes = jnp.exp((nearest - nearest[:, :1]) / TEMPERATURE)
    return (votes[..., None] * jax.nn.one_hot(labels[places], classes)).sum(1).argmax(-1).astype(jnp.int32)


def linear_classes(vectors: jax.Array, reference: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """The class (b,) int32 of the largest linear function, each fitted by ridge regression to whether a labelled
    reference record is of that class, on features of zero mean and unit variance over the reference records.

    Args:
        vectors, reference, labels, classes: see `neighbour_classes`.
    """
    known = (labels >= 0).astype(jnp.float32)
    count = jnp.maximum(known.sum(), 1)
    mean = (known @ reference) / count
    deviation = jnp.sqrt((known @ jnp.square(reference - mean)) / count)
    scaled = lambda x: (x - mean) / jnp.maximum(deviation, 1e-6)
    features = scaled(reference) * known[:, None]
    targets = jax.nn.one_hot(labels, classes)
    shares = targets.sum(0) / count
    gram = features.T @ features / count + RIDGE * jnp.eye(features.shape[1])
    weights = jnp.linalg.solve(gram, features.T @ (targets - shares * known[:, None]) / count)
    return (scaled(vectors) @ weights + shares).argmax(-1).astype(jnp.int32)


def probe_scores(neighbour: np.ndarray, linear: np.ndarray, labels: np.ndarray) -> dict[str, MetricState]:
    """``knn_accuracy`` and ``linear_accuracy`` of the rows (b,) that have a class."""
    known = labels >= 0
    count = int(known.sum())
    return {
        "knn_accuracy": MetricState(float((neighbour == labels)[known].sum()), count),
        "linear_accuracy": MetricState(float((linear == labels)[known].sum()), count),
    }


register_metric(
    "knn_accuracy",
    "Share of records whose class the nearest training records vote for, by vectors that were learnt without classes. "
    "100 % is best; what the most frequent class alone would reach is the least to expect.",
    "higher",
    title="accuracy of nearest neighbours",
    share=True,
)
register_metric(
    "linear_accuracy",
    "Share of records whose class a linear function of the vector tells, fitted to training records by ridge "
    "regression; the vectors were learnt without classes. 100 % is best.",
    "higher",
    title="accuracy of a linear probe",
    share=True,
)
