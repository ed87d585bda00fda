"""The narrow copy of a model: the same answers in bfloat16, and the model untouched."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.decoding.generation import Decoding, generate
from suite.models import decoder
from suite.nn.quant.bfloat16_weights import NarrowLinear, narrowed


def test_a_narrow_copy_says_the_same_and_leaves_the_model_alone():
    config = decoder.Config(vocab_size=31, layers=1, width=32, heads=4, max_length=24, tied=False)
    model = config.build(rngs=nnx.Rngs(0))
    copy = narrowed(model)
    assert isinstance(copy.layers[0].mlp.up, NarrowLinear) and isinstance(copy.head, NarrowLinear)
    assert copy.layers[0].attention.query.kernel.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    tokens = jax.random.randint(jax.random.key(0), (1, 6), 0, 31)
    mask = jnp.ones((1, 6), bool)
    np.testing.assert_allclose(jax.jit(lambda t: copy(t))(tokens), jax.jit(lambda t: model(t))(tokens), atol=0.03)

    def go_on(model, dtype):
        return jax.jit(lambda t: generate(model, model.cache(1, 10, dtype), t, mask, Decoding(tokens=4)))(tokens)

    made, narrow = go_on(model, "float32"), go_on(copy, "bfloat16")
    assert narrow.tokens.shape == (1, 4)
    np.testing.assert_allclose(made.score, narrow.score, atol=0.05)
