"""A bundle: a model, its programs and their codecs in one folder, opened without Flax, the tasks or the training code.

Nothing of it is run but what `suite.bundles.programs` lets through, and nothing is parsed before its checksum was
compared.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from suite.bundles import integrity, manifest, onnx_files, programs, signing
from suite.bundles.answering import BATCH, chosen
from suite.bundles.codecs import check_names, read_codec
from suite.bundles.manifest import AGAIN, PREDICT, Array, Manifest, Signature
from suite.bundles.opened import Program
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.data.pipeline.padding import Seed
from suite.errors import InputError
from suite.parallel.target import platform_of
from suite.runtime import allocation
from suite.runtime.compilation import enable_cache
from suite.weights import safetensors


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; see `Bundle.open`.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        weights: by name, on the device.
        programs: by name, ``predict`` first.
        signed_by: what the key is called that signed it; empty where none did, or nothing was there to check it.
    """

    folder: Path
    manifest: Manifest
    weights: dict[str, Any]
    programs: dict[str, Program]
    signed_by: str = ""

    @classmethod
    def open(
        cls, folder: str | Path, allow: tuple[str, ...] = (), *, cache: bool = True, trust: str | Path = ""
    ) -> "Bundle":
        """The bundle in ``folder``, whole and unchanged, its weights on the device. Preprocessors are read there when
        they are first needed: leave the folder as it is while the bundle is in use.

        Args:
            folder: what suite export wrote.
            allow: packages whose classes its codec may name, besides the suite's.
            cache: keep compiled programs on disk, see `suite.runtime.compilation`.
            trust: public keys, a file or a folder, one of which must have signed it; empty: it need not be signed.

        Raises:
            InputError: it is no bundle, is not signed by a key of ``trust``, is damaged, was changed, asks for what it
                may not, or is for other devices.
        """
        folder = Path(folder)
        stated = manifest.read_bytes(folder)
        signer = signing.signed_by(folder, stated, trust)
        about = manifest.read(folder, stated)
        contents, stored = integrity.check(folder, about)
        integrity.check_json(folder, about)
        allocation.keep_memory()
        if cache:
            enable_cache()
        where, maker = f'bundle "{folder}"', about.made.get("versions", {}).get("jax", "?")
        here = platform()
        if here not in about.platforms:
            raise InputError(
                where,
                f"has no program for this machine's devices, {here}.",
                found=", ".join(about.platforms),
                fix=f"suite export RUN --platforms {shlex.quote(here)} --to BUNDLE",
            )
        codecs = {name: read_codec(folder, about, program.codec, allow) for name, program in about.programs.items()}
        files = {
            (name, length): manifest.program(length, name)
            for name, program in about.programs.items()
            for length in program.lengths
        }
        exported = {key: programs.read(contents[file], f'{where}, file "{file}"', maker) for key, file in files.items()}
        for file in about.models.values():
            onnx_files.check(contents[file], f'{where}, file "{file}"')
        arrays = [safetensors.read(folder / file, data) for file, data in sorted(stored.items(), reverse=True)]
        for (name, length), program in exported.items():
            place = f'{where}, file "{files[name, length]}"'
            _check_fit(place, program, arrays, about.programs[name].signature, length)
        records = next(iter(arrays[1].values())).shape[:1] if arrays[1:] and arrays[1] else ()
        for name, codec in codecs.items():
            check_names(where, codec, about.programs[name].signature, *records)
        # Copies, so that no array keeps the memory of all of the file: a CPU's would lie in it, with may_alias=False
        # too.
        copies = [{name: np.array(value) for name, value in tensors.items()} for tensors in arrays]
        placed = tuple(jax.block_until_ready(jax.device_put(copies)))
        opened = {
            name: Program(
                name,
                codecs[name],
                program.signature,
                {length: programs.runner(exported[name, length]) for length in program.lengths},
                placed,
                {length: contents[file] for (of, length), file in about.models.items() if of == name},
            )
            for name, program in about.programs.items()
        }
        return cls(folder, about, placed[0], opened, signer)

    @property
    def name(self) -> str:
        """Of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """A digest of the content: of two bundles that differ it differs."""
        return self.manifest.version

    @property
    def codec(self) -> Codec:
        """What a request becomes, and what becomes of the answer; of ``predict``, as all that follows."""
        return self.programs[PREDICT].codec

    @property
    def signature(self) -> Signature:
        """What the program takes and what it gives."""
        return self.programs[PREDICT].signature

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """``"<split>/<metric>"`` -> ``value``, and ``low`` and ``high`` where they are known."""
        return self.manifest.metrics

    @property
    def catalogue(self) -> dict[str, Any] | None:
        """Of the records that requests are compared with, where they can be replaced: ``version``, a digest of what is
        kept of them, and ``records``, how many they are."""
        if self.manifest.catalogue is None:
            return None
        kept = next(iter(self.programs[PREDICT].arrays[1].values()))
        digest = self.manifest.files[manifest.REFERENCE]["sha256"]
        return {"version": digest[:16], "records": int(kept.shape[0])}

    @property
    def lengths(self) -> tuple[int, ...]:
        """Padded lengths, rising; (0,) where rows are of one shape."""
        return self.programs[PREDICT].lengths

    @property
    def primary(self) -> str:
        """The column that a bare value stands for."""
        return self.codec.primary

    def predict(self, inputs: Sequence[Any] | Columns, seed: Seed = 0, program: str = PREDICT) -> list[dict[str, Any]]:
        """One answer a record.

        Args:
            inputs: columns as in the data, or a list of bare values (texts, images, paths).
            seed: what the random numbers of answers come from, where they are drawn: one for all records, so that equal
                records have equal answers, or one a record.
            program: which of the bundle's answers.

        Raises:
            InputError: a column is missing, a value cannot be read, or there is no such program.
        """
        return chosen(self.programs, program).predict(inputs, seed)

    def predict_each(
        self, columns: Columns, seed: Seed = 0, program: str = PREDICT, batch_size: int = BATCH, *, every: bool = True
    ) -> list[dict[str, Any] | InputError]:
        """As `predict`, but a record that cannot be answered gets its error: `suite.bundles.answering.answer_each`."""
        return chosen(self.programs, program).predict_each(columns, seed, batch_size, every=every)

    def outputs(
        self, rows: dict[str, Any], length: int, size: int = 0, seed: Seed = 0, program: str = PREDICT
    ) -> dict[str, np.ndarray]:
        """What the model says of encoded rows, see `suite.bundles.opened.Program.outputs`."""
        return chosen(self.programs, program).outputs(rows, length, size, seed)


def platform() -> str:
    """The name that programs know this machine's devices by."""
    return platform_of(jax.devices()[0])


