"""Changes to training images that leave the label as it is, and mixup, which mixes it.

Dims: b images, h height, w width, c channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


class Augmentation(ABC):
    """A random change to a batch of images."""

    @abstractmethod
    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> uint8 (b, h, w, c). The images given stay as they are."""


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors half of the images, left to right."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        mirrored = rng.random(len(images)) < 0.5
        return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Crop(Augmentation):
    """Shifts each image by up to ``padding`` pixels along each axis."""

    padding: int = 4
    """Largest shift, in pixels."""
    fill: Literal["black", "edge"] = "black"
    """What moves in: black, or the colour of the border."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        count, height, width, _ = images.shape
        edge = (self.padding, self.padding)
        mode: Any = "constant" if self.fill == "black" else "edge"
        padded = np.pad(images, ((0, 0), edge, edge, (0, 0)), mode=mode)
        top, left = rng.integers(0, 2 * self.padding + 1, (2, count))
        rows = (top[:, None] + np.arange(height))[:, :, None]
        columns = (left[:, None] + np.arange(width))[:, None, :]
        return padded[np.arange(count)[:, None, None], rows, columns]


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Blackens one square of each image, centred anywhere, cut at the border (arXiv 1708.04552)."""

    size: int
    """Side of the square, in pixels."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        count, height, width, _ = images.shape
        rows = self._hit(rng.integers(0, height, count), height)
        columns = self._hit(rng.integers(0, width, count), width)
        return np.where((rows[:, :, None] & columns[:, None, :])[..., None], np.uint8(0), images)

    def _hit(self, centres: Any, length: int) -> np.ndarray:
        starts = (centres - self.size // 2)[:, None]
        places = np.arange(length)
        return (places >= starts) & (places < starts + self.size)


@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """A part of each image, of random size, shape and place, scaled to the whole (arXiv 1409.4842). For 1, 3 or 4
    channels."""

    smallest: float = 0.08
    """Least share of the area."""
    widest: float = 4 / 3
    """Most that width to height of the part exceeds that of the image, or falls short of it."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        from PIL import Image

        count, height, width, _ = images.shape
        area = rng.uniform(self.smallest, 1.0, count)
        shape = np.exp(rng.uniform(-np.log(self.widest), np.log(self.widest), count))
        # Shares of the sides; a part that would stick out is cut.
        wide, high = np.minimum(np.sqrt(area * shape), 1.0), np.minimum(np.sqrt(area / shape), 1.0)
        left, top = rng.random(count) * (1 - wide) * width, rng.random(count) * (1 - high) * height
        changed = np.empty_like(images)
        for place, array in enumerate(images):
            box = (left[place], top[place], left[place] + wide[place] * width, top[place] + high[place] * height)
            image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
            part = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
            changed[place] = np.asarray(part).reshape(array.shape)
        return changed


@dataclass(frozen=True)
class Colour(Augmentation):
    """Changes brightness, contrast and saturation of each image at random. For 1, 3 or 4 channels; alpha stays."""

    brightness: float = 0.2
    """Most that brightness is raised or lowered, as a share of it."""
    contrast: float = 0.2
    """Most that the distance from the image's mean grey is raised or lowered, as a share of it."""
    saturation: float = 0.2
    """Most that the distance of a colour from grey is raised or lowered, as a share of it."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        most = np.array([self.brightness, self.contrast, self.saturation])
        factors = 1 + rng.uniform(-1, 1, (len(images), 3)) * most
        changed = np.array(images)
        for place, (brightness, contrast, saturation) in enumerate(factors.astype(np.float32).tolist()):
            colours = images[place, ..., :3].astype(np.float32)
            grey = colours @ _LUMA if colours.shape[2] == 3 else colours[..., 0]
            # Linear in the pixel: brightness, then contrast about the mean, then saturation about each pixel's grey.
            offset = brightness * (1 - contrast) * float(grey.mean())
            colours *= brightness * contrast * saturation
            colours += (brightness * contrast * (1 - saturation) * grey + offset)[..., None]
            changed[place, ..., :3] = np.clip(colours + 0.5, 0, 255)
        return changed


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""

Named = Literal["none", "shift", "crop", "flip"]
"""Augmentations that need no setting."""
SHIFTED = 14
"""A shift is of up to one part in so many of the longer side: 2 pixels of 28."""


def named(names: Sequence[Named], size: tuple[int, int]) -> list[Augmentation]:
    """The augmentations of these names for images of a size: ``shift`` by a few pixels, ``crop`` of at least half the
    area, ``flip`` left to right; ``none`` is no augmentation."""
    known: dict[str, Augmentation] = {
        "shift": Crop(padding=max(round(max(size) / SHIFTED), 1), fill="edge"),
        "crop": ResizedCrop(smallest=0.5),
        "flip": Flip(),
    }
    return [known[name] for name in names if name != "none"]


OPERATIONS: tuple[str, ...] = (
    "identity",
    "autocontrast",
    "equalize",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The fourteen operations of RandAugment."""
