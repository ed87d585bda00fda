"""The loss of connectionist temporal classification. Dims: b batch, t frames, v symbols (0 is blank), u labels."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_NEVER = -1e30
"""Log of a probability of nothing: finite, so that no difference of two of them is nan."""


def ctc_fits(mask: Bool[Array, "b t"], labels: Int[Array, "b u"], labels_mask: Bool[Array, "b u"]) -> Bool[Array, "b"]:
    """Whether each row has frames enough: one a label, and one blank between two equal ones."""
    repeats = (labels[:, 1:] == labels[:, :-1]) & labels_mask[:, 1:]
    return mask.sum(1) >= labels_mask.sum(1) + repeats.sum(1)


def ctc_loss(
    logits: Float[Array, "b t v"], mask: Bool[Array, "b t"], labels: Int[Array, "b u"], labels_mask: Bool[Array, "b u"]
) -> tuple[Float[Array, "b"], Bool[Array, "b"]]:
    """Minus the log probability, in nats, of all alignments of ``labels`` with the frames, and which rows have any.

    `Graves et al., 2006 <https://www.cs.toronto.edu/~graves/icml_2006.pdf>`_. Frames and labels stand at the start of
    their rows. A row with too few frames for its labels has the loss 0 and no gradient, and is False in the second
    result. Forward and backward variables come from one scan over both directions, in log space, rescaled at each
    frame so that long inputs stay exact in float32; the gradient is computed beside the loss and not by reversing it.
    """
    fits = ctc_fits(mask, labels, labels_mask)
    losses = _loss(logits.astype(jnp.float32), mask, labels, labels_mask)
    return jnp.where(fits, losses, 0.0), fits


@jax.custom_vjp
def _loss(logits: Array, mask: Array, labels: Array, labels_mask: Array) -> Array:
    scores = _emissions(jax.nn.log_softmax(logits), labels)
    return -_scan(_forwards(scores, mask, labels, labels_mask), keep=False)[0]


def _loss_forward(logits: Array, mask: Array, labels: Array, labels_mask: Array) -> tuple[Array, Array]:
    log_probs = jax.nn.log_softmax(logits)
    scores = _emissions(log_probs, labels)
    ahead = _forwards(scores, mask, labels, labels_mask)
    flipped = jnp.flip(scores[0], 0), jnp.flip(scores[1], (0, 2))
    back = _forwards(flipped, jnp.flip(mask, 1), jnp.flip(labels, 1), jnp.flip(labels_mask, 1))
    both = [jnp.concatenate(pair, axis) for *pair, axis in zip(ahead, back, (1, 1, 1, 0, 0, 0), strict=True)]
    log_likelihood, (blank, label) = _scan(both, keep=True)
    rows = labels.shape[0]
    # alpha and beta both count the frame's own emission
    blank = blank[:, :rows] + jnp.flip(blank[:, rows:], (0, 2)) - scores[0][..., None]
    label = label[:, :rows] + jnp.flip(label[:, rows:], (0, 2)) - scores[1]
    shares = jax.nn.softmax(jnp.concatenate([blank, label], -1), axis=-1)[..., blank.shape[-1] :]
    shares = jnp.where(labels_mask, shares, 0.0)  # (t, b, u): how probable it is that label u is said at frame t
    # What the blanks get is what is left over: softmax shares sum to one.
    spoken = jnp.einsum("tbu,buv->btv", shares, jax.nn.one_hot(labels, logits.shape[-1]), precision="highest")
    expected = spoken.at[..., 0].add(1 - shares.sum(-1).T)
    keep = (mask & ctc_fits(mask, labels, labels_mask)[:, None])[..., None]
    return -log_likelihood[:rows], jnp.where(keep, jnp.exp(log_probs) - expected, 0.0)


def _loss_backward(gradient: Array, g: Array) -> tuple[Array, None, None, None]:
    return g[:, None, None] * gradient, None, None, None


_loss.defvjp(_loss_forward, _loss_backward)


def _emissions(log_probs: Array, labels: Array) -> tuple[Array, Array]:
    """Log probability of the blank (t, b) and of each label (t, b, u) at each frame."""
    by_symbol = log_probs.transpose(0, 2, 1)  # whole rows are gathered
    chosen = jnp.take_along_axis(by_symbol, labels[:, :, None], axis=1)
    return log_probs[..., 0].T, chosen.transpose(2, 0, 1)


def _forwards(scores: tuple[Array, Array], mask: Array, labels: Array, labels_mask: Array) -> tuple[Array, ...]:
    """What `_scan` takes: emissions, frames, where the recursion starts and ends, and which labels may follow at once.

    Labels at the end of their rows, as the flipped ones are, start at their first blank.
    """
    blank, label = scores
    count, size = labels_mask.sum(1), labels.shape[1]
    first = jnp.where(labels_mask[:, 0], 0, size - count)
    end = first + count
    places = jnp.arange(size + 1)
    start = jnp.where(places == first[:, None], 0.0, _NEVER)
    last = places == end[:, None]
    skips = jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 0)))
    return blank, label, mask.T, start, last, skips


def _scan(lattice: Sequence[Array], keep: bool) -> tuple[Array, Any]:
    """Log likelihood (b,), and where ``keep`` the variables of blanks (t, b, u + 1) and labels (t, b, u) a frame.

    They carry the emission of their own frame, and are shifted so that the largest of a row is 0.
    """
    blank, label, frames, start, last, skips = lattice
    skip = jnp.where(skips, 0.0, _NEVER)

    def step(carry: Any, frame: Any) -> Any:
        blanks, spoken, total = carry
        at_blank, at_label, real = frame
        before = jnp.pad(spoken, ((0, 0), (1, 0)), constant_values=_NEVER)  # the label before each blank
        to_blank = jnp.logaddexp(blanks, before) + at_blank[:, None]
        skipped = before[:, :-1] + skip
        stay = blanks[:, :-1]
        top = jnp.maximum(jnp.maximum(spoken, stay), skipped)
        to_label = jnp.log(jnp.exp(spoken - top) + jnp.exp(stay - top) + jnp.exp(skipped - top)) + top + at_label
        shift = jnp.maximum(to_blank.max(-1), to_label.max(-1))
        real = real[:, None]
        blanks = jnp.where(real, to_blank - shift[:, None], blanks)
        spoken = jnp.where(real, to_label - shift[:, None], spoken)
        carry = (blanks, spoken, total + jnp.where(real[:, 0], shift, 0.0))
        return carry, ((blanks, spoken) if keep else None)

    spoken = jnp.full(label.shape[1:], _NEVER)
    (blanks, spoken, total), variables = lax.scan(
        step, (start, spoken, jnp.zeros(blank.shape[1])), (blank, label, frames)
    )
    ends = jnp.where(last, blanks, _NEVER), jnp.where(last[:, 1:], spoken, _NEVER)
    return total + jnp.logaddexp(ends[0].max(-1), ends[1].max(-1)), variables
