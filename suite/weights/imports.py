"""IMPORTS tables: how published weights of a family are named, shaped and configured.

A table says once how a published layout and ours correspond; ``suite.weights.pretrained`` reads it forwards to load and
backwards to export. Nothing here touches a file or a device: arrays are NumPy's, in the published dtype.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from suite.contracts.model import ModelConfig


class Transform(ABC):
    """How the arrays of one rule change between the published layout and ours. ``write`` undoes ``read`` exactly."""

    @abstractmethod
    def read(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Published arrays, in the order of the rule's sources, to ours, in the order of its paths."""

    @abstractmethod
    def write(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ours to published ones."""


@dataclass(frozen=True)
class Permuted(Transform):
    """Axes in another order: ``axes[i]`` is the published axis that becomes ours number i. Empty: as it is."""

    axes: tuple[int, ...] = ()

    def read(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.transpose(a, self.axes) if self.axes else a for a in arrays]

    def write(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        back = tuple(int(i) for i in np.argsort(self.axes))
        return [np.transpose(a, back) if self.axes else a for a in arrays]


SAME = Permuted()
"""Embeddings, biases, norms."""
TRANSPOSED = Permuted((1, 0))
"""A PyTorch ``Linear`` weight (outputs, inputs) and our kernel (inputs, outputs)."""
CONV1D = Permuted((2, 1, 0))
"""A PyTorch ``Conv1d`` weight (o, i, k) and our kernel (k, i, o)."""
CONV2D = Permuted((2, 3, 1, 0))
"""A PyTorch ``Conv2d`` weight (o, i, h, w) and our kernel (h, w, i, o)."""


@dataclass(frozen=True)
class Split(Transform):
    """One published array that holds ``parts`` of ours side by side along ``axis`` (its own, after ``then`` acted)."""

    parts: int
    axis: int = -1
    then: Transform = SAME

    def read(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        (whole,) = self.then.read(arrays)
        return np.split(whole, self.parts, self.axis)

    def write(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.then.write([np.concatenate(arrays, self.axis)])


@dataclass(frozen=True)
class Rule:
    """One correspondence. ``{i}`` and ``{j}`` in names stand for numbers that are the same on both sides.

    Attributes:
        source: published name, or names where several arrays make one of ours.
        path: path of our variable ("encoder/layers/{i}/mlp/up/kernel"), or paths where one array makes several.
        transform: how the arrays change.
        bare: the published names never carry one of the Map's prefixes, like those of a head.
        when: whether the rule counts for a model of this config (ours); None: for all.
    """

    source: str | tuple[str, ...]
    path: str | tuple[str, ...]
    transform: Transform = SAME
    bare: bool = False
    when: Callable[[Any], bool] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The published names, always a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def paths(self) -> tuple[str, ...]:
        """Our paths, always a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


def linear(
    theirs: str, ours: str, *, bare: bool = False, when: Callable[[Any], bool] | None = None
) -> tuple[Rule, ...]:
    """The two rules of a PyTorch ``Linear`` with a bias."""
    return (
        Rule(f"{theirs}.weight", f"{ours}/kernel", TRANSPOSED, bare, when),
        Rule(f"{theirs}.bias", f"{ours}/bias", SAME, bare, when),
    )


_BATCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}


def conv_norm(conv: str, norm: str, ours: str) -> tuple[Rule, ...]:
    """The rules of a PyTorch ``Conv2d`` without a bias and the ``BatchNorm2d`` behind it, as a `ConvNorm`."""
    return (
        Rule(f"{conv}.weight", f"{ours}/conv/kernel", CONV2D),
        *(Rule(f"{norm}.{theirs}", f"{ours}/norm/{own}") for theirs, own in _BATCH_NORM.items()),
    )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The two rules of a PyTorch ``LayerNorm``."""
    return Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")


@dataclass(frozen=True, kw_only=True)
class Map:
    """One published format of one family.

    Attributes:
        rules: the correspondences; a published name must match exactly one of them.
        config: the published ``config.json`` (as a dict) to our ModelConfig.
            Raises InputError where it asks for something that the family cannot do.
        publish: our ModelConfig to what ``config.json`` must say for the original library to load it.
            Raises InputError where the format cannot hold such a model.
        skip: regular expressions on published names that carry no weights of ours (position ids, counters). A name
            that a rule matches too is skipped only where the model lacks the rule's paths (a pooler nobody asked for).
        prefixes: what may stand before every published name ("bert.", ""); export writes the first.
        prefix: what export writes instead, of our config.
        fresh: regular expressions on our paths that the published file may lack, such as a new head; when training
            starts from it, also those whose published size differs.
        renames: (regular expression, replacement) on published names, for older spellings; export writes the new.
        tied: published name -> the one whose array it repeats (an output head tied to the embedding), both without
            prefix; where the model has no parameter for it, it must be equal, and may stand for the other.
    """

    rules: tuple[Rule, ...]
    config: Callable[[Mapping[str, Any]], ModelConfig]
    publish: Callable[[Any], dict[str, Any]]
    skip: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    prefix: Callable[[Any], str] | None = None
    fresh: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[Any, Any], ModelConfig] = field(default=lambda model, weights: model)
    """Our ModelConfig and the `suite.weights.published.Published` it was read of, to the ModelConfig that the tensors
    settle where ``config.json`` leaves it open."""
    recognise: Callable[[Mapping[str, Any], Sequence[str]], bool] = field(default=lambda config, names: False)
    """Whether a folder with this ``config.json`` and these tensor names is of this format, where the key of the
    table is not its ``model_type``."""


def pattern(template: str) -> re.Pattern[str]:
    """The regular expression that matches what a template of a Rule stands for, numbers as named groups."""
    parts = re.split(r"\{(\w+)\}", template)
    seen: set[str] = set()
    expression = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            expression += re.escape(part)
        else:
            expression += f"(?P={part})" if part in seen else rf"(?P<{part}>\d+)"
            seen.add(part)
    return re.compile(expression + r"\Z")
