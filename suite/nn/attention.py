"""Attention: of a sequence on itself, of a decoder on a memory, and token by token with a cache.

Dims: b batch, t = q tokens that ask, s tokens that answer, d width, h heads, g key and value heads (g divides h),
r heads that share one of them (h = g * r), k head width.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from suite.nn.attention_weights import changed, watched
from suite.nn.cpu import attention as on_cpu
from suite.nn.cpu.switch import by_target
from suite.nn.dot import Computing, einsum
from suite.nn.dropout import Dropout
from suite.nn.embedding import rotary
from suite.nn.linear import Linear
from suite.parallel.layout import on_mesh, target_platform
from suite.parallel.target import has_cudnn

_HIDDEN = -1e9
"""Score of a key that is padding: its weight underflows to 0, and a row of nothing but padding stays finite."""

Kernel = Literal["auto", "plain", "fused"]
"""How attention is computed. ``"plain"``: two einsums with all scores between them. ``"fused"``:
`jax.nn.dot_product_attention`, by cuDNN where it applies. ``"auto"``: fused on an accelerator, plain on a CPU. In a
program for several platforms it is plain."""

Pair = tuple[Array, Array]
"""Keys and values of one layer, as a cache holds them: (b, g, s, k) each."""


class SelfAttention(Computing):
    """Every token reads all tokens that it may see (`Vaswani et al., 2017 <https://arxiv.org/abs/1706.03762>`_).

    Query, key and value have kernels of their own: pretrained weights come that way, and each splits over devices
    by heads. The softmax is float32.

    Attributes:
        query, out: (width, heads * head width) and back.
        key, value: (width, kv_heads * head width). Fewer of them than heads is grouped-query attention
            (`Ainslie et al., 2023 <https://arxiv.org/abs/2305.13245>`_).
        dropout: acts on the attention weights, where it needs the plain kernel.
        compute: format of the operands of the two products.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        turn: bool = False,
        theta: float = 10_000.0,
        kv_heads: int = 0,
        head_width: int = 0,
        use_bias: bool = True,
        causal: bool = False,
        scaled: bool = True,
        kernel: Kernel = "auto",
    ):
        """
        Args:
            width: d.
            heads: h.
            rngs: of the initial parameters.
            dropout: fraction of the attention weights.
            turn: apply rotary positions to queries and keys.
            theta: base of the rotary frequencies.
            kv_heads: g; 0 for h.
            head_width: k; 0 for d / h.
            use_bias: of all four projections.
            causal: a token sees itself and those before it.
            scaled: scores are divided by the root of k; T5 leaves that to its initial weights.
            kernel: see `Kernel`.
        """
        size = head_width or width // heads
        self.query = Linear(
            width, heads * size, rngs=rngs, narrow=True, use_bias=use_bias, init=_query_init(scaled, size)
        )
        self.key = Linear(width, (kv_heads or heads) * size, rngs=rngs, narrow=True, use_bias=use_bias)
        self.value = Linear(width, (kv_heads or heads) * size, rngs=rngs, narrow=True, use_bias=use_bias)
        self.out = Linear(heads * size, width, rngs=rngs, narrow=True, use_bias=use_bias)
        self.dropout = Dropout(dropout)
        self.size = size
        self.kv_heads = kv_heads or heads
        self.turn = turn
        self.theta = theta
        self.causal = causal
        self.scaled = scaled
        self.kernel = kernel
        self.compute = "float32"

    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"] | None = None,
        rngs: nnx.Rngs | None = None,
        *,
        bias: Float[Array, "#b h t t"] | None = None,
        places: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """
        Args:
            x: one vector a token.
            mask: True where a token is real; None where all are.
            rngs: of dropout, in training.
            bias: added to the scores.
            places: each token's place, for rotary positions; None counts from 0.
        """
        q, k, v = self._project(x, places)
        visible = None if mask is None else mask[:, None, None, :]
        mixed = attend(
            q,
            k,
            v,
            visible=visible,
            causal=self.causal,
            bias=bias,
            scale=self._scale,
            compute=self.compute,
            drop=active(self.dropout, rngs),
            kernel=self.kernel,
        )
        return self._out(mixed)

    def step(
        self,
        x: Float[Array, "b q d"],
        cache: Pair,
        slot: Int[Array, ""],
        visible: Bool[Array, "b 1 q s"],
        *,
        bias: Float[Array, "#b h q s"] | None = None,
        places: Int[Array, "b q"] | None = None,
    ) -> tuple[Float[Array, "b q d"], Pair]:
        """As a call, of ``q`` new tokens after those whose keys and values ``cache`` holds.

        Args:
            x: the new tokens' vectors.
            cache: with room for s tokens; donate it, and it is written in place.
            slot: where in it the new tokens go.
            visible: which slots each new token sees, the causal order included.
            bias, places: as in a call.
        """
        q, k, v = self._project(x, places)
        at = (0, 0, slot, 0)
        keys = lax.dynamic_update_slice(cache[0], k.swapaxes(1, 2).astype(cache[0].dtype), at)
        values = lax.dynamic_update_slice(cache[1], v.swapaxes(1, 2).astype(cache[1].dtype), at)
        mixed = _plain(q, keys, values, visible, bias, self._scale, None, self.compute, "bgsk")
        return self._out(mixed), (keys, values)

    def empty(self, rows: int, length: int, dtype: str = "float32") -> Pair:
        """A cache for ``rows`` sequences of at most ``length`` tokens."""
        shape = (rows, self.kv_heads, length, self.size)
        return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)

    @property
    def _scale(self) -> float:
        return self.size**-0.5 if self.scaled else 1.0

    def _project(
        self, x: Float[Array, "b t d"], places: Int[Array, "b t"] | None
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b t g k"], Float[Array, "b t g k"]]:
        q, k, v = (_split(part(x), self.size) for part in (self.query, self.key, self.value))
        return (rotary(q, self.theta, places), rotary(k, self.theta, places), v) if self.turn else (q, k, v)

    def _out(self, mixed: Float[Array, "b t h k"]) -> Float[Array, "b t d"]:
        return self.out(mixed.reshape(*mixed.shape[:2], -1))


class CrossAttention(Computing):
    """Every token of a decoder reads all real tokens of a memory, which has no places of its own here.

    Attributes:
        query, key, value, out: the projections, each (width, heads * head width) or back.
        dropout: acts on the attention weights.
        compute: format of the operands of the two products.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        head_width: int = 0,
        use_bias: bool = True,
        scaled: bool = True,
        kernel: Kernel = "auto",
    ):
        """Arguments as those of `SelfAttention`."""
        self.size = head_width or width // heads
        inside = heads * self.size
        self.query = Linear(
            width, inside, rngs=rngs, narrow=True, use_bias=use_bias, init=_query_init(scaled, self.size)
        )
        self.key = Linear(width, inside, rngs=rngs, narrow=True, use_bias=use_bias)
        self.value = Linear(width, inside, rngs=rngs, narrow=True, use_bias=use_bias)
        self.out = Linear(inside, width, rngs=rngs, narrow=True, use_bias=use_bias)
        self.dropout = Dropout(dropout)
        self.scaled = scaled
        self.kernel = kernel
        self.compute = "float32"

    def __call__(
        self,
        x: Float[Array, "b t d"],
        memory: Float[Array, "b s d"],
        mask: Bool[Array, "b s"] | None = None,
        rngs: nnx.Rngs | None = None,
        *,
        keyed: Float[Array, "b s d"] | None = None,
    ) -> Float[Array, "b t d"]:
        """``mask`` is True where a token of the memory is real; None where all are. ``keyed`` is what keys are made of
        where that is not the memory itself, such as the memory with its positions."""
        keyed = memory if keyed is None else keyed
        q, k, v = (_split(part(y), self.size) for part, y in ((self.query, x), (self.key, keyed), (self.value, memory)))
        visible = None if mask is None else mask[:, None, None, :]
        mixed = attend(
            q,
            k,
            v,
            visible=visible,
            scale=self._scale,
            compute=self.compute,
            drop=active(self.dropout, rngs),
            kernel=self.kernel,
        )
        return self.out(mixed.reshape(*mixed.shape[:2], -1))

    def remember(self, memory: Float[Array, "b s d"]) -> Pair:
        """Keys and values of a memory, computed once for all steps."""
        k, v = (_split(part(memory), self.size).swapaxes(1, 2) for part in (self.key, self.value))
        return k, v

    def step(self, x: Float[Array, "b q d"], memory: Pair, mask: Bool[Array, "b s"]) -> Float[Array, "b q d"]:
        """As a call, on what `remember` made of the memory."""
        q = _split(self.query(x), self.size)
        mixed = _plain(q, *memory, mask[:, None, None, :], None, self._scale, None, self.compute, "bgsk")
        return self.out(mixed.reshape(*mixed.shape[:2], -1))

    @property
    def _scale(self) -> float:
        return self.size**-0.5 if self.scaled else 1.0


def _query_init(scaled: bool, size: int) -> Callable:
    """Initial values of the query's kernel: where scores are not scaled, they make up for it."""
    return nnx.initializers.variance_scaling(1.0 if scaled else 1 / size, "fan_in", "truncated_normal")


def _split(x: Float[Array, "b t hk"], size: int) -> Float[Array, "b t h k"]:
    return x.reshape(*x.shape[:2], -1, size)


def active(dropout: Dropout, rngs: nnx.Rngs | None) -> Callable[[Array], Array] | None:
    """Dropout as a function of the weights; None where it does nothing."""
    return None if rngs is None or not dropout.rate else lambda weights: dropout(weights, rngs)


def attend(
    q: Float[Array, "b q h k"],
    k: Float[Array, "b s g k"],
    v: Float[Array, "b s g k"],
    *,
    visible: Bool[Array, "b 1 #q s"] | None = None,
    causal: bool = False,
    bias: Float[Array, "#b h q s"] | None = None,
    scale: float = 1.0,
    compute: str = "float32",
    drop: Callable[[Array], Array] | None = None,
    kernel: Kernel = "auto",
) -> Float[Array, "b q h k"]:
    """Values averaged by the softmax of ``scale * q . k + bias`` over the keys that are visible.

    Args:
        q, k, v: queries, keys, values; query head i reads key head i // r.
        visible: which keys a query sees; None for all.
        causal: besides, a query sees no key after itself.
        bias: added to the scores.
        scale: of the products.
        compute: format of the operands.
        drop: dropout of the weights; given, it takes the plain kernel.
        kernel: see `Kernel`.
    """
    implementation = None if drop is not None or watched() else _fused(kernel, compute, q.shape[-1])
    if implementation is None:
        if causal:
            order = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))[None, None]
            visible = order if visible is None else visible & order
        return _plain(q, k, v, visible, bias, scale, drop, compute, "bsgk")
    narrow = jnp.bfloat16 if compute == "bfloat16" else jnp.float32
    q, k, v = (x.astype(narrow) for x in (q, k, v))
    bias = None if bias is None else bias.astype(narrow)
    mixed = jax.nn.dot_product_attention(
        q, k, v, bias, visible, scale=scale, is_causal=causal, implementation=implementation
    )
    return mixed.astype(jnp.float32)


