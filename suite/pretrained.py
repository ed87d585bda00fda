"""Published weights, in and out: one loader that runs the IMPORTS table of a model, strictly, in both directions.

Tensors go one by one from the memory-mapped file through NumPy to their place on the devices, so a model never exists
twice. Families are found by their files under ``suite/models``; nothing here knows one by name.
"""

import dataclasses
import functools
import importlib
import logging
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite import published
from suite.base import ModelConfig
from suite.config import Experiment
from suite.errors import InputError
from suite.imports import Map, Rule, pattern
from suite.published import Published
from suite.tree import map_paths, paths

_log = logging.getLogger(__name__)
_pattern = functools.lru_cache(maxsize=4096)(pattern)


@functools.cache
def formats() -> dict[str, Map]:
    """Name -> Map of every published format that a family under ``suite/models`` reads."""
    found: dict[str, Map] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent / "models")]):
        found |= getattr(importlib.import_module(f"suite.models.{module.name}"), "IMPORTS", {})
    return found


def format_of(weights: Published) -> str:
    """The name of the format that weights are published in: their ``model_type``, or the one that recognises them.

    Raises:
        InputError: no family reads them.
    """
    kind = weights.config.get("model_type", "")
    if kind in formats():
        return kind
    names = list(weights.readers)
    for name, table in formats().items():
        if table.recognise(weights.config, names):
            return name
    found = f'model_type "{kind}"' if kind else f"no model_type; tensors {', '.join(names[:3])}, ..."
    raise InputError(f'weights "{weights.folder}"', "are of no known format.", found=found,
                     fix=f"one of {', '.join(sorted(formats()))}")  # fmt: skip


def load(source: str | Path, *, offline: bool = False, **changes: Any) -> tuple[ModelConfig, nnx.Module]:
    """The model of published weights, in float32, without any training.

    Args:
        source: a folder, a file or a name on the hub; see `suite.published.open`.
        offline: take names on the hub from the local cache only.
        **changes: fields of the model's config that should differ, such as ``pooling="mean"``.

    Raises:
        InputError: the weights cannot be read, are of no known format, or don't fit the model they describe.
    """
    weights = published.open(source, offline)
    table = formats()[format_of(weights)]
    config = dataclasses.replace(table.config(weights.config), **changes)  # type: ignore[type-var]
    graph, params, rest = abstract(config)
    params, rest = _Filling(table, config, weights, exact=True)(params, rest)
    return config, nnx.merge(graph, params, rest)


def fill(model: ModelConfig, params: Any, rest: Any, source: str | Path, *, offline: bool = False) -> tuple[Any, Any]:
    """(params, rest) with every published tensor of ``source`` in its place, dtype and sharding.

    The arrays that are replaced are deleted, each before its successor is placed. What fine-tuning adds to the model
    and a new head keep their values; so does a head whose published counterpart has another size.

    Args:
        model: what ``params`` and ``rest`` are the variables of.
        params: nested dict of arrays, see `suite.tree`.
        rest: the same for what is not trained, such as running statistics.
        source: a folder, a file or a name on the hub; see `suite.published.open`.
        offline: take names on the hub from the local cache only.

    Raises:
        InputError: one, with all tensors that don't fit.
    """
    weights = published.open(source, offline)
    table = formats()[format_of(weights)]
    theirs = table.config(weights.config)
    if type(theirs) is not type(model):
        raise InputError(f'weights "{source}"', f"are of {type(theirs).__module__}, not {type(model).__module__}.",
                         fix="weights of the model's own family")  # fmt: skip
    return _Filling(table, model, weights, exact=False)(params, rest)


def adopt(experiment: Experiment) -> Experiment:
    """The experiment with the sizes of the weights it starts from; itself where it starts fresh or from a run.

    Raises:
        InputError: the weights cannot be read, or are of another family.
    """
    source = experiment.checkpoint.init_from
    if not source or (Path(source) / "experiment.json").is_file():
        return experiment
    weights = published.open(source, experiment.checkpoint.offline)
    theirs = formats()[format_of(weights)].config(weights.config)
    return dataclasses.replace(experiment, model=experiment.model.adopt(theirs))


def save(model: ModelConfig, params: Any, rest: Any, folder: str | Path, *, format: str = "",
         about: Mapping[str, Any] | None = None) -> str:  # fmt: skip
    """Write ``config.json`` and ``model.safetensors`` as the original library publishes them.

    Args:
        model: what ``params`` and ``rest`` are the variables of.
        params: nested dict of arrays.
        rest: nested dict of arrays.
        folder: made if missing; files of the same names are overwritten.
        format: one of `formats`; empty: the first of the model's family that can hold it.
        about: more for ``config.json``; what the format says itself takes precedence.

    Returns:
        The name of the format.

    Raises:
        InputError: no published format can hold this model.
    """
    name, config = _publishable(model, format)
    groups = _grouped(formats()[name], model, paths(params) | paths(rest))

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for rule, names, leaves in groups:
            made = rule.transform.write([np.asarray(leaf) for leaf in leaves])
            yield from zip(names, made, strict=True)

    published.write(Path(folder), {**(about or {}), **config}, arrays)
    return name


