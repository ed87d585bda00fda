"""Your own texts and a number: a CSV, TSV, JSONL or Parquet file, such as reviews with their stars.

source:   your file, split 80/10/10 by a seeded hash
data:     columns text and target, or others named by --task.text and --target
expected: depends on the data
time:     depends on the data; 1,000 sentences take seconds
command:  suite train text.regress --data reviews.csv --task.text review --target stars
"""

from suite.data.preprocessing.ngrams import NGrams
from suite.data.preprocessing.target import Target
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import ngrams
from suite.tasks.text.defaults import ByLength
from suite.tasks.text.prediction import TextPrediction


def experiment() -> Experiment:
    return Experiment(
        name="text.regress",
        task=TextPrediction(
            data=Table(path=""), answer=Target(problem="number"), tokenizer=None, ngrams=NGrams(min_count=0, axis="")
        ),
        model=ngrams.Config(),
        optim=Optim(learning_rate=0.03, tables="adagrad"),
        train=Train(epochs=0, batch_size=0, best="loss", patience=3),
        defaults=ByLength(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=0.005, high=0.3, log=True),
                Range(field="model.ngram_dropout", low=0.0, high=0.5),
                Choice(field="task.ngrams.words", among=(1, 2, 3)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(experiment(), {"train.steps": 6, "train.log_every": 2})
