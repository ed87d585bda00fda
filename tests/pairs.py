"""A task and a model of two parts, outside the suite's packages: does an answer repeat a word of its question?

Questions run along the default axis, answers along one of their own. Each has a tokenizer of the same kind, which
states the sizes of its part. For tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.answers import class_answers, class_outputs
from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec, Input, Output
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.characters import Characters
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.data.sources.memory import Memory
from suite.evaluation.losses import cross_entropy, masked_mean, tally
from suite.evaluation.metrics.classification import classification_scores
from suite.experiment.sections import Experiment, Optim, Train
from suite.models import transformer
from suite.models.parts import Parts

QUESTIONS, ANSWERS = "abcdefgh", "abcdefghxyz"
"""The letters of each: two alphabets, so that the tokenizers differ in size."""


def records(count: int, seed: int) -> Memory:
    """Questions of up to 12 letters, answers of up to 40; half of the answers begin as their question does."""
    rng = np.random.default_rng(seed)
    said = lambda letters, most: "".join(rng.choice(list(letters), rng.integers(2, most + 1)))
    questions, labels = [said(QUESTIONS, 12) for _ in range(count)], rng.integers(0, 2, count)
    answers = [(text[0] if label else "x") + said(ANSWERS, 39) for text, label in zip(questions, labels, strict=True)]
    columns = {"question": questions, "answer": answers, "label": labels.astype(np.int32)}
    return Memory(columns, {"question": "text", "answer": "text", "label": "int"})


@dataclass(frozen=True, kw_only=True)
class MadePairs(Data):
    """Pairs by split; validation and test have 40 each."""

    examples: int = 96

    def open(self, split: str) -> Source:
        return records(self.examples if split == "train" else 40, {"train": 0, "validation": 1, "test": 2}[split])


@dataclass(frozen=True, kw_only=True)
class Pairs(Codec):
    """A question and an answer in, whether they belong together out."""

    questions: Characters | Tokenizer
    answers: Characters

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (Input(name="question", kind="text"), Input(name="answer", kind="text"))

    @property
    def longest(self) -> int:
        return 16

    @property
    def outputs(self) -> tuple[Output, ...]:
        return class_outputs(["apart", "together"])

    def encode(self, columns: Columns) -> dict[str, Any]:
        question = self.questions.encode([str(text) for text in columns["question"]], 16)
        answer = self.answers.encode([str(text) for text in columns["answer"]], 64)
        return {"question": question, "answer": replace(answer, axis="answer")}

    def decode(self, outputs: Mapping[str, np.ndarray], columns: Columns) -> Sequence[dict[str, Any]]:
        return class_answers(outputs["logits"], ["apart", "together"])


@dataclass(frozen=True, kw_only=True)
class Matching(Task):
    """Whether a question and an answer belong together: the product of their vectors."""

    question: str = "question"
    answer: str = "answer"
    questions: Characters = field(default_factory=lambda: Characters(column="question", part="question"))
    answers: Characters = field(default_factory=lambda: Characters(column="answer", part="answer"))
    examples: int = 96

    @property
    def codec(self) -> Pairs:
        return Pairs(questions=self.questions, answers=self.answers)

    @property
    def data(self) -> "MadePairs":  # type: ignore[override]  # made of a field of the task
        return MadePairs(examples=self.examples)

    def source(self, split: str) -> Source:
        return self.data.open(split)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        encoded = self.codec.encode(columns)
        if "label" in columns:
            encoded["label"] = np.asarray(columns["label"], np.int32)
        return encoded

    def _logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        asked = model.question(batch["question"], batch["question_mask"], rngs=rngs)
        told = model.answer(batch["answer"], batch["answer_mask"], rngs=rngs)
        likeness = (asked * told).mean(-1)
        return jnp.stack([jnp.zeros_like(likeness), likeness], -1)

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        losses = cross_entropy(self._logits(model, batch, rngs), batch["label"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def predict(self, model: Any, batch: Batch, reference: Any = None) -> dict[str, jax.Array]:
        return {"logits": self._logits(model, batch)}

    def score(self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Any = None) -> dict[str, MetricState]:
        return classification_scores(outputs, batch)


@dataclass(frozen=True, kw_only=True)
class Alone(Matching):
    """The same of the answer alone, by a model that has no parts: both tokenizers index its one table."""

    questions: Characters | Tokenizer = field(default_factory=partial(Characters, column="answer", shares=True))
    answers: Characters = field(default_factory=partial(Characters, column="answer"))

    def _logits(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        likeness = model(batch["answer"], batch["answer_mask"], rngs=rngs).mean(-1)
        return jnp.stack([jnp.zeros_like(likeness), likeness], -1)


def tower(**changes: Any) -> transformer.Config:
    """A small encoder that gives a vector of 16 numbers."""
    defaults: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 32, "outputs": 16}
    return transformer.Config(**{**defaults, **changes})


def experiment(**train: Any) -> Experiment:
    """96 records in batches of 16; two towers, the second one deeper."""
    defaults = {"steps": 12, "batch_size": 16, "log_every": 4, "eval_every": 6}
    return Experiment(
        name="pairs",
        task=Matching(),
        model=Parts(parts={"question": tower(), "answer": tower(layers=2)}),
        optim=Optim(learning_rate=1e-2),
        train=Train(**{**defaults, **train}),
    )
