"""Pictures out of noise under a condition, such as a class or a text: what all such tasks learn, make and measure.

Dims: b rows, h w height and width, c channels, d features, n training pictures, k numbers of steps.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.generation import IMAGE
from suite.contracts.artifact import Artifact
from suite.contracts.baseline import Baseline
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.contracts.task import Task
from suite.data.sources.memory import Subset, evenly_spaced, noted
from suite.decoding.flows import Edm, Flow, Method, sample
from suite.decoding.generation import row_keys
from suite.errors import InputError
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.metrics.distributions import set_scores
from suite.parallel.layout import for_rows
from suite.tasks.pictures import Pictures
from suite.tasks.vision.made_pictures import PictureRows, closest_copies
from suite.tasks.vision.picture_features import Features, features_of, name_of
from suite.tasks.vision.pixel_baseline import GaussianPixels

COURSE = (1, 5, 20, 50)
"""Numbers of steps that a report shows side by side."""
SHOWN = 12
"""Records whose pictures a report shows so."""
THUMBNAIL = 32
"""Longest side of the training pictures that are kept for a look."""


Condition = Any
"""What the pictures of a batch are to show: a tree of arrays (b, ...), or None where they have no condition."""


@dataclass(frozen=True, kw_only=True)
class ConditionalGeneration(Pictures, Task):
    """A network learns which way a noisy picture lies from the noise; asked, it goes that way from noise alone.

    Validation measures how well it learns that. Of the splits that are ``measured`` each record has a picture made of
    its condition, and both sets are compared in ``features``.
    """

    conditions: ClassVar[tuple[str, ...]]
    """Entries of a batch that the condition is made of."""
    kind: ClassVar[str]
    """What the condition is, in a word."""

    data: Data
    """Where the images come from."""
    process: Flow | Edm = field(default_factory=Flow)
    """From noise to picture: rectified flow, or EDM."""
    method: Method = "heun"
    """How a step is taken: heun (two evaluations of the network) or euler (one)."""
    steps: int = 20
    """Steps from noise to picture, where a request says no other number."""
    most_steps: int = 100
    """Most steps that a request may ask for."""
    guidance: float = 1.5
    """How strongly the condition counts, where a request says nothing: 0 not at all, 1 as it was learnt."""
    seed: int = 0
    """Draws the noise of a picture, together with the request's own."""
    features: str = ""
    """What pictures are compared in: folder of a run of an image classifier, or published weights of images. Empty: 8 x
    8 pixels, which say little."""
    measured: tuple[str, ...] = ("test",)
    """Splits of whose records pictures are made and compared, which takes long; of others the loss alone is known."""
    pictures: int = 10_000
    """Most records of such a split that are taken, evenly spaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("most_steps", "pictures"):
            if getattr(self, name) < 1:
                raise InputError(f"field task.{name}", "must be at least 1", found=str(getattr(self, name)))
        if not 1 <= self.steps <= self.most_steps:
            problem = f"must be from 1 to {self.most_steps}, which task.most_steps says"
            raise InputError("field task.steps", problem, found=str(self.steps))
        if self.views:
            problem = "are of pictures that are looked at, and here pictures are made."
            raise InputError("field task.views", problem, found=" ".join(self.views), fix="--task.views")

    @property
    @abstractmethod
    def conditional(self) -> bool:
        """Whether pictures have a condition at all."""

    @property
    @abstractmethod
    def dropout(self) -> float:
        """Share of training records whose condition is withheld."""

    @abstractmethod
    def condition(self, model: Any, batch: Batch) -> Condition:
        """What the picture of each row is to show. Jitted."""

    @abstractmethod
    def withheld(self, condition: Condition, rows: jax.Array) -> Condition:
        """The condition (b, ...), of these ``rows`` (b,) bool none. Jitted."""

    @abstractmethod
    def predicted(
        self, model: Any, noisy: jax.Array, time: jax.Array, condition: Condition, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """What the network predicts of noisy pictures (b, h, w, c) at ``time`` (b,). Jitted."""

    @abstractmethod
    def titles(self, columns: Columns, batch: Batch) -> Sequence[str]:
        """What each record (b,) is to show, for a reader. Host."""

    def judged(self, made: jax.Array, real: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """What a classifier's logits (b, n) of made and of real pictures say of the condition. Jitted."""
        return {}

    @property
    def protocol(self) -> str:
        guided = f", guidance {self.guidance:g}" if self.conditional else ""
        return f"{self.steps} steps ({self.method}){guided}; compared in {name_of(self.features)}"

    @property
    def _features(self) -> Features:
        return features_of(self.features)

    def measurable(self, opened: Source, split: str) -> Source:
        """The records of a split; of one that is measured at most ``pictures``."""
        if split not in self.measured or len(opened) <= self.pictures:
            return opened
        line = f"{self.pictures:,} of {len(opened):,} records, evenly spaced (task.pictures)"
        return noted(Subset(opened, evenly_spaced(opened, self.pictures)), (*opened.notes, line))

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        _ = self._features  # what cannot be opened is said here
        lines = []
        for split in [split for split in splits if split in self.measured]:
            lines.append(f"{split}: a picture is made of each of {len(splits[split]):,} records; {self.protocol}")
            lines += [] if self.features else [f"{split}: better features: --task.features RUN of vision.classify"]
        return lines

    def reference(self, split: str) -> Source | None:
        """All training records, with which the pictures of a measured split are compared; of training, those of
        validation."""
        if split not in self.measured:
            return None
        _ = self._features  # opened before a program is traced
        return self.source("train") if split != "train" else self.source("validation")

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        images, rows = batch["image"], batch["image"].shape[0]
        condition = self.condition(model, batch)
        if rngs is None:
            losses = self._losses(model, batch, *self._noise(batch, images.shape[1:]), condition, None)
        else:
            noise_key, level_key, condition_key = jax.random.split(rngs.dropout(), 3)
            normal = lambda key, shape: for_rows(lambda whole: jax.random.normal(key, whole), shape)
            if condition is not None:
                drop = for_rows(lambda whole: jax.random.bernoulli(condition_key, self.dropout, whole), (rows,))
                condition = self.withheld(condition, drop)
            drawn = normal(noise_key, images.shape), normal(level_key, (rows,))
            losses = self._losses(model, batch, *drawn, condition, rngs)
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def _losses(
        self, model: Any, batch: Batch, noise: jax.Array, level: jax.Array, condition: Condition, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Mean squared error (b,) of what is predicted of each picture."""
        given, time, wanted = self.process.example(_scaled(batch["image"]), noise, level)
        return jnp.square(self.predicted(model, given, time, condition, rngs) - wanted).mean((1, 2, 3))

    def _noise(self, batch: Batch, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Normal noise (b, ...) and levels (b,) of each row's seed alone."""
        keys = row_keys(batch["seed"], self.seed)
        draw = lambda key: (jax.random.normal(key, shape), jax.random.normal(jax.random.fold_in(key, 1)))
        return jax.vmap(draw)(keys)

    def _made(self, model: Any, batch: Batch, steps: jax.Array, guidance: jax.Array) -> jax.Array:
        """Pictures uint8 (b, h, w, c) of the rows' conditions, by their seeds."""
        noise, _ = self._noise(batch, self.statistics.shape)
        condition = self.condition(model, batch)
        if condition is not None:
            none = self.withheld(condition, jnp.ones(noise.shape[:1], bool))
            both = jax.tree.map(lambda *parts: jnp.concatenate(parts), condition, none)

        def network(noisy: jax.Array, time: jax.Array, doubled: bool) -> jax.Array:
            return self.predicted(model, noisy, time, both if doubled and condition is not None else condition)

        made = sample(self.process, network, noise, steps, guidance, self.method)
        return jnp.clip(jnp.round((made + 1) * 127.5), 0, 255).astype(jnp.uint8)

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        guidance = batch["guidance"] if "guidance" in batch else jnp.ones(batch["steps"].shape)
        return {IMAGE: self._made(model, batch, batch["steps"], guidance)}

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        images = batch["image"]
        height, width = (max(round(side * min(THUMBNAIL / max(images.shape[1:3]), 1)), 1) for side in images.shape[1:3])
        small = images
        if (height, width) != images.shape[1:3]:
            shape = (images.shape[0], height, width, images.shape[3])
            small = jnp.round(jax.image.resize(images.astype(jnp.float32), shape, "linear")).astype(jnp.uint8)
        return {"vector": self._features.describe(images)[0], "thumbnail": small}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        drawn = self._noise(batch, batch["image"].shape[1:])
        outputs = {"loss": self._losses(model, batch, *drawn, self.condition(model, batch), None)}
        if reference is None:
            return outputs
        rows = batch["seed"].shape
        every = lambda value, kind: jnp.full(rows, value, kind)
        made = self._made(model, batch, every(self.steps, jnp.int32), every(self.guidance, jnp.float32))
        count = len(reference["vector"])
        # As many training pictures in an order of chance: what is compared with the test beside those made.
        other = jnp.asarray(np.random.default_rng(0).permutation(count))[batch["seed"] % count]
        outputs |= self.compared(made, batch) | {"other_vector": reference["vector"][other]}
        nearest, outputs["distance"] = _nearest(outputs["vector"], reference["vector"])
        outputs["real_distance"] = _nearest(outputs["real_vector"], reference["vector"])[1]
        outputs |= {"made": made, "nearest": reference["thumbnail"][nearest], "course": self._course(model, batch)}
        return outputs

    def compared(self, made: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Features of made pictures (b, h, w, c) uint8 and of the records' own, and what `judged` says. Jitted."""
        features = self._features
        (vector, logits), (real_vector, real_logits) = map(features.describe, (made, batch["image"]))
        outputs = {"vector": vector, "real_vector": real_vector}
        if logits is not None and real_logits is not None:
            outputs |= self.judged(logits, real_logits, batch)
        return outputs

    def _course(self, model: Any, batch: Batch) -> jax.Array:
        """Pictures of the split's first records after each number of steps of `COURSE`, (b, k, h, w, c) uint8; of all
        others nothing, which costs nothing."""
        rows, few = batch["seed"].shape[0], min(SHOWN, batch["seed"].shape[0])
        empty = jnp.zeros((rows, len(COURSE), *self.statistics.shape), jnp.uint8)
        first = jnp.argsort(jnp.where(batch["mask"], batch["seed"], jnp.uint32(2**32 - 1)))[:few]

        def make() -> jax.Array:
            some: dict[str, Any] = {
                name: jnp.concatenate([batch[name][first]] * len(COURSE))
                for name in ("seed", *self.conditions)
                if name in batch
            }
            steps = jnp.repeat(jnp.asarray(COURSE, jnp.int32), few)
            made = self._made(model, some, steps, jnp.full(steps.shape, self.guidance, jnp.float32))
            return empty.at[first].set(made.reshape(len(COURSE), few, *made.shape[1:]).swapaxes(0, 1))

        return jax.lax.cond((batch["mask"] & (batch["seed"] < SHOWN)).any(), make, lambda: empty)

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        """``loss``; of measured splits ``fid``, ``kid``, ``precision`` and ``recall``, each also of real pictures
        (``_real``), ``agreement`` where something is `judged`, and ``copy_ratio``."""
        mask = np.asarray(batch["mask"])
        of = {name: np.asarray(value)[mask] for name, value in outputs.items()}
        rows = float(mask.sum())
        scores: dict[str, MetricState] = {}
        if "loss" in of:
            scores["loss"] = MetricState(of["loss"].astype(np.float64).sum(), rows)
        if "vector" in of:
            scores |= set_scores(of["real_vector"], of["vector"])
        if "other_vector" in of:
            scores |= set_scores(of["real_vector"], of["other_vector"], "_real")
        for name, output in (("agreement", "agrees"), ("agreement_real", "real_agrees")):
            if output in of:
                scores[name] = MetricState(float(of[output].sum()), rows)
        if "distance" in of:
            made, real = (float(of[name].astype(np.float64).sum()) for name in ("distance", "real_distance"))
            scores["copy_ratio"] = MetricState(made, real)
        return scores

    def baselines(self) -> Mapping[str, Baseline]:
        return {"Gaussian of pixels": GaussianPixels(jax.jit(self.compared), self.seed)}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        """Pictures by condition, by number of steps, and those that are nearest to a training picture."""
        if "made" not in outputs:
            return {}
        names = list(self.titles(columns, batch))
        shown = np.flatnonzero(np.asarray(batch["seed"]) < SHOWN)
        course = [(names[row], outputs["course"][row]) for row in shown]
        guided = f", guidance {self.guidance:g}" if self.conditional else ""
        return {
            f"Pictures by {self.kind}": PictureRows.by_name(
                f"Made in {self.steps} steps{guided}, in the order of their seeds.",
                zip(names, outputs["made"], strict=True),
            ),
            "Steps": PictureRows(
                f"The same noise after {', '.join(map(str, COURSE[:-1]))} and {COURSE[-1]} steps, from left to right.",
                tuple((name, tuple(pictures)) for name, pictures in course),
                SHOWN,
            ),
            "Nearest training pictures": closest_copies(outputs, names),
        }


def _scaled(images: jax.Array) -> jax.Array:
    """uint8 -> float32 from -1 to 1."""
    return images.astype(jnp.float32) / 127.5 - 1


def _nearest(vectors: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of vectors (b, d), the place (b,) of the nearest of others (n, d), and how far it is."""
    squares = jnp.square(others).sum(1) - 2 * jnp.matmul(vectors, others.T, precision="highest")
    place = squares.argmin(1)
    return place, jnp.linalg.norm(vectors - others[place], axis=1)


register_metric(
    "agreement", "Share of the pictures in which a classifier sees the class that was asked for.", "higher", share=True
)
register_metric("agreement_real", "The same of real pictures: the classifier's own accuracy.", share=True)
register_metric(
    "copy_ratio",
    "How far made pictures are from the nearest training picture, over how far real ones of the split are. Well below "
    "1, the model repeats what it has seen.",
    "near 1",
)