def device() -> str:
    """The platform and the kind of what computes here."""
    return f"{platform()} {jax.devices()[0].device_kind}"


def _check_fit(
    where: str, exported: Any, arrays: Sequence[Mapping[str, np.ndarray]], signature: Signature, length: int
) -> None:
    """Raises InputError: a program takes other weights, other reference arrays or other inputs than there are, or gives
    other outputs than are stated."""
    try:
        (weights, batch, *reference), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
        rows = batch["mask"].shape[0]
        different = [
            *_different(signature.inputs, batch, rows, length),
            *_different(signature.outputs, outputs, rows, length),
        ]
        wanted = [weights, *reference]
        if len(wanted) != len(arrays):
            different.append(manifest.REFERENCE)
        for needed, given in zip(wanted, arrays, strict=False):
            theirs = {name: (array.shape, str(array.dtype)) for name, array in given.items()}
            ours = {name: (array.shape, str(array.dtype)) for name, array in needed.items()}
            if not theirs and ours:
                raise ValueError(f"no arrays, but {', '.join(sorted(ours)):.100}")
            if any(jax.export.is_symbolic_dim(size) for shape, _ in ours.values() for size in shape[:1]):
                count = next(iter(theirs.values()))[0][0] or 1  # any number of records, of all arrays the same
                ours = {name: ((count, *shape[1:]), dtype) for name, (shape, dtype) in ours.items()}
            names = ours.keys() | theirs.keys()
            different += sorted(name for name in names if ours.get(name) != theirs.get(name))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        different = [str(error)]
    if different:
        problem = "does not fit the weights, inputs and outputs."
        raise InputError(where, problem, found=", ".join(different[:5]), fix=AGAIN)


def _different(stated: Mapping[str, Array], arrays: Mapping[str, Any], rows: Any, length: int) -> list[str]:
    """Names of the arrays of a program that are not as its signature states them, sorted. A side that is stated as None
    may be any."""
    different = stated.keys() ^ arrays.keys()
    for name in stated.keys() & arrays.keys():
        shape, own = stated[name].sized(rows, length), arrays[name].shape
        sides = [side == other or side is None for side, other in zip(shape, own, strict=False)]
        if len(shape) != len(own) or not all(sides) or stated[name].dtype != str(arrays[name].dtype):
            different.add(name)
    return sorted(different)
