"""Meaning of metrics: what each one is called, what it says and which way is better, registered beside the metric."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from suite.errors import InputError, closest

Better = Literal["higher", "lower", "near 1", ""]


@dataclass(frozen=True)
class Meaning:
    """A metric as a person reads it.

    Attributes:
        title: as a person says it.
        meaning: what it is, and what is good, in a sentence or two.
        better: which way; ``"near 1"`` for ratios that should be 1; empty where no way is better by itself.
        share: whether it is a share of something, and so written in percent.
    """

    title: str
    meaning: str
    better: Better = ""
    share: bool = False


METRICS: dict[str, Meaning] = {}
"""Name -> meaning, of all metrics whose modules are loaded."""


def register_metric(name: str, meaning: str, better: Better = "", *, title: str = "", share: bool = False) -> Meaning:
    """Say what a metric means; the same may be said again, as where a module is loaded twice.

    Args:
        name: as `Task.score` and `Task.loss` call it.
        meaning: what it is, and what is good, in a sentence or two.
        better: which way; empty where no way is better by itself.
        title: as a person says it; empty: the name.
        share: whether it is a share of something, and so written in percent.

    Raises:
        InputError: the name has another meaning already.
    """
    registered = Meaning(title or _plain(name), meaning, better, share)
    if METRICS.setdefault(name, registered) != registered:
        where = f'metric "{name}"'
        raise InputError(where, "has another meaning already.", found=METRICS[name].meaning, fix="give it another name")
    return registered


def meaning(name: str) -> Meaning:
    """What is known of a metric; of one that nobody registered, its name. ``GOAL.METRIC`` is the metric of one of
    several goals, such as ``click.auc``."""
    goal, _, metric = name.rpartition(".")
    if name not in METRICS and goal and metric in METRICS:
        known = METRICS[metric]
        return replace(known, title=f"{known.title} of {goal}")
    return METRICS.get(name) or Meaning(_plain(name), "A metric of this task; its documentation says more.")


def better(name: str) -> Better:
    """Which way a metric is better; empty where no way is, or nobody said it."""
    return meaning(name).better


def lower_is_better(best: str) -> bool:
    """Of a metric as ``train.best`` names it: a leading minus says so, else its meaning does."""
    return best.startswith("-") or better(best) == "lower"


def check_metric(name: str, names: Collection[str], where: str) -> None:
    """Check that a task has a metric.

    Args:
        name: of the metric.
        names: those of the task; empty where they are not known yet.
        where: the field that names it.

    Raises:
        InputError: there is no such metric.
    """
    if names and name not in names:
        near = closest(name, names)
        problem = f'"{name}" is no metric of this task.'
        raise InputError(
            f"field {where}", problem, found=", ".join(names), fix=f"--{where} {shlex.quote(near)}" if near else ""
        )


def check_selection(best: str, where: str = "train.best") -> None:
    """Check that a metric can choose a checkpoint, by its meaning.

    Args:
        best: as ``train.best`` names it; empty: no metric chooses.
        where: the field that names it.

    Raises:
        InputError: no way is better, or the sign contradicts the metric's meaning.
    """
    name = best.removeprefix("-")
    if best.startswith("-") and better(name) == "higher":
        problem = f'"{best}" would keep the lowest {name}, and higher is better.'
        raise InputError(f"field {where}", problem, fix=f"--{where} {shlex.quote(name)}")
    if _is_known(name) and better(name) not in ("higher", "lower"):
        ideal = f"it should be {better(name)}" if better(name) else "no way is better"
        raise InputError(f"field {where}", f'"{name}" ranks nothing: {ideal}.', fix=f"--{where} loss")


def undirected(best: str) -> bool:
    """Whether nothing says which way a metric that ``train.best`` names is better: higher is assumed."""
    return bool(best) and not best.startswith("-") and not _is_known(best)


def _is_known(name: str) -> bool:
    """Whether the metric, or that of a goal, is registered."""
    return name in METRICS or name.rpartition(".")[2] in METRICS


def _plain(name: str) -> str:
    return name.replace("_", " ")


# Of all tasks, so that both are known before one measures them.
register_metric(
    "loss",
    "What training makes small. Mean cross-entropy of what was wanted, in nats; of labels a label, of language models "
    "a token, of speech a symbol: 0 is being sure of what is right, and its exponential is the perplexity. Of numbers "
    "the error on the scale that is learnt. Comparable between runs of the same data and vocabulary alone.",
    "lower",
)
register_metric(
    "accuracy",
    "Share of answers that are right: of records, or of tokens where text is said. 100 % is best; what the most "
    "frequent answer alone would reach is the least to expect. A record of a class that training does not have counts "
    "as wrong.",
    "higher",
    share=True,
)
