"""Residual networks: sizes, shapes, starting as nothing, shortcuts, statistics, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.experiment.sections import Optim, Precision
from suite.models import dnn, resnet
from suite.parallel.layout import Layout, laid_out
from suite.training import precision
from suite.training.optim import optimizer
from suite.tree import paths

TINY = {"channels": 3, "outputs": 5, "blocks": (1, 2), "widths": (8, 12), "stem_width": 8}


def shapes_of(config, side):
    """Parameters by path, and the shapes of features and logits of two images."""
    model = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((2, side, side, config.channels), jnp.float32)
    features = jax.eval_shape(lambda state, x: nnx.merge(graph, state).features(x), state, images)
    logits = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images)
    params = paths(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return params, features.shape, logits.shape


@pytest.mark.parametrize(
    ("make", "side", "outputs", "size", "features"),
    [
        (resnet.resnet18, 224, 1000, 11_689_512, (2, 7, 7, 512)),
        (resnet.resnet50, 224, 1000, 25_557_032, (2, 7, 7, 2048)),
        (resnet.small, 32, 10, 11_173_962, (2, 4, 4, 512)),
    ],
)
def test_sizes(make, side, outputs, size, features):
    params, shape, logits = shapes_of(make(channels=3, outputs=outputs), side)
    assert sum(leaf.size for leaf in params.values()) == size
    assert shape == features and logits == (2, outputs)


@pytest.mark.parametrize(
    ("make", "size"), [(resnet.cifar20, 269_722), (resnet.cifar32, 464_154), (resnet.cifar56, 853_018)]
)
def test_cifar_forms(make, size):
    """The paper's table 6 says 0.27 M, 0.46 M and 0.85 M."""
    params, features, logits = shapes_of(make(channels=3, outputs=10), 32)
    assert sum(leaf.size for leaf in params.values()) == size
    assert features == (2, 8, 8, 64) and logits == (2, 10)
    assert not any("shortcut" in path for path in params)  # option A has no parameters
    projected, _, _ = shapes_of(make(channels=3, outputs=10, shortcut="projection"), 32)
    assert sum("shortcut/conv" in path for path in projected) == 2


def test_the_stride_is_where_the_config_says():
    at = {}
    for where in ("3x3", "1x1"):
        config = resnet.Config(**{**TINY, "widths": (8, 16)}, block="bottleneck", stride_in=where)
        model = nnx.eval_shape(lambda config=config: config.build(rngs=nnx.Rngs(0)))
        at[where] = [layer.conv.stride for layer in model.stages[1][0].layers]
    assert at == {"3x3": [1, 2, 1], "1x1": [2, 1, 1]}


def test_a_block_starts_as_the_identity():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    stem = {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False, "blocks": (2,), "widths": (8,)}
    config = resnet.Config(**{**TINY, **stem})

    @jax.jit
    def moved(images):
        models = [replace(config, zero_init=zero).build(rngs=nnx.Rngs(0)) for zero in (True, False)]
        return [jnp.abs(m.features(images) - jax.nn.relu(m.stem(images, None, False))).max() for m in models]

    nothing, something = moved(images)
    assert nothing < 1e-5 and something > 0.1


def test_a_padded_shortcut_keeps_the_input():
    config = resnet.Config(**TINY, shortcut="padding")
    x = jax.random.uniform(jax.random.key(0), (1, 4, 4, 8))
    made = np.asarray(jax.jit(lambda x: resnet.Block(config, 8, 12, 12, 2, rngs=nnx.Rngs(0))(x, None, False))(x))
    np.testing.assert_allclose(made[..., :8], x[:, ::2, ::2])
    assert not made[..., 8:].any()