def abstract(model: ModelConfig) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    """(graph, params, rest) of the model's shapes; nothing is allocated."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0))), nnx.Param, ...)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def _publishable(model: ModelConfig, format: str) -> tuple[str, dict[str, Any]]:
    family = importlib.import_module(type(model).__module__)
    tables: Mapping[str, Map] = getattr(family, "IMPORTS", {})
    if format and format not in tables:
        raise InputError("format", f'"{format}" is none of {family.__name__}.', found=", ".join(tables))
    refused = []
    for name in [format] if format else tables:
        try:
            return name, tables[name].publish(model)
        except InputError as error:
            refused.append(f"{name}: {error.where} {error.problem}")
    raise InputError(f"model of {family.__name__}", "fits none of its published formats.",
                     found="; ".join(refused) or "the family has none")  # fmt: skip


def _prefix(table: Map, rule: Rule, model: ModelConfig) -> str:
    """What stands before the published names of a rule when we write them."""
    if rule.bare:
        return ""
    return table.prefixes[0] if table.prefix is None else table.prefix(model)


def _active(table: Map, model: ModelConfig) -> list[Rule]:
    return [rule for rule in table.rules if rule.when is None or rule.when(model)]


def _grouped(table: Map, model: ModelConfig, leaves: Mapping[str, Any]) -> list[tuple[Rule, list[str], list[Any]]]:
    """For each application of a rule: the rule, the published names, our arrays.

    Raises:
        InputError: variables that no rule, or more than one, puts in the file.
    """
    rules = _active(table, model)
    groups: dict[Any, tuple[Rule, list[str], list[Any]]] = {}
    problems = []
    for path in leaves:
        hits = [(rule, match.groupdict()) for rule in rules for ours in rule.paths
                if (match := _pattern(ours).match(path))]  # fmt: skip
        if len(hits) != 1:
            problems.append(f"{path} ({len(hits)} rules)")
            continue
        rule, numbers = hits[0]
        own = [ours.format(**numbers) for ours in rule.paths]
        names = [_prefix(table, rule, model) + source.format(**numbers) for source in rule.sources]
        problems += [f"{name} (absent)" for name in own if name not in leaves]
        groups[tuple(own)] = (rule, names, [leaves.get(name) for name in own])
    if problems:
        raise InputError(f"model of {type(model).__module__}", "has variables that the published format cannot hold.",
                         found=", ".join(problems), fix="merge what fine-tuning added before")  # fmt: skip
    return list(groups.values())


@dataclass
class _Filling:
    """One pass over published tensors; calling it gives the filled variables or raises the one error.

    Attributes:
        table: the correspondence.
        model: our config.
        weights: the published tensors.
        exact: a head of another size is an error too, as where the model is the published one itself.
    """

    table: Map
    model: ModelConfig
    weights: Published
    exact: bool
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def __call__(self, params: Any, rest: Any) -> tuple[Any, Any]:
        leaves = paths(params) | paths(rest)
        _, plain_params, plain_rest = abstract(self.model)
        own = (paths(plain_params) | paths(plain_rest)).keys()
        self.rules = _active(self.table, self.model)
        groups = self._match(leaves.keys())
        filled: dict[str, Any] = {}
        covered: set[str] = set()
        for (number, numbers), names in groups.items():
            rule = self.rules[number]
            targets = [path.format(**dict(numbers)) for path in rule.paths]
            covered.update(targets)
            absent = [name for place, name in enumerate(rule.sources) if place not in names]
            if absent:
                self.missing += [name.format(**dict(numbers)) for name in absent]
                continue
            self._place(rule, [names[place] for place in range(len(rule.sources))], targets, leaves, filled)
        lacking = [path for path in own if path not in covered]
        fresh = [path for path in lacking if self._may_be_fresh(path)]
        self.missing += [self._described(path) for path in lacking if path not in fresh]
        self._raise()
        fresh += [path for path in covered if path not in filled]
        if fresh:
            _log.warning("%s gives no %s: initial values", self.weights.folder, ", ".join(sorted(fresh)))
        initial = self._initial([path for path in fresh if isinstance(leaves[path], jax.ShapeDtypeStruct)])
        made = {**initial, **filled}
        return tuple(map_paths(lambda path, leaf: made.get(path, leaf), tree) for tree in (params, rest))  # type: ignore[return-value]

    def _match(self, have: Any) -> dict[Any, dict[int, str]]:
        """(number of the rule, its numbers) -> place among the rule's sources -> published name."""
        groups: dict[Any, dict[int, str]] = {}
        canonical = self._canonical(have)
        for name, known in canonical.items():
            hits = self._hits(known)
            if len(hits) > 1:
                self.ambiguous.append(
                    f"{name} (matches {', '.join(self.rules[hit[0]].sources[hit[1]] for hit in hits)})"
                )
                continue
            mine = [hit for hit in hits if self._has(hit, have)]
            if not mine:
                if not any(re.search(rule, name) or re.search(rule, known) for rule in self.table.skip):
                    self.unused.append(name)
                continue
            number, place, numbers = mine[0]
            group = groups.setdefault((number, numbers), {})
            if place in group:
                self.ambiguous.append(f"{group[place]} and {name}")
            group[place] = name
        return groups

    def _canonical(self, have: Any) -> dict[str, str]:
        """Published name -> the name the rules know it by. Tensors that repeat another one are left out."""
        known = {name: _renamed(name, self.table.renames) for name in self.weights.readers}
        present = {other: name for name, other in known.items()}
        for name, other in list(known.items()):
            twin = self.table.tied.get(other) or next((self.table.tied.get(other.removeprefix(prefix))
                                                      for prefix in self.table.prefixes), None)  # fmt: skip
            if twin is None or any(self._has(hit, have) for hit in self._hits(other)):
                continue
            first = next((present[prefix + twin] for prefix in (*self.table.prefixes, "")
                          if prefix + twin in present), None)  # fmt: skip
            if first is None:
                known[name] = twin
                present[twin] = name
            elif np.array_equal(self.weights.read(first), self.weights.read(name)):
                del known[name]
            else:
                self.unused.append(f"{name} (the model ties it to {first}, from which it differs)")
                del known[name]
        return known

    def _hits(self, name: str) -> list[tuple[int, int, tuple[tuple[str, str], ...]]]:
        """(number of the rule, place among its sources, its numbers) of every rule that reads ``name``."""
        hits = set()
        for number, rule in enumerate(self.rules):
            for place, source in enumerate(rule.sources):
                for prefix in ("",) if rule.bare else self.table.prefixes:
                    match = _pattern(source).match(name.removeprefix(prefix)) if name.startswith(prefix) else None
                    if match:
                        hits.add((number, place, tuple(sorted(match.groupdict().items()))))
        return sorted(hits)

    def _has(self, hit: tuple[int, int, Any], have: Any) -> bool:
        return any(path.format(**dict(hit[2])) in have for path in self.rules[hit[0]].paths)

    def _place(self, rule: Rule, names: Sequence[str], targets: Sequence[str], leaves: dict[str, Any],
               filled: dict[str, Any]) -> None:  # fmt: skip
        """Read, transform, check, and put each array where its predecessor was."""
        sources = [self.weights.read(name) for name in names]
        shown = ", ".join(f"{name} {a.shape}" for name, a in zip(names, sources, strict=True))
        try:
            arrays = rule.transform.read(sources)
        except ValueError as error:
            self.misshapen.append(f"{shown} ({error})")
            return
        del sources
        wanted = [leaves[path].shape if path in leaves else None for path in targets]
        if [a.shape for a in arrays] != wanted:
            if self.exact or not all(self._may_be_fresh(path) for path in targets):
                ours = ", ".join(f"{path} {shape}" for path, shape in zip(targets, wanted, strict=True))
                got = ", ".join(str(a.shape) for a in arrays)
                self.misshapen.append(f"{shown} gives {got}, the model has {ours}")
            return
        if self._faulty:
            return
        for path, array in zip(targets, arrays, strict=True):
            leaf = leaves.pop(path)
            where, dtype = getattr(leaf, "sharding", None), leaf.dtype
            if isinstance(leaf, jax.Array):
                leaf.delete()
            filled[path] = jax.device_put(np.ascontiguousarray(array, dtype).reshape(array.shape), where,
                                          may_alias=False)  # fmt: skip

    def _may_be_fresh(self, path: str) -> bool:
        return any(re.search(rule, path) for rule in self.table.fresh)

    def _described(self, path: str) -> str:
        """The published names that would give ``path``."""
        for rule in self.rules:
            for ours in rule.paths:
                match = _pattern(ours).match(path)
                if match:
                    prefix = _prefix(self.table, rule, self.model)
                    return " + ".join(prefix + source.format(**match.groupdict()) for source in rule.sources)
        return f"{path} (no rule)"

    def _initial(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Initial values of some variables; the compiler leaves out the work for all others."""

        def build() -> dict[str, Any]:
            _, params, rest = nnx.split(self.model.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
            values = paths(nnx.to_pure_dict(params)) | paths(nnx.to_pure_dict(rest))
            return {path: values[path] for path in wanted}

        return jax.jit(build)() if wanted else {}

    @property
    def _faulty(self) -> bool:
        return any((self.unused, self.missing, self.ambiguous, self.misshapen))

    def _raise(self) -> None:
        if not self._faulty:
            return
        kinds = ("unused", "missing", "ambiguous", "misshapen")
        found = "; ".join(f"{kind}: {', '.join(getattr(self, kind))}" for kind in kinds if getattr(self, kind))
        raise InputError(f'weights "{self.weights.folder}"', f"don't fit {type(self.model).__module__}.", found=found,
                         fix=f"weights and {published.CONFIG} of one and the same model")  # fmt: skip


def _renamed(name: str, renames: Sequence[tuple[str, str]]) -> str:
    for old, new in renames:
        name = re.sub(old, new, name)
    return name
