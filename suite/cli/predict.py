"""suite predict: answers to records."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Trusting
from suite.errors import InputError, shown_on_a_line


@dataclass(frozen=True, kw_only=True)
class Predict(Trusting):
    """Answers records: one line of JSON each, or a table of answers for many."""

    verb = "predict"
    examples = (
        'suite predict runs/reviews --input "a wonderful film"',
        "suite predict bundles/photos --input photos/new --to answers",
        "suite predict runs/reviews --input new.parquet --to answers.parquet --keep id",
        "suite predict weights/all-MiniLM-L6-v2 --input new.csv --to vectors.npz --keep id",
    )
    notes = (
        "With --to FILE.parquet, FILE.csv or FILE.jsonl, records are read and answered in blocks, however many there "
        "are: a column for each output, and one of errors. The same command goes on where it was stopped. With --to "
        "FILE.npz the table is arrays, of vectors one of shape records x numbers; a run that answers otherwise, and "
        "published weights, give the vectors of their encoder."
    )

    source: str = word(
        "RUN|BUNDLE|OWNER/NAME", example="runs/reviews", fix="suite train text.classify --data reviews.csv"
    )
    """Run folder, bundle, the name of a published one on the hub, or a folder of published weights."""
    input: str = flag("", value="TEXT|FILE|FOLDER|-", example="new.csv", otherwise="must be given")
    """A text, a file of records, an image or recording, a folder of them, or - for lines of standard input."""
    program: str = flag("predict", value="NAME")
    """Which of the model's programs answers."""
    engine: Literal["auto", "xla", "onnxruntime", "openvino"] = flag(
        "auto", example="onnxruntime", otherwise="XLA computes"
    )
    """What computes a bundle on a processor, of those that suite export --engines named."""
    seed: int = flag(0, least=0)
    """Seed of answers that are drawn."""
    to: str = flag("", value="FILE|FOLDER", example="answers.parquet", otherwise="answers are printed")
    """Table of answers, .parquet, .csv or .jsonl; of vectors also .npz or .npy; or a folder for files."""
    keep: str = flag("", value="COLUMN,...", example="id", otherwise="of files, their names")
    """Columns of the input that stand before the answers in a table."""
    batch_size: int = flag(64, value="N", least=1)
    """Records computed together, for a table of answers."""
    offline: bool = flag(False, otherwise="a name on the hub is fetched")
    """Take a published run or bundle from the local cache only."""


def predict(given: Predict) -> None:
    from suite.workflow import folders, predict_file

    opened = folders.open(given.source, given.allowed, offline=given.offline, trust=given.trust)
    if given.engine != "auto":
        opened = _by_engine(opened, given)
    if not given.input:
        raise InputError("flag --input", "is missing.", fix='--input "some text"')
    if predict_file.is_table(given.to):
        keep = tuple(filter(None, given.keep.split(",")))
        predicted = predict_file.predict_file(
            opened,
            given.input,
            given.to,
            keep=keep,
            program=given.program,
            seed=given.seed,
            batch_size=given.batch_size,
        )
        print(predicted.summary)
        return
    if given.keep:
        raise InputError("flag --keep", "is for tables of answers.", fix="--to answers.parquet")
    codec = folders.codec_of(opened, given.program)
    if given.to:
        answers = folders.predict_each_input(opened, given.input, seed=given.seed, program=given.program)
        lines = folders.write_answers(answers, given.to)
        _tell(lines, given.to)
    else:
        answers = folders.predict_input(opened, given.input, seed=given.seed, program=given.program)
        lines = [folders.printable(codec, answer) for answer in answers]
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))


def _tell(lines: Sequence[Mapping[str, Any]], to: str) -> None:
    """Names records without an answer on standard error; nothing where there is none."""
    from suite.workflow.folders import ANSWERS, ERROR
    from suite.workflow.predict_file import NAMED, Predicted

    errors = {place: shown_on_a_line(line[ERROR]) for place, line in enumerate(lines, 1) if ERROR in line}
    if errors:
        named = dict(list(errors.items())[:NAMED])
        print(Predicted(Path(to) / ANSWERS, len(lines), len(errors), named).summary, file=sys.stderr)


def _by_engine(opened: Any, given: Predict) -> Any:
    from suite.bundles import engines
    from suite.bundles.bundle import Bundle

    if not isinstance(opened, Bundle):
        raise InputError(
            "flag --engine", "is for bundles.", found=given.source, fix="the same command without --engine"
        )
    return engines.chosen(opened, given.engine)


VERB = Verb(Predict, predict)
