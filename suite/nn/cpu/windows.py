"""Windows over two axes, place by place: of kernels (`suite.nn.cpu.patches`) and of pooling."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array


def met(x: Array, taps: tuple[int, int], stride: int) -> list[Array]:
    """What each place of the windows meets, (b, y, x, c) each; ``x`` is padded already."""
    y, z = ((n - size) // stride + 1 for n, size in zip(x.shape[1:3], taps, strict=True))
    return [
        x[:, p : p + (y - 1) * stride + 1 : stride, q : q + (z - 1) * stride + 1 : stride] for p, q in np.ndindex(*taps)
    ]


def woven(grids: list[list[Array]]) -> Array:
    """Grids of every s-th place, (b, y, x, c) each, by the place they begin at -> (b, y, s, x, s, c)."""
    return jnp.stack([jnp.stack(row, 3) for row in grids], 2)


def computed(whole: Array) -> Array:
    """``whole``, computed before its use. XLA would compute what produced it once for each patch it is in, since that
    looks cheap to it, and its barriers are gone when it decides. It doesn't look into a branch, though never taken.
    """
    return lax.cond(
        whole.reshape(-1)[0] == whole.dtype.type(0x7FAB), lambda whole: whole + 0, lambda whole: whole, whole
    )