def test_training_updates_statistics_and_evaluation_does_not():
    images = 3 + jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    rows = jnp.array([True, True, True, False])

    @jax.jit
    def both(images):
        model = resnet.Config(**TINY).build(rngs=nnx.Rngs(0))
        model(images)
        still = model.stem.norm.mean[...]
        logits = model(images, rows=rows, rngs=nnx.Rngs(dropout=0))
        return still, model.stem.norm.mean[...], logits

    still, moved, logits = both(images)
    assert not still.any() and np.abs(moved).min() > 1e-4
    _, _, again = both(images.at[3].set(1e4))
    np.testing.assert_allclose(again[:3], logits[:3], rtol=1e-3, atol=1e-4)  # padding changes no real row


def test_group_normalisation_in_place_of_batch_normalisation():
    config = resnet.Config(**{**TINY, "widths": (8, 16)}, norm="group", groups=4)
    abstract = nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))
    assert not jax.tree.leaves(nnx.state(abstract, nnx.BatchStat))

    @jax.jit
    def both(images):
        model = config.build(rngs=nnx.Rngs(0))
        return model(images, rngs=nnx.Rngs(0))[:1], model(images[:1])

    together, alone = both(jax.random.normal(jax.random.key(0), (3, 16, 16, 3)))
    assert alone.any()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_depth_for_layer_wise_rates():
    config = resnet.Config(**TINY)
    params, _, _ = shapes_of(config, 16)
    found = {path: config.layer_of(path) for path in params}
    assert found["stem/conv/kernel"] == 0 and found["head/kernel"] == config.depth == 4
    assert found["stages/0/0/layers/0/conv/kernel"] == 1 and found["stages/1/1/layers/1/norm/scale"] == 3
    build = jax.jit(lambda: nnx.to_pure_dict(nnx.state(config.build(rngs=nnx.Rngs(0)), nnx.Param)))
    state = build()
    tx = optimizer.build(
        Optim(layer_decay=0.5, frozen=("^stem/", "^stages/0/")), state, 10, config.layer_of, config.depth
    )
    grads = jax.tree.map(jnp.ones_like, state)
    moved = paths(jax.jit(lambda grads, state: tx.update(grads, tx.init(state), state)[0])(grads, state))
    assert not moved["stem/conv/kernel"].any() and not moved["stages/0/0/layers/0/conv/kernel"].any()
    ratio = moved["head/bias"][0] / moved["stages/1/0/layers/0/norm/bias"][0]
    np.testing.assert_allclose(ratio, 4, rtol=1e-4)


def test_adopting_published_sizes_keeps_what_training_decides():
    own = resnet.Config(outputs=7, dropout=0.3)
    made = own.adopt(resnet.resnet50(channels=3, outputs=1000))
    assert made == resnet.resnet50(channels=3, outputs=7, dropout=0.3)
    with pytest.raises(InputError, match=r"names weights of suite\.models\.dnn"):
        own.adopt(dnn.Config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "wide"}, "field model.block: no such choice"),
        ({"widths": (8,)}, "one width for each stage"),
        ({"blocks": (0, 1)}, "sizes must be at least 1"),
        ({"block": "bottleneck", "widths": (8, 10)}, "multiples of 4"),
        ({"norm": "group", "groups": 3}, "must divide every width"),
        ({"dropout": 1.0}, "at least 0 and below 1"),
        ({"channels": -1}, "must not be negative"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(InputError, match=message):
        resnet.Config(**{**TINY, **changes})


def test_open_sizes_must_be_filled():
    with pytest.raises(InputError, match=r"field model\.channels"):
        replace(resnet.resnet18(), outputs=3).build(rngs=nnx.Rngs(0))


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_program_for_any_number_of_rows_answers_the_same(compute):
    config = resnet.Config(**{**TINY, "widths": (32, 64), "stem_width": 24})
    model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    x = jax.random.normal(jax.random.key(0), (3, 33, 32, 3))
    (rows,) = jax.export.symbolic_shape("rows")
    with laid_out(Layout(portable=True)):
        taken = jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
        program = jax.export.deserialize(jax.export.export(jax.jit(lambda x: model(x)))(taken).serialize())
    tolerance = 1e-5 if compute == "float32" else 2e-2
    for some in (x, x[:1]):
        np.testing.assert_allclose(program.call(some), model(some), rtol=tolerance, atol=tolerance)
