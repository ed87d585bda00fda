"""Predictions for many records: a file or folder is read in blocks, and its answers are written as one table.

Answers of some thousand records make a part, a file of its own in ``TARGET.parts``; all parts together make the target.
A command that was stopped goes on after its last part, and the target is the same, byte for byte.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.bundles.answering import BATCH
from suite.contracts.codec import Codec
from suite.contracts.kinds import extension_of
from suite.contracts.signature import File
from suite.errors import InputError, unused
from suite.runtime import json_files
from suite.runtime.files import is_bundle, storing, write_text
from suite.tree import paths
from suite.workflow import encoders, vector_files
from suite.workflow.answer_table import AnswerTable, flat, json_line
from suite.workflow.folders import codec_of
from suite.workflow.folders import open as open_folder
from suite.workflow.progress import Progress
from suite.workflow.record_blocks import open_records
from suite.workflow.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

    from suite.bundles.bundle import Bundle
    from suite.runs.run import Run

FORMATS = (".parquet", ".csv", ".jsonl", *vector_files.FORMATS)
"""Endings of a table of answers."""
BLOCK = 4
"""Batches of records that are read together."""
PART = 16
"""Blocks of a part: what a kill may lose."""
GROUP = 16
"""Parts of a row group of a Parquet file."""
NAMED = 10
"""Most records without an answer that are named."""


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        path: the table of answers.
        records: its rows.
        failed: how many of them have an error in place of an answer.
        errors: place of a record, from 1 -> its error, of the first few.
        dropped: reason -> number of records that could not be read and have no row.
        arrays: of a file of vectors, each with its type and shape.
    """

    path: Path
    records: int
    failed: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    arrays: Sequence[str] = ()

    @property
    def summary(self) -> str:
        """What a person should know, a line each."""
        lines = [f"{self.path}: {self.records:,} records, {self.records - self.failed:,} answered"]
        if self.failed:
            lines[0] += f", {self.failed:,} with an error"
        lines += [f"  array {array}" for array in self.arrays]
        lines += [f"  record {place:,}: {error}" for place, error in self.errors.items()]
        if self.failed > len(self.errors):
            lines.append(f"  ... and {self.failed - len(self.errors):,} more; see the column of errors")
        lines += [f"  left out: {count:,} with {reason}" for reason, count in self.dropped.items()]
        return "\n".join(lines)


def is_table(target: str | Path) -> bool:
    """Whether answers to this path are one table, rather than files in a folder."""
    return Path(target).name.lower().endswith(FORMATS) and not Path(target).is_dir()


