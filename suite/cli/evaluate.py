"""suite evaluate: metrics on a split."""

from dataclasses import dataclass
from typing import Any, ClassVar

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Together, Trusting
from suite.cli.train import print_run
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Evaluate(Trusting, Together):
    """Measures a run or a bundle on a split of its data, or published weights on yours."""

    verb = "evaluate"
    takes_fields: ClassVar[bool] = True
    examples = (
        "suite evaluate runs/reviews",
        "suite evaluate bundles/reviews --split validation --batch-size 64",
        "suite evaluate published/reviews --data reviews.csv --task.text review",
    )
    notes = "Fields of the experiment, --task.NAME VALUE, go with published weights: runs and bundles have their own."

    source: str = word(
        "RUN|BUNDLE|FOLDER|OWNER/NAME", example="runs/reviews", fix="suite train text.classify --data reviews.csv"
    )
    """Run folder, bundle, or published weights, which --data goes with: a folder, or their name on the hub."""
    split: str = flag("test", value="SPLIT", example="validation")
    """train, validation or test."""
    batch_size: int = flag(0, example="64", otherwise="as in training", least=0)
    """Records evaluated at a time."""
    by: str = flag("", value="COLUMN", example="country", otherwise="all records together")
    """Also measures each group of records by itself, and which is better or worse off: by the values of a column of the
    data, or by ranges of its numbers. For runs."""
    data: str = flag("", value="PATH", example="reviews.csv", otherwise="the data of the run or bundle")
    """Records that published weights are measured on, without any training: a file or a folder; of a bundle, where the
    data of its run lie now."""
    recipe: str = flag("", value="EXPERIMENT", example="text.finetune", otherwise="that of the weights' family")
    """Recipe whose task published weights are measured by."""
    run_dir: str = flag("", value="DIR", example="runs/published", otherwise="runs/NAME-TIME")
    """Folder of the run that published weights become, which can be served and compared like any other."""
    offline: bool = flag(False, otherwise="names on the hub are fetched")
    """Take published weights from the local cache only."""


def evaluate(given: Evaluate) -> None:
    from suite.parallel import rendezvous
    from suite.runtime.files import is_bundle, is_run
    from suite.workflow import folders

    bundle = is_bundle(given.source)
    if given.fields and (bundle or not given.data):
        raise InputError(
            f"flag {given.fields[0]}",
            f"is not one of suite evaluate {'of a bundle' if bundle else 'without --data'}.",
            found=" ".join(given.fields),
            fix="suite evaluate --help",
        )
    if given.by and (bundle or given.data):
        raise InputError("flag --by", "is of a run.", found=given.source, fix="suite evaluate --help")
    extra = "--recipe" if given.recipe else "--data" if given.data and not bundle else ""
    if extra and (bundle or is_run(given.source)):
        raise InputError(
            f"flag {extra}", "goes with published weights.", found=f"{given.source}, which has its own data"
        )
    if bundle:
        from suite.exporting.measure import measured

        found = measured(given.source, given.split, given.batch_size, given.allowed, data=given.data, trust=given.trust)
        for name, about in found.metrics.items():
            print(f"{name:32} {about['value']:.6g}")
        print(given.source)
        return
    if given.trust:
        raise folders.not_signed(given.source)
    if given.by:
        from suite.runs import groups, run

        for line in groups.by_group(run.open(given.source, given.allowed), given.by, given.split).lines:
            print(line)
        return
    with rendezvous.joined(rendezvous.find_place(given.place)):
        print_run(
            _published(given)
            if given.data
            else folders.evaluate(given.source, given.split, given.batch_size, given.allowed)
        )


def _published(given: Evaluate) -> Any:
    from suite.cli.fields import apply_flags
    from suite.workflow import imported

    def changed(experiment: Any) -> Any:
        return apply_flags(experiment, list(given.fields), f"suite evaluate {given.source} --data {given.data}")

    return imported.evaluate(
        given.source,
        given.data,
        given.split,
        given.batch_size,
        recipe=given.recipe,
        folder=given.run_dir,
        offline=given.offline,
        changes=changed,
    )


VERB = Verb(Evaluate, evaluate)
