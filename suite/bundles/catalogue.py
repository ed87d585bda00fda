"""Catalogue of a bundle: the records that requests are compared with are embedded by a program of the bundle, so that
others take their place without training code."""

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from suite.bundles import integrity, manifest, programs, signing
from suite.bundles.bundle import Bundle
from suite.bundles.codecs import LONGEST_NAME, read_codec, rebased
from suite.bundles.manifest import CATALOGUE, Manifest
from suite.bundles.opened import Program
from suite.contracts.batch import Columns
from suite.data.reading import is_missing
from suite.data.sources.memory import LeftOut, take
from suite.errors import InputError, first_line
from suite.experiment import serialization
from suite.runtime.files import new_folder
from suite.weights import safetensors

ROWS = 64
"""Records that are embedded at a time."""
FILE = "assets/catalogue-{}.json"
"""Where the codec of a program keeps what it knows of the records."""
CARD = """
## Catalogue

The catalogue was replaced: it is {about}. The metrics above were measured with the one of the export.
"""


@dataclass(frozen=True)
class Embedded:
    """Records of a catalogue, embedded.

    Attributes:
        names: of the records, in their order; None where no answer names them.
        arrays: what is kept of them, each (n, ...).
        left_out: why records were left out, with their number and the first names.
    """

    names: list[str] | None
    arrays: dict[str, np.ndarray]
    left_out: LeftOut = field(default_factory=LeftOut)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def replace(
    folder: str | Path,
    blocks: Iterable[Columns],
    to: str | Path,
    *,
    called: str = "",
    allow: tuple[str, ...] = (),
    sign: str | Path = "",
    trust: str | Path = "",
    check: bool = True,
) -> Embedded:
    """Writes the bundle in ``folder`` with another catalogue, and says what became of the records.

    A record that cannot be read, has no name or that of one before it is left out, and counted.

    Args:
        folder: what suite export wrote.
        blocks: records of the catalogue, by column, some at a time.
        to: a new folder.
        called: the file that they come from, as the bundle states it.
        allow: packages whose classes its codecs may name.
        sign: the file of the private key that it is signed with; empty: it is not signed, whether or not it was.
        trust: public keys, one of which must have signed the old bundle; empty: it need not be signed.
        check: open the new bundle and run its programs beside as many records; not where another process does.

    Raises:
        InputError: it is no bundle, or was changed; its catalogue cannot be replaced; no record can be used; or a
            program does not take as many.
    """
    source, signer = Path(folder), signing.read_signer(sign) if str(sign) else None
    bundle = Bundle.open(source, allow, cache=check, trust=trust)
    embedded = embed(bundle, blocks, allow)
    about = bundle.manifest
    with new_folder(Path(to)) as partial:
        for name in about.files:
            if name != manifest.REFERENCE and not name.endswith(".onnx"):  # whose models hold the old records
                (partial / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / name, partial / name)
        safetensors.write(partial / manifest.REFERENCE, lambda: embedded.arrays.items())
        said = f"{len(embedded):,} records" + (f" of {called}" if called else "")
        with open(partial / manifest.CARD, "a", encoding="utf-8") as card:
            card.write(CARD.format(about=said))
        entries = {
            name: dataclasses.replace(entry, codec=_with_names(source, about, name, embedded, partial, allow))
            for name, entry in about.programs.items()
        }
        made = {name: value for name, value in about.made.items() if name != "checked"}
        content = {
            "name": about.name,
            "experiment": about.experiment,
            **manifest.about_programs(entries, about.catalogue),
            "platforms": list(about.platforms),
            "metrics": about.metrics,
            "made": {**made, "catalogue": said},
        }
        manifest.write(partial, content)
        if signer is not None:
            signing.sign(partial, signer)
        for one in Bundle.open(partial, allow).programs.values() if check else ():
            _run(partial, one, len(embedded))
    return embedded


def program(bundle: Bundle, allow: tuple[str, ...] = ()) -> Program:
    """The program that embeds the records of a catalogue.

    Raises:
        InputError: the bundle has none.
    """
    about, where = bundle.manifest, f'bundle "{bundle.folder}"'
    if about.catalogue is None:
        raise no_catalogue(where, list(about.programs), manifest.REFERENCE in about.files)
    contents, _ = integrity.check(bundle.folder, about)
    entry, maker = about.catalogue, about.made.get("versions", {}).get("jax", "?")
    calls = {}
    for length in entry.lengths:
        file = manifest.program(length, CATALOGUE)
        calls[length] = programs.runner(programs.read(contents[file], f'{where}, file "{file}"', maker))
    codec = read_codec(bundle.folder, about, entry.codec, allow)
    return Program(CATALOGUE, codec, entry.signature, calls, (bundle.weights,))


def no_catalogue(where: str, programs: Sequence[str], fixed: bool = False) -> InputError:
    """The error of whoever gives a catalogue to a model that takes none; ``fixed``: it has one that stays."""
    problem = "keeps the catalogue it was exported with." if fixed else "has no catalogue to replace."
    fix = "export the run again: a bundle of this version has one to replace" if fixed else ""
    return InputError(where, problem, found=f"answers by {', '.join(programs)}", fix=fix)


