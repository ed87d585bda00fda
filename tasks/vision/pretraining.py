"""Pre-training on images without labels: contrast of two views (SimCLR), and reconstruction of hidden patches (MAE)."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.codecs.vectors import ImageVectors
from suite.contracts.artifact import Artifact
from suite.contracts.batch import Batch, Columns
from suite.contracts.data import Data, Source
from suite.contracts.metric import MetricState
from suite.contracts.task import Task
from suite.data.preprocessing.columns import origin, require, unread_columns, with_files, without_broken_images
from suite.data.preprocessing.image import PixelStatistics
from suite.data.preprocessing.labels import UNSEEN, Labels
from suite.data.preprocessing.partners import Renamed, row_keys
from suite.data.random_views import RandomView
from suite.data.sources.files import Folder
from suite.data.sources.memory import Subset, evenly_spaced
from suite.data.sources.unlabelled import unlabelled
from suite.decoding.generation import row_keys as keys_of_rows
from suite.errors import InputError
from suite.evaluation.artifacts import Example, Gallery, Given, Spread
from suite.evaluation.contrast import two_view_losses, unit
from suite.evaluation.losses import masked_mean, tally
from suite.evaluation.probes import linear_classes, neighbour_classes, probe_scores
from suite.evaluation.vector_map import VectorMap, thumbnail
from suite.evaluation.views import mean_over_views
from suite.models.mae import images_of, patches_of
from suite.models.vit import ViT
from suite.nn.parted import in_parts
from suite.parallel.layout import for_rows
from suite.tasks.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class ProbedClasses(Labels):
    """Names of the classes that probes tell, where the data have any; nothing is learnt from them."""

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Writes the names to ``path``; none where there is no such column, or its values are no classes."""
        if column in source.schema:
            try:
                super().fit(source, column, path)
                return
            except InputError:  # remarks say that nothing is probed
                pass
        path.write_text('{"names": [], "indexed": false, "counts": []}', encoding="utf-8")

    @property
    def outputs(self) -> list[str]:
        """None: no output of the model is a class."""
        return []

    def sizes(self) -> dict[str, int]:
        """None."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Pretraining(Pictures, Task):
    """A model whose part ``image`` is to carry on elsewhere, learnt from images alone; other parts are thrown away.

    Where the data have classes, evaluations tell how well the vectors of ``image`` tell them: by the votes of the
    nearest training records, and by a linear probe. Labels take no part in training.
    """

    data: Data
    """Where the images come from."""
    label: str = "label"
    """Name of a column of classes, for probes alone. Data without it are not probed."""
    statistics: PixelStatistics = field(default_factory=lambda: PixelStatistics(part="image"))
    """Image size, channels, mean and deviation, learnt from the training split."""
    classes: ProbedClasses = field(default_factory=ProbedClasses)
    """Names of the classes, learnt from the training split."""
    probed: int = 5000
    """Training records, evenly spaced, that probes compare with. 0: no probe."""
    neighbours: int = 20
    """Training records that vote for a class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("probed", 0), ("neighbours", 1)):
            if getattr(self, name) < least:
                raise InputError(f"field task.{name}", f"must be at least {least}", found=str(getattr(self, name)))

    @property
    def codec(self) -> ImageVectors:
        return ImageVectors(image=self.image, statistics=self.statistics)

    @property
    def split_data(self) -> Data:
        data = self.data
        return (unlabelled(data) if isinstance(data, Folder) else data).with_classes(self.label)

    def source(self, split: str) -> Source:
        opened = self.split_data.open(split)
        require(opened, {"image": self.image}, origin(self.data))
        return without_broken_images(with_files(opened, self.image, self.data), self.image, *self.handling)

    def remarks(self, splits: Mapping[str, Source]) -> list[str]:
        train = splits.get("train")
        if train is None:
            return []
        lines = unread_columns(train, {self.image, self.label}, self.data)
        if self._probes:
            about = f'probed while it trains are {len(self.classes.names)} classes of column "{self.label}", which'
            return [f"{about} training does not see", *lines]
        why = "holds no classes" if self.label in train.schema else "is not in the data"
        return [f'no probe of classes: column "{self.label}" {why}', *lines] if self.probed else lines

    @property
    def _probes(self) -> bool:
        return bool(self.probed and self.classes.names)

    def encode(self, columns: Columns, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """What `targets` makes of the images; and of images that nothing is learnt from ``image`` uint8 (b, h, w, c)
        and, where classes are probed, ``label`` int32 (b,), -1 where it is none."""
        images = self.pixels(columns, rng)
        encoded = self.targets(images, rng)
        if rng is None:
            encoded["image"] = images
            if self._probes and self.label in columns:
                encoded["label"] = self.classes.encode(columns[self.label], held_out=True)
        return encoded

    @abstractmethod
    def targets(self, images: np.ndarray, rng: np.random.Generator | None) -> dict[str, Any]:
        """What is learnt from uint8 (b, h, w, c), by its key in the batch. Without ``rng`` it depends on the image
        alone. Host."""

    @abstractmethod
    def losses(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """``loss`` (b,) of each row, and what else is shown of it. Jitted."""

    def loss(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[jax.Array, dict[str, MetricState]]:
        losses = self.losses(model, batch, rngs)["loss"]
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def hidden(self, model: Any, batch: Batch) -> jax.Array:
        """The vectors (b, d) float32 that a classifier on top of the part ``image`` is given; with ``views``, the mean
        of the vectors of length one of all views. Jitted."""
        vectors = lambda images: model.image(images, rows=batch["mask"]).astype(jnp.float32)
        images = self.statistics.normalised(batch["image"])
        if not self.views:
            return vectors(images)
        return mean_over_views(lambda seen: unit(vectors(seen)), images, self.views)

    def predict(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        return {"vector": unit(self.hidden(model, batch))}

    def reference(self, split: str) -> Source | None:
        """Training records with a class, which probes compare with."""
        if split == "predict" or not self._probes:
            return None
        train = self.source("train")
        names = {self.image: self.image, self.label: self.label}
        return Renamed(Subset(train, evenly_spaced(train, self.probed)), names)

    def embed(self, model: Any, batch: Batch) -> dict[str, jax.Array]:
        return {"vector": self.hidden(model, batch), "label": batch["label"]}

    def evaluate(
        self, model: Any, batch: Batch, reference: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        vectors = self.hidden(model, batch)
        outputs = {**self.losses(model, batch, None), "vector": vectors}
        if reference is None:
            return outputs
        known, labels, count = reference["vector"], reference["label"], len(self.classes.names)
        outputs["neighbour"] = neighbour_classes(vectors, known, labels, count, self.neighbours)
        outputs["linear"] = linear_classes(vectors, known, labels, count)
        return outputs

    def score(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, reference: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, MetricState]:
        mask = np.asarray(batch["mask"])
        losses = np.asarray(outputs["loss"], np.float64)[mask]
        scores = {"loss": MetricState(float(losses.sum()), len(losses))}
        if "neighbour" not in outputs:
            return scores
        neighbour, linear = (np.asarray(outputs[name])[mask] for name in ("neighbour", "linear"))
        return {**scores, **probe_scores(neighbour, linear, np.asarray(batch["label"])[mask])}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        names = self.classes.names if self._probes else []
        labels = np.asarray(batch["label"]) if names and "label" in batch else np.full(len(batch["mask"]), UNSEEN)
        groups = [names[label] if label >= 0 else "" for label in labels.tolist()]
        given = [thumbnail(pixels) for pixels in batch["image"]]
        return {
            "Vectors": VectorMap.of(np.asarray(batch["seed"]), outputs["vector"], given, groups),
            "Loss of single images": Spread("loss", {"images": np.asarray(outputs["loss"], np.float64)}),
        }


@dataclass(frozen=True, kw_only=True)
class ContrastivePretraining(Pretraining):
    """Two random views of an image are to be near each other, and far from the views of all others of the batch
    (SimCLR, `Chen et al., 2020 <https://arxiv.org/abs/2002.05709>`_).

    The model has the parts ``image``, which gives vectors, and ``projector``, whose outputs are compared.
    """

    view: RandomView = field(default_factory=RandomView)
    """How a view is drawn."""
    temperature: float = 0.2
    """What cosines are divided by in the loss."""
    micro_batches: int = 1
    """Parts in which a batch passes through the model, to save memory; the views of all parts are compared with each
    other all the same. Batch norms take the statistics of a part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, right in (("temperature", self.temperature > 0), ("micro_batches", self.micro_batches >= 1)):
            if not right:
                least = "above 0" if name == "temperature" else "at least 1"
                raise InputError(f"field task.{name}", f"must be {least}", found=str(getattr(self, name)))

    @property
    def coupled(self) -> str:
        return "views of other records are negatives"

    def targets(self, images: np.ndarray, rng: np.random.Generator | None) -> dict[str, Any]:
        """``view`` and ``other_view`` uint8 (b, h, w, c); ``content`` (b, 2), keys of the images."""
        content = row_keys(images)
        if rng is not None:
            return {"view": self.view(images, rng), "other_view": self.view(images, rng), "content": content}
        own = [np.random.default_rng(key.view(np.uint32)) for key in content]
        drawn = [
            np.concatenate([images[:0], *(self.view(images[i : i + 1], rng) for i, rng in enumerate(own))])
            for _ in range(2)
        ]
        return {"view": drawn[0], "other_view": drawn[1], "content": content}

    def losses(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """``loss`` in nats; held out it depends on which records share a batch."""
        both = {
            "image": jnp.concatenate([batch["view"], batch["other_view"]]),
            "mask": jnp.concatenate([batch["mask"], batch["mask"]]),
        }

        def projected(model: Any, part: Batch, rngs: nnx.Rngs | None) -> jax.Array:
            images = self.statistics.normalised(part["image"])
            vectors = model.image(images, rows=part["mask"], rngs=rngs)
            return unit(model.projector(vectors, rows=part["mask"], rngs=rngs))

        rows = len(both["mask"])
        if rows % self.micro_batches:
            raise InputError(
                "field task.micro_batches", "must divide the views of a batch", found=f"{rows} views on a device"
            )
        vectors = in_parts(model, projected, both, self.micro_batches, None if rngs is None else rngs.dropout())
        first, second = jnp.split(vectors, 2)
        return {"loss": two_view_losses(first, second, batch, self.temperature)}


@dataclass(frozen=True, kw_only=True)
class MaskedPretraining(Pretraining):
    """Most patches of an image are hidden, and their pixels reconstructed from the others (MAE, `He et al., 2021
    <https://arxiv.org/abs/2111.06377>`_).

    The model has the parts ``image``, a vision transformer that looks at the visible patches alone, and ``decoder``.
    """

    hidden_share: float = 0.75
    """Share of the patches that are hidden."""
    seed: int = 0
    """Draws the patches that are hidden of held-out images, together with the record's place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.hidden_share < 1:
            raise InputError(
                "field task.hidden_share", "must lie between 0 and 1", found=f"{self.hidden_share:g}", fix="0.75"
            )

    def targets(self, images: np.ndarray, rng: np.random.Generator | None) -> dict[str, Any]:
        """``image`` uint8 (b, h, w, c)."""
        return {"image": images}

    def losses(self, model: Any, batch: Batch, rngs: nnx.Rngs | None) -> dict[str, jax.Array]:
        """``loss``: mean squared error over the pixels of the hidden patches, each patch of zero mean and unit
        variance. Held out also ``picture`` uint8 (b, h, w, c), the hidden patches as they are reconstructed with the
        brightness and contrast of the true ones, and ``hidden`` (b, n), which patches these are."""
        if not isinstance(model.image, ViT):
            family = type(model.image).__module__
            raise InputError(
                "field model.parts.image", "must be a vision transformer, which sees patches.", found=family
            )
        images, count, patch = self.statistics.normalised(batch["image"]), model.decoder.patches, model.decoder.patch
        rows = images.shape[0]
        if rngs is not None:
            key = rngs.dropout()
            draws = for_rows(lambda shape: jax.random.uniform(key, shape), (rows, count))
        else:
            draws = jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys_of_rows(batch["seed"], self.seed))
        visible = max(round((1 - self.hidden_share) * count), 1)
        order = jnp.argsort(draws, axis=1)
        places = jnp.argsort(order, axis=1)
        vectors = model.image.features(images, rngs, order[:, :visible])
        answered = model.decoder(vectors, places, rngs=rngs).astype(jnp.float32)
        pixels = patches_of(images, patch)
        mean, deviation = pixels.mean(-1, keepdims=True), jnp.sqrt(pixels.var(-1, keepdims=True) + 1e-6)
        hidden = (places >= visible).astype(jnp.float32)
        errors = jnp.square(answered - (pixels - mean) / deviation).mean(-1)
        losses = (errors * hidden).sum(1) / jnp.maximum(hidden.sum(1), 1)
        if rngs is not None:
            return {"loss": losses}
        whole = jnp.where(hidden[..., None] > 0, answered * deviation + mean, pixels)
        colours = images_of(whole, model.decoder.grid, patch) * self.statistics.std + self.statistics.mean
        picture = jnp.clip(jnp.round(255 * colours), 0, 255).astype(jnp.uint8)
        return {"loss": losses, "picture": picture, "hidden": hidden > 0}

    def artifacts(self, columns: Columns, outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, Artifact]:
        # An even sample of the split, by the records' places alone.
        draws = np.asarray(batch["seed"], np.int64) * 2654435761 % 2**32 / 2**32
        about = (
            "Images drawn evenly from the split, what the encoder saw of each, and the whole with the hidden patches "
            "as the decoder answers them, each with the brightness and contrast of the true one."
        )
        show = self._reconstructed(outputs, batch, draws)
        return {**super().artifacts(columns, outputs, batch), "Reconstructions": Gallery.worst(about, draws, show)}

    def _reconstructed(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, draws: np.ndarray
    ) -> Callable[[int], Example]:
        height, width, _ = self.statistics.shape

        def show(i: int) -> Example:
            pixels, hidden = batch["image"][i], np.asarray(outputs["hidden"][i])
            patch = round((height * width / len(hidden)) ** 0.5)
            grid = hidden.reshape(height // patch, width // patch)
            over = np.repeat(np.repeat(grid, patch, 0), patch, 1)[..., None]
            seen = np.where(over, np.uint8(128), pixels)
            shown: Given = {
                "image": thumbnail(pixels),
                "visible": thumbnail(seen),
                "reconstructed": thumbnail(np.asarray(outputs["picture"][i])),
            }
            return Example(shown, "", "", float(draws[i]), f"loss {float(outputs['loss'][i]):.3f}")

        return show
