"""Models made of attention blocks: the layers of their parameters, their checks, and the sizes of published weights.

The fields of a block are declared by each family, whose JSON names and orders them; what they mean is said here once.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models.checks import check_fractions, divisors

C = TypeVar("C", bound=ModelConfig)


class BlockConfig(ModelConfig):
    """A configuration whose model has ``layers`` blocks of attention and feed-forward, with something below and above.

    Attributes:
        layers: blocks.
        heads: attention heads; they divide the size of a vector unless head_width is set.
        head_width: width of a head; 0: the size of a vector over the heads.
        dropout: fraction of embeddings and sublayer outputs that training drops.
        attention_dropout: fraction of attention weights that training drops.
    """

    layers: int
    heads: int
    head_width: int
    dropout: float
    attention_dropout: float

    size: ClassVar[str] = "width"
    """The field that says how large the vector of a token or frame is."""
    published: ClassVar[str] = ""
    """Whose weights the family reads, for people; empty: there are none."""
    own: ClassVar[tuple[str, ...]] = ()
    """Fields that training decides, so that published weights leave them as they are."""

    def below(self, path: str) -> bool:
        """Whether a parameter outside the blocks lies below them, as embeddings do, or above, as the head does."""
        raise NotImplementedError

    def layer_of(self, path: str) -> int:
        """0 what lies below the blocks, 1 to ``layers`` the blocks, ``layers + 1`` what lies above."""
        block = re.search(r"layers\W(\d+)", path)
        if block:
            return int(block[1]) + 1
        return 0 if self.below(path) else self.depth

    @property
    def depth(self) -> int:
        return self.layers + 1

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {"heads": self.heads}

    def adopt(self, published: ModelConfig) -> Self:
        """``published`` with the fields of this configuration that training decides (`own`)."""
        return adopted(self, published, self.published, self.own)

    def _check_blocks(self, *fractions: str) -> None:
        """InputError where heads don't divide the vector, or these fields or dropout are no fractions."""
        check_fractions(self, "dropout", "attention_dropout", *fractions)
        size = getattr(self, self.size)
        check_heads(size, self.heads, self.head_width, self.size)
        if getattr(self, "positions", "") == "rotary" and (self.head_width or size // self.heads) % 2:
            ratio = f"{size} / {self.heads}"
            raise InputError("field model.heads", "rotary positions need an even width a head", found=ratio)


def adopted(config: C, published: ModelConfig, weights: str, own: tuple[str, ...]) -> C:
    """``published`` with the fields ``own`` of ``config``.

    Args:
        config: of a family.
        published: what published weights are of.
        weights: whose weights the family reads, for people.
        own: fields that training decides.

    Raises:
        InputError: the weights are of another family, or the family reads none.
    """
    if not weights:
        return ModelConfig.adopt(config, published)  # type: ignore[return-value]  # raises
    if not isinstance(published, type(config)):
        raise InputError(
            "field checkpoint.init_from",
            f"names weights of {type(published).__module__}.",
            found=f"a model of {type(config).__module__}",
            fix=f"weights of {weights}",
        )
    return replace(published, **{name: getattr(config, name) for name in own})  # type: ignore[type-var]


def check_heads(width: int, heads: int, head_width: int, name: str = "width") -> None:
    """InputError unless ``heads`` divides ``width``, the field ``name``, or ``head_width`` says how wide one is."""
    if not head_width and width % heads:
        raise InputError(
            "field model.heads",
            f"must divide {name}",
            found=f"{heads} heads of width {width}",
            fix=f"one of {divisors(width)}",
        )


def check_published_heads(width: int, heads: int, head_width: int) -> None:
    """InputError where heads are not as wide as ``width`` over their number, which is what a published config says."""
    if head_width * heads not in (0, width):
        raise InputError(
            "the model",
            f"has {heads} heads of width {head_width}, which this format cannot say.",
            found=f"width {width}",
        )


def published_classes(config: Mapping[str, Any]) -> int:
    """Classes of the image classifier that a published ``config`` of transformers states; 0: it is of a body alone."""
    stated = config.get("architectures") or ()
    if stated and not any(str(name).endswith("ForImageClassification") for name in stated):
        return 0
    return len(config.get("id2label") or range(config.get("num_labels", 2)))
