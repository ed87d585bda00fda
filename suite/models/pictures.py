"""Families of images: one may stand in another's place, as all are called alike and end in one linear head."""

from dataclasses import replace
from typing import ClassVar

from suite.contracts.model import ModelConfig
from suite.errors import InputError


class PictureConfig(ModelConfig):
    """A configuration whose model is called as ``model(images, rows=rows, rngs=rngs)`` and gives logits or, without
    outputs, vectors.

    Attributes:
        channels: of an image.
        outputs: classes; 0: the model gives vectors.
    """

    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout")
    """Fields that training decides, so that published weights leave them as they are."""
    channels: int
    outputs: int

    def adopt(self, published: ModelConfig) -> "PictureConfig":
        """``published``, of whichever family of images, with the fields that training decides (`own`) and both have.

        Raises:
            InputError: the weights are not of images.
        """
        if not isinstance(published, PictureConfig):
            raise InputError(
                "field checkpoint.init_from",
                f"names weights of {type(published).__module__}.",
                found=f"a model of {type(self).__module__}",
                fix="weights of images: a ResNet, a vision transformer, an EfficientNet-Lite or a ConvNeXt",
            )
        shared = [name for name in self.own if name in published.own]
        return replace(published, **{name: getattr(self, name) for name in shared})  # type: ignore[type-var]
