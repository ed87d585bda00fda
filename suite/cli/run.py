"""suite run: a recipe tuned, compressed, exported and reported on."""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.cli.compress import METHODS, OF, Methods, method_of, named
from suite.cli.flags import Verb, flag
from suite.cli.shared_flags import Aiming
from suite.errors import InputError, Interrupted, Missed

if TYPE_CHECKING:
    from suite.compression.compressing import Method


@dataclass(frozen=True, kw_only=True)
class Run(Aiming, Methods):
    """Tunes, compresses, exports and reports on an experiment: all of it, resumable."""

    verb = "run"
    examples = (
        "suite run vision.digits_dnn --run-dir runs/digits --max-drop 0.005",
        'suite run text.classify --data reviews.csv --goal "accuracy>=0.9" --budget 20m',
    )
    notes = "Without --quantize, --prune, --distill or --as-trained the model is quantised to int8."

    as_trained: bool = flag(False)
    """Leave the model as it was trained."""
    run_dir: str = flag("", value="DIR", example="runs/digits", otherwise="runs/NAME-run-TIME")
    """Folder of all that is made; the same command goes on with it."""
    name: str = flag("", value="NAME", example="digits", otherwise="the name of the folder")
    """What the server calls the bundle."""
    licence: str = flag("", value="TEXT", example="Apache-2.0", otherwise="none is stated")
    """Licence that the model card states."""
    sign: str = flag("", value="KEY", example="key.pem", otherwise="the bundle is not signed")
    """File of the private key that the bundle is signed with."""
    storage: str = flag("", value="URL", example="postgresql://USER:PASSWORD@HOST/DATABASE", otherwise="a file in DIR")
    """Database in which several machines share one study."""
    max_drop: float | None = flag(None, value="X", example="0.005", otherwise="0.005")
    """How much of its metric the smaller model may lose; more ends with exit code 3."""


def run(given: Run) -> None:
    from suite.compression import verdict
    from suite.runs import results as runs
    from suite.workflow import deliver

    method = _method(given)
    experiment = given.resolved()
    folder = given.run_dir or str(runs.new_folder(f"{experiment.name}-run"))
    try:
        delivery = deliver.deliver(
            experiment,
            folder,
            budget=given.spending,
            method=method,
            max_drop=deliver.MAX_DROP if given.max_drop is None else given.max_drop,
            name=given.name,
            licence=given.licence,
            sign=given.sign,
            storage=given.storage,
            accept_changed_data=given.accept_changed_data,
        )
    except Interrupted as stopped:
        again = ["suite", "run", *given.typed, *([] if given.run_dir else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(again)) from None
    print(delivery)
    print(delivery.folder)
    if not delivery.tuned.met:
        raise Missed(delivery.tuned.sentence)
    if not delivery.met:
        raise Missed(verdict.sentence(delivery.compressed or {}))


def _method(given: Run) -> "Method | None":
    """How the model is made smaller; None where it is left as trained."""
    smaller = [f"--{name}" for name in (*METHODS, *OF) if name in named(given)]
    if given.as_trained:
        if smaller:
            raise InputError(
                "flag --as-trained",
                "leaves the model as it is, and another flag makes it smaller.",
                found=", ".join(smaller),
                fix="leave one of them out",
            )
        return None
    asked = any(f"--{name}" in smaller for name in METHODS)
    return method_of(given if asked else dataclasses.replace(given, quantize="int8"))


VERB = Verb(Run, run)