def embed(bundle: Bundle, blocks: Iterable[Columns], allow: tuple[str, ...] = ()) -> Embedded:
    """The records of a catalogue, embedded by the bundle's own program.

    Raises:
        InputError: as of `program`, or none of the records can be used.
    """
    embedding = program(bundle, allow)
    named = any(one.codec.names_catalogue for one in bundle.programs.values())
    key = embedding.codec.primary if named else ""
    names: list[str] = []
    parts: list[dict[str, np.ndarray]] = []
    left_out, seen, read = LeftOut(), set[str](), 0
    for columns in _pieces(blocks):
        called, places = _named(columns, key, read, seen, left_out)
        for kept, arrays in _embedded(embedding, columns, called, places, len(names), left_out):
            names += [called[place] for place in kept]
            parts.append(arrays)
        read += len(called)
    if not names:
        found = "; ".join(left_out.lines()) or "0 records"
        fix = f"records with {', '.join(entry.name for entry in embedding.codec.inputs if entry.required)}"
        raise InputError("catalogue", "has no record that can be used.", found=found, fix=fix)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Embedded(names if key else None, arrays, left_out)


def _pieces(blocks: Iterable[Columns]) -> Iterator[Columns]:
    """Columns of at most `ROWS` records."""
    for columns in blocks:
        for start in range(0, len(next(iter(columns.values()), ())), ROWS):
            yield {name: values[start : start + ROWS] for name, values in columns.items()}


def _named(columns: Columns, key: str, read: int, seen: set[str], left_out: LeftOut) -> tuple[list[str], list[int]]:
    """What the records are called, and the places of those that are to be embedded: where names count, the first of
    each name.

    Args:
        columns: of the records.
        key: the column of names; empty: records have none, and are called by their place.
        read: records before these.
        seen: names before these.
        left_out: counts the others.
    """
    count = len(next(iter(columns.values())))
    places = [f"record {read + place:,}" for place in range(1, count + 1)]
    if not key:
        return places, list(range(count))
    if key not in columns:
        raise InputError(
            f'column "{key}"',
            "names the records of the catalogue, and is missing.",
            found=", ".join(columns),
            fix=f"a column {key}",
        )
    called, kept = [], []
    for place, value in enumerate(columns[key]):
        called.append(str(value))
        if is_missing(value):
            left_out.add(f"without {key}", places[place])
        elif len(called[-1]) > LONGEST_NAME:
            left_out.add(f"its {key} has more than {LONGEST_NAME:,} characters", places[place])
        elif not _is_text(called[-1]):
            left_out.add(f"its {key} holds a lone surrogate, which is no character", places[place])
        elif called[-1] in seen:
            left_out.add(f"its {key} is that of a record before", called[-1])
        else:
            seen.add(called[-1])
            kept.append(place)
    return called, kept


def _is_text(name: str) -> bool:
    """Whether UTF-8 can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _embedded(
    embedding: Program, columns: Columns, called: Sequence[str], places: list[int], first: int, left_out: LeftOut
) -> list[tuple[list[int], dict[str, np.ndarray]]]:
    """Places of records and what is kept of them; of records that cannot be read, the others."""
    if not places:
        return []
    try:
        rows = embedding.codec.encode({name: take(values, np.array(places)) for name, values in columns.items()})
        length = embedding.bucket(rows)
    except InputError as error:
        if len(places) == 1:
            left_out.add(f"{error.where}: {error.problem}", called[places[0]])
            return []
        half = len(places) // 2
        before = _embedded(embedding, columns, called, places[:half], first, left_out)
        first += sum(len(kept) for kept, _ in before)
        return before + _embedded(embedding, columns, called, places[half:], first, left_out)
    arrays = embedding.outputs(rows, length, ROWS, first + np.arange(len(places)))
    finite = np.ones(len(places), bool)
    for value in arrays.values():
        if jnp.issubdtype(value.dtype, jnp.floating):
            finite &= np.isfinite(value.astype(np.float32)).reshape(len(places), -1).all(1)
    for place in np.flatnonzero(~finite).tolist():
        left_out.add("embedded as numbers that are not finite", called[places[place]])
    kept = np.flatnonzero(finite)
    return [([places[place] for place in kept.tolist()], {name: value[kept] for name, value in arrays.items()})]


def _with_names(
    source: Path, about: Manifest, name: str, embedded: Embedded, folder: Path, allow: tuple[str, ...]
) -> dict[str, Any]:
    """The codec of a program for the new catalogue, as the bundle in ``folder`` stores it."""
    stored = about.programs[name].codec
    codec = read_codec(source, about, stored, allow)
    if embedded.names is None or not codec.names_catalogue:
        return stored
    file = folder / FILE.format(name)
    file.parent.mkdir(exist_ok=True)
    changed = rebased(codec.with_catalogue(embedded.names, file), lambda path: f"assets/{Path(path).name}")
    return dict(serialization.to_json(changed))


def _run(folder: Path, program: Program, records: int) -> None:
    """Raises InputError: a program cannot be run beside as many records."""
    try:
        program.warm((1,))
    except Exception as error:  # of JAX and XLA: many kinds
        where = f'bundle "{folder}", program "{program.name}"'
        raise InputError(where, f"cannot be run beside {records:,} records.", found=first_line(error, 300)) from None
