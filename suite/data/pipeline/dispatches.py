"""The input pipeline: a batch plan, then gather -> encode -> pad, by Grain.

Element i of the Grain dataset is *dispatch* i (the batches of one call of the compiled step), so Python
runs once a dispatch and not once a record. The order is a pure function of seed, epoch and cached lengths;
the whole iterator state is one integer, the next global batch.
"""

import contextlib
import functools
import itertools
import math
import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite.contracts.batch import Batch, Ragged
from suite.contracts.data import Source
from suite.contracts.task import Task
from suite.data.pipeline.padding import Buckets, axes, by_axis, default_buckets, fitting, pad, row_lengths
from suite.data.pipeline.workers import in_workers
from suite.errors import InputError
from suite.runtime.files import write_array

CHUNK = 4096
"""Records encoded at a time where a whole split is walked."""
UNIT = 32
"""Rows of a batch that share a generator of random numbers where training augments."""


def ragged_lengths(task: Task, source: Source, cache: Path | None = None) -> dict[str, np.ndarray]:
    """Axis -> each record's encoded length (n,) along it; no axes where rows are of one shape.

    Encodes the split once; cached, in a file for each axis. The default axis comes first.
    """
    stored = {} if cache is None else stored_lengths(cache)
    if any(len(lengths) != len(source) for lengths in stored.values()):
        stored = {}  # of another split
    if "" in stored:  # its file is the last that is written
        return stored
    known = axes(task.encode(source[np.arange(min(1, len(source)))]))
    if not known or set(known) == set(stored):
        return {axis: stored[axis] for axis in known}
    chunks = [np.arange(i, min(i + CHUNK, len(source))) for i in range(0, len(source), CHUNK)]
    parts: dict[str, list[np.ndarray]] = {axis: [] for axis in known}
    for chunk in chunks:
        encoded = task.encode(source[chunk])
        for axis in known:
            parts[axis].append(row_lengths(encoded, axis))
    lengths = {axis: np.concatenate(part).astype(np.int32) for axis, part in parts.items()}
    if cache is not None:
        for axis in reversed(known):
            write_array(cache.with_stem(f"{cache.stem}-{axis}" if axis else cache.stem), lengths[axis])
    return lengths


def stored_lengths(cache: Path) -> dict[str, np.ndarray]:
    """Axis -> lengths of a split's rows, as `ragged_lengths` cached them; empty where it did not."""
    others = {path.stem.removeprefix(f"{cache.stem}-"): path for path in cache.parent.glob(f"{cache.stem}-*.npy")}
    files = {"": cache, **dict(sorted(others.items()))}
    return {axis: np.load(path) for axis, path in files.items() if path.exists()}