def predict_file(
    source: "str | Path | Run | Bundle",
    input: str | Path,
    to: str | Path,
    *,
    keep: tuple[str, ...] = (),
    program: str = "predict",
    seed: int = 0,
    batch_size: int = BATCH,
    allow: tuple[str, ...] = (),
) -> Predicted:
    """Write an answer for each record of a file or folder, in order, as one table.

    Memory holds a few blocks of the input at a time. A call that was stopped goes on where it was, if it is repeated.

    Args:
        source: a run, a bundle, or the folder of one.
        input: a table (.csv .tsv .jsonl .json .parquet, .gz too), a text file with a record a line, a manifest, or a
            folder of images or recordings.
        to: the table of answers, .parquet, .csv or .jsonl; or, of answers that are vectors, .npz, an array for each
            column, or .npy, the vectors alone. A run that answers otherwise gives the vectors of its encoder. Files of
            answers go into the folder ``<to>.files``.
        keep: columns of the input that stand before the answers.
        program: which of the model's programs answers.
        seed: what the random numbers of answers come from, where they are drawn.
        batch_size: records computed together.
        allow: packages whose classes the folder may name, besides the suite's.

    Raises:
        InputError: the input has no such column, or none that the model needs; the target is there already, or its
            parts are those of another input, model or request.
    """
    target = Path(to)
    if not target.name.lower().endswith(FORMATS):
        raise InputError(
            f'file "{target}"', "is no known kind of table.", found=target.suffix, fix="answers" + FORMATS[0]
        )
    if batch_size < 1:
        raise InputError("batch size", "must be at least 1.", found=str(batch_size), fix=str(BATCH))
    opened = open_folder(source, allow) if isinstance(source, str | Path) else source
    codec = codec_of(opened, program)
    if target.name.lower().endswith(vector_files.FORMATS) and not _has_vectors(codec) and not is_bundle(opened.folder):
        opened = encoders.of_run(opened)  # type: ignore[arg-type]  # a run, as it is no bundle
        codec = codec_of(opened, program)
    records = open_records(str(input), codec, keep)
    job = {
        "model": _model(opened),
        "input": records.identity,
        "program": program,
        "seed": seed,
        "keep": list(keep),
        "batch_size": batch_size,
        "format": target.suffix.lower(),
    }
    table = AnswerTable(codec, records.kept)
    if target.name.lower().endswith(vector_files.FORMATS):
        vector_files.check(target, table, keep)
    parts = _Parts(target, job)
    with parts.held():
        if not parts.written:
            lost = f"{target} was not written; the answers so far are kept in {parts.folder}"
            with storing(lost, "then the same command again, which goes on from them"):
                _write_parts(opened, records, table, parts, program, seed, batch_size)
                parts.join(table)
        predicted = parts.counted(table.error, records.dropped)
        if target.name.lower().endswith(vector_files.FORMATS):
            predicted = replace(predicted, arrays=vector_files.described(target))
        parts.remove()
    return predicted


def _write_parts(
    opened: "Run | Bundle", records: Records, table: AnswerTable, parts: "_Parts", program: str, seed: int, size: int
) -> None:
    import pyarrow as pa

    block, done, failed = BLOCK * size, parts.done * PART * BLOCK * size, 0
    with Progress(records.count, done) as progress:
        tables: list[pa.Table] = []
        for beside, columns in records.blocks(done, block):
            answers = opened.predict_each(columns, seed, program, size)
            tables.append(table.table(beside, answers, parts.file, done))
            done += len(answers)
            failed += sum(isinstance(answer, InputError) for answer in answers)
            progress.show(done, failed)
            if len(tables) == PART:
                parts.add(pa.concat_tables(tables))
                tables = []
        if tables:
            parts.add(pa.concat_tables(tables))


def _has_vectors(codec: Codec) -> bool:
    return any(output.kind == "vector" for output in codec.outputs)


def _model(opened: "Run | Bundle") -> str:
    """A digest of what answers: of the content of a bundle, of the recipe and weights of a run."""
    if is_bundle(opened.folder):
        return str(opened.version)  # type: ignore[union-attr]
    digest = hashlib.blake2b((opened.folder / "experiment.json").read_bytes(), digest_size=16)
    for tree in opened.variables:  # type: ignore[union-attr]
        for name, leaf in paths(tree).items():
            digest.update(f"{name} {leaf.shape} {leaf.dtype}".encode())
            digest.update(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b"")
    return digest.hexdigest()


