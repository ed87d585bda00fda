"""Ghost gradients: norms and sums of the gradients of single records, without any of these gradients.

The gradient of a record by a matrix is a product of what the record gave to the matrix and of the gradient by the
result. Its norm follows from inner products of these two (ghost clipping,
`Li et al., 2021 <https://arxiv.org/abs/2110.05679>`_; for convolutions
`Bu et al., 2022 <https://arxiv.org/abs/2205.10683>`_), and a weighted sum over records is a single product of them
(book-keeping, `Bu et al., 2022 <https://arxiv.org/abs/2210.00038>`_).

So layers report their products with parameters (`reported`), which costs nothing while nobody listens. The private
gradient listens to the loss of one record (`listening`): it adds a probe of zeros to each result, whose gradient is the
gradient by the result, and keeps what the parameter was given.

Dims: r records, p places of a record (rows, tokens, pixels), i inputs, o outputs, v rows of a table, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, Float, Int


class Product(ABC):
    """A kind of product that is linear in its parameter, and in which no record meets another."""

    @abstractmethod
    def apply(self, given: Array, weight: Array) -> Array:
        """The product of all records.

        Args:
            given: (r, ...), what each record gave.
            weight: the parameter.
        """

    @abstractmethod
    def squared_norms(self, given: Array, grad: Array) -> Float[Array, "r"]:
        """Squared norms of the gradients of single records by the parameter.

        Args:
            given: (r, ...), what each record gave.
            grad: (r, ...), gradients by the results.
        """

    def gradient(self, given: Array, weight: Array, grad: Array) -> Array:
        """The gradient by the parameter, summed over records; arguments as above."""
        results, pull = jax.vjp(lambda weight: self.apply(given, weight), weight)
        summed: Array = pull(grad.reshape(results.shape).astype(results.dtype))[0]
        return summed


@dataclass(frozen=True)
class Report:
    """One product of a parameter.

    Attributes:
        product: its kind.
        given: what the parameter was multiplied with.
        result: shape and format of the result.
    """

    product: Product
    given: Array
    result: jax.ShapeDtypeStruct


@dataclass
class Listener:
    """Hears of the products of some parameters.

    Attributes:
        names: identity of an array -> name of the parameter that it is.
        probes: name -> zeros that are added to the result.
        trace: where it listens. Inside of a scan or a program of its own a product may be computed many times, or
            again, and what it is made of must not leave.
        reports: name -> its products so far.
    """

    names: Mapping[int, str]
    probes: Mapping[str, Array]
    trace: Any
    reports: dict[str, list[Report]] = field(default_factory=dict)

    def hear(self, product: Product, given: Array, weight: Array, result: Array) -> Array:
        """The result, with the parameter's probe if there is one."""
        name = self.names.get(id(weight))
        if name is None or get_opaque_trace_state(convention="nnx") != self.trace:
            return result
        shape = jax.ShapeDtypeStruct(result.shape, result.dtype)
        self.reports.setdefault(name, []).append(Report(product, given, shape))
        return result + self.probes[name] if name in self.probes else result


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(weights: Mapping[str, Array], probes: Mapping[str, Array]) -> Iterator[Listener]:
    """Within it, products of the parameters ``weights``, by name, are heard of; see `Listener`."""
    names = {id(weight): name for name, weight in weights.items()}
    listener = Listener(names, probes, get_opaque_trace_state(convention="nnx"))
    token = _LISTENER.set(listener)
    try:
        yield listener
    finally:
        _LISTENER.reset(token)


def reported(product: Product, given: Array, weight: Array, result: Array) -> Array:
    """The ``result`` of a product of ``given`` and ``weight``, after whoever listens has heard of it."""
    listener = _LISTENER.get()
    return result if listener is None else listener.hear(product, given, weight, result)


def outer_squared_norms(x: Float[Array, "r p i"], g: Float[Array, "r p o"]) -> Float[Array, "r"]:
    """Squared norms of the matrices ``x.T @ g`` of single records: by inner products of places, or by the matrices
    themselves where a record has so many places that these take fewer operations and less memory."""
    (_, places, inputs), outputs = x.shape, g.shape[2]
    if places == 1:
        return jnp.square(x).sum((1, 2)) * jnp.square(g).sum((1, 2))
    if places * (inputs + outputs) > inputs * outputs:
        return jnp.square(jnp.einsum("rpi,rpo->rio", x, g)).sum((1, 2))
    return (jnp.einsum("rpi,rqi->rpq", x, x) * jnp.einsum("rpo,rqo->rpq", g, g)).sum((1, 2))


def gather(table: Float[Array, "v d"], index: Int[Array, "..."]) -> Float[Array, "... d"]:
    """Rows ``index`` of a table, in the manner of ``jnp.take`` with ``mode="clip"``, but that -1 is the last row."""
    product = _Gather(len(table))
    return reported(product, index, table, product.apply(index, table))


def first_rows(table: Float[Array, "v d"], count: int) -> Float[Array, "p d"]:
    """The first ``count`` rows of a table."""
    return reported(_Gather(len(table)), jnp.arange(count), table, table[:count])


@dataclass(frozen=True)
class _Gather(Product):
    """`gather` from a table of so many ``rows``."""

    rows: int

    def apply(self, given: Int[Array, "..."], weight: Array) -> Array:
        return weight.at[given].get(mode="clip")

    def squared_norms(self, given: Int[Array, "r ..."], grad: Float[Array, "r ... d"]) -> Float[Array, "r"]:
        index = self.apply(given.reshape(len(given), -1), jnp.arange(self.rows))  # numbers past the ends are rows there
        grad = grad.reshape(*index.shape, grad.shape[-1]).astype(jnp.float32)
        if index.shape[1] > self.rows:
            return outer_squared_norms(jax.nn.one_hot(index, self.rows, dtype=grad.dtype), grad)
        same = index[:, :, None] == index[:, None]
        return jnp.where(same, jnp.einsum("rpd,rqd->rpq", grad, grad), 0).sum((1, 2))
