"""suite evaluate: metrics on a split."""

from dataclasses import dataclass

from suite.cli.common import Allowing, Together
from suite.cli.flags import Verb, flag, word
from suite.cli.train import print_run


@dataclass(frozen=True, kw_only=True)
class Evaluate(Allowing, Together):
    """Measures a run or a bundle on a split of its data."""

    verb = "evaluate"
    examples = ("suite evaluate runs/reviews", "suite evaluate bundles/reviews --split validation --batch-size 64")

    source: str = word("RUN|BUNDLE", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder, or bundle."""
    split: str = flag("test", value="SPLIT", example="validation")
    """train, validation or test."""
    batch_size: int = flag(0, example="64", otherwise="as in training", least=0)
    """Records evaluated at a time."""


def evaluate(given: Evaluate) -> None:
    from suite.parallel import rendezvous
    from suite.runtime.files import is_bundle
    from suite.workflow import folders

    if is_bundle(given.source):
        from suite.exporting.measure import measured

        measures = measured(given.source, given.split, given.batch_size, given.allowed).metrics
        for name, about in measures.items():
            print(f"{name:32} {about['value']:.6g}")
        print(given.source)
        return
    with rendezvous.joined(rendezvous.find_place(given.place)):
        print_run(folders.evaluate(given.source, given.split, given.batch_size, given.allowed))


VERB = Verb(Evaluate, evaluate)
