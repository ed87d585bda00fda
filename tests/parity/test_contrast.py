"""The contrast of wav2vec 2.0 against transformers: both losses in both modes, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.models import quantizer
from suite.tasks.speech.pretraining import contrasted
from suite.weights import pretrained
from tests.parity import golden, peers_contrast

LIVE = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
OURS = {
    "quantizer.codevectors": lambda grads: grads[1]["entries"][None],
    "quantizer.weight_proj.weight": lambda grads: grads[1]["choose"]["kernel"].T,
    "project_hid.weight": lambda grads: grads[1]["context"]["kernel"].T,
    "project_q.bias": lambda grads: grads[1]["code"]["bias"],
    "wav2vec2.masked_spec_embed": lambda grads: grads[0]["encoder"]["masked"]["vector"],
    "wav2vec2.encoder.layers.0.attention.q_proj.weight": lambda grads: (
        grads[0]["encoder"]["layers"][0]["attention"]["query"]["kernel"].T
    ),
}


def code_books(made, config):
    """The quantiser with the weights of a case."""
    sizes = {"books": config["num_codevector_groups"], "entries": config["num_codevectors_per_group"]}
    sizes |= {"code": config["codevector_dim"], "width": config["proj_codevector_dim"]}
    model = quantizer.Config(inputs=24, features=8, **sizes).build(rngs=nnx.Rngs(0))
    drawn = lambda name: jnp.asarray(golden.draw(name, tuple(made.shapes[name])))
    model.entries[...] = drawn("quantizer.codevectors")[0]
    for layer, name in (
        (model.choose, "quantizer.weight_proj"),
        (model.context, "project_hid"),
        (model.code, "project_q"),
    ):
        layer.kernel[...], layer.bias[...] = drawn(f"{name}.weight").T, drawn(f"{name}.bias")
    return model


@pytest.mark.parametrize("source", ["stored", pytest.param("live", marks=LIVE)])
def test_the_contrast_agrees_with_transformers(source, tmp_path):
    name = "wav2vec2_contrast"
    made = golden.load(name) if source == "stored" else peers_contrast.CASES[name]()
    _, audio = pretrained.load(golden.folder(made, tmp_path / "published"), padded_statistics=True, dropout=0.0)
    config = {"num_codevector_groups": 2, **made.config}
    books = code_books(made, config)
    waves, hidden, others = (jnp.asarray(made.inputs[name]) for name in ("waves", "hidden", "others"))
    (graph, params, rest), (own, codes, cooled) = nnx.split(audio, nnx.Param, ...), nnx.split(books, nnx.Param, ...)
    cooled = nnx.to_pure_dict(cooled)
    noise = jnp.zeros((*hidden.shape, books.config.books, books.config.entries))

    def losses(weights, noise):
        encoder = nnx.merge(graph, weights[0], rest).encoder
        features, real = encoder.extract(waves, jnp.ones(waves.shape, bool))
        vectors = encoder.contextual(features, real, hidden=hidden)
        places = jnp.where(hidden[..., None], others, -1)
        said = contrasted(nnx.merge(own, weights[1], cooled), vectors, features, hidden, places, noise, 0.1)
        count = hidden.sum()
        parts = said["nats"].sum(), said["penalty"] * count
        total = parts[0] + config.get("diversity_loss_weight", 0.1) * parts[1]
        return total, jnp.stack([*parts, total])

    weights = tuple(nnx.to_pure_dict(one) for one in (params, codes))
    _, evaluated = jax.jit(lambda weights: losses(weights, None))(weights)
    grads, trained = jax.jit(jax.grad(losses, has_aux=True))(weights, noise)
    for mode, values in (("eval", evaluated), ("train", trained)):
        np.testing.assert_allclose(values, made.outputs[mode], rtol=2e-5, err_msg=mode)
    assert made.grads.keys() == OURS.keys()
    for name, expected in made.grads.items():
        got = np.asarray(OURS[name](grads))
        assert np.linalg.norm(got - expected) <= 1e-4 * np.linalg.norm(expected), name
