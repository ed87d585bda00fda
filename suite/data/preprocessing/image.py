"""Images: decoding, and the statistics of the training split. Augmentations live in suite/data/augment.py."""

import contextlib
import functools
import io
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from suite.contracts.bounds import check_bounds
from suite.contracts.data import Source
from suite.contracts.plain_files import is_plain_image
from suite.contracts.preprocessor import Preprocessor
from suite.contracts.values import IMAGE_FORMATS, image_fault
from suite.data.augment import Augmentation, Crop, Cutout, Flip, Mixup, RandAugment, ResizedCrop
from suite.data.reading import changed, file_key, present
from suite.errors import InputError
from suite.runtime import decoders, json_files

__all__ = ["Augmentation", "Crop", "Cutout", "Flip", "Mixup", "PixelStatistics", "RandAugment", "ResizedCrop"]
__all__ += ["decode", "decode_batch", "is_readable"]

MAX_PIXELS = 1 << 26
"""Images of more pixels are refused before they are unpacked."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for a number of channels."""
MOST_CHANNELS = max(MODES)
"""Channels of an image with transparency."""
DEEPEST = (1 << 16) - 1
"""Largest value of a pixel of 16 bits."""
DARK = 1 << 12
"""Pictures of 16 bits whose values are all below it are likely a camera's of 12 bits at most, and look black."""
ANIMATED = ("GIF", "WEBP", "PNG")
"""Formats whose further frames are an animation's; those of a JPEG are other views of the same picture."""


def name_of(value: Any) -> str:
    """What an error calls an image."""
    return str(value) if isinstance(value, str | Path) else "image"


def sides(height: int, width: int) -> str:
    """The size of an image, as messages have it."""
    return f"{width} wide, {height} high"


@decoders.bounded(is_plain_image, name_of)
def decode(
    value: Any, size: tuple[int, int] | None = None, channels: int = 0, background: str = "white", white: int = 0
) -> np.ndarray:
    """One image as uint8 (h, w, c).

    Of an animation the first frame is taken, of a file of several pages the first page. The orientation that a camera
    wrote into the file is applied. Pictures of 16 bits a channel keep the upper eight.

    Args:
        value: uint8 array (h, w) or (h, w, c), encoded bytes, or a path.
        size: height and width to scale to; None keeps them.
        channels: 1 (grey), 3 (red, green, blue) or 4 (and alpha); 0: 1 for grey images, otherwise 3.
        background: colour, by name or as #rrggbb, that transparent pictures are laid on before they lose their
            alpha; empty: alpha is dropped, and the colour beneath it seen.
        white: value of white in grey pictures of 16 bits; 0: 65,535.

    Raises:
        InputError: not an image, damaged, larger than MAX_PIXELS, of pixels that are no integers of 16 bits at most,
            one that decoding had to be ended of, or an array of another type or shape.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value, size, channels, background)
    with _opened(value) as image:
        return _array(image, size, channels, background, white)


@contextlib.contextmanager
def _opened(value: Any) -> Iterator[Any]:
    """The Pillow image of bytes or of a path, upright; what Pillow raises while it is read is an InputError."""
    from PIL import Image, UnidentifiedImageError

    name = name_of(value)
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # Pillow's own limit, above ours
    try:
        with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                found = sides(image.height, image.width)
                raise InputError(
                    name, f"this image has more than {MAX_PIXELS:,} pixels", found=found, fix="scale it down"
                )
            yield image
    except (InputError, MemoryError):
        raise
    except _NoIntegers as error:
        problem, found = error.args
        raise InputError(name, problem, found=found, fix=_INTEGERS) from error
    except bombs as error:
        problem = f"this image has more than {MAX_PIXELS:,} pixels"
        raise InputError(name, problem, found=image_fault(error), fix="scale it down") from error
    except FileNotFoundError as error:
        raise InputError(name, "no such image file", fix="correct the path, or remove the record") from error
    except UnidentifiedImageError as error:
        raise InputError(name, "this image cannot be decoded", found=_unknown(value, error), fix=_REPLACE) from error
    except Exception as error:  # of damaged files Pillow raises whatever its parsers do: IndexError, struct.error, ...
        raise InputError(name, "this image cannot be decoded", found=image_fault(error), fix=_REPLACE) from error


_REPLACE = "replace or remove the file"


def _unknown(value: Any, error: Exception) -> str:
    """What Pillow could not identify, without the address of a buffer."""
    return "an empty file" if value == b"" else "no known image format" if isinstance(value, bytes) else str(error)


def _upright(image: Any) -> Any:
    """Turned as the camera says; a damaged note of the camera turns nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except (MemoryError, OSError):
        raise
    except Exception:  # whatever the parser of the note raises; the pixels are read all the same
        image.load()
        return image


