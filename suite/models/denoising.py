"""What models of noisy pictures share: the vector of time, class and text, and squares of pixels as channels.

Dims: b images, h w height and width, y x those in squares, c channels, i channels of a square, e size of the vector, n
classes, s size of a text's vector.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from suite.errors import InputError
from suite.models.checks import divisors
from suite.nn import Embedding, Linear, sinusoids
from suite.nn.batchnorm import BatchNorm

_TICKS = 1000.0
"""Length of the scale on which sinusoids tell times apart."""


class Condition(nnx.Module):
    """The vector of the time of the noise, and of the class of the picture or the text that says what it shows, which
    modulates a model's norms.

    Attributes:
        time: two layers, of the sinusoids of time.
        classes: (n + 1, e), standard normal at first, the last row of pictures without a class; None where there are no
            classes.
        text_norm: of the vectors of texts over a batch, so that what all texts have in common says nothing; or None.
        text: (s, e), of the vector of the text; None where there are no texts.
        unsaid: (e,), of pictures without a text, zero at first; or None.
    """

    def __init__(self, size: int, classes: int, texts: int = 0, *, rngs: nnx.Rngs):
        self.time = nnx.List([Linear(size, size, rngs=rngs), Linear(size, size, rngs=rngs)])
        self.classes = Embedding(classes + 1, size, rngs=rngs) if classes else None
        if self.classes is not None:  # beside the time, classes of the usual deviation of 0.02 are long overlooked
            table = self.classes.embedding
            table[...] = jax.random.normal(rngs.params(), table.shape)
        self.text_norm = BatchNorm(texts) if texts else None
        self.text = Linear(texts, size, rngs=rngs) if texts else None
        self.unsaid = nnx.Param(jnp.zeros((size,))) if texts else None
        self.size = size

    def __call__(
        self,
        time: Float[Array, "b"],
        label: Int[Array, "b"] | None,
        text: Float[Array, "b s"] | None = None,
        said: Bool[Array, "b"] | None = None,
        rows: Bool[Array, "b"] | None = None,
        training: bool = False,
    ) -> Float[Array, "b e"]:
        """``label`` n stands for no class, and so does None; where ``said`` is False there is no text, and so where
        ``text`` is None. Training learns the statistics of the texts of real ``rows``.

        Raises:
            InputError: texts' vectors have another size.
        """
        first, second = self.time
        vector = second(jax.nn.silu(first(sinusoids(_TICKS * time, self.size))))
        if self.classes is not None:
            none = self.classes.embedding.shape[0] - 1
            vector = vector + self.classes(jnp.full(time.shape, none) if label is None else label)
        if self.text is not None and self.unsaid is not None and self.text_norm is not None:
            unsaid = jnp.broadcast_to(self.unsaid[...], vector.shape)
            if text is not None:
                _check_text(text.shape[-1], self.text.kernel.shape[0])
                about = self.text(self.text_norm(text[:, None, None], rows, training=training)[:, 0, 0])
                unsaid = about if said is None else jnp.where(said[:, None], about, unsaid)
            vector = vector + unsaid
        return jax.nn.silu(vector)


def _check_text(given: int, size: int) -> None:
    if given != size:
        problem = f"is {size}, and the encoder of texts gives {given}."
        raise InputError("field model.parts.network.text", problem, fix=f"--model.parts.network.text {given:d}")


def check_patch(size: tuple[int, ...], patch: int) -> None:
    """InputError unless squares of this side fill images of this height and width."""
    if any(side % patch for side in size):
        raise InputError(
            "field model.patch",
            "must divide height and width of the images",
            found=f"{patch}, of images {size[1]} wide, {size[0]} high",
            fix=f"one of {', '.join(n for n in divisors(size[0]).split(', ') if size[1] % int(n) == 0)}",
        )


def packed(images: Float[Array, "b h w c"], side: int) -> Float[Array, "b y x i"]:
    """Squares of pixels as the channels of one place each."""
    if side == 1:
        return images
    rows, height, width, channels = images.shape
    split = images.reshape(rows, height // side, side, width // side, side, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(rows, height // side, width // side, side * side * channels)


def unpacked(maps: Float[Array, "b y x i"], side: int) -> Float[Array, "b h w c"]:
    """The inverse of `packed`."""
    if side == 1:
        return maps
    rows, height, width, inside = maps.shape
    split = maps.reshape(rows, height, width, side, side, inside // side**2)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(rows, height * side, width * side, inside // side**2)
