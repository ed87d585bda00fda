"""Your own table: any column predicted from all others, numbers, categories, dates, texts, pictures and recordings.

source:   your file, split 80/10/10 by a seeded hash where it has no splits
data:     a CSV, TSV, JSONL or Parquet file; --target names the column to predict
expected: depends on the data
time:     depends on the data
command:  suite train table.predict --data houses.csv --target price
"""

from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.ngrams import NGrams
from suite.data.sources.datasets import Table
from suite.experiment.goal import Choice, Range, Search
from suite.experiment.sections import Experiment, Optim, Train
from suite.experiment.sections import replace as changed
from suite.models import audio, ngrams, resnet, tabular
from suite.models.parts import Parts
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.table.defaults import TableDefaults
from suite.tasks.table.prediction import TablePrediction


def experiment() -> Experiment:
    return Experiment(
        name="table.predict",
        task=TablePrediction(
            data=Table(path=""),
            ngrams=NGrams(column="text_columns", part="text", axis="", min_count=3, most=50_000, max_ngrams=512),
            statistics=PixelStatistics(column="image_columns", part="image", size=(64, 64), channels=3),
            features=AudioFeatures(column="audio_columns", part="audio", front_end=LogMel(fft=512, bins=64)),
        ),
        model=Parts(
            parts={
                "table": tabular.Config(),
                "text": ngrams.Config(outputs=32, ngram_dropout=0.2),
                "image": resnet.small(
                    stem_stride=2, stem_width=32, blocks=(1, 1, 1), widths=(32, 64, 128), dropout=0.2, outputs=64
                ),
                "audio": audio.Config(layers=2, width=64, pooling="mean", outputs=64),
            }
        ),
        # Rows of categories and n-grams are averaged (train.ema) like any other parameter.
        optim=Optim(learning_rate=2e-3, warmup_fraction=0.05, weight_decay=0.01, end_fraction=0.02, tables="dense"),
        train=Train(epochs=0, batch_size=0, best="loss", patience=12, baseline=True),
        defaults=TableDefaults(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=5e-4, high=5e-3, log=True),
                Range(field="optim.weight_decay", low=1e-4, high=0.3, log=True),
                Range(field="model.parts.table.dropout", low=0.0, high=0.5),
                Choice(field="model.parts.table.members", among=(4, 8, 16)),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 6,
            "train.log_every": 2,
            "model.parts.table.hidden": (16,),
            "model.parts.table.members": 2,
            "model.parts.image.stem_width": 16,
            "model.parts.image.widths": (16, 16, 16),
            "model.parts.audio.width": 16,
            "model.parts.audio.layers": 1,
        },
    )
