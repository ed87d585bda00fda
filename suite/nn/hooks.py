"""What parts of a model give out while the whole is called, without a change to the model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from suite.errors import InputError, closest


@dataclass(frozen=True)
class Given:
    """What a part of a model gave out.

    Attributes:
        output: (b, ..., d); of several outputs the first.
        real: (b, ...) which rows, or places of a row, are no padding, as the part was told or told itself; None: all.
    """

    output: Float[Array, "b ... d"]
    real: Bool[Array, "b ..."] | None


class _Heard(nnx.Module):
    """Stands in the place of a part, calls it, and notes what it gave out."""

    def __init__(self, part: nnx.Module, note: Callable[[Any, tuple[Any, ...]], None]):
        self.part = part
        self.note = note

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        made = self.part(*inputs, **named)  # type: ignore[operator]
        self.note(made, (*inputs, *named.values()))
        return made


@contextlib.contextmanager
def recording(model: nnx.Module, wanted: Sequence[str]) -> Iterator[dict[str, Given]]:
    """Path -> what the part at that path gives out when the model is called inside the context; of several calls the
    last. Within one trace: the model is that of the function being traced.

    Raises:
        InputError: the model has no such part.
    """
    heard: dict[str, Given] = {}
    places = [(path, *_place(model, path)) for path in dict.fromkeys(wanted)]

    def noting(path: str) -> Callable[[Any, tuple[Any, ...]], None]:
        return lambda made, inputs: heard.__setitem__(path, _given(path, made, inputs))

    for path, parent, name, part in places:
        setattr(parent, name, _Heard(part, noting(path)))
    try:
        yield heard
    finally:
        for _, parent, name, part in places:
            setattr(parent, name, part)


def _place(model: nnx.Module, path: str) -> tuple[nnx.Module, str, nnx.Module]:
    """The module that holds the part at ``path``, under which name, and the part."""
    parts = {"/".join(map(str, place)): module for place, module in nnx.iter_modules(model)}
    if not path or path not in parts:
        near = closest(path, parts)
        raise InputError(
            "field distill.hidden",
            f'"{path}" is no part of {type(model).__name__}.',
            found=", ".join(name for name in parts if name.count("/") == 2) or ", ".join(parts),
            fix=near,
        )
    parent, _, name = path.rpartition("/")
    return parts[parent], name, parts[path]


def _given(path: str, made: Any, inputs: tuple[Any, ...]) -> Given:
    """What is told of padding is the boolean array that speaks of the output's first axes, the most of them."""
    output, *others = made if isinstance(made, tuple) else (made,)
    if not (isinstance(output, jax.Array) and output.ndim >= 2 and jnp.issubdtype(output.dtype, jnp.floating)):
        raise InputError("field distill.hidden", f'"{path}" gives out no vectors.', found=type(output).__name__)
    told = [
        each
        for each in (*others, *inputs)
        if isinstance(each, jax.Array) and each.dtype == bool and each.shape == output.shape[: each.ndim]
    ]
    return Given(output, max(told, key=lambda each: each.ndim, default=None))