class _Parts:
    """The folder of the parts of a target, and the target.

    Args:
        target: the table that they make.
        job: what is asked of which model and input; another job does not go on with these parts.
    """

    def __init__(self, target: Path, job: dict[str, Any]):
        self.target, self.folder = target, target.with_name(f"{target.name}.parts")
        self.files = target.with_name(f"{target.name}.files")
        self._job = job

    @property
    def written(self) -> bool:
        """Whether the target is complete."""
        return self.target.exists()

    @property
    def done(self) -> int:
        """How many parts there are."""
        return len(self._names())

    def _names(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the folder, which belongs to this job then.

        Raises:
            InputError: it belongs to another job, another process holds it, the target is there, or cannot be written.
        """
        stated = self.folder / "job.json"
        there = [path for path in (self.target, self.files) if path.exists()]
        if there and not stated.exists():
            raise InputError(f'file "{there[0]}"', "is there already.", fix=f"--to {unused(self.target)}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            fix = "--to FILE in a folder that you may write"
            raise InputError(f'file "{self.target}"', "cannot be written.", found=str(error), fix=fix) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f'file "{self.target}"',
                    "is being written by another process.",
                    fix=f"wait for it, or --to {_other(self.target)}",
                ) from error
            if stated.exists():
                self._check(json_files.read_object(stated))
            else:
                for name in self._names():  # of a job that was done
                    name.unlink()
                write_text(stated, json.dumps(self._job, indent=1))
            yield
        finally:
            os.close(lock)

    def _check(self, other: dict[str, Any]) -> None:
        differ = [name for name, value in self._job.items() if other.get(name) != value]
        if differ:
            raise InputError(
                f'folder "{self.folder}"',
                f"holds answers to another request, with another {' and '.join(differ).replace('_', ' ')}.",
                fix=f"--to {unused(self.target)}",
            )

    def add(self, table: "pa.Table") -> None:
        """Write the next part, so that it is there as a whole or not at all."""
        import pyarrow.parquet as pq

        name = self.folder / f"part-{self.done:08d}.parquet"
        with self._replacing(name) as partial:
            pq.write_table(table, partial)

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        """A file to write, which then takes the place of ``path`` in one step."""
        partial = self.folder / f"partial{path.suffix}"
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)

    def file(self, place: int, output: str, value: File) -> str:
        """Keep a file of an answer; its name, relative to the folder of the target."""
        name = f"{place + 1:08d}-{re.sub(r'[^A-Za-z0-9_-]', '-', output)}{extension_of(value.media_type)}"
        self.files.mkdir(exist_ok=True)
        (self.files / name).write_bytes(value.data)
        return f"{self.files.name}/{name}"

    def join(self, table: AnswerTable) -> None:
        """Write the target from all parts."""
        write = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}.get(self.target.suffix.lower())
        with self._replacing(self.target) as partial:
            if write is None:
                vector_files.write(partial, self._names(), table)
            else:
                write(partial, self._names(), table.schema)

    def counted(self, error: str, dropped: dict[str, int]) -> Predicted:
        """What the parts hold."""
        import pyarrow.parquet as pq

        count, failed = 0, 0
        named: dict[int, str] = {}
        for name in self._names():
            column = pq.read_table(name, columns=[error]).column(0)
            if column.null_count < len(column):
                errors = {count + place: text for place, text in enumerate(column.to_pylist(), 1) if text is not None}
                failed += len(errors)
                named.update(list(errors.items())[: NAMED - len(named)])
            count += len(column)
        return Predicted(self.target, count, failed, named, dropped)

    def remove(self) -> None:
        """Remove the folder of parts. ``job.json`` goes first: as long as it is there, all parts are."""
        (self.folder / "job.json").unlink()
        shutil.rmtree(self.folder)


def _other(target: Path) -> str:
    return shlex.quote(str(target.with_name(f"{target.stem}-2{target.suffix}")))


def _parquet(path: Path, parts: list[Path], schema: "pa.Schema") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(parts), GROUP):
            writer.write_table(pa.concat_tables(map(pq.read_table, parts[start : start + GROUP])))


def _csv(path: Path, parts: list[Path], schema: "pa.Schema") -> None:
    import pyarrow.parquet as pq
    from pyarrow import csv

    with csv.CSVWriter(path, flat(schema.empty_table()).schema) as writer:
        for part in parts:
            writer.write_table(flat(pq.read_table(part)))


def _jsonl(path: Path, parts: list[Path], schema: "pa.Schema") -> None:
    import pyarrow.parquet as pq

    with open(path, "w", encoding="utf-8") as file:
        for part in parts:
            file.writelines(f"{json_line(row)}\n" for row in pq.read_table(part).to_pylist())
