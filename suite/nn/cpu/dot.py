"""Matrix products on a CPU, in forms for which XLA's backend (jaxlib 0.10) has fast kernels.

Dims: see `suite.nn.dot`.
"""

from collections.abc import Callable

from jaxtyping import Array, Float


def outer(plain: Callable[[Array, Array], Array], x: Float[Array, "... i"], g: Float[Array, "... o"]) -> Array:
    """``plain`` of the operands. A product that contracts the first axis of two matrices misses the fast kernel; over
    two axes it doesn't.
    """
    if x.ndim == 2 and x.shape[0] % 2 == 0:
        x, g = x.reshape(2, -1, x.shape[1]), g.reshape(2, -1, g.shape[1])
    return plain(x, g)
