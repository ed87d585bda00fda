"""A bundle: a model, its programs and its codec in one folder, opened without Flax, the tasks or the training code.

Nothing of it is run but what `suite.bundles.programs` lets through, and nothing is parsed before its checksum was
compared.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from suite.bundles import manifest, programs
from suite.bundles.answering import answer
from suite.bundles.manifest import AGAIN, Manifest, Signature
from suite.bundles.programs import Program
from suite.contracts.batch import Columns, Ragged
from suite.contracts.codec import Codec
from suite.contracts.kinds import input_kind
from suite.contracts.preprocessor import Preprocessor
from suite.data.pipeline.padding import bucket, count, pad
from suite.errors import InputError
from suite.experiment import serialization
from suite.runtime import allocation
from suite.runtime.compilation import enable_cache
from suite.weights import safetensors

CODECS = ("suite.codecs", "suite.data.preprocessing", "suite.data.recordings", "suite.decoding")
"""Rooms whose classes a bundle's codec may name without being asked."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; see `Bundle.open`.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        codec: what a request becomes, and what becomes of the answer.
        weights: by name, on the device.
        programs: a padded length -> the program for it.
    """

    folder: Path
    manifest: Manifest
    codec: Codec
    weights: dict[str, Any]
    programs: dict[int, Program]

    @classmethod
    def open(cls, folder: str | Path, allow: tuple[str, ...] = (), *, cache: bool = True) -> "Bundle":
        """The bundle in ``folder``, whole and unchanged, its weights on the device. Preprocessors are read there when
        they are first needed: leave the folder as it is while the bundle is in use.

        Args:
            folder: what suite export wrote.
            allow: packages whose classes its codec may name, besides the suite's.
            cache: keep compiled programs on disk, see `suite.runtime.compilation`.

        Raises:
            InputError: it is no bundle, is damaged, was changed, asks for what it may not, or is for other devices.
        """
        folder = Path(folder)
        about = manifest.read(folder)
        contents, data = manifest.check(folder, about)
        allocation.keep_memory()
        if cache:
            enable_cache()
        where, maker = f'bundle "{folder}"', str(about.made.get("versions", {}).get("jax", "?"))
        here = platform()
        if here not in about.platforms:
            raise InputError(
                where,
                f"has no program for this machine's devices, {here}.",
                found=", ".join(about.platforms),
                fix=f"suite export RUN --platforms {here} --to BUNDLE",
            )
        codec = _codec(folder, about, allow)
        named = {
            length: programs.read(
                contents[manifest.program(length)], f'{where}, file "{manifest.program(length)}"', maker
            )
            for length in about.lengths
        }
        weights = safetensors.read(folder / manifest.WEIGHTS, data)
        _check_fit(where, named, weights, about)
        # Copies, so that no array keeps the memory of all of the file: a CPU's would lie in it, with may_alias=False
        # too.
        placed = jax.block_until_ready(jax.device_put({name: np.array(value) for name, value in weights.items()}))
        return cls(folder, about, codec, placed, {length: programs.runner(each) for length, each in named.items()})

    @property
    def name(self) -> str:
        """Of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """A digest of the content: of two bundles that differ it differs."""
        return self.manifest.version

    @property
    def signature(self) -> Signature:
        """What a program takes and what it gives."""
        return self.manifest.signature

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """``"<split>/<metric>"`` -> ``value``, and ``low`` and ``high`` where they are known."""
        return self.manifest.metrics

    @property
    def lengths(self) -> tuple[int, ...]:
        """Padded lengths, rising, each of which has a program; (0,) where rows are of one shape."""
        return self.manifest.lengths

    @property
    def primary(self) -> str:
        """The column that a bare value stands for."""
        return self.codec.primary

    def predict(self, inputs: Sequence[Any] | Columns) -> list[dict[str, Any]]:
        """One answer a record. ``inputs``: columns as in the data, or a list of bare values (texts, images, paths).

        Raises:
            InputError: a column is missing, or a value cannot be read.
        """
        return answer(self.codec, lambda rows, size: self.outputs(rows, self.bucket(rows), size), inputs)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """The rows of a request from elsewhere: as `Codec.encode`, but no file of this machine is read for it.

        Raises:
            InputError: a column is missing, a value cannot be read, or names a file.
        """
        for each in self.codec.inputs:
            values = columns.get(each.name, ()) if input_kind(each.kind).file else ()
            if any(isinstance(value, str | Path) for value in values):
                raise InputError(
                    f'input "{each.name}"',
                    "must be the content of a file, and not its name.",
                    found="a text",
                    fix="bytes",
                )
        return self.codec.encode(columns)

    def bucket(self, rows: Mapping[str, Any]) -> int:
        """The least length with a program that holds the rows, along the default axis.

        Raises:
            InputError: they are longer than any, or than the one length that another axis has.
        """
        return self.padded_lengths(rows)[""]

    def padded_lengths(self, rows: Mapping[str, Any]) -> dict[str, int]:
        """The length that the rows are padded to along each axis: of the default one `bucket`, of another the only one
        that the programs have.

        Raises:
            InputError: rows are longer.
        """
        known = {"": self.lengths, **{axis: (length,) for axis, length in self._others(rows).items()}}
        lengths = {axis: bucket(rows, fitting, axis) for axis, fitting in known.items()}
        for axis, length in lengths.items():
            if length not in known[axis]:
                raise InputError(
                    f'input "{axis or self.codec.primary}"',
                    "is longer than the model takes.",
                    found=str(length),
                    fix=f"at most {known[axis][-1]}",
                )
        return lengths

    def _others(self, rows: Mapping[str, Any]) -> dict[str, int]:
        """Axis -> the length that its rows have in every program, of all axes but the default one."""
        named = {
            name: value for name, value in rows.items() if isinstance(value, Ragged) and value.axis and not value.to
        }
        return {value.axis: int(self.signature.inputs[name].shape[1] or 0) for name, value in named.items()}

    def outputs(self, rows: dict[str, Any], length: int, size: int = 0) -> dict[str, np.ndarray]:
        """What the model says of encoded rows, each array (n, ...).

        Args:
            rows: n of them, see `encode`.
            length: that they are padded to along the default axis, see `bucket`.
            size: rows that their batch is filled up to, so that few sizes are compiled; 0: n.
        """
        real = np.arange(max(size, count(rows))) < count(rows)
        batch = pad(rows, real, {"": length, **self._others(rows)})
        taken = {name: batch[name] for name in self.signature.inputs}
        made = jax.device_get(self.programs[length](self.weights, taken))
        return {name: np.asarray(value)[real] for name, value in made.items()}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> list[dict[str, Any]]:
        """One answer a row, see `Codec.decode`."""
        return list(self.codec.decode(outputs, columns))

    def warm(self, sizes: Sequence[int]) -> dict[tuple[int, int], float]:
        """Compiles the programs of all lengths for batches of each of ``sizes`` rows, and runs them.

        Returns:
            (length, size) -> the seconds that such a batch takes.
        """
        return {(length, size): self._seconds(length, size) for length in self.lengths for size in sizes}

    def _seconds(self, length: int, size: int) -> float:
        """Of a run, after one that compiles."""
        for _ in range(2):
            begun = time.perf_counter()
            jax.block_until_ready(self.programs[length](self.weights, self._blank(length, size)))
        return time.perf_counter() - begun

    def _blank(self, length: int, size: int) -> dict[str, np.ndarray]:
        return {name: np.ones(array.sized(size, length), array.dtype) for name, array in self.signature.inputs.items()}


