"""Pairs of two modalities (jitted): the sigmoid loss, ranks both ways, and their metrics.

Dims: b pictures, k texts of a picture, n pictures of a pool, d width.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from suite.contracts.batch import Batch
from suite.contracts.metric import MetricState
from suite.contracts.metric_meaning import register_metric
from suite.evaluation.contrast import same
from suite.evaluation.metrics.retrieval import FIRST
from suite.parallel.layout import batch_rows, first_row


def sigmoid_losses(
    images: jax.Array, texts: jax.Array, batch: Batch, scale: jax.Array | float, shift: jax.Array | float
) -> jax.Array:
    """Nats (b,) of telling each picture's own text from those of all rows of the batch, on all devices, one by one
    (SigLIP, `Zhai et al., 2023 <https://arxiv.org/abs/2303.15343>`_).

    A text that equals a picture's own, and that of an equal picture, are neither right nor wrong.

    Args:
        images, texts: unit vectors (b, d).
        batch: ``content`` and ``other_content`` (b, 2), keys of pictures and texts; ``mask`` (b,).
        scale: what cosines are multiplied by.
        shift: added to the logits.
    """
    every = batch_rows(
        {"text": texts, "content": batch["content"], "other": batch["other_content"], "mask": batch["mask"]}
    )
    count = len(images)
    mine = (first_row(count) + jnp.arange(count))[:, None] == jnp.arange(len(every["mask"]))
    unsure = same(batch["content"], every["content"]) | same(batch["other_content"], every["other"])
    logits = scale * (images @ every["text"].T) + shift
    losses = jax.nn.softplus(jnp.where(mine, -logits, logits))
    return jnp.where(mine | (~unsure & every["mask"]), losses, 0).sum(-1)


def pool_ranks(
    images: jax.Array, texts: jax.Array, batch: Batch, pool: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """At which rank each picture finds the first of its texts among all texts of the pool, and each of its texts the
    picture among all pictures.

    Equal texts count as right for the pictures of all of them, and so do equal pictures. What is right counts as the
    last of equal cosines, so that vectors that are all equal find nothing.

    Args:
        images: unit vectors (b, d).
        texts: unit vectors (b, k, d).
        batch: ``content`` (b, 2) and ``texts_content`` (b, k, 2), keys; ``texts_real`` (b, k), which texts there are.
        pool: of all pictures of the split ``vector`` (n, d), ``texts`` (n, k, d), and the same keys.

    Returns:
        ``image_rank`` (b,) and ``text_rank`` (b, k) int32 from 1; ``right`` and ``wrong`` (b,), the largest cosines of
        a picture with a text of its own and with another.
    """
    count, width = pool["texts"].shape[0] * pool["texts"].shape[1], images.shape[-1]
    flat, keys = pool["texts"].reshape(count, width), pool["texts_content"].reshape(count, 2)
    real, owners = pool["texts_real"].reshape(count), jnp.repeat(pool["content"], pool["texts"].shape[1], 0)
    own = same(batch["content"], owners) & real
    for place in range(texts.shape[1]):
        own |= same(batch["texts_content"][:, place], keys) & batch["texts_real"][:, place, None] & real
    cosines = images @ flat.T
    best = jnp.where(own, cosines, -jnp.inf).max(-1)
    wrong = ~own & real
    image_rank = 1 + (wrong & (cosines >= best[:, None])).sum(-1, dtype=jnp.int32)
    nearest = jnp.where(wrong, cosines, -1.0).max(-1)

    def ranked(vectors: jax.Array, content: jax.Array) -> jax.Array:
        """Ranks (b,) of texts (b, d) of keys (b, 2)."""
        right = same(batch["content"], pool["content"])
        equal = (content[:, None, None] == pool["texts_content"]).all(-1) & pool["texts_real"]
        right |= equal.any(-1)
        cosines = vectors @ pool["vector"].T
        best = jnp.where(right, cosines, -jnp.inf).max(-1, keepdims=True)
        return 1 + (~right & (cosines >= best)).sum(-1, dtype=jnp.int32)

    text_rank = jnp.stack([ranked(texts[:, k], batch["texts_content"][:, k]) for k in range(texts.shape[1])], 1)
    return {"image_rank": image_rank, "text_rank": text_rank, "right": best, "wrong": nearest}


def pairing_scores(
    image_ranks: np.ndarray, text_ranks: np.ndarray, real: np.ndarray, side: str = "image"
) -> dict[str, MetricState]:
    """Recall at 1, 5 and 10 from picture to text, from text to picture, and the mean of both, as sums in float64.

    Args:
        image_ranks: (b,) from 1.
        text_ranks: (b, k).
        real: (b, k), which texts there are; each picture has one at least.
        side: ``"image"``, or ``"audio"`` where recordings are in the place of pictures.
    """
    scores: dict[str, MetricState] = {}
    for first in FIRST:
        image, text = image_ranks <= first, (text_ranks <= first) & real
        scores[f"{side}_to_text_{first}"] = MetricState(float(image.sum()), len(image))
        scores[f"text_to_{side}_{first}"] = MetricState(float(text.sum()), int(real.sum()))
        both = (image + text.sum(-1) / real.sum(-1)) / 2
        scores[f"both_ways_{first}"] = MetricState(float(both.sum()), len(image))
    return scores


for _first in FIRST:
    _of = "In larger pools chance, and any model, finds"
    for _name, _title, _about in (
        ("image_to_text", "Picture to text", "pictures one of whose texts is among the first {} of all texts"),
        ("text_to_image", "Text to picture", "texts whose picture is among the first {} of all pictures"),
        ("audio_to_text", "Recording to text", "recordings one of whose texts is among the first {} of all texts"),
        ("text_to_audio", "Text to recording", "texts whose recording is among the first {} of all recordings"),
        (
            "both_ways",
            "Both ways",
            "pictures or recordings, and of the texts of each, that find the other side among the first {}",
        ),
    ):
        register_metric(
            f"{_name}_{_first}",
            f"Share of {_about.format(_first)} of the split. {_of} fewer: compare pools of one size alone.",
            "higher",
            title=f"{_title}, recall@{_first}",
            share=True,
        )
