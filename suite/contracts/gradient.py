"""Gradient rule: how a training step gets from a loss to the gradients that its optimisers take.

A step has one or more rounds. In each, the trainer gives the rule a loss and the parameters that the round trains, and
the optimiser of these parameters takes the gradients that the rule returns. What each device computes from its own rows
becomes that of the whole batch through the `Devices` that the rule is given, so one rule serves every engine.

The first rule, the mean over the batch, is `suite.experiment.mean_gradient.Mean`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState

Metrics = dict[str, MetricState]
Loss = Callable[[Any, Any, Batch, Any], tuple[Any, tuple[Metrics, Any]]]
"""(params, model_state, batch, key) -> (mean over the rows that it is given, (metrics, model_state after)).

The metric ``loss`` is what the mean is over. ``key`` is of dropout."""


@dataclass(frozen=True)
class Devices:
    """How results of the rows that a device sees become results of the whole batch.

    Under pmap a device sees its own rows. Under jit it sees all of them, and ``sum`` and ``gradients`` change nothing.

    Attributes:
        sum: any tree of sums over rows -> the same over all devices.
        gradients: gradients by ``params``, summed over rows -> the same over all devices. Where tables are row-sparse,
            those of their rows are lined up in the order of the batch instead.
        share: count of these rows -> its share of the count of all rows; a mean over these rows, times it, sums to the
            mean over the batch.
        places: a number of rows -> the place of each in the whole batch: what random numbers of a row may depend on.
        alone: within this context, layers take the rows that they are given for the whole batch, as they must where a
            loss is computed record by record.
    """

    sum: Callable[[Any], Any]
    gradients: Callable[[Any], Any]
    share: Callable[[Any], Any]
    places: Callable[[int], Any]
    alone: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Round:
    """One update within a step.

    Attributes:
        group: names the parameters that one optimiser updates. A group may have several rounds in a step.
        parameters: regular expressions on the paths of the group's parameters; empty: all of them. A parameter of no
            group is not trained.
        loss: name of the task's method that this round differentiates; it has the form of `Task.loss`.
        optim: fields of ``experiment.optim`` that differ in the optimiser of this group, by name.
    """

    group: str = ""
    parameters: tuple[str, ...] = ()
    loss: str = "loss"
    optim: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a rule is told besides the loss and its arguments.

    Attributes:
        round: the round to compute, one of `GradientRule.rounds`.
        state: what the rule's last call returned as its state; at first, what `GradientRule.init` did.
        devices: see `Devices`.
    """

    round: Round
    state: Any
    devices: Devices


@dataclass(frozen=True)
class Gradient:
    """What a rule returns, each over the whole batch.

    Attributes:
        grads: of the structure of ``params``.
        metrics: sums to log; ``loss`` is among them.
        model_state: the model's other variables after the batch.
        state: the rule's state from here on; a skipped step keeps the one before.
    """

    grads: Any
    metrics: Metrics
    model_state: Any
    state: Any = None


class GradientRule(ABC):
    """A frozen dataclass that turns a loss into gradients: the section ``gradient`` of an experiment."""

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The updates of one step, in order. Each sees the parameters that the one before has left."""
        return (Round(),)

    @property
    def microbatches(self) -> int:
        """Parts of equal size that the rule splits a batch into."""
        return 1

    @property
    def row_sparse(self) -> bool:
        """Whether the rule may be given the picked rows of a row-sparse table instead of the table."""
        return False

    def init(self, params: Any) -> Any:
        """State of the rule before the first step: arrays, saved in checkpoints; None: it has none.

        Args:
            params: of the whole model, nested dicts of arrays.
        """
        return None

    def told(self, steps: int) -> Mapping[str, float]:
        """What is logged beside the metrics of an evaluation after so many steps, by name. Host."""
        return {}

    @abstractmethod
    def __call__(self, loss: Loss, params: Any, model_state: Any, batch: Batch, key: Any, context: Context) -> Gradient:
        """The gradients of one round. Jitted.

        Args:
            loss: mean over the rows that it is given; pure.
            params: the parameters that this round trains, nested dicts of arrays.
            model_state: the model's other variables.
            batch: the rows that this device sees.
            key: of this step and round, the same on every device.
            context: the round, the rule's state and the devices.
        """
