"""suite explain: what answers are owed to."""

import json
import shlex
import sys
from dataclasses import dataclass
from typing import Literal

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Trusting
from suite.errors import InputError

RECORDS = 50
"""Records of a split that are explained."""


@dataclass(frozen=True, kw_only=True)
class Explain(Trusting):
    """Says what an answer is owed to: words, patches of a picture, stretches of a recording, columns."""

    verb = "explain"
    examples = (
        'suite explain runs/reviews --input "a wonderful film"',
        "suite explain runs/photos --input photos/new --method gradcam --to why",
        "suite explain runs/clicks --input new.csv --method shapley --json",
        "suite explain runs/reviews --split validation",
        'suite explain bundles/reviews --input "a wonderful film"',
    )
    notes = (
        "With --split the records of a split are explained instead: what the model uses on the whole, and how far each "
        "method can be believed on this run. A bundle explains where it was exported with --explain."
    )

    source: str = word("RUN|BUNDLE", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder or bundle."""
    input: str = flag("", value="TEXT|FILE|FOLDER|-", example="new.csv", otherwise="--split must be given")
    """A text, a file of records, an image or recording, a folder of them, or - for lines of standard input."""
    method: Literal["", "integrated-gradients", "gradcam", "attention", "attention-rollout", "shapley", "occlusion"] = (
        flag("", value="METHOD", example="shapley", otherwise="integrated-gradients; with --split, several")
    )
    """integrated-gradients, gradcam, attention, attention-rollout, shapley or occlusion."""
    class_: str = flag("", value="NAME", example="positive", otherwise="the answered class")
    """Class, label or goal that is explained."""
    to: str = flag("", value="FOLDER", example="why", otherwise="explanations are printed")
    """Folder for explanations as JSON lines, maps as pictures, and a page."""
    json: bool = flag(False, otherwise="a table of the largest attributions")
    """Print a line of JSON for each record."""
    split: str = flag("", value="SPLIT", example="validation", otherwise="records of --input are explained")
    """train, validation or test."""
    records: int = flag(0, value="N", example="20", otherwise="50 of --split, all of --input", least=0)
    """Records that are explained: of a split evenly spaced, of --input the first."""


def explain(given: Explain) -> None:
    from suite.contracts.signature import file_to_json
    from suite.workflow import explaining, folders

    opened = folders.open(given.source, given.allowed, trust=given.trust)
    if given.split:
        _of_split(given, opened)
        return
    if not given.input:
        raise InputError("flag --input", "is missing.", fix="--split validation")
    method = given.method or explaining.INTEGRATED
    explained = explaining.explain(opened, given.input, method, given.class_, given.records)
    if given.to:
        for path in explaining.write_explanations(explained, given.to):
            print(path)
        return
    for one in explained:
        if given.json:
            print(json.dumps(one.content, ensure_ascii=False, default=file_to_json))
        else:
            print("\n".join(one.lines))


def _of_split(given: Explain, opened: object) -> None:
    from suite.explaining import checking
    from suite.runs.run import Run

    if not isinstance(opened, Run):
        raise InputError("flag --split", "is for runs.", found=given.source, fix="suite explain RUN --split validation")
    if given.input:
        problem = "explains the records of a split, and --input those that it names: one of them."
        fix = f"suite explain {shlex.quote(given.source)} --input {shlex.quote(given.input)}"
        raise InputError("flag --split", problem, fix=fix)
    for name in ("class_", "to", "json"):
        if getattr(given, name):
            fix = f"suite explain {shlex.quote(given.source)} --split {shlex.quote(given.split)}"
            raise InputError(f"flag --{name.rstrip('_')}", "goes with --input, and not with --split.", fix=fix)
    if given.records == 1:
        raise InputError("flag --records", "is 2 or more: measures are over records.", found="1", fix="--records 50")
    methods = (given.method,) if given.method else ()
    told = lambda line: print(line, file=sys.stderr)
    for line in checking.check(opened, given.split, methods, given.records or RECORDS, told=told).lines:
        print(line)


VERB = Verb(Explain, explain)
