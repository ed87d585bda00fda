"""Vision transformers: sizes, tokens, depth, and what is refused. Answers are compared in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import dnn, vit
from suite.tree import paths

TINY = {"height": 8, "width": 12, "channels": 3, "outputs": 5, "patch": 4, "layers": 2, "hidden": 16, "heads": 4}


@pytest.mark.parametrize(
    ("make", "size"), [(vit.tiny, 5_717_416), (vit.small, 22_050_664), (vit.base, 86_567_656), (vit.large, 304_326_632)]
)
def test_published_sizes(make, size):
    config = make(height=224, width=224, channels=3, outputs=1000)
    params = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size


def test_tokens_are_patches_row_by_row():
    """Only the patch that changes has another embedding, so with no block only its token does."""

    @jax.jit
    def both(images):
        model = vit.Config(**{**TINY, "layers": 0}).build(rngs=nnx.Rngs(0))
        return model.features(images), model.features(images.at[:, 5, 9].add(1.0))

    before, after = both(jax.random.normal(jax.random.key(0), (1, 8, 12, 3)))
    assert before.shape == (1, 7, 16)
    changed = np.flatnonzero(np.abs(after - before)[0].max(-1) > 1e-6)
    np.testing.assert_array_equal(changed, [6])  # second row, third column, after the class token and five patches


def test_a_new_head_says_nothing_and_dropout_acts_in_training_alone():
    @jax.jit
    def answers(images):
        model = vit.Config(**TINY, dropout=0.5).build(rngs=nnx.Rngs(0))
        drops = [model.features(images, nnx.Rngs(dropout=seed)) for seed in (0, 1)]
        return model(images), model.features(images), *drops

    logits, still, one, other = answers(jax.random.normal(jax.random.key(0), (2, 8, 12, 3)))
    assert not logits.any()
    assert all(float(jnp.abs(a - b).max()) > 0.1 for a, b in ((still, one), (one, other)))


def test_depth_for_layer_wise_rates():
    config = vit.Config(**TINY)
    params = paths(nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)))
    found = {path: config.layer_of(path) for path in params}
    assert {path for path, depth in found.items() if depth == 0} == {
        "patches/kernel",
        "patches/bias",
        "class_embedding",
        "position_embedding",
    }
    assert found["layers/1/mlp/up/kernel"] == 2 and found["head/kernel"] == found["norm/scale"] == config.depth == 3


def test_adopting_published_sizes_keeps_what_training_decides():
    own = vit.Config(outputs=7, dropout=0.3)
    made = own.adopt(vit.small(height=32, width=32, channels=3, outputs=1000))
    assert made == vit.small(height=32, width=32, channels=3, outputs=7, dropout=0.3)
    with pytest.raises(InputError, match=r"names weights of suite\.models\.dnn"):
        own.adopt(dnn.Config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "must divide hidden"),
        ({"patch": 5}, "must divide height and width of the images"),
        ({"layers": -1}, "must not be negative"),
        ({"dropout": 1.0}, "at least 0 and below 1"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(InputError, match=message):
        vit.Config(**{**TINY, **changes})


def test_open_sizes_must_be_filled():
    with pytest.raises(InputError, match=r"field model\.height"):
        vit.base(channels=3, outputs=2).build(rngs=nnx.Rngs(0))