def _fused(kernel: Kernel, compute: str, size: int) -> Literal["xla", "cudnn"] | None:
    """Which implementation of the fused kernel serves, None for the plain one. Decided while tracing, by the platform
    that the program is for.

    Not by `jax.lax.platform_dependent`, which traces all branches: cuDNN's refuses to be traced where it is absent.
    """
    platform = target_platform()
    if kernel == "plain" or platform is None or (kernel == "auto" and platform == "cpu"):
        return None
    if platform == "cuda" and compute == "bfloat16" and size % 8 == 0 and size <= 128 and has_cudnn():
        return "cudnn"
    return "xla"


def _plain(
    q: Float[Array, "b q h k"],
    k: Array,
    v: Array,
    visible: Bool[Array, "#b 1 #q s"] | None,
    bias: Float[Array, "#b h q s"] | None,
    scale: float,
    drop: Callable[[Array], Array] | None,
    compute: str,
    layout: Literal["bsgk", "bgsk"],
) -> Float[Array, "b q h k"]:
    """`attend` by two products; ``layout`` names the axes of keys and values."""
    weigh = None if drop is None and not watched() else lambda weights: changed(drop(weights) if drop else weights)
    operands = q * scale, k.astype(q.dtype), v.astype(q.dtype), visible, bias  # a cache may be bfloat16
    apart = partial(_apart, compute, layout, weigh)
    folded = partial(on_cpu.attend, partial(einsum, compute=compute), _HIDDEN, layout, weigh)
    # Axes that a mesh splits are not folded into one; and who looks at weights sees them in one form alone.
    if on_mesh() or (weigh is not None and target_platform() is None):
        return apart(*operands)
    return by_target(*operands, cpu=folded, default=apart)


