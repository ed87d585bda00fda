"""Run folders and bundles alike: opened, queried and measured by the same functions."""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.codecs.columns import unknown_input
from suite.contracts.batch import Columns
from suite.contracts.kinds import extension_of, input_kind, output_kind
from suite.contracts.signature import File
from suite.data.pipeline.padding import Seed
from suite.errors import InputError, closest, unused
from suite.runtime.files import is_bundle, is_disk_fault, is_run, write_text
from suite.weights import hub
from suite.weights.published import CONFIG

if TYPE_CHECKING:
    from suite.bundles.bundle import Bundle
    from suite.contracts.codec import Codec
    from suite.runs.run import Run

ERROR = "error"
"""Column, or key, of the reason why a record has no answer."""
ANSWERS = "answers.jsonl"
"""The file of answers in the folder that ``suite predict --to`` writes."""


def open(
    folder: str | Path, allow: tuple[str, ...] = (), *, offline: bool = False, trust: str | Path = ""
) -> "Run | Bundle":
    """The run or the bundle in a folder; of published weights, a run whose answers are the vectors of their encoder.

    Args:
        folder: what ``suite train`` or ``suite export`` wrote, published weights, or ``owner/name`` of what ``suite
            publish`` sent.
        allow: packages whose classes it may name, besides the suite's.
        offline: take names on the hub from the local cache only.
        trust: public keys, a PEM file or a folder of them, one of which must have signed the bundle; empty: none need.

    Raises:
        InputError: it is neither, names a class that is not allowed, or is not signed by a key of ``trust``.
    """
    folder = hub.local(folder, offline)
    if is_bundle(folder):
        from suite.bundles.bundle import Bundle

        return Bundle.open(folder, allow, trust=trust)
    if str(trust):
        raise not_signed(folder)
    if not is_run(folder) and (folder / CONFIG).is_file():
        from suite.workflow import encoders

        return encoders.of_weights(folder)
    from suite.runs import run

    return run.open(folder, allow)


def not_signed(source: str | Path) -> InputError:
    """The error of whoever trusts keys alone, and opens what bears no signature."""
    return InputError("flag --trust", "is for bundles: nothing else is signed.", found=str(source))


def predict(
    folder: str | Path,
    inputs: Sequence[Any] | Columns,
    allow: tuple[str, ...] = (),
    *,
    seed: Seed = 0,
    program: str = "predict",
) -> list[dict[str, Any]]:
    """Answers of the run or bundle in ``folder``; see `Run.predict` and `Bundle.predict`."""
    return open(folder, allow).predict(inputs, seed=seed, program=program)


def predict_input(
    opened: "Run | Bundle", value: str, *, seed: Seed = 0, program: str = "predict"
) -> list[dict[str, Any]]:
    """Answers for what ``--input`` names: a text, a file, a folder or ``-``; each carries its input."""
    codec = codec_of(opened, program)
    columns, shown = asked(codec, value)
    try:
        answers = opened.predict(columns, seed=seed, program=program)
    except InputError as error:
        raise _of_record(codec, columns, error) from None
    return [{"input": item, **answer} for item, answer in zip(shown, answers, strict=True)]


def predict_each_input(
    opened: "Run | Bundle", value: str, *, seed: int = 0, program: str = "predict"
) -> list[dict[str, Any]]:
    """As `predict_input`, but a record that cannot be answered has the reason as ``error``.

    Raises:
        InputError: no record can be answered.
    """
    from suite.bundles.answering import BATCH

    codec = codec_of(opened, program)
    columns, shown = asked(codec, value)
    answers = opened.predict_each(columns, seed, program, max(min(len(shown), BATCH), 1), every=False)
    errors = [answer for answer in answers if isinstance(answer, InputError)]
    if errors and len(errors) == len(answers):
        raise _of_record(codec, columns, errors[0])
    return [
        {"input": item, **({ERROR: in_one_line(answer)} if isinstance(answer, InputError) else answer)}
        for item, answer in zip(shown, answers, strict=True)
    ]


def in_one_line(error: InputError) -> str:
    """Where, what is wrong, and what was found."""
    return f"{error.where}: {error.problem.rstrip('.')}" + (f" (found: {error.found})" if error.found else "")


def _of_record(codec: "Codec", columns: Columns, error: InputError) -> InputError:
    """The error with the number of the first record that cannot be read; as it is where there is one record, or where
    each can be read by itself."""
    rows = len(next(iter(columns.values()), ()))
    for row in range(rows if rows > 1 else 0):
        try:
            codec.encode(codec.opened({name: values[row : row + 1] for name, values in columns.items()}))
        except InputError as own:
            return InputError(f"record {row + 1} of {rows}, {own.where}", own.problem, found=own.found, fix=own.fix)
    return error


def asked(codec: "Codec", value: str) -> tuple[Columns, list[str]]:
    """Records that ``--input`` names, and how each is called; what a user should know of them is said.

    Raises:
        InputError: there are none, or a column is missing.
    """
    from suite.bundles.answering import check_request
    from suite.data.reading import there
    from suite.data.sources.column_types import Reading
    from suite.data.sources.files import read_input, states_columns
    from suite.workflow.records import located, read_cells

    kind = next((entry.kind for entry in codec.inputs if entry.name == codec.primary), "")
    typed = _typed(codec, value)
    columns = typed or read_cells(read_input(value, codec.primary, Reading.of_requests(codec), kind), codec)
    if not len(next(iter(columns.values()), ())):
        raise InputError("flag --input", "holds no records.", found=value, fix="name a file with rows")
    try:
        lines = check_request(codec, columns, whole=states_columns(value))
    except InputError as error:
        raise _typed_whole(codec, value, columns, error) from None
    for line in lines:
        print(line, file=sys.stderr)
    shown = columns.get("file", columns.get(codec.primary))
    if (path := there(value)) is not None and path.is_file():
        columns = located(columns, codec, path.parent)
    if shown is None:  # whole records
        plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        shown = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*plain, strict=True)]
    return columns, [item if isinstance(item, str) else str(item) for item in shown]


