"""Floating point operations of the matrix products and convolutions of a function, counted before it is compiled.

The compiler's figure runs loops once and misses what it hands to libraries. This one is for the whole function, however
many devices share it, and tells apart what is computed a second time to save memory: the work of a model, which its
utilisation is measured by, is the rest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters import partial_eval

_AGAIN = "rematted_computation"
"""In the names of equations that ``jax.checkpoint`` runs a second time."""
_MAPPED = ("newly_manual_axes", "manual_axes")
"""Names of the axes of a shard_map in versions of jax."""


@dataclass(frozen=True)
class Flops:
    """Operations of one call.

    Attributes:
        all: a multiplication and an addition count as two.
        again: of these, what ``jax.checkpoint`` computes a second time.
    """

    all: float
    again: float

    @property
    def model(self) -> float:
        """What the model needs, recomputation left out."""
        return self.all - self.again


def count(traced: Any) -> Flops:
    """Operations of ``jax.jit(function).trace(...)``, or of anything with a ``jaxpr``.

    What no result depends on, such as the gradient of a frozen parameter, doesn't count: the compiler leaves it out. A
    scan counts as often as it runs; a loop whose end depends on its values counts once; of a conditional the branch
    with the most work counts.
    """
    jaxpr = _plain(traced.jaxpr)
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return Flops(*_count(needed, False))


def _count(jaxpr: Any, again: bool) -> tuple[float, float]:
    whole, repeated = 0.0, 0.0
    for equation in jaxpr.eqns:
        second = again or _AGAIN in str(equation.source_info.name_stack)
        name = equation.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            work = _dot(equation) if name == "dot_general" else _conv(equation)
            whole, repeated = whole + work, repeated + work * second
            continue
        parts = [_count(inner, second) for inner in _inner(equation)]
        if not parts:
            continue
        times = _times(equation)
        chosen = [max(parts)] if name == "cond" else parts
        whole += times * sum(part[0] for part in chosen)
        repeated += times * sum(part[1] for part in chosen)
    return whole, repeated


def _times(equation: Any) -> int:
    """How often an equation's inner program runs, over all devices."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map":  # its program is that of one device along the axes it is mapped over
        mesh = equation.params["mesh"]
        mapped = next((equation.params[name] for name in _MAPPED if name in equation.params), mesh.axis_names)
        return math.prod(mesh.shape[axis] for axis in mapped)
    return 1


def _inner(equation: Any) -> Iterator[Any]:
    """The programs inside an equation."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield _plain(item)


def _plain(jaxpr: Any) -> Any:
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _dot(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _conv(equation: Any) -> float:
    """Each output sums a kernel of its channels; what an input's dilation fills with zeros is no work."""
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
    multiplications = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
    outputs = math.prod(equation.outvars[0].aval.shape)
    return 2.0 * outputs * multiplications / math.prod(equation.params["lhs_dilation"])
