"""Encoders that answer for each token, and how they are published."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.models import transformer

POST = {"norm": "post", "embedding_norm": True, "epsilon": 1e-12, "max_length": 12}
FAMILIES = {
    "bert": {"token_types": 2},
    "roberta": {"token_types": 1, "position_offset": 2},
    "distilbert": {"pooler": "relu"},
}


def tagger(**fields):
    sizes = {"vocab_size": 20, "outputs": 5, "layers": 1, "width": 16, "heads": 2, "feed_forward": 32}
    return transformer.Config(**sizes, pooling="none", **fields)


def test_each_token_has_logits_of_its_own():
    """Its row is padded without a change, and the mean over tokens is what a pooling classifier gives."""
    tokens = jnp.array([[3, 4, 5, 0]])
    mask = jnp.array([[True, True, True, False]])
    model = tagger().build(rngs=nnx.Rngs(0))
    logits = model(tokens, mask)
    assert logits.shape == (1, 4, 5)
    np.testing.assert_allclose(logits[:, :3], model(tokens[:, :3], mask[:, :3]), atol=1e-5)
    model.pooling = "mean"
    np.testing.assert_allclose(logits[:, :3].mean(1), model(tokens, mask), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tagger_is_published_as_one(family):
    config = tagger(**POST, **FAMILIES[family])
    published = transformer.IMPORTS[family].publish(config)
    assert published["architectures"][0].endswith("ForTokenClassification")
    read = transformer.IMPORTS[family].config(published)
    assert (read.pooling, read.outputs) == ("none", 5)
    rules = transformer.IMPORTS[family].rules
    (head,) = [rule for rule in rules if rule.path == "head/kernel" and (rule.when is None or rule.when(config))]
    assert head.source == "classifier.weight" and head.bare
