"""Initial state: the arrays that a training begins with, by a program that holds only what must be computed.

Most arrays of a fresh state are constant (biases, scales, moments of the optimiser) or copies (a moving average of the
parameters). Each would be a kernel of the program, which takes the compiler longer than the host takes to fill the
array. So would each key, which is folded from the seed by a loop of rounds: keys are computed before the program, and
are its arguments, so that another seed compiles nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from suite.training.state import State

_DRAWN = object()
"""An output that the program computes."""


@dataclass(frozen=True)
class _Filled:
    """An output that is one value throughout."""

    value: Any
    shape: tuple[int, ...]
    dtype: Any

    def make(self, leaves: list[Any]) -> jax.Array:
        return _owned(np.full(self.shape, self.value, self.dtype))


@dataclass(frozen=True)
class _Copied:
    """An output that begins as another one does."""

    place: int

    def make(self, leaves: list[Any]) -> jax.Array:
        return _owned(np.asarray(leaves[self.place]))


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
        closed, self.abstract = jax.make_jaxpr(make, return_shape=True)()
        self._jaxpr, self._keys = _without_keys(closed)
        self._how: list[Any] = [_DRAWN] * len(self._jaxpr.outvars)
        self._program = self._jitted(None)

    def placed(self, shardings: Any, on_host: bool) -> "InitialState":
        """Where the arrays are made.

        Args:
            shardings: a State of them; None: on the default device, uncommitted.
            on_host: fill and copy on the host what need not be computed, for a CPU of this process.
        """
        if on_host:
            self._how = _how(self._jaxpr, self._keys)
        self._program = self._jitted(None if shardings is None else jax.tree.leaves(shardings))
        return self

    def lower(self) -> Any:
        """The program that computes what the host does not make, lowered."""
        return self._program.lower(*self._keys)

    def __call__(self) -> State:
        drawn = iter(self._program(*self._keys))
        leaves = [next(drawn) if how is _DRAWN else None for how in self._how]
        made = [leaf if how is _DRAWN else how.make(leaves) for leaf, how in zip(leaves, self._how, strict=True)]
        state: State = jax.tree.unflatten(jax.tree.structure(self.abstract), made)
        return state

    def _jitted(self, shardings: list[Any] | None) -> Any:
        drawn = lambda values: [value for value, how in zip(values, self._how, strict=True) if how is _DRAWN]
        program = lambda *keys: drawn(jaxpr_as_fun(ClosedJaxpr(self._jaxpr, keys))())
        return jax.jit(program, out_shardings=None if shardings is None else drawn(shardings))


def _without_keys(closed: ClosedJaxpr) -> tuple[Any, list[Any]]:
    """What is left of a program where its keys are given, and these keys: those that it takes as its constants."""
    jaxpr, known, left = closed.jaxpr, dict(zip(closed.jaxpr.constvars, closed.consts, strict=True)), []
    for equation in jaxpr.eqns:
        needed = _variables(equation.invars)
        if all(map(_is_key, equation.outvars)) and needed <= known.keys():
            alone = jaxpr.replace(constvars=list(needed), eqns=[equation], outvars=equation.outvars)
            made = jaxpr_as_fun(ClosedJaxpr(alone, [known[variable] for variable in needed]))()
            known |= zip(equation.outvars, made, strict=True)
        else:
            left.append(equation)
    used = _variables(jaxpr.outvars).union(*(_variables(equation.invars) for equation in left))
    keys = {variable: value for variable, value in known.items() if variable in used}
    return jaxpr.replace(constvars=list(keys), eqns=left), list(keys.values())


def _variables(atoms: Sequence[Any]) -> set[Any]:
    return {each for each in atoms if not isinstance(each, Literal)}


def _is_key(variable: Any) -> bool:
    """Whether it is a key, or one of the numbers that are folded into keys."""
    return _holds_keys(variable) or (not variable.aval.shape and jnp.issubdtype(variable.aval.dtype, np.integer))


def _holds_keys(variable: Any) -> bool:
    return bool(jnp.issubdtype(variable.aval.dtype, jax.dtypes.prng_key))


def _how(jaxpr: Any, keys: list[Any]) -> list[Any]:
    """How each output is made: ``_DRAWN`` where it must be computed."""
    filled = {variable: value for variable, value in zip(jaxpr.constvars, keys, strict=True) if not np.ndim(value)}
    copied: dict[Any, Any] = {}
    for equation in jaxpr.eqns:
        kind, source, made = equation.primitive.name, next(iter(equation.invars), None), equation.outvars[0]
        if kind in ("broadcast_in_dim", "copy") and isinstance(source, Literal):
            filled[made] = source.val
        elif kind == "copy" and source in filled:
            filled[made] = filled[source]
        elif kind == "copy":
            copied[made] = copied.get(source, source)
    places = {out: place for place, out in enumerate(jaxpr.outvars) if not isinstance(out, Literal)}

    def of(out: Any) -> Any:
        if _holds_keys(out):
            return _DRAWN
        literal = isinstance(out, Literal)
        if not literal and (place := places.get(copied.get(out))) is not None:
            return _Copied(place)
        value = out.val if literal else filled.get(out, _DRAWN)
        if value is _DRAWN or np.ndim(value) or out.aval.weak_type:
            return _DRAWN
        return _Filled(value, out.aval.shape, out.aval.dtype)

    return [of(out) for out in jaxpr.outvars]


def _owned(values: np.ndarray) -> jax.Array:
    return jax.device_put(values, may_alias=False)  # a step will be given its memory