def _apart(
    compute: str,
    layout: str,
    weigh: Callable[[Array], Array] | None,
    q: Float[Array, "b q h k"],
    k: Array,
    v: Array,
    visible: Bool[Array, "#b 1 #q s"] | None,
    bias: Float[Array, "#b h q s"] | None,
) -> Float[Array, "b q h k"]:
    """Scaled queries' answers by products whose axes stay apart."""
    h, g = q.shape[2], k.shape[layout.index("g")]
    # One letter for the heads where each has its own key: XLA then makes the two products as they are written.
    heads, keys = ("h", layout.replace("g", "h")) if h == g else ("gr", layout)
    if h != g:
        q = q.reshape(*q.shape[:2], g, h // g, q.shape[3])
    scores = einsum(f"bq{heads}k,{keys}->b{heads}qs", q, k, compute)
    if bias is not None:
        scores = scores + bias.reshape(bias.shape[0], *scores.shape[1:])
    if visible is not None:
        visible = visible.reshape(visible.shape[0], *(1 for _ in heads), *visible.shape[2:])
        scores = jnp.where(visible, scores, _HIDDEN)
    weights = jax.nn.softmax(scores, -1)
    if weigh is not None:
        weights = weigh(weights)
    mixed = einsum(f"b{heads}qs,{keys}->bq{heads}k", weights, v, compute, narrow=True)
    return mixed.reshape(*mixed.shape[:2], h, -1)
