"""Codec of an ensemble: each of its tasks reads the request in its own way, and the first one words the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suite.contracts.batch import Columns
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.division import NumberScale


@dataclass(frozen=True, kw_only=True)
class EnsembleCodec(Codec):
    """Several codecs side by side. A row of the codec ``t0`` has ``t0_`` before each of its keys."""

    codecs: Mapping[str, Codec]
    """By the name of the task, the one that answers first."""

    @property
    def first(self) -> Codec:
        """The codec that answers."""
        return next(iter(self.codecs.values()))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Those of all; one that a codec requires is required."""
        entries: dict[str, Input] = {}
        for codec in self.codecs.values():
            for entry in codec.inputs:
                known = entries.setdefault(entry.name, entry)
                entries[entry.name] = replace(known, required=known.required or entry.required)
        return tuple(entries.values())

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.first.outputs

    @property
    def primary(self) -> str:
        return self.first.primary

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for codec in self.codecs.values() for name in codec.texts))

    @property
    def styles(self) -> dict[str, str]:
        return {name: style for codec in self.codecs.values() for name, style in codec.styles.items()}

    @property
    def longest(self) -> int:
        return max(codec.longest for codec in self.codecs.values())

    @property
    def purpose(self) -> str:
        return self.first.purpose

    @property
    def place_names(self) -> Mapping[str, Sequence[str]]:
        return self.first.place_names

    def number_scale(self, place: int) -> NumberScale | None:
        return self.first.number_scale(place)

    def opened(self, columns: Columns) -> Columns:
        return self.first.opened(columns)

    def encode(self, columns: Columns) -> dict[str, Any]:
        return named({name: codec.encode(columns) for name, codec in self.codecs.items()})

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self.first.decode(outputs, columns)

    def decode_all(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return self.first.decode_all(outputs, columns)


def named(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of several tasks, by task, as those of one batch."""
    return {f"{task}_{key}": value for task, encoded in rows.items() for key, value in encoded.items()}
