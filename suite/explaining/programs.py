"""Functions of a model that explanations are made of, as programs: jitted for a run, exported for a bundle.

Dims: b rows, c classes, l tokens, h heads.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.task import Task
from suite.data.preprocessing.decision import EVEN, Decision
from suite.explaining.entries import Entries, Entry, kept_shape, spread
from suite.nn.attention_weights import weighed
from suite.nn.hooks import hooks

KEEP, OTHER, CLASS, ANSWERED = "keep_", "other_", "explained_class", -1
"""Of the batch of these programs: how far each element of an array is present, 0 to 1; what stands in its place, zeros
at the entry where that is absent; and the class that is explained, or `ANSWERED`."""
STRETCHES = (0.0, 1 / 32, 1 / 4, 1.0)
"""Ends of the stretches of the way in an exported program, with `NODES` each: near the blank scores turn fast."""
NODES = 16
Reference = Mapping[str, Any] | None


def nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places between 0 and 1 and weights of Gauss-Legendre quadrature, each (count,)."""
    places, weights = np.polynomial.legendre.leggauss(count)
    return (places + 1) / 2, weights / 2


@dataclass(frozen=True)
class Explained:
    """The functions of one task, each (model, batch, reference) -> outputs.

    Attributes:
        task: whose `Task.explained` says what is explained.
        entries: where the batch enters the model.
    """

    task: Task
    entries: Entries

    def scores(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        """``score`` (b,), see `score_of`, and ``answered`` (b,), the likeliest class."""
        outputs = self._mixed(model, batch, _kept(batch), reference)
        said = self.answered(outputs)
        return {"score": score_of(outputs, jnp.where(batch[CLASS] == ANSWERED, said, batch[CLASS])), "answered": said}

    def answered(self, outputs: Mapping[str, jax.Array]) -> jax.Array:
        """The class (b,) int32 that is answered: the likeliest, or of two that from whose threshold on it is; 0 of an
        event and of a number."""
        value, decision = next(iter(outputs.values())), getattr(self.task, "decision", None)
        if isinstance(decision, Decision) and value.ndim == 2 and value.shape[1] == 2 and decision.event != EVEN:
            odds = (value[:, 1] - value[:, 0]) / decision.temperature
            return (odds >= math.log(decision.event / (1 - decision.event))).astype(jnp.int32)
        return answered(outputs)

    def gradients(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        """``scores``, and of each array ``gradient_NAME``: the derivative by how far each element is present."""

        def total(keep: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            score = score_of(self._mixed(model, batch, keep, reference), batch[CLASS])
            return score.sum(), score

        slopes, score = jax.grad(total, has_aux=True)(_kept(batch))
        return {"score": score, **{f"gradient_{name}": slope for name, slope in slopes.items()}}

    def shapes(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        """Of each array that enters, ones of the shape of ``keep_NAME``."""
        values = self.entries.values(model, batch, self._run(reference))
        rows = batch["mask"].shape
        return {
            name: jnp.ones((*rows, *kept_shape(name, batch[name].shape[1:], values, self.entries)))
            for name in self.entries.names
        }

    def integrated(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        """Integrated gradients of the answered class, and all that ``predict`` says.

        Besides: ``attribution_NAME`` of each array, ``score`` and ``blank_score`` (b,), ``answered`` (b,), and
        ``filled_NAME`` (b,), the share of a padded array that the row fills.
        """
        plain = {name: value for name, value in batch.items() if not name.startswith(OTHER)}
        said = self.task.predict(model, plain, reference)
        chosen = self.answered(self.task.explained(model, plain, reference))
        ones = self.shapes(model, plain, reference)
        single, shares = nodes(NODES)
        ends = np.array(STRETCHES)
        places = (ends[:-1, None] + np.diff(ends)[:, None] * single).reshape(-1)
        weights = (np.diff(ends)[:, None] * shares).reshape(-1)
        asked = {**batch, CLASS: chosen}

        def at(place: jax.Array) -> dict[str, jax.Array]:
            keep = {f"{KEEP}{name}": place * one for name, one in ones.items()}
            return self.gradients(model, {**asked, **keep}, reference)

        def add(place_weight: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
            place, weight = place_weight
            return {name: weight * slope for name, slope in at(place).items() if name != "score"}

        parts = jax.lax.map(add, (jnp.asarray(places, jnp.float32), jnp.asarray(weights, jnp.float32)))
        whole, blank = (
            self.scores(model, {**asked, **{f"{KEEP}{name}": end * one for name, one in ones.items()}}, reference)
            for end in (1.0, 0.0)
        )
        filled = {
            f"filled_{name}": batch[f"{name}_mask"].mean(1, dtype=jnp.float32)
            for name in self.entries.names
            if f"{name}_mask" in batch
        }
        found = {name.replace("gradient_", "attribution_"): slope.sum(0) for name, slope in parts.items()}
        scores = {"score": whole["score"], "blank_score": blank["score"], "answered": chosen}
        return {**said, **{f"explained_{name}": value for name, value in (found | scores | filled).items()}}

    def gradcam(self, path: str) -> Any:
        """Grad-CAM of what the module at ``path`` gives out (`Selvaraju et al., 2016, arXiv 1610.02391`): the program
        whose output ``cam`` (b, ...) is the channels' sum, each weighed by its mean gradient, where it is positive."""

        def program(model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
            shape = jax.eval_shape(lambda: self._captured(model, batch, path, reference))

            def total(shift: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
                with hooks(model, [path], {path: lambda output: output + shift}) as calls:
                    score = score_of(self.task.explained(model, batch, reference), batch[CLASS])
                return score.sum(), (score, calls[path][-1].output)

            slopes, (score, features) = jax.grad(total, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
            weights = slopes.mean(tuple(range(1, slopes.ndim - 1)), keepdims=True)
            return {"score": score, "cam": jax.nn.relu((weights * features).sum(-1))}

        return program

    def _captured(self, model: Any, batch: Batch, path: str, reference: Reference) -> jax.Array:
        with hooks(model, [path]) as calls:
            self.task.explained(model, batch, reference)
        output: jax.Array = calls[path][-1].output
        return output

    def attention(self, model: Any, batch: Batch, reference: Reference = None) -> dict[str, jax.Array]:
        """What attention says of each token (b, l): ``rollout`` (`Abnar and Zuidema, 2020, arXiv 2005.00928`), which is
        the same for all classes, and ``relevance``, in which each weight counts by its gradient where that is positive
        (`Chefer et al., 2021, arXiv 2103.15679`). Which tokens the answer is read from follows from the last layer's
        gradients. None of either where no layer attends.
        """
        run = lambda: score_of(self.task.explained(model, batch, reference), batch[CLASS])

        def shapes() -> list[jax.Array]:
            seen: list[jax.Array] = []
            with weighed(lambda weights: seen.append(weights) or weights):  # type: ignore[func-returns-value]
                run()
            return seen

        layers = jax.eval_shape(shapes)

        def total(shifts: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            seen: list[jax.Array] = []

            def shifted(weights: jax.Array) -> jax.Array:
                seen.append(weights)
                return weights + shifts[len(seen) - 1]

            with weighed(shifted):
                score = run()
            return score.sum(), seen

        slopes, weights = jax.grad(total, has_aux=True)([jnp.zeros(one.shape, one.dtype) for one in layers])
        size = layers[0].shape[-1]
        rollout = relevance = jnp.broadcast_to(jnp.eye(size), (layers[0].shape[0], size, size))
        read = jnp.ones(rollout.shape[:2]) / size
        for slope, weight in zip(slopes, weights, strict=True):
            if weight.shape[-2:] != (size, size):
                continue  # a decoder's, or of another part
            mean = weight.mean(1)
            rollout = (0.5 * mean + 0.5 * jnp.eye(size)) @ rollout
            useful = jax.nn.relu(slope * weight).mean(1)
            relevance = relevance + useful @ relevance
            rows = jnp.abs(slope * weight).sum((1, 3))
            read = rows / jnp.maximum(rows.sum(1, keepdims=True), 1e-30)
        kept = jnp.einsum("bq,bqs->bs", read, relevance)
        return {"rollout": jnp.einsum("bq,bqs->bs", read, rollout), "relevance": kept - read}

    def _run(self, reference: Reference) -> Any:
        return lambda model, batch: self.task.explained(model, batch, reference)

    def _mixed(
        self, model: Any, batch: Batch, keep: Mapping[str, jax.Array], reference: Reference
    ) -> dict[str, jax.Array]:
        """What is explained where each element is as far present as ``keep`` says."""
        run = self._run(reference)
        stated = {name: batch[f"{OTHER}{name}"] for name in self.entries.names if f"{OTHER}{name}" in batch}
        others = self.entries.values(model, {**batch, **stated}, run) if stated else {}

        def mixed(name: str, entry: Entry, value: jax.Array) -> jax.Array:
            share = spread(keep[name], value)
            return value * share + others[entry] * (1 - share) if name in stated else value * share

        outputs: dict[str, jax.Array] = self.entries.changed(model, batch, run, mixed)
        return outputs


def _kept(batch: Batch) -> dict[str, jax.Array]:
    return {name.removeprefix(KEEP): value for name, value in batch.items() if name.startswith(KEEP)}


def answered(outputs: Mapping[str, jax.Array]) -> jax.Array:
    """The likeliest class (b,) int32 of what `Task.explained` gives; 0 of an event and of a number."""
    value = next(iter(outputs.values()))
    return value.argmax(-1).astype(jnp.int32) if value.ndim > 1 else jnp.zeros(value.shape, jnp.int32)


def score_of(outputs: Mapping[str, jax.Array], chosen: jax.Array) -> jax.Array:
    """The number that is explained (b,): the log odds of a class against all others, of a label, of an event; or the
    number that is predicted. Unlike a probability, it does not saturate.

    Args:
        outputs: of `Task.explained`.
        chosen: the class (b,); `ANSWERED`: the likeliest.
    """
    name, value = next(iter(outputs.items()))
    value = value.astype(jnp.float32)
    if value.ndim == 1:
        return value
    place = jnp.where(chosen == ANSWERED, value.argmax(-1), chosen)
    own = jnp.take_along_axis(value, place[:, None], 1)[:, 0]
    if name != "logits" or value.shape[1] == 1:
        return own
    rest = jnp.where(jnp.arange(value.shape[1]) == place[:, None], -jnp.inf, value)
    return own - jax.nn.logsumexp(rest, 1)