def _typed_whole(codec: "Codec", value: str, columns: Columns, error: InputError) -> InputError:
    """The error of a record that was typed without all inputs, with the record as it may be typed: examples are in the
    place of what is missing."""
    from suite.data.reading import there

    missing = [entry for entry in codec.inputs if entry.required and entry.name not in columns]
    if value == "-" or there(value) is not None or not error.problem.startswith("is missing") or not missing:
        return error
    if any(input_kind(entry.kind).file for entry in codec.inputs if entry.required):
        return error
    known = {entry.name for entry in codec.inputs} & columns.keys()
    record = {name: columns[name][0] for name in columns if name in known}
    record |= {entry.name: entry.example for entry in missing}
    typed = json.dumps(record, ensure_ascii=False)
    choices = "; ".join(f"{entry.name}: {', '.join(entry.choices):.300}" for entry in missing if entry.choices)
    given = "; ".join(filter(None, (error.found, choices)))
    return InputError(error.where, error.problem, found=given, fix=f"--input {shlex.quote(typed)}")


def _typed(codec: "Codec", value: str) -> dict[str, Any] | None:
    """A record that is typed as a JSON object, with inputs of the model as its keys; None of what is none, and where a
    record as a whole is the primary input, which reads it itself.

    Raises:
        InputError: another key is no input.
    """
    names = [entry.name for entry in codec.inputs]
    if not value.lstrip().startswith("{"):
        return None
    try:
        record = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() & {*names}:
        return None
    if "seed" in record and "seed" not in names:
        typed = json.dumps({name: record[name] for name in names if name in record}, ensure_ascii=False)
        raise unknown_input("seed", f"--input {shlex.quote(typed)} --seed {shlex.quote(str(record['seed']))}")
    if codec.primary not in names:
        return None
    for name in record.keys() - {*names}:
        raise unknown_input(name, closest(name, names) or ", ".join(names))
    return {name: [given] for name, given in record.items()}


def codec_of(opened: "Run | Bundle", program: str) -> "Codec":
    """Of the program with that name.

    Raises:
        InputError: there is none.
    """
    from suite.bundles.answering import chosen

    programs: Mapping[str, Any] = opened.programs
    codec: Codec = chosen(programs, program).codec
    return codec


def printable(codec: "Codec", answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as JSON for a terminal: by the kind of each output, files as their media type and size."""
    kinds = {output.name: output_kind(output.kind) for output in codec.outputs}
    return {name: kinds[name].printed(value) if name in kinds else value for name, value in answer.items()}


def write_answers(answers: Sequence[Mapping[str, Any]], folder: str | Path) -> list[dict[str, Any]]:
    """Write ``answers.jsonl`` into ``folder``, and beside it each file of an answer, which its line names.

    Returns:
        The lines, with names of files, relative to the folder, in place of the files.

    Raises:
        InputError: the folder holds answers already, or cannot be written.
    """
    folder = Path(folder)
    target = folder / ANSWERS
    if target.exists():
        raise InputError(f'file "{target}"', "is there already.", fix=f"--to {unused(folder)}")
    digits, lines = max(len(str(len(answers))), 4), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, answer in enumerate(answers, 1):
            line: dict[str, Any] = {}
            for name, value in answer.items():
                if isinstance(value, File):
                    file = f"{place:0{digits}}-{re.sub(r'[^A-Za-z0-9_-]', '-', name)}{extension_of(value.media_type)}"
                    (folder / file).write_bytes(value.data)
                    line[name] = file
                else:
                    line[name] = value
            lines.append(line)
        write_text(target, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    except OSError as error:
        room = "free some space, or --to FOLDER on another disk"
        fix = room if is_disk_fault(error) else "--to FOLDER in a folder that you may write"
        raise InputError(f'folder "{folder}"', "cannot be written.", found=str(error.strerror), fix=fix) from error
    return lines


def evaluate(
    folder: str | Path,
    split: str = "test",
    batch_size: int = 0,
    allow: tuple[str, ...] = (),
    *,
    data: str = "",
    trust: str | Path = "",
    changes: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> "Run | Bundle":
    """The run or bundle in ``folder`` with its metrics on ``split``; or, with ``data``, published weights.

    Args:
        folder: a run, a bundle, or published weights: a folder or a name on the hub.
        split: train, validation or test.
        batch_size: records at a time; 0: as in training.
        allow: packages whose classes it may name, besides the suite's.
        data: records that published weights are measured on, a file or a folder; of a bundle, where the data of its
            run lie now.
        trust: public keys, one of which must have signed the bundle, see `open`.
        changes: fields of the experiment by dotted name, such as ``{"task.text": "review"}``, for published weights.
        **options: of `suite.workflow.imported.evaluate`.
    """
    if is_bundle(folder):
        from suite.exporting.measure import measured

        return measured(folder, split, batch_size, allow, data=data, trust=trust)
    if str(trust):
        raise not_signed(folder)
    if data:
        from suite.experiment.sections import replace
        from suite.workflow import imported

        change = options.pop("change", lambda experiment: replace(experiment, changes))
        return imported.evaluate(str(folder), data, split, batch_size, changes=change, **options)
    from suite.runs import run

    return run.open(folder, allow).evaluate(split, batch_size)
