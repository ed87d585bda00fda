"""Initial state: the arrays that a training begins with, by a program that holds only what must be computed.

Most arrays of a fresh state are constant: biases, scales, moments of the optimiser. Each would be a kernel of the
program, which takes the compiler longer than the host takes to fill the array.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from suite.training.state import State

_UNKNOWN = object()


def replayed(make: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """A function that does again what ``make`` did when it was traced, and shapes and dtypes of what it gives.

    Args:
        make: () -> arrays in any structure, of traceable operations.
    """
    closed, abstract = jax.make_jaxpr(make, return_shape=True)()
    every, structure = jaxpr_as_fun(closed), jax.tree.structure(abstract)
    return lambda: jax.tree.unflatten(structure, every()), abstract


class InitialState:
    """A function () -> State, traced once.

    Args:
        make: () -> State, of traceable operations.

    Attributes:
        abstract: shapes and dtypes of the state.
    """

    def __init__(self, make: Callable[[], State]):
        self._closed, self.abstract = jax.make_jaxpr(make, return_shape=True)()
        self._constants: list[Any] = [_UNKNOWN] * len(self._closed.jaxpr.outvars)
        self._drawn = self._jitted(None)

    def placed(self, shardings: Any, on_host: bool) -> "InitialState":
        """Where the arrays are made.

        Args:
            shardings: a State of them; None: on the default device, uncommitted.
            on_host: fill the constant arrays on the host, for a CPU of this process.
        """
        if on_host:
            self._constants = _constants(self._closed)
        self._drawn = self._jitted(None if shardings is None else jax.tree.leaves(shardings))
        return self

    def lower(self) -> Any:
        """The program that computes what is not constant, lowered."""
        return self._drawn.lower()

    def __call__(self) -> State:
        drawn = iter(self._drawn())
        leaves = [next(drawn) if value is _UNKNOWN else _filled(value) for value in self._constants]
        state: State = jax.tree.unflatten(jax.tree.structure(self.abstract), leaves)
        return state

    def _jitted(self, shardings: list[Any] | None) -> Any:
        every, constants = jaxpr_as_fun(self._closed), self._constants
        chosen = lambda values: [value for value, known in zip(values, constants, strict=True) if known is _UNKNOWN]
        return jax.jit(lambda: chosen(every()), out_shardings=None if shardings is None else chosen(shardings))


def _constants(closed: ClosedJaxpr) -> list[Any]:
    """Of each output what fills it, as (value, shape, dtype), or ``_UNKNOWN`` where it must be computed."""
    filled = {}
    for equation in closed.jaxpr.eqns:
        kind, given = equation.primitive.name, equation.invars[:1]
        if kind == "broadcast_in_dim" and isinstance(given[0], Literal):
            filled[equation.outvars[0]] = given[0].val
        elif kind == "copy" and not isinstance(given[0], Literal) and given[0] in filled:  # of an average of parameters
            filled[equation.outvars[0]] = filled[given[0]]
    return [_constant(out, filled) for out in closed.jaxpr.outvars]


def _constant(out: Any, filled: dict[Any, Any]) -> Any:
    value = out.val if isinstance(out, Literal) else filled.get(out, _UNKNOWN)
    if value is _UNKNOWN or np.ndim(value) or out.aval.weak_type:
        return _UNKNOWN
    return value, out.aval.shape, out.aval.dtype


def _filled(constant: tuple[Any, tuple[int, ...], Any]) -> jax.Array:
    value, shape, dtype = constant
    return jax.device_put(np.full(shape, value, dtype), may_alias=False)  # a step will be given its memory