def _array(image: Any, size: tuple[int, int] | None, channels: int, background: str, white: int = 0) -> np.ndarray:
    """A Pillow image, turned, laid on the background, converted and scaled, as an array."""
    from PIL import Image

    if image.mode == "F":
        raise _NoIntegers(FLOATS, "floating-point numbers")
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    image = _upright(image)
    mode = MODES[channels or (1 if grey else 3)]
    if image.mode.startswith("I"):
        image = _eight_bits(image, white)
    if mode != "RGBA" and background and image.has_transparency_data:
        below = Image.new("RGBA", image.size, (*_colour(background), 255))
        image = Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")
    image = image.convert(mode)
    if size and (image.height, image.width) != tuple(size):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


FLOATS, WIDE = "its pixels are no integers", "its pixels are no integers of 16 bits"
_INTEGERS = "write it with integers of 8 or 16 bits from black to white"


class _NoIntegers(Exception):
    """Pixels that are not read: the problem, and what was found."""


def _eight_bits(image: Any, white: int = 0) -> Any:
    """A grey image of 16 bits as one of 8, the value that stands for transparency, where there is one, included.

    Raises:
        _NoIntegers: its values take more than 16 bits, or are negative.
    """
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > DEEPEST:
        raise _NoIntegers(WIDE, f"values from {low:,} to {high:,}")
    scaled = (values * 255 + white // 2) // white if white else values >> 8
    grey = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


@functools.lru_cache(maxsize=16)
def _colour(name: str) -> tuple[int, ...]:
    """Red, green and blue of a colour.

    Raises:
        InputError: it is none.
    """
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(
            "field task.background", f'"{name}" is no colour.', found=name, fix="--task.background white"
        ) from None


def _from_array(value: np.ndarray, size: tuple[int, int] | None, channels: int, background: str) -> np.ndarray:
    """An array, scaled and converted only where it has to be."""
    from PIL import Image

    array = value[..., None] if value.ndim == 2 else value
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in MODES:
        shape = f"{value.dtype} {value.shape}"
        raise InputError("image", "an image array must be uint8 (h, w) or (h, w, 1, 3 or 4)", found=shape)
    if channels in (0, array.shape[2]) and (size is None or array.shape[:2] == tuple(size)):
        return array
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return _array(image, size, channels or array.shape[2], background)


def decode_batch(
    values: Sequence[Any] | np.ndarray,
    size: tuple[int, int] | None,
    channels: int,
    background: str = "white",
    white: int = 0,
) -> np.ndarray:
    """Images as uint8 (b, h, w, c), as by `decode`. A uint8 array that has this size and these channels is returned as
    it is.

    Raises:
        InputError: an image that cannot be decoded, or images of different sizes where ``size`` is None.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.uint8 and values.ndim >= 3:
        array = values[..., None] if values.ndim == 3 else values
        if array.shape[3] == channels and (size is None or array.shape[1:3] == tuple(size)):
            return array
    images = [decode(value, size, channels, background, white) for value in values]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise InputError(
            "images",
            "they do not all have the same size and channels",
            found="; ".join(f"{sides(*shape[:2])}, {shape[2]} channels" for shape in shapes[:4]),
            fix="set size and channels, e.g. --task.statistics.size 64 64 --task.statistics.channels 3",
        )
    return np.stack(images) if images else np.zeros((0, *(size or (0, 0)), channels), np.uint8)


BITS = 0x0102
"""The tag of a TIFF's bits a channel."""
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The tag by which a camera says how it was held, and its values for a quarter turn."""


def dimensions(value: Any) -> tuple[int, int]:
    """Height and width of an image as it is seen, by the head of its file alone.

    Raises:
        InputError: not an image, or larger than MAX_PIXELS.
    """
    return dimensions_and_turn(value)[:2]


@decoders.bounded(is_plain_image, name_of)
def dimensions_and_turn(value: Any) -> tuple[int, int, int]:
    """Height and width of an image as it is seen, and how the camera was held, 1 to 8 as Exif counts it: what `decode`
    turns an image by. 1: nothing is turned.

    Raises:
        InputError: not an image, or larger than MAX_PIXELS.
    """
    if isinstance(value, np.ndarray):
        return value.shape[0], value.shape[1], 1
    with _opened(value) as image:
        turn = _orientation(image)
        return (image.width, image.height, turn) if turn in SIDEWAYS else (image.height, image.width, turn)


def _orientation(image: Any) -> int:
    """What the camera noted of how it was held; 1, upright, where it noted nothing."""
    with contextlib.suppress(Exception):  # what the parser of a damaged note raises; nothing is turned then
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


@decoders.bounded(is_plain_image, name_of)
def stored_values(value: Any) -> np.ndarray:
    """The values of an image as they are stored, neither turned nor scaled: (h, w) grey ones or numbers of a palette's
    colours, of 1, 8 or 16 bits; or uint8 (h, w, 3) colours.

    Raises:
        InputError: see `decode`.
    """
    if isinstance(value, np.ndarray):
        return value
    with _opened(value) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode == "LA":
            return np.asarray(image.convert("L"))
        plain = image.mode in ("L", "P", "RGB") or image.mode.startswith("I")
        return np.asarray(image if plain else image.convert("RGB"))


def untold(turn: int, height: int, width: int) -> bool:
    """Whether an image is turned, and its size is the same stored and upright, so that it does not tell one from the
    other."""
    return turn != 1 and (turn not in SIDEWAYS or height == width)


def upright(values: np.ndarray, turn: int) -> np.ndarray:
    """Values (h, w, ...) of an image as it is stored, turned as Exif says the camera was held."""
    if turn in SIDEWAYS:
        values = values.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if turn in (2, 3, 6, 7) else values


TINT = 8
"""Largest difference between the channels of a pixel that passes for grey: compression tints grey a little."""


def is_grey(value: Any) -> bool:
    """Whether an image shows nothing but grey, however many channels it has.

    Raises:
        InputError: see `decode`.
    """
    pixels = decode(value)
    if pixels.shape[2] == 1:
        return True
    colours = pixels[..., :3].astype(np.int16)
    return int((colours.max(-1) - colours.min(-1)).max(initial=0)) <= TINT


def examine(value: Any) -> tuple[str, tuple[str, ...]]:
    """What keeps an image from being read, empty where nothing does, and what decoding changes of it.

    Returns:
        ``"broken image"``, ``"empty file"``, ``"no such image file"``, FLOATS, WIDE, ENDED or ``""``; and of
        ``"transparent"``, ``"animated"``, ``"pages"``, ``"16 bits"``, ``"dark"`` and ``"CMYK"`` those that it is.
    """
    if isinstance(value, np.ndarray):
        return "", ("transparent",) if value.ndim == 3 and value.shape[2] == 4 and (value[..., 3] < 255).any() else ()
    known = file_key(value) if isinstance(value, str | Path) else None
    return _examined_file(*known) if known else _examined_once(value)


@functools.lru_cache(maxsize=1 << 18)
def _examined_file(path: str, written: int, size: int) -> tuple[str, tuple[str, ...]]:
    """That of a file, which is decoded once: a split is opened several times before training begins."""
    return _examined_once(path)


def _examined_once(value: Any) -> tuple[str, tuple[str, ...]]:
    """See `examine`."""
    try:
        return _examined(value)
    except decoders.Ended:
        return ENDED, ()


ENDED = "decoding had to be ended"
"""What is counted of images that take too much time or memory, or end their decoder."""


@decoders.bounded(is_plain_image, name_of)
def _examined(value: Any) -> tuple[str, tuple[str, ...]]:
    """See `examine`; of a file or of bytes."""
    try:
        with _opened(value) as image:
            several = _is_animated(image)
            animated, pages = several and image.format in ANIMATED, several and image.format == "TIFF"
            deep, printed = image.mode.startswith("I") or _sixteen(image), image.mode == "CMYK"
            pixels = _array(image, None, 0, "")
            dark = deep and int(pixels.max(initial=0)) < DARK >> 8
            whole = _eight_bits(image) if image.mode.startswith("I") else image
            clear = whole.has_transparency_data and whole.convert("RGBA").getextrema()[3][0] < 255
    except InputError as error:
        if "no such" in error.problem:
            return "no such image file", ()
        if error.problem in (FLOATS, WIDE):
            return error.problem, ()
        empty = value == b"" or (isinstance(value, str | Path) and Path(value).stat().st_size == 0)
        return "empty file" if empty else "broken image", ()
    traits = {"transparent": clear, "animated": animated, "pages": pages, "16 bits": deep, "dark": dark}
    traits["CMYK"] = printed
    return "", tuple(trait for trait, has in traits.items() if has)


def _is_animated(image: Any) -> bool:
    """Whether there is a second frame, be it damaged."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what a parser raises of a second frame that is cut short; the first one is read all the same
        return True


def _sixteen(image: Any) -> bool:
    """Whether a PNG or TIFF that Pillow opens in a mode of 8 bits has 16 a channel."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS, (8,))) > 8
    return image.format == "PNG" and any("16B" in str(tile[3]) for tile in image.tile)


def is_readable(value: Any) -> bool:
    """Whether ``decode`` can read the image."""
    return not examine(value)[0]


def _first(source: Source, column: str) -> Any:
    """The first picture of a column.

    Raises:
        InputError: there is none.
    """
    for start in range(0, len(source), 1000):
        values = present(source[np.arange(start, min(start + 1000, len(source)))][column])
        if len(values):
            return values[0]
    raise InputError(f"column {column}", "there is no image to take statistics of")


@dataclass(frozen=True, kw_only=True)
class PixelStatistics(Preprocessor):
    """Shape of the images, and mean and standard deviation a channel over the training split, on a scale of 0..1."""

    suffix: ClassVar[str] = ".json"

    column: str = "image"
    """Field of the task that names the column of images."""

    size: tuple[int, int] | None = None
    """Height and width that images are scaled to. None: those of the published weights that training starts from;
    without such, as they are: they must then all be of one size."""
    channels: int = 0
    """1: grey, 3: colour, 4: colour and alpha. 0: as the first image."""
    background: str = "white"
    """Colour that transparent pictures are laid on, by name or as #rrggbb, where channels hold no alpha. Empty: alpha
    is dropped, and the colour beneath it seen."""
    white: int = 0
    """Value of white in grey pictures of 16 bits a channel: 4095 where a camera of 12 bits wrote them. 0: 65535."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None:
            check_bounds(self, {"size": (1, MAX_PIXELS)})
        check_bounds(self, {"white": (0, DEEPEST)})
        if self.background not in ("", "white"):
            _colour(self.background)

    def fit(self, source: Source, column: str, path: Path) -> None:
        """Reads the whole split, 1,000 images at a time, and writes the statistics to ``path``.

        Raises:
            InputError: no image, one that cannot be decoded, or different sizes where ``size`` is None.
        """
        if not len(source):
            raise InputError(f"column {column}", "there is no image to take statistics of")
        first = self.decoded([_first(source, column)])[0]
        total, squares, count = np.zeros(first.shape[2]), np.zeros(first.shape[2]), 0
        for start in range(0, len(source), 1000):
            values = present(source[np.arange(start, min(start + 1000, len(source)))][column])
            if not len(values):
                continue
            images = self.decoded(values, first.shape[2])
            if images.shape[1:] != first.shape:
                decode_batch([first, images[0]], None, first.shape[2])  # raises: says which sizes differ
            for channel in range(first.shape[2]):
                histogram = np.bincount(images[..., channel].ravel(), minlength=256)
                total[channel] += histogram @ np.arange(256)
                squares[channel] += histogram @ np.arange(256) ** 2
            count += images[..., 0].size
        mean = total / count / 255
        std = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, 1e-12))
        content = {"shape": list(first.shape), "mean": mean.tolist(), "std": np.maximum(std, 1e-3).tolist()}
        path.write_text(json.dumps(content), encoding="utf-8")

    def fit_to(
        self, source: Source, column: str, path: Path, mean: Sequence[float], std: Sequence[float]
    ) -> tuple[int, int, int]:
        """Writes a stated mean and deviation, one for all channels or one a channel, in place of those of the split.

        Returns:
            Height, width and channels of the images.

        Raises:
            InputError: no image, one that cannot be decoded, or images of other channels.
        """
        if not len(source):
            raise InputError(f"column {column}", "there is no image to take the size of")
        height, width, channels = self.decoded([_first(source, column)])[0].shape
        if not {len(mean), len(std)} <= {1, channels}:
            raise InputError(
                "field task.statistics.channels",
                f"the weights were trained on images of {len(mean)} channels.",
                found=str(channels),
                fix=f"--task.statistics.channels {len(mean)}",
            )
        stated = {
            name: [float(value) for value in np.broadcast_to(values, channels)]
            for name, values in (("mean", mean), ("std", std))
        }
        path.write_text(json.dumps({"shape": [height, width, channels], **stated}), encoding="utf-8")
        return height, width, channels

    def decoded(self, values: Sequence[Any] | np.ndarray, channels: int = 0) -> np.ndarray:
        """Images as uint8 (b, h, w, c), in the size that is stated here.

        Raises:
            InputError: see `decode_batch`.
        """
        return decode_batch(values, self.size, channels or self.channels, self.background, self.white)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return _stored(self.file, changed(self.file))[0]

    @property
    def mean(self) -> np.ndarray:
        """(c,) float32, on a scale of 0..1."""
        return _stored(self.file, changed(self.file))[1]

    @property
    def std(self) -> np.ndarray:
        """(c,) float32, on a scale of 0..1; at least 0.001."""
        return _stored(self.file, changed(self.file))[2]

    def normalised(self, images: Any) -> Any:
        """uint8 (b, h, w, c), of NumPy or JAX -> float32 of zero mean and unit deviation a channel over the split."""
        scale = 1 / (255 * self.std)
        return images.astype(np.float32) * scale - self.mean / self.std

    def sizes(self) -> dict[str, int]:
        """``height``, ``width``, ``channels``, and their product ``inputs``."""
        height, width, channels = self.shape
        return {"inputs": height * width * channels, "height": height, "width": width, "channels": channels}


@functools.lru_cache(maxsize=32)
def _stored(file: str, written: int) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray]:
    def build(content: Any) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray]:
        height, width, channels = map(operator.index, content["shape"])
        if min(height, width) < 1 or height * width > MAX_PIXELS or not 1 <= channels <= 4:
            raise json_files.Malformed(f"shape {[height, width, channels]}")
        return (height, width, channels), np.array(content["mean"], np.float32), np.array(content["std"], np.float32)

    return json_files.load(file, build)
