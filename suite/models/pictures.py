"""Families of images: one may stand in another's place, as all are called alike and end in one linear head."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import mul
from typing import ClassVar

from jaxtyping import Array

from suite.contracts.model import ModelConfig
from suite.errors import InputError


class PictureConfig(ModelConfig):
    """A configuration whose model is called as ``model(images, rows=rows, rngs=rngs)`` and gives logits or, without
    outputs, vectors.

    Attributes:
        channels: of an image.
        outputs: classes; 0: the model gives vectors.
        widths: channels that each stage returns, in families that have stages.
        coarsest: stride of the coarsest feature maps that are built, in such families. 0: everything is built.
    """

    own: ClassVar[tuple[str, ...]] = ("outputs", "dropout", "coarsest")
    """Fields that training decides, so that published weights leave them as they are."""
    after: ClassVar[tuple[str, ...]] = ()
    """Paths of parameters between the stages and the head."""
    channels: int
    outputs: int
    widths: tuple[int, ...]
    coarsest: int = 0

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of the feature maps that each stage returns; empty where there are none of several strides."""
        return ()

    @property
    def maps(self) -> dict[int, int]:
        """Stride -> channels of the feature maps that the model's ``maps`` returns, finest first: of each stride those
        of the last stage; empty where there are none of several strides."""
        widths = dict(zip(self.stage_strides, self.widths, strict=True)) if self.stage_strides else {}
        return {stride: width for stride, width in widths.items() if stride <= (self.coarsest or stride)}

    @property
    def built(self) -> int:
        """Stages that are built."""
        return sum(stride <= (self.coarsest or stride) for stride in self.stage_strides)

    @property
    def omitted(self) -> str:
        if not self.coarsest:
            return super().omitted
        deeper = [self._stage_path(place) for place in range(self.built, len(self.stage_strides))]
        return f"^({'|'.join([*self.after, *deeper])})/"

    def _stage_path(self, place: int) -> str:
        """Regular expression on where the parameters of a stage lie."""
        return f"stages/{place}"

    def _check_coarsest(self) -> None:
        """InputError where no stage has the stride ``coarsest``, or the model is cut there and has classes."""
        strides = self.stage_strides
        if self.coarsest and self.coarsest not in strides and min(strides, default=0):  # else sizes are left open
            known = ", ".join(map(str, sorted({*strides})))
            found = f"{self.coarsest}, and strides are {known}"
            raise InputError(
                "field model.coarsest", "is no stride of the feature maps.", found=found, fix="one of them"
            )
        if self.coarsest and self.outputs:
            problem = "leaves the head out, and the model has classes."
            raise InputError("field model.coarsest", problem, found=f"{self.outputs} classes", fix="--model.coarsest 0")

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
                fix="weights of images: a ResNet, a vision transformer, an EfficientNet-Lite, a ConvNeXt, an Inception",
            )
        shared = [name for name in self.own if name in published.own]
        return replace(published, **{name: getattr(self, name) for name in shared})  # type: ignore[type-var]


def cumulative_strides(first: int, strides: Sequence[int]) -> tuple[int, ...]:
    """Stride of what each stage returns, where ``first`` is that of what stands before them and ``strides`` are those
    of the stages themselves."""
    return tuple(accumulate(strides, mul, initial=first))[1:]


def by_stride(strides: Sequence[int], maps: Iterable[Array]) -> dict[int, Array]:
    """Stride -> the last feature maps of it."""
    return dict(zip(strides, maps, strict=False))