def platform() -> str:
    """The name that programs know this machine's devices by."""
    found = jax.default_backend()
    return "cuda" if found == "gpu" else found


def rebased(value: Any, place: Callable[[str], str]) -> Any:
    """A codec with ``place(file)`` for the file of each Preprocessor in it that has one."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes = {field.name: rebased(getattr(value, field.name), place) for field in dataclasses.fields(value)}
    if isinstance(value, Preprocessor) and value.file:
        changes["file"] = place(value.file)
    return dataclasses.replace(value, **changes)


def _codec(folder: Path, about: Manifest, allow: tuple[str, ...]) -> Codec:
    where = f'bundle "{folder}"'

    def place(file: str) -> str:
        if file not in about.files or not file.startswith("assets/"):
            raise InputError(where, "its codec names a file that is no asset of it.", found=repr(file), fix=AGAIN)
        return str(folder / file)

    try:
        made = serialization.from_json(about.codec, allow, CODECS)
    except InputError as error:
        raise InputError(where, f"its codec {error.problem}", found=error.found, fix=error.fix) from None
    except (AttributeError, RecursionError, TypeError) as error:
        raise InputError(
            where, "its codec is not as suite export writes it.", found=f"{type(error).__name__}: {error}", fix=AGAIN
        ) from None
    if not isinstance(made, Codec):
        raise InputError(where, "its codec is none.", found=type(made).__name__, fix=AGAIN)
    codec: Codec = rebased(made, place)
    return codec


def _check_fit(where: str, named: Mapping[int, Any], weights: Mapping[str, np.ndarray], about: Manifest) -> None:
    """Raises InputError: a program takes other weights, or other inputs, than there are."""
    found = {name: (array.shape, str(array.dtype)) for name, array in weights.items()}
    for length, exported in named.items():
        try:
            (taken, batch), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
            wanted = {name: (each.shape, str(each.dtype)) for name, each in taken.items()}
            different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            different += sorted(batch.keys() ^ about.signature.inputs.keys())
        except (AttributeError, TypeError, ValueError) as error:
            different = [str(error)]
        if different:
            raise InputError(
                f'{where}, file "{manifest.program(length)}"',
                "does not fit the weights and inputs.",
                found=", ".join(different[:5]),
                fix=AGAIN,
            )
