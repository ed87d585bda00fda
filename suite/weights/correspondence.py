"""One pass over an IMPORTS table, in either direction: which published tensors are which of our variables.

Tensors go one by one from the memory-mapped file through NumPy to their place on the devices, so a model never exists
twice.
"""

import functools
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.nn.rngs import streams
from suite.tree import map_paths, paths
from suite.weights import published
from suite.weights.heads import Match
from suite.weights.imports import Map, Rule, pattern
from suite.weights.published import Published

_log = logging.getLogger(__name__)
_pattern = functools.lru_cache(maxsize=4096)(pattern)

Hit = tuple[int, int, tuple[tuple[str, str], ...]]
"""Number of a rule, place among its sources, and the numbers that its names stand for."""


def abstract(model: ModelConfig) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    """(graph, params, model_state) of the model's shapes; nothing is allocated."""
    graph, params, model_state = nnx.split(nnx.eval_shape(lambda: model.build(rngs=streams(0))), nnx.Param, ...)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)


def active(table: Map, model: ModelConfig) -> list[Rule]:
    """The rules that count for this model."""
    return [rule for rule in table.rules if rule.when is None or rule.when(model)]


def applications(
    table: Map, model: ModelConfig, have: Collection[str], prefix: str
) -> list[tuple[Rule, list[str], list[str]]]:
    """For the variables ``have`` (paths): (rule, published names, our paths), each variable in one of them.

    Raises:
        InputError: variables that no rule, or more than one, puts in the file.
    """
    rules = active(table, model)
    applied: dict[tuple[str, ...], tuple[Rule, list[str], list[str]]] = {}
    problems = []
    for path in have:
        hits = [
            (rule, match.groupdict()) for rule in rules for ours in rule.paths if (match := _pattern(ours).match(path))
        ]
        if len(hits) != 1:
            problems.append(f"{path} ({len(hits)} rules)")
            continue
        rule, numbers = hits[0]
        own = [ours.format(**numbers) for ours in rule.paths]
        problems += [f"{name} (absent)" for name in own if name not in have]
        names = [("" if rule.bare else prefix) + source.format(**numbers) for source in rule.sources]
        applied[tuple(own)] = (rule, names, own)
    if problems:
        raise InputError(
            f"model of {type(model).__module__}",
            "has variables that the published format cannot hold.",
            found=", ".join(problems),
            fix="merge what fine-tuning added before",
        )
    return list(applied.values())


