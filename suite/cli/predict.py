"""suite predict: answers to records."""

import json
from dataclasses import dataclass

from suite.cli.common import Allowing
from suite.cli.flags import Verb, flag, word
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Predict(Allowing):
    """Answers records: one line of JSON each, or files in a folder."""

    verb = "predict"
    examples = (
        'suite predict runs/reviews --input "a wonderful film"',
        "suite predict bundles/photos --input photos/new --to answers",
    )

    source: str = word("RUN|BUNDLE", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder, or bundle."""
    input: str = flag("", value="TEXT|FILE|FOLDER|-", example="new.csv", otherwise="must be given")
    """A text, a file of records, an image or recording, a folder of them, or - for lines of standard input."""
    program: str = flag("predict", value="NAME")
    """Which of the model's programs answers."""
    seed: int = flag(0, least=0)
    """Seed of answers that are drawn."""
    to: str = flag("", value="FOLDER", example="answers", otherwise="answers are printed")
    """Folder for answers that are files, such as recordings."""


def predict(given: Predict) -> None:
    from suite.workflow import folders

    opened = folders.open(given.source, given.allowed)
    if not given.input:
        raise InputError("flag --input", "is missing.", fix='--input "some text"')
    codec = folders.codec_of(opened, given.program)
    answers = folders.predict_input(opened, given.input, seed=given.seed, program=given.program)
    if given.to:
        lines = folders.write_answers(answers, given.to)
    else:
        lines = [folders.printable(codec, answer) for answer in answers]
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))


VERB = Verb(Predict, predict)