ENHANCERS = {"color": "Color", "contrast": "Contrast", "brightness": "Brightness", "sharpness": "Sharpness"}


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """A few random operations of one common strength on each image (arXiv 1909.13719). For 1 or 3 channels."""

    layers: int = 2
    """Operations an image."""
    magnitude: int = 9
    """Strength, 0 to 30."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (b, h, w, c) -> the same."""
        from PIL import Image

        chosen = rng.integers(0, len(OPERATIONS), (len(images), self.layers))
        signs = rng.choice((-1.0, 1.0), (len(images), self.layers))
        changed = np.empty_like(images)
        for place, array in enumerate(images):
            image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
            for operation, sign in zip(chosen[place], signs[place], strict=True):
                image = _apply(image, OPERATIONS[operation], self.magnitude / 30, float(sign))
            changed[place] = np.asarray(image).reshape(array.shape)
        return changed


def _apply(image: Any, operation: str, strength: float, sign: float) -> Any:
    """One operation on a Pillow image; ``strength`` is 0..1, ``sign`` its direction where it has one."""
    from PIL import ImageEnhance, ImageOps

    if operation == "autocontrast":
        return ImageOps.autocontrast(image)
    if operation == "equalize":
        return ImageOps.equalize(image)
    if operation == "posterize":
        return ImageOps.posterize(image, 8 - round(4 * strength))
    if operation == "solarize":
        return ImageOps.solarize(image, round(256 * (1 - strength)))
    if operation in ENHANCERS:
        return getattr(ImageEnhance, ENHANCERS[operation])(image).enhance(1 + sign * 0.9 * strength)
    return _move(image, operation, sign * strength)


def _move(image: Any, operation: str, amount: float) -> Any:
    """Rotation up to 30 degrees, shear up to 0.3, shift up to 0.45 of the side; what moves in is black."""
    from PIL import Image

    if operation == "rotate":
        return image.rotate(30 * amount)
    matrices = {
        "shear_x": (1, 0.3 * amount, -0.15 * amount * image.height, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * amount, 1, -0.15 * amount * image.width),
        "translate_x": (1, 0, 0.45 * amount * image.width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.45 * amount * image.height),
    }
    if operation not in matrices:
        return image
    return image.transform(image.size, Image.Transform.AFFINE, matrices[operation])


@dataclass(frozen=True)
class Mixup:
    """Convex mixtures of pairs of examples (arXiv 1710.09412), one weight a pair."""

    alpha: float
    """Both parameters of the beta distribution that weights are drawn from."""

    def mix(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Each example mixed with another of the batch.

        Args:
            images: (b, h, w, c), of any scale.
            labels: (b,).
            rng: draws pairs and weights.

        Returns:
            Images float32 (b, h, w, c) on the scale given, labels (b,), the partners' labels (b,), and the weight of
            ``labels`` float32 (b,), that of the partners' being 1 - weight.
        """
        partner = rng.permutation(len(images))
        weight = rng.beta(self.alpha, self.alpha, len(images)).astype(np.float32)
        share = weight.reshape(-1, *(1,) * (images.ndim - 1))
        mixed = share * images.astype(np.float32) + (1 - share) * images[partner].astype(np.float32)
        return mixed, labels, labels[partner], weight