@dataclass
class Filling:
    """Published tensors on their way into a model's variables. Calling it gives them, or raises the one error.

    Attributes:
        table: the correspondence.
        model: our config.
        weights: the published tensors.
        exact: a head of another size is an error too, as where the model is the published one itself.
        head: which of the published outputs are the model's; None: all of them, in their order.
        fresh: paths that keep their initial values.
        left_out: published names that carry nothing of ours.
    """

    table: Map
    model: ModelConfig
    weights: Published
    exact: bool
    head: Match | None = None
    fresh: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _problems: dict[str, list[str]] = field(
        default_factory=lambda: {"unused": [], "missing": [], "ambiguous": [], "misshapen": []}
    )

    def __post_init__(self):
        self._rules = active(self.table, self.model)
        self._headed = False
        self.renamed = {name: _renamed(name, self.table.renames) for name in self.weights.readers}
        own = sorted(self.table.prefixes, key=len, reverse=True)
        self.prefix = next((p for p in own if any(name.startswith(p) for name in self.renamed.values())), "")

    def __call__(self, params: Any, model_state: Any) -> tuple[Any, Any]:
        """Both nested dicts, of arrays or of shapes, with published values; arrays replaced are deleted."""
        leaves = paths(params) | paths(model_state)
        shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
        filled: dict[str, Any] = {}
        covered: set[str] = set()
        for (number, numbers), names in self._match(shapes.keys()).items():
            rule = self._rules[number]
            targets = [path.format(**dict(numbers)) for path in rule.paths]
            covered.update(targets)
            absent = [source.format(**dict(numbers)) for place, source in enumerate(rule.sources) if place not in names]
            self._problems["missing"] += absent
            arrays = None if absent else self._read(rule, [names[i] for i in sorted(names)], targets, shapes)
            for path, array in zip(targets, arrays or (), strict=bool(arrays)):
                if not self._faulty:
                    filled[path] = _placed(array, leaves.pop(path))
        self._lacking(covered)
        self._raise()
        self.fresh += [path for path in covered if path not in filled]
        if self.head is not None:
            other = [name for name in self.left_out if re.match(r"(classifier|lm_head|score)\b", name)]
            none = (
                f"new head: theirs ({', '.join(other)}) is of another kind"
                if other
                else "new head: the weights have none"
            )
            said = self.head.said if self._headed else none
            _log.warning("%s: %s", self.weights.folder, said)
        if self.fresh:
            _log.warning("%s: initial values for %s", self.weights.folder, ", ".join(sorted(self.fresh)))
        loaded = {**filled, **self._initial([p for p in self.fresh if isinstance(leaves[p], jax.ShapeDtypeStruct)])}
        new = [map_paths(lambda path, leaf: loaded.get(path, leaf), tree) for tree in (params, model_state)]
        return new[0], new[1]

    def missing(self) -> tuple[list[str], list[str]]:
        """Published names of the tensors that the weights lack, and paths that would have initial values, such as of a
        head; by names alone, before a tensor is read."""
        _, params, model_state = abstract(self.model)
        covered: set[str] = set()
        for number, numbers in self._match((paths(params) | paths(model_state)).keys()):
            covered.update(path.format(**dict(numbers)) for path in self._rules[number].paths)
        self._lacking(covered)
        return sorted({*self._problems["missing"]}), self.fresh

    def _match(self, have: Collection[str]) -> dict[Any, dict[int, str]]:
        """(number of the rule, its numbers) -> place among the rule's sources -> published name."""
        groups: dict[Any, dict[int, str]] = {}
        for name, known in self._without_twins(have).items():
            hits = self._hits(known)
            if len(hits) > 1:
                rules = ", ".join(self._rules[number].sources[place] for number, place, _ in hits)
                self._problems["ambiguous"].append(f"{name} (fits {rules})")
                continue
            if not any(self._has(hit, have) for hit in hits):
                skipped = any(re.search(rule, known) for rule in self.table.skip) or self._is_left_out(hits)
                (self.left_out if skipped else self._problems["unused"]).append(name)
                continue
            number, place, numbers = hits[0]
            group = groups.setdefault((number, numbers), {})
            if place in group:
                self._problems["ambiguous"].append(f"{group[place]} and {name}")
            group[place] = name
        return groups

    def _without_twins(self, have: Collection[str]) -> dict[str, str]:
        """Published name -> the name the rules know it by, without tensors that repeat another one."""
        known = dict(self.renamed)
        present = {other: name for name, other in known.items()}
        prefixes = (*self.table.prefixes, "")
        for name, other in self.renamed.items():
            twin = next(
                (
                    self.table.tied[other[len(p) :]]
                    for p in prefixes
                    if other.startswith(p) and other[len(p) :] in self.table.tied
                ),
                None,
            )
            if twin is None or any(self._has(hit, have) for hit in self._hits(other)):
                continue
            first = next((present[p + twin] for p in prefixes if p + twin in present), None)
            if first is None:
                known[name] = twin
                present[twin] = name
                continue
            del known[name]
            if np.array_equal(self.weights.read(first), self.weights.read(name)):
                self.left_out.append(name)
            else:
                self._problems["unused"].append(f"{name} (differs from {first}, with which the model shares it)")
        return known

    def _hits(self, name: str) -> list[Hit]:
        """Every place of every rule that reads ``name``."""
        hits = set()
        for number, rule in enumerate(self._rules):
            for place, source in enumerate(rule.sources):
                for prefix in ("",) if rule.bare else self.table.prefixes:
                    match = _pattern(source).match(name[len(prefix) :]) if name.startswith(prefix) else None
                    if match:
                        hits.add((number, place, tuple(sorted(match.groupdict().items()))))
        return sorted(hits)

    def _is_left_out(self, hits: Sequence[Hit]) -> bool:
        """Whether the tensor is for what the model lacks on purpose: for a head, of a model that gives vectors, or for
        layers that it leaves out."""
        targets = [path.format(**dict(numbers)) for number, _, numbers in hits for path in self._rules[number].paths]
        lacking = f"{self.model.head}|{self.model.omitted}"
        return bool(targets) and all(re.search(lacking, path) for path in targets)

    def _has(self, hit: Hit, have: Collection[str]) -> bool:
        return any(path.format(**dict(hit[2])) in have for path in self._rules[hit[0]].paths)

    def _read(
        self, rule: Rule, names: Sequence[str], targets: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
    ) -> list[np.ndarray] | None:
        """The arrays for ``targets``; None where they don't fit, which is noted unless they may be fresh."""
        sources = [self.weights.read(name) for name in names]
        shown = ", ".join(f"{name} {array.shape}" for name, array in zip(names, sources, strict=True))
        try:
            arrays = rule.transform.read(sources)
        except ValueError as error:
            self._problems["misshapen"].append(f"{shown} ({error})")
            return None
        of_head = [re.search(self.model.head, path) is not None for path in targets]
        if self.head is not None and any(of_head):
            self._headed = True
            if not self.head.rows:
                return None
            rows = list(self.head.rows)
            arrays = [array[..., rows] if own else array for own, array in zip(of_head, arrays, strict=True)]
        wanted = [shapes.get(path) for path in targets]
        if [array.shape for array in arrays] == wanted:
            return arrays
        if self.exact or not all(self._may_be_fresh(path) for path in targets):
            ours = ", ".join(f"{path} {shape}" for path, shape in zip(targets, wanted, strict=True))
            gives = ", ".join(str(array.shape) for array in arrays)
            self._problems["misshapen"].append(f"{shown} gives {gives}, the model has {ours}")
        return None

    def _lacking(self, covered: Collection[str]) -> None:
        """Variables of the plain model, without what fine-tuning adds, that no tensor is for."""
        _, params, model_state = abstract(self.model)
        for path in (paths(params) | paths(model_state)).keys() - covered:
            if self._may_be_fresh(path):
                self.fresh.append(path)
            else:
                self._problems["missing"].append(self._described(path))

    def _may_be_fresh(self, path: str) -> bool:
        return any(re.search(rule, path) for rule in self.table.fresh)

    def _described(self, path: str) -> str:
        """The published names that would give ``path``."""
        for rule in self._rules:
            for ours in rule.paths:
                match = _pattern(ours).match(path)
                if match:
                    prefix = "" if rule.bare else self.prefix
                    return " + ".join(prefix + source.format(**match.groupdict()) for source in rule.sources)
        return f"{path} (no rule)"

    def _initial(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Initial values of some variables; the compiler leaves out the work for all others."""

        def build() -> dict[str, Any]:
            _, params, model_state = nnx.split(self.model.build(rngs=streams(0)), nnx.Param, ...)
            values = paths(nnx.to_pure_dict(params)) | paths(nnx.to_pure_dict(model_state))
            return {path: values[path] for path in wanted}

        return jax.jit(build)() if wanted else {}

    @property
    def _faulty(self) -> bool:
        return any(self._problems.values())

    def _raise(self) -> None:
        if self._faulty:
            problems = "; ".join(
                f"{kind}: {', '.join(sorted(names))}" for kind, names in self._problems.items() if names
            )
            raise InputError(
                f'weights "{self.weights.folder}"',
                f"don't fit {type(self.model).__module__}.",
                found=problems,
                fix=f"tensors and {published.CONFIG} of one and the same model",
            )


def _placed(array: np.ndarray, old: Any) -> jax.Array:
    """``array`` in the dtype and place of ``old``, whose memory is given back before; bound to a device as it was."""
    where, dtype = getattr(old, "sharding", None), old.dtype
    if isinstance(old, jax.Array):
        where = where if old.committed else None
        old.delete()
    contiguous = np.asarray(array, dtype, order="C")
    return jax.device_put(contiguous, where, may_alias=False)


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str:
    for old, new in renames:
        name = re.sub(old, new, name)
    return name
