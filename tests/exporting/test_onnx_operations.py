"""Traced functions written as ONNX and computed by ONNX Runtime: the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from suite.exporting.onnx.converting import convert
from suite.exporting.onnx.graph import Unsupported

onnxruntime = pytest.importorskip("onnxruntime", reason="reads ONNX: the extra onnx")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 6)).astype(np.float32)
PLACES = RNG.integers(0, 4, (3, 4)).astype(np.int32)
TABLE = RNG.standard_normal((5, 6)).astype(np.float32)
PICTURES = RNG.standard_normal((3, 8, 8, 4)).astype(np.float32)
KERNEL = RNG.standard_normal((3, 3, 4, 5)).astype(np.float32)
NHWC = ("NHWC", "HWIO", "NHWC")


def norm(x, scale=1.5, bias=0.5):
    centred = x - x.mean(-1, keepdims=True)
    width = np.linspace(scale, 2, 6, dtype=np.float32)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6) * width + (width + bias)


def counted(x):
    """A loop that ends when a sum is large enough, and keeps what it saw."""

    def body(state):
        step, seen, total = state
        return step + 1, seen.at[:, step].set(total), total + jnp.abs(x[:, 0, 0]) + 1

    return lax.while_loop(lambda state: state[2].sum() < 20, body, (0, jnp.zeros((x.shape[0], 9)), x[:, 0, 1]))[1]


def recurrent(x, reverse=False):
    def step(state, row):
        state = jnp.tanh(state + row @ TABLE.T[:6, :5] @ TABLE)
        return state, state * 2

    last, every = lax.scan(step, jnp.zeros((x.shape[0], 6)), x.swapaxes(0, 1), reverse=reverse)
    return {"last": last, "every": every.swapaxes(0, 1)}


def attention(x):
    heads = x.reshape(-1, 4, 2, 3)
    weights = jax.nn.softmax(jnp.einsum("bqhk,bshk->bhqs", heads, heads))
    return jnp.einsum("bhqs,bshk->bqhk", weights, heads)


def conv(x, kernel=KERNEL, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC, **options)


FLOATS = {
    "sums": lambda x: (x + 1) * 2 - x / 3 - jnp.square(x) + x**3,
    "curves": lambda x: (
        jnp.tanh(x) + jax.nn.sigmoid(x) + jnp.exp(x) + jnp.log1p(jnp.abs(x)) + jnp.expm1(x) + lax.erf(x)
    ),
    "angles": lambda x: jnp.sin(x) + jnp.cos(x) + jnp.sqrt(jnp.abs(x)) + lax.rsqrt(jnp.abs(x) + 1),
    "softplus": jax.nn.softplus,
    "gelu": lambda x: 0.5 * x * (1 + lax.erf(x * 2**-0.5)),
    "norm": norm,
    "softmax": lambda x: jax.nn.softmax(x, -1),
    "log_softmax": jax.nn.log_softmax,
    "choices": lambda x: jnp.where(x > 0, x, -1) + jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, x[:, :1]),
    "rounded": lambda x: jnp.round(3 * x) + jnp.floor(x) + jnp.ceil(x) + jnp.sign(x),
    "remainders": lambda x: (10 * x).astype(jnp.int32) % 3 + (10 * x).astype(jnp.int32) // 4,
    "extremes": lambda x: x.max(1) + x.min(1) + x.argmax(1) + (x > 3).any(1) + (x > -9).all(1),
    "running": lambda x: jnp.cumsum(x, 1) + jnp.cumsum(x[:, ::-1], 2),
    "shapes": lambda x: jnp.concatenate([x.reshape(-1, 6, 4), x.transpose(0, 2, 1)], 1)[:, 1:9:2],
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0)))[:, :, None, 1:],
    "split": lambda x: jnp.stack(jnp.split(x, 2, -1), 1),
    "parts": lambda x: lax.dynamic_slice_in_dim(x, x[0, 0].argmax(), 3, 1),
    "counted": counted,
    "sorted": lambda x: jnp.sort(x, -1) + lax.top_k(x, 6)[0] + jnp.argsort(x, -1),
    "products": lambda x: jnp.einsum("bqk,bsk->bqs", x, x) @ x,
    "attention": attention,
    "outer": lambda x: jnp.einsum("bqk,bsd->bqskd", x, x[:, :, :2]),
    "contracted": lambda x: jnp.einsum("bqk,qkd->bd", x, np.ones((4, 6, 2), np.float32)),
    "spectrum": lambda x: jnp.square(jnp.fft.rfft(x).real) + jnp.fft.rfft(x).imag,
    "recurrent": recurrent,
    "backwards": lambda x: recurrent(x, True),
    "chosen": lambda x: lax.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, x),
    "frames": lambda x: x.reshape(-1, 24)[:, np.arange(0, 16, 4)[:, None] + np.arange(8)],
}
TABLES = {
    "rows": lambda i: jnp.asarray(TABLE)[i],
    "clipped": lambda i: jnp.take(TABLE, 3 * i, axis=0, mode="clip"),
    "filled": lambda i: jnp.take(TABLE, 3 * i, axis=0, mode="fill"),
    "columns": lambda i: jnp.take(TABLE, i, axis=1),
    "along": lambda i: jnp.take_along_axis(jnp.asarray(TABLE[:3, :4]) * (1 + 0 * i), i, 1),
    "picked": lambda i: (i + jnp.asarray(TABLE[:3, :4]))[jnp.arange(i.shape[0]), i[:, 0]],
    "onehot": lambda i: jax.nn.one_hot(i, 4),
    "added": lambda i: jnp.zeros((4, 2)).at[i[:, 0]].add(1.0),
    "written": lambda i: (i * 1.0).at[jnp.arange(i.shape[0]), i[:, 1]].set(7.0),
    "parts": lambda i: jax.vmap(lambda row, start: lax.dynamic_update_slice(row, -row[:2], (start,)))(i, i[:, 0]),
}
PLANES = {
    "convolved": conv,
    "strided": lambda x: conv(x, KERNEL, (2, 2), ((1, 1), (0, 2)), rhs_dilation=(2, 1)),
    "depthwise": lambda x: conv(x, KERNEL[:, :, :1, :4], feature_group_count=4),
    "transposed": lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME", dimension_numbers=NHWC),
    "scaled": lambda x: jax.nn.relu(conv(x) * np.arange(5.0, dtype=np.float32) + 1).mean((1, 2)),
    "largest": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    "means": lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4,
}
CASES = [
    pytest.param(function, given, id=f"{kind}-{name}")
    for kind, functions, given in (("numbers", FLOATS, X), ("tables", TABLES, PLACES), ("planes", PLANES, PICTURES))
    for name, function in functions.items()
]


def computed(function, x, rows="b"):
    """By ONNX Runtime, of a model for any number of rows."""

    def named(constants, batch):
        made = function(batch["x"])
        return made if isinstance(made, dict) else {"y": made}

    (symbol,) = jax.export.symbolic_shape(rows) if rows else (x.shape[0],)
    model = convert(named, [{}], {"x": jax.ShapeDtypeStruct((symbol, *x.shape[1:]), x.dtype)}, "case")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return model, dict(zip(names, session.run(names, {"x": x}), strict=True)), named({}, {"x": jnp.asarray(x)})


@pytest.mark.parametrize(("function", "x"), CASES)
def test_what_onnx_runtime_computes_is_what_jax_does(function, x):
    one_row = function in (TABLES["along"], TABLES["picked"])  # beside a table of three rows
    _, ours, theirs = computed(function, x, "" if one_row else "b")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "operator"), [("gelu", "Gelu"), ("norm", "LayerNormalization"), ("softmax", "Softmax")]
)
def test_chains_with_an_operator_of_their_own_are_one_node(name, operator):
    model, _, _ = computed(FLOATS[name], X)
    assert [node.op_type for node in model.graph.node] == [operator, "Identity"]


def test_planes_stay_planes():
    """One transposition before a convolution, none between it and what follows number by number."""
    model, _, _ = computed(PLANES["scaled"], PICTURES)
    assert [node.op_type for node in model.graph.node].count("Transpose") == 1


def test_what_cannot_be_written_is_said():
    def noise(x):
        return x + jax.random.normal(jax.random.key(x[0, 0, 0].astype(jnp.int32)), (6,))

    with pytest.raises(Unsupported, match="draws random numbers"):
        computed(noise, X)
    with pytest.raises(Unsupported, match="computes lgamma"):
        computed(lambda x: jax.scipy.special.gammaln(jnp.abs(x)), X)
