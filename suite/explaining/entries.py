"""Entries: where the arrays of a batch enter a model as real numbers, between which one can go step by step.

Numbers enter as arguments of the model, or of its parts: normalised pixels, features of frames, columns. What is looked
up enters as the vectors that a table gives. An entry is found by what it is computed from, so no task names any.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.interpreters import partial_eval

from suite.errors import InputError
from suite.nn.embedding import Embedding
from suite.nn.hooks import hooks
from suite.nn.table import StackedTable

TABLES = (Embedding, StackedTable, nnx.Embed)
"""Modules that give vectors for whole numbers."""
ROWS = 3
"""Rows of the batch that entries are looked for with: few, and no usual size of anything else."""

Run = Callable[[Any, Mapping[str, Any]], Any]
"""(model, batch) -> what is computed of it."""
Transform = Callable[["Entry", Any], Any]


@dataclass(frozen=True)
class Entry:
    """One place where an array of the batch enters.

    Attributes:
        path: of the module, as of parameters.
        call: which of its calls, from 0 on.
        argument: place or name of the argument; None: what the module gives out.
        name: the batch's array.
    """

    path: str
    call: int
    argument: int | str | None
    name: str = ""


@contextlib.contextmanager
def entered(model: nnx.Module, outer: Collection[str], tables: Collection[str], transform: Transform) -> Iterator[None]:
    """Within the context, what enters through modules goes through ``transform``.

    Args:
        model: which.
        outer: paths of the modules whose arguments enter.
        tables: paths of the tables whose vectors enter.
        transform: (entry, value) -> the value in its place; the entry's name is empty.
    """
    calls: Counter[str] = Counter()

    def feed(path: str) -> Any:
        def fed(inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            call, calls[path] = calls[path], calls[path] + 1
            of = lambda place, value: transform(Entry(path, call, place), value) if _is_real(value) else value
            return (
                tuple(of(place, value) for place, value in enumerate(inputs)),
                {name: of(name, value) for name, value in named.items()},
            )

        return fed

    def give(path: str) -> Any:
        def given(output: Any) -> Any:
            call, calls[path] = calls[path], calls[path] + 1
            return transform(Entry(path, call, None), output) if _is_real(output) else output

        return given

    with hooks(model, replace={path: give(path) for path in tables}, feed={path: feed(path) for path in outer}):
        yield


def _is_real(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating) and value.ndim > 0


@dataclass(frozen=True)
class Entries:
    """All entries of a function of a model.

    Attributes:
        outer, tables: paths of modules, see `entered`.
        found: the entries by themselves -> the batch's array that each is computed from.
    """

    outer: tuple[str, ...]
    tables: tuple[str, ...]
    found: Mapping[Entry, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Arrays of the batch that enter."""
        return tuple(dict.fromkeys(self.found.values()))

    def changed(self, model: Any, batch: Mapping[str, Any], run: Run, change: Callable[[str, Entry, Any], Any]) -> Any:
        """What ``run`` gives where each entry's value is ``change(name of the array, entry, value)``."""

        def transform(entry: Entry, value: Any) -> Any:
            name = self.found.get(entry)
            return value if name is None else change(name, entry, value)

        with entered(model, self.outer, self.tables, transform):
            return run(model, batch)

    def values(self, model: Any, batch: Mapping[str, Any], run: Run) -> dict[Entry, Any]:
        """The value of each entry."""
        values: dict[Entry, Any] = {}

        def note(name: str, entry: Entry, value: Any) -> Any:
            values[entry] = value
            return value

        self.changed(model, batch, run, note)
        return values


