"""Defaults of table prediction: which parts the columns need, and how large and how long, by the number of records."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from suite.contracts.data import Data, Source
from suite.contracts.defaults import Chosen, Defaults, batch_size
from suite.data.preprocessing.columns import with_files
from suite.data.reading import present
from suite.data.recordings import extent
from suite.data.sources.memory import evenly_spaced
from suite.tasks.table.prediction import MOST_SECONDS, TablePrediction

PARTS = {
    "text": (("ngrams", "tokenizer"), "texts"),
    "image": (("statistics",), "pictures"),
    "audio": (("features",), "recordings"),
}
"""Part of the model -> the preprocessors that may state its sizes, and what it reads."""

EVALUATED = 64
"""Records an evaluation batch, where there are pictures or recordings."""
INTERACTION = 64
"""Width of the space in which vectors of a text, a picture and a recording meet."""
LOOKED_AT = 2000
"""Records whose recordings are looked at."""
AVERAGED = 2
"""Parameters are averaged over about one in so many parts of an epoch, which evaluation then sees: patience may end
training before the learning rate has fallen."""
MANY = 30_000
"""Records from which on a table is passed over as few times as any."""
BATCHES = 100
"""Batches that the training split makes at the least, until one has `SMALLEST` records."""
SMALLEST, LARGEST = 32, 256


@dataclass(frozen=True, kw_only=True)
class TableDefaults(Defaults):
    """Parts by the kinds of columns; batch size and epochs by the number of records."""

    text_rate: float = 0.01
    """Factor on the learning rate of the part for texts: Adam moves a rare n-gram as far as a frequent one at each
    occurrence."""
    text_frozen: tuple[str, ...] = ()
    """Parameters of the part for texts that training leaves alone."""
    image_rate: float = 1.0
    """Factor on the learning rate of the part for pictures, but for its head."""
    number_epochs: tuple[float, float] = (20.0, 60.0)
    """Passes over a large table and over a small one where a number is predicted."""
    class_epochs: float = 12.0
    """Passes where classes or labels are predicted, which a network soon knows by heart."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        task: TablePrediction = experiment.task
        guesses = task.fields.judged(train, task.target)
        widths, light, rates = [], True, []
        for part, (preprocessors, what) in PARTS.items():
            names = getattr(task, f"{part}_columns") or tuple(guess.name for guess in guesses if guess.kind == part)
            if part not in experiment.model.parts:
                continue
            if not names:
                yield Chosen(f"model.parts.{part}", None)
                yield from (Chosen(f"task.{preprocessor}", None) for preprocessor in preprocessors)
                if part in _starts(experiment):
                    yield Chosen(f"checkpoint.init_from.{part}", None, f"no column of {what}")
                continue
            yield Chosen(f"task.{part}_columns", names, f"{what} in {', '.join(names)}")
            config = experiment.model.parts[part]
            width = config.outputs or config.width
            widths.append(width * (1 if part == "text" else len(names)))
            light = light and part == "text"
            if part == "text":
                rates.append((r"^text/", self.text_rate))
                yield Chosen("optim.frozen", self.text_frozen)
            if part == "image" and self.image_rate != 1:
                rates.append((r"^image/(?!head/)", self.image_rate))
            if part == "audio":
                seconds = _longest(train, names, task.data)
                yield Chosen("task.max_seconds", seconds, f"the longest recording, at most {MOST_SECONDS:g}")
        if rates:
            yield Chosen("optim.rates", tuple(rates))
        if len(widths) > 1:
            yield Chosen("model.parts.table.interaction", INTERACTION, "what two kinds of columns say together")
        if widths:
            yield Chosen("model.parts.table.vectors", tuple(widths))
        number = task.answer.judged(train, task.target).problem == "number"
        yield from self._course(len(train), self.number_epochs if number else (self.class_epochs,) * 2, light)

    def _course(self, records: int, epochs: tuple[float, float], light: bool) -> Iterable[Chosen]:
        batch = batch_size(records, BATCHES, SMALLEST, LARGEST)
        few, many = epochs
        passes = round(min(max(few * (MANY / max(records, 1)) ** 0.5, few), many))
        evaluated = 4096 if light else EVALUATED
        yield Chosen("train.eval_batch_size", evaluated)
        yield Chosen("train.ema", round(min(max(1 - AVERAGED * batch / max(records, 1), 0.9), 0.999), 4))
        yield Chosen("train.batch_size", batch, f"{records:,} training records")
        yield Chosen("train.epochs", float(passes), f"{records:,} training records; patience may end it earlier")


def _longest(train: Source, names: tuple[str, ...], data: Data) -> float:
    """Seconds of the longest recording of some columns, by their headers, in tenths, at most `MOST_SECONDS`."""
    rows = evenly_spaced(train, LOOKED_AT)
    columns = [with_files(train, name, data).column(name, rows) for name in names]
    values = [value for column in columns for value in present(column)]
    longest = max((extent(value)[0] for value in values), default=MOST_SECONDS)
    return min(math.ceil(10 * longest) / 10, MOST_SECONDS)


def _starts(experiment: Any) -> Mapping[str, str]:
    """What each part starts from, where that is stated by part."""
    start = experiment.checkpoint.init_from
    return start if isinstance(start, Mapping) else {}
