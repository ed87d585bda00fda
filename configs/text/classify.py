"""Your own texts: a CSV, TSV, JSONL or Parquet file, or one folder a class.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     columns text and label, or others named by --task.text and --task.label
expected: depends on the data
time:     depends on the data; 1,000 sentences take seconds
command:  suite train text.classify --data reviews.csv --task.text review --task.label verdict
"""

from suite.data.preprocessing.ngrams import NGrams
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import ngrams
from suite.tasks.text.classification import TextClassification
from suite.tasks.text.defaults import ByLength


def experiment() -> Experiment:
    return Experiment(
        name="text.classify",
        task=TextClassification(data=Table(path=""), tokenizer=None, ngrams=NGrams(min_count=0, axis="")),
        model=ngrams.Config(),
        # Adagrad moves a rare n-gram as far at its first occurrence as a frequent one, and then ever less: what both
        # say of the class counts, as in the log-count ratios of naive Bayes.
        optim=Optim(learning_rate=0.1, tables="adagrad"),
        train=Train(epochs=0, batch_size=0, best="loss", patience=3, baseline=True),
        defaults=ByLength(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=0.02, high=0.5, log=True),
                Range(field="model.ngram_dropout", low=0.0, high=0.5),
                Choice(field="task.ngrams.words", among=(1, 2, 3)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2})