def find(
    graph: Any, variables: tuple[Any, Any], batch: Mapping[str, jax.ShapeDtypeStruct], run: Run, names: Sequence[str]
) -> Entries:
    """The entries of a function of a model.

    Args:
        graph, variables: of the model, as `nnx.merge` takes them; of the variables shapes and types alone count.
        batch: shapes of a batch of `ROWS` rows.
        run: the function.
        names: arrays of the batch that may enter.

    Raises:
        InputError: none of them does, or one enters together with another.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (*variables, dict(batch)))
    outer, tables = _called(graph, shapes, run)
    noted: list[Entry] = []

    def values(params: Any, state: Any, rows: Mapping[str, Any]) -> list[Any]:
        model, kept = nnx.merge(graph, params, state), []

        def cut(entry: Entry, value: Any) -> Any:
            noted.append(entry)
            kept.append(value)
            return jnp.zeros_like(value)  # so that what comes after it is not computed from the batch

        with entered(model, outer, tables, cut):
            run(model, rows)
        return kept

    noted.clear()
    traced = jax.make_jaxpr(values)(*shapes)
    skipped = len(jax.tree.leaves(shapes[:2]))
    keys = sorted(shapes[2])  # as a dict is flattened
    found: dict[Entry, str] = {}
    for place, entry in enumerate(noted):
        _, used = partial_eval.dce_jaxpr(traced.jaxpr, [other == place for other in range(len(noted))])
        of = [key for key, uses in zip(keys, used[skipped:], strict=True) if uses and key in names]
        if len(of) > 1:
            given = " and ".join(of)
            problem = f"{entry.path or 'the model'} is given {given} in one array, which cannot be told apart."
            raise InputError("explanation", problem)
        if of and traced.out_avals[place].shape[0] == ROWS:
            found[entry] = of[0]
    if not found:
        problem = "nothing of a request enters the model as numbers, or by a table that is known."
        raise InputError("explanation", problem, found=", ".join(names) or "no array")
    return Entries(tuple(outer), tuple(tables), found)


def _called(graph: Any, shapes: tuple[Any, Any, Any], run: Run) -> tuple[list[str], list[str]]:
    """Paths of the outermost modules that are called, and of the tables that are."""
    modules: dict[str, Any] = {}

    def calls(outer: Sequence[str], tables: Sequence[str]) -> set[str]:
        seen: set[str] = set()

        def traced(params: Any, state: Any, rows: Mapping[str, Any]) -> int:
            model = nnx.merge(graph, params, state)
            modules.update({"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)})
            noting = {path: _noting(seen, path) for path in (*outer, *tables)}
            with hooks(model, feed=noting):
                run(model, rows)
            return 0

        jax.eval_shape(traced, *shapes)
        return seen

    calls((), ())  # so that the modules are known
    tables = [path for path, module in modules.items() if isinstance(module, TABLES)]
    outer, waiting = [], [""]
    while waiting:
        callable_ = [path for path in waiting if callable(modules[path]) and path not in tables]
        seen = calls(callable_, ())
        outer += [path for path in callable_ if path in seen]
        waiting = [
            path
            for parent in waiting
            if parent not in seen and parent not in tables
            for path in modules
            if path and path.rpartition("/")[0] == parent
        ]
    return outer, sorted(calls((), tables))


def _noting(seen: set[str], path: str) -> Any:
    def note(inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        seen.add(path)
        return inputs, named

    return note


def kept_shape(name: str, row: tuple[int, ...], values: Mapping[Entry, Any], entries: Entries) -> tuple[int, ...]:
    """The shape of one row of what says how far each element of an array is present: that of the array itself, where
    it enters in its own shape, else that of its entry.

    Raises:
        InputError: it enters in several shapes.
    """
    shapes = [tuple(values[entry].shape[1:]) for entry, of in entries.found.items() if of == name and entry in values]
    if all(shape[: len(row)] == row for shape in shapes):
        return row
    if len(set(shapes)) == 1:
        return shapes[0]
    raise InputError("explanation", f"{name} enters the model in several shapes.", found=str(sorted(set(shapes))))


def spread(keep: Any, value: Any) -> Any:
    """How far each number of an entry is present, as it multiplies the entry."""
    return keep.reshape(*keep.shape, *(1 for _ in range(value.ndim - keep.ndim)))


def shapes_of(batch: Mapping[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch with as many rows as entries are looked for with."""
    return {name: jax.ShapeDtypeStruct((ROWS, *value.shape[1:]), value.dtype) for name, value in batch.items()}
