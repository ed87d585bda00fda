"""Boxes: overlaps by hand, forms, and suppression as a plain loop does it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.nn import boxes

# A box, itself, its right half, one beside it, one inside it, and one without area.
ONE = [0.0, 0, 10, 10]
OTHERS = [[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [0, 0, 5, 2], [4, 4, 4, 4]]


def test_overlaps_are_those_computed_by_hand():
    one, others = jnp.array([ONE]), jnp.array(OTHERS)
    np.testing.assert_allclose(boxes.iou(one, others)[0], [1, 50 / 150, 0, 0.1, 0], atol=1e-6)
    np.testing.assert_allclose(boxes.giou(one, others)[0], [1, 1 / 3, -100 / 300, 0.1, 0], atol=1e-6)
    pairs = jnp.broadcast_to(one, others.shape)
    np.testing.assert_array_equal(boxes.paired_iou(pairs, others), boxes.iou(one, others)[0])
    np.testing.assert_array_equal(boxes.paired_giou(pairs, others), boxes.giou(one, others)[0])
    assert np.isfinite(jax.grad(lambda b: boxes.giou(b, b).sum())(jnp.zeros((2, 4)))).all()


def test_forms_of_a_box_undo_each_other():
    drawn = jax.random.uniform(jax.random.key(0), (2, 3, 4)) + jnp.array([0.0, 0, 1, 1])
    np.testing.assert_allclose(boxes.corners(boxes.centres(drawn)), drawn, atol=1e-6)
    np.testing.assert_allclose(boxes.centres(jnp.array([2.0, 4, 6, 10])), [4, 7, 4, 6])


def plainly_suppressed(drawn, scores, labels, most_overlap):
    overlaps, kept = np.asarray(boxes.iou(drawn, drawn)), []
    for place in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if labels[other] == labels[place]]
        if scores[place] > 0 and all(overlaps[place, other] <= most_overlap for other in rivals):
            kept.append(place)
    return [place in kept for place in range(len(scores))]


def crowded(seed):
    """Forty boxes that overlap, of two classes, with equal scores among them and some of 0."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 8, (40, 2))
    drawn = np.concatenate([low, low + rng.uniform(8, 15, (40, 2))], 1).astype(np.float32)
    return drawn, rng.integers(0, 8, 40).astype(np.float32) / 8, rng.integers(0, 2, 40)


@pytest.mark.parametrize("most_overlap", [0.3, 0.6])
def test_suppression_is_that_of_a_plain_loop_alone_jitted_and_in_a_batch(most_overlap):
    many = [crowded(seed) for seed in range(3)]
    batch = jax.jit(jax.vmap(lambda *one: boxes.suppress(*one, most_overlap)))(*map(np.stack, zip(*many, strict=True)))
    for row, one in zip(batch, many, strict=True):
        expected = plainly_suppressed(*one, most_overlap)
        assert 0 < sum(expected) < 35  # some fall
        np.testing.assert_array_equal(boxes.suppress(*map(jnp.asarray, one), most_overlap), expected)
        np.testing.assert_array_equal(row, expected)


def test_the_best_detections_come_first_and_the_rest_is_empty():
    drawn, scores, labels = map(jnp.asarray, crowded(3))
    chosen, best, kinds = boxes.best_detections(drawn, scores, labels, 0.1, 30)
    count = int(boxes.suppress(drawn, scores, labels, 0.1).sum())
    assert 0 < count < 30 and chosen.shape == (30, 4) and kinds.shape == (30,)
    assert (jnp.diff(best) <= 0).all() and (best[:count] > 0).all()
    assert not best[count:].any() and not chosen[count:].any()
