"""Attention weights on their way from the softmax to the values: seen and changed by who explains an answer."""

import contextlib
from collections.abc import Callable, Iterator

from jaxtyping import Array, Float

Weights = Float[Array, "b h q s"]
_CHANGES: list[Callable[[Weights], Weights]] = []
"""What weights go through, the innermost context's last."""


@contextlib.contextmanager
def weighed(change: Callable[[Weights], Weights]) -> Iterator[None]:
    """Within the context, all attention weights go through ``change``, in the order in which they are computed; the
    kernel is then the plain one. It works while a function is traced, as `suite.nn.hooks.hooks` does."""
    _CHANGES.append(change)
    try:
        yield
    finally:
        _CHANGES.pop()


def watched() -> bool:
    """Whether somebody looks at the weights, so that they must be computed by themselves."""
    return bool(_CHANGES)


def changed(weights: Array) -> Array:
    """The weights (b, h, q, s), or with heads in groups (b, g, r, q, s), as the contexts leave them."""
    for change in _CHANGES:
        weights = change(weights.reshape(weights.shape[0], -1, *weights.shape[-2:])).reshape(weights.shape)
    return weights
