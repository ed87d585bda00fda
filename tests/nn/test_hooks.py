"""Hooks: outputs and inputs of modules are captured and replaced by path, and the model is as before afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from suite.errors import InputError
from suite.models import transformer
from suite.nn.hooks import hooks
from suite.nn.linear import Linear

CONFIG = transformer.Config(vocab_size=20, outputs=3, layers=2, width=8, heads=2, feed_forward=16, max_length=8)


class Twice(nnx.Module):
    """One layer called twice, and a list of two."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.shared = Linear(4, 4, rngs=rngs)
        self.layers = nnx.List([Linear(4, 4, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.shared(self.shared(x))
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def model():
    return Twice()


X = jnp.arange(8.0).reshape(2, 4)


def test_each_call_is_captured_with_inputs_and_output(model):
    plain = model(X)
    with hooks(model, ["shared", "layers/1", "shared", ""]) as calls:
        np.testing.assert_array_equal(model(X), plain)
    first, second = calls["shared"]
    np.testing.assert_array_equal(first.inputs[0], X)
    np.testing.assert_array_equal(first.output, model.shared(X))
    np.testing.assert_array_equal(second.inputs[0], first.output)
    np.testing.assert_array_equal(second.output, model.shared(first.output))
    (last,), (whole,) = calls["layers/1"], calls[""]
    np.testing.assert_array_equal(last.output, plain)
    np.testing.assert_array_equal(whole.inputs[0], X)


def test_outputs_are_replaced_by_a_function_or_an_array(model):
    with hooks(model, replace={"layers/0": lambda output: 2 * output}):
        doubled = model(X)
    inner = model.layers[0](model.shared(model.shared(X)))
    np.testing.assert_array_equal(doubled, model.layers[1](2 * inner))
    with hooks(model, ["layers/0"], {"layers/0": np.ones((2, 4), np.float32)}) as calls:
        np.testing.assert_array_equal(model(X), model.layers[1](jnp.ones((2, 4))))
    np.testing.assert_array_equal(calls["layers/0"][0].output, np.ones((2, 4)))


def test_inside_a_traced_function_gradients_by_an_inner_output_are_right(model):
    graph, state = nnx.split(model)

    @jax.jit
    def gradient(state, inner):
        def total(inner):
            model = nnx.merge(graph, state)
            with hooks(model, replace={"layers/0": inner}):
                return model(X).sum()

        return jax.grad(total)(inner)

    expected = jnp.broadcast_to(model.layers[1].kernel[...].sum(1), (2, 4))
    np.testing.assert_allclose(gradient(state, jnp.ones((2, 4))), expected, rtol=1e-6)


def test_contexts_may_be_nested(model):
    with hooks(model, ["shared"], {"shared": lambda output: output + 1}) as outer:
        with hooks(model, ["shared"], {"shared": lambda output: output * 2}) as inner:
            model(X)
        model.shared(X)
    plain = model.shared(X)
    np.testing.assert_array_equal(inner["shared"][0].output, plain * 2)
    np.testing.assert_array_equal(outer["shared"][0].output, plain * 2 + 1)
    np.testing.assert_array_equal(outer["shared"][2].output, plain + 1)
    assert len(inner["shared"]) == 2 and len(outer["shared"]) == 3


def test_the_model_is_as_before_also_after_an_exception(model):
    graph, state = nnx.split(model)
    broken = ValueError("in the middle")
    with pytest.raises(ValueError, match="in the middle"), hooks(model, ["shared"], {"layers/0": jnp.zeros((2, 4))}):
        assert isinstance(model.shared, Linear)
        raise broken
    assert type(model.shared) is Linear and type(model.layers[0]) is Linear
    assert nnx.split(model)[0] == graph
    np.testing.assert_array_equal(model(X), nnx.merge(graph, state)(X))


def test_an_unknown_path_is_refused_with_the_nearest(model):
    with pytest.raises(InputError) as error, hooks(model, ["shared", "layer/1"], where="field x"):
        raise AssertionError("entered")
    assert (error.value.where, error.value.fix) == ("field x", "layers/1")
    assert error.value.problem == '"layer/1" is no part of Twice.'
    assert type(model.shared) is Linear, "what was hooked before the mistake was noticed is undone"
    with pytest.raises(InputError, match="is a list of modules") as error, hooks(model, ["layers"]):
        raise AssertionError("entered")
    assert error.value.found == "layers/0, layers/1"


def test_a_replacement_that_nothing_asks_for_is_refused(model):
    with pytest.raises(InputError, match='"layers/0" was to be replaced, but was not called'):  # noqa: SIM117
        with hooks(model, replace={"layers/0": jnp.zeros((2, 4))}):
            model.shared(X)


@pytest.mark.parametrize("form", [{"scan_layers": True}, {"remat": "full"}])
def test_layers_that_are_called_as_copies_are_refused(form):
    model = transformer.Config(**{**vars(CONFIG), **form}).build(rngs=nnx.Rngs(0))
    tokens, mask = jnp.ones((2, 8), jnp.int32), jnp.ones((2, 8), bool)
    with pytest.raises(InputError, match="scanned or computed again") as error, hooks(model, ["encoder/layers/0"]):
        model(tokens, mask)
    assert error.value.fix == "--model.scan_layers False --model.remat none"
    assert model(tokens, mask).shape == (2, 3)