@dataclass(frozen=True)
class Plan:
    """Which records make up each batch.

    Attributes:
        size: records in the split.
        batch_size: rows a batch.
        seed: of the shuffle; None leaves the order as it is.
        lengths: (size,) encoded lengths of ragged data along the default axis, or None.
        buckets: padded lengths of the default axis, rising.
        others: the same of other axes, by name.
        strata: (size,) class of each record, of which an epoch holds as many of each; None: an epoch holds each once.
    """

    size: int
    batch_size: int
    seed: int | None = None
    lengths: np.ndarray | None = None
    buckets: tuple[int, ...] = ()
    others: Mapping[str, tuple[np.ndarray, tuple[int, ...]]] = field(default_factory=dict)
    strata: np.ndarray | None = None

    @property
    def all_buckets(self) -> dict[str, tuple[int, ...]]:
        """Axis -> its padded lengths."""
        return by_axis({"": self.buckets, **{axis: buckets for axis, (_, buckets) in self.others.items()}})

    @property
    def shapes(self) -> int:
        """How many combinations of padded lengths batches may have."""
        return math.prod(map(len, self.all_buckets.values()))

    @functools.cached_property
    def batches_per_epoch(self) -> int:
        """Batches an epoch; the same for every epoch."""
        return len(self._epoch(0)[0])

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """Record indices (batch_size,) of global batch ``step``, -1 where there is none, and its padded length."""
        epoch, position = divmod(step, self.batches_per_epoch)
        indices, lengths = self._epoch(epoch)
        return indices[position], int(lengths[position])

    def padded_lengths(self, step: int) -> dict[str, int]:
        """The padded length of global batch ``step`` along each axis; 0 along the default one where no rows run."""
        indices, length = self.batch(step)
        real = indices[indices >= 0]
        return {"": length, **{axis: fitting(rows[real], fit) for axis, (rows, fit) in self.others.items()}}

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        cached = self.__dict__.get("_cached")
        if cached is None or cached[0] != epoch:
            cached = (epoch, self._order(epoch))
            self.__dict__["_cached"] = cached
        return cached[1]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        if rng is None:
            order = np.arange(self.size)
        else:
            order = rng.permutation(self.size if self.strata is None else _balanced(self.strata, rng))
        if self.lengths is None:
            return _rows(order, self.batch_size), np.zeros(-(-self.size // self.batch_size), np.int64)
        batches, lengths = self._bucketed(order)
        if rng is not None:
            shuffled = rng.permutation(len(batches))
            batches, lengths = batches[shuffled], lengths[shuffled]
        return batches, lengths

    def _bucketed(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Full batches of each bucket; what is left over moves up a bucket, and the last batch may be short."""
        assert self.lengths is not None
        bucket_of = np.minimum(np.searchsorted(self.buckets, self.lengths[order]), len(self.buckets) - 1)
        batches, lengths = [], []
        carried = np.zeros(0, order.dtype)
        top = int(bucket_of.max(initial=0))
        for i in range(top + 1):
            rows = np.concatenate([carried, order[bucket_of == i]])
            whole = len(rows) if i == top else len(rows) // self.batch_size * self.batch_size
            carried = rows[whole:]
            whole_batches = _rows(rows[:whole], self.batch_size)
            batches.append(whole_batches)
            lengths.append(np.full(len(whole_batches), self.buckets[i]))
        return np.concatenate(batches), np.concatenate(lengths)


def _balanced(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Records (n,), as many of each of ``strata`` (n,), to one: of each, all of it as often as they fit, then some."""
    groups = np.split(np.argsort(strata, kind="stable"), np.cumsum(np.unique(strata, return_counts=True)[1])[:-1])
    whole, over = divmod(len(strata), len(groups))
    more = np.isin(np.arange(len(groups)), rng.permutation(len(groups))[:over])
    drawn = [_drawn(group, whole + int(one), rng) for group, one in zip(groups, more, strict=True)]
    return np.concatenate(drawn)


def _drawn(records: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` of the records, none twice as often as another and once more."""
    times, over = divmod(count, len(records))
    return np.concatenate([np.tile(records, times), rng.permutation(records)[:over]])


def _rows(order: np.ndarray, batch_size: int) -> np.ndarray:
    """``order`` (n,) as (ceil(n / batch_size), batch_size), -1 behind the end."""
    count = -(-len(order) // batch_size)
    padded = np.full(count * batch_size, -1, np.int64)
    padded[: len(order)] = order
    return padded.reshape(count, batch_size)


def make_plan(
    task: Task,
    source: Source,
    batch_size: int,
    *,
    seed: int | None,
    buckets: Buckets = (),
    cache: Path | None = None,
    balanced: bool = False,
    passes: float = math.inf,
) -> Plan:
    """The plan of a split: shuffled where ``seed`` is given, bucketed by length where rows are ragged, and with as many
    records of each class an epoch where it is ``balanced``.

    Axes without ``buckets`` take theirs from the lengths of the rows, fewer where these are few, see `default_buckets`;
    ``passes`` is how often they are seen.

    Raises:
        InputError: the split is empty, the buckets do not rise from 1 or more, or records that are to be balanced have
            no classes.
    """
    if len(source) == 0:
        raise InputError("split", "has no records", fix="check the data's path, its splits and what cleaning dropped")
    known = by_axis(buckets)
    for axis, chosen in known.items():
        if any(low >= high for low, high in itertools.pairwise((0, *chosen))):
            rising = sorted({max(length, 1) for length in chosen})
            typed = [f"{axis}={','.join(map(str, rising))}"] if axis else list(map(str, rising))
            raise InputError(
                "field pipeline.buckets",
                "must rise, from 1 or more",
                found=" ".join(map(str, chosen)),
                fix=f"--pipeline.buckets {shlex.join(typed)}",
            )
    lengths = ragged_lengths(task, source, cache)
    known = {**{axis: default_buckets(rows, passes) for axis, rows in lengths.items() if axis not in known}, **known}
    others = {axis: (rows, known[axis]) for axis, rows in lengths.items() if axis}
    strata = task.strata(source) if balanced else None
    if balanced and strata is None:
        raise InputError(
            "field pipeline.sampling",
            "is balanced, and the records have no classes, of which one would draw as many of each.",
            fix="--pipeline.sampling shuffle",
        )
    return Plan(len(source), batch_size, seed, lengths.get(""), known.get("", ()), others, strata)


@dataclass(frozen=True)
class Dispatch:
    """The input of one call of the compiled step.

    Attributes:
        first: global index of its first batch.
        steps: batches in it.
        indices: (steps, b) record indices of the whole batch, -1 for padding.
        batch: arrays (steps, b, ...) on the host; of several processes each has its own rows only.
    """

    first: int
    steps: int
    indices: np.ndarray
    batch: Batch


@dataclass(frozen=True)
class Encoder:
    """Makes dispatches; what Grain maps over (first, steps), in this process or in workers.

    Where the task draws random numbers, each ``UNIT`` rows of a batch are encoded by themselves, with a generator of
    their own: what becomes of a record then depends on its batch and its row alone, and not on how many processes
    share the batch, nor on the steps of a dispatch. A task that draws none is given all rows at once.

    Attributes:
        task: encodes.
        source: the records.
        plan: which of them make up each batch.
        augment: give the task random numbers.
        rows: rows of each batch that this process holds, rising; None for all. Only their records are read (besides
            those that share a unit with them).
    """

    task: Task
    source: Source
    plan: Plan
    augment: bool
    rows: np.ndarray | None = None

    def __call__(self, span: tuple[int, int]) -> dict[str, Any]:
        first, steps = span
        indices = np.stack([self.plan.batch(first + i)[0] for i in range(steps)])
        length = self._padded_lengths(span)
        held = indices if self.rows is None else indices[:, self.rows]
        real = held >= 0
        if real.any():
            batch = pad(self._encoded(first, indices, held, real), real, length, held[real])
        else:  # no row of this process holds a record: zeros of the form that the others have
            batch = self._form(first, indices, real, length)
        return {"span": np.asarray(span), "indices": indices, "batch": batch}

    def forms(self, spans: Iterable[tuple[int, int]]) -> Iterator[Batch]:
        """Zeros (steps, b, ...) in place of the batch of each span whose shape none before it has.

        One record is encoded for each.
        """
        known: set[tuple[Any, ...]] = set()
        for span in spans:
            length = self._padded_lengths(span)
            shape = (span[1], *sorted(length.items()))
            if shape not in known:
                known.add(shape)
                indices = np.stack([self.plan.batch(span[0] + i)[0] for i in range(span[1])])
                held = indices if self.rows is None else indices[:, self.rows]
                yield self._form(span[0], indices, held >= 0, length)

    def _padded_lengths(self, span: tuple[int, int]) -> dict[str, int]:
        planned = [self.plan.padded_lengths(span[0] + i) for i in range(span[1])]
        return {axis: max(lengths[axis] for lengths in planned) for axis in planned[0]}

    def _form(self, first: int, indices: np.ndarray, real: np.ndarray, length: Mapping[str, int]) -> Batch:
        template = np.append(indices[indices >= 0], 0)[:1]
        one = self.task.encode(self.source[template], self._rng(first, 0) if self.augment else None)
        return {name: np.zeros_like(value) for name, value in pad(one, _only_first(real), length).items()}

    def _encoded(self, first: int, indices: np.ndarray, held: np.ndarray, real: np.ndarray) -> dict[str, Any]:
        wanted = held.reshape(-1) if real.all() else held[real]
        if not self.augment:
            return self.task.encode(self.source[wanted])
        if not self.__dict__.get("_draws"):
            rng = self._rng(first, 0)
            before = rng.bit_generator.state
            encoded = self.task.encode(self.source[wanted], rng)
            if rng.bit_generator.state == before:
                return encoded
            self.__dict__["_draws"] = True
        return _joined([part for i in range(len(indices)) for part in self._units(first + i, indices[i])])

    def _units(self, step: int, indices: np.ndarray) -> Iterator[dict[str, Any]]:
        """The held rows of one batch, unit by unit."""
        rows = np.arange(len(indices)) if self.rows is None else self.rows
        for unit in np.unique(rows // UNIT).tolist():
            places = np.arange(unit * UNIT, min((unit + 1) * UNIT, len(indices)))
            places = places[indices[places] >= 0]
            ours = np.isin(places, rows)
            if ours.any():
                encoded = self.task.encode(self.source[indices[places]], self._rng(step, unit))
                yield encoded if ours.all() else _picked(encoded, ours)

    def _rng(self, step: int, unit: int) -> np.random.Generator:
        return np.random.default_rng((self.plan.seed or 0, step, unit, 1))


def _only_first(real: np.ndarray) -> np.ndarray:
    return (np.arange(real.size) == 0).reshape(real.shape)


def _picked(encoded: dict[str, Any], chosen: np.ndarray) -> dict[str, Any]:
    """The rows where ``chosen`` (b,) is True."""
    picked: dict[str, Any] = {}
    for name, value in encoded.items():
        if isinstance(value, Ragged):
            lengths = np.asarray(value.lengths)
            picked[name] = replace(value, values=value.values[np.repeat(chosen, lengths)], lengths=lengths[chosen])
        else:
            picked[name] = np.asarray(value)[chosen]
    return picked


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Encoded rows end to end."""
    joined: dict[str, Any] = {}
    for name, value in parts[0].items():
        if isinstance(value, Ragged):
            joined[name] = replace(
                value,
                values=np.concatenate([part[name].values for part in parts]),
                lengths=np.concatenate([part[name].lengths for part in parts]),
            )
        else:
            joined[name] = np.concatenate([np.asarray(part[name]) for part in parts])
    return joined


def _dispatch(element: dict[str, Any]) -> Dispatch:
    first, count = (int(value) for value in element["span"])
    return Dispatch(first, count, element["indices"], element["batch"])


def spans(start: int, stop: int, steps: int) -> list[tuple[int, int]]:
    """(first, count) of each dispatch from batch ``start`` to ``stop``; firsts are multiples of ``steps``."""
    firsts = [start, *range((start // steps + 1) * steps, stop, steps)]
    return [(first, min(end, stop) - first) for first, end in zip(firsts, [*firsts[1:], stop], strict=True)]


def dispatches(
    encoder: Encoder,
    start: int,
    stop: int,
    steps: int = 1,
    *,
    workers: int = 0,
    prefetch: int = 4,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Dispatch, None, None]:
    """Dispatches that cover global batches ``start`` to ``stop``, the same with any number of workers.

    Where ``stopped`` says that the run is to stop, a wait for a worker ends, and the dispatches with it.
    """
    if start >= stop:
        return
    wanted = spans(start, stop, steps)
    if workers:
        with contextlib.closing(in_workers(encoder, wanted, workers, prefetch, stopped)) as elements:
            yield from map(_dispatch, elements)
        return
    if "grain" not in sys.modules:  # it takes longer to load than two batches to encode, and a first step waits for two
        head, wanted = wanted[:2], wanted[2:]
        yield from (_dispatch(encoder(span)) for span in head)
    import grain

    # One object a dispatch, as Grain measures every array of a tree that it passes on.
    dataset = grain.MapDataset.range(len(wanted)).map(lambda i: _dispatch(encoder(wanted[i])))
    iterator = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)))
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def to_device(items: Iterator[Dispatch], place: Callable[[Batch], Batch]) -> Iterator[tuple[Dispatch, Batch]]:
    """Each dispatch with its batch on the device(s), where ``place`` puts it, one ahead of the one in use.

    Placing takes longer the more devices share a batch, so it has a thread of its own: the loop's time doesn't grow.
    """
    ahead: tuple[Dispatch, Future[Batch]] | None = None
    with ThreadPoolExecutor(1, "to-device") as thread:
        for item in items:
            placed = thread.submit(place, item.batch)
            if ahead is not None:
                yield ahead[0], ahead[1].result()
            ahead = item, placed
        if ahead is not None:
            yield ahead[0], ahead[1].result()
