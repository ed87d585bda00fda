"""Streams of random keys whose draws are as quick to trace as they are to compute."""

from flax import nnx
from jax import random
from jaxtyping import Array


class Stream(nnx.RngStream):
    """A stream of the same keys as `flax.nnx.RngStream`.

    That one asks a count under trace where it lies. The answer is an error, for whose text JAX walks through all that
    was traced so far: of the tracing of a deep model, half of the time and more.
    """

    def __call__(self) -> Array:
        key: Array = random.fold_in(self.key[...], self.count[...])
        self.count.set_value(self.count[...] + 1)
        return key


def streams(default: Array | int | None = None, **named: Array | int) -> nnx.Rngs:
    """As `flax.nnx.Rngs`, of such streams.

    Args:
        default: key or seed of the stream that is drawn from where the one asked for is not ``named``.
        named: those of others.
    """
    rngs = nnx.Rngs()
    for name, key in {**({} if default is None else {"default": default}), **named}.items():
        setattr(rngs, name, Stream(key, tag=name))
    return rngs
