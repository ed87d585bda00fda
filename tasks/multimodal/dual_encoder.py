"""Dual encoders: media, which are pictures or recordings, and texts as vectors in one space, near each other where they
belong together.

Dims: b media, k texts of each, t tokens, n media of a pool, i width of an encoder's vectors, d width of the space.
"""

import shlex
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.matching import token_rows
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.codec import Codec
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Program, Task
from suite.data.preprocessing.captioned import CaptionedRows, captioned, remark_on_shared
from suite.data.preprocessing.items import FIRST
from suite.data.preprocessing.partners import keys
from suite.data.preprocessing.tokenizers import Published, Tokenizer
from suite.data.sources.captions import identity
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Given, Spread
from suite.evaluation.contrast import in_batch_losses, unit
from suite.evaluation.correlation import canonical_correlation
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.pairing import pairing_scores, pool_ranks, sigmoid_losses
from suite.evaluation.recommendation import best_items, padded
from suite.tasks.kept_vectors import Kept, kept_texts, text_vectors

Objective = Literal["softmax", "sigmoid", "cca"]
Side = Literal["image", "audio", "text"]
NAME = "name"
"""Input of a catalogue: what a medium is called."""


@dataclass(frozen=True, kw_only=True)
class Matching(Task):
    """A dual encoder: one of media, one of texts, and heads that bring both into one space.

    Rows are of a medium and a text; those of one medium are one record, of which training draws one text a time. All
    texts of a medium are right. Media are in one split with all of their texts. The model has the parts `side`,
    ``text`` and ``heads``.
    """

    side: ClassVar[Side]
    """The part of the model that encodes media, and the head of its vectors."""
    things: ClassVar[str]
    """What media are, in words: the column that names them, and the preprocessor that holds their names."""

    data: Data
    """Where the rows come from."""
    text: str = "caption"
    """Name of the column of texts."""
    tokenizer: Tokenizer = field(default_factory=lambda: Published(part="text"))
    """Pieces: learnt from the training split, or those of published weights."""
    max_length: int = 32
    """Tokens a text is cut at."""
    texts: int = 5
    """Texts of a medium that are read where it is evaluated; training draws from all."""
    objective: Objective = "softmax"
    """softmax: cross-entropy of each side among the other sides of the batch, both ways (CLIP). sigmoid: each pair by
    itself, right or wrong (SigLIP). cca: linear heads in closed form, by regularised canonical correlation."""
    ridge: float = 5.0
    """Share of their mean variance that is added to the variance of every feature of media, of cca."""
    text_ridge: float = 1.0
    """The same of texts."""
    frozen: tuple[Side, ...] = ()
    """Encoders that training leaves as they are, and runs as in prediction. Empty: by optim.frozen."""
    text_weights: str = ""
    """Published weights that the encoder of texts is frozen at: its vectors are computed once, and kept. Empty: by
    checkpoint.init_from and optim.frozen."""
    prompt: str = "{}"
    """Text that a label is put into, in the place of {}, where a medium is given labels."""
    top: int = 10
    """Media that an answer names."""

    def __post_init__(self) -> None:
        check = getattr(super(), "__post_init__", None)
        if check is not None:  # of what media share with other tasks
            check()
        for name in ("texts", "top", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"field task.{name}", "must be at least 1", found=str(getattr(self, name)))
        if "{}" not in self.prompt:
            problem = "has no {} that a label takes the place of."
            raise InputError("field task.prompt", problem, found=self.prompt, fix=f"--task.prompt {shlex.quote('{}')}")
        for name in ("ridge", "text_ridge"):
            if (share := getattr(self, name)) <= 0:
                fix = f"--task.{name} 1"
                raise InputError(f"field task.{name}", "must be above 0", found=f"{share:g}", fix=fix)

    @property
    def medium(self) -> str:
        """Name of the column of media."""
        name: str = getattr(self, self.side)
        return name

    @property
    def listed(self) -> str:
        """Column that names the medium of a record."""
        return self.things

    @property
    @abstractmethod
    def catalogue(self) -> Codec:
        """Codec of a medium of the catalogue and its name."""

    @property
    @abstractmethod
    def judge(self) -> Codec:
        """Codec of a medium and labels in any words."""

    @abstractmethod
    def usable(self, records: Source) -> Source:
        """The records whose medium can be read; the others are dropped and counted. Host."""

    @abstractmethod
    def media(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Media as the encoder is given them, or their kept vectors ``<side>_vector`` float32 (b, i). Host."""

    @abstractmethod
    def encoded(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Vectors (b, i) of media. Jitted."""

    @abstractmethod
    def given(self, columns: Columns, batch: Batch) -> Callable[[int], Given]:
        """A medium of the batch, by place, for a reader. Host."""

    def programs(self) -> dict[str, Program]:
        """``predict``: a text ranks the media of a catalogue; ``labels``: a medium and labels, probabilities."""
        return {"predict": Program(self.predict, self.codec), "labels": Program(self.labelled, self.judge)}

    @property
    def protocol(self) -> str:
        """The loss, and what is ranked."""
        return (
            f"loss: {self.objective}; candidates: all {self.things} and up to {self.texts} texts of each of the split"
        )

    @property
    def split_data(self) -> Data:
        return CaptionedRows(rows=self.data, side=self.side, medium=self.medium, text=self.text, things=self.things)

    def source(self, split: str) -> Source:
        return self.usable(captioned(self.data, split, self.side, self.medium, self.text, self.things))

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        lines = []
        for split, source in splits.items():
            counts = np.array([len(row) for row in source.column(self.text, np.arange(len(source)))])
            read = int(np.minimum(counts, self.texts).sum())
            pool = "" if split == "train" else f", which are ranked: a pool of {len(source):,} and {read:,}"
            lines.append(f"{split}: {len(source):,} {self.things}, {int(counts.sum()):,} texts{pool}")
            if split != "train" and read < counts.sum():
                left = int(counts.sum()) - read
                lines.append(f"{split}: {left:,} texts beyond the first {self.texts} of each are left out (task.texts)")
        return lines + remark_on_shared(list(splits.values()), self.things)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """`media`, `token_rows` of texts, and ``content`` (b, 2), keys of media. Training has one text of each medium,
        k = 1. Where vectors of texts are kept, there is ``text_vector`` (b, k, i) beside them."""
        known = [identity(value) for value in columns[self.medium]]
        encoded: dict[str, Any] = {"content": keys([one.encode("utf-8", "surrogatepass") for one in known])}
        encoded |= self.media(columns, rng)
        lists, most = [list(row) for row in columns[self.text]], self.texts
        every, kept = lists, self.kept_texts
        if rng is not None:
            lists, most = [[row[rng.integers(len(row))]] for row in lists], 1
        encoded |= token_rows(self.tokenizer, lists, self.max_length, most)
        if kept is not None:
            if rng is not None:  # of all texts at once, be they drawn in this epoch or in a later one
                self._text_vectors(kept, every)
            real, own = encoded["texts_real"], self._text_vectors(kept, [row[:most] for row in lists])
            vectors = np.zeros((*real.shape, own.shape[-1]), np.float32)
            vectors[real] = own
            encoded["text_vector"] = vectors
        return encoded

    def _text_vectors(self, kept: Kept, lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Vectors (n, i) of all texts of the lists, end to end."""
        return text_vectors(kept, [text for row in lists for text in row], self.tokenizer, self.max_length)

    def encode_reference(self, columns: Columns) -> dict[str, Any]:
        """Of a split as ``encode``; of the catalogue of prediction as its codec."""
        return self.encode(columns) if self.text in columns else self.catalogue.encode(columns)

    @property
    def kept_texts(self) -> Kept | None:
        """Vectors of texts, where the encoder is frozen at published weights."""
        if not self.text_weights or not self.tokenizer.file:
            return None
        return kept_texts(self.text_weights, self.tokenizer.file, self.max_length)

    def vectors(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Vectors (b, d) of length one of media. Jitted."""
        vectors = self._raw_media(model, batch, None if self.side in self.frozen else rngs)
        return unit(getattr(model.heads, self.side)(self._still(self.side, vectors), rngs=rngs))

    def text_vectors(self, model: Any, batch: Batch, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Vectors (b, k, d) of length one. Jitted."""
        vectors = self._raw_texts(model, batch, None if "text" in self.frozen else rngs)
        headed = model.heads.text(self._still("text", vectors), rngs=rngs)
        return unit(headed.reshape(-1, headed.shape[-1])).reshape(headed.shape)

    def _raw_media(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> jax.Array:
        """What the encoder says (b, i)."""
        kept: jax.Array | None = batch.get(f"{self.side}_vector")
        return self.encoded(model, batch, rngs) if kept is None else kept

    def _raw_texts(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> jax.Array:
        """What the encoder says (b, k, i)."""
        if "text_vector" in batch:
            kept: jax.Array = batch["text_vector"]
            return kept
        b, k, t = batch["texts"].shape
        flat = model.text(batch["texts"].reshape(b * k, t), batch["texts_mask"].reshape(b * k, t), rngs=rngs)
        vectors: jax.Array = flat.reshape(b, k, -1)
        return vectors

    def _still(self, side: Side, vectors: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(vectors) if side in self.frozen else vectors

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        media, texts = self.vectors(model, batch, rngs), self.text_vectors(model, batch, rngs)[:, 0]
        rows: Batch = {**batch, "other_content": batch["texts_content"][:, 0]}
        heads = model.heads
        if self.objective == "sigmoid":
            losses = sigmoid_losses(media, texts, rows, heads.sharpness(), heads.bias[...])
        else:
            losses = in_batch_losses(media, texts, rows, 1 / heads.sharpness())
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def reference(self, split: str) -> Source | None:
        if split != "predict":
            return self.source(split)
        train = self.source("train")
        every = np.arange(len(train))
        place = {row[0]: i for i, row in enumerate(train.column(self.things, every))}
        names = getattr(self, self.things).names
        order = np.array([place[name] for name in names])
        return Memory({NAME: list(names), self.medium: train.column(self.medium, order)})

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        vectors = {"vector": self.vectors(model, batch)}
        if "texts" not in batch:
            return vectors
        same = {name: batch[name] for name in ("content", "texts_content", "texts_real")}
        return {**vectors, "texts": self.text_vectors(model, batch), **same}

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        assert reference is not None
        texts = self._asked_texts(model, batch)
        table = jnp.pad(reference["vector"], ((FIRST, 0), (0, 0)))
        none = jnp.zeros((texts.shape[0], 1), jnp.int32)
        places = self.top
        if isinstance(size := table.shape[0], int):  # else any number of media, which are ranked in blocks
            places = min(places, size - FIRST)
        items, scores = padded(*best_items(texts, table, none, places))
        short = self.top - items.shape[1]
        items, scores = (jnp.pad(values, ((0, 0), (0, short))) for values in (items, scores))
        return {"top": items, "score": scores}

    def _asked_texts(self, model: Any, batch: Batch) -> jax.Array:
        """Vectors (b, d) of the texts of requests. Jitted."""
        one = {"texts": batch["tokens"][:, None], "texts_mask": batch["tokens_mask"][:, None]}
        return self.text_vectors(model, {**batch, **one})[:, 0]

    def explained(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``logits`` (b, n) of a text among the media of the catalogue. Jitted."""
        assert reference is not None
        texts = replace(self, frozen=())._asked_texts(model, batch)  # a frozen encoder has derivatives, too
        return {"logits": model.heads.sharpness() * texts @ reference["vector"].T}

    def labelled(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        """``probability`` (b, k) of each label. Jitted."""
        heads = model.heads
        media, texts = self.vectors(model, batch), self.text_vectors(model, batch)
        logits = heads.sharpness() * jnp.einsum("bd,bkd->bk", media, texts)
        if self.objective == "sigmoid":
            return {"probability": jax.nn.sigmoid(logits + heads.bias[...])}
        return {"probability": jax.nn.softmax(jnp.where(batch["texts_real"], logits, -jnp.inf), -1)}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        assert reference is not None
        return pool_ranks(self.vectors(model, batch), self.text_vectors(model, batch), batch, reference)

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        ranks, text_ranks = (np.asarray(outputs[name])[mask] for name in ("image_rank", "text_rank"))
        return pairing_scores(ranks, text_ranks, np.asarray(batch["texts_real"])[mask], self.side)

    @property
    def solved(self) -> tuple[str, ...]:
        return ("train",) if self.objective == "cca" else ()

    def solve(self, model: Any, batches: Any) -> Mapping[str, Any]:
        """Linear heads by canonical correlation of the vectors of all pairs of a medium and a text."""
        if getattr(model.heads, self.side).hidden is not None:
            fix = "--model.parts.heads.hidden 0"
            raise InputError("field model.parts.heads.hidden", "is above 0, and cca solves linear heads.", fix=fix)
        graph, state = nnx.split(model)
        features = jax.jit(lambda state, batch: self._normed(nnx.merge(graph, state), batch))
        media, texts = [], []
        for batch in batches():
            own, said = map(np.asarray, features(state, batch))
            real = np.asarray(batch["texts_real"]) & np.asarray(batch["mask"])[:, None]
            media.append(np.repeat(own, real.sum(-1), 0))
            texts.append(said[real])
        width = model.heads.text.project.kernel.shape[-1]
        ridges = self.ridge, self.text_ridge
        solution = canonical_correlation(np.concatenate(media), np.concatenate(texts), width, ridges)
        names = ((side, name) for side in (self.side, "text") for name in ("kernel", "bias"))
        return {f"heads/{side}/project/{name}": value for (side, name), value in zip(names, solution, strict=True)}

    def _normed(self, model: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """What the linear maps of the heads are given, (b, i) and (b, k, i)."""
        media, texts = self._raw_media(model, batch, None), self._raw_texts(model, batch, None)
        return getattr(model.heads, self.side).norm(media), model.heads.text.norm(texts)

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        right, wrong = (np.asarray(outputs[name], np.float64) for name in ("right", "wrong"))
        ranks = np.asarray(outputs["image_rank"], np.float64)
        given = self.given(columns, batch)

        def show(place: int) -> Example:
            note = f"cosine {right[place]:.3f}, of the nearest text of another {wrong[place]:.3f}"
            said = str(columns[self.text][place][0])
            return Example(given(place), said, f"rank {int(ranks[place]):,}", ranks[place], note)

        about = f"The {self.things} the first of whose texts ranks last among all texts of the split."
        return {
            "Cosines": Spread("cosine", {"with a text of its own": right, "with the nearest other": wrong}),
            f"{self.things.capitalize()} ranked worst": Gallery.worst(about, np.where(ranks > 1, ranks, np.nan), show),
        }
